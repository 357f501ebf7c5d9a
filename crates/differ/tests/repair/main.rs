//! Differences found, reported and repaired on real servers.

// clippy.toml allows this in functions marked as tests only, not in the helpers that they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod care;
mod constraints;
mod key_texts;
mod leftovers;
mod modes;
mod mysql;
mod origins;
mod rerun;
mod round;
// Shared with the tests of the comparison, which use more of it.
#[allow(dead_code, unused_macros, unused_imports)]
#[path = "../diff/world.rs"]
mod world;
