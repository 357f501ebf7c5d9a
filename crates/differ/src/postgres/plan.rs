//! What is known about comparing one table once all nodes have agreed: expressions and session settings.

use std::collections::BTreeMap;

use crate::model::{Comparison, TableShape, ValueKind};
use crate::range::Partition;

use super::ident::quote;

/// How a row's hash is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowHash {
    /// Each column's text is hashed with the hash of the columns before it as seed (`hashtextextended`).
    Chained,
    /// SHA-256 over the length-tagged texts, its first eight bytes; for nodes on which the first differs.
    Sha256,
}

/// By what order the key is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkOrder {
    /// The column's own, which the key's index has.
    Native,
    /// The bytes of the key's text: for nodes that sort the key differently. Seldom has an index.
    Bytes,
}

/// How a column's text is got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextForm {
    /// The column is text already.
    Plain,
    /// `::text`.
    Cast,
    /// The type's output function, because somebody defined a cast of their own to text that may lose something.
    Output,
}

/// Which numbers a column's values hold whose texts are not unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// None.
    None,
    /// Decimals, as elements of arrays or bounds of ranges.
    Decimals,
    /// Floating-point numbers, as elements, bounds or coordinates.
    Floats,
    /// Decimals in a JSON document, which holds other texts as well.
    Json,
    /// Some or others, at places that only the type knows: composite types, arrays of documents.
    OutOfReach,
}

/// Removes a decimal's zeros at the end: `1.00`, `1.50`.
const DECIMALS: &str = r"(\d)\.0+(?!\d)|(\.\d*[1-9])0+(?!\d)";

/// The same outside of a document's texts.
const JSON: &str = r#"("(?:[^"\\]|\\.)*")|(\d)\.0+(?!\d)|(\.\d*[1-9])0+(?!\d)"#;

/// A zero with a sign.
const SIGNED_ZERO: &str = r"(^|[^0-9.eE])-0(?![0-9.eE])";

/// What of a column is hashed. A number costs a quarter of what its text does; all nodes take the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashInput {
    /// Its text.
    Text,
    /// The number itself: at most 32 bits, of which the typed hash uses all.
    Int4,
    /// Its two halves: the typed hash of a whole `bigint` would fold it to 32 bits.
    Int8,
}

/// A compared column in this node's SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedColumn {
    /// Its name.
    pub(super) name: String,
    /// How its text is got.
    pub(super) form: TextForm,
    /// What it holds.
    pub(super) kind: ValueKind,
    /// Whether it is an array, to which scalar normalisation does not apply.
    pub(super) array: bool,
    /// What numbers are inside of its values.
    pub(super) numbers: Numbers,
    /// What of it is hashed, where it is not NULL.
    pub(super) input: HashInput,
}

impl PlannedColumn {
    /// Its text, with the table as `t`.
    pub(super) fn text(&self, comparison: Comparison) -> String {
        let text = self.own_text(comparison);
        if comparison == Comparison::Exact {
            return text;
        }
        let (pattern, replacement) = match self.numbers {
            Numbers::None | Numbers::OutOfReach => return text,
            Numbers::Decimals => (DECIMALS, r"\1\2"),
            Numbers::Json => (JSON, r"\1\2\3"),
            Numbers::Floats => (SIGNED_ZERO, r"\10"),
        };
        format!("pg_catalog.regexp_replace({text}, '{pattern}', '{replacement}', 'g')")
    }

    fn own_text(&self, comparison: Comparison) -> String {
        let column = format!("t.{}", quote(&self.name));
        match (comparison, self.kind, self.array) {
            (Comparison::Semantic, ValueKind::Decimal, false) => {
                return format!("pg_catalog.trim_scale({column})::text");
            }
            // Adding zero turns -0 into 0 and leaves everything else as it is.
            (Comparison::Semantic, ValueKind::Float, false) => return format!("({column} + 0)::text"),
            _ => {}
        }
        match self.form {
            TextForm::Plain => column,
            TextForm::Cast => format!("{column}::text"),
            TextForm::Output => format!("pg_catalog.format('%s', {column})"),
        }
    }
}

/// A key column in this node's SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedKey {
    /// Position among the columns.
    pub(super) column: usize,
    /// The type to which its text is cast to be compared with the column; a domain's base type.
    pub(super) cast_type: String,
    /// Whether that is one of the server's own, whose operators are, too: one that somebody has made in a schema which the
    /// operator's filter has searched is then not taken for it.
    pub(super) built_in: bool,
}

/// Everything that the statements for one node's table depend on.
#[derive(Clone, Debug)]
pub(super) struct TablePlan {
    /// The shape on which the nodes agreed.
    pub(super) shape: TableShape,
    /// This node's table, quoted, with `ONLY` where children must not be read.
    pub(super) source: String,
    /// What is read instead where a range is of one partition.
    pub(super) partitions: BTreeMap<Partition, String>,
    /// Columns in the shape's order.
    pub(super) columns: Vec<PlannedColumn>,
    /// The key's columns in key order.
    pub(super) key: Vec<PlannedKey>,
    /// By what order it is walked.
    pub(super) order: WalkOrder,
    /// How rows are hashed.
    pub(super) hash: RowHash,
    /// When values are the same.
    pub(super) comparison: Comparison,
    /// The job's own first seed: no data can have been made with it in mind.
    pub(super) seed: i64,
    /// Stands for NULL in the chain: 128 bits drawn for this job, so that no value equals it.
    pub(super) null_text: String,
    /// The operator's predicate, checked to be balanced.
    pub(super) filter: Option<String>,
    /// Whether the database's own encoding is UTF-8, so that its texts sort by their UTF-8 bytes.
    pub(super) utf8: bool,
    /// Whether the server keeps commit times.
    pub(super) commit_times: bool,
    /// Schemas that must be searched for the operators of the key's types.
    pub(super) search_path: Vec<String>,
}
