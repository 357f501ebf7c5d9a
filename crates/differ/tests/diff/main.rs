//! Whole comparisons on real servers.

// clippy.toml allows this in functions marked as tests only, not in the helpers that they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod encrypted;
mod equality;
mod inflight;
mod kindness;
mod mutation;
mod mysql;
mod partitions;
mod parts;
mod resume;
mod supervision;
mod tampered;
mod world;
