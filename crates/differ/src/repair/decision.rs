//! What shall become of the rows under one key, decided on the rows as they are now.

use std::fmt;

use super::loosely::same_loosely;
use super::plan::{
    Change, NewCell, NewRow, NoDecision, Place, PlanKind, PlanPair, PlanRow, StaleRepairs, TableDecisions,
    Unresolved, Value,
};
use super::policy::{CopyMode, Policy};
use crate::model::{Cell, ColumnShape, Comparison, Generation, Origin, Row, TableShape, ValueKind};
use crate::report::recorded::{RecordedDifference, RecordedImage};

/// A row as a node has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its values.
    pub row: Row,
    /// RFC 3339; `None` where the server does not keep it.
    pub commit_ts: Option<String>,
    /// Who wrote it.
    pub origin: Option<Origin>,
}

/// Why a row was left alone that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It is no longer what the diff recorded.
    Changed,
    /// It was written since the diff, with the values it had, and the plan wants no such row.
    Stale,
    /// The rows changed such that the plan now says something else.
    OtherDecision,
    /// The plan has no word for the rows as they are now.
    NoDecision(String),
    /// Other rows refer to it and would be deleted or changed too.
    Referenced(String),
    /// A value in the report is none of its column's type.
    Unreadable(String),
    /// Somebody else inserted a row with its key or another unique value.
    Inserted,
    /// Several nodes have it, with different values, and only what is missing is copied.
    Conflict,
    /// It differs by now between nodes that did not differ when the report was written.
    Unlisted,
    /// It differs only in these columns, which the server computes.
    Generated(Vec<String>),
    /// It would be deleted, and was written since the diff, perhaps in columns that were not compared.
    Rewritten,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("the row is no longer what the diff recorded"),
            Self::Stale => {
                f.write_str("the row was written after the diff, and allow_stale_repairs is false")
            }
            Self::OtherDecision => {
                f.write_str("the rows changed, and the plan says something else about them now")
            }
            Self::NoDecision(why) => write!(f, "the plan cannot be followed: {why}"),
            Self::Referenced(by) => write!(
                f,
                "rows of {by} refer to it and would be deleted or changed with it"
            ),
            Self::Unreadable(why) => write!(f, "the report's values are not of the table's types: {why}"),
            Self::Inserted => f.write_str("another row has its key or another of its unique values"),
            Self::Conflict => f.write_str(
                "the nodes have it with different values, and both ways only copies rows that are missing; say who is right \
                 with --source-of-truth or a plan",
            ),
            Self::Unlisted => f.write_str(
                "it differs by now on a node that had no other row than the one that is right when the report was written; run \
                 table-diff again",
            ),
            Self::Generated(columns) => write!(
                f,
                "the nodes compute {} differently, and what a server computes cannot be written; make the definitions the same",
                columns.join(", ")
            ),
            Self::Rewritten => f.write_str(
                "it would be deleted, and was written since the diff, perhaps in a column that was not compared",
            ),
        }
    }
}

/// A row that a node shall have.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The row; `None` for none.
    pub(super) row: Option<Row>,
    /// Which rule or mode said so.
    pub(super) by: String,
    /// The node from which the row was copied, if it was.
    pub(super) source: Option<usize>,
    pub(super) stale: StaleRepairs,
    pub(super) wording: Wording,
}

/// Whose words a wanted row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wording {
    /// All values were read from nodes.
    Servers,
    /// Some stand in the plan as its author wrote them: `5` where the server will say `5.00`.
    Plans,
}

/// What each node shall have; `None` where nothing shall be done.
pub(super) type Wants = Vec<Option<Wanted>>;

/// Decides under a policy.
pub(super) struct Decider<'a> {
    pub(super) shape: &'a TableShape,
    pub(super) policy: &'a Policy,
    pub(super) decisions: Option<TableDecisions<'a>>,
    pub(super) key: Vec<String>,
    pub(super) columns: Vec<String>,
    /// When values were the same to the report.
    pub(super) comparison: Comparison,
}

