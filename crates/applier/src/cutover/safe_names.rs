//! Names for a swap by RENAME: they sort after the table's own, and nobody has them.

use changeling_core::ident::TableName;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, params};

use super::outcome::Names;
use super::work::{Setback, Swap, Workshop, retry};
use crate::error::ApplyError;
use crate::sessions::Sessions;

/// The longest table name, in characters.
const LONGEST_NAME: usize = 64;

/// Names for G and D that sort after T and are free.
pub(super) async fn safe_names(shop: &Workshop) -> Result<Names, Setback> {
    let original = shop.statements.plan().names.original.clone();
    let mut conn = shop.plain.open().await.map_err(retry)?;
    let kept = &shop.statements.plan().names.old;
    if shop.swap == Swap::ForGood && taken(&mut conn, &shop.plain, kept).await? {
        return Err(Setback::Fatal(ApplyError::Aborted(format!(
            "table {kept} stands where {original} is to be kept; look at it, then drop it and go on with --resume"
        ))));
    }
    let mut free = Vec::new();
    for purpose in ["gho", "del"] {
        let candidates = candidates(&original.table, purpose);
        let mut found = None;
        for name in candidates {
            if !taken(&mut conn, &shop.plain, &original.sibling(&name)).await? {
                found = Some(original.sibling(name));
                break;
            }
        }
        free.push(found.ok_or_else(|| Setback::Retry(format!("no free name that sorts after {original}")))?);
    }
    let _ = conn.disconnect().await;
    let old = free.pop().unwrap_or_else(|| original.clone());
    let ghost = free.pop().unwrap_or_else(|| original.clone());
    Ok(Names { original, ghost, old })
}

/// Names that sort after `table` by bytes, in lower case too: its own name with something behind it, or, where
/// there is no room, cut and with something higher than what was cut off.
#[must_use]
pub fn candidates(table: &str, purpose: &str) -> Vec<String> {
    let mut names: Vec<String> = ["", "2", "3", "4", "5"]
        .iter()
        .map(|n| format!("{table}_{purpose}{n}"))
        .collect();
    names.retain(|name| name.chars().count() <= LONGEST_NAME);
    if names.is_empty() {
        let kept: String = table.chars().take(LONGEST_NAME - 6).collect();
        let higher = |mark: char| (1..=5).map(move |n| (mark, n));
        names = higher('~')
            .chain(higher('\u{ffe6}'))
            .map(|(mark, n)| format!("{kept}{mark}{purpose}{n}"))
            .collect();
        names.retain(|name| name.to_lowercase().as_bytes() > table.to_lowercase().as_bytes());
        names.retain(|name| name.as_bytes() > table.as_bytes());
    }
    names
}

/// Whether there is a table of this name.
pub(super) async fn taken(conn: &mut Conn, sessions: &Sessions, table: &TableName) -> Result<bool, Setback> {
    let row: Option<u8> = conn
        .exec_first(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :table",
            params! { "schema" => &table.schema, "table" => &table.table },
        )
        .await
        .map_err(|error| retry(sessions.server().failed("look for a table")(error)))?;
    Ok(row.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_the_swap_sort_after_the_table() {
        let long = "x".repeat(64);
        let umlauts = "ü".repeat(62);
        for table in ["t", "T", "orders", "~", long.as_str(), umlauts.as_str()] {
            for purpose in ["gho", "del"] {
                let names = candidates(table, purpose);
                assert!(!names.is_empty(), "{table}");
                for name in names {
                    assert!(name.as_bytes() > table.as_bytes(), "{name} {table}");
                    assert!(
                        name.to_lowercase().as_bytes() > table.to_lowercase().as_bytes(),
                        "{name} {table}"
                    );
                    assert!(name.chars().count() <= 64);
                }
            }
        }
    }
}
