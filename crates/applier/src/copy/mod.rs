//! Row copy: ranges of the key in order, several workers, no lock on the original table.
//!
//! Before the first range is read the stream has started and a marker has committed, so every row that is
//! written later than what a chunk sees has an event in the stream.

pub mod chunk;
pub mod planner;
pub mod pump;
pub mod size;
pub mod watermark;
