//! The ghost table: made like the original, altered, later filled by others, in the end swapped or dropped.

use std::time::Duration;

use changeling_core::ident::{TableName, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::alter::{self, Action};
use crate::inspector::{Index, InspectError, Inspection, TableDetail};
use crate::plan::{DeferredIndex, MigrationPlan, SessionPlan};
use crate::server::{Role, Server, ServerError, is_retryable};
use crate::settings::{DeferIndexes, MigrationSettings, Purpose};
use crate::trigger;

/// How often a definition of ours is tried when a metadata lock is in the way; each try waits
/// [`crate::server::METADATA_LOCK_WAIT`].
const TRIES: u32 = 12;

/// Memory that the server may use for sorting while deferred indexes are built.
const SORT_BUFFER: u32 = 32 << 20;

/// Between two tries, so that whoever waits behind us gets a turn.
const PAUSE: Duration = Duration::from_millis(500);

/// Puts the owner's token before a statement, where the binary log keeps it: so the stream tells a
/// definition of ours from somebody else's.
#[must_use]
pub fn owned(owner: &str, statement: &str) -> String {
    // A token is letters and digits; anything else could end the comment.
    let owner: String = owner
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.'))
        .collect();
    format!("/* changeling:{owner} */ {statement}")
}

/// Whoever defines tables of ours: one session, and the token in its statements.
#[derive(Debug)]
pub struct Definer<'s> {
    server: &'s Server,
    conn: Conn,
    owner: String,
}

impl<'s> Definer<'s> {
    /// A session in which an ALTER means what it means in the server's own sessions.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses a setting.
    pub async fn open(server: &'s Server, session: &SessionPlan, owner: &str) -> Result<Self, ServerError> {
        let conn = server.connect_writer(Role::Definer, session).await?;
        Ok(Self {
            server,
            conn,
            owner: owner.to_owned(),
        })
    }

    /// Runs a statement with the owner's token, again while a metadata lock is in the way.
    ///
    /// # Errors
    /// If the server refuses it, or the lock stays.
    pub async fn run(&mut self, statement: &str, doing: &str) -> Result<(), ServerError> {
        let statement = owned(&self.owner, statement);
        let mut tries = 1;
        loop {
            match self.conn.query_drop(&statement).await {
                Ok(()) => return Ok(()),
                Err(error) if is_retryable(&error) && tries < TRIES => {
                    tracing::info!(%error, doing, tries, "a lock is in the way, trying again");
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(self.server.failed(doing)(error)),
            }
        }
    }

    /// Makes the ghost table like the original and alters it. If the ALTER fails, the ghost table is dropped
    /// again and nothing is left behind.
    ///
    /// `body` is the ALTER without `ALTER TABLE …`; empty if nothing is left of it (only foreign keys were
    /// dropped, which a table made like another does not have).
    ///
    /// # Errors
    /// If the server refuses a statement: the message has its number and text.
    pub async fn create(
        &mut self,
        original: &TableName,
        ghost: &TableName,
        body: &str,
    ) -> Result<(), ServerError> {
        let like = format!("CREATE TABLE {} LIKE {}", ghost.quoted(), original.quoted());
        self.run(&like, &format!("create the ghost table {ghost}"))
            .await?;
        let altered = self.alter(original, ghost, body).await;
        if altered.is_err()
            && let Err(left) = self.drop(ghost).await
        {
            tracing::error!(error = %left, table = %ghost, "the ghost table is left behind; drop it");
        }
        altered
    }

    async fn alter(
        &mut self,
        original: &TableName,
        ghost: &TableName,
        body: &str,
    ) -> Result<(), ServerError> {
        if body.is_empty() {
            return Ok(());
        }
        let mut body = body.to_owned();
        if !self.server.is_mariadb() {
            // MySQL's checks have names that are unique in the schema, so the ghost table's have others, in the
            // same order.
            let theirs = alter::named_checks(&self.definition(original).await?);
            let ours = alter::named_checks(&self.definition(ghost).await?);
            if theirs
                .iter()
                .any(|(name, _)| !name.starts_with(&format!("{}_chk_", original.table)))
            {
                tracing::warn!(table = %original, "MySQL names checks once in a schema: the new table's get other names");
            }
            if theirs.len() == ours.len() {
                body = alter::with_constraint_names(&body, |asked| {
                    let at = theirs
                        .iter()
                        .position(|(name, _)| name.eq_ignore_ascii_case(asked))?;
                    Some(ours.get(at)?.0.clone())
                });
            }
        }
        let statement = format!("ALTER TABLE {} {body}", ghost.quoted());
        self.run(
            &statement,
            &format!("alter the ghost table {ghost} by \"{body}\""),
        )
        .await
    }

    /// Lets the ghost table's `AUTO_INCREMENT` go on where the original's is: making a table like another
    /// does not copy it.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn carry_auto_increment(&mut self, ghost: &TableName, next: u64) -> Result<(), ServerError> {
        let statement = format!("ALTER TABLE {} AUTO_INCREMENT = {next}", ghost.quoted());
        self.run(&statement, &format!("set AUTO_INCREMENT of {ghost}"))
            .await
    }

