//! What several nodes' tables have in common: the shape that is compared, and each node's own plan for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    ColumnShape, Comparison, Dialect, Generation, Identity, KeyIdentity, KeySource, NodeName, TableShape,
};

use super::catalog::{PgColumn, PgKey, PgTable, UTF8};
use super::partition::CommonPartitions;
use super::plan::{HashInput, Numbers, PlannedColumn, PlannedKey, RowHash, TablePlan, WalkOrder};

/// Why the tables cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// A column is missing somewhere.
    #[error(
        "column {column:?} exists on {there} and not on {missing}; the tables are not the same. To compare the others, \
         leave it out: --ignore-columns {column}"
    )]
    Column {
        /// The column.
        column: String,
        /// A node that has it.
        there: String,
        /// A node that has not.
        missing: String,
    },
    /// The operator named a column that is nowhere.
    #[error("there is no column {0:?} to leave out or compare")]
    NoSuchColumn(String),
    /// Nothing identifies a row.
    #[error(
        "the nodes have no key in common by which rows can be matched: neither a primary key nor a unique index on \
         NOT NULL columns that are all compared ({keys}). Give the table one on every node"
    )]
    Key {
        /// What each node has.
        keys: String,
    },
    /// A column may not be read.
    #[error(
        "{node}: this role may not read column {column:?}; GRANT SELECT on it, or leave it out: --ignore-columns {column}"
    )]
    Unreadable {
        /// The node.
        node: String,
        /// The column.
        column: String,
    },
    /// Commit times are needed and not kept.
    #[error(
        "{node}: --until and --against-origin need commit times; set track_commit_timestamp = on and restart"
    )]
    CommitTimes {
        /// The node.
        node: String,
    },
}

/// Which columns are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ColumnChoice {
    /// All.
    #[default]
    All,
    /// All but these.
    Except(Vec<String>),
    /// These, and the key's.
    Only(Vec<String>),
    /// Those of these that every node has and shows, and the key's: for a report that may be older than the tables. What is
    /// missing is not compared, and whoever asks has to say so.
    Still(Vec<String>),
}

/// What does not depend on the tables.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) choice: ColumnChoice,
    pub(super) comparison: Comparison,
    pub(super) filter: Option<String>,
    pub(super) seed: i64,
    pub(super) null_text: String,
    pub(super) needs_commit_times: bool,
}

/// The plans, one for each table, and what the operator should know.
pub(super) fn agree(
    tables: &[PgTable],
    terms: &Terms,
) -> Result<(Vec<TablePlan>, Vec<String>), Disagreement> {
    let mut notes: Vec<String> = tables.iter().flat_map(|table| table.notes.clone()).collect();
    check_choice(tables, &terms.choice)?;
    if terms.needs_commit_times
        && let Some(table) = tables.iter().find(|table| !table.commit_times)
    {
        return Err(Disagreement::CommitTimes {
            node: table.node.to_string(),
        });
    }
    let key = common_key(tables, &terms.choice)?;
    let (compared, ignored) = compared_columns(tables, &terms.choice, &key)?;
    let columns: Vec<ColumnShape> = compared
        .iter()
        .map(|name| column_shape(tables, name, &mut notes))
        .collect();
    if terms.comparison == Comparison::Semantic {
        notes.extend(out_of_reach(tables, &compared));
    }
    let order = walk_order(tables, &key, &mut notes);
    let common = CommonPartitions::of(tables, order, &mut notes);
    let shape = TableShape {
        dialect: Dialect::Postgres,
        name: tables[0].name.clone(),
        key: key
            .columns
            .iter()
            .filter_map(|name| compared.iter().position(|column| column == name))
            .collect(),
        columns,
        key_source: if key.primary {
            KeySource::PrimaryKey
        } else {
            KeySource::UniqueIndex(key.index.clone())
        },
        key_identity: match order {
            WalkOrder::Native => KeyIdentity::Value,
            WalkOrder::Bytes => KeyIdentity::Text,
        },
        ignored,
        partitions: common.partitions,
    };
    let mut plans: Vec<TablePlan> = tables
        .iter()
        .map(|table| plan(table, tables, &shape, order, terms))
        .collect();
    for (plan, sources) in plans.iter_mut().zip(common.sources) {
        plan.partitions = sources;
    }
    Ok((plans, notes))
}

fn find<'a>(table: &'a PgTable, name: &str) -> Option<&'a PgColumn> {
    table.columns.iter().find(|column| column.name == name)
}

