//! Fences: whether the others have replayed what a node had committed.
//!
//! A publisher knows, for each slot, up to where its subscriber has applied and flushed everything
//! (`confirmed_flush_lsn`, which any role may read). A mark is a place in the publisher's log, and it is passed when
//! all slots of subscriptions between the compared nodes have confirmed it.

use crate::model::NodeName;
use crate::side::{Mark, SideError, SideErrorKind};

use super::connect::PgConnection;

/// The slots through which the other nodes replay this one's changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replay {
    slots: Vec<String>,
}

impl Replay {
    /// Of all nodes' subscriptions, those that read slots of this node.
    pub(super) async fn of(connection: &mut PgConnection, subscribed: &[String]) -> Result<Self, SideError> {
        const SLOTS: &str = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots \
            WHERE slot_type = 'logical' AND database = pg_catalog.current_database() AND slot_name = ANY ($1::text[])";
        let statement = connection.prepare(SLOTS).await?;
        let rows = connection
            .patient(connection.client().query(&statement, &[&subscribed]))
            .await?;
        Ok(Self {
            slots: rows.iter().map(|row| row.get(0)).collect(),
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
        Ok(Some(Mark {
            node: connection.node().clone(),
            position: row.get::<_, &str>(0).into(),
        }))
    }

    /// Whether every slot has confirmed this node's own mark.
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
        let position: &str = &mark.position;
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