    /// Takes the indexes off the (still empty) ghost table that are built after the copy.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn remove_indexes(
        &mut self,
        ghost: &TableName,
        indexes: &[DeferredIndex],
    ) -> Result<(), ServerError> {
        if indexes.is_empty() {
            return Ok(());
        }
        let drops: Vec<String> = indexes
            .iter()
            .map(|index| format!("DROP INDEX {}", quote(&index.name)))
            .collect();
        let statement = format!("ALTER TABLE {} {}", ghost.quoted(), drops.join(", "));
        self.run(&statement, &format!("defer indexes of {ghost}")).await
    }

    /// Builds the deferred indexes that are not there yet, in one statement.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn build_deferred(
        &mut self,
        ghost: &TableName,
        indexes: &[DeferredIndex],
    ) -> Result<(), ServerError> {
        let doing = format!("build the deferred indexes of {ghost}");
        let there: Vec<String> = self
            .conn
            .exec(
                "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS \
                 WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                (&ghost.schema, &ghost.table),
            )
            .await
            .map_err(self.server.failed(&doing))?;
        let adds: Vec<String> = indexes
            .iter()
            .filter(|index| !there.iter().any(|name| name.eq_ignore_ascii_case(&index.name)))
            .map(|index| format!("ADD {}", index.definition))
            .collect();
        if adds.is_empty() {
            return Ok(());
        }
        self.enlarge_sort_buffer().await;
        self.run(
            &format!("ALTER TABLE {} {}", ghost.quoted(), adds.join(", ")),
            &doing,
        )
        .await
    }

    /// MySQL sorts an index's entries in pieces of this size and merges them; its default of a megabyte makes hundreds of
    /// pieces of a table worth migrating. A wish: an older server does not know the variable.
    async fn enlarge_sort_buffer(&mut self) {
        let sql = format!("SET SESSION innodb_ddl_buffer_size = {SORT_BUFFER}");
        if let Err(error) = self.conn.query_drop(sql).await {
            tracing::debug!(%error, "indexes are sorted in the server's usual buffer");
        }
    }

    /// Drops a table of ours, if it is there.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn drop(&mut self, table: &TableName) -> Result<(), ServerError> {
        self.run(
            &format!("DROP TABLE IF EXISTS {}", table.quoted()),
            &format!("drop {table}"),
        )
        .await
    }

    /// `SHOW CREATE TABLE`.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn definition(&mut self, table: &TableName) -> Result<String, ServerError> {
        let row: Option<mysql_async::Row> = self
            .conn
            .query_first(format!("SHOW CREATE TABLE {}", table.quoted()))
            .await
            .map_err(self.server.failed(&format!("look at {table}")))?;
        Ok(row
            .and_then(|row| row.get_opt::<String, _>(1).and_then(Result::ok))
            .unwrap_or_default())
    }
}

