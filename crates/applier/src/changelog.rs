//! The changelog table C: what we write so that it comes back through the binary log.

use changeling_core::ident::{TableName, quote_text};
use changeling_core::marker::{HEARTBEAT_HINT, HEARTBEAT_ID, Heartbeat, STATE_HINT, STATE_ID, Sentinel};
use tokio_util::sync::CancellationToken;

use crate::error::ApplyError;
use crate::sessions::{Execute, Session, Sessions};

/// Names the table in a comment, as gh-ost does; clean-up tools look for it.
const COMMENT: &str = "gh-ost changelog";

/// Writes rows of the changelog table, each in a transaction of its own.
#[derive(Debug)]
pub struct Changelog {
    table: TableName,
    session: Session,
    last: i64,
}

impl Changelog {
    /// On these sessions, which commit by themselves.
    #[must_use]
    pub fn new(table: TableName, sessions: &Sessions) -> Self {
        Self {
            table,
            session: sessions.lasting(),
            last: 0,
        }
    }

    /// The statement that creates the table.
    #[must_use]
    pub fn create_statement(table: &TableName) -> String {
        format!(
            "CREATE TABLE {table} (\
             id bigint unsigned NOT NULL AUTO_INCREMENT, \
             last_update timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, \
             hint varchar(64) CHARACTER SET ascii NOT NULL, \
             value varchar(4096) CHARACTER SET ascii NOT NULL, \
             PRIMARY KEY (id), UNIQUE KEY hint_uidx (hint)\
             ) ENGINE=InnoDB AUTO_INCREMENT=256 COMMENT='{COMMENT}'"
        )
    }

    /// Commits a heartbeat and waits for the commit to return: the *marker* of a cycle. Everything that
    /// stands before it in the binary log is visible to a plain read afterwards.
    ///
    /// The value is never the one before, so that the row changes and the binary log gets an event.
    ///
    /// # Errors
    /// When the server refuses, after retries.
    pub async fn marker(&mut self, cancel: &CancellationToken) -> Result<Heartbeat, ApplyError> {
        let mut heartbeat = Heartbeat::now();
        heartbeat.written_at_micros = heartbeat.written_at_micros.max(self.last + 1);
        self.last = heartbeat.written_at_micros;
        self.write(HEARTBEAT_ID, HEARTBEAT_HINT, &heartbeat.value(), cancel)
            .await?;
        Ok(heartbeat)
    }

    /// Commits a sentinel.
    ///
    /// # Errors
    /// As [`Changelog::marker`].
    pub async fn sentinel(
        &mut self,
        sentinel: Sentinel,
        cancel: &CancellationToken,
    ) -> Result<(), ApplyError> {
        self.write(STATE_ID, STATE_HINT, &sentinel.value(), cancel).await
    }

    /// Leaves a note for people: the present state, and a row of its history.
    ///
    /// # Errors
    /// As [`Changelog::marker`].
    pub async fn note(
        &mut self,
        hint: &str,
        value: &str,
        cancel: &CancellationToken,
    ) -> Result<(), ApplyError> {
        let sql = format!(
            "INSERT INTO {} (hint, value) VALUES ({}, {}) ON DUPLICATE KEY UPDATE last_update = NOW(), \
             value = VALUES(value)",
            self.table,
            quote_text(hint),
            quote_text(value)
        );
        self.run(sql, cancel).await
    }

    async fn write(
        &mut self,
        id: u64,
        hint: &str,
        value: &str,
        cancel: &CancellationToken,
    ) -> Result<(), ApplyError> {
        let sql = format!(
            "INSERT INTO {} (id, hint, value) VALUES ({id}, '{hint}', '{value}') \
             ON DUPLICATE KEY UPDATE last_update = NOW(), value = VALUES(value)",
            self.table
        );
        self.run(sql, cancel).await
    }

    async fn run(&mut self, sql: String, cancel: &CancellationToken) -> Result<(), ApplyError> {
        let what = format!("write to {}", self.table);
        self.session.run(&what, cancel, &Execute(sql)).await
    }
}