impl Decider<'_> {
    /// What each node shall have, given what each has.
    pub(super) fn wants(
        &self,
        pairs: &[(usize, usize)],
        now: &[Option<NodeRow>],
    ) -> Result<Wants, NoDecision> {
        let mut rows: Vec<Option<NodeRow>> = now.to_vec();
        let mut wants: Wants = vec![None; now.len()];
        if self.conflict(pairs, now) {
            return Ok(wants);
        }
        for &(a, b) in pairs {
            let pair = self.pair(a, b, &rows)?;
            for (node, want) in [(a, pair.0), (b, pair.1)] {
                let Some(want) = want else { continue };
                // What follows decides on the row as it will be.
                let before = rows[node].take();
                rows[node] = want.row.clone().map(|row| NodeRow {
                    row,
                    commit_ts: before.as_ref().and_then(|before| before.commit_ts.clone()),
                    origin: before.and_then(|before| before.origin),
                });
                wants[node] = Some(want);
            }
        }
        for (want, now) in wants.iter_mut().zip(now) {
            let same = |want: &Wanted| self.same(want.row.as_ref(), now.as_ref().map(|now| &now.row));
            if want.as_ref().is_some_and(same) {
                *want = None;
            }
        }
        Ok(wants)
    }

    /// Whether two rows are the same in all that can be written.
    pub(super) fn same(&self, one: Option<&Row>, other: Option<&Row>) -> bool {
        match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => self.writable().all(|column| one.0[column] == other.0[column]),
            _ => false,
        }
    }

    fn writable(&self) -> impl Iterator<Item = usize> {
        let columns = self.shape.columns.iter().enumerate();
        columns
            .filter(|(_, column)| column.generation == Generation::Never)
            .map(|(position, _)| position)
    }

    fn pair(
        &self,
        a: usize,
        b: usize,
        rows: &[Option<NodeRow>],
    ) -> Result<(Option<Wanted>, Option<Wanted>), NoDecision> {
        let copy = |from: usize| Wanted {
            row: rows[from].as_ref().map(|row| row.row.clone()),
            by: self.policy.word().into(),
            source: Some(from),
            stale: StaleRepairs::Allowed,
            wording: Wording::Servers,
        };
        let to = |target: usize, want: Wanted| {
            if target == a {
                (Some(want), None)
            } else {
                (None, Some(want))
            }
        };
        match self.policy {
            Policy::SourceOfTruth { source, mode } => {
                let target = match *source {
                    source if source == a => b,
                    source if source == b => a,
                    _ => return Ok((None, None)),
                };
                let wanted = match mode {
                    CopyMode::Full => true,
                    CopyMode::InsertOnly => rows[*source].is_some() && rows[target].is_none(),
                    CopyMode::UpsertOnly => rows[*source].is_some(),
                };
                Ok(if wanted {
                    to(target, copy(*source))
                } else {
                    (None, None)
                })
            }
            Policy::Bidirectional => Ok(match (&rows[a], &rows[b]) {
                (Some(_), None) => to(b, copy(a)),
                (None, Some(_)) => to(a, copy(b)),
                _ => (None, None),
            }),
            Policy::FixNulls => Ok(self.fix_nulls(rows[a].as_ref(), rows[b].as_ref())),
            Policy::Plan(_) => self.planned(a, b, rows),
        }
    }

    fn fix_nulls(&self, a: Option<&NodeRow>, b: Option<&NodeRow>) -> (Option<Wanted>, Option<Wanted>) {
        let (Some(a), Some(b)) = (a, b) else {
            return (None, None);
        };
        let filled = |row: &Row, other: &Row| {
            let cell = |column: usize| match (&row.0[column], &other.0[column]) {
                (cell, value) if cell.text.is_none() => value.clone(),
                (cell, _) => cell.clone(),
            };
            let row = Row((0..row.0.len()).map(cell).collect());
            Wanted {
                row: Some(row),
                by: self.policy.word().into(),
                source: None,
                stale: StaleRepairs::Allowed,
                wording: Wording::Servers,
            }
        };
        (Some(filled(&a.row, &b.row)), Some(filled(&b.row, &a.row)))
    }

    fn planned(
        &self,
        a: usize,
        b: usize,
        rows: &[Option<NodeRow>],
    ) -> Result<(Option<Wanted>, Option<Wanted>), NoDecision> {
        let Some(decisions) = self.decisions else {
            return Ok((None, None));
        };
        let (n1, n2) = (rows[a].as_ref(), rows[b].as_ref());
        if self.same(n1.map(|row| &row.row), n2.map(|row| &row.row)) {
            return Ok((None, None));
        }
        let changed = self.changed(n1, n2);
        let views = (n1.map(|row| self.view(row)), n2.map(|row| self.view(row)));
        let pair = PlanPair {
            key: &self.key,
            columns: &self.columns,
            changed: &changed,
            n1: views.0.as_ref().map(|view| view as &dyn PlanRow),
            n2: views.1.as_ref().map(|view| view as &dyn PlanRow),
        };
        let decided = decisions.decide(&pair)?;
        let resolution = decided
            .action
            .resolve(&pair)
            .map_err(|why: Unresolved| NoDecision::Impossible {
                by: decided.by.to_owned(),
                reason: why.to_string(),
            })?;
        let want = |change: Change, other: usize| {
            let mut wording = Wording::Servers;
            let (row, source) = match change {
                Change::Leave => return None,
                Change::Remove => (None, None),
                Change::Copy => (rows[other].as_ref().map(|row| row.row.clone()), Some(other)),
                Change::Put(row) => {
                    if row.iter().any(|(_, cell)| matches!(cell, NewCell::Text(Some(_)))) {
                        wording = Wording::Plans;
                    }
                    (Some(self.put(&row, n1, n2)), None)
                }
            };
            Some(Wanted {
                row,
                by: decided.by.to_owned(),
                source,
                stale: decided.action.stale_repairs(),
                wording,
            })
        };
        Ok((want(resolution.n1, b), want(resolution.n2, a)))
    }

    fn put(&self, row: &NewRow, n1: Option<&NodeRow>, n2: Option<&NodeRow>) -> Row {
        let cell = |cell: &NewCell| match cell {
            NewCell::Text(text) => Cell::from(text.as_deref()),
            NewCell::Column(place, column) => {
                let row = match place {
                    Place::N1 => n1,
                    Place::N2 => n2,
                };
                let position = self.shape.position(column);
                let cell = row
                    .zip(position)
                    .map(|(row, position)| row.row.0[position].clone());
                cell.unwrap_or_default()
            }
        };
        Row(row.iter().map(|(_, new)| cell(new)).collect())
    }

    fn changed(&self, n1: Option<&NodeRow>, n2: Option<&NodeRow>) -> Vec<String> {
        let (Some(n1), Some(n2)) = (n1, n2) else {
            return Vec::new();
        };
        let differs = |(position, _): &(usize, &String)| n1.row.0[*position] != n2.row.0[*position];
        let columns = self.columns.iter().enumerate();
        columns.filter(differs).map(|(_, name)| name.clone()).collect()
    }

    fn view<'r>(&'r self, row: &'r NodeRow) -> RowView<'r> {
        RowView {
            shape: self.shape,
            row,
        }
    }

    /// Whether the row of one node is what the report recorded. `recorded` holds the report's values in the words of
    /// the server, `None` for a column that the report does not have.
    pub(super) fn unchanged(&self, now: Option<&Row>, recorded: Option<&[Option<Cell>]>) -> bool {
        match (now, recorded) {
            (None, None) => true,
            (Some(now), Some(recorded)) => {
                now.0
                    .iter()
                    .zip(recorded)
                    .zip(&self.shape.columns)
                    .all(|((now, recorded), column)| {
                        recorded
                            .as_ref()
                            .is_none_or(|recorded| self.equal(now, recorded, column))
                    })
            }
            _ => false,
        }
    }

    /// Whether a plan decides on the recorded rows as on the present ones. Reports of ACE know some rows of a key only;
    /// pairs of which it does not know both are not asked.
    pub(super) fn as_recorded(
        &self,
        difference: &RecordedDifference,
        recorded: &[Option<Row>],
        now: &Wants,
    ) -> bool {
        if self.decisions.is_none() {
            return true;
        }
        let listed = |node: usize| !matches!(difference.images[node], RecordedImage::NotListed);
        let pairs: Vec<_> = difference
            .pairs
            .iter()
            .copied()
            .filter(|(a, b)| listed(*a) && listed(*b))
            .collect();
        let rows: Vec<Option<NodeRow>> = recorded
            .iter()
            .zip(&difference.images)
            .map(|(row, image)| {
                let commit_ts = match image {
                    RecordedImage::Present { commit_ts, .. } => commit_ts.clone(),
                    _ => None,
                };
                let origin = match image {
                    RecordedImage::Present {
                        origin: Some(origin), ..
                    } => Some(match origin.as_str() {
                        "local" => Origin::Local,
                        name => Origin::Node(name.to_owned()),
                    }),
                    _ => None,
                };
                row.clone().map(|row| NodeRow {
                    row,
                    commit_ts,
                    origin,
                })
            })
            .collect();
        let by = |wants: &Wants| -> Vec<Option<String>> {
            wants
                .iter()
                .map(|want| want.as_ref().map(|want| want.by.clone()))
                .collect()
        };
        self.wants(&pairs, &rows).is_ok_and(|then| by(&then) == by(now))
    }
}

