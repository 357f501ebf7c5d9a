//! Keyed synchronisation: changes the schema of a table that is being written to.
//!
//! An event of the binary log only says *which key changed*; the server itself then makes
//! `ghost[key] = original[key]`.

pub mod actor;
pub mod alter;
pub mod changelog;
pub mod checkpoint;
pub mod control;
pub mod copy;
pub mod cutover;
pub mod error;
pub mod ghost;
pub mod inspector;
pub mod instant;
pub mod keys;
pub mod migration;
pub mod plan;
pub mod progress;
pub mod proof;
pub mod server;
pub mod sessions;
pub mod settings;
pub mod sync;
pub mod throttle;
pub mod trigger;
