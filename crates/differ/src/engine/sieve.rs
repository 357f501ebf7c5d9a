//! Which parts of a range that differs have to be read.

use crate::range::KeyRange;
use crate::side::{Digest, Digested};

use super::task::{RangeOutcome, Work};

/// Parts of a range into which one that differs is cut, at least.
const FEWEST: u64 = 16;
/// At most: each is a range scan of its own on every node, and waits in memory.
const MOST: u64 = 128;
/// Rows of a part, if there can be so many parts: a difference costs reading its part by row, a part costs a few
/// dozen microseconds.
const PART: u64 = 1_000;

/// Rows of a part of a range of so many rows, so that no part has to be cut again if that can be had.
pub(super) fn rows_of_a_part(rows: u64, unit: u64) -> u64 {
    let parts = (rows / PART).max(rows.div_ceil(unit.max(1)));
    rows.div_ceil(parts.clamp(FEWEST, MOST)).max(1)
}

/// Takes a range's parts in their order: those on which the nodes agree are done, neighbours on which they do not are
/// read together, up to `unit` rows.
///
/// A run of neighbours is one range of the same tiling without the cuts inside it, so the argument of
/// [`crate::range`] holds for what is read as it does for what was digested.
pub(super) struct Sieve {
    unit: u64,
    /// Rows of the parts that are done, on each node.
    agreed: Vec<u64>,
    left: Vec<(Work, KeyRange)>,
    run: Option<Run>,
}

/// Neighbours on which the nodes differ.
struct Run {
    range: KeyRange,
    rows: Vec<u64>,
    /// Of each node, of each part.
    digests: Vec<Vec<Digest>>,
}

impl Sieve {
    pub(super) fn new(nodes: usize, unit: u64) -> Self {
        Self {
            unit,
            agreed: vec![0; nodes],
            left: Vec::new(),
            run: None,
        }
    }

    /// The next part, with its digest on each node.
    pub(super) fn take(&mut self, part: KeyRange, digested: &[&Digested]) {
        let mut digests = Vec::with_capacity(digested.len());
        for digested in digested {
            match digested {
                Digested::Whole(digest) => digests.push(digest.clone()),
                // Compared as a range of its own it is cut by the node that has so much of it.
                Digested::Overflow => return self.again(part),
            }
        }
        if digests.windows(2).all(|pair| pair[0] == pair[1]) {
            self.end_run();
            add(&mut self.agreed, &digests);
        } else if digests.iter().any(|digest| digest.count > self.unit) {
            self.again(part);
        } else {
            self.differs(part, digests);
        }
    }

    fn again(&mut self, part: KeyRange) {
        self.end_run();
        self.left.push((Work::Compare, part));
    }

    fn differs(&mut self, part: KeyRange, digests: Vec<Digest>) {
        let full = |run: &Run| {
            let together = run
                .rows
                .iter()
                .zip(&digests)
                .map(|(rows, digest)| rows + digest.count);
            together.max().unwrap_or(0) > self.unit
        };
        if self.run.as_ref().is_some_and(full) {
            self.end_run();
        }
        let run = self.run.get_or_insert_with(|| Run {
            range: KeyRange {
                to: None,
                ..part.clone()
            },
            rows: vec![0; digests.len()],
            digests: vec![Vec::new(); digests.len()],
        });
        run.range.to = part.to;
        add(&mut run.rows, &digests);
        for (all, digest) in run.digests.iter_mut().zip(digests) {
            all.push(digest);
        }
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            let work = Work::Read {
                nodes: representatives(&run.digests),
                rows: run.rows,
            };
            self.left.push((work, run.range));
        }
    }

    /// What is left to be done.
    pub(super) fn outcome(mut self) -> RangeOutcome {
        self.end_run();
        RangeOutcome::Split {
            parts: self.left,
            agreed: self.agreed,
            mismatch: true,
        }
    }
}

fn add(sums: &mut [u64], digests: &[Digest]) {
    for (sum, digest) in sums.iter_mut().zip(digests) {
        *sum += digest.count;
    }
}

/// One node for each fingerprint: the others have the same rows as one of these.
pub(super) fn representatives<T: PartialEq>(fingerprints: &[T]) -> Vec<usize> {
    (0..fingerprints.len())
        .filter(|&node| !fingerprints[..node].contains(&fingerprints[node]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Key;

    fn digest(count: u64, xor: i64) -> Digested {
        Digested::Whole(Digest {
            count,
            xor,
            sum: "0".into(),
        })
    }

    /// The parts between the keys 0, 1, 2, … with so many rows and such fingerprints on two nodes.
    fn sieved(unit: u64, parts: &[(Digested, Digested)]) -> (Vec<(Work, KeyRange)>, Vec<u64>) {
        let mut sieve = Sieve::new(2, unit);
        for (number, (one, other)) in parts.iter().enumerate() {
            sieve.take(between(number, number + 1), &[one, other]);
        }
        match sieve.outcome() {
            RangeOutcome::Split { parts, agreed, .. } => (parts, agreed),
            outcome => panic!("{outcome:?}"),
        }
    }

    fn between(after: usize, to: usize) -> KeyRange {
        let key = |number: usize| Some(Key::of([number.to_string().as_str()]));
        KeyRange {
            after: key(after),
            to: key(to),
            ..KeyRange::ALL
        }
    }

    fn read(rows: [u64; 2]) -> Work {
        Work::Read {
            nodes: vec![0, 1],
            rows: rows.to_vec(),
        }
    }

    #[test]
    fn neighbours_that_differ_are_read_together_and_nothing_is_left_out() {
        let same = || (digest(5, 1), digest(5, 1));
        let other = || (digest(5, 1), digest(4, 2));
        let (left, agreed) = sieved(10, &[same(), other(), other(), other(), same(), other()]);
        assert_eq!(agreed, [10, 10]);
        assert_eq!(
            left,
            [
                (read([10, 8]), between(1, 3)),
                (read([5, 4]), between(3, 4)),
                (read([5, 4]), between(5, 6)),
            ]
        );
    }

    #[test]
    fn parts_that_are_too_large_are_cut_again() {
        let large = || (digest(11, 1), digest(0, 0));
        let other = || (digest(5, 1), digest(5, 2));
        let (left, agreed) = sieved(10, &[other(), large(), (digest(1, 1), Digested::Overflow)]);
        assert_eq!(agreed, [0, 0]);
        let again = |number| (Work::Compare, between(number, number + 1));
        assert_eq!(left, [(read([5, 5]), between(0, 1)), again(1), again(2)]);
    }

    #[test]
    fn a_group_has_one_representative() {
        assert_eq!(representatives(&[1, 2, 1, 3, 2]), [0, 1, 3]);
    }

    #[test]
    fn parts_are_small_but_not_too_many() {
        assert_eq!(rows_of_a_part(100_000, 10_000), 1_000);
        assert_eq!(rows_of_a_part(10_000, 500), 500);
        assert_eq!(rows_of_a_part(10_000_000, 10_000), 78_125);
        assert_eq!(rows_of_a_part(20, 1), 1);
        assert_eq!(rows_of_a_part(3, 1), 1);
    }
}
