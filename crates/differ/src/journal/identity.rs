//! What must be the same for a journal to be gone on with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{DiffSettings, DiffSubject};
use crate::model::{Comparison, NodeName, TableShape};

/// One node, as far as it must not have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Its name.
    pub name: NodeName,
    /// Which server, database and table; no address, which may change, and no secret.
    pub server: String,
    /// By what it sorts the key. Ranges of two orders do not fit together: a row between two keys in one order may be
    /// elsewhere in the other, and would be in no range at all.
    pub order: String,
}

/// What is compared and when it is the same. Sizes of blocks, limits and the number of workers are not part of it:
/// they change which ranges are cut, never what a finished one means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobIdentity {
    /// The nodes, in order.
    pub nodes: Vec<NodeIdentity>,
    /// The table, its columns, their types, its key.
    pub shape: TableShape,
    /// When values are the same.
    pub comparison: Comparison,
    /// The operator's own predicate.
    pub table_filter: Option<String>,
    /// Only differences with a version last written by this origin.
    pub against_origin: Option<String>,
    /// Versions committed later are not judged.
    pub until: Option<Timestamp>,
    /// The share of ranges looked at.
    pub sample: Option<f64>,
}

impl JobIdentity {
    /// Of a comparison that is about to start.
    #[must_use]
    pub fn of(subject: &DiffSubject, settings: &DiffSettings) -> Self {
        let nodes = subject.sides.iter().map(|side| {
            let identity = side.identity();
            NodeIdentity {
                name: side.node().clone(),
                server: identity.server,
                order: identity.order,
            }
        });
        Self {
            nodes: nodes.collect(),
            shape: subject.shape.clone(),
            comparison: subject.comparison,
            table_filter: subject.table_filter.clone(),
            against_origin: settings.against_origin.clone(),
            until: settings.until,
            sample: settings.sample,
        }
    }

    /// What is not as it was when `before` was written, in words.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        self.changed_nodes(before, &mut changes);
        self.changed_shape(before, &mut changes);
        let mut setting = |what: &str, was: Option<String>, is: Option<String>| {
            if was != is {
                let told = |value: Option<String>| value.unwrap_or_else(|| "not given".into());
                changes.push(format!("{what} was {}, and is {}", told(was), told(is)));
            }
        };
        let comparison = |identity: &Self| Some(format!("{:?}", identity.comparison).to_lowercase());
        setting("--compare", comparison(before), comparison(self));
        setting(
            "--table-filter",
            before.table_filter.clone(),
            self.table_filter.clone(),
        );
        setting(
            "--against-origin",
            before.against_origin.clone(),
            self.against_origin.clone(),
        );
        let until = |identity: &Self| identity.until.map(|time| time.to_string());
        setting("--until", until(before), until(self));
        let sample = |identity: &Self| identity.sample.map(|share| share.to_string());
        setting("--sample", sample(before), sample(self));
        if changes.is_empty() && self != before {
            changes.push("something else about the comparison changed".into());
        }
        changes
    }

    fn changed_nodes(&self, before: &Self, changes: &mut Vec<String>) {
        let names = |identity: &Self| {
            let names: Vec<&str> = identity.nodes.iter().map(|node| node.name.as_str()).collect();
            names.join(", ")
        };
        if names(self) != names(before) {
            changes.push(format!(
                "the nodes were {}, and are {}",
                names(before),
                names(self)
            ));
            return;
        }
        for (is, was) in self.nodes.iter().zip(&before.nodes) {
            if is.server != was.server {
                changes.push(format!("{} was {}, and is {}", is.name, was.server, is.server));
            } else if is.order != was.order {
                changes.push(format!(
                    "{} sorted the key by {}, and now does by {}",
                    is.name, was.order, is.order
                ));
            }
        }
    }

    fn changed_shape(&self, before: &Self, changes: &mut Vec<String>) {
        let (is, was) = (&self.shape, &before.shape);
        if is == was {
            return;
        }
        let count = changes.len();
        if is.name != was.name {
            changes.push(format!("the table was {}, and is {}", was.name, is.name));
        }
        for column in &was.columns {
            match is.position(&column.name) {
                None => changes.push(format!("column {:?} is not compared any more", column.name)),
                Some(place) if is.columns[place] != *column => changes.push(format!(
                    "column {:?} was {}, and is {} or otherwise different",
                    column.name, column.type_text, is.columns[place].type_text
                )),
                Some(_) => {}
            }
        }
        for column in &is.columns {
            if was.position(&column.name).is_none() {
                changes.push(format!("column {:?} was not compared", column.name));
            }
        }
        let key = |shape: &TableShape| {
            let names: Vec<&str> = shape.key_columns().map(|column| column.name.as_str()).collect();
            names.join(", ")
        };
        if key(is) != key(was) {
            changes.push(format!("the key was ({}), and is ({})", key(was), key(is)));
        }
        if is.partitions != was.partitions {
            changes.push("the partitions in which the table is compared are not those that they were".into());
        }
        if changes.len() == count {
            changes.push("the table's definition changed".into());
        }
    }
}
