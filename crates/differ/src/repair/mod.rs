//! Repair: making differing rows equal, never writing a value that was not just read.

pub mod plan;
