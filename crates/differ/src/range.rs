//! Ranges of the key.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Key;

/// The keys after `after`, up to and with `to`; a missing end is open.
///
/// Whatever keys are chosen as cuts, the ranges between them leave no row of a node out: a row that is not in
/// `(a, b]` and comes after `a` comes after `b`, and the last range has no end. So nodes that sort differently cost
/// time, never a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// Where it begins; this key itself is outside.
    pub after: Option<Key>,
    /// Where it ends; this key itself is inside.
    pub to: Option<Key>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: Self = Self {
        after: None,
        to: None,
    };

    /// The two ranges before and after a cut, which belongs to the first.
    #[must_use]
    pub fn cut(&self, at: Key) -> (Self, Self) {
        let first = Self {
            after: self.after.clone(),
            to: Some(at.clone()),
        };
        let second = Self {
            after: Some(at),
            to: self.to.clone(),
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
    }
}
