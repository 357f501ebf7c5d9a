//! The repair of a node as SQL.

use std::sync::Arc;

use changeling_core::ident::TableName;

use crate::model::{Cell, ColumnShape, Generation, Identity, Key, NodeName, Row, TableShape};
use crate::postgres::{quote, quote_table, quote_text};
use crate::repair::script::{Scribe, line};

use super::statement::Conflicts;

/// Settings that change what a text means.
const HEAD: &str = "SET TimeZone = 'UTC';\nSET DateStyle = 'ISO, YMD';\nSET IntervalStyle = 'postgres';\n\
    SET extra_float_digits = 1;\nSET bytea_output = 'hex';\nSET lc_monetary = 'C';\nBEGIN;\nSET CONSTRAINTS ALL DEFERRED;\n";

/// Writes PostgreSQL's statements about one node's table.
pub(super) struct PgScribe {
    pub(super) node: NodeName,
    pub(super) table: TableName,
    pub(super) shape: Arc<TableShape>,
    pub(super) conflicts: Conflicts,
}

impl Scribe for PgScribe {
    fn head(&self) -> String {
        let table = quote_table(&self.table);
        format!("-- {} on {}\n{HEAD}", line(&table), line(self.node.as_str()))
    }

    fn statement(&self, key: &Key, before: Option<&Row>, after: Option<&Row>) -> String {
        let (shape, table) = (&*self.shape, quote_table(&self.table));
        match (before, after) {
            (None, Some(after)) => insert(shape, &table, after, self.conflicts),
            (Some(before), None) => format!("DELETE FROM {table} WHERE {}", is_still(shape, key, before)),
            (Some(before), Some(after)) => self.update(&table, key, before, after),
            (None, None) => String::new(),
        }
    }
}

fn insert(shape: &TableShape, table: &str, row: &Row, conflicts: Conflicts) -> String {
    let written = |(column, _): &(&ColumnShape, &Cell)| column.generation == Generation::Never;
    let (names, values): (Vec<_>, Vec<_>) = shape
        .columns
        .iter()
        .zip(&row.0)
        .filter(written)
        .map(|(column, cell)| (quote(&column.name), literal(cell, column)))
        .unzip();
    let (names, values) = (names.join(", "), values.join(", "));
    match conflicts {
        Conflicts::PassedOver => format!(
            "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values}) ON CONFLICT DO NOTHING"
        ),
        Conflicts::Refused => {
            let there = row.key(shape).map(|key| same_key(shape, &key).join(" AND "));
            format!(
                "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} WHERE NOT EXISTS (SELECT FROM {table} \
                 WHERE {})",
                there.unwrap_or_else(|| "false".into())
            )
        }
    }
}

fn same_key(shape: &TableShape, key: &Key) -> Vec<String> {
    let equal = |(column, part): (&ColumnShape, &str)| {
        format!("{} = {}", quote(&column.name), literal(&Cell::of(part), column))
    };
    let parts = key.0.iter().map(AsRef::as_ref);
    shape.key_columns().zip(parts).map(equal).collect()
}

impl PgScribe {
    fn update(&self, table: &str, key: &Key, before: &Row, after: &Row) -> String {
        let shape = &*self.shape;
        let columns = || shape.columns.iter().zip(before.0.iter().zip(&after.0));
        let fixed =
            columns().any(|(column, (before, after))| column.identity == Identity::Always && before != after);
        if fixed {
            // Only INSERT can give such a column a value.
            let condition = is_still(shape, key, before);
            let values = insert(shape, table, after, self.conflicts);
            return format!("DELETE FROM {table} WHERE {condition};\n{values}");
        }
        let set: Vec<_> = columns()
            .filter(|(column, (before, after))| column.generation == Generation::Never && before != after)
            .map(|(column, (_, after))| format!("{} = {}", quote(&column.name), literal(after, column)))
            .collect();
        format!(
            "UPDATE {table} SET {} WHERE {}",
            set.join(", "),
            is_still(shape, key, before)
        )
    }
}

fn is_still(shape: &TableShape, key: &Key, before: &Row) -> String {
    let mut conditions = same_key(shape, key);
    for (column, cell) in shape.columns.iter().zip(&before.0) {
        if column.generation != Generation::Never {
            continue;
        }
        let name = quote(&column.name);
        conditions.push(match cell.as_str() {
            None => format!("{name} IS NULL"),
            // Bytes: no collation makes a row look like what it was.
            Some(text) => format!("{name}::text COLLATE \"C\" = {}", quote_text(text)),
        });
    }
    conditions.join(" AND ")
}

fn literal(cell: &Cell, column: &ColumnShape) -> String {
    match cell.as_str() {
        None => "NULL".into(),
        Some(text) => format!("{}::{}", quote_text(text), column.cast_type),
    }
}
