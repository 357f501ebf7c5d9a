//! Partitions that are compared one by one.
//!
//! A range of a partitioned table's key touches every partition that may hold such keys, on every node, for every block.
//! Where all nodes have the table partitioned in the same way, each partition is walked and digested on its own instead.
//!
//! **Why no row is left out.** A node's rows are those of its leaves, and all of them are compared: two nodes are taken for
//! alike only if their leaves are pairwise in the same place. Whether a row really is in the same leaf on both does not
//! matter: where it is not, its leaves differ on both nodes, and rows that seem to differ are read by key from the whole
//! table ([`super::statement`]), where the leaf is not asked for. All of this holds of the leaves that there were at
//! the beginning. So at the end they are looked up again: if they are others, rows that have been there all the time may
//! have gone from a leaf that was not compared yet to one that never is, and nothing is established.

use std::collections::{BTreeMap, BTreeSet};

use changeling_core::ident::TableName;

use crate::model::Generation;
use crate::range::Partition;
use crate::side::SideError;

use super::catalog::PgTable;
use super::connect::PgConnection;
use super::ident::quote_table;
use super::plan::WalkOrder;

/// A leaf of a partitioned table, as one node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PgPartition {
    pub(super) oid: u32,
    pub(super) name: TableName,
    /// The partition keys and bounds on the way to it.
    pub(super) place: String,
    /// Whether it can be read by itself: an ordinary table whose columns this role may select and no policy hides. Whoever
    /// may read the whole need not be allowed to read a part.
    pub(super) readable: bool,
}

/// A partition that is being detached is no part of the table to those who ask from now on.
const LEAVES: &str = "WITH RECURSIVE tree AS ( \
     SELECT $1::oid AS oid, pg_catalog.pg_get_partkeydef($1::oid) COLLATE \"C\" AS place \
     UNION ALL \
     SELECT c.oid, pg_catalog.concat_ws(E'\\n', t.place, pg_catalog.pg_get_expr(c.relpartbound, c.oid), \
         pg_catalog.pg_get_partkeydef(c.oid)) COLLATE \"C\" \
       FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid AND NOT i.inhdetachpending \
       JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid) \
   SELECT n.nspname::text, c.relname::text, t.place, \
     c.relkind = 'r' AND NOT pg_catalog.row_security_active(c.oid) \
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 \
         AND NOT a.attisdropped AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')), c.oid \
   FROM tree AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.oid \
   JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
   WHERE c.relkind <> 'p' ORDER BY c.oid";

/// The leaves of a partitioned table, in the order in which they were made.
pub(super) async fn leaves(connection: &mut PgConnection, oid: u32) -> Result<Vec<PgPartition>, SideError> {
    let statement = connection.prepare(LEAVES).await?;
    let rows = connection
        .patient(connection.client().query(&statement, &[&oid]))
        .await?;
    let leaf = |row: &tokio_postgres::Row| PgPartition {
        name: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        place: row.get(2),
        readable: row.get(3),
        oid: row.get(4),
    };
    Ok(rows.iter().map(leaf).collect())
}

/// What is not as it was when the comparison began, in words.
pub(super) async fn changed_since(
    connection: &mut PgConnection,
    oid: u32,
    before: &[PgPartition],
) -> Result<Option<String>, SideError> {
    let now = leaves(connection, oid).await?;
    let known = |leaf: &PgPartition, all: &[PgPartition]| {
        all.iter()
            .any(|other| (other.oid, &other.place) == (leaf.oid, &leaf.place))
    };
    let come = now.iter().find(|leaf| !known(leaf, before));
    let gone = before.iter().find(|leaf| !known(leaf, &now));
    let node = connection.node();
    Ok(match (come, gone) {
        (Some(leaf), _) => Some(format!(
            "{node}: partition {} was attached meanwhile",
            quote_table(&leaf.name)
        )),
        (None, Some(leaf)) => Some(format!(
            "{node}: partition {} was detached meanwhile",
            quote_table(&leaf.name)
        )),
        (None, None) => None,
    })
}

