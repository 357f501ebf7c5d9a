//! Reading keys out of result sets.

use changeling_core::key::{Key, KeySpec, NotAKey};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use crate::sessions::{Attempt, Work};

/// Reads all rows of a query that selects [`KeySpec::select_list`]. The inner error is about a value.
///
/// # Errors
/// As the driver says.
pub async fn read_keys(
    conn: &mut Conn,
    sql: &str,
    spec: &KeySpec,
) -> Result<Result<Vec<Key>, NotAKey>, mysql_async::Error> {
    let rows: Vec<Row> = conn.query(sql).await?;
    Ok(rows.into_iter().map(|row| key(row, spec)).collect())
}

/// Reads keys and ends the transaction.
#[derive(Clone, Debug)]
pub struct ReadKeys {
    /// A query that selects [`KeySpec::select_list`].
    pub sql: String,
    /// The key.
    pub spec: KeySpec,
}

impl Work for ReadKeys {
    type Output = Result<Vec<Key>, NotAKey>;

    async fn attempt(&self, conn: &mut Conn) -> Attempt<Self::Output> {
        let keys = read_keys(conn, &self.sql, &self.spec).await?;
        conn.query_drop("COMMIT").await?;
        Ok(keys)
    }
}

fn key(row: Row, spec: &KeySpec) -> Result<Key, NotAKey> {
    let texts: Vec<Option<Vec<u8>>> = row
        .unwrap()
        .into_iter()
        .map(|value| match value {
            Value::Bytes(bytes) => Some(bytes),
            // The text protocol sends nothing but bytes and NULL.
            _ => None,
        })
        .collect();
    spec.parse(&texts)
}