/// The indexes of the ghost table that may be built after the copy: plain, not unique, not the one that
/// `AUTO_INCREMENT` needs, and none at all where a foreign key may need one. FULLTEXT, SPATIAL and VECTOR
/// indexes stay: building one later locks the table against writes or rebuilds it.
///
/// Their definitions are taken from `SHOW CREATE TABLE`, so expressions, directions, prefixes, comments and
/// visibility come back as they were.
#[must_use]
pub fn deferrable(ghost: &TableDetail) -> Vec<DeferredIndex> {
    let items = alter::table_items(&ghost.definition);
    if items.iter().any(|item| item.contains("FOREIGN KEY")) {
        return Vec::new();
    }
    let counter = ghost.schema.columns.iter().find(|column| column.auto_increment);
    let counts = |index: &Index| {
        counter.is_some_and(|counter| {
            index.parts.first().and_then(|part| part.column.as_deref()) == Some(counter.name.as_str())
        })
    };
    let counted_by_unique = ghost.indexes.iter().any(|index| index.unique && counts(index));
    ghost
        .indexes
        .iter()
        .filter(|index| !index.unique && index.is_ordered() && (counted_by_unique || !counts(index)))
        // One over an expression need not be accepted again: an ALTER may have made a TEXT of what it is over.
        .filter(|index| index.parts.iter().all(|part| part.column.is_some()))
        .filter_map(|index| {
            let start = format!("KEY {} (", quote(&index.name));
            let definition = items.iter().find(|item| item.starts_with(&start))?;
            Some(DeferredIndex {
                name: index.name.clone(),
                definition: (*definition).to_owned(),
            })
        })
        .collect()
}

/// Drops what has the names of our tables, as far as that is granted. A dry run drops nothing, and is refused instead.
///
/// # Errors
/// A server's; the ghost table's name is taken and this is a dry run.
pub async fn make_room(
    inspection: &Inspection,
    settings: &MigrationSettings,
    owner: &str,
) -> Result<(), InspectError> {
    if settings.purpose != Purpose::Execute {
        return inspection.refuse_to_drop().await;
    }
    let names = &inspection.names;
    let mut definer = Definer::open(&inspection.primary, &inspection.definition, owner).await?;
    if settings.leftovers.drop_ghost_first.granted() {
        definer.drop(&names.ghost).await?;
    }
    // The triggers on it may have the names that the new ones are to have.
    if settings.leftovers.drop_old_first.granted() {
        definer.drop(&names.old).await?;
    }
    if settings.checkpoint.interval.is_none() {
        // It speaks of another ghost table than the one that is made now.
        definer.drop(&names.checkpoint).await?;
    }
    Ok(())
}

/// Makes, alters and reads the ghost table, decides the plan, and takes off the deferred indexes. If the
/// plan is refused, the ghost table is dropped again.
///
/// Its name is free: see [`make_room`]. `owner` is the token of this migration: see [`owned`].
///
/// # Errors
/// A server's, or every reason why the altered table cannot take the original's place.
pub async fn prepare(
    inspection: &Inspection,
    settings: &MigrationSettings,
    owner: &str,
) -> Result<MigrationPlan, InspectError> {
    let server = &inspection.primary;
    let names = &inspection.names;
    let mut definer = Definer::open(server, &inspection.definition, owner).await?;
    definer
        .create(&names.original, &names.ghost, &inspection.body)
        .await?;
    if inspection.original.definition.contains("DATA DIRECTORY") {
        tracing::warn!(table = %names.original, "DATA DIRECTORY is not taken over by a table made like another");
    }
    let plan = finish(inspection, settings, &mut definer).await;
    if plan.is_err()
        && let Err(left) = definer.drop(&names.ghost).await
    {
        tracing::error!(error = %left, table = %names.ghost, "the ghost table is left behind; drop it");
    }
    plan
}

async fn finish(
    inspection: &Inspection,
    settings: &MigrationSettings,
    definer: &mut Definer<'_>,
) -> Result<MigrationPlan, InspectError> {
    let ghost_name = &inspection.names.ghost;
    let ghost = inspection.read_ghost().await?;
    let sets = inspection
        .alter
        .actions()
        .any(|action| matches!(action, Action::AutoIncrement { .. }));
    let counts = ghost.schema.columns.iter().any(|column| column.auto_increment);
    if let Some(next) = inspection.original.auto_increment.filter(|_| counts && !sets) {
        definer.carry_auto_increment(ghost_name, next).await?;
    }
    let mut plan = inspection.plan(settings, &ghost)?;
    let triggers = trigger::plan(
        &inspection.triggers,
        &settings.triggers,
        ghost_name,
        &definer.owner,
    );
    trigger::rehearse(definer.server, &mut definer.conn, &triggers).await?;
    let defer = match settings.copy.defer_indexes {
        DeferIndexes::Always => true,
        DeferIndexes::Never => false,
        DeferIndexes::Auto => settings.throttle.control_replicas.is_empty(),
    };
    if defer {
        plan.deferred_indexes = deferrable(&ghost);
        definer.remove_indexes(ghost_name, &plan.deferred_indexes).await?;
    }
    Ok(plan)
}
