//! Ranges of the key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Key;

/// A part of a table that its nodes store apart, by its name on the first of them. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(Arc<str>);

impl Partition {
    /// The partition called so.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The keys after `after`, up to and with `to`; a missing end is open.
///
/// Whatever keys are chosen as cuts, the ranges between them leave no row of a node out: a row that is not in
/// `(a, b]` and comes after `a` comes after `b`, and the last range has no end. So nodes that sort differently cost
/// time, never a difference.
///
/// The same holds of partitions: each row of a node is in one of the node's, and each of them is one of the ranges'.
/// Where a row is elsewhere on another node, its partitions differ on both, and the row is then looked for by its key in
/// the whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The only one that is meant; without it the whole table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Where it begins; this key itself is outside.
    pub after: Option<Key>,
    /// Where it ends; this key itself is inside.
    pub to: Option<Key>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: Self = Self {
        partition: None,
        after: None,
        to: None,
    };

    /// Every key of each of these partitions, or of the table if it has none.
    #[must_use]
    pub fn all_of(partitions: &[Partition]) -> Vec<Self> {
        if partitions.is_empty() {
            return vec![Self::ALL];
        }
        let all = |partition: &Partition| Self {
            partition: Some(partition.clone()),
            ..Self::ALL
        };
        partitions.iter().map(all).collect()
    }

    /// The two ranges before and after a cut, which belongs to the first.
    #[must_use]
    pub fn cut(&self, at: Key) -> (Self, Self) {
        let first = Self {
            to: Some(at.clone()),
            ..self.clone()
        };
        let second = Self {
            after: Some(at),
            ..self.clone()
        };
        (first, second)
    }

    /// The ranges between so many cuts, one more than these.
    #[must_use]
    pub fn cut_at(&self, cuts: Vec<Key>) -> Vec<Self> {
        let mut ranges = Vec::with_capacity(cuts.len() + 1);
        let mut rest = self.clone();
        for at in cuts {
            let (first, second) = rest.cut(at);
            ranges.push(first);
            rest = second;
        }
        ranges.push(rest);
        ranges
    }

    /// Whether it has both ends.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.after.is_some() && self.to.is_some()
    }

    /// Bytes occupied.
    #[must_use]
    pub fn weight(&self) -> usize {
        let key = |key: &Option<Key>| key.as_ref().map_or(0, Key::weight);
        size_of::<Self>() + key(&self.after) + key(&self.to)
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(partition) = &self.partition {
            write!(f, "partition {partition}, ")?;
        }
        match (&self.after, &self.to) {
            (None, None) => f.write_str("all keys"),
            (None, Some(to)) => write!(f, "keys up to {to}"),
            (Some(after), None) => write!(f, "keys after {after}"),
            (Some(after), Some(to)) => write!(f, "keys after {after} up to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_tile_the_range() {
        let key = |text: &str| Key::of([text]);
        let ranges = KeyRange::ALL.cut_at(vec![key("1"), key("2")]);
        assert_eq!(ranges.len(), 3);
        assert_eq!(ranges[0].after, None);
        assert!(ranges.windows(2).all(|pair| pair[0].to == pair[1].after));
        assert_eq!(ranges[2].to, None);
        assert_eq!(KeyRange::ALL.cut_at(vec![]), [KeyRange::ALL]);
        let [part] = &KeyRange::all_of(&[Partition::new("p1")])[..] else {
            panic!("one partition")
        };
        assert_eq!(part.to_string(), "partition p1, all keys");
        assert!(
            part.cut_at(vec![key("1")])
                .iter()
                .all(|range| range.partition == part.partition)
        );
    }
}
