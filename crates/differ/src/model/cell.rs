//! Values, rows and keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::shape::TableShape;

/// A value: the server's own text under the pinned session settings, `None` for NULL.
///
/// Two cells of a column are the same value exactly if they are equal here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cell {
    /// The text, `None` for NULL.
    pub text: Option<Box<str>>,
}

impl Cell {
    /// NULL.
    pub const NULL: Self = Self { text: None };

    /// A value that is not NULL.
    pub fn of(text: impl Into<Box<str>>) -> Self {
        Self {
            text: Some(text.into()),
        }
    }

    /// The text, `None` for NULL.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        Self {
            text: text.map(Into::into),
        }
    }
}

/// A row's values, in the order of [`TableShape::columns`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Row(pub Box<[Cell]>);

impl Row {
    /// The values of the key's columns, `None` if one is NULL, which a key's never is.
    #[must_use]
    pub fn key(&self, shape: &TableShape) -> Option<Key> {
        shape
            .key
            .iter()
            .map(|&column| self.0.get(column)?.text.clone())
            .collect::<Option<Box<[_]>>>()
            .map(Key)
    }

    /// Bytes occupied.
    #[must_use]
    pub fn weight(&self) -> usize {
        let text = |cell: &Cell| cell.text.as_ref().map_or(0, |text| text.len());
        self.0.iter().map(|cell| size_of::<Cell>() + text(cell)).sum()
    }
}

/// A row's identity: the texts of the key's columns, in key order. Typed by the [`TableShape`]; never joined to one
/// text, so `("a|b", "c")` and `("a", "b|c")` are two keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub Box<[Box<str>]>);

impl Key {
    /// A key of these texts.
    pub fn of<T: Into<Box<str>>>(parts: impl IntoIterator<Item = T>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// Bytes occupied.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0.iter().map(|part| size_of::<Box<str>>() + part.len()).sum()
    }
}

impl fmt::Display for Key {
    /// `(7)`, `('a|b','c')`: for messages, never for identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "'{}'", part.replace('\'', "''"))?;
        }
        f.write_str(")")
    }
}
