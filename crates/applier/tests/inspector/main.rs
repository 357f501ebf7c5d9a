//! The inspector and the ghost table on real servers.
//!
//! One server of each flavour serves the whole binary; every test has a schema of its own.

mod access;
mod fixture;
mod ghost_table;
mod refusals;
mod schema;
mod statements;
mod topology;
