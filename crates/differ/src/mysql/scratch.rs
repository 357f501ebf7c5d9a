//! Converting the source's rows once more.
//!
//! Where no expression can tell whether a stored value is what the copy's conversion makes of the
//! source's (a text that was cut, a time that was rounded, an `ENUM` whose members moved), the conversion
//! itself can: the rows are inserted into a temporary table whose columns are the ghost table's, by the
//! statement that the copy uses, `INSERT IGNORE … SELECT`, and then compared column by column with the
//! ghost table under one definition. That is exact by construction, provided that the session has the
//! copy's `sql_mode` and `time_zone`.
//!
//! The source is read at one instant and the ghost table at a later one. That is sound: a key whose ghost
//! row did not change in between was equal at the first instant; and a ghost row changes only in a sync
//! cycle, whose keys the applier proves again (it notes them from the moment on at which a comparison
//! *begins*). At worst a change in between is reported as a suspect and re-checked.
//!
//! The table belongs to the session, may be used under `LOCK TABLES` although it is not named there, is
//! not written to the binary log in row format, and ends with the session. It has no index but a number of
//! its own (for `sql_require_primary_key`): a unique index could drop a row that the ghost table dropped
//! as well, and nobody would miss it. `AUTO_INCREMENT`, generation expressions and partitions of the ghost
//! table are left out by `CREATE … SELECT`; types, character sets and `NOT NULL` are kept.

use std::fmt::Write;

use changeling_core::ident::{TableName, quote};
use changeling_core::key::{KeyColumn, KeySpec, TargetMatch};
use changeling_core::verify::{TablePair, VerifyError};
use mysql_async::Conn;

use super::matching::QualifiedKey;
use super::plan::qualified;
use super::session::{refusal, rows, run};

/// A session's temporary table.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    name: TableName,
    create: String,
    insert: String,
    /// Names of the converted values, in the order of the pair's columns, and what our own columns begin with.
    values: Vec<String>,
    prefix: String,
}

impl Scratch {
    pub(super) fn new(pair: &TablePair, name: TableName, source_from: &str) -> Self {
        // A value keeps the ghost column's name: MariaDB 10.6 takes a column's CHECK along, as JSON columns have one, and
        // does not rename what it says.
        let names: Vec<String> = pair
            .columns
            .iter()
            .map(|column| column.target.name.clone())
            .collect();
        let prefix = free_prefix(&names);
        let mut definition = String::new();
        let mut columns = String::new();
        let mut values = String::new();
        for (position, column) in pair.columns.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            let target = qualified(&pair.target, &column.target.name);
            let source = qualified(&pair.source, &column.source.name);
            write(
                &mut definition,
                format_args!("{separator}{target} AS {}", quote(&names[position])),
            );
            write(
                &mut columns,
                format_args!("{separator}{}", quote(&names[position])),
            );
            write(&mut values, format_args!("{separator}{source}"));
        }
        for (index, column) in pair.key.columns.iter().enumerate() {
            let source = qualified(&pair.source, &column.source);
            let name = quote(&key_name(&prefix, index));
            write(&mut definition, format_args!(", {source} AS {name}"));
            write(&mut columns, format_args!(", {name}"));
            write(&mut values, format_args!(", {source}"));
        }
        let table = name.quoted();
        Self {
            create: format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS {table} \
                 ({} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB \
                 SELECT {definition} FROM {}, {} LIMIT 0",
                quote(&format!("{prefix}n")),
                pair.target.quoted(),
                pair.source.quoted()
            ),
            insert: format!(
                "INSERT IGNORE INTO {table} ({columns}) SELECT {values} FROM {source_from} WHERE "
            ),
            name,
            values: names,
            prefix,
        }
    }

    pub(super) fn name(&self) -> &TableName {
        &self.name
    }

    /// The converted value of the pair's column at this position.
    pub(super) fn column(&self, position: usize) -> String {
        format!("{}.{}", self.name.quoted(), quote(&self.values[position]))
    }

    /// The source's key, not converted.
    pub(super) fn key(&self, key: &KeySpec) -> QualifiedKey {
        let here = |(index, column): (usize, &KeyColumn)| KeyColumn {
            source: key_name(&self.prefix, index),
            target: key_name(&self.prefix, index),
            target_kind: column.kind.clone(),
            target_match: TargetMatch::Collation,
            ..column.clone()
        };
        let spec = KeySpec {
            columns: key.columns.iter().enumerate().map(here).collect(),
        };
        QualifiedKey::new(&spec, &self.name, &self.name)
    }

    /// Creates the table in a session, before any `LOCK TABLES`.
    pub(super) async fn create(&self, session: &mut Conn) -> Result<(), VerifyError> {
        let format = rows(
            session,
            "reading binlog_format",
            "SHOW SESSION VARIABLES LIKE 'binlog_format'",
        )
        .await?;
        if let Some([_, Some(format)]) = format.first().map(Vec::as_slice)
            && format.as_slice() != b"ROW"
        {
            return Err(refusal(format!(
                "binlog_format is {}, in which a temporary table would reach the replicas; set it to ROW",
                String::from_utf8_lossy(format)
            )));
        }
        // Defaults of the ghost table's columns may be impossible under this session's mode ('0000-00-00').
        // They play no part here, so that the mode is set aside for this one statement.
        run(
            session,
            "setting sql_mode aside",
            "SET @changeling_sql_mode = @@SESSION.sql_mode, SESSION sql_mode = ''",
        )
        .await?;
        let created = run(
            session,
            "creating the temporary table for converted values",
            &self.create,
        )
        .await;
        run(
            session,
            "restoring sql_mode",
            "SET SESSION sql_mode = @changeling_sql_mode",
        )
        .await?;
        created
    }

    /// Replaces the table's rows by the source's rows for which `filter` is true, converted.
    pub(super) async fn fill(&self, session: &mut Conn, filter: &str) -> Result<(), VerifyError> {
        let clear = format!("DELETE FROM {}", self.name.quoted());
        run(session, "clearing the temporary table", &clear).await?;
        run(
            session,
            "converting rows for comparison",
            &format!("{}{filter}", self.insert),
        )
        .await
    }
}

fn key_name(prefix: &str, index: usize) -> String {
    format!("{prefix}k{index}")
}

/// What none of these names begins with.
fn free_prefix(names: &[String]) -> String {
    let mut prefix = "_".to_owned();
    while names.iter().any(|name| name.starts_with(&prefix)) {
        prefix.push('_');
    }
    prefix
}

/// Writing to a `String` cannot fail.
fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}
