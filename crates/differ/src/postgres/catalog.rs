//! What one node's catalog says about a table. Works for a role that may do nothing but read it.

use changeling_core::ident::TableName;

use crate::model::{Generation, Identity, NodeName, ValueKind};
use crate::side::{SideError, SideErrorKind};

use super::connect::PgConnection;
use super::ident::quote_table;
use super::partition::{PgPartition, leaves};
use super::plan::{Numbers, TextForm};

/// Oids from here on are users' objects.
const FIRST_USER_OID: u32 = 16_384;

/// The server's name of it.
pub(super) const UTF8: &str = "UTF8";

/// A table as one node has it.
#[derive(Clone, Debug)]
pub(super) struct PgTable {
    pub(super) node: NodeName,
    pub(super) name: TableName,
    pub(super) oid: u32,
    pub(super) source: String,
    pub(super) columns: Vec<PgColumn>,
    /// Unique keys without NULL, predicate or expression; the primary key first.
    pub(super) keys: Vec<PgKey>,
    /// Planner's estimate, negative if there never was one.
    pub(super) estimate: f64,
    /// Its leaves, if it is partitioned.
    pub(super) partitions: Option<Vec<PgPartition>>,
    /// What the database stores texts in.
    pub(super) encoding: String,
    pub(super) commit_times: bool,
    pub(super) notes: Vec<String>,
}

/// A column as one node has it.
#[derive(Clone, Debug)]
pub(super) struct PgColumn {
    pub(super) name: String,
    pub(super) type_text: String,
    pub(super) cast_type: String,
    /// The type under all domains.
    pub(super) base_type: String,
    pub(super) base_schema: String,
    pub(super) kind: ValueKind,
    pub(super) form: TextForm,
    pub(super) array: bool,
    pub(super) nullable: bool,
    pub(super) generation: Generation,
    /// How it is computed, if it is.
    pub(super) expression: Option<String>,
    /// What numbers are inside of its values.
    pub(super) numbers: Numbers,
    pub(super) identity: Identity,
    pub(super) readable: bool,
    /// By what the column sorts, as far as that can differ from one server to the next: collation and its version,
    /// or an enum's labels in order. Empty where the type alone decides.
    pub(super) sorting: String,
}

/// A key as one node has it.
#[derive(Clone, Debug)]
pub(super) struct PgKey {
    pub(super) index: String,
    pub(super) primary: bool,
    pub(super) replica_identity: bool,
    /// Names of the columns in index order.
    pub(super) columns: Vec<String>,
}

const TABLE: &str = "SELECT c.oid, c.relkind::text, c.reltuples::float8, c.relhassubclass, \
     pg_catalog.current_setting('server_encoding'), \
     pg_catalog.current_setting('track_commit_timestamp', true) = 'on', \
     pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
   FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
   WHERE n.nspname = $1::text AND c.relname = $2::text";

