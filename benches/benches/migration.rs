//! A whole migration by the real binary, against the server's own ALTER of the same table in the same run.
//!
//! Idle: native `ALGORITHM=COPY` (which blocks writers for all of it) and `ALGORITHM=INPLACE` (which does not, but runs
//! again on every replica) are the peers; the binary is measured without proof, which is what they do, and with it. Then
//! beside writers at several rates: how long it takes, what they notice, how much memory the binary ever had.

use std::time::Duration;

use anyhow::{Result, ensure};
use changeling_benches::report::{self, Table, median, millis, ratio, seconds};
use changeling_benches::statements::{self, Spent};
use changeling_benches::tool::{Phases, Ran, Tool};
use changeling_benches::writers::{Latencies, Writers};
use changeling_benches::{is_asked_for, parameter, stage, sysbench};
use changeling_support::Server;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Until writers have opened their sessions and prepared their statements.
const WARM_UP: Duration = Duration::from_secs(1);
/// What the binary's memory is to stay below.
const MEMORY_MIB: f64 = 64.0;

/// One way to change the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    NativeCopy,
    NativeInplace,
    Unproven,
    Proven,
}

impl Way {
    const ALL: [Self; 4] = [
        Self::NativeCopy,
        Self::NativeInplace,
        Self::Unproven,
        Self::Proven,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NativeCopy => "native COPY",
            Self::NativeInplace => "native INPLACE",
            Self::Unproven => "changeling --verify=off",
            Self::Proven => "changeling",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        if self == Self::Unproven {
            &["--verify=off"]
        } else {
            &[]
        }
    }
}

/// What is measured on.
struct Bench {
    server: Server,
    conn: Conn,
    tool: Tool,
    rows: u32,
}

