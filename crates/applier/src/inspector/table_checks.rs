//! Whether the table is one that can be migrated, and our names are free.

use changeling_core::ident::TableName;
use changeling_core::schema::ColumnKind;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::alter_checks;
use super::names;
use super::problem::{ProblemKind, Problems};
use super::table::{TableDetail, read};
use crate::alter::{self, Alter};
use crate::plan::TableNames;
use crate::server::{ErrorKind, Server, ServerError};
use crate::settings::{ForeignKeys, MigrationSettings};

/// A foreign key from or to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The table that has it.
    pub child: TableName,
    /// The table that it refers to.
    pub parent: TableName,
    /// Deleting or changing a row of the parent changes rows of the child.
    pub cascades: bool,
}

/// What kind of table it is.
pub(super) fn check_kind(table: &TableDetail, problems: &mut Problems) {
    let name = &table.schema.name;
    let mut refuse = |message: String, hint: &str| problems.add(ProblemKind::Table, message, hint);
    match table.table_type.as_str() {
        "VIEW" | "SYSTEM VIEW" => {
            refuse(format!("{name} is a VIEW, not a real table. Bailing out"), "");
            return;
        }
        "SEQUENCE" => {
            refuse(format!("{name} is a SEQUENCE, not a real table"), "");
            return;
        }
        "SYSTEM VERSIONED" => refuse(
            format!("{name} is system-versioned: a copy would not have the rows' history"),
            "run the ALTER directly, with system_versioning_alter_history=KEEP",
        ),
        "BASE TABLE" => {}
        other => refuse(format!("{name} is a {other}, not a base table"), ""),
    }
    if !table.schema.engine.eq_ignore_ascii_case("InnoDB") {
        refuse(
            format!(
                "{name} is of engine {}: rows can be read without locks only from InnoDB",
                table.schema.engine
            ),
            "ALTER TABLE … ENGINE=InnoDB first",
        );
    }
    for column in &table.schema.columns {
        if let ColumnKind::Unknown { column_type } = &column.kind {
            let compressed = column_type.to_ascii_lowercase().contains("compressed");
            refuse(
                format!(
                    "column {} of {name} is of type {column_type}, which is not supported",
                    column.name
                ),
                if compressed {
                    "compressed columns have binary log events of their own: make the column an uncompressed one first"
                } else {
                    ""
                },
            );
        }
    }
    for item in alter::table_items(&table.definition) {
        let upper = item.to_ascii_uppercase();
        let quoted = upper.starts_with('`');
        if !quoted && (upper.contains("WITHOUT OVERLAPS") || upper.starts_with("PERIOD FOR")) {
            refuse(
                format!("{name} has a period ({item}), which is not supported"),
                "run the ALTER directly",
            );
        }
    }
}

