//! One migration a table at a time, gh-ost's included.

use std::time::Duration;

use changeling_core::ident::TableName;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::MigrationError;
use super::levers::Levers;
use crate::error::ApplyError;
use crate::inspector::lock_name;
use crate::server::{Role, Server, ServerError};

/// How often the session that holds the lock is seen to be alive; gh-ost's interval.
const PING: Duration = Duration::from_secs(30);
/// How long a predecessor that was just killed may take to disappear.
const PREDECESSOR: Duration = Duration::from_secs(3);
/// Between two tries to take the lock again; the pause of all retries.
const RETAKE: Duration = Duration::from_secs(1);

/// Holds the advisory lock until dropped.
#[derive(Debug)]
pub(super) struct MigrationLock {
    _alive: tokio_util::sync::DropGuard,
}

impl MigrationLock {
    /// Takes the lock, and keeps it by a session of its own. Losing it is a fault.
    pub(super) async fn take(
        server: &Server,
        table: &TableName,
        retries: u64,
        levers: &Levers,
    ) -> Result<Self, MigrationError> {
        let name = lock_name(table);
        let Some(conn) = acquire(server, &name).await? else {
            return Err(MigrationError::Busy {
                table: table.to_string(),
                hint: format!(
                    "SELECT IS_USED_LOCK('{name}') on {} names its session",
                    server.address()
                ),
            });
        };
        let cancel = CancellationToken::new();
        let lock = Lock {
            server: server.clone(),
            name,
            retries,
        };
        tokio::spawn(keep(conn, lock, cancel.clone(), levers.clone()));
        Ok(Self {
            _alive: cancel.drop_guard(),
        })
    }
}

/// A session that holds the lock; `None` when another has it.
async fn acquire(server: &Server, name: &str) -> Result<Option<Conn>, ServerError> {
    let mut conn = server.connect(Role::Inspector).await?;
    let got: Option<Option<u8>> = conn
        .exec_first("SELECT GET_LOCK(?, ?)", (name, PREDECESSOR.as_secs()))
        .await
        .map_err(server.failed("take the migration's lock"))?;
    Ok((got.flatten() == Some(1)).then_some(conn))
}

struct Lock {
    server: Server,
    name: String,
    retries: u64,
}

impl Lock {
    /// Takes the lock again after its session was lost, as when the server was restarted. Whoever may have had it in
    /// between has met our ghost table, and either left it alone or dropped it, which comes through the stream and
    /// ends this migration.
    async fn again(&self) -> Result<Conn, String> {
        let mut last = String::new();
        for _ in 0..self.retries.max(1) {
            match acquire(&self.server, &self.name).await {
                Ok(Some(conn)) => return Ok(conn),
                Ok(None) => last = "somebody else has it".to_owned(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(RETAKE).await;
        }
        Err(last)
    }
}

async fn keep(mut conn: Conn, lock: Lock, cancel: CancellationToken, levers: Levers) {
    let name = &lock.name;
    let mut ticks = interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let held: Result<Option<Option<u8>>, _> = conn
            .exec_first("SELECT IS_USED_LOCK(?) = CONNECTION_ID()", (name,))
            .await;
        if matches!(held, Ok(Some(Some(1)))) {
            continue;
        }
        let why = match held {
            Ok(_) => Err("somebody else has it".to_owned()),
            Err(error) => {
                tracing::debug!(%error, "the session of the migration's lock was lost");
                tokio::select! {
                    () = cancel.cancelled() => return,
                    again = lock.again() => again,
                }
            }
        };
        match why {
            Ok(again) => conn = again,
            Err(why) => {
                levers.fault(ApplyError::Aborted(format!(
                    "the migration's lock {name} was lost: {why}; another migration of the table could begin"
                )));
                return;
            }
        }
    }
    let _ = conn.disconnect().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_shortened_and_stays_distinct() {
        assert_eq!(
            lock_name(&TableName::new("shop", "orders")),
            "gh-ost::shop.orders"
        );
        let one = lock_name(&TableName::new("s".repeat(64), "a".repeat(64)));
        let other = lock_name(&TableName::new("s".repeat(64), "b".repeat(64)));
        assert!(one.len() <= 64 && other.len() <= 64 && one != other);
    }
}
