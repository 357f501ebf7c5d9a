//! Fences: whether the others have replayed what a node had committed.
//!
//! A publisher knows, for each slot, up to where its subscriber has applied and flushed everything
//! (`confirmed_flush_lsn`, which any role may read). A mark is a place in the publisher's log, and it is passed when
//! all slots of subscriptions between the compared nodes have confirmed it.
//!
//! The log is not all: a commit is in the log, and may be replayed elsewhere, before it is visible on the publisher
//! itself, because its session was not given the processor, or waits for a synchronous standby. Such a transaction
//! still holds its lock on the table. So a mark also names the transactions that held one, and is passed when they have
//! ended: then this node shows everything that any other node had shown before the mark.

use crate::model::NodeName;
use crate::side::{Mark, SideError, SideErrorKind};

use super::connect::PgConnection;

/// The slots through which the other nodes replay this one's changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replay {
    slots: Vec<String>,
    table: u32,
}

/// Between the place in the log and the transactions, and between these.
const SEPARATOR: char = ' ';

/// Transactions that have written to a table, or to a partition of it, and are not over. Visible to any role.
const WRITERS: &str = "SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks AS l \
    WHERE l.locktype = 'relation' AND l.granted AND l.mode LIKE '%ExclusiveLock' AND l.mode <> 'ShareUpdateExclusiveLock' \
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
      AND (l.relation = $1::oid OR l.relation IN (SELECT relid FROM pg_catalog.pg_partition_tree($1::oid::regclass)))";

impl Replay {
    /// Of all nodes' subscriptions, those that read slots of this node.
    pub(super) async fn of(
        connection: &mut PgConnection,
        subscribed: &[String],
        table: u32,
    ) -> Result<Self, SideError> {
        const SLOTS: &str = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots \
            WHERE slot_type = 'logical' AND database = pg_catalog.current_database() AND slot_name = ANY ($1::text[])";
        let statement = connection.prepare(SLOTS).await?;
        let rows = connection
            .patient(connection.client().query(&statement, &[&subscribed]))
            .await?;
        Ok(Self {
            slots: rows.iter().map(|row| row.get(0)).collect(),
            table,
        })
    }

    /// Everything that this node showed to anybody before has its commit before the mark, and the mark is flushed, so
    /// that it can be confirmed.
    ///
    /// A commit of `synchronous_commit = off` is visible before it is flushed, so the flushed end alone is too early;
    /// the written end may stay unflushed for long on an idle server. An empty message of our own, committed
    /// synchronously, flushes all that is before it: one log record, which subscriptions pass over.
    pub(super) async fn mark(&self, connection: &mut PgConnection) -> Result<Option<Mark>, SideError> {
        if self.slots.is_empty() {
            return Ok(None);
        }
        let nudged = connection
            .run("SELECT pg_catalog.pg_logical_emit_message(true, 'changeling', '')")
            .await;
        match nudged {
            Ok(()) => {}
            Err(error) if error.kind == SideErrorKind::Permanent => {
                // Within three turns the log writer has flushed every commit; 10 s is the longest turn there is.
                connection
                    .run(
                        "SELECT pg_catalog.pg_sleep(3 * extract(epoch FROM \
                         pg_catalog.current_setting('wal_writer_delay')::interval)::float8)",
                    )
                    .await?;
            }
            Err(error) => return Err(error),
        }
        let statement = connection
            .prepare("SELECT pg_catalog.pg_current_wal_flush_lsn()::text")
            .await?;
        let row = connection
            .patient(connection.client().query_one(&statement, &[]))
            .await?;
        let mut position: String = row.get(0);
        for writer in self.writers(connection).await? {
            position.push(SEPARATOR);
            position.push_str(&writer);
        }
        Ok(Some(Mark {
            node: connection.node().clone(),
            position: position.into(),
        }))
    }

    async fn writers(&self, connection: &mut PgConnection) -> Result<Vec<String>, SideError> {
        let statement = connection.prepare(WRITERS).await?;
        let rows = connection
            .patient(connection.client().query(&statement, &[&self.table]))
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Whether every slot has confirmed this node's own mark, and the transactions in it have ended.
    pub(super) async fn passed(
        &self,
        connection: &mut PgConnection,
        marks: &[Mark],
    ) -> Result<bool, SideError> {
        let Some(mark) = own(connection.node(), marks) else {
            return Ok(true);
        };
        const PASSED: &str = "SELECT pg_catalog.count(*), \
              pg_catalog.bool_and(confirmed_flush_lsn >= $2::text::pg_lsn) \
            FROM pg_catalog.pg_replication_slots WHERE slot_name = ANY ($1::text[])";
        let statement = connection.prepare(PASSED).await?;
        let mut parts = mark.position.split(SEPARATOR);
        let position = parts.next().unwrap_or_default();
        let before: Vec<&str> = parts.collect();
        if !before.is_empty() {
            let now = self.writers(connection).await?;
            if now.iter().any(|writer| before.contains(&writer.as_str())) {
                return Ok(false);
            }
        }
        let row = connection
            .patient(
                connection
                    .client()
                    .query_one(&statement, &[&self.slots, &position]),
            )
            .await?;
        let there: i64 = row.get(0);
        if usize::try_from(there).unwrap_or(0) < self.slots.len() {
            return Err(SideError::new(
                connection.node(),
                SideErrorKind::Permanent,
                "a replication slot is gone that was there at the start",
            ));
        }
        Ok(row.get::<_, Option<bool>>(1).unwrap_or(false))
    }
}

fn own<'a>(node: &NodeName, marks: &'a [Mark]) -> Option<&'a Mark> {
    marks.iter().find(|mark| mark.node == *node)
}

/// Names of the slots that a node's own subscriptions read.
pub(super) async fn subscribed(connection: &mut PgConnection) -> Result<Vec<String>, SideError> {
    const NATIVE: &str = "SELECT subslotname::text FROM pg_catalog.pg_subscription AS s \
        JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid \
        WHERE d.datname = pg_catalog.current_database() AND subenabled AND subslotname IS NOT NULL";
    const SPOCK_THERE: &str =
        "SELECT 'x'::text WHERE pg_catalog.to_regclass('spock.subscription') IS NOT NULL";
    const SPOCK: &str = "SELECT sub_slot_name::text FROM spock.subscription WHERE sub_enabled";
    let mut slots = names(connection, NATIVE).await?;
    if !names(connection, SPOCK_THERE).await?.is_empty() {
        slots.extend(names(connection, SPOCK).await?);
    }
    Ok(slots)
}

async fn names(connection: &mut PgConnection, text: &str) -> Result<Vec<String>, SideError> {
    let statement = connection.prepare(text).await?;
    let rows = connection
        .patient(connection.client().query(&statement, &[]))
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
