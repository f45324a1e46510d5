//! What does it cost to decode one event?
fn main() {}
