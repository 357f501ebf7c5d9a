//! Up to which key everything is copied.

use std::collections::BTreeMap;

use changeling_core::key::Key;

/// Chunks complete out of order; the watermark is the end of the last one before which none is missing.
#[derive(Debug, Default)]
pub struct Watermark {
    next: u64,
    done: BTreeMap<u64, Key>,
    key: Option<Key>,
}

impl Watermark {
    /// Everything up to this key is copied already (resumed).
    #[must_use]
    pub fn starting_at(key: Option<Key>) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    /// Chunk `number` (from 0, in key order), which ends with `last`, is committed.
    pub fn complete(&mut self, number: u64, last: Key) {
        self.done.insert(number, last);
        while let Some(key) = self.done.remove(&self.next) {
            self.key = Some(key);
            self.next += 1;
        }
    }

    /// The watermark.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use changeling_core::value::Cell;

    use super::*;

    #[test]
    fn a_gap_holds_the_watermark_back() {
        let key = |id| Key::new(vec![Cell::Int(id)]);
        let mut watermark = Watermark::default();
        watermark.complete(1, key(20));
        watermark.complete(2, key(30));
        assert_eq!(watermark.key(), None);
        watermark.complete(0, key(10));
        assert_eq!(watermark.key(), Some(&key(30)));
    }
}
