//! Comparing a table on two PostgreSQL servers, against the same work with ACE's expression as bare SQL.
//!
//! The peer is what ACE would ask of the servers and nothing else: `string_agg` over `concat_ws`, ordered by the key, in
//! blocks of 100 000 rows, from as many connections as the tool opens, which stay open from round to round while the tool
//! connects anew. The limit is `count(*)`. The tool is the real
//! binary, with everything that an operator waits for: connecting, agreeing on columns, the report. Its tables are
//! identical, then differ in 0.01 %, 1 % and all of their rows; its peak memory is read from the kernel.

use anyhow::{Context, Result, ensure};
use changeling_benches::customers::{self, TABLE};
use changeling_benches::report::{self, Table, median, ratio, seconds};
use changeling_benches::tool::{Diffed, Tool};
use changeling_benches::{is_asked_for, parameter};
use changeling_support::{Server, ServerSpec};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::Instant;
use tokio_postgres::Client;

/// PostgreSQL's version; the harness has this one everywhere.
const MAJOR: u16 = 15;
/// Rows of a block, for the peer and for the tool.
const BLOCK: u64 = 100_000;
/// Connections to each node: what the tool opens on two processors.
const CONNECTIONS: usize = 2;

/// One row of the result.
struct Line {
    name: &'static str,
    seconds: f64,
    peak_kib: Option<u64>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    if !is_asked_for() {
        return Ok(());
    }
    let rows: u64 = parameter::value("ROWS", 1_000_000)?;
    let rounds: usize = parameter::value("ROUNDS", 3)?;
    let tool = Tool::build().await?;
    let nodes = [node().await?, node().await?];
    println!(
        "PostgreSQL {} twice, {rows} rows of 12 columns, median of {rounds}; {} processors, load average {}",
        nodes[0].full_version(),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        report::load_average()
    );
    let clients = [connect(&nodes[0]).await?, connect(&nodes[1]).await?];
    let (first, second) = tokio::join!(
        customers::fill(&clients[0][0], rows),
        customers::fill(&clients[1][0], rows)
    );
    first?;
    second?;

    let mut lines = vec![
        line("count(*), both nodes", bare(&clients, rows, rounds, count).await?),
        line(
            "ACE's expression, both nodes",
            bare(&clients, rows, rounds, ace).await?,
        ),
    ];
    let identical = diff(&tool, &nodes, rounds).await?;
    ensure!(identical.exit_status == 0, "identical tables do not match");
    lines.push(told("table-diff, identical", &identical));
    for (name, every) in [
        ("table-diff, 0.01 % differ", 10_000),
        ("table-diff, 1 % differ", 100),
        ("table-diff, all differ", 1),
    ] {
        customers::spoil(&clients[1][0], every).await?;
        let differing = diff(&tool, &nodes, rounds.min(2)).await?;
        let expected = rows / every;
        ensure!(
            differing.exit_status == 1 && differing.differences == Some(expected),
            "{name}: {:?} differences instead of {expected}",
            differing.differences
        );
        lines.push(told(name, &differing));
    }
    print(&lines, rows);
    Ok(())
}

async fn node() -> Result<Server> {
    Ok(ServerSpec::postgres(MAJOR)
        .dedicated()
        .option("-cshared_buffers=1GB")
        .option("-cmax_wal_size=4GB")
        .start()
        .await?)
}

/// The peer's connections to a node.
type Connected = [Client; CONNECTIONS];

async fn connect(node: &Server) -> Result<Connected> {
    Ok([node.postgres("postgres").await?, node.postgres("postgres").await?])
}

fn line(name: &'static str, seconds: f64) -> Line {
    Line {
        name,
        seconds,
        peak_kib: None,
    }
}

fn told(name: &'static str, diffed: &Diffed) -> Line {
    Line {
        name,
        seconds: diffed.seconds,
        peak_kib: Some(diffed.peak_kib),
    }
}

/// Runs a statement for every block on both nodes at a time; the first round warms the caches.
async fn bare(
    clients: &[Connected; 2],
    rows: u64,
    rounds: usize,
    statement: fn(u64, u64) -> String,
) -> Result<f64> {
    let mut times = Vec::new();
    for round in 0..=rounds {
        let began = Instant::now();
        let (first, second) = tokio::join!(
            blocks(&clients[0], rows, statement),
            blocks(&clients[1], rows, statement)
        );
        ensure!(first? == second?, "the nodes do not answer the same");
        if round > 0 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    Ok(median(&times))
}

/// Every connection takes each second block.
async fn blocks(
    clients: &Connected,
    rows: u64,
    statement: fn(u64, u64) -> String,
) -> Result<Vec<Vec<String>>> {
    let shares = clients.iter().enumerate().map(async |(share, client)| {
        let mut answers = Vec::new();
        for from in (1..=rows)
            .step_by(BLOCK as usize)
            .skip(share)
            .step_by(CONNECTIONS)
        {
            let row = client.query_one(&statement(from, from + BLOCK), &[]).await?;
            answers.push(row.get(0));
        }
        Ok(answers)
    });
    try_join_all(shares).await
}

fn count(from: u64, to: u64) -> String {
    format!("SELECT count(*)::text FROM {TABLE} WHERE index >= {from} AND index < {to}")
}

/// As ACE writes it, with the built-in `sha256` in place of pgcrypto's `digest`.
fn ace(from: u64, to: u64) -> String {
    let columns: Vec<String> = customers::COLUMNS
        .iter()
        .map(|column| format!("COALESCE(_tbl_.\"{column}\"::text, '')"))
        .collect();
    format!(
        "SELECT encode(sha256(convert_to(COALESCE(string_agg(concat_ws('|', {}), '|' ORDER BY \"index\"), \
         'EMPTY_BLOCK'), 'UTF8')), 'hex') FROM {TABLE} AS _tbl_ WHERE \"index\" >= {from} AND \"index\" < {to}",
        columns.join(", ")
    )
}

/// The median run, with the largest memory of all.
async fn diff(tool: &Tool, nodes: &[Server; 2], rounds: usize) -> Result<Diffed> {
    let mut runs = Vec::new();
    for _ in 0..rounds.max(1) {
        runs.push(tool.diff(nodes, TABLE, BLOCK).await?);
    }
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let peak_kib = runs.iter().map(|run| run.peak_kib).max().unwrap_or(0);
    let middle = runs.len() / 2;
    let run = runs.into_iter().nth(middle).context("no run")?;
    Ok(Diffed { peak_kib, ..run })
}

fn print(lines: &[Line], rows: u64) {
    let peer = lines[1].seconds;
    println!();
    let mut table = Table::new(&[
        "",
        "time",
        "rows/s a node",
        "times as fast as ACE's SQL",
        "peak memory",
    ]);
    for line in lines {
        table.row(vec![
            line.name.to_owned(),
            seconds(line.seconds),
            format!("{:.0}", rows as f64 / line.seconds),
            ratio(peer, line.seconds),
            line.peak_kib
                .map_or_else(String::new, |kib| format!("{:.1} MiB", kib as f64 / 1024.0)),
        ]);
    }
    table.print();
    for line in lines {
        report::line(&json!({
            "bench": "diff", "what": line.name, "rows": rows, "seconds": line.seconds,
            "ratio": peer / line.seconds, "peak_kib": line.peak_kib,
        }));
    }
}
