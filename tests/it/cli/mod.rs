//! The program itself, as operators and scripts run it, on real servers.

mod binary;
mod command_lines;
mod crash;
mod errors;
mod replica;
mod run;
mod schema;
mod secrets;
mod socket;
mod stage;
mod throttle;
