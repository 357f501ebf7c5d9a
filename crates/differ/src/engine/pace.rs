//! How many rows a block has, and which blocks belong to a sample.

use std::time::Duration;

/// Rows of the first block, unless blocks are smaller: enough to learn from, quickly done on any server.
const FIRST: u64 = 16_384;
/// Blocks never get smaller than this: below it round trips are what is measured.
const SMALLEST: u64 = 256;

/// Rows of a block, so that digesting one takes a given time.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    rows: u64,
    largest: u64,
    target: Duration,
}

impl Pace {
    pub(super) fn new(largest: u64, target: Duration) -> Self {
        Self {
            rows: FIRST.min(largest),
            largest,
            target,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// At most four times as many, at least half as many: one slow answer is not a slow server.
    pub(super) fn learn(&mut self, rows: u64, took: Duration) {
        // What is much smaller than a block says little about one.
        if rows < self.rows / 2 {
            return;
        }
        let per_row = took.as_secs_f64().max(1e-6) / rows.max(1) as f64;
        let fit = (self.target.as_secs_f64() / per_row) as u64;
        self.rows = fit
            .clamp(self.rows / 2, self.rows.saturating_mul(4))
            .clamp(SMALLEST.min(self.largest), self.largest);
    }
}

/// Chooses blocks at random.
#[derive(Clone, Debug)]
pub(super) struct Lot {
    share: f64,
    state: u64,
}

impl Lot {
    pub(super) fn new(share: f64) -> Self {
        let mut seed = [0; 8];
        // Without random numbers from the system a fixed choice is as good a sample as any.
        let _ = getrandom::fill(&mut seed);
        Self {
            share,
            state: u64::from_le_bytes(seed) | 1,
        }
    }

    /// Whether the next block is looked at (xorshift64*).
    pub(super) fn draw(&mut self) -> bool {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let drawn = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        (drawn as f64 / (1u64 << 53) as f64) < self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_towards_the_target_and_stay_within_their_limits() {
        let mut pace = Pace::new(100_000, Duration::from_secs(1));
        for _ in 0..5 {
            pace.learn(pace.rows(), Duration::from_millis(10));
        }
        assert_eq!(pace.rows(), 100_000);
        for _ in 0..50 {
            pace.learn(pace.rows(), Duration::from_secs(100));
        }
        assert_eq!(pace.rows(), SMALLEST);
        assert_eq!(Pace::new(1, Duration::from_secs(1)).rows(), 1);
    }

    #[test]
    fn a_lot_draws_its_share() {
        let mut lot = Lot {
            share: 0.25,
            state: 1,
        };
        let drawn = (0..10_000).filter(|_| lot.draw()).count();
        assert!((2_200..2_800).contains(&drawn), "{drawn}");
    }
}
