//! Where the server's time goes, by kind of statement, as `performance_schema` counts it.

use std::collections::BTreeMap;

use anyhow::Result;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

/// Statements of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// How many.
    pub count: u64,
    /// Seconds from their arrival to their answer, all sessions added up.
    pub seconds: f64,
}

/// Forgets what was counted.
///
/// # Errors
/// As the server says.
pub async fn forget(conn: &mut Conn) -> Result<()> {
    Ok(conn
        .query_drop("TRUNCATE TABLE performance_schema.events_statements_summary_by_digest")
        .await?)
}

/// What was counted since, of sessions that have no database of their own: the writers have one, the tool has none.
///
/// # Errors
/// As the server says.
pub async fn spent(conn: &mut Conn) -> Result<BTreeMap<&'static str, Spent>> {
    let rows: Vec<Row> = conn
        .query(
            "SELECT DIGEST_TEXT, COUNT_STAR, SUM_TIMER_WAIT / 1e12 FROM \
             performance_schema.events_statements_summary_by_digest WHERE SCHEMA_NAME IS NULL",
        )
        .await?;
    let mut kinds: BTreeMap<&'static str, Spent> = BTreeMap::new();
    for row in rows {
        let text: Option<Option<String>> = row.get(0);
        let kind = kind(&text.flatten().unwrap_or_default());
        let spent = kinds.entry(kind).or_default();
        spent.count += row.get::<u64, _>(1).unwrap_or(0);
        spent.seconds += row.get::<f64, _>(2).unwrap_or(0.0);
    }
    Ok(kinds)
}

/// The part that a statement plays in a migration.
fn kind(digest: &str) -> &'static str {
    let ghost = digest.contains("_gho");
    match digest.split_whitespace().next().unwrap_or_default() {
        "INSERT" if digest.starts_with("INSERT IGNORE") => "copy",
        "SELECT" if digest.contains("OFFSET") || digest.contains("LIMIT ?, ...") => "bounds",
        "SELECT" if ghost && digest.contains("COUNT") => "proof",
        "SELECT" if ghost => "other reads of the ghost",
        "REPLACE" if ghost => "sync",
        "DELETE" if ghost => "sync deletes",
        "ALTER" if ghost && digest.contains("ADD KEY") => "index build",
        "ALTER" | "CREATE" | "DROP" | "RENAME" => "definitions",
        "COMMIT" => "commits",
        "SHOW" if digest.contains("WARNINGS") => "warnings",
        "LOCK" | "UNLOCK" => "locks",
        _ => "other",
    }
}
