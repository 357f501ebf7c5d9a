//! MySQL and MariaDB: every test on both, the nodes being two schemas of one server.

mod care;
mod constraints;
mod leftovers;
mod masses;
mod modes;
mod stage;
mod types;
