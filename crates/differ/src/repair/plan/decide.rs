//! Which action is meant for a pair of rows.

use std::collections::BTreeSet;

use super::when::Undecided;
use super::{
    Action, ActionKind, ApplyMode, CustomValue, DifferenceType, KeySelector, PlanPair, Rule, StaleRepairs,
    TableDecisions,
};

/// The action for a pair, and the part of the plan that said so.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'p> {
    /// What to do.
    pub action: &'p Action,
    /// The name of the override or rule; `table_default`, `global_default`.
    pub by: &'p str,
}

/// Why a plan says nothing that could be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDecision {
    /// The plan is about other tables.
    #[error("the plan says nothing about {table}; it has {known}")]
    Table {
        /// The table that is to be repaired.
        table: String,
        /// Those of the plan.
        known: String,
    },
    /// The plan names a column that the table does not have.
    #[error("{by} of the plan names the column {column}, which the table does not have")]
    Column {
        /// Rule or override.
        by: String,
        /// The column.
        column: String,
    },
    /// Keys of the plan do not have the table's key columns.
    #[error("{by} of the plan: {what}; the key is ({key})")]
    Key {
        /// Rule or override.
        by: String,
        /// What is wrong.
        what: &'static str,
        /// The key's columns.
        key: String,
    },
    /// The plan goes by what MySQL and MariaDB do not keep.
    #[error("{by} of the plan goes by {what}, which MySQL and MariaDB do not keep")]
    NotKept {
        /// Rule or override.
        by: String,
        /// What is missing.
        what: &'static str,
    },
    /// No rule matches and there is no default.
    #[error(
        "no rule matches and the plan has no default_action; add one, {{type: skip}} to leave such rows alone"
    )]
    Default,
    /// The action has nothing to work with.
    #[error("{by}: {reason}")]
    Impossible {
        /// Rule or override.
        by: String,
        /// Why.
        reason: String,
    },
    /// A condition has no answer.
    #[error("{by}: {cause}")]
    Undecided {
        /// Rule.
        by: String,
        /// Why.
        cause: Undecided,
    },
}

