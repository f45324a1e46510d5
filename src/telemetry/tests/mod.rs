use super::*;

mod health;
mod logs;
mod metrics;
