//! Sync cycles of the real applier on a real server, against the statement they consist of.
//!
//! The limit is one session that brings the same keys over by `REPLACE … SELECT`, batch by batch, with nothing around
//! it: no marker, no cycles, no lanes. The applier is told of the keys as the stream would tell it, in batches of a
//! thousand changes, and has several lanes, so that it can be faster than the limit.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context, Result, ensure};
use changeling_applier::actor::{Applier, ApplierParts, ApplierPorts};
use changeling_applier::changelog::Changelog;
use changeling_applier::ghost;
use changeling_applier::inspector::Inspection;
use changeling_applier::server::Role;
use changeling_applier::sessions::{Mode, Sessions};
use changeling_applier::settings::DeferIndexes;
use changeling_applier::sync::barrier::Flights;
use changeling_applier::sync::cycle::CycleState;
use changeling_applier::sync::ledger::Ledger;
use changeling_applier::sync::statement::Statements;
use changeling_applier::throttle::ThrottleState;
use changeling_benches::report::{self, Table, median, ratio};
use changeling_benches::sysbench::{self, Dice};
use changeling_benches::{is_asked_for, parameter, stage};
use changeling_core::actor::{ActorHost, HostOptions};
use changeling_core::change::{Change, ChangeBatch, RowChange};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::key::{Key, KeySpec, Side};
use changeling_core::value::Cell;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Changes of one message; the streamer's.
const BATCH: usize = 1000;
/// The token in statements of ours.
const OWNER: &str = "bench";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    if !is_asked_for() {
        return Ok(());
    }
    let rows = parameter::value("ROWS", 100_000)?;
    let keys: usize = parameter::value("KEYS", 10_000)?;
    let rounds: usize = parameter::value("ROUNDS", 3)?;
    let server = stage::server().await?;
    let mut conn = server.mysql().await?;
    sysbench::create(&mut conn, rows).await?;

    let mut settings = stage::settings(&server, &sysbench::table(), sysbench::ALTER);
    settings.copy.defer_indexes = DeferIndexes::Never;
    let inspection = Inspection::begin(&settings).await?;
    let plan = Arc::new(ghost::prepare(&inspection, &settings, OWNER).await?);
    conn.query_drop(Changelog::create_statement(&plan.names.changelog))
        .await?;
    conn.query_drop(format!(
        "INSERT INTO {} (id, k, c, pad) SELECT id, k, c, pad FROM {}",
        plan.names.ghost, plan.names.original
    ))
    .await?;

    let primary = Arc::new(inspection.primary.clone());
    let sessions = |role, mode| Sessions::new(Arc::clone(&primary), role, mode, 1);
    let writers = sessions(Role::Synchroniser, Mode::Writer(plan.session.clone()));
    let statements = Statements::new(Arc::clone(&plan));
    let mut plain = Plain {
        conn: writers.open().await?,
        statements: statements.clone(),
        batch: settings.batch_keys,
    };

    let host = ActorHost::start(HostOptions::default())?;
    let cancel = CancellationToken::new();
    // Kept open: an applier whose throttle is gone takes that for the end.
    let (_throttle, throttle) = watch::channel(ThrottleState::default());
    let parts = |lanes: NonZeroUsize| ApplierParts {
        writers: writers.clone(),
        markers: sessions(Role::Changelog, Mode::AutoCommit),
        statements: statements.clone(),
        flights: Flights::default(),
        ledger: Ledger::default(),
        lanes: lanes.get(),
        batch_keys: Arc::new(AtomicUsize::new(settings.batch_keys)),
        throttle: throttle.clone(),
        ours: format!("changeling:{OWNER}"),
    };
    let applier = |lanes| {
        let applier = Applier::new(
            parts(lanes),
            ApplierPorts::default(),
            host.pumps().clone(),
            cancel.child_token(),
        );
        let cycles = applier.cycles();
        Fed {
            cycles,
            applier: host.spawn(move |_| applier),
            seq: 0,
        }
    };
    let mut one = applier(NonZeroUsize::MIN);
    let mut several = applier(settings.lanes);

    let mut dice = Dice::new(3);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=rounds {
        let dirty = dirty(&mut dice, rows, keys);
        let mut took = [0.0; 3];
        touch(&mut conn, &plan.key.spec(), &dirty).await?;
        took[0] = plain.replace(&dirty).await?;
        touch(&mut conn, &plan.key.spec(), &dirty).await?;
        took[1] = one.sync(&dirty).await?;
        touch(&mut conn, &plan.key.spec(), &dirty).await?;
        took[2] = several.sync(&dirty).await?;
        // The first round warms the caches.
        if round > 0 {
            times
                .iter_mut()
                .zip(took)
                .for_each(|(times, took)| times.push(took));
        }
    }
    ensure!(
        unequal(&mut conn).await? == Some(0),
        "the ghost table is not in step"
    );
    cancel.cancel();
    server.stop().await?;

    let rates: Vec<f64> = times.iter().map(|times| keys as f64 / median(times)).collect();
    println!(
        "\n{keys} dirty keys of {rows} rows, median of {rounds}; load average {}",
        report::load_average()
    );
    let mut table = Table::new(&["", "rows/s", "/ limit"]);
    let lanes = settings.lanes;
    let names = [
        "REPLACE … SELECT, one session".to_owned(),
        "applier, 1 lane".to_owned(),
        format!("applier, {lanes} lanes"),
    ];
    for (name, rate) in names.into_iter().zip(&rates) {
        table.row(vec![name, format!("{rate:.0}"), ratio(*rate, rates[0])]);
    }
    table.print();
    report::line(&json!({
        "bench": "sync_cycle", "rows": rows, "keys": keys, "limit": rates[0], "one_lane": rates[1],
        "lanes": lanes.get(), "several_lanes": rates[2], "ratio": rates[2] / rates[0],
    }));
    Ok(())
}