impl<'p> TableDecisions<'p> {
    /// Checks that the plan speaks of columns that there are, before anything is done.
    ///
    /// # Errors
    /// [`NoDecision::Column`] and [`NoDecision::Key`].
    pub fn check(&self, key: &[String], columns: &[String]) -> Result<(), NoDecision> {
        let known = |by: &str, column: &str| {
            let metadata = matches!(column, "commit_ts" | "node_origin");
            if metadata || columns.iter().any(|known| known == column) {
                return Ok(());
            }
            Err(NoDecision::Column {
                by: by.to_owned(),
                column: column.to_owned(),
            })
        };
        let wrong_key = |by: &str, what: &'static str| NoDecision::Key {
            by: by.to_owned(),
            what,
            key: key.join(", "),
        };
        for row in &self.table.row_overrides {
            let named: BTreeSet<_> = row.key.keys().collect();
            if named != key.iter().collect() {
                return Err(wrong_key(&row.name, "its pk has other columns"));
            }
        }
        for rule in &self.table.rules {
            for column in rule.columns_changed.iter().map(String::as_str) {
                known(&rule.name, column)?;
            }
            for column in rule.when.iter().flat_map(|when| when.columns()) {
                known(&rule.name, column)?;
            }
            rule.check_keys(key.len())
                .map_err(|what| wrong_key(&rule.name, what))?;
        }
        for (by, action) in self.actions() {
            for column in action.columns() {
                known(by, column)?;
            }
        }
        Ok(())
    }

    /// Checks that the plan does well without commit times and origins. Taken as NULL, they would decide about rows without
    /// anybody noticing.
    ///
    /// # Errors
    /// [`NoDecision::NotKept`].
    pub fn check_without_commit_times(&self, columns: &[String]) -> Result<(), NoDecision> {
        let refuse = |by: &str, column: &str| {
            let what = match column {
                "commit_ts" => "commit times (commit_ts)",
                "node_origin" => "origins (node_origin)",
                _ => return Ok(()),
            };
            if columns.iter().any(|known| known == column) {
                return Ok(());
            }
            Err(NoDecision::NotKept {
                by: by.to_owned(),
                what,
            })
        };
        for rule in &self.table.rules {
            for column in rule.when.iter().flat_map(|when| when.columns()) {
                refuse(&rule.name, column)?;
            }
        }
        for (by, action) in self.actions() {
            for column in action.columns() {
                refuse(by, column)?;
            }
            if action.stale_repairs() == StaleRepairs::Refused {
                return Err(NoDecision::NotKept {
                    by: by.to_owned(),
                    what: "commit times (allow_stale_repairs: false)",
                });
            }
        }
        Ok(())
    }

    fn actions(&self) -> impl Iterator<Item = (&'p str, &'p Action)> {
        let overrides = self
            .table
            .row_overrides
            .iter()
            .map(|row| (row.name.as_str(), &row.action));
        let rules = self
            .table
            .rules
            .iter()
            .map(|rule| (rule.name.as_str(), &rule.action));
        let table = self
            .table
            .default_action
            .iter()
            .map(|action| ("table_default", action));
        let global = self.global.iter().map(|action| ("global_default", *action));
        overrides.chain(rules).chain(table).chain(global)
    }

    /// The action for a pair.
    ///
    /// # Errors
    /// [`NoDecision`] where the plan has no word for the pair, or one that cannot be followed.
    pub fn decide(&self, pair: &PlanPair<'_>) -> Result<Decided<'p>, NoDecision> {
        let decided = self.find(pair)?;
        match decided.action.kind.impossible(pair.difference_type()) {
            None => Ok(decided),
            Some(reason) => Err(NoDecision::Impossible {
                by: decided.by.to_owned(),
                reason,
            }),
        }
    }

    fn find(&self, pair: &PlanPair<'_>) -> Result<Decided<'p>, NoDecision> {
        for row in &self.table.row_overrides {
            if row
                .key
                .iter()
                .all(|(column, value)| pair.key_value(column).is(value))
            {
                return Ok(Decided {
                    action: &row.action,
                    by: &row.name,
                });
            }
        }
        for rule in &self.table.rules {
            let matches = rule.matches(pair).map_err(|cause| NoDecision::Undecided {
                by: rule.name.clone(),
                cause,
            })?;
            if matches {
                return Ok(Decided {
                    action: &rule.action,
                    by: &rule.name,
                });
            }
        }
        let table = self
            .table
            .default_action
            .as_ref()
            .map(|action| (action, "table_default"));
        let global = self.global.map(|action| (action, "global_default"));
        let (action, by) = table.or(global).ok_or(NoDecision::Default)?;
        Ok(Decided { action, by })
    }
}

impl Rule {
    /// All selectors that are given have to hold.
    fn matches(&self, pair: &PlanPair<'_>) -> Result<bool, Undecided> {
        let kind = pair.difference_type();
        let in_keys = self.key_in.is_empty() || self.key_in.iter().any(|selector| selector.selects(pair));
        let of_type = self.difference_types.is_empty() || self.difference_types.contains(&kind);
        let in_columns = self.columns_changed.is_empty()
            || self
                .columns_changed
                .iter()
                .any(|column| pair.changed.contains(column));
        if !(in_keys && of_type && in_columns) {
            return Ok(false);
        }
        self.when.as_ref().map_or(Ok(true), |when| when.holds(pair))
    }

    fn check_keys(&self, columns: usize) -> Result<(), &'static str> {
        for selector in &self.key_in {
            match selector {
                KeySelector::Range(..) if columns != 1 => return Err("a range needs a key of one column"),
                KeySelector::Equals(keys) if keys.iter().any(|key| key.len() != columns) => {
                    return Err("a key of equals has another number of columns");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl KeySelector {
    fn selects(&self, pair: &PlanPair<'_>) -> bool {
        match self {
            Self::Equals(keys) => {
                let values: Vec<_> = pair.key.iter().map(|column| pair.key_value(column)).collect();
                keys.iter().any(|key| {
                    key.len() == values.len()
                        && values.iter().zip(key).all(|(value, literal)| value.is(literal))
                })
            }
            Self::Range(from, to) => {
                let [column] = pair.key else { return false };
                let value = pair.key_value(column);
                value.against(from).is_some_and(std::cmp::Ordering::is_ge)
                    && value.against(to).is_some_and(std::cmp::Ordering::is_le)
            }
        }
    }
}

impl Action {
    fn columns(&self) -> Vec<&str> {
        let ActionKind::Custom(custom) = &self.kind else {
            return Vec::new();
        };
        let named = custom.columns.keys();
        let referred = custom.columns.values().filter_map(|value| match value {
            CustomValue::Column(_, column) => Some(column),
            CustomValue::Literal(_) => None,
        });
        let freshest = custom.freshest.iter().map(|freshest| &freshest.column);
        named
            .chain(referred)
            .chain(freshest)
            .map(String::as_str)
            .collect()
    }
}

impl ActionKind {
    /// Why the action makes no sense for such a difference.
    pub(super) fn impossible(&self, kind: DifferenceType) -> Option<String> {
        let absent = match kind {
            DifferenceType::MissingOn(place) | DifferenceType::DeletedOn(place) => Some(place),
            DifferenceType::RowMismatch => None,
        };
        match (self, absent) {
            (Self::Keep(place), Some(absent)) if *place == absent => Some(format!(
                "keep_{0} needs a row on {0}, and the difference is {1}; to remove the row use delete",
                place.word(),
                kind.word()
            )),
            (Self::ApplyFrom(place, _), Some(absent)) if *place == absent => Some(format!(
                "apply_from {0} needs a row on {0}, and the difference is {1}; to remove the row use delete",
                place.word(),
                kind.word()
            )),
            (Self::ApplyFrom(_, ApplyMode::Insert), None) => {
                Some("apply_from with mode insert cannot change a row that is there: row_mismatch".into())
            }
            _ => None,
        }
    }
}
