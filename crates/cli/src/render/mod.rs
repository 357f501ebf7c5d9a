//! What people and scripts get to see. Everything that makes a text of a state is a pure function;
//! [`screen`] alone writes.

pub mod log;
pub mod plan;
pub mod progress;
pub mod screen;
pub mod status;