/// Whether every name is somewhere; of columns that were once there that is not asked.
fn check_choice(tables: &[PgTable], choice: &ColumnChoice) -> Result<(), Disagreement> {
    let (ColumnChoice::Except(names) | ColumnChoice::Only(names)) = choice else {
        return Ok(());
    };
    match names
        .iter()
        .find(|name| tables.iter().all(|table| find(table, name).is_none()))
    {
        Some(name) => Err(Disagreement::NoSuchColumn(name.clone())),
        None => Ok(()),
    }
}

/// The first key of the first node that every node has, on the same columns, in whatever order.
fn common_key(tables: &[PgTable], choice: &ColumnChoice) -> Result<PgKey, Disagreement> {
    let set = |key: &PgKey| key.columns.iter().cloned().collect::<BTreeSet<_>>();
    let compared = |key: &PgKey| match choice {
        ColumnChoice::Except(names) => !key.columns.iter().any(|column| names.contains(column)),
        ColumnChoice::All | ColumnChoice::Only(_) | ColumnChoice::Still(_) => true,
    };
    let everywhere = |key: &PgKey| {
        tables
            .iter()
            .all(|table| table.keys.iter().any(|other| set(other) == set(key)))
    };
    let mut common: Vec<&PgKey> = tables[0]
        .keys
        .iter()
        .filter(|key| compared(key) && everywhere(key))
        .collect();
    common.sort_by_key(|key| (!key.primary, !key.replica_identity));
    common.first().map(|&key| key.clone()).ok_or_else(|| {
        let described = |table: &PgTable| {
            let keys: Vec<String> = table.keys.iter().map(|key| key.columns.join(",")).collect();
            format!(
                "{}: {}",
                table.node,
                if keys.is_empty() {
                    "none".into()
                } else {
                    keys.join("; ")
                }
            )
        };
        Disagreement::Key {
            keys: tables.iter().map(described).collect::<Vec<_>>().join(", "),
        }
    })
}

/// Names in the first node's order, and those left out.
fn compared_columns(
    tables: &[PgTable],
    choice: &ColumnChoice,
    key: &PgKey,
) -> Result<(Vec<String>, Vec<String>), Disagreement> {
    let wanted = |name: &String| match choice {
        ColumnChoice::All => true,
        ColumnChoice::Except(names) => !names.contains(name),
        ColumnChoice::Only(names) => names.contains(name) || key.columns.contains(name),
        ColumnChoice::Still(names) => {
            let shown = |table| find(table, name).is_some_and(|column| column.readable);
            key.columns.contains(name) || names.contains(name) && tables.iter().all(shown)
        }
    };
    let mut names: Vec<&String> = Vec::new();
    for column in tables.iter().flat_map(|table| &table.columns) {
        if !names.contains(&&column.name) {
            names.push(&column.name);
        }
    }
    let (compared, ignored): (Vec<&String>, Vec<&String>) = names.into_iter().partition(|name| wanted(name));
    for name in &compared {
        for table in tables {
            match find(table, name) {
                Some(column) if !column.readable => {
                    return Err(Disagreement::Unreadable {
                        node: table.node.to_string(),
                        column: (*name).clone(),
                    });
                }
                Some(_) => {}
                None => {
                    let there = tables.iter().find(|table| find(table, name).is_some());
                    return Err(Disagreement::Column {
                        column: (*name).clone(),
                        there: there.map_or_else(String::new, |table| table.node.to_string()),
                        missing: table.node.to_string(),
                    });
                }
            }
        }
    }
    let owned = |names: Vec<&String>| names.into_iter().cloned().collect();
    Ok((owned(compared), owned(ignored)))
}

fn column_shape(tables: &[PgTable], name: &str, notes: &mut Vec<String>) -> ColumnShape {
    let everywhere: Vec<&PgColumn> = tables.iter().filter_map(|table| find(table, name)).collect();
    let first = everywhere[0];
    for (table, column) in tables.iter().zip(&everywhere) {
        if column.type_text != first.type_text {
            notes.push(format!(
                "column {name:?} is {} on {} and {} on {}; their texts are compared",
                first.type_text, tables[0].node, column.type_text, table.node
            ));
        }
    }
    let definitions = tables
        .iter()
        .zip(&everywhere)
        .map(|(table, column)| (&table.node, column.expression.as_deref()));
    notes.extend(generated_otherwise(name, definitions));
    let generation = everywhere.iter().map(|column| column.generation);
    let identity = everywhere.iter().map(|column| column.identity);
    ColumnShape {
        name: name.to_owned(),
        type_text: first.type_text.clone(),
        cast_type: first.cast_type.clone(),
        kind: first.kind,
        nullable: everywhere.iter().any(|column| column.nullable),
        generation: generation
            .max_by_key(|&is| is != Generation::Never)
            .unwrap_or_default(),
        identity: identity
            .max_by_key(|is| match is {
                Identity::None => 0,
                Identity::ByDefault => 1,
                Identity::Always => 2,
            })
            .unwrap_or_default(),
    }
}

