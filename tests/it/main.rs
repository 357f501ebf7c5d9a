//! Integration tests on real servers.

mod broken;
mod cli;
mod cutover;
mod embed;
mod locks;
mod migrate;
mod replica;
mod rig;
mod scribe;
mod stage;
mod types;
mod unique;
