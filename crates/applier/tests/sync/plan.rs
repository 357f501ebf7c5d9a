//! Plans made by hand.

use std::sync::Arc;

use changeling_applier::plan::{
    ConflictPolicy, KeyColumn, KeyPlan, MigrationPlan, SessionPlan, SharedColumn, TableNames,
};
use changeling_core::ident::TableName;
use changeling_core::key::Key;
use changeling_core::schema::{Column, ColumnKind, Generated, TableSchema};
use changeling_core::value::Cell;

pub(crate) const INTEGER: ColumnKind = ColumnKind::Integer {
    width: 8,
    unsigned: false,
};

pub(crate) fn text() -> ColumnKind {
    ColumnKind::Text {
        charset: "utf8mb4".into(),
        collation: "utf8mb4_0900_ai_ci".into(),
    }
}

pub(crate) fn column(name: &str, kind: ColumnKind) -> Column {
    Column {
        name: name.into(),
        column_type: String::new(),
        kind,
        nullable: false,
        generated: Generated::No,
        auto_increment: false,
        invisible: false,
    }
}

/// A plan for `schema.table` whose key is these columns, each with its name on the ghost, and which has one more
/// column, `v`.
pub(crate) fn plan(
    schema: &str,
    table: &str,
    key: &[(&str, &str, ColumnKind)],
    conflicts: ConflictPolicy,
) -> MigrationPlan {
    let name = |suffix: &str| TableName::new(schema, format!("_{table}_{suffix}"));
    let original = TableName::new(schema, table);
    let pair = |(source, target, kind): &(&str, &str, ColumnKind)| SharedColumn {
        source: column(source, kind.clone()),
        target: column(target, kind.clone()),
    };
    let mut columns: Vec<SharedColumn> = key.iter().map(pair).collect();
    columns.push(pair(&("v", "v", INTEGER)));
    let schema_of = |name: &TableName, columns: Vec<Column>| TableSchema {
        name: name.clone(),
        columns,
        unique_keys: Vec::new(),
        engine: "InnoDB".into(),
    };
    let key_columns = key.iter().enumerate().map(|(source_index, column)| {
        let pair = pair(column);
        KeyColumn {
            source_index,
            source: pair.source,
            target: pair.target,
            descending: false,
        }
    });
    MigrationPlan {
        original: schema_of(
            &original,
            columns.iter().map(|pair| pair.source.clone()).collect(),
        ),
        ghost: schema_of(
            &name("gho"),
            columns.iter().map(|pair| pair.target.clone()).collect(),
        ),
        names: TableNames {
            original,
            ghost: name("gho"),
            changelog: name("ghc"),
            checkpoint: name("ghk"),
            old: name("del"),
        },
        alter: "ENGINE=InnoDB".into(),
        key: KeyPlan {
            source_name: "PRIMARY".into(),
            target_name: "PRIMARY".into(),
            columns: key_columns.collect(),
        },
        columns,
        filled: Vec::new(),
        conflicts,
        same_unique_keys: vec!["PRIMARY".into()],
        unique_indexes: vec!["PRIMARY".into()],
        session: SessionPlan {
            time_zone: "+00:00".into(),
            sql_mode: String::new(),
        },
        gateways: Vec::new(),
        deferred_indexes: Vec::new(),
    }
}

pub(crate) fn statements(plan: MigrationPlan) -> changeling_applier::sync::statement::Statements {
    changeling_applier::sync::statement::Statements::new(Arc::new(plan))
}

pub(crate) fn number(id: i64) -> Key {
    Key::new(vec![Cell::Int(id)])
}
