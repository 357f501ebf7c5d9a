//! Several MySQL or MariaDB nodes with one table: from their addresses to sides that the engine can compare.

use std::collections::BTreeSet;
use std::sync::Arc;

use changeling_core::ident::TableName;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, try_join_all};

use crate::model::{
    ColumnShape, Comparison, Dialect, Generation, Identity, KeyIdentity, KeySource, NodeName, TableShape,
    ValueKind,
};
use crate::postgres::{ColumnChoice, Disagreement, PrepareError, generated_otherwise};
use crate::range::KeyRange;
use crate::side::{ServerPlans, Session, Side, SideError, SideIdentity, Vitals};

use super::catalog::{MySqlColumn, MySqlKey, MySqlTable};
use super::connect::{MySqlConnection, MySqlServer};
use super::plan::{PlannedColumn, PlannedKey, TablePlan, TextForm};
use super::session::MySqlSession;
use super::vitals::MySqlVitals;

/// A node of the comparison.
#[derive(Clone, Debug)]
pub struct MySqlNode {
    /// How it is reached.
    pub server: MySqlServer,
    /// Its table; nodes may have it under different names.
    pub table: TableName,
}

/// What is compared, beside the nodes.
#[derive(Clone, Debug, Default)]
pub struct MySqlTerms {
    /// Which columns.
    pub columns: ColumnChoice,
    /// When values are the same.
    pub comparison: Comparison,
    /// The operator's own predicate.
    pub filter: Option<String>,
}

/// Nodes that agreed.
pub struct MySqlCluster {
    /// The table as it is compared.
    pub shape: TableShape,
    /// One side a node, in the order given.
    pub sides: Vec<Arc<dyn Side>>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// How each node's rows are read, in the order of the sides.
    pub(crate) plans: Vec<Arc<TablePlan>>,
}

impl MySqlCluster {
    /// Inspects the table on every node and finds out how it can be compared.
    ///
    /// # Errors
    /// A node cannot be reached, the tables have too little in common, the filter is not a predicate.
    pub async fn prepare(nodes: &[MySqlNode], terms: MySqlTerms) -> Result<Self, PrepareError> {
        if nodes.len() < 2 {
            return Err(PrepareError::TooFewNodes(nodes.len()));
        }
        for (index, node) in nodes.iter().enumerate() {
            if nodes[..index]
                .iter()
                .any(|other| other.server.node() == node.server.node())
            {
                return Err(PrepareError::SameName(node.server.node().to_string()));
            }
        }
        if let Some(filter) = &terms.filter {
            crate::postgres::check_filter(filter)?;
        }
        let mut connections = try_join_all(nodes.iter().map(|node| node.server.connect())).await?;
        let tables = try_join_all(
            connections
                .iter_mut()
                .zip(nodes)
                .map(|(connection, node)| MySqlTable::inspect(connection, &node.table)),
        )
        .await?;
        let salt = salt()?;
        let (shape, key, mut notes) = agree(&tables, &terms)?;
        let mut sides: Vec<Arc<dyn Side>> = Vec::with_capacity(nodes.len());
        let mut plans = Vec::with_capacity(nodes.len());
        for ((node, table), connection) in nodes.iter().zip(&tables).zip(&mut connections) {
            let plan = Arc::new(plan(table, &tables, &shape, &key, &terms, &salt, &mut notes));
            plans.push(Arc::clone(&plan));
            // Has the server read it, so that a filter with a mistake in it is refused and not unknown.
            connection
                .all(&format!("EXPLAIN {}", plan.digest(&KeyRange::ALL, 1)))
                .await?;
            sides.push(Arc::new(MySqlSide {
                server: node.server.clone(),
                identity: SideIdentity {
                    server: server_identity(connection, table).await?,
                    order: order(table, &shape, &plan),
                },
                estimate: table.estimate,
                plan,
                table: node.table.clone(),
            }));
        }
        Ok(Self {
            shape,
            sides,
            notes,
            plans,
        })
    }
}

