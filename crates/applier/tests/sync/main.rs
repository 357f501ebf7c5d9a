//! The pieces of a sync cycle, without a server.

mod flights;
mod lane;
mod pending;
mod plan;
mod statement;
