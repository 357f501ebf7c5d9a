//! Statements on a lent session, and what their failures mean.

use changeling_core::verify::VerifyError;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Row, Value};

/// A row as the text protocol sends it.
pub(super) type TextRow = Vec<Option<Vec<u8>>>;

/// Server errors after which the same comparison may succeed.
const TRANSIENT: &[u16] = &[
    1040, // too many connections
    1053, // server shutdown in progress
    1158, 1159, 1160, 1161, // network reads and writes
    1180, // error during commit
    1205, // lock wait timeout
    1213, // deadlock
    1317, // query interrupted
    1412, // table definition has changed
    1615, // statement needs to be prepared again
    1927, // connection was killed (MariaDB)
    1969, // max_statement_time exceeded (MariaDB)
    2006, 2013, // server has gone away, lost connection
    3024, // max_execution_time exceeded (MySQL)
    4031, // disconnected because of inactivity (MySQL)
];

/// A failure that trying again will not mend.
pub(super) fn refusal(message: impl Into<String>) -> VerifyError {
    VerifyError {
        message: message.into().into(),
        transient: false,
    }
}

/// A failure that trying again may mend.
pub(super) fn doubt(message: impl Into<String>) -> VerifyError {
    VerifyError {
        message: message.into().into(),
        transient: true,
    }
}

/// Runs a statement and reads all of its rows. `doing` completes "while …".
pub(super) async fn rows(session: &mut Conn, doing: &str, sql: &str) -> Result<Vec<TextRow>, VerifyError> {
    tracing::trace!(sql, "comparison statement");
    let rows: Vec<Row> = session.query(sql).await.map_err(|error| explain(doing, &error))?;
    rows.into_iter()
        .map(|row| row.unwrap_raw().into_iter().map(text).collect())
        .collect()
}

/// Runs a statement that returns no rows.
pub(super) async fn run(session: &mut Conn, doing: &str, sql: &str) -> Result<(), VerifyError> {
    tracing::trace!(sql, "comparison statement");
    session
        .query_drop(sql)
        .await
        .map_err(|error| explain(doing, &error))
}

fn text(value: Option<Value>) -> Result<Option<Vec<u8>>, VerifyError> {
    match value {
        Some(Value::NULL) => Ok(None),
        Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
        other => Err(refusal(format!(
            "the server sent {other:?} where text was expected"
        ))),
    }
}

/// A number in a row that a statement of ours wrote.
pub(super) fn number(row: &TextRow, index: usize) -> Result<u64, VerifyError> {
    row.get(index)
        .and_then(Option::as_deref)
        .and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok())
        .ok_or_else(|| refusal(format!("column {index} of {row:?} should have been a count")))
}

fn explain(doing: &str, error: &Error) -> VerifyError {
    let (transient, hint) = match error {
        Error::Io(_) => (true, ""),
        Error::Driver(DriverError::ConnectionClosed | DriverError::PoolDisconnected) => (true, ""),
        Error::Driver(_) | Error::Other(_) | Error::Url(_) => (false, ""),
        Error::Server(server) => (TRANSIENT.contains(&server.code), hint(server.code)),
    };
    VerifyError {
        message: format!("while {doing}: {error}{hint}").into(),
        transient,
    }
}

fn hint(code: u16) -> &'static str {
    match code {
        1044 | 1142 => {
            "; the account needs SELECT on both tables and, where the ALTER converts values, \
             CREATE TEMPORARY TABLES on the schema"
        }
        1146 => "; the table is gone, or the session was reset after it was prepared",
        1100 => "; another table is locked in this session: prepare the session before LOCK TABLES",
        1153 => "; raise max_allowed_packet or compare fewer keys at a time",
        1114 => "; the disk or temporary tablespace is full: use smaller ranges",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn server(code: u16) -> VerifyError {
        let error = ServerError {
            code,
            message: "m".to_owned(),
            state: "HY000".to_owned(),
        };
        explain("comparing", &Error::Server(error))
    }

    #[test]
    fn a_deadlock_is_worth_another_try_and_a_missing_privilege_is_not() {
        assert!(server(1213).transient);
        assert!(!server(1142).transient);
        assert!(server(1142).message.contains("CREATE TEMPORARY TABLES"));
    }
}
