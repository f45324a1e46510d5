mod effect;
mod limits;
mod map;
