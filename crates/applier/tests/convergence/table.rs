//! Rows, tables, transactions: as little of a server as the argument needs.

use std::fmt;

/// A row: its key, a value of the secondary unique column, and whatever else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) key: u8,
    pub(crate) unique: u8,
    pub(crate) rest: u8,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:u{}/{}", char::from(self.key), self.unique, self.rest)
    }
}

/// A row with this key, unique value and rest.
pub(crate) const fn row(key: u8, unique: u8, rest: u8) -> Row {
    Row { key, unique, rest }
}

/// Keys are compared without letter case, as a collation does.
pub(crate) fn same(one: u8, other: u8) -> bool {
    one.eq_ignore_ascii_case(&other)
}

impl Row {
    /// Whether the two cannot both be in a table where the other column is unique as well.
    pub(crate) fn excludes(self, other: Self) -> bool {
        same(self.key, other.key) || self.unique == other.unique
    }
}

/// A table with two unique keys, of which the original need not have the second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Table(pub(crate) Vec<Row>);

impl Table {
    pub(crate) fn get(&self, key: u8) -> Option<Row> {
        self.0.iter().copied().find(|row| same(row.key, key))
    }

    pub(crate) fn delete(&mut self, key: u8) -> Option<Row> {
        let at = self.0.iter().position(|row| same(row.key, key))?;
        Some(self.0.remove(at))
    }

    /// Puts a row in its place in the key's order.
    pub(crate) fn put(&mut self, row: Row) {
        let at = self
            .0
            .partition_point(|other| other.key.to_ascii_lowercase() < row.key.to_ascii_lowercase());
        self.0.insert(at, row);
    }

    /// Whether a row is in the way of this one.
    pub(crate) fn refuses(&self, row: Row) -> bool {
        self.0.iter().any(|other| other.excludes(row))
    }

    /// `REPLACE`: evicts whatever is in the way.
    pub(crate) fn replace(&mut self, row: Row) {
        self.0.retain(|other| !other.excludes(row));
        self.put(row);
    }

    /// Whether two rows share a value of the second column.
    pub(crate) fn has_duplicates(&self) -> bool {
        let shares = |(at, row): (usize, &Row)| self.0[..at].iter().any(|other| other.unique == row.unique);
        self.0.iter().enumerate().any(shares)
    }

    /// The rows in a range of keys, in order: above `from`, up to and with `to`.
    pub(crate) fn range(&self, from: Option<u8>, to: u8) -> Vec<Row> {
        let lower = |key: u8| key.to_ascii_lowercase();
        let inside =
            |row: &&Row| from.is_none_or(|from| lower(row.key) > lower(from)) && lower(row.key) <= lower(to);
        self.0.iter().filter(inside).copied().collect()
    }
}

/// What a transaction does to one row of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Insert(Row),
    Update(u8, Row),
    Delete(u8),
}

impl Change {
    /// Keys and values that the change locks.
    fn touches(self, before: &Table) -> Vec<Row> {
        match self {
            Self::Insert(row) => vec![row],
            Self::Update(key, row) => before.get(key).into_iter().chain([row]).collect(),
            Self::Delete(key) => before.get(key).into_iter().collect(),
        }
    }
}

/// What the application does.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// The original after each number of transactions.
    pub(crate) states: Vec<Table>,
    pub(crate) transactions: Vec<Vec<Change>>,
}

impl Workload {
    pub(crate) fn new(rows: &[Row], transactions: &[&[Change]]) -> Self {
        let mut initial = Table::default();
        rows.iter().for_each(|&row| initial.put(row));
        let mut workload = Self {
            states: vec![initial],
            transactions: Vec::new(),
        };
        transactions.iter().for_each(|changes| workload.push(changes));
        workload
    }

    fn last(&self) -> Table {
        self.states.last().cloned().unwrap_or_default()
    }

    /// Adds a transaction. Within it unique values may pass through each other, as by a value put in between.
    pub(crate) fn push(&mut self, changes: &[Change]) {
        let mut table = self.last();
        for &change in changes {
            match change {
                Change::Insert(row) => assert!(table.get(row.key).is_none(), "{change:?} into {table:?}"),
                Change::Update(key, _) | Change::Delete(key) => {
                    assert!(table.delete(key).is_some(), "{change:?} in {table:?}");
                }
            }
            if let Change::Insert(row) | Change::Update(_, row) = change {
                table.put(row);
            }
        }
        self.states.push(table);
        self.transactions.push(changes.to_vec());
    }

    /// As [`Workload::push`], if the original allows it.
    pub(crate) fn push_if_valid(&mut self, changes: &[Change]) {
        let mut table = self.last();
        for &change in changes {
            let valid = match change {
                Change::Insert(row) => table.get(row.key).is_none(),
                Change::Update(key, row) => table.delete(key).is_some() && table.get(row.key).is_none(),
                Change::Delete(key) => table.delete(key).is_some(),
            };
            if !valid {
                return;
            }
            if let Change::Insert(row) | Change::Update(_, row) = change {
                table.put(row);
            }
        }
        if !table.has_duplicates() {
            self.push(changes);
        }
    }

    /// Whether the second of two transactions has to wait for locks of the first.
    pub(crate) fn waits(&self, first: usize, second: usize) -> bool {
        let touched = |number: usize| {
            let before = &self.states[number];
            self.transactions[number]
                .iter()
                .flat_map(|change| change.touches(before))
                .collect::<Vec<_>>()
        };
        let first = touched(first);
        touched(second)
            .into_iter()
            .any(|row| first.iter().any(|other| other.excludes(row)))
    }
}
