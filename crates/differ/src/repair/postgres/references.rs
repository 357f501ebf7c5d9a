//! Rows that refer to those that are written, and rows that these refer to.

use super::target::{PgTarget, key_columns};
use crate::model::Key;
use crate::repair::target::{Departure, Ground, Refusal};

impl PgTarget {
    pub(super) async fn referenced_now(
        &mut self,
        keys: &[Key],
        departure: Departure,
    ) -> Result<Vec<Option<String>>, Refusal> {
        let mut found = vec![None; keys.len()];
        let references = match departure {
            Departure::Deleted => self.referring.len(),
            Departure::Moved => self.followed.len(),
        };
        for place in 0..references {
            let reference = match departure {
                Departure::Deleted => &self.referring[place],
                Departure::Moved => &self.followed[place],
            };
            let text = format!(
                "{} WHERE EXISTS (SELECT FROM {} AS r WHERE {})",
                self.keys_of_table(),
                reference.table,
                reference.matches()
            );
            let table = reference.table.clone();
            for row in self
                .query(&text, &key_columns(keys, self.shape.key.len()))
                .await?
            {
                let index: i64 = row.get(0);
                if let Some(place) = usize::try_from(index - 1)
                    .ok()
                    .and_then(|place| found.get_mut(place))
                {
                    *place = Some(table.clone());
                }
            }
        }
        Ok(found)
    }

    /// Checks the foreign keys of these rows where the server was told not to. As the server does, it locks the rows that
    /// they refer to first: one that is being deleted is waited for, and one that is there stays until the commit.
    pub(super) async fn check_references(&mut self, keys: &[Key]) -> Result<(), Refusal> {
        for place in 0..self.referred.len() {
            let reference = &self.referred[place];
            let lock = format!(
                "SELECT q.i FROM {} JOIN {} AS r ON {} FOR KEY SHARE OF r",
                self.statements.located,
                reference.table,
                reference.matches()
            );
            self.query(&lock, &key_columns(keys, self.shape.key.len()))
                .await?;
            let reference = &self.referred[place];
            let given: Vec<_> = reference
                .columns
                .iter()
                .map(|(_, ours)| format!("t.{ours} IS NOT NULL"))
                .collect();
            let text = format!(
                "{} WHERE {} AND NOT EXISTS (SELECT FROM {} AS r WHERE {})",
                self.keys_of_table(),
                given.join(" AND "),
                reference.table,
                reference.matches()
            );
            let table = reference.table.clone();
            if !self
                .query(&text, &key_columns(keys, self.shape.key.len()))
                .await?
                .is_empty()
            {
                return Err(Refusal::Rows {
                    ground: Ground::Constraint,
                    message: format!("there is no row in {table} for it; repair that table first"),
                });
            }
        }
        Ok(())
    }

    fn keys_of_table(&self) -> String {
        format!("SELECT q.i FROM {}", self.statements.located)
    }
}