/// Which tables they are, for a comparison that is resumed later.
pub(super) fn identity(leaves: &[PgPartition]) -> String {
    let mut oids: Vec<u32> = leaves.iter().map(|leaf| leaf.oid).collect();
    oids.sort_unstable();
    let mut hasher = crc32fast::Hasher::new();
    oids.iter().for_each(|oid| hasher.update(&oid.to_le_bytes()));
    format!("{} partitions ({:08x})", oids.len(), hasher.finalize())
}

/// The partitions that all nodes have in common and each node's names of them, or none, and why.
#[derive(Debug, Default)]
pub(super) struct CommonPartitions {
    /// In the first node's order.
    pub(super) partitions: Vec<Partition>,
    /// Of each node, what to read instead of the table.
    pub(super) sources: Vec<BTreeMap<Partition, String>>,
}

impl CommonPartitions {
    pub(super) fn of(tables: &[PgTable], order: WalkOrder, notes: &mut Vec<String>) -> Self {
        if tables.iter().all(|table| table.partitions.is_none()) {
            return Self::as_a_whole(tables);
        }
        match Self::agreed(tables, order) {
            Ok(common) => {
                notes.push(format!(
                    "compared partition by partition: {} on each node",
                    common.partitions.len()
                ));
                common
            }
            Err(why) => {
                notes.push(format!(
                    "the table is compared as a whole and not partition by partition: {why}"
                ));
                Self::as_a_whole(tables)
            }
        }
    }

    fn as_a_whole(tables: &[PgTable]) -> Self {
        Self {
            partitions: Vec::new(),
            sources: tables.iter().map(|_| BTreeMap::new()).collect(),
        }
    }

    fn agreed(tables: &[PgTable], order: WalkOrder) -> Result<Self, String> {
        if order == WalkOrder::Bytes {
            // A bound may then part the keys elsewhere, and a row that differs would be found in two partitions.
            return Err("the nodes sort its key differently".into());
        }
        let columns = || tables.iter().flat_map(|table| &table.columns);
        if let Some(column) = columns().find(|column| column.generation == Generation::Virtual) {
            // A partition may compute it otherwise than the table does.
            return Err(format!("{:?} is computed when it is read", column.name));
        }
        let by_hash = |table: &PgTable| {
            let mut leaves = table.partitions.iter().flatten();
            leaves.any(|leaf| leaf.place.contains("HASH ("))
        };
        if tables.iter().any(by_hash) && columns().any(|column| column.base_schema != "pg_catalog") {
            // A type that is not the server's own may be hashed otherwise on each, as an enum is: by its labels' numbers.
            return Err("the nodes may have a row in different hash partitions".into());
        }
        let mut leaves = Vec::with_capacity(tables.len());
        for table in tables {
            let own = table.partitions.as_deref().unwrap_or_default();
            if let Some(leaf) = own.iter().find(|leaf| !leaf.readable) {
                return Err(format!(
                    "{}: this role cannot read {} by itself; GRANT SELECT on it if it is an ordinary table",
                    table.node,
                    quote_table(&leaf.name)
                ));
            }
            leaves.push(own);
        }
        let places = |own: &[PgPartition]| own.iter().map(|leaf| leaf.place.clone()).collect::<BTreeSet<_>>();
        let first = places(leaves[0]);
        if let Some(other) = leaves.iter().position(|own| places(own) != first) {
            return Err(format!(
                "{} and {} are not partitioned in the same way",
                tables[0].node, tables[other].node
            ));
        }
        // Two leaves in one place there cannot be, but if there were one of them would be left out.
        if leaves.iter().any(|own| own.len() != first.len()) || first.is_empty() {
            return Err("there are no partitions that could be told apart".into());
        }
        let name = |leaf: &PgPartition| Partition::new(quote_table(&leaf.name));
        let named: BTreeMap<&str, Partition> = leaves[0]
            .iter()
            .map(|leaf| (leaf.place.as_str(), name(leaf)))
            .collect();
        let source = |leaf: &PgPartition| {
            let partition = named.get(leaf.place.as_str())?.clone();
            Some((partition, quote_table(&leaf.name)))
        };
        Ok(Self {
            partitions: leaves[0].iter().map(name).collect(),
            sources: leaves
                .iter()
                .map(|own| own.iter().filter_map(source).collect())
                .collect(),
        })
    }
}
