//! The statements that write one node's table. Each row is found by its key through the index: a statement about many keys
//! uses the index or not as the server pleases, and locks what it reads.

use std::sync::Arc;

use changeling_core::ident::quote;

use crate::model::{Cell, Generation, Key, Row, TableShape};
use crate::mysql::side::TablePlan;
use crate::repair::target::{Ground, Refusal};

/// Bytes of statements that are sent at once: few round trips, little memory.
const STATEMENT_BYTES: usize = 1024 * 1024;

/// What a packet has beside the statement.
const PACKET_HEAD: usize = 1024;

/// Writes the statements of one node's table.
#[derive(Clone)]
pub(super) struct Statements {
    pub(super) plan: Arc<TablePlan>,
    pub(super) shape: Arc<TableShape>,
    /// The longest that the server takes, in bytes.
    pub(super) packet: usize,
}

fn refused(message: String) -> Refusal {
    Refusal::Rows {
        ground: Ground::Row,
        message,
    }
}

impl Statements {
    /// Positions of the columns that can be written.
    pub(super) fn writable(&self) -> impl Iterator<Item = usize> + '_ {
        let columns = self.shape.columns.iter().enumerate();
        columns
            .filter(|(_, column)| column.generation == Generation::Never)
            .map(|(position, _)| position)
    }

    pub(super) fn name(&self, position: usize) -> String {
        quote(&self.plan.columns[position].name)
    }

    /// A value as it is written.
    pub(super) fn literal(&self, position: usize, cell: &Cell) -> Result<String, Refusal> {
        let Some(text) = cell.as_str() else {
            return Ok("NULL".into());
        };
        let column = &self.plan.columns[position];
        column
            .literal(text)
            .ok_or_else(|| refused(format!("{text:?} is no value of column {}", column.name)))
    }

    /// `INSERT INTO t (a, b) VALUES `
    pub(super) fn insert_head(&self) -> String {
        let names: Vec<String> = self.writable().map(|position| self.name(position)).collect();
        format!("INSERT INTO {} ({}) VALUES ", self.plan.source, names.join(", "))
    }

    /// `(1, 'x')`
    pub(super) fn values(&self, row: &Row) -> Result<String, Refusal> {
        let values: Result<Vec<String>, Refusal> = self
            .writable()
            .map(|position| self.literal(position, &row.0[position]))
            .collect();
        Ok(format!("({})", values?.join(", ")))
    }

    /// `a = 1, b = b`: what stays stays what it is, byte for byte, and a column that the server would set by itself
    /// (`ON UPDATE CURRENT_TIMESTAMP`) is not set.
    pub(super) fn assignments(&self, before: &Row, after: &Row) -> Result<String, Refusal> {
        let mut set = Vec::new();
        for position in self.writable() {
            let name = self.name(position);
            if before.0[position] != after.0[position] {
                set.push(format!(
                    "{name} = {}",
                    self.literal(position, &after.0[position])?
                ));
            } else if !self.shape.is_key(position) {
                set.push(format!("{name} = {name}"));
            }
        }
        Ok(set.join(", "))
    }

    pub(super) fn update(&self, key: &Key, before: &Row, after: &Row) -> Result<String, Refusal> {
        Ok(format!(
            "UPDATE {} SET {} WHERE {}",
            self.plan.source,
            self.assignments(before, after)?,
            self.plan.is_at("", key)
        ))
    }

    pub(super) fn delete(&self, key: &Key) -> String {
        format!(
            "DELETE FROM {} WHERE {}",
            self.plan.source,
            self.plan.is_at("", key)
        )
    }

    /// Joins parts to texts that the server takes, each beginning with `head`.
    pub(super) fn packed(
        &self,
        head: &str,
        separator: &str,
        parts: impl IntoIterator<Item = Result<String, Refusal>>,
    ) -> Result<Vec<String>, Refusal> {
        let most = self.packet.saturating_sub(PACKET_HEAD);
        let wanted = most.min(STATEMENT_BYTES);
        let mut texts: Vec<String> = Vec::new();
        for part in parts {
            let part = part?;
            let length = head.len() + part.len();
            if length > most {
                return Err(refused(format!(
                    "its statement has {length} bytes, and the server takes {most}; raise max_allowed_packet"
                )));
            }
            match texts.last_mut() {
                Some(text) if text.len() + separator.len() + part.len() <= wanted => {
                    text.push_str(separator);
                    text.push_str(&part);
                }
                _ => texts.push(format!("{head}{part}")),
            }
        }
        Ok(texts)
    }
}
