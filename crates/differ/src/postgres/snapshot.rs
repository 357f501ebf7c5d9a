//! Reading a whole table as it was at one instant.
//!
//! A keeper exports the snapshot of a transaction that it keeps open; every session imports it to digest ranges. Rows
//! that differ are looked at again as they are now: a snapshot says what was, not what is on its way.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::side::{Mark, SideError, SideErrorKind};

use super::connect::PgConnection;
use super::replay::Replay;

/// Wait between two looks at whether a fence was passed.
const FENCE_POLL: Duration = Duration::from_millis(20);

/// At what instants ranges are digested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Each when it is digested: nothing is held open on the servers.
    #[default]
    None,
    /// All of a node at one instant. The server cannot clean up what changes while the job runs.
    Node,
    /// As before, at an instant at which the nodes have replayed what the others had committed shortly before.
    Fenced,
}

/// Keeps a snapshot for as long as it lives.
pub(super) struct Keeper {
    _connection: PgConnection,
    id: String,
}

impl Keeper {
    /// Exports a snapshot of now.
    pub(super) async fn of(connection: PgConnection) -> Result<Self, SideError> {
        connection
            .run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let row = connection
            .patient(
                connection
                    .client()
                    .query_one("SELECT pg_catalog.pg_export_snapshot()", &[]),
            )
            .await?;
        Ok(Self {
            id: row.get(0),
            _connection: connection,
        })
    }

    /// Has a session see what the keeper sees, until its transaction ends.
    pub(super) async fn show(&self, connection: &PgConnection) -> Result<(), SideError> {
        connection
            .run(&format!(
                "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'",
                self.id
            ))
            .await
    }
}

/// Waits until every node has replayed what the others have committed until now.
pub(super) async fn fence(
    connections: &mut [PgConnection],
    replays: &[Replay],
    patience: Duration,
) -> Result<(), SideError> {
    let marks = try_join_all(
        connections
            .iter_mut()
            .zip(replays)
            .map(|(connection, replay)| replay.mark(connection)),
    )
    .await?;
    let marks: Vec<Mark> = marks.into_iter().flatten().collect();
    let began = Instant::now();
    loop {
        let passed = try_join_all(
            connections
                .iter_mut()
                .zip(replays)
                .map(|(connection, replay)| replay.passed(connection, &marks)),
        )
        .await?;
        let Some(behind) = passed.iter().position(|passed| !passed) else {
            return Ok(());
        };
        if began.elapsed() > patience {
            return Err(SideError::new(
                connections[behind].node(),
                SideErrorKind::Permanent,
                format_args!(
                    "its changes were not replayed by the other nodes within {} s; look at the subscriptions, or compare \
                     with --snapshot node",
                    patience.as_secs()
                ),
            ));
        }
        tokio::time::sleep(FENCE_POLL).await;
    }
}
