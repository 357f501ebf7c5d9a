//! The statements of a repair. Parameters are arrays of texts, one a column, cast in the statement: however many rows a
//! batch has, the text is the same, and the driver needs to know no type.

use changeling_core::ident::TableName;

use crate::model::{Generation, Identity, KeyIdentity, TableShape};
use crate::postgres::{quote, quote_table, same_text};

/// The statements for one table on one node.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    /// The keys given, joined with the table as `t`; `q.i` is a key's place from 1.
    pub(super) located: String,
    pub(super) read: String,
    pub(super) lock: String,
    pub(super) canonical: String,
    pub(super) insert: String,
    pub(super) update: Option<String>,
    /// UPDATE of a row whose key gets another text of the same value.
    pub(super) rename: Option<String>,
    pub(super) delete: String,
    /// Positions of the columns that INSERT gives values to.
    pub(super) inserted: Vec<usize>,
    /// Positions of the columns that UPDATE sets.
    pub(super) updated: Vec<usize>,
    /// Positions of the columns that neither UPDATE nor the server itself sets: a row in which one differs is replaced.
    pub(super) fixed: Vec<usize>,
}

impl Statements {
    /// `only` is the table as it is read (`ONLY …` where other tables inherit from it).
    pub(super) fn new(
        shape: &TableShape,
        name: &TableName,
        only: &str,
        commit_times: CommitTimes,
        conflicts: Conflicts,
    ) -> Self {
        let positions = |fits: &dyn Fn(usize) -> bool| -> Vec<usize> {
            (0..shape.columns.len())
                .filter(|position| fits(*position))
                .collect()
        };
        let written = |position: usize| shape.columns[position].generation == Generation::Never;
        let numbered = |position: usize| shape.columns[position].identity == Identity::Always;
        let inserted = positions(&written);
        let updated =
            positions(&|position| written(position) && !numbered(position) && !shape.is_key(position));
        let renamed = positions(&|position| written(position) && !numbered(position));
        let fixed = positions(&|position| written(position) && numbered(position) && !shape.is_key(position));
        let table = Table {
            shape,
            only,
            name: quote_table(name),
        };
        let read = table.read(commit_times);
        Self {
            located: table.located(),
            lock: format!("{read} FOR UPDATE OF t"),
            read,
            canonical: table.canonical(),
            insert: table.insert(&inserted, conflicts),
            update: (!updated.is_empty()).then(|| table.update(&updated)),
            rename: (!renamed.is_empty()).then(|| table.rename(&renamed)),
            delete: table.delete(),
            inserted,
            updated,
            fixed,
        }
    }
}

/// Whether the server keeps commit times; it raises an error when asked in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitTimes {
    Kept,
    NotKept,
}

/// What becomes of a row that is to be inserted where there is one already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflicts {
    /// It is passed over.
    PassedOver,
    /// The server refuses the statement: it cannot pass over rows where a unique constraint may be deferred.
    Refused,
}

struct Table<'a> {
    shape: &'a TableShape,
    only: &'a str,
    name: String,
}

impl Table<'_> {
    fn column(&self, position: usize) -> String {
        quote(&self.shape.columns[position].name)
    }

    fn cast(&self, position: usize) -> String {
        format!("q.c{position}::{}", self.shape.columns[position].cast_type)
    }

    /// `unnest($1::text[], …) WITH ORDINALITY AS q(c0, …, i)`
    fn unnested(&self, positions: &[usize]) -> String {
        let parameters: Vec<_> = (1..=positions.len())
            .map(|number| format!("${number}::text[]"))
            .collect();
        let names: Vec<_> = positions.iter().map(|position| format!("c{position}")).collect();
        format!(
            "ROWS FROM ({}) WITH ORDINALITY AS q({}, i)",
            parameters
                .iter()
                .map(|parameter| format!("pg_catalog.unnest({parameter})"))
                .collect::<Vec<_>>()
                .join(", "),
            names.join(", ")
        )
    }

    fn same_key(&self) -> String {
        let equal = |position: &usize| {
            let (column, value) = (format!("t.{}", self.column(*position)), self.cast(*position));
            match self.shape.key_identity {
                KeyIdentity::Value => format!("{column} = {value}"),
                KeyIdentity::Text => format!("{column} = {value} AND {}", same_text(&column, &value)),
            }
        };
        self.shape.key.iter().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    fn located(&self) -> String {
        format!(
            "{} JOIN {} AS t ON {}",
            self.unnested(&self.shape.key),
            self.only,
            self.same_key()
        )
    }

    fn read(&self, commit_times: CommitTimes) -> String {
        let (times, from) = match commit_times {
            CommitTimes::Kept => (
                "pg_catalog.to_char(o.\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), o.roident::int8",
                " LEFT JOIN LATERAL pg_catalog.pg_xact_commit_timestamp_origin(t.xmin) AS o ON true",
            ),
            CommitTimes::NotKept => ("NULL::text, NULL::int8", ""),
        };
        let texts = |position| format!("t.{}::text", self.column(position));
        let cells: Vec<_> = (0..self.shape.columns.len()).map(texts).collect();
        format!(
            "SELECT q.i, {times}, {} FROM {}{from}",
            cells.join(", "),
            self.located(),
        )
    }

    /// The given texts in the server's own words.
    fn canonical(&self) -> String {
        let all: Vec<usize> = (0..self.shape.columns.len()).collect();
        let texts: Vec<_> = all
            .iter()
            .map(|position| format!("({})::text", self.cast(*position)))
            .collect();
        format!(
            "SELECT {} FROM {} ORDER BY q.i",
            texts.join(", "),
            self.unnested(&all)
        )
    }

    /// `DO NOTHING`: a row that somebody else inserted since it was looked for is not ours to overwrite. Nor is it without,
    /// for then the server refuses.
    fn insert(&self, positions: &[usize], conflicts: Conflicts) -> String {
        let conflict = match conflicts {
            Conflicts::PassedOver => " ON CONFLICT DO NOTHING",
            Conflicts::Refused => "",
        };
        let columns: Vec<_> = positions.iter().map(|position| self.column(*position)).collect();
        let values: Vec<_> = positions.iter().map(|position| self.cast(*position)).collect();
        let key: Vec<_> = self
            .shape
            .key
            .iter()
            .map(|position| format!("t.{}::text", self.column(*position)))
            .collect();
        format!(
            "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} ORDER BY q.i{conflict} RETURNING {}",
            self.name,
            columns.join(", "),
            values.join(", "),
            self.unnested(positions),
            key.join(", "),
        )
    }

    fn update(&self, positions: &[usize]) -> String {
        let given: Vec<usize> = self.shape.key.iter().chain(positions).copied().collect();
        self.set(positions, &given)
    }

    /// The row is found by the value of its key, which stays.
    fn rename(&self, positions: &[usize]) -> String {
        let rest = positions.iter().filter(|position| !self.shape.is_key(**position));
        let given: Vec<usize> = self.shape.key.iter().chain(rest).copied().collect();
        self.set(positions, &given)
    }

    fn set(&self, positions: &[usize], given: &[usize]) -> String {
        let set: Vec<_> = positions
            .iter()
            .map(|position| format!("{} = {}", self.column(*position), self.cast(*position)))
            .collect();
        format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {}",
            self.only,
            set.join(", "),
            self.unnested(given),
            self.same_key(),
        )
    }

    fn delete(&self) -> String {
        format!(
            "DELETE FROM {} AS t USING {} WHERE {}",
            self.only,
            self.unnested(&self.shape.key),
            self.same_key(),
        )
    }
}