/// The foreign keys from and to a table, as far as the account can see them.
pub(super) async fn foreign_keys(
    server: &Server,
    conn: &mut Conn,
    table: &TableName,
) -> Result<Vec<ForeignKey>, ServerError> {
    let doing = format!("look for foreign keys of {table}");
    let rows: Vec<(String, String, String, String, String, String)> = conn
        .exec(
            "SELECT CONSTRAINT_NAME, CONSTRAINT_SCHEMA, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, \
             REFERENCED_TABLE_NAME, CONCAT(DELETE_RULE, ',', UPDATE_RULE) \
             FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ? \
             UNION SELECT CONSTRAINT_NAME, CONSTRAINT_SCHEMA, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, \
             REFERENCED_TABLE_NAME, CONCAT(DELETE_RULE, ',', UPDATE_RULE) \
             FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE UNIQUE_CONSTRAINT_SCHEMA = ? AND REFERENCED_TABLE_NAME = ?",
            (&table.schema, &table.table, &table.schema, &table.table),
        )
        .await
        .map_err(server.failed(&doing))?;
    let mut keys: Vec<ForeignKey> = rows
        .into_iter()
        .map(|(name, schema, child, parent_schema, parent, rules)| ForeignKey {
            name,
            child: TableName::new(schema, child),
            parent: TableName::new(parent_schema, parent),
            cascades: rules.contains("CASCADE") || rules.contains("SET "),
        })
        .collect();
    // A child in a schema that the account cannot see would follow the old table and block its drop. InnoDB
    // knows them all, but tells only who has PROCESS.
    let dictionary = if server.is_mariadb() {
        "INNODB_SYS_FOREIGN"
    } else {
        "INNODB_FOREIGN"
    };
    let hidden: Result<Vec<(String, String)>, _> = conn
        .exec(
            format!("SELECT ID, FOR_NAME FROM information_schema.{dictionary} WHERE REF_NAME = ?"),
            (format!("{}/{}", table.schema, table.table),),
        )
        .await;
    match hidden.map_err(server.failed(&doing)) {
        Ok(rows) => {
            for (id, child) in rows {
                let name = id
                    .split_once('/')
                    .map_or(id.as_str(), |(_, name)| name)
                    .to_owned();
                let (schema, child) = child.split_once('/').unwrap_or(("", &child));
                if !keys.iter().any(|key| key.name == name) {
                    keys.push(ForeignKey {
                        name,
                        child: TableName::new(schema, child),
                        parent: table.clone(),
                        cascades: false,
                    });
                }
            }
        }
        Err(error) if error.kind == ErrorKind::Lost => return Err(error),
        Err(error) => tracing::debug!(%error, "only foreign keys of visible tables are looked at"),
    }
    Ok(keys)
}

/// Whether the binary log shows what a cascade does to the child. InnoDB's own cascades are in no log; those of MySQL
/// 9.6 and newer are carried out above it, and logged, unless that was switched off.
fn logs_cascades(server: &Server) -> bool {
    server.variables.is_on("innodb_native_foreign_keys") == Some(false)
}

