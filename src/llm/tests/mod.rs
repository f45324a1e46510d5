mod bodies;
mod faults;
mod waits;
