//! One node: its session, what it can be asked, and how it is written to.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use changeling_core::ident::TableName;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_postgres::types::ToSql;

use super::facts::{Reference, TableFacts};
use super::scribe::PgScribe;
use super::statement::{CommitTimes, Conflicts, Statements};
use crate::model::{Cell, Key, NodeName, Origin, Row, TableShape};
use crate::postgres::{Origins, PgConnection, PgNode, quote, quote_table};
use crate::repair::RepairError;
use crate::repair::decision::NodeRow;
use crate::repair::runner::Triggers;
use crate::repair::script::Scribe;
use crate::repair::target::{
    Answer, Change, Departure, Ending, Ground, Held, Locking, Refusal, Savepoint, Target, Written,
};
use crate::side::{SideError, SideErrorKind};

/// How long a row's lock is waited for: a repair must not queue behind, or hold up, the application.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A node of a repair.
pub(in crate::repair) struct PgTarget {
    connection: PgConnection,
    pub(super) statements: Statements,
    pub(super) shape: Arc<TableShape>,
    table: TableName,
    origins: Arc<Origins>,
    facts: TableFacts,
    triggers: Triggers,
    conflicts: Conflicts,
    /// Tables whose rows would be deleted, changed or orphaned if ours were deleted.
    pub(super) referring: Vec<Reference>,
    /// The same if the columns of ours that they refer to were changed.
    pub(super) followed: Vec<Reference>,
    /// Tables that must have a row for ours; known only where the server does not check by itself.
    pub(super) referred: Vec<Reference>,
    session_origin: Option<String>,
}

impl PgTarget {
    /// Connects, to read only. `key_schemas` have the operators of the key's types.
    pub(in crate::repair) async fn connect(
        node: &PgNode,
        shape: Arc<TableShape>,
        origins: Arc<Origins>,
        key_schemas: &[String],
        triggers: Triggers,
    ) -> Result<Self, RepairError> {
        let table = node.table.clone();
        let mut schemas = vec![table.schema.clone(), "public".to_owned()];
        schemas.extend(key_schemas.iter().cloned());
        let mut connection = node.server.connect(&schemas).await?;
        let patience = format!("SET lock_timeout = {}", LOCK_TIMEOUT.as_millis());
        connection.run(&patience).await?;
        let facts = TableFacts::read(&mut connection, &table).await?;
        facts.check_types(connection.node())?;
        let conflicts = if facts.deferrable {
            Conflicts::Refused
        } else {
            Conflicts::PassedOver
        };
        let commit_times = if facts.commit_times {
            CommitTimes::Kept
        } else {
            CommitTimes::NotKept
        };
        let name = quote_table(&table);
        let only = if facts.inherited {
            format!("ONLY {name}")
        } else {
            name
        };
        Ok(Self {
            statements: Statements::new(&shape, &table, &only, commit_times, conflicts),
            facts,
            triggers,
            conflicts,
            referring: Vec::new(),
            followed: Vec::new(),
            referred: Vec::new(),
            connection,
            shape,
            table,
            origins,
            session_origin: None,
        })
    }

    /// Asks for the rights that writing takes, and finds out what it would set off.
    async fn prepare_now(&mut self) -> Result<(), RepairError> {
        self.facts.check_privileges(self.connection.node())?;
        let settings = "SET default_transaction_read_only = off; RESET synchronous_commit";
        self.connection.run(settings).await?;
        let quiet = self.triggers == Triggers::Quiet && !self.facts.triggers.is_empty();
        if quiet
            && self
                .connection
                .run("SET session_replication_role = replica")
                .await
                .is_err()
        {
            return Err(RepairError::Triggers {
                node: self.connection.node().clone(),
                triggers: self.facts.triggers.join(", "),
            });
        }
        if self.facts.spock {
            self.connection.run("SELECT spock.repair_mode(true)").await?;
        }
        self.referring = self.facts.minding_deletion(quiet);
        self.followed = self.facts.minding_change(quiet);
        if quiet {
            self.referred = std::mem::take(&mut self.facts.referred);
        }
        Ok(())
    }

    async fn run(&mut self, text: &str) -> Result<(), SideError> {
        self.connection.run(text).await
    }

    /// Like [`PgTarget::run`], telling rows that are refused from other failures.
    async fn try_run(&mut self, text: &str) -> Result<(), Refusal> {
        let answer = self.connection.client().batch_execute(text);
        let answered = tokio::time::timeout(self.connection.patience(), answer).await;
        self.judge(answered).map(|_| ())
    }

