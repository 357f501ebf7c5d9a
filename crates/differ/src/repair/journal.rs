//! The report of a repair: `reports/<date>/repair_report_<time>.json`, with ACE's fields.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};

use serde_json::json;

use super::{NodeOutcome, RepairOutcome};
use crate::model::{Key, NodeName, Row, TableShape};

/// What happened to one row.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// It was written; in a dry run, it would have been.
    Written {
        /// What it was; `None` for a row that is new.
        before: Option<&'a Row>,
        /// What it is; `None` for a row that is gone.
        after: Option<&'a Row>,
        /// Rule or mode that said so.
        by: &'a str,
    },
    /// It was left alone.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The server refused it.
    Failed {
        /// In its words.
        reason: String,
    },
}

/// What happened to one row of one node.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The node, by its place among the report's.
    pub node: usize,
    /// Its name.
    pub name: &'a NodeName,
    /// The table as it is repaired; rows have its columns.
    pub shape: &'a TableShape,
    /// The row.
    pub key: &'a Key,
    /// What happened to it.
    pub event: Event<'a>,
}

/// Takes what happened, row by row, after it was committed.
pub trait RepairLog: Send {
    /// One row of one node.
    ///
    /// # Errors
    /// It cannot be written; the repair ends.
    fn take(&mut self, entry: &Entry<'_>) -> io::Result<()>;
}

/// Several logs.
impl RepairLog for Vec<Box<dyn RepairLog>> {
    fn take(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.iter_mut().try_for_each(|log| log.take(entry))
    }
}

impl RepairLog for () {
    fn take(&mut self, _: &Entry<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// A log by reference.
impl<L: RepairLog + ?Sized> RepairLog for &mut L {
    fn take(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        (**self).take(entry)
    }
}

/// Gathers a report of the repair in temporary files, one for each list of each node, so that it can be of any size.
#[derive(Debug)]
pub struct RepairReport {
    lists: Vec<Lists>,
}

#[derive(Debug)]
struct Lists {
    upserted: List,
    deleted: List,
    matches: List,
    skipped: List,
}

#[derive(Debug)]
struct List {
    file: BufWriter<File>,
    count: u64,
}

impl List {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(8 * 1024, tempfile::tempfile()?),
            count: 0,
        })
    }

    fn separate(&mut self) -> io::Result<()> {
        self.count += 1;
        self.file.write_all(if self.count == 1 {
            b"\n        "
        } else {
            b",\n        "
        })
    }

    fn add(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.separate()?;
        serde_json::to_writer(&mut self.file, value).map_err(io::Error::from)
    }

    fn copy(self, output: &mut impl Write) -> io::Result<()> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        io::copy(&mut file, output).map(|_| ())
    }
}

impl RepairReport {
    /// A report for so many nodes.
    ///
    /// # Errors
    /// Temporary files cannot be made.
    pub fn new(nodes: usize) -> io::Result<Self> {
        let lists = || -> io::Result<Lists> {
            Ok(Lists {
                upserted: List::new()?,
                deleted: List::new()?,
                matches: List::new()?,
                skipped: List::new()?,
            })
        };
        Ok(Self {
            lists: (0..nodes).map(|_| lists()).collect::<io::Result<_>>()?,
        })
    }

    /// Writes the report. `head` holds the fields about the call: `operation_type`, `mode`, `time_stamp`, `supplied_args`,
    /// `database_credentials_used` (no password), `run_time`.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write(
        self,
        head: &serde_json::Map<String, serde_json::Value>,
        outcome: &RepairOutcome,
        output: &mut impl Write,
    ) -> io::Result<()> {
        output.write_all(b"{\n")?;
        for (name, value) in head {
            writeln!(output, "  {}: {},", json!(name), value)?;
        }
        write!(
            output,
            "  \"outcome\": {},\n  \"changes\": {{",
            serde_json::to_value(outcome)?
        )?;
        for (place, (lists, node)) in self.lists.into_iter().zip(&outcome.nodes).enumerate() {
            output.write_all(if place == 0 { b"\n    " } else { b",\n    " })?;
            write_node(lists, node, outcome.dry_run, output)?;
        }
        output.write_all(b"\n  }\n}\n")
    }
}

fn write_node(lists: Lists, node: &NodeOutcome, dry_run: bool, output: &mut impl Write) -> io::Result<()> {
    write!(output, "{}: {{", json!(node.node))?;
    if dry_run {
        write!(
            output,
            "\n      \"would_upsert\": {},\n      \"would_insert\": {},\n      \"would_delete\": {},",
            node.inserted + node.updated,
            node.inserted,
            node.deleted
        )?;
    }
    output.write_all(b"\n      \"upserted_rows\": [")?;
    lists.upserted.copy(output)?;
    output.write_all(b"],\n      \"deleted_rows\": [")?;
    lists.deleted.copy(output)?;
    output.write_all(b"],\n      \"rule_matches\": {")?;
    lists.matches.copy(output)?;
    output.write_all(b"},\n      \"skipped_rows\": [")?;
    lists.skipped.copy(output)?;
    output.write_all(b"]\n    }")
}

impl RepairLog for RepairReport {
    fn take(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let lists = &mut self.lists[entry.node];
        let (key, shape) = (entry.key, entry.shape);
        match &entry.event {
            Event::Written { before, after, by } => {
                match (before, after) {
                    (_, Some(after)) => lists.upserted.add(&row_value(after, shape))?,
                    (Some(before), None) => lists.deleted.add(&row_value(before, shape))?,
                    (None, None) => {}
                }
                lists.matches.separate()?;
                write!(lists.matches.file, "{}: {}", json!(key.to_string()), json!(by))
            }
            Event::Skipped { reason } => lists
                .skipped
                .add(&json!({"key": key_value(key, shape), "skipped": reason})),
            Event::Failed { reason } => lists
                .skipped
                .add(&json!({"key": key_value(key, shape), "failed": reason})),
        }
    }
}

fn row_value(row: &Row, shape: &TableShape) -> serde_json::Value {
    let field = |(column, cell): (&crate::model::ColumnShape, &crate::model::Cell)| {
        (column.name.clone(), json!(cell.as_str()))
    };
    shape
        .columns
        .iter()
        .zip(&row.0)
        .map(field)
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn key_value(key: &Key, shape: &TableShape) -> serde_json::Value {
    let names = shape.key_columns().map(|column| column.name.clone());
    names
        .zip(key.0.iter().map(|part| json!(part)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
