//! The repair of a node as SQL.

use std::sync::Arc;

use changeling_core::ident::TableName;

use crate::model::{Cell, ColumnShape, Generation, Identity, Key, NodeName, Row, TableShape};
use crate::postgres::{quote, quote_table, quote_text};
use crate::repair::script::{Scribe, line};

/// Settings that change what a text means.
const HEAD: &str = "SET TimeZone = 'UTC';\nSET DateStyle = 'ISO, YMD';\nSET IntervalStyle = 'postgres';\n\
    SET extra_float_digits = 1;\nSET bytea_output = 'hex';\nSET lc_monetary = 'C';\nBEGIN;\nSET CONSTRAINTS ALL DEFERRED;\n";

/// Writes PostgreSQL's statements about one node's table.
pub(super) struct PgScribe {
    pub(super) node: NodeName,
    pub(super) table: TableName,
    pub(super) shape: Arc<TableShape>,
}

impl Scribe for PgScribe {
    fn head(&self) -> String {
        let table = quote_table(&self.table);
        format!("-- {} on {}\n{HEAD}", line(&table), line(self.node.as_str()))
    }

    fn statement(&self, key: &Key, before: Option<&Row>, after: Option<&Row>) -> String {
        let (shape, table) = (&*self.shape, quote_table(&self.table));
        match (before, after) {
            (None, Some(after)) => insert(shape, &table, after),
            (Some(before), None) => format!("DELETE FROM {table} WHERE {}", is_still(shape, key, before)),
            (Some(before), Some(after)) => update(shape, &table, key, before, after),
            (None, None) => String::new(),
        }
    }
}

fn insert(shape: &TableShape, table: &str, row: &Row) -> String {
    let written = |(column, _): &(&ColumnShape, &Cell)| column.generation == Generation::Never;
    let (names, values): (Vec<_>, Vec<_>) = shape
        .columns
        .iter()
        .zip(&row.0)
        .filter(written)
        .map(|(column, cell)| (quote(&column.name), literal(cell, column)))
        .unzip();
    format!(
        "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT DO NOTHING",
        names.join(", "),
        values.join(", ")
    )
}

fn update(shape: &TableShape, table: &str, key: &Key, before: &Row, after: &Row) -> String {
    let columns = || shape.columns.iter().zip(before.0.iter().zip(&after.0));
    let fixed =
        columns().any(|(column, (before, after))| column.identity == Identity::Always && before != after);
    if fixed {
        // Only INSERT can give such a column a value.
        let condition = is_still(shape, key, before);
        let values = insert(shape, table, after);
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

fn is_still(shape: &TableShape, key: &Key, before: &Row) -> String {
    let mut conditions: Vec<String> = shape
        .key_columns()
        .zip(&key.0)
        .map(|(column, part)| {
            format!(
                "{} = {}",
                quote(&column.name),
                literal(&Cell::of(&**part), column)
            )
        })
        .collect();
    for (position, (column, cell)) in shape.columns.iter().zip(&before.0).enumerate() {
        if shape.is_key(position) || column.generation != Generation::Never {
            continue;
        }
        let name = quote(&column.name);
        conditions.push(match cell.as_str() {
            None => format!("{name} IS NULL"),
            Some(text) => format!("{name}::text = {}", quote_text(text)),
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