/// What to say of a column that is not computed in the same way on all nodes: rows differ by it for ever, and it cannot be
/// written.
pub(crate) fn generated_otherwise<'a>(
    column: &str,
    definitions: impl Iterator<Item = (&'a NodeName, Option<&'a str>)>,
) -> Option<String> {
    let definitions: Vec<_> = definitions.collect();
    if definitions.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        return None;
    }
    let told: Vec<String> = definitions
        .iter()
        .map(|(node, expression)| match expression {
            Some(expression) => format!("computed as {expression} on {node}"),
            None => format!("not computed on {node}"),
        })
        .collect();
    Some(format!(
        "the definitions of the generated column {column:?} differ: it is {}. Rows differ by it until the definitions are the \
         same; table-repair cannot write it",
        told.join(", ")
    ))
}

/// Columns with numbers inside that a semantic comparison does not find.
fn out_of_reach(tables: &[PgTable], compared: &[String]) -> Vec<String> {
    let note = |name: &String| {
        let mut columns = tables.iter().filter_map(|table| find(table, name));
        let column = columns.find(|column| column.numbers == Numbers::OutOfReach)?;
        Some(format!(
            "column {name:?} is {}: --compare semantic does not reach numbers inside of it, they are compared by their texts",
            column.type_text
        ))
    };
    compared.iter().filter_map(note).collect()
}

/// The key's own order, if all nodes sort alike.
fn walk_order(tables: &[PgTable], key: &PgKey, notes: &mut Vec<String>) -> WalkOrder {
    for name in &key.columns {
        let mut columns = tables
            .iter()
            .filter_map(|table| find(table, name).map(|column| (table, column)));
        let Some((first_table, first)) = columns.next() else {
            continue;
        };
        let other = columns
            .find(|(_, column)| column.sorting != first.sorting || column.base_type != first.base_type);
        if let Some((table, _)) = other {
            notes.push(format!(
                "{} and {} sort key column {name:?} differently; ranges follow the bytes of its text, which is slow \
                 without an index on it",
                first_table.node, table.node
            ));
            return WalkOrder::Bytes;
        }
    }
    WalkOrder::Native
}

/// Numbers are hashed as such only where they are of one type on all nodes and nearly never NULL: a row with a NULL in one
/// of these columns is hashed a second time, by its texts.
fn hash_input(tables: &[PgTable], name: &str) -> HashInput {
    let mut columns = tables.iter().filter_map(|table| find(table, name));
    let Some(first) = columns.next() else {
        return HashInput::Text;
    };
    let built_in = first.base_schema == "pg_catalog" && !first.nullable;
    if !built_in || columns.any(|column| column.base_type != first.base_type || column.nullable) {
        return HashInput::Text;
    }
    match first.base_type.as_str() {
        "integer" | "smallint" => HashInput::Int4,
        "bigint" => HashInput::Int8,
        _ => HashInput::Text,
    }
}

fn plan(
    table: &PgTable,
    tables: &[PgTable],
    shape: &TableShape,
    order: WalkOrder,
    terms: &Terms,
) -> TablePlan {
    let mut columns = Vec::with_capacity(shape.columns.len());
    let mut search_path = BTreeSet::new();
    for shaped in &shape.columns {
        let Some(column) = find(table, &shaped.name) else {
            continue;
        };
        columns.push(PlannedColumn {
            name: column.name.clone(),
            form: column.form,
            kind: column.kind,
            array: column.array,
            numbers: column.numbers,
            input: hash_input(tables, &shaped.name),
        });
    }
    let mut key = Vec::with_capacity(shape.key.len());
    for &position in &shape.key {
        let Some(column) = find(table, &shape.columns[position].name) else {
            continue;
        };
        if column.base_schema != "pg_catalog" {
            search_path.insert(column.base_schema.clone());
        }
        key.push(PlannedKey {
            column: position,
            cast_type: column.base_type.clone(),
            built_in: column.base_schema == "pg_catalog",
        });
    }
    if terms.filter.is_some() {
        // The operator's predicate is written as for any session.
        search_path.extend([table.name.schema.clone(), "public".to_owned()]);
    }
    TablePlan {
        shape: shape.clone(),
        source: table.source.clone(),
        partitions: BTreeMap::new(),
        columns,
        key,
        order,
        hash: RowHash::Chained,
        comparison: terms.comparison,
        seed: terms.seed,
        null_text: terms.null_text.clone(),
        filter: terms.filter.clone(),
        utf8: table.encoding == UTF8,
        commit_times: table.commit_times,
        search_path: search_path.into_iter().collect(),
    }
}