/// Keys without repetition, in no order, as a stream has them.
fn dirty(dice: &mut Dice, rows: u32, keys: usize) -> Vec<Key> {
    let mut seen = BTreeSet::new();
    let mut dirty = Vec::with_capacity(keys);
    while dirty.len() < keys.min(rows as usize) {
        let id = 1 + dice.below(rows);
        if seen.insert(id) {
            dirty.push(Key::new(vec![Cell::Int(i64::from(id))]));
        }
    }
    dirty
}

/// Changes the rows, so that there is something to bring over.
async fn touch(conn: &mut Conn, spec: &KeySpec, dirty: &[Key]) -> Result<()> {
    for keys in dirty.chunks(BATCH) {
        let filter = spec.in_keys(Side::Source, keys)?;
        conn.query_drop(format!(
            "UPDATE {} SET k = k + 1 WHERE {filter}",
            sysbench::table()
        ))
        .await?;
    }
    Ok(())
}

async fn unequal(conn: &mut Conn) -> Result<Option<u64>> {
    Ok(conn
        .query_first(format!(
            "SELECT COUNT(*) FROM {} t LEFT JOIN {}._sbtest1_gho g USING (id) WHERE NOT (t.k <=> g.k)",
            sysbench::table(),
            sysbench::SCHEMA
        ))
        .await?)
}

/// The limit.
struct Plain {
    conn: Conn,
    statements: Statements,
    batch: usize,
}

impl Plain {
    async fn replace(&mut self, dirty: &[Key]) -> Result<f64> {
        let mut sorted: Vec<&Key> = dirty.iter().collect();
        sorted.sort_unstable();
        let began = Instant::now();
        for keys in sorted.chunks(self.batch) {
            let sql = self.statements.replace_keys(keys.iter().copied())?;
            self.conn.query_drop(sql).await?;
            self.conn.query_drop("COMMIT").await?;
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

/// An applier and what the stream would tell it.
struct Fed<A: actix::Actor> {
    applier: actix::Addr<A>,
    cycles: watch::Receiver<CycleState>,
    seq: u64,
}

impl Fed<Applier> {
    async fn sync(&mut self, dirty: &[Key]) -> Result<f64> {
        let target = self.cycles.borrow().keys + dirty.len() as u64;
        let began = Instant::now();
        for keys in dirty.chunks(BATCH) {
            self.seq += 1;
            let change = |key: &Key| Change::Row {
                watch: 0,
                row: RowChange::Update {
                    before: key.clone(),
                    after: key.clone(),
                },
            };
            let changes: Vec<Change> = keys.iter().map(change).collect();
            let bytes = changes.iter().map(Change::bytes).sum();
            let file = FilePos {
                file: "binlog.000001".to_owned(),
                pos: self.seq,
            };
            let upto = Coordinates {
                file,
                gtids: Gtids::None,
            };
            self.applier
                .send(ChangeBatch {
                    seq: self.seq,
                    changes,
                    upto,
                    bytes,
                })
                .await?;
        }
        self.cycles
            .wait_for(|state| state.keys >= target)
            .await
            .context("the applier ended")?;
        Ok(began.elapsed().as_secs_f64())
    }
}