impl std::fmt::Debug for MySqlCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlCluster")
            .field("shape", &self.shape)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

fn salt() -> Result<String, PrepareError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(PrepareError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn find<'a>(table: &'a MySqlTable, name: &str) -> Option<&'a MySqlColumn> {
    table
        .columns
        .iter()
        .find(|column| column.name.to_lowercase() == name.to_lowercase())
}

type Agreed = (TableShape, MySqlKey, Vec<String>);

fn agree(tables: &[MySqlTable], terms: &MySqlTerms) -> Result<Agreed, Disagreement> {
    let key = common_key(tables, &terms.columns)?;
    let mut notes = Vec::new();
    let (mut columns, mut ignored) = (Vec::new(), Vec::new());
    let mut names: Vec<&str> = Vec::new();
    for column in tables.iter().flat_map(|table| &table.columns) {
        if !names
            .iter()
            .any(|name| name.to_lowercase() == column.name.to_lowercase())
        {
            names.push(&column.name);
        }
    }
    if let ColumnChoice::Except(wanted) | ColumnChoice::Only(wanted) = &terms.columns
        && let Some(odd) = wanted
            .iter()
            .find(|name| tables.iter().all(|table| find(table, name).is_none()))
    {
        return Err(Disagreement::NoSuchColumn(odd.clone()));
    }
    let listed = |list: &[String], name: &str| {
        list.iter()
            .any(|other| other.to_lowercase() == name.to_lowercase())
    };
    for name in names {
        let wanted = match &terms.columns {
            ColumnChoice::All => true,
            ColumnChoice::Except(list) => !listed(list, name),
            ColumnChoice::Only(list) => listed(list, name) || listed(&key.columns, name),
            ColumnChoice::Still(list) => {
                let everywhere = tables.iter().all(|table| find(table, name).is_some());
                listed(&key.columns, name) || listed(list, name) && everywhere
            }
        };
        if wanted {
            columns.push(column_shape(tables, name, &mut notes)?);
        } else {
            ignored.push(name.to_owned());
        }
    }
    if terms.comparison == Comparison::Semantic {
        let documents = columns.iter().filter(|column| column.kind == ValueKind::Json);
        notes.extend(documents.map(|column| {
            format!(
                "column {:?} is {}: --compare semantic does not reach numbers inside of it, they are compared by their texts",
                column.name, column.type_text
            )
        }));
    }
    let position = |name: &String| {
        columns
            .iter()
            .position(|column: &ColumnShape| column.name.to_lowercase() == name.to_lowercase())
    };
    let shape = TableShape {
        dialect: if tables.iter().all(|table| table.dialect == Dialect::MariaDb) {
            Dialect::MariaDb
        } else {
            Dialect::MySql
        },
        name: tables[0].name.clone(),
        key: key.columns.iter().filter_map(position).collect(),
        key_identity: match key.columns.iter().any(|name| !sorted_alike(tables, name)) {
            true => KeyIdentity::Text,
            false => KeyIdentity::Value,
        },
        key_source: if key.index == "PRIMARY" {
            KeySource::PrimaryKey
        } else {
            KeySource::UniqueIndex(key.index.clone())
        },
        columns,
        ignored,
        partitions: Vec::new(),
    };
    Ok((shape, key, notes))
}

fn common_key(tables: &[MySqlTable], choice: &ColumnChoice) -> Result<MySqlKey, Disagreement> {
    let set = |key: &MySqlKey| {
        key.columns
            .iter()
            .map(|name| name.to_lowercase())
            .collect::<BTreeSet<_>>()
    };
    let left_out = |key: &MySqlKey| match choice {
        ColumnChoice::Except(names) => names.iter().any(|name| set(key).contains(&name.to_lowercase())),
        _ => false,
    };
    let found = tables[0].keys.iter().find(|key| {
        !left_out(key)
            && tables
                .iter()
                .all(|table| table.keys.iter().any(|other| set(other) == set(key)))
    });
    found.cloned().ok_or_else(|| {
        let keys = tables.iter().map(|table| {
            let keys: Vec<String> = table.keys.iter().map(|key| key.columns.join(",")).collect();
            format!("{}: {}", table.node, keys.join("; "))
        });
        Disagreement::Key {
            keys: keys.collect::<Vec<_>>().join(", "),
        }
    })
}