/// The catalogs of versions 14 to 18 differ in where a database's locale is; as JSON a missing column is NULL.
const COLUMNS: &str = "WITH RECURSIVE base AS ( \
     SELECT a.attnum, a.atttypid AS type, 0 AS depth FROM pg_catalog.pg_attribute AS a \
      WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped \
     UNION ALL \
     SELECT b.attnum, t.typbasetype, b.depth + 1 FROM base AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.type \
      WHERE t.typtype = 'd'), \
   innermost AS (SELECT DISTINCT ON (attnum) attnum, type FROM base ORDER BY attnum, depth DESC), \
   here AS (SELECT pg_catalog.concat_ws(' ', j->>'datcollate', j->>'datlocprovider', \
       coalesce(j->>'datlocale', j->>'daticulocale'), j->>'datcollversion') AS sorting \
     FROM (SELECT pg_catalog.to_jsonb(d) AS j FROM pg_catalog.pg_database AS d \
       WHERE d.datname = pg_catalog.current_database()) AS q) \
   SELECT a.attnum, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), \
     pg_catalog.format_type(a.atttypid, -1), pg_catalog.format_type(t.oid, -1), tn.nspname::text, \
     t.oid, t.typname::text, t.typcategory::text, t.typtype::text, t.typelem, \
     a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS v WHERE v.conrelid = a.attrelid AND v.contype = 'n' AND NOT v.convalidated AND v.conkey[1] = a.attnum), a.attgenerated::text, a.attidentity::text, \
     pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'), \
     EXISTS (SELECT FROM pg_catalog.pg_cast AS k WHERE k.castsource = t.oid AND k.casttarget = 25 \
       AND k.castmethod = 'f' AND k.castfunc >= 16384), \
     CASE WHEN a.attgenerated <> '' THEN (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef AS d \
       WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END, \
     (SELECT coalesce(nullif(e.typbasetype, 0), e.oid) FROM pg_catalog.pg_type AS e WHERE e.oid = t.typelem), \
     (SELECT e.typtype::text FROM pg_catalog.pg_type AS e WHERE e.oid = t.typelem), \
     (SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)), \
     coalesce(CASE WHEN t.typtype = 'e' THEN (SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) \
         FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid) \
       WHEN a.attcollation = 0 THEN '' \
       WHEN a.attcollation = 100 THEN (SELECT sorting FROM here) \
       ELSE (SELECT pg_catalog.concat_ws(' ', c.collprovider, c.collcollate, pg_catalog.to_jsonb(c)->>'colliculocale', \
         pg_catalog.to_jsonb(c)->>'colllocale', pg_catalog.to_jsonb(c)->>'collicurules', \
         CASE WHEN NOT c.collisdeterministic THEN 'nondeterministic' END, \
         CASE WHEN c.collcollate IN ('C', 'POSIX') THEN '' ELSE pg_catalog.pg_collation_actual_version(c.oid) END) \
         FROM pg_catalog.pg_collation AS c WHERE c.oid = a.attcollation) END, '') \
   FROM pg_catalog.pg_attribute AS a JOIN innermost AS i USING (attnum) \
   JOIN pg_catalog.pg_type AS t ON t.oid = i.type JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.typnamespace \
   WHERE a.attrelid = $1::oid ORDER BY a.attnum";

/// A NOT NULL that was added NOT VALID (from version 18) promises nothing about older rows.
/// `indnkeyatts` leaves out included columns, which are not part of what is unique.
const KEYS: &str = "SELECT c.relname::text, i.indisprimary, i.indisreplident, \
     (SELECT pg_catalog.array_agg(a.attname::text ORDER BY u.place) \
       FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS u(number, place) \
       JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.number \
       WHERE u.place <= i.indnkeyatts AND a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS v WHERE v.conrelid = a.attrelid AND v.contype = 'n' AND NOT v.convalidated AND v.conkey[1] = a.attnum)), i.indnkeyatts \
   FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
   WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indislive \
     AND i.indpred IS NULL AND i.indexprs IS NULL \
   ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, c.relname";

impl PgTable {
    /// Reads the catalog.
    pub(super) async fn inspect(connection: &mut PgConnection, name: &TableName) -> Result<Self, SideError> {
        let node = connection.node().clone();
        let refuse = |why: String| SideError::new(&node, SideErrorKind::Permanent, why);
        let shown = quote_table(name);
        let statement = connection.prepare(TABLE).await?;
        let rows = connection
            .patient(
                connection
                    .client()
                    .query(&statement, &[&name.schema, &name.table]),
            )
            .await?;
        let [row] = &rows[..] else {
            return Err(refuse(format!(
                "there is no table {shown}; names are taken as they are, in upper and lower case"
            )));
        };
        if !row.get::<_, bool>(6) {
            return Err(refuse(format!(
                "this role may not use the schema of {shown}; GRANT USAGE ON SCHEMA it"
            )));
        }
        let oid: u32 = row.get(0);
        let kind: String = row.get(1);
        let mut notes = Vec::new();
        let source = match kind.as_str() {
            "r" if row.get(3) => {
                notes.push(format!(
                    "{node}: tables inherit from {shown}; their rows are not compared with it"
                ));
                format!("ONLY {shown}")
            }
            "r" | "p" | "f" => shown.clone(),
            _ => return Err(refuse(format!("{shown} is not a table"))),
        };
        let mut table = Self {
            name: name.clone(),
            oid,
            source,
            columns: columns(connection, oid).await?,
            keys: keys(connection, oid).await?,
            estimate: row.get(2),
            partitions: None,
            encoding: row.get(4),
            commit_times: row.get::<_, Option<bool>>(5).unwrap_or(false) && kind != "f",
            notes,
            node: node.clone(),
        };
        if kind == "p" {
            table.estimate = partitions_estimate(connection, oid).await?;
            table.partitions = Some(leaves(connection, oid).await?);
        }
        Ok(table)
    }
}

