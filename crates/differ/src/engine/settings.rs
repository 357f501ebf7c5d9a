//! How a job is run.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use jiff::Timestamp;

/// Everything about a job that the tables do not decide.
#[derive(Clone, Debug)]
pub struct DiffSettings {
    /// Children that run at once, at most. Each has one connection to each node.
    pub children: NonZeroU32,
    /// Rows of an ordinary range, at most.
    pub block_size: NonZeroU64,
    /// Rows of a range that is read row by row instead of being split.
    pub compare_unit_size: NonZeroU64,
    /// How long digesting an ordinary range should take; ranges grow and shrink towards it.
    pub block_time: Duration,
    /// How long a child rests after each range, in durations of that range: 1 halves the load, 0 is full speed.
    pub nice_ratio: f64,
    /// Confirmed differences after which the job stops looking.
    pub stop_after: Option<NonZeroU64>,
    /// How often a range is tried before it is unknown.
    pub attempts: NonZeroU32,
    /// Ranges that became unknown one after another, after which the job gives the rest up.
    pub give_up_after: NonZeroU32,
    /// Looking again at rows that differ.
    pub recheck: Recheck,
    /// Bytes of differing rows on their way to the report, all children together; a single larger row passes alone.
    pub row_budget: usize,
    /// The share of ranges to look at, between 0 and 1. A job with a share never says that tables match.
    pub sample: Option<f64>,
    /// Versions committed later are not judged.
    pub until: Option<Timestamp>,
    /// Only differences with a version last written by this origin: a node's name, or a node-local number.
    pub against_origin: Option<String>,
}

/// Looking again at rows that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recheck {
    /// Rounds, at most, until a row that keeps changing is left as in flight.
    pub rounds: NonZeroU32,
    /// How long a round waits for the nodes to replay each other's changes.
    pub replay_timeout: Duration,
    /// The wait after a round in which rows had changed; doubled with every round.
    pub pause: Duration,
}

impl Default for Recheck {
    /// Six rounds with 20 ms to 640 ms between them: a second and a half for a hot row to rest.
    fn default() -> Self {
        Self {
            rounds: const { NonZeroU32::new(6).unwrap() },
            replay_timeout: Duration::from_secs(30),
            pause: Duration::from_millis(20),
        }
    }
}

impl Default for DiffSettings {
    /// ACE's block and unit; four children.
    fn default() -> Self {
        Self {
            children: const { NonZeroU32::new(4).unwrap() },
            block_size: const { NonZeroU64::new(100_000).unwrap() },
            compare_unit_size: const { NonZeroU64::new(10_000).unwrap() },
            // Short enough that a cancelled or throttled job is not felt, long enough that round trips do not count.
            block_time: Duration::from_secs(1),
            nice_ratio: 0.0,
            stop_after: None,
            attempts: const { NonZeroU32::new(3).unwrap() },
            // One unknown range is an accident; eight in a row are a server that is gone.
            give_up_after: const { NonZeroU32::new(8).unwrap() },
            recheck: Recheck::default(),
            row_budget: 8 << 20,
            sample: None,
            until: None,
            against_origin: None,
        }
    }
}
