//! The repair of a node as SQL.

use crate::model::{Key, NodeName, Row};
use crate::mysql::side::WRITING_MODE;
use crate::repair::script::{Scribe, line};
use crate::repair::target::Refusal;

use super::statement::Statements;

/// Writes MySQL's and MariaDB's statements about one node's table.
pub(super) struct MySqlScribe {
    pub(super) node: NodeName,
    pub(super) statements: Statements,
}

impl Scribe for MySqlScribe {
    fn head(&self) -> String {
        format!(
            "-- {} on {}\nSET NAMES utf8mb4 COLLATE utf8mb4_bin;\n\
             SET SESSION time_zone = '+00:00', sql_mode = '{WRITING_MODE}', foreign_key_checks = 1, unique_checks = 1;\n\
             START TRANSACTION;\n",
            line(&self.statements.plan.source),
            line(self.node.as_str())
        )
    }

    fn statement(&self, key: &Key, before: Option<&Row>, after: Option<&Row>) -> String {
        // What was written could be written down.
        self.written(key, before, after)
            .unwrap_or_else(|_| "DO 0 -- a value that cannot be written".into())
    }
}

impl MySqlScribe {
    fn written(&self, key: &Key, before: Option<&Row>, after: Option<&Row>) -> Result<String, Refusal> {
        let statements = &self.statements;
        match (before, after) {
            (None, Some(after)) => {
                // A row that is there by now is left as it is.
                let some = statements.name(statements.shape.key[0]);
                Ok(format!(
                    "{}{} ON DUPLICATE KEY UPDATE {some} = {some}",
                    statements.insert_head(),
                    statements.values(after)?
                ))
            }
            (Some(before), None) => Ok(format!(
                "{} AND {}",
                statements.delete(key),
                self.is_still(before)?
            )),
            (Some(before), Some(after)) => Ok(format!(
                "{} AND {}",
                statements.update(key, before, after)?,
                self.is_still(before)?
            )),
            (None, None) => Ok("DO 0".into()),
        }
    }

    /// Compares bytes: no collation makes a row look like what it was.
    fn is_still(&self, before: &Row) -> Result<String, Refusal> {
        let mut conditions = Vec::new();
        for position in self.statements.writable() {
            let name = self.statements.name(position);
            conditions.push(match before.0[position].as_str() {
                None => format!("{name} IS NULL"),
                Some(text) => {
                    let now = self.statements.plan.columns[position].text_of(&name);
                    let then = changeling_core::ident::quote_text(text);
                    format!("CAST({now} AS BINARY) = CAST({then} AS BINARY)")
                }
            });
        }
        Ok(conditions.join(" AND "))
    }
}