/// One migration and what the server did for it.
struct Migrated {
    ran: Ran,
    phases: Phases,
    spent: Vec<(&'static str, Spent)>,
    /// Processor seconds of the server.
    server: f64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    if !is_asked_for() {
        return Ok(());
    }
    let rows = parameter::value("ROWS", 100_000)?;
    let tool = Tool::build().await?;
    let server = stage::server().await?;
    let mut conn = server.mysql().await?;
    sysbench::create(&mut conn, rows).await?;
    let mut bench = Bench {
        server,
        conn,
        tool,
        rows,
    };
    println!("{rows} rows, {}", sysbench::ALTER);
    bench.idle().await?;
    for rate in parameter::list::<f64>("RATES", "300,600,1000")? {
        bench.beside_writers(rate).await?;
    }
    bench.server.stop().await?;
    Ok(())
}

impl Bench {
    async fn idle(&mut self) -> Result<()> {
        let rounds: usize = parameter::value("ROUNDS", 3)?;
        let mut times = vec![Vec::new(); Way::ALL.len()];
        let mut processor = times.clone();
        let mut migrations: Vec<Vec<Migrated>> = Way::ALL.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (index, way) in Way::ALL.into_iter().enumerate() {
                sysbench::restore(&mut self.conn).await?;
                let before = self.server_seconds();
                match way {
                    Way::NativeCopy => times[index].push(self.native("ALGORITHM=COPY").await?),
                    Way::NativeInplace => times[index].push(self.native("FORCE, ALGORITHM=INPLACE").await?),
                    Way::Unproven | Way::Proven => {
                        let migrated = self.migrate(way.flags()).await?;
                        times[index].push(migrated.ran.total());
                        migrations[index].push(migrated);
                    }
                }
                processor[index].push(self.server_seconds() - before);
                self.check().await?;
            }
        }
        println!(
            "\nidle, median of {rounds}; load average {}",
            report::load_average()
        );
        let medians = |all: Vec<Vec<f64>>| all.iter().map(|one| median(one)).collect::<Vec<f64>>();
        let (times, processor) = (medians(times), medians(processor));
        let mut table = Table::new(&[
            "",
            "total",
            "/ COPY",
            "/ INPLACE",
            "server's processor",
            "/ COPY",
            "lock",
            "peak memory",
            "tool's processor",
        ]);
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let of = |figure: fn(&Migrated) -> f64| {
                median(&migrations[index].iter().map(figure).collect::<Vec<_>>())
            };
            let mut row = vec![
                way.name().to_owned(),
                seconds(times[index]),
                ratio(times[index], times[0]),
                ratio(times[index], times[1]),
                seconds(processor[index]),
                ratio(processor[index], processor[0]),
            ];
            if !migrations[index].is_empty() {
                let peak = migrations[index]
                    .iter()
                    .map(|migrated| migrated.ran.peak_kib)
                    .max()
                    .unwrap_or(0);
                row.extend([
                    millis(Duration::from_secs_f64(of(|migrated| {
                        migrated.ran.locked.as_secs_f64()
                    }))),
                    format!("{:.1} MiB", mib(peak)),
                    seconds(of(|migrated| migrated.ran.processor)),
                ]);
            }
            table.row(row);
        }
        table.print();
        println!();
        let mut phases = Table::new(&["", "prepare", "copy", "indexes", "proof", "cut-over", "finish"]);
        for (way, migrations) in Way::ALL.into_iter().zip(&migrations).skip(2) {
            phases.row(phase_cells(way.name(), migrations));
        }
        phases.print();
        for (way, migrations) in Way::ALL.into_iter().zip(&migrations).skip(2) {
            if let Some(last) = migrations.last() {
                print_spent(way.name(), last);
            }
            report::line(&json!({
                "bench": "migration", "rate": 0, "way": way.name(), "rows": self.rows,
                "total": median(&totals(migrations)), "native_copy": times[0], "native_inplace": times[1],
                "ratio_to_copy": median(&totals(migrations)) / times[0],
                "server_processor": processor[way as usize], "native_copy_processor": processor[0],
                "peak_kib": migrations.iter().map(|migrated| migrated.ran.peak_kib).max(),
                "locked_ms": migrations.iter().map(|migrated| migrated.ran.locked.as_secs_f64() * 1e3).collect::<Vec<_>>(),
                "phases": phases_json(migrations),
            }));
        }
        Ok(())
    }

    async fn beside_writers(&mut self, rate: f64) -> Result<()> {
        let rounds: usize = parameter::value("LOAD_ROUNDS", 1)?;
        println!(
            "\nbeside {rate} transactions/s; load average {}",
            report::load_average()
        );
        let mut table = Table::new(&[
            "",
            "time",
            "tx/s",
            "p95",
            "p99",
            "longest",
            "due p99",
            "due longest",
            "lock",
            "retries",
            "peak memory",
        ]);
        let mut phases = Table::new(&["", "prepare", "copy", "indexes", "proof", "cut-over", "finish"]);
        let mut last = None;
        for _ in 0..rounds {
            for way in [Way::Unproven, Way::Proven] {
                last = Some(
                    self.round_beside_writers(rate, way, &mut table, &mut phases)
                        .await?,
                );
            }
        }
        table.print();
        println!();
        phases.print();
        if let Some(last) = &last {
            print_spent(Way::Proven.name(), last);
        }
        Ok(())
    }

    async fn round_beside_writers(
        &mut self,
        rate: f64,
        way: Way,
        table: &mut Table,
        phases: &mut Table,
    ) -> Result<Migrated> {
        let calm: f64 = parameter::value("CALM_SECONDS", 5.0)?;
        sysbench::restore(&mut self.conn).await?;
        let writers = Writers {
            opts: self.server.mysql_opts().db_name(Some(sysbench::SCHEMA)).into(),
            table: sysbench::table(),
            rows: self.rows,
            rate,
            connections: parameter::value("CONNECTIONS", 16)?,
        };
        let running = writers.start().await?;
        sleep(WARM_UP).await;
        let before = Instant::now();
        sleep(Duration::from_secs_f64(calm)).await;
        let migrated = self.migrate(way.flags()).await;
        sleep(WARM_UP).await;
        let timeline = running.stop().await?;
        let migrated = match migrated {
            Ok(migrated) => migrated,
            Err(error) => {
                println!("  {}: {error:#}", way.name());
                return Err(error);
            }
        };
        self.check().await?;
        ensure!(
            timeline.errors.is_empty(),
            "writers saw errors: {:?}",
            timeline.errors
        );
        let ran = &migrated.ran;
        let around = ran.swapped() - Duration::from_secs(1)..ran.swapped() + Duration::from_millis(200);
        let windows = [
            ("before", timeline.within(&(before..ran.began))),
            ("during", timeline.within(&(ran.began..ran.ended))),
            ("around the swap", timeline.within(&around)),
        ];
        for (index, (name, latencies)) in windows.iter().enumerate() {
            let mut row = latency_cells(&format!("{}, {name}", way.name()), latencies);
            row[1] = if index == 1 {
                seconds(ran.total())
            } else {
                String::new()
            };
            if index == 1 {
                row.extend([
                    millis(ran.locked),
                    ran.failed_attempts.to_string(),
                    format!("{:.1} MiB", mib(ran.peak_kib)),
                ]);
            }
            table.row(row);
        }
        phases.row(phase_cells(way.name(), std::slice::from_ref(&migrated)));
        report::line(&json!({
            "bench": "migration", "rate": rate, "way": way.name(), "rows": self.rows, "total": ran.total(),
            "locked_ms": ran.locked.as_secs_f64() * 1e3, "failed_attempts": ran.failed_attempts,
            "peak_kib": ran.peak_kib, "contended": timeline.contended,
            "phases": phases_json(std::slice::from_ref(&migrated)),
            "before": latency_json(&windows[0].1), "during": latency_json(&windows[1].1),
            "swap": latency_json(&windows[2].1),
        }));
        if mib(ran.peak_kib) > MEMORY_MIB {
            println!("  more than {MEMORY_MIB} MiB");
        }
        Ok(migrated)
    }

    async fn native(&mut self, how: &str) -> Result<f64> {
        let sql = format!("ALTER TABLE {} {}, {how}", sysbench::table(), sysbench::ALTER);
        let began = Instant::now();
        self.conn.query_drop(sql).await?;
        Ok(began.elapsed().as_secs_f64())
    }

    async fn migrate(&mut self, flags: &[&str]) -> Result<Migrated> {
        statements::forget(&mut self.conn).await?;
        let before = self.server_seconds();
        let ran = self
            .tool
            .migrate(&self.server, &sysbench::table(), sysbench::ALTER, flags)
            .await?;
        let server = self.server_seconds() - before;
        let spent = statements::spent(&mut self.conn).await?;
        let phases = ran.phases(&spent);
        let mut spent: Vec<(&'static str, Spent)> = spent.into_iter().collect();
        spent.sort_by(|one, other| other.1.seconds.total_cmp(&one.1.seconds));
        Ok(Migrated {
            ran,
            phases,
            spent,
            server,
        })
    }

    /// Processor seconds that the server has used so far; zero where it is no process of this machine.
    fn server_seconds(&self) -> f64 {
        self.server.process_id().map_or(0.0, stage::processor_seconds)
    }

    /// The ALTER is in place, and no row is lost: writers put back each key that they delete.
    async fn check(&mut self) -> Result<()> {
        let counted: Option<(u32, Option<i64>)> = self
            .conn
            .query_first(format!("SELECT COUNT(*), SUM(extra) FROM {}", sysbench::table()))
            .await?;
        ensure!(
            counted == Some((self.rows, Some(0))),
            "{counted:?} for {} rows",
            self.rows
        );
        Ok(())
    }
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn totals(migrations: &[Migrated]) -> Vec<f64> {
    migrations.iter().map(|migrated| migrated.ran.total()).collect()
}

type Part = (&'static str, fn(&Phases) -> f64);

const PARTS: [Part; 6] = [
    ("prepare", |phases| phases.prepare),
    ("copy", |phases| phases.copy),
    ("indexes", |phases| phases.indexes),
    ("proof", |phases| phases.proof),
    ("cut_over", |phases| phases.cut_over),
    ("finish", |phases| phases.finish),
];

fn phase_medians(migrations: &[Migrated]) -> impl Iterator<Item = (&'static str, f64)> {
    PARTS.into_iter().map(|(name, part)| {
        (
            name,
            median(
                &migrations
                    .iter()
                    .map(|migrated| part(&migrated.phases))
                    .collect::<Vec<_>>(),
            ),
        )
    })
}

fn phase_cells(name: &str, migrations: &[Migrated]) -> Vec<String> {
    std::iter::once(name.to_owned())
        .chain(phase_medians(migrations).map(|(_, time)| seconds(time)))
        .collect()
}

fn phases_json(migrations: &[Migrated]) -> serde_json::Value {
    phase_medians(migrations)
        .map(|(name, time)| (name.to_owned(), json!(time)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn latency_cells(name: &str, latencies: &Latencies) -> Vec<String> {
    vec![
        name.to_owned(),
        String::new(),
        format!("{:.0}", latencies.rate),
        millis(latencies.p95),
        millis(latencies.p99),
        millis(latencies.longest),
        millis(latencies.due_p99),
        millis(latencies.due_longest),
    ]
}

fn latency_json(latencies: &Latencies) -> serde_json::Value {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    json!({
        "transactions": latencies.transactions, "rate": latencies.rate, "p95_ms": millis(latencies.p95),
        "p99_ms": millis(latencies.p99), "longest_ms": millis(latencies.longest),
        "due_p99_ms": millis(latencies.due_p99), "due_longest_ms": millis(latencies.due_longest),
    })
}

fn print_spent(name: &str, migrated: &Migrated) {
    println!(
        "\n{name}: the server used {} of processor; its statements, from arrival to answer",
        seconds(migrated.server)
    );
    let mut table = Table::new(&["", "statements", "time"]);
    for (kind, spent) in &migrated.spent {
        table.row(vec![
            (*kind).to_owned(),
            spent.count.to_string(),
            format!("{:.3} s", spent.seconds),
        ]);
    }
    table.print();
}
