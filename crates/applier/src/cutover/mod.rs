//! The swap: the one moment at which the application's table is locked.
//!
//! # Why no write is lost
//!
//! 1. Cycles are put on hold and none runs: nothing but the cut-over writes G from here on.
//! 2. Session L locks T and G against everybody else. A transaction that changed T holds its metadata lock until
//!    its commit is complete in the engine, so once L has the lock every committed change of T is visible to L.
//! 3. A sentinel is written by another session. It stands in the binary log after every change of T, since T is
//!    locked. When it has come back through the stream, and carries this attempt's challenge, the applier's
//!    backlog holds every key that is not synchronised. (A sentinel of an earlier attempt proves nothing about
//!    this lock; the mailbox keeps only the newest, and the challenge is compared.)
//! 4. L itself synchronises these keys and has them proven, together with every key that was not proven since it
//!    was last written. Nobody else can write T or G meanwhile.
//! 5. T and G change names in one atomic statement, before anybody can write T: on MySQL from 8.0.13 in session
//!    L, under its own lock ([`under_lock`]); elsewhere in session R, which is queued on T in front of every
//!    writer when L lets go ([`sentry`]).
//!
//! A failure before 5 leaves T in charge: locks go with session L, whatever happens to it. A failure *during* 5
//! is decided by looking at what the server has ([`outcome`]), after the session in question is gone.

pub mod actor;
pub mod blockers;
pub mod locker;
pub mod outcome;
mod renamer;
pub mod safe_names;
pub mod sentry;
pub mod under_lock;
pub mod work;
