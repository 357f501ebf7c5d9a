//! A table of the shape that sysbench uses.

use std::fmt::Write as _;

use anyhow::Result;
use changeling_core::ident::TableName;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// The database of all benchmarks.
pub const SCHEMA: &str = "bench";

/// What the benchmarks change about the table: an ALTER that no server can do without writing every row, if it is told
/// not to do it at once.
pub const ALTER: &str = "ADD COLUMN extra int NOT NULL DEFAULT 0";

/// Rows that are made here; the others are copies of them with keys of their own.
const SEED_ROWS: u32 = 1000;

/// The table.
#[must_use]
pub fn table() -> TableName {
    TableName::new(SCHEMA, "sbtest1")
}

/// A small generator of its own: the same numbers with every version of every library.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below a limit.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(limit.max(1))).unwrap_or(0)
    }

    /// `groups` groups of eleven digits, as sysbench fills `c` (ten) and `pad` (five).
    pub fn digits(&mut self, groups: u32) -> String {
        let mut text = String::with_capacity(12 * groups as usize);
        for group in 0..groups {
            let dash = if group == 0 { "" } else { "-" };
            let _ = write!(
                text,
                "{dash}{:06}{:05}",
                self.below(1_000_000),
                self.below(100_000)
            );
        }
        text
    }
}

/// Creates the database and the table with so many rows, keys from 1, without a trace in the binary log.
///
/// # Errors
/// As the server says.
pub async fn create(conn: &mut Conn, rows: u32) -> Result<()> {
    let table = table();
    for sql in [
        "SET SESSION sql_log_bin = 0".to_owned(),
        format!("CREATE DATABASE IF NOT EXISTS {SCHEMA}"),
        format!("DROP TABLE IF EXISTS {table}"),
        format!(
            "CREATE TABLE {table} (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, k int NOT NULL DEFAULT 0, \
             c char(120) NOT NULL DEFAULT '', pad char(60) NOT NULL DEFAULT '') \
             ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
        ),
    ] {
        conn.query_drop(sql).await?;
    }
    let mut dice = Dice::new(1);
    let mut sql = format!("INSERT INTO {table} (id, k, c, pad) VALUES ");
    let mut filled = rows.min(SEED_ROWS);
    for id in 1..=filled {
        let comma = if id == 1 { "" } else { "," };
        let (k, c, pad) = (1 + dice.below(rows), dice.digits(10), dice.digits(5));
        let _ = write!(sql, "{comma}({id},{k},'{c}','{pad}')");
    }
    conn.query_drop(sql).await?;
    while filled < rows {
        let more = filled.min(rows - filled);
        conn.query_drop(format!(
            "INSERT INTO {table} (id, k, c, pad) SELECT id + {filled}, 1 + FLOOR(RAND({filled}) * {rows}), c, pad \
             FROM {table} WHERE id <= {more}"
        ))
        .await?;
        filled += more;
    }
    conn.query_drop(format!("ALTER TABLE {table} ADD KEY k_1 (k)"))
        .await?;
    conn.query_drop("SET SESSION sql_log_bin = 1").await?;
    Ok(())
}

/// Rebuilds the table as it was before [`ALTER`], and drops what a migration left. Not in the binary log.
///
/// # Errors
/// As the server says.
pub async fn restore(conn: &mut Conn) -> Result<()> {
    conn.query_drop("SET SESSION sql_log_bin = 0").await?;
    for left in ["_sbtest1_gho", "_sbtest1_ghc", "_sbtest1_ghk", "_sbtest1_del"] {
        conn.query_drop(format!("DROP TABLE IF EXISTS {}", TableName::new(SCHEMA, left)))
            .await?;
    }
    let table = table();
    let altered: Option<u64> = conn
        .exec_first(
            "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             AND COLUMN_NAME = 'extra'",
            (&table.schema, &table.table),
        )
        .await?;
    let change = if altered == Some(0) {
        ""
    } else {
        "DROP COLUMN extra, "
    };
    conn.query_drop(format!("ALTER TABLE {table} {change}FORCE, ALGORITHM=INPLACE"))
        .await?;
    conn.query_drop("SET SESSION sql_log_bin = 1").await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_sysbenchs() {
        let mut dice = Dice::new(7);
        assert_eq!(dice.digits(10).len(), 119);
        assert_eq!(dice.digits(5).len(), 59);
    }
}