async fn partitions_estimate(connection: &mut PgConnection, oid: u32) -> Result<f64, SideError> {
    let statement = connection
        .prepare(
            "SELECT coalesce(pg_catalog.sum(greatest(c.reltuples, 0)), 0)::float8 \
             FROM pg_catalog.pg_partition_tree($1::oid::regclass) AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.relid \
             WHERE p.isleaf",
        )
        .await?;
    let row = connection
        .patient(connection.client().query_one(&statement, &[&oid]))
        .await?;
    Ok(row.get(0))
}

async fn columns(connection: &mut PgConnection, oid: u32) -> Result<Vec<PgColumn>, SideError> {
    let statement = connection.prepare(COLUMNS).await?;
    let rows = connection
        .patient(connection.client().query(&statement, &[&oid]))
        .await?;
    Ok(rows.iter().map(column).collect())
}

fn column(row: &tokio_postgres::Row) -> PgColumn {
    let type_oid: u32 = row.get(6);
    let category: String = row.get(8);
    let array = category == "A";
    // Made by somebody, whatever the type: it may lose something.
    let own_cast: bool = row.get(15);
    let form = match type_oid {
        25 => TextForm::Plain,
        _ if own_cast => TextForm::Output,
        _ => TextForm::Cast,
    };
    PgColumn {
        name: row.get(1),
        type_text: row.get(2),
        cast_type: row.get(3),
        base_type: row.get(4),
        base_schema: row.get(5),
        kind: kind(type_oid),
        form,
        array,
        nullable: !row.get::<_, bool>(11),
        generation: match row.get::<_, String>(12).as_str() {
            "s" => Generation::Stored,
            "v" => Generation::Virtual,
            _ => Generation::Never,
        },
        identity: match row.get::<_, String>(13).as_str() {
            "a" => Identity::Always,
            "d" => Identity::ByDefault,
            _ => Identity::None,
        },
        readable: row.get(14),
        expression: row.get(16),
        numbers: if array {
            numbers_of_elements(row.get(17), row.get(18))
        } else {
            numbers(type_oid, row.get(9), row.get(19))
        },
        sorting: row.get(20),
    }
}

/// What numbers a value of this type has inside, by the oids of `pg_type.dat`.
fn numbers(oid: u32, kind: &str, range_of: Option<u32>) -> Numbers {
    match (oid, range_of) {
        (114 | 3802, _) => Numbers::Json,
        (_, Some(1700)) => Numbers::Decimals,
        (_, Some(700 | 701)) => Numbers::Floats,
        // Points and what is made of them.
        (600..=604 | 628 | 718, _) => Numbers::Floats,
        _ if kind == "c" => Numbers::OutOfReach,
        _ => Numbers::None,
    }
}

fn numbers_of_elements(oid: Option<u32>, kind: Option<&str>) -> Numbers {
    match oid {
        // Numbers, ranges of them.
        Some(1700 | 3906 | 4532) => Numbers::Decimals,
        Some(700 | 701 | 600..=604 | 628 | 718) => Numbers::Floats,
        Some(114 | 3802) => Numbers::OutOfReach,
        // Whatever else somebody defined: composite types, ranges, domains of domains.
        Some(FIRST_USER_OID..) if kind.is_some_and(|kind| "crmd".contains(kind)) => Numbers::OutOfReach,
        _ => Numbers::None,
    }
}

/// By the oids of `pg_type.dat`, which never change.
fn kind(oid: u32) -> ValueKind {
    match oid {
        16 => ValueKind::Boolean,
        17 => ValueKind::Bytes,
        20 | 21 | 23 | 26 => ValueKind::Integer,
        114 | 3802 => ValueKind::Json,
        700 | 701 => ValueKind::Float,
        1700 => ValueKind::Decimal,
        _ => ValueKind::Text,
    }
}

async fn keys(connection: &mut PgConnection, oid: u32) -> Result<Vec<PgKey>, SideError> {
    let statement = connection.prepare(KEYS).await?;
    let rows = connection
        .patient(connection.client().query(&statement, &[&oid]))
        .await?;
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let columns: Vec<String> = row.get::<_, Option<Vec<String>>>(3).unwrap_or_default();
        // A column that may be NULL was left out: the index does not identify every row.
        if columns.len() == usize::try_from(row.get::<_, i16>(4)).unwrap_or(0) {
            keys.push(PgKey {
                index: row.get(0),
                primary: row.get(1),
                replica_identity: row.get(2),
                columns,
            });
        }
    }
    Ok(keys)
}
