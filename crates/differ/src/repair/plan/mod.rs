//! Repair plans: which of two differing rows is right, rule by rule.
//!
//! The language is pgEdge ACE's. A plan is a YAML document (so a JSON document is one too):
//!
//! ```yaml
//! version: 1
//! default_action: {type: skip}
//! tables:
//!   public.customers:
//!     default_action: {type: keep_n1}
//!     rules:
//!       - name: eu
//!         diff_type: [row_mismatch, missing_on_n2]
//!         when: "n1.region = 'eu'"
//!         action: {type: keep_n1}
//!     row_overrides:
//!       - pk: {id: 42}
//!         action: {type: delete}
//! ```
//!
//! The most particular word wins: a row override, then the first rule that matches, then the table's default, then the
//! plan's. `n1` and `n2` are the two nodes of a pair in the order of its name (`n1/n2`), whatever the nodes are called.
//!
//! Nothing in a plan is passed over: a word that is not known is an error that names its line and column.

mod decide;
mod document;
mod reader;
mod resolve;
mod value;
pub mod when;

use std::collections::BTreeMap;

pub use decide::{Decided, NoDecision};
pub use resolve::{Change, NewCell, NewRow, Resolution, Unresolved};
pub use value::{Incomparable, PlanKind, Value};

use when::Condition;

/// One of the two nodes of a pair, by its place in the pair's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The first.
    N1,
    /// The second.
    N2,
}

impl Place {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::N1 => Self::N2,
            Self::N2 => Self::N1,
        }
    }

    /// The word for it in plans.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::N1 => "n1",
            Self::N2 => "n2",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        match word {
            "n1" => Some(Self::N1),
            "n2" => Some(Self::N2),
            _ => None,
        }
    }
}

/// How the rows of a pair differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DifferenceType {
    /// Both nodes have the row, with different values.
    RowMismatch,
    /// Only the other node has the row.
    MissingOn(Place),
    /// The row was deleted on this node. A comparison of two tables cannot tell this from a row that never was: no
    /// difference is of this type, a rule that asks for nothing else never matches.
    DeletedOn(Place),
}

impl DifferenceType {
    /// The word for it in plans.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RowMismatch => "row_mismatch",
            Self::MissingOn(Place::N1) => "missing_on_n1",
            Self::MissingOn(Place::N2) => "missing_on_n2",
            Self::DeletedOn(Place::N1) => "deleted_on_n1",
            Self::DeletedOn(Place::N2) => "deleted_on_n2",
        }
    }
}

/// One row of one node, as a plan looks at it.
pub trait PlanRow {
    /// The value of a column, or of `commit_ts` and `node_origin` where the row has no column of that name; `None` for a
    /// name that the row does not know.
    fn value(&self, column: &str) -> Option<Value>;
}

/// The two rows that a decision is about. At least one is there.
pub struct PlanPair<'a> {
    /// Names of the key's columns, in its order.
    pub key: &'a [String],
    /// Names of all columns.
    pub columns: &'a [String],
    /// Those of them whose values differ, byte for byte; empty where one row is missing.
    pub changed: &'a [String],
    /// The first node's row.
    pub n1: Option<&'a dyn PlanRow>,
    /// The second node's row.
    pub n2: Option<&'a dyn PlanRow>,
}

impl<'a> PlanPair<'a> {
    /// How the two differ.
    #[must_use]
    pub fn difference_type(&self) -> DifferenceType {
        match (self.n1.is_some(), self.n2.is_some()) {
            (true, true) => DifferenceType::RowMismatch,
            (true, false) => DifferenceType::MissingOn(Place::N2),
            (false, _) => DifferenceType::MissingOn(Place::N1),
        }
    }

    /// The row of one node.
    #[must_use]
    pub fn row(&self, place: Place) -> Option<&'a dyn PlanRow> {
        match place {
            Place::N1 => self.n1,
            Place::N2 => self.n2,
        }
    }

    /// The value of a key column: equal on both sides, so from whichever there is.
    fn key_value(&self, column: &str) -> Value {
        self.n1
            .or(self.n2)
            .and_then(|row| row.value(column))
            .unwrap_or(Value::Null)
    }
}

/// A plan that was read and found to be sound.
#[derive(Clone, Debug)]
pub struct Plan {
    default_action: Option<Action>,
    tables: BTreeMap<String, TablePlan>,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// [`PlanError`] names the place of the first word that cannot be followed.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        reader::read(text)
    }

    /// The part of the plan for `schema.table`, which has to be there.
    ///
    /// # Errors
    /// [`NoDecision::Table`] names the tables that the plan has.
    pub fn for_table(&self, table: &str) -> Result<TableDecisions<'_>, NoDecision> {
        let Some(plan) = self.tables.get(table) else {
            return Err(NoDecision::Table {
                table: table.to_owned(),
                known: self.tables.keys().cloned().collect::<Vec<_>>().join(", "),
            });
        };
        Ok(TableDecisions {
            table: plan,
            global: self.default_action.as_ref(),
        })
    }
}

/// What a plan says about one table.
#[derive(Clone, Copy, Debug)]
pub struct TableDecisions<'p> {
    table: &'p TablePlan,
    global: Option<&'p Action>,
}

#[derive(Clone, Debug, Default)]
struct TablePlan {
    default_action: Option<Action>,
    rules: Vec<Rule>,
    row_overrides: Vec<RowOverride>,
}

#[derive(Clone, Debug)]
struct RowOverride {
    name: String,
    key: BTreeMap<String, Literal>,
    action: Action,
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    key_in: Vec<KeySelector>,
    difference_types: Vec<DifferenceType>,
    columns_changed: Vec<String>,
    when: Option<Condition>,
    action: Action,
}

#[derive(Clone, Debug)]
enum KeySelector {
    /// One of these keys, each in the order of the key's columns.
    Equals(Vec<Vec<Literal>>),
    /// From and to, both included; for keys of one column.
    Range(Literal, Literal),
}

/// A scalar as the plan's author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Null,
    Plain(String),
    Quoted(String),
}

/// What to do with a pair of rows.
#[derive(Clone, Debug)]
pub struct Action {
    kind: ActionKind,
    allow_stale: StaleRepairs,
}

impl Action {
    /// Whether a row that has been written since the diff may be repaired by this action.
    #[must_use]
    pub fn stale_repairs(&self) -> StaleRepairs {
        self.allow_stale
    }
}

/// `allow_stale_repairs` of an action. Whatever it says, a row whose *values* are no longer those that the diff recorded
/// is left alone: this is about rows that were written again with the values they had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleRepairs {
    /// The default.
    Allowed,
    /// A row is skipped when its commit time is later than the one recorded, or either is unknown.
    Refused,
}

#[derive(Clone, Debug)]
enum ActionKind {
    Keep(Place),
    Skip,
    Delete,
    Bidirectional,
    ApplyFrom(Place, ApplyMode),
    Custom(CustomRow),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApplyMode {
    Replace,
    Upsert,
    Insert,
}

#[derive(Clone, Debug, Default)]
struct CustomRow {
    columns: BTreeMap<String, CustomValue>,
    coalesce: Vec<Place>,
    freshest: Option<Freshest>,
}

#[derive(Clone, Debug)]
enum CustomValue {
    Literal(Literal),
    Column(Place, String),
}

#[derive(Clone, Debug)]
struct Freshest {
    column: String,
    tie: Option<Place>,
}

/// Why a plan cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct PlanError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

#[cfg(test)]
mod tests;
