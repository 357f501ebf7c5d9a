//! Which part of the key space is done: pure.

use std::collections::BTreeMap;

use crate::range::{KeyRange, Partition};

/// A part of the key space, or of a partition's, that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Before which of the joined finished ranges it lies; their number if behind all.
    pub(crate) index: usize,
    pub(crate) range: KeyRange,
}

/// Finished blocks with numbers one after another, as one range.
#[derive(Clone, Debug)]
struct Stretch {
    last: u64,
    range: KeyRange,
}

/// Finished ranges of each partition that is compared apart, or of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Tiling {
    /// In the order in which they are walked.
    spaces: Vec<Space>,
}

impl Tiling {
    /// Nothing of these is done.
    pub(super) fn of(partitions: &[Partition]) -> Self {
        let spaces = KeyRange::all_of(partitions).into_iter().map(Space::of);
        Self {
            spaces: spaces.collect(),
        }
    }

    /// A block of this sitting is done. False if that cannot be: it was done before, or its gap or partition is none.
    #[must_use]
    pub(super) fn add(&mut self, gap: usize, block: u64, range: &KeyRange) -> bool {
        let space = self
            .spaces
            .iter_mut()
            .find(|space| space.all.partition == range.partition);
        space.is_some_and(|space| space.add(gap, block, range))
    }

    /// A new sitting begins: blocks of the one before are among the joined ranges now.
    pub(super) fn fold(&mut self) {
        self.spaces.iter_mut().for_each(Space::fold);
    }

    /// What is not done, in the order in which it is walked; as of the last [`fold`](Self::fold).
    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.spaces.iter().flat_map(Space::gaps).collect()
    }
}

/// Finished ranges of one walk, joined where they touch. Its size follows how torn the work is, not how much was done.
///
/// Keys are never sorted here: only the servers know their order. What comes after what is known from the numbers of
/// the blocks within a sitting, which follow the walk, and from the gap that was walked. Two ranges `(a, b]` and
/// `(b, c]` are joined because together they hold at least the rows of `(a, c]`, whatever a node's order is.
#[derive(Clone, Debug)]
struct Space {
    /// All of it.
    all: KeyRange,
    /// Of earlier sittings, in the order of keys.
    joined: Vec<KeyRange>,
    /// Of this sitting, by gap and first number.
    fresh: BTreeMap<(usize, u64), Stretch>,
}

impl Space {
    fn of(all: KeyRange) -> Self {
        Self {
            all,
            joined: Vec::new(),
            fresh: BTreeMap::new(),
        }
    }

    fn add(&mut self, gap: usize, block: u64, range: &KeyRange) -> bool {
        let before = self.fresh.range(..=(gap, block)).next_back();
        let before = before
            .filter(|((place, _), _)| *place == gap)
            .map(|(&place, stretch)| (place, stretch.clone()));
        if gap > self.joined.len() || before.as_ref().is_some_and(|(_, stretch)| stretch.last >= block) {
            return false;
        }
        let (mut place, mut stretch) = (
            (gap, block),
            Stretch {
                last: block,
                range: range.clone(),
            },
        );
        if let Some((first, before)) = before
            && before.last.checked_add(1) == Some(block)
            && touch(&before.range, &stretch.range)
        {
            place = first;
            stretch.range.after = before.range.after;
        }
        if let Some(next) = block.checked_add(1)
            && let Some(after) = self.fresh.get(&(gap, next))
            && touch(&stretch.range, &after.range)
            && let Some(after) = self.fresh.remove(&(gap, next))
        {
            stretch.last = after.last;
            stretch.range.to = after.range.to;
        }
        self.fresh.insert(place, stretch);
        true
    }

    fn fold(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        let mut fresh = fresh.into_iter().peekable();
        let old = std::mem::take(&mut self.joined);
        let mut old = old.into_iter();
        for index in 0.. {
            while let Some((_, stretch)) = fresh.next_if(|((gap, _), _)| *gap == index) {
                self.join(stretch.range);
            }
            match old.next() {
                Some(range) => self.join(range),
                None => break,
            }
        }
    }

    fn join(&mut self, range: KeyRange) {
        match self.joined.last_mut() {
            Some(last) if touch(last, &range) => last.to = range.to,
            _ => self.joined.push(range),
        }
    }

    fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        // The end of what is done so far; `None` once that is the end of all keys.
        let mut reached = Some(None);
        for (index, done) in self.joined.iter().enumerate() {
            if let Some(from) = reached
                && done.after.is_some()
            {
                gaps.push(Gap {
                    index,
                    range: KeyRange {
                        after: from,
                        to: done.after.clone(),
                        ..self.all.clone()
                    },
                });
            }
            reached = done.to.clone().map(Some);
        }
        if let Some(from) = reached {
            gaps.push(Gap {
                index: self.joined.len(),
                range: KeyRange {
                    after: from,
                    ..self.all.clone()
                },
            });
        }
        gaps
    }
}

/// Whether the second begins where the first ends.
fn touch(first: &KeyRange, second: &KeyRange) -> bool {
    first.to.is_some() && first.to == second.after
}