    fn judge<T>(
        &self,
        answered: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Refusal> {
        let error = match answered {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => {
                let message = "no answer to a statement of the repair";
                return Err(SideError::new(self.connection.node(), SideErrorKind::Timeout, message).into());
            }
        };
        let failure = self.connection.failure(&error);
        match error.as_db_error() {
            Some(server) if failure.kind == SideErrorKind::Permanent => Err(Refusal::Rows {
                ground: ground(server.code().code()),
                message: failure.message.to_string(),
            }),
            _ => Err(failure.into()),
        }
    }

    pub(super) async fn query(
        &mut self,
        text: &str,
        columns: &[Texts<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, Refusal> {
        let statement = self.connection.prepare(text).await?;
        let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
        let answer = self.connection.client().query(&statement, &parameters);
        let answered = tokio::time::timeout(self.connection.patience(), answer).await;
        self.judge(answered)
    }

    async fn execute(&mut self, text: &str, columns: &[Texts<'_>]) -> Result<u64, Refusal> {
        let statement = self.connection.prepare(text).await?;
        let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
        let answer = self.connection.client().execute(&statement, &parameters);
        let answered = tokio::time::timeout(self.connection.patience(), answer).await;
        self.judge(answered)
    }

    async fn rows_now(&mut self, keys: &[Key], locking: Locking) -> Result<Vec<Option<NodeRow>>, SideError> {
        let text = match locking {
            Locking::None => self.statements.read.clone(),
            Locking::ForUpdate => self.statements.lock.clone(),
        };
        let found = match self.query(&text, &key_columns(keys, self.shape.key.len())).await {
            Ok(found) => found,
            Err(Refusal::Side(error)) => return Err(error),
            Err(Refusal::Rows { message, .. }) => {
                return Err(SideError::new(
                    self.connection.node(),
                    SideErrorKind::Permanent,
                    message,
                ));
            }
        };
        let mut rows = vec![None; keys.len()];
        for row in &found {
            let index: i64 = row.get(0);
            let origin: Option<i64> = row.get(2);
            let cell = |column: usize| Cell::from(row.get::<_, Option<&str>>(column + 3));
            let node_row = NodeRow {
                row: Row((0..self.shape.columns.len()).map(cell).collect()),
                commit_ts: row.get(1),
                origin: origin
                    .and_then(|origin| u32::try_from(origin).ok())
                    .map(|id| self.origins.of(id)),
            };
            if let Some(place) = usize::try_from(index - 1)
                .ok()
                .and_then(|place| rows.get_mut(place))
            {
                *place = Some(node_row);
            }
        }
        Ok(rows)
    }

    /// Rows in the server's own words. Fails as a whole if one value is none of its column's type.
    async fn canonical_now(&mut self, rows: &[&Row]) -> Result<Vec<Row>, Refusal> {
        let text = self.statements.canonical.clone();
        let columns: Vec<Texts<'_>> = (0..self.shape.columns.len())
            .map(|position| rows.iter().map(|row| row.0[position].as_str()).collect())
            .collect();
        let found = self.query(&text, &columns).await?;
        let cells = |row: &tokio_postgres::Row| {
            Row((0..row.len())
                .map(|column| Cell::from(row.get::<_, Option<&str>>(column)))
                .collect())
        };
        Ok(found.iter().map(cells).collect())
    }

    async fn delete_now(&mut self, rows: &[Held<'_>]) -> Result<u64, Refusal> {
        let text = self.statements.delete.clone();
        let keys: Vec<Key> = rows.iter().map(|held| held.key.clone()).collect();
        self.execute(&text, &key_columns(&keys, self.shape.key.len()))
            .await
    }

    /// A key that is to have another text of the same value is set with the rest.
    async fn update_now(&mut self, changes: &[Change<'_>]) -> Result<u64, Refusal> {
        let positions: Vec<usize> = self
            .shape
            .key
            .iter()
            .chain(&self.statements.updated)
            .copied()
            .collect();
        let named_alike = |change: &&Change<'_>| {
            let mut key = self.shape.key.iter();
            key.all(|position| change.before.0[*position] == change.after.0[*position])
        };
        let (kept, renamed): (Vec<&Change<'_>>, Vec<&Change<'_>>) = changes.iter().partition(named_alike);
        let parts = [
            (self.statements.update.clone(), kept),
            (self.statements.rename.clone(), renamed),
        ];
        let mut updated = 0;
        for (text, changes) in parts {
            if let (Some(text), [_, ..]) = (text, &changes[..]) {
                let rows: Vec<&Row> = changes.iter().map(|change| change.after).collect();
                updated += self.execute(&text, &columns_of(&rows, &positions)).await?;
            }
        }
        Ok(updated)
    }

    async fn insert_now(&mut self, rows: &[&Row]) -> Result<Vec<bool>, Refusal> {
        let text = self.statements.insert.clone();
        let positions = self.statements.inserted.clone();
        let found = self.query(&text, &columns_of(rows, &positions)).await?;
        let key =
            |row: &tokio_postgres::Row| Key::of((0..row.len()).map(|column| row.get::<_, &str>(column)));
        if found.len() == rows.len() {
            return Ok(vec![true; rows.len()]);
        }
        let inserted: HashSet<Key> = found.iter().map(key).collect();
        let done = |row: &&Row| row.key(&self.shape).is_some_and(|key| inserted.contains(&key));
        let done: Vec<bool> = rows.iter().map(done).collect();
        if done.iter().filter(|done| **done).count() != found.len() {
            // The server writes a key otherwise than it was given: which rows are there can be told of one only.
            return Err(Refusal::Rows {
                ground: Ground::Unique,
                message: "another row has its key or another of its unique values".into(),
            });
        }
        Ok(done)
    }

    /// A value that is none fails the whole transaction, unless there is a savepoint.
    async fn canonical_undone(&mut self, rows: &[&Row]) -> Result<Vec<Row>, Refusal> {
        self.savepoint(Savepoint::Set).await?;
        match self.canonical_now(rows).await {
            Ok(found) => {
                self.savepoint(Savepoint::Keep).await?;
                Ok(found)
            }
            Err(Refusal::Side(error)) => Err(error.into()),
            Err(refusal) => {
                self.savepoint(Savepoint::Undo).await?;
                Err(refusal)
            }
        }
    }

    async fn check_now(&mut self, keys: &[Key]) -> Result<(), Refusal> {
        self.check_references(keys).await?;
        self.try_run("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
            .await
    }

    /// Lets the transaction's commit carry the origin and time of the row that is copied.
    ///
    /// The position is the lowest there is: the origin's progress must not move, or its subscription would pass over
    /// what was not applied yet.
    async fn assume_origin_now(&mut self, origin: Option<(&str, &str)>) -> Result<(), SideError> {
        let wanted = origin.map(|(name, _)| name.to_owned());
        if self.session_origin != wanted {
            if self.session_origin.take().is_some() {
                self.run("SELECT pg_catalog.pg_replication_origin_session_reset()")
                    .await?;
            }
            if let Some(name) = &wanted {
                let name = crate::postgres::quote_text(name);
                let text = format!(
                    "SELECT pg_catalog.pg_replication_origin_create({name}) WHERE pg_catalog.pg_replication_origin_oid({name}) IS NULL; \
                     SELECT pg_catalog.pg_replication_origin_session_setup({name})"
                );
                self.run(&text).await?;
            }
            self.session_origin = wanted;
        }
        if let Some((_, commit_ts)) = origin {
            let time = crate::postgres::quote_text(commit_ts);
            self.run(&format!(
                "SELECT pg_catalog.pg_replication_origin_xact_setup('0/1', {time})"
            ))
            .await?;
        }
        Ok(())
    }

    /// How far this node has replayed what `origin` sent, in bytes; `None` if it never received any.
    async fn replayed_now(&mut self, origin: &str) -> Result<Option<u64>, SideError> {
        let ids: Vec<i64> = self
            .origins
            .iter()
            .filter(|(_, name)| *name == origin)
            .map(|(id, _)| i64::from(id))
            .collect();
        let text = "SELECT pg_catalog.max(remote_lsn - '0/0'::pg_lsn)::int8 FROM pg_catalog.pg_replication_origin_status \
                    WHERE local_id::int8 = ANY($1)";
        let statement = self.connection.prepare(text).await?;
        let client = self.connection.client();
        let row = self
            .connection
            .patient(client.query_one(&statement, &[&ids]))
            .await?;
        Ok(row
            .get::<_, Option<i64>>(0)
            .and_then(|bytes| u64::try_from(bytes).ok()))
    }
}

impl Target for PgTarget {
    fn node(&self) -> &NodeName {
        self.connection.node()
    }

    fn prepare_to_write(&mut self) -> BoxFuture<'_, Result<(), RepairError>> {
        self.prepare_now().boxed()
    }

    fn begin(&mut self) -> Answer<'_, ()> {
        self.run("BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL DEFERRED")
            .boxed()
    }

    fn end(&mut self, ending: Ending) -> Answer<'_, ()> {
        self.run(match ending {
            Ending::Commit => "COMMIT",
            Ending::Rollback => "ROLLBACK",
        })
        .boxed()
    }

    fn savepoint(&mut self, step: Savepoint) -> Answer<'_, ()> {
        self.run(match step {
            Savepoint::Set => "SAVEPOINT changeling",
            Savepoint::Keep => "RELEASE SAVEPOINT changeling",
            Savepoint::Undo => "ROLLBACK TO SAVEPOINT changeling; RELEASE SAVEPOINT changeling",
        })
        .boxed()
    }

    fn rows<'a>(&'a mut self, keys: &'a [Key], locking: Locking) -> Answer<'a, Vec<Option<NodeRow>>> {
        self.rows_now(keys, locking).boxed()
    }

    fn canonical<'a>(&'a mut self, rows: &'a [&'a Row]) -> Written<'a, Vec<Row>> {
        self.canonical_undone(rows).boxed()
    }

    fn referenced<'a>(
        &'a mut self,
        keys: &'a [Key],
        departure: Departure,
    ) -> Written<'a, Vec<Option<String>>> {
        self.referenced_now(keys, departure).boxed()
    }

    fn needs_replacing(&self, before: &Row, after: &Row) -> bool {
        let differs = |position: &usize| before.0[*position] != after.0[*position];
        self.statements.fixed.iter().any(differs)
    }

    /// A column that is not compared is not written either.
    fn moves(&self, before: &Row, after: &Row) -> bool {
        let mut columns = self.followed.iter().flat_map(|reference| &reference.columns);
        columns.any(|(_, ours)| {
            let mut shaped = self.shape.columns.iter();
            let position = shaped.position(|column| quote(&column.name) == *ours);
            position.is_some_and(|position| before.0[position] != after.0[position])
        })
    }

    fn may_replace(&self) -> bool {
        self.shape.ignored.is_empty()
    }

    fn delete<'a>(&'a mut self, rows: &'a [Held<'a>]) -> Written<'a, u64> {
        self.delete_now(rows).boxed()
    }

    fn update<'a>(&'a mut self, changes: &'a [Change<'a>]) -> Written<'a, u64> {
        self.update_now(changes).boxed()
    }

    fn insert<'a>(&'a mut self, rows: &'a [&'a Row]) -> Written<'a, Vec<bool>> {
        self.insert_now(rows).boxed()
    }

    fn check<'a>(&'a mut self, keys: &'a [Key], _: &'a [&'a Row]) -> Written<'a, ()> {
        self.check_now(keys).boxed()
    }

    fn assume_origin<'a>(&'a mut self, origin: Option<(&'a str, &'a str)>) -> Answer<'a, ()> {
        self.assume_origin_now(origin).boxed()
    }

    fn replayed<'a>(&'a mut self, origin: &'a str) -> Answer<'a, Option<u64>> {
        self.replayed_now(origin).boxed()
    }

    fn scribe(&self) -> Box<dyn Scribe> {
        Box::new(PgScribe {
            node: self.connection.node().clone(),
            table: self.table.clone(),
            shape: Arc::clone(&self.shape),
            conflicts: self.conflicts,
        })
    }
}

/// What a SQLSTATE says: class 23 are constraints.
fn ground(code: &str) -> Ground {
    match code {
        "23505" => Ground::Unique,
        code if code.starts_with("23") => Ground::Constraint,
        _ => Ground::Row,
    }
}

/// The values of one column.
pub(super) type Texts<'a> = Vec<Option<&'a str>>;

pub(super) fn key_columns(keys: &[Key], width: usize) -> Vec<Texts<'_>> {
    let column = |part: usize| {
        keys.iter()
            .map(|key| key.0.get(part).map(AsRef::as_ref))
            .collect()
    };
    (0..width).map(column).collect()
}

fn columns_of<'a>(rows: &[&'a Row], positions: &[usize]) -> Vec<Texts<'a>> {
    let column = |position: &usize| rows.iter().map(|row| row.0[*position].as_str()).collect();
    positions.iter().map(column).collect()
}

/// The name of an origin for replication's books.
pub(in crate::repair) fn origin_name(origin: &Origin, copied_from: &NodeName) -> String {
    match origin {
        Origin::Local => format!("node_{copied_from}"),
        Origin::Node(name) => format!("node_{name}"),
        Origin::Id(id) => format!("node_{id}"),
    }
}