impl Decider<'_> {
    /// Equal texts, or equal numbers: other programs write a decimal's zeros otherwise.
    fn equal(&self, now: &Cell, recorded: &Cell, column: &ColumnShape) -> bool {
        if now == recorded {
            return true;
        }
        match (now.as_str(), recorded.as_str(), column.kind) {
            (Some(now), Some(recorded), ValueKind::Decimal) => {
                Value::of_text(now, PlanKind::Number) == Value::of_text(recorded, PlanKind::Number)
            }
            (Some(now), Some(recorded), _) if self.comparison == Comparison::Semantic => {
                same_loosely(now, recorded, column)
            }
            _ => false,
        }
    }
}

struct RowView<'a> {
    shape: &'a TableShape,
    row: &'a NodeRow,
}

impl PlanRow for RowView<'_> {
    fn value(&self, column: &str) -> Option<Value> {
        let Some(position) = self.shape.position(column) else {
            return self.metadata(column);
        };
        let shape = &self.shape.columns[position];
        let text = self.row.row.0[position].as_str();
        Some(text.map_or(Value::Null, |text| Value::of_text(text, plan_kind(shape))))
    }
}

/// MySQL's BIT is a number; PostgreSQL's is a text, and so is its kind.
fn plan_kind(column: &ColumnShape) -> PlanKind {
    match column.kind {
        ValueKind::Integer | ValueKind::Decimal | ValueKind::Float => PlanKind::Number,
        _ => PlanKind::of_type(&column.type_text),
    }
}

impl RowView<'_> {
    fn metadata(&self, column: &str) -> Option<Value> {
        let text = match column {
            "commit_ts" => self
                .row
                .commit_ts
                .clone()
                .map(|text| Value::of_text(&text, PlanKind::Instant)),
            "node_origin" => self.row.origin.as_ref().map(|origin| {
                Value::Text(match origin {
                    Origin::Local => "local".into(),
                    Origin::Node(name) => name.clone(),
                    Origin::Id(id) => id.to_string(),
                })
            }),
            _ => return None,
        };
        Some(text.unwrap_or(Value::Null))
    }
}
