//! What the catalog says about a table that is to be written.

use changeling_core::ident::TableName;

use crate::model::NodeName;
use crate::postgres::{PgConnection, quote};
use crate::repair::RepairError;
use crate::side::SideError;

/// Another table, or the same, whose rows refer to the table's, or to which they refer.
pub(super) struct Reference {
    /// Its name, quoted, for messages and statements.
    pub(super) table: String,
    /// Its columns and the table's, in the constraint's order, quoted.
    pub(super) columns: Vec<(String, String)>,
}

impl Reference {
    pub(super) fn matches(&self) -> String {
        let equal = |(theirs, ours): &(String, String)| format!("r.{theirs} = t.{ours}");
        self.columns.iter().map(equal).collect::<Vec<_>>().join(" AND ")
    }
}

/// A reference to the table, and what the server does to the other row.
pub(super) struct Referring {
    reference: Reference,
    follows_deletion: bool,
    follows_change: bool,
}

/// What the catalog says about a table that is to be written.
pub(super) struct TableFacts {
    pub(super) inherited: bool,
    pub(super) triggers: Vec<String>,
    pub(super) spock: bool,
    pub(super) commit_times: bool,
    /// Whether a unique or exclusion constraint may be checked later than its statement.
    pub(super) deferrable: bool,
    pub(super) missing: Vec<String>,
    pub(super) lossy: Vec<String>,
    pub(super) referring: Vec<Referring>,
    pub(super) referred: Vec<Reference>,
}

impl TableFacts {
    pub(super) async fn read(connection: &mut PgConnection, name: &TableName) -> Result<Self, SideError> {
        const FACTS: &str = "SELECT c.relkind = 'r' AND c.relhassubclass, \
             ARRAY(SELECT g.tgname::text FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled = 'O' ORDER BY 1), \
             EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'spock'), \
             pg_catalog.current_setting('track_commit_timestamp') = 'on', \
             ARRAY(SELECT p FROM pg_catalog.unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE']) AS p WHERE NOT pg_catalog.has_table_privilege(c.oid, p)), \
             ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS y ON y.oid = a.atttypid \
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND EXISTS (SELECT FROM pg_catalog.pg_cast AS k \
                 WHERE k.castmethod = 'f' AND k.oid >= 16384 AND (k.castsource IN (y.oid, y.typbasetype) AND k.casttarget = 25 \
                   OR k.casttarget IN (y.oid, y.typbasetype) AND k.castsource = 25)) ORDER BY 1), \
             c.oid, \
             EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE NOT i.indimmediate AND (i.indisunique OR i.indisexclusion) \
               AND (i.indrelid = c.oid OR i.indrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) AS p))) \
           FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
           WHERE n.nspname = $1 AND c.relname = $2";
        let statement = connection.prepare(FACTS).await?;
        let client = connection.client();
        let row = connection
            .patient(client.query_one(&statement, &[&name.schema, &name.table]))
            .await?;
        let oid: u32 = row.get(6);
        let foreign = foreign_keys(connection, oid).await?;
        let (mut referring, mut referred) = (Vec::new(), Vec::new());
        for key in foreign {
            if key.incoming {
                referring.push(Referring {
                    reference: key.reference,
                    follows_deletion: key.follows_deletion,
                    follows_change: key.follows_change,
                });
            } else {
                referred.push(key.reference);
            }
        }
        Ok(Self {
            inherited: row.get(0),
            triggers: row.get(1),
            spock: row.get(2),
            commit_times: row.get(3),
            deferrable: row.get(7),
            missing: row.get(4),
            lossy: row.get(5),
            referring,
            referred,
        })
    }

    /// What a node must have that is written.
    pub(super) fn check_privileges(&self, node: &NodeName) -> Result<(), RepairError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let privileges = self.missing.join(", ");
        Err(RepairError::Refused(format!(
            "{node}: a repair needs {privileges} on the table; GRANT it to the role"
        )))
    }

    /// What a node must have whose values are read, to be written or to be compared with.
    pub(super) fn check_types(&self, node: &NodeName) -> Result<(), RepairError> {
        if !self.lossy.is_empty() {
            return Err(RepairError::Refused(format!(
                "{node}: the types of {} have casts to or from text that somebody defined; what they do to a value is \
                 not known, so it is not written",
                self.lossy.join(", ")
            )));
        }
        Ok(())
    }

    /// References that deletions must mind: those that cascade, and all if the server does not look after them.
    pub(super) fn minding_deletion(&self, unchecked: bool) -> Vec<Reference> {
        self.minding(|referring| referring.follows_deletion || unchecked)
    }

    /// The same of changes to the columns that are referred to.
    pub(super) fn minding_change(&self, unchecked: bool) -> Vec<Reference> {
        self.minding(|referring| referring.follows_change || unchecked)
    }

    fn minding(&self, minds: impl Fn(&Referring) -> bool) -> Vec<Reference> {
        let minded = self.referring.iter().filter(|referring| minds(referring));
        minded
            .map(|referring| Reference {
                table: referring.reference.table.clone(),
                columns: referring.reference.columns.clone(),
            })
            .collect()
    }
}

struct ForeignKey {
    reference: Reference,
    incoming: bool,
    follows_deletion: bool,
    follows_change: bool,
}

async fn foreign_keys(connection: &mut PgConnection, oid: u32) -> Result<Vec<ForeignKey>, SideError> {
    // A self-reference stands in both lists.
    const KEYS: &str = "SELECT d.incoming, k.confdeltype IN ('c', 'n', 'd'), k.confupdtype IN ('c', 'n', 'd'), n.nspname::text, r.relname::text, \
         (SELECT pg_catalog.array_agg(a.attname::text ORDER BY u.place) FROM pg_catalog.unnest(CASE WHEN d.incoming THEN k.conkey ELSE k.confkey END) \
           WITH ORDINALITY AS u(number, place) JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum = u.number), \
         (SELECT pg_catalog.array_agg(a.attname::text ORDER BY u.place) FROM pg_catalog.unnest(CASE WHEN d.incoming THEN k.confkey ELSE k.conkey END) \
           WITH ORDINALITY AS u(number, place) JOIN pg_catalog.pg_attribute AS a ON a.attrelid = $1::oid AND a.attnum = u.number) \
       FROM pg_catalog.pg_constraint AS k CROSS JOIN (VALUES (true), (false)) AS d(incoming) \
       JOIN pg_catalog.pg_class AS r ON r.oid = CASE WHEN d.incoming THEN k.conrelid ELSE k.confrelid END \
       JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace \
       WHERE k.contype = 'f' AND k.conparentid = 0 AND CASE WHEN d.incoming THEN k.confrelid ELSE k.conrelid END = $1::oid \
       ORDER BY k.oid, d.incoming";
    let statement = connection.prepare(KEYS).await?;
    let client = connection.client();
    let rows = connection.patient(client.query(&statement, &[&oid])).await?;
    let key = |row: &tokio_postgres::Row| {
        let theirs: Vec<String> = row.get(5);
        let ours: Vec<String> = row.get(6);
        let (schema, table): (String, String) = (row.get(3), row.get(4));
        ForeignKey {
            reference: Reference {
                table: format!("{}.{}", quote(&schema), quote(&table)),
                columns: theirs
                    .iter()
                    .map(|name| quote(name))
                    .zip(ours.iter().map(|name| quote(name)))
                    .collect(),
            },
            incoming: row.get(0),
            follows_deletion: row.get(1),
            follows_change: row.get(2),
        }
    };
    Ok(rows.iter().map(key).collect())
}
