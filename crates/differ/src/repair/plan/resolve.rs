//! From an action to the rows that shall be there.

use std::cmp::Ordering;

use super::{Action, ActionKind, CustomRow, CustomValue, Freshest, Incomparable, Place, PlanPair, Value};

/// What shall become of the row on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Leave,
    /// It becomes a copy of the other node's row.
    Copy,
    /// It becomes this row.
    Put(NewRow),
    /// It is deleted.
    Remove,
}

/// What shall become of the rows of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// On the first node.
    pub n1: Change,
    /// On the second.
    pub n2: Change,
}

/// A row put together by a plan: each column's name and value.
pub type NewRow = Vec<(String, NewCell)>;

/// Where a value of a new row comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewCell {
    /// From this column of the row on this node.
    Column(Place, String),
    /// From the plan; `None` is NULL.
    Text(Option<String>),
}

/// Why an action has no result for a pair of rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The row refers to a row that is not there.
    #[error("custom_row takes {column} from {place}, which does not have the row")]
    NoRow {
        /// `n1` or `n2`.
        place: &'static str,
        /// The column.
        column: String,
    },
    /// The row would get another key.
    #[error("custom_row would change the key column {0}; a key stays what it is")]
    Key(String),
    /// The sides differ in a column that the action does not speak of.
    #[error(
        "the custom row leaves {0} open, in which the nodes differ: name it in custom_row or use helpers"
    )]
    Open(String),
    /// Neither row is fresher.
    #[error("pick_freshest: neither row is fresher by {0}; give it a tie")]
    Tie(String),
    /// The freshness of the rows cannot be compared.
    #[error("pick_freshest: {0}")]
    Freshness(#[from] Incomparable),
}

impl Action {
    /// What the action means for a pair that [`decide`](super::TableDecisions::decide) found it for.
    ///
    /// `bidirectional` leaves rows alone that both nodes have: which of them is right it does not say.
    ///
    /// # Errors
    /// [`Unresolved`], for custom rows only.
    pub fn resolve(&self, pair: &PlanPair<'_>) -> Result<Resolution, Unresolved> {
        let copy_to = |target: Place| match target {
            Place::N1 => Resolution {
                n1: Change::Copy,
                n2: Change::Leave,
            },
            Place::N2 => Resolution {
                n1: Change::Leave,
                n2: Change::Copy,
            },
        };
        let leave = Resolution {
            n1: Change::Leave,
            n2: Change::Leave,
        };
        Ok(match &self.kind {
            ActionKind::Skip => leave,
            ActionKind::Keep(source) | ActionKind::ApplyFrom(source, _) => copy_to(source.other()),
            ActionKind::Bidirectional => match (pair.n1.is_some(), pair.n2.is_some()) {
                (true, false) => copy_to(Place::N2),
                (false, true) => copy_to(Place::N1),
                _ => leave,
            },
            ActionKind::Delete => Resolution {
                n1: removal(pair.n1.is_some()),
                n2: removal(pair.n2.is_some()),
            },
            ActionKind::Custom(custom) => {
                let row = custom.row(pair)?;
                Resolution {
                    n1: Change::Put(row.clone()),
                    n2: Change::Put(row),
                }
            }
        })
    }
}

fn removal(there: bool) -> Change {
    if there { Change::Remove } else { Change::Leave }
}

impl CustomRow {
    fn row(&self, pair: &PlanPair<'_>) -> Result<NewRow, Unresolved> {
        let fresher = match &self.freshest {
            Some(freshest) if self.leaves_open(pair) => freshest.choose(pair)?,
            _ => None,
        };
        let mut row = NewRow::new();
        for column in pair.columns {
            let cell = match self.columns.get(column) {
                Some(value) => named_cell(value, column, pair)?,
                None => self.other_cell(column, fresher, pair)?,
            };
            row.push((column.clone(), cell));
        }
        Ok(row)
    }

    /// Whether a column outside of the key is left to the helper of last resort.
    fn leaves_open(&self, pair: &PlanPair<'_>) -> bool {
        pair.columns
            .iter()
            .any(|column| !self.columns.contains_key(column) && !pair.key.contains(column))
    }

    fn other_cell(
        &self,
        column: &str,
        fresher: Option<Place>,
        pair: &PlanPair<'_>,
    ) -> Result<NewCell, Unresolved> {
        let cell = |place| Ok(NewCell::Column(place, column.to_owned()));
        let there = if pair.n1.is_some() { Place::N1 } else { Place::N2 };
        if pair.key.iter().any(|key| key == column) {
            return cell(there);
        }
        let filled = |place: &Place| {
            let value = pair.row(*place).and_then(|row| row.value(column));
            value.is_some_and(|value| value != Value::Null)
        };
        if let Some(place) = self.coalesce.iter().copied().find(filled) {
            return cell(place);
        }
        if let Some(place) = fresher {
            return cell(place);
        }
        // Here it is the same on both, or one row only is there.
        if pair.changed.iter().any(|changed| changed == column) {
            return Err(Unresolved::Open(column.to_owned()));
        }
        cell(there)
    }
}

fn named_cell(value: &CustomValue, column: &str, pair: &PlanPair<'_>) -> Result<NewCell, Unresolved> {
    let in_key = pair.key.iter().any(|key| key == column);
    match value {
        CustomValue::Literal(literal) => {
            if !in_key {
                return Ok(NewCell::Text(literal.text().map(str::to_owned)));
            }
            same_key(pair.key_value(column).is(literal), column)?;
            let there = if pair.n1.is_some() { Place::N1 } else { Place::N2 };
            Ok(NewCell::Column(there, column.to_owned()))
        }
        CustomValue::Column(place, source) => {
            if pair.row(*place).is_none() {
                return Err(Unresolved::NoRow {
                    place: place.word(),
                    column: source.clone(),
                });
            }
            same_key(!in_key || source == column, column)?;
            Ok(NewCell::Column(*place, source.clone()))
        }
    }
}

fn same_key(same: bool, column: &str) -> Result<(), Unresolved> {
    if same {
        Ok(())
    } else {
        Err(Unresolved::Key(column.to_owned()))
    }
}

impl Freshest {
    /// The place of the fresher row: a row beside none, a value beside NULL, else the greater value, else the tie.
    fn choose(&self, pair: &PlanPair<'_>) -> Result<Option<Place>, Unresolved> {
        let value = |place| {
            let value = pair.row(place).and_then(|row| row.value(&self.column));
            value.filter(|value| *value != Value::Null)
        };
        let order = match (value(Place::N1), value(Place::N2)) {
            (Some(n1), Some(n2)) => n1.compare(">", &n2)?,
            (n1, n2) => n1.is_some().cmp(&n2.is_some()),
        };
        match (order, self.tie) {
            (Ordering::Greater, _) => Ok(Some(Place::N1)),
            (Ordering::Less, _) => Ok(Some(Place::N2)),
            (Ordering::Equal, Some(tie)) if pair.row(tie).is_some() => Ok(Some(tie)),
            (Ordering::Equal, _) => Err(Unresolved::Tie(self.column.clone())),
        }
    }
}
