//! Streams from real servers.

mod basics;
mod embed;
mod events;
mod faults;
mod formats;
mod recorded;
mod rig;
mod statements;
mod transactions;
mod values;
