//! Bounds of the values that a flag or a command can set. What is outside is moved to the nearest bound, as
//! gh-ost does it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Rows of a chunk.
pub const CHUNK_SIZE: RangeInclusive<u64> = 10..=100_000;
/// Keys of a sync statement.
pub const DML_BATCH_SIZE: RangeInclusive<u64> = 1..=1000;
/// Sleep after a chunk, in chunk durations.
pub const NICE_RATIO: RangeInclusive<f64> = 0.0..=100.0;
/// The smallest lag limit. Heartbeats come every 100 ms at best, so anything smaller would always be exceeded.
pub const MIN_MAX_LAG: Duration = Duration::from_millis(100);
/// Milliseconds between heartbeats.
pub const HEARTBEAT_MILLIS: RangeInclusive<u64> = 100..=1000;

/// The number in `bounds` that is nearest to `value`; a negative one is nearest to the lower bound.
#[must_use]
pub fn clamp_whole(value: i64, bounds: &RangeInclusive<u64>) -> u64 {
    u64::try_from(value)
        .unwrap_or(0)
        .clamp(*bounds.start(), *bounds.end())
}

/// The number in `bounds` that is nearest to `value`.
#[must_use]
pub fn clamp_ratio(value: f64, bounds: &RangeInclusive<f64>) -> f64 {
    value.clamp(*bounds.start(), *bounds.end())
}