/// Foreign keys, by the operator's choice.
pub(super) fn check_foreign_keys(
    server: &Server,
    table: &TableName,
    keys: &[ForeignKey],
    policy: ForeignKeys,
    alter: &Alter,
    problems: &mut Problems,
) {
    if policy == ForeignKeys::SkipChecks {
        return;
    }
    let list = |keys: Vec<&ForeignKey>| {
        keys.iter()
            .map(|key| format!("{} of {}", key.name, key.child))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let fold = |name: &TableName| (name.schema.to_lowercase(), name.table.to_lowercase());
    let parents: Vec<&ForeignKey> = keys
        .iter()
        .filter(|key| fold(&key.parent) == fold(table))
        .collect();
    let children: Vec<&ForeignKey> = keys
        .iter()
        .filter(|key| fold(&key.child) == fold(table) && !alter_checks::drops(alter, key))
        .collect();
    if !parents.is_empty() {
        problems.add(
            ProblemKind::ForeignKeys,
            format!(
                "Parent-side foreign keys are not supported. Bailing out: {} refer to {table}",
                list(parents)
            ),
            "they would follow the old table; drop them first and add them afterwards",
        );
    }
    // Those that the ALTER drops as well: the original has them until the swap.
    let silent: Vec<&ForeignKey> = keys
        .iter()
        .filter(|key| key.cascades && fold(&key.child) == fold(table) && !logs_cascades(server))
        .collect();
    if !silent.is_empty() {
        problems.add(
            ProblemKind::ForeignKeys,
            format!(
                "rows of {table} are deleted or changed by cascades that the binary log does not show: {}",
                list(silent)
            ),
            "drop the foreign key first; or, if no row of the parent is deleted or changed until the swap, \
             --skip-foreign-key-checks",
        );
    }
    if !children.is_empty() && policy == ForeignKeys::Refuse {
        problems.add(
            ProblemKind::ForeignKeys,
            format!(
                "Child-side foreign keys are not supported. Bailing out: {}",
                list(children)
            ),
            "--discard-foreign-keys migrates the table without them",
        );
    }
}

/// Our names: long enough for the server to take, free, or allowed to be made free.
pub(super) async fn check_names(
    server: &Server,
    conn: &mut Conn,
    names: &TableNames,
    settings: &MigrationSettings,
    problems: &mut Problems,
) -> Result<(), ServerError> {
    let list = [
        &names.original,
        &names.ghost,
        &names.changelog,
        &names.checkpoint,
        &names.old,
    ];
    for (at, name) in list.iter().enumerate() {
        if list
            .iter()
            .skip(at + 1)
            .any(|other| other.table.to_lowercase() == name.table.to_lowercase())
        {
            problems.add(
                ProblemKind::Names,
                format!("{name} would be the name of two tables of this migration"),
                "choose another base by --force-table-names",
            );
        }
    }
    if settings.resumes() {
        // Whatever is there is what is gone on with, if it can be.
        return Ok(());
    }
    let mut leftovers = Problems::default();
    check_free(server, conn, names, settings, &mut leftovers).await?;
    if leftovers.is_empty() {
        return Ok(());
    }
    // They need not be leftovers: whoever drops the tables of a migration that runs ends it.
    match lock_holder(server, conn, &names.original).await? {
        Some(session) => problems.add(
            ProblemKind::Names,
            format!(
                "another gh-ost process is already migrating {} (or another changeling)",
                names.original
            ),
            format!(
                "session {session} on {} holds the migration's lock: let it finish, or tell it by its socket; drop \
                 nothing",
                server.address()
            ),
        ),
        None => problems.0.extend(leftovers.0),
    }
    Ok(())
}

/// The names of G and D, which must be free, or allowed to be made free.
pub(super) async fn check_free(
    server: &Server,
    conn: &mut Conn,
    names: &TableNames,
    settings: &MigrationSettings,
    problems: &mut Problems,
) -> Result<(), ServerError> {
    let occupied = [
        (
            &names.ghost,
            settings.leftovers.drop_ghost_first,
            "an earlier migration left it: go on with --execute --resume, or drop it, by hand or with \
             --initially-drop-ghost-table",
        ),
        (
            &names.old,
            settings.leftovers.drop_old_first,
            "an earlier migration left it: look at it, then drop it or use --initially-drop-old-table",
        ),
    ];
    for (name, allowed, hint) in occupied {
        if !allowed.granted() && read(server, conn, name).await?.is_some() {
            problems.add(
                ProblemKind::Names,
                format!("Table {name} already exists. Panicking."),
                hint,
            );
        }
    }
    Ok(())
}

/// The session that holds the lock of a migration of this table.
async fn lock_holder(
    server: &Server,
    conn: &mut Conn,
    table: &TableName,
) -> Result<Option<u64>, ServerError> {
    let held: Option<Option<u64>> = conn
        .exec_first("SELECT IS_USED_LOCK(?)", (names::lock_name(table),))
        .await
        .map_err(server.failed("look for the lock of another migration"))?;
    Ok(held.flatten())
}

/// Whether both servers have the same table.
pub(super) fn check_same(
    source: &TableDetail,
    primary: &TableDetail,
    addresses: (&str, &str),
    problems: &mut Problems,
) {
    let list = |table: &TableDetail| {
        let columns = table.schema.columns.iter();
        columns
            .map(|column| format!("{} {}", column.name.to_lowercase(), column.column_type))
            .collect::<Vec<_>>()
    };
    let (ours, theirs) = (list(source), list(primary));
    if ours != theirs {
        let differing = ours.iter().zip(&theirs).find(|(a, b)| a != b);
        let detail = differing.map_or_else(
            || format!("{} and {} columns", ours.len(), theirs.len()),
            |(a, b)| format!("{a} and {b}"),
        );
        problems.add(
            ProblemKind::Table,
            format!(
                "table structure is not identical between master and replica: {} on {} and {} has {detail}",
                source.schema.name, addresses.0, addresses.1
            ),
            "events could not be read with the wrong columns: make the tables alike first",
        );
    }
}
