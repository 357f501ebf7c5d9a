//! How many rows the next chunk has.

use std::time::Duration;

/// gh-ost's limits.
pub const SMALLEST: u64 = 10;
/// gh-ost's limits.
pub const LARGEST: u64 = 100_000;
/// A chunk never grows by more than this at once: one fast chunk says little about the next.
const GROWTH: f64 = 1.5;
/// A chunk this many times over its target shrinks to a tenth at once.
const PANIC: u32 = 5;

/// Chooses chunk sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkSize {
    rows: u64,
    target: Option<Duration>,
}

impl ChunkSize {
    /// Starts with `rows`; follows `target` if there is one, else stays.
    #[must_use]
    pub fn new(rows: u64, target: Option<Duration>) -> Self {
        Self {
            rows: rows.clamp(SMALLEST, LARGEST),
            target,
        }
    }

    /// Rows of the next chunk.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Fixes the size.
    pub fn fix(&mut self, rows: u64) {
        *self = Self::new(rows, None);
    }

    /// Learns from a chunk of `rows` that took `took`. A chunk of another size than the present one was
    /// planned before the last change and says nothing.
    pub fn learn(&mut self, rows: u64, took: Duration) {
        let Some(target) = self.target else { return };
        if rows != self.rows {
            return;
        }
        let factor = if took > target * PANIC {
            0.1
        } else {
            (target.as_secs_f64() / took.as_secs_f64().max(1e-6)).clamp(0.5, GROWTH)
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "at most 150 000"
        )]
        let rows = (self.rows as f64 * factor) as u64;
        self.rows = rows.clamp(SMALLEST, LARGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_target() {
        let mut size = ChunkSize::new(1000, Some(Duration::from_millis(100)));
        for _ in 0..20 {
            size.learn(size.rows(), Duration::from_micros(size.rows() * 50));
        }
        assert!((1900..=2000).contains(&size.rows()), "{size:?}");
        size.learn(size.rows(), Duration::from_secs(1));
        assert!(size.rows() <= 200);
        size.learn(77, Duration::from_micros(1));
        assert!(size.rows() <= 200);
    }

    #[test]
    fn a_fixed_size_stays() {
        let mut size = ChunkSize::new(5, None);
        size.learn(10, Duration::from_secs(9));
        assert_eq!(size.rows(), SMALLEST);
        size.fix(1_000_000);
        assert_eq!(size.rows(), LARGEST);
    }
}
