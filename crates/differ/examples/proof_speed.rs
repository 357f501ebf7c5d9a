//! Measures the proof of a table of sysbench's shape.
//!
//! `cargo run --release -p changeling-differ --example proof_speed -- mysql://user@host:port/schema [rows a range] [sessions]`
//! compares the tables `t` and `_t_gho`, which `id INT AUTO_INCREMENT PRIMARY KEY, k INT, c CHAR(120), pad CHAR(60)`
//! describes, and which the caller has filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use changeling_core::ident::TableName;
use changeling_core::key::{Bound, Key, KeyColumn, KeyRange, KeySpec, TargetMatch};
use changeling_core::schema::{Column, ColumnKind, Generated};
use changeling_core::value::Cell;
use changeling_core::verify::{ColumnPair, TablePair, Verifier};
use changeling_differ::mysql::SameServerProof;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .ok_or("the first argument is the server's URL with a schema")?;
    let step: i64 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let sessions: u64 = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let opts = Opts::from_url(&url)?;
    let schema = opts.db_name().ok_or("the URL names no schema")?.to_owned();
    let mut conn = Conn::new(opts.clone()).await?;
    let charset: Option<String> = conn
        .query_first(format!(
            "SELECT CHARACTER_SET_NAME FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = '{schema}' AND TABLE_NAME = 't' AND COLUMN_NAME = 'c'"
        ))
        .await?;
    let highest: Option<i64> = conn.query_first("SELECT MAX(id) FROM t").await?;
    let highest = highest.ok_or("the table is empty")?;
    let pair = Arc::new(pair(&schema, &charset.ok_or("no column c")?));
    let proof = Arc::new(SameServerProof::new());
    for round in 0..5 {
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        let mut ready = Vec::new();
        for _ in 0..sessions {
            let mut session = Conn::new(opts.clone()).await?;
            proof.prepare(&mut session, &pair).await?;
            ready.push(session);
        }
        let start = Instant::now();
        for mut session in ready {
            let (next, pair, proof) = (Arc::clone(&next), Arc::clone(&pair), Arc::clone(&proof));
            tasks.push(tokio::spawn(async move {
                let mut rows = 0;
                loop {
                    let from = i64::try_from(next.fetch_add(1, Ordering::Relaxed))? * step;
                    if from > highest {
                        return Ok::<u64, Failure>(rows);
                    }
                    let key = |id| Key::new(vec![Cell::Int(id)]);
                    let range = KeyRange {
                        from: Bound::Excluded(key(from)),
                        to: Bound::Included(key(from + step)),
                    };
                    let findings = proof.compare_range(&mut session, &pair, &range, 100).await?;
                    assert!(findings.suspects.is_empty(), "{:?}", findings.suspects);
                    rows += findings.rows;
                }
            }));
        }
        let mut rows = 0;
        for task in tasks {
            rows += task.await??;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("round {round}: {rows} rows, {sessions} sessions, {step} a range: {seconds:.3} s");
    }
    let keys: Vec<Key> = (0..2_000)
        .map(|n| Key::new(vec![Cell::Int(1 + n * (highest / 2_000))]))
        .collect();
    for _ in 0..3 {
        let start = Instant::now();
        let findings = proof.compare_keys(&mut conn, &pair, &keys).await?;
        println!(
            "{} scattered keys: {:.1} ms",
            findings.rows,
            start.elapsed().as_secs_f64() * 1e3
        );
    }
    Ok(())
}

fn pair(schema: &str, charset: &str) -> TablePair {
    let column = |name: &str, column_type: &str, kind: ColumnKind| Column {
        name: name.to_owned(),
        column_type: column_type.to_owned(),
        kind,
        nullable: false,
        generated: Generated::No,
        auto_increment: name == "id",
        invisible: false,
    };
    let integer = || ColumnKind::Integer {
        width: 4,
        unsigned: false,
    };
    let text = || ColumnKind::Text {
        charset: charset.to_owned(),
        collation: String::new(),
    };
    let columns = [
        column("id", "int", integer()),
        column("k", "int", integer()),
        column("c", "char(120)", text()),
        column("pad", "char(60)", text()),
    ];
    let key = KeyColumn {
        source: "id".to_owned(),
        target: "id".to_owned(),
        kind: integer(),
        target_kind: integer(),
        descending: false,
        target_match: TargetMatch::Collation,
    };
    TablePair {
        source: TableName::new(schema, "t"),
        target: TableName::new(schema, "_t_gho"),
        source_index: "PRIMARY".to_owned(),
        target_index: "PRIMARY".to_owned(),
        key: KeySpec { columns: vec![key] },
        columns: columns
            .into_iter()
            .map(|column| ColumnPair {
                target: column.clone(),
                source: column,
            })
            .collect(),
    }
}
