//! The engine: compares one table on several nodes.
//!
//! A *supervisor* holds all pending ranges in a stack and hands each to one of N *children*, which have one connection
//! to each node. A child digests the range on all nodes at once. Equal digests: done. Otherwise the range comes back
//! in parts, and when it is small its keys and hashes are merged and only rows that differ are read (`errand`), looked
//! at again until it is clear that they are not just being changed (`settle`), and handed to the *collector*, which
//! writes the report. Nobody waits for a child while holding a place, so one child is enough for any depth.
//!
//! Memory: pending ranges are at most children × fan-out × depth, because blocks are cut out of the table only when a
//! child is free; rows are bounded in bytes, per child and on their way to the report.
//!
//! No match without proof: the ranges tile the key space whatever the nodes' sort orders ([`crate::range`]), and a range
//! that could not be compared is unknown.

mod again;
mod child;
mod collector;
mod errand;
mod ghost;
mod job;
mod judge;
mod merge;
mod opening;
mod pace;
mod settings;
mod settle;
mod sieve;
mod state;
mod supervisor;
mod task;

pub use again::{KeySource, LookError, look_at_keys};
pub use collector::Tally;
pub use job::{Care, DiffJob, DiffSubject, JobError};
pub use settings::{DiffSettings, Recheck};
pub use state::DiffState;
pub use supervisor::CancelJob;