fn column_shape(
    tables: &[MySqlTable],
    name: &str,
    notes: &mut Vec<String>,
) -> Result<ColumnShape, Disagreement> {
    let mut everywhere = Vec::with_capacity(tables.len());
    for table in tables {
        match find(table, name) {
            Some(column) => everywhere.push(column),
            None => {
                let there = tables.iter().find(|table| find(table, name).is_some());
                return Err(Disagreement::Column {
                    column: name.to_owned(),
                    there: there.map_or_else(String::new, |table| table.node.to_string()),
                    missing: table.node.to_string(),
                });
            }
        }
    }
    let first = everywhere[0];
    for (table, column) in tables.iter().zip(&everywhere) {
        // Versions differ in whether they write a display width.
        if column.data_type != first.data_type {
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
    Ok(ColumnShape {
        name: first.name.clone(),
        type_text: first.type_text.clone(),
        cast_type: first.type_text.clone(),
        kind: first.kind,
        nullable: everywhere.iter().any(|column| column.nullable),
        generation: generation
            .max_by_key(|&is| is != Generation::Never)
            .unwrap_or_default(),
        identity: if everywhere.iter().any(|column| column.identity != Identity::None) {
            Identity::ByDefault
        } else {
            Identity::None
        },
    })
}

/// Whether all nodes sort and compare a key column in the same way.
fn sorted_alike(tables: &[MySqlTable], name: &str) -> bool {
    let told = |table: &MySqlTable| {
        find(table, name).map(|column| (column.sorting.clone(), column.data_type.clone()))
    };
    tables
        .windows(2)
        .all(|pair| told(&pair[0]).is_some() && told(&pair[0]) == told(&pair[1]))
}

fn plan(
    table: &MySqlTable,
    tables: &[MySqlTable],
    shape: &TableShape,
    key: &MySqlKey,
    terms: &MySqlTerms,
    salt: &str,
    notes: &mut Vec<String>,
) -> TablePlan {
    let columns = shape.columns.iter().filter_map(|shaped| {
        let column = find(table, &shaped.name)?;
        Some(PlannedColumn {
            name: column.name.clone(),
            form: match (column.form, terms.comparison) {
                (TextForm::Double, Comparison::Semantic) => TextForm::UnsignedZero,
                (TextForm::Cast, Comparison::Semantic) if column.kind == ValueKind::Decimal => {
                    TextForm::Trimmed
                }
                (form, _) => form,
            },
        })
    });
    let mut planned = Vec::with_capacity(key.columns.len());
    for (name, &position) in key.columns.iter().zip(&shape.key) {
        let Some(literal) = find(table, name).and_then(|column| column.literal) else {
            continue;
        };
        let by_bytes = !sorted_alike(tables, name);
        if by_bytes {
            notes.push(format!(
                "{}: key column {name:?} is not sorted alike on all nodes; ranges follow the bytes of its text, which is \
                 slow without an index on it",
                table.node
            ));
        }
        planned.push(PlannedKey {
            column: position,
            literal,
            by_bytes,
        });
    }
    TablePlan {
        columns: columns.collect(),
        source: table.name.quoted(),
        key: planned,
        salt: salt.to_owned(),
        filter: terms.filter.clone(),
    }
}

/// Which table this is, for a comparison that is resumed later: the server by the number that it gave itself where it
/// has one.
async fn server_identity(connection: &mut MySqlConnection, table: &MySqlTable) -> Result<String, SideError> {
    let rows = connection
        .all(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
             ('server_uuid', 'server_uid', 'server_id', 'hostname', 'port', 'datadir')",
        )
        .await?;
    let value = |wanted: &str| {
        let mut rows = rows.iter();
        rows.find(|row| row.first().and_then(Option::as_deref) == Some(wanted))
            .and_then(|row| row.get(1).cloned().flatten())
    };
    let server = match value("server_uuid").or_else(|| value("server_uid")) {
        Some(number) => number,
        None => ["server_id", "hostname", "port", "datadir"]
            .map(|name| format!("{name} {}", value(name).unwrap_or_default()))
            .join(", "),
    };
    Ok(format!("table {} of server {server}", table.name))
}

/// What the order of the key depends on.
fn order(table: &MySqlTable, shape: &TableShape, plan: &TablePlan) -> String {
    let parts = shape.key_columns().zip(&plan.key).map(|(shaped, key)| {
        if key.by_bytes {
            return format!("{} by the bytes of its text", shaped.name);
        }
        let column = find(table, &shaped.name);
        let kind = column.map_or("", |column| &column.type_text);
        let sorting = column.map_or("", |column| &column.sorting);
        format!("{} {kind} {sorting}", shaped.name).trim_end().to_owned()
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// One node.
struct MySqlSide {
    server: MySqlServer,
    table: TableName,
    identity: SideIdentity,
    estimate: f64,
    plan: Arc<TablePlan>,
}

impl Side for MySqlSide {
    fn node(&self) -> &NodeName {
        self.server.node()
    }

    fn table(&self) -> &TableName {
        &self.table
    }

    fn identity(&self) -> SideIdentity {
        self.identity.clone()
    }

    fn estimate(&self) -> f64 {
        self.estimate
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, SideError>> {
        async move {
            let session: Box<dyn Session> = Box::new(MySqlSession {
                connection: self.server.connect().await?,
                plan: Arc::clone(&self.plan),
            });
            Ok(session)
        }
        .boxed()
    }

    fn vitals(&self) -> BoxFuture<'_, Result<Box<dyn Vitals>, SideError>> {
        async move {
            let connection = self.server.connect().await?;
            let vitals: Box<dyn Vitals> = Box::new(MySqlVitals { connection });
            Ok(vitals)
        }
        .boxed()
    }

    fn statements(&self) -> Vec<(&'static str, String)> {
        const ROWS: u64 = 100_000;
        let all = KeyRange::ALL;
        vec![
            ("end of a block", self.plan.step(&all, ROWS)),
            ("digest of a range", self.plan.digest(&all, 4 * ROWS)),
            ("cuts of a range", self.plan.cuts(&all, ROWS / 16, 16)),
            ("keys and hashes of a range", self.plan.key_digests(&all)),
        ]
    }

    fn plans(&self) -> BoxFuture<'_, Result<ServerPlans, SideError>> {
        const ROWS: u64 = 100_000;
        async move {
            let mut connection = self.server.connect().await?;
            // MariaDB has no tree.
            let explain = match connection.dialect {
                Dialect::MariaDb => "EXPLAIN",
                _ => "EXPLAIN FORMAT=TREE",
            };
            let all = KeyRange::ALL;
            let statements = [
                ("end of the first block", self.plan.step(&all, ROWS)),
                ("digest of the first block", self.plan.digest(&all, ROWS)),
            ];
            let mut plans = Vec::with_capacity(statements.len());
            for (title, text) in statements {
                let rows = connection.all(&format!("{explain} {text}")).await?;
                let lines = rows.into_iter().flat_map(|row| {
                    let row: Vec<String> = row
                        .into_iter()
                        .map(|cell| cell.unwrap_or_else(|| "-".into()))
                        .collect();
                    row.join(" | ").lines().map(str::to_owned).collect::<Vec<_>>()
                });
                plans.push((title, lines.collect()));
            }
            Ok(plans)
        }
        .boxed()
    }
}
