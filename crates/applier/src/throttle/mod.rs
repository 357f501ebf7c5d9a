//! What slows a migration down: lag, load, flag files, queries, people.
//!
//! [`Throttler`] is the actor that decides; what it decides from is read by polls, tasks of its own, one for
//! each source, so that a server that does not answer delays nothing but its own reading. [`HeartbeatWriter`]
//! is the other end of the measuring tape: the row whose age is the lag.
//!
//! | source | how often | reason |
//! | --- | --- | --- |
//! | the operator | at once | `commanded by user` |
//! | `--throttle-flag-file`, `--throttle-additional-flag-file` | 1 s | `flag-file` |
//! | `--max-load` on the server that is written to | 1 s | `max-load X=v >= n`, or why it could not be read |
//! | `--throttle-query` there | 1 s | `throttle-query` |
//! | heartbeat row on the server that is inspected | heartbeat interval | `lag=…s` |
//! | heartbeat row on each control replica | 1 s; 100 ms below a lag limit of 1 s | `host:port replica-lag=…s`, or why it could not be read |
//! | a source that was not read yet | | `waiting for the first reading of …` |
//! | age of the newest heartbeat that came through the stream | 100 ms | `heartbeat-lag=…s`, and only the copy waits |
//! | `--panic-flag-file`, `--critical-load` | 1 s | none: the migration is asked to abort |
//!
//! The first that holds is the reason; only a variable with a critical limit that cannot be read goes before all
//! others. Order and words are gh-ost's, except for two that it does not have: it begins after the first readings, and
//! its own backlog grows unseen. Nothing here holds up a cut-over: it does not look.

mod critical;
mod decision;
mod heartbeat;
mod link;
mod message;
mod poll;
mod readings;
mod setup;
mod throttler;

use std::sync::Arc;

use serde::Serialize;

pub use heartbeat::{HeartbeatSetup, HeartbeatWriter};
pub use message::{Abort, HeartbeatSeen, ThrottleCommand, ThrottlerState, UserThrottle};
pub use setup::{LagSource, ThrottlerSetup, WatchedServers};
pub use throttler::Throttler;

/// What the pumps have to know. Travels through a `tokio::sync::watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThrottleState {
    /// Why rows are not to be copied now.
    pub copy: Option<Arc<str>>,
    /// Why keys are not to be synchronised now. Never because of our own backlog; and nothing holds up the
    /// last cycle of a cut-over.
    pub apply: Option<Arc<str>>,
}
