//! The swap, again and again, and with others in its way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use changeling_applier::progress::{Ending, Phase};
use changeling_applier::server::{Role, Server as Known};
use changeling_applier::settings::Permission;
use changeling_core::change_source::ChangeSource;
use changeling_differ::mysql::SameServerProof;
use changeling_streamer::{BinlogSource, BinlogSourceOptions};
use changeling_support::FaultProxy;
use mysql_async::OptsBuilder;
use mysql_async::prelude::Queryable;
use rstest::rstest;
use tokio::time::Instant;

use crate::migrate::flag_file;
use crate::rig::{self, On, outcome, reached, scale, settled};
use crate::stage;

/// No write may wait longer than this, whatever happens. A second is the aim, and what is seen; a machine that runs
/// other tests beside takes its share.
const STALL: Duration = Duration::from_secs(3);

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get(sorted.len().saturating_sub(1) * percent / 100)
        .copied()
        .unwrap_or_default()
}

/// A small table under eight writers is swapped many times.
#[rstest]
fn many_cut_overs(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::alone(on, on.spec(), async |rig| {
        let load = rig.load("orders", 1_000, 1);
        load.create().await?;
        let running = load.start();
        let (mut locks, mut attempts) = (Vec::new(), 0);
        let count = scale("CHANGELING_CUTOVERS", 10);
        for number in 0..count {
            let alter = if number % 2 == 0 {
                "ADD COLUMN extra int NOT NULL DEFAULT 7"
            } else {
                "DROP COLUMN extra"
            };
            let mut settings = rig.settings("orders", alter);
            settings.leftovers.drop_old_last = Permission::Granted;
            let summary = rig
                .migrate(settings)
                .await
                .with_context(|| format!("migration {number}"))?;
            ensure!(summary.ending == Ending::Swapped, "{summary:?}");
            locks.extend(summary.state.locked_for);
            attempts += summary.state.cut_over_attempts;
        }
        let report = settled(&load, running).await?;
        locks.sort_unstable();
        eprintln!(
            "{on:?}: {count} swaps in {attempts} attempts; locked: median {:?}, p90 {:?}, p99 {:?}, longest {:?}; {} \
             transactions, p50 {:?}, p99 {:?}, longest {:?}, {} lock failures",
            percentile(&locks, 50),
            percentile(&locks, 90),
            percentile(&locks, 99),
            percentile(&locks, 100),
            report.committed,
            report.percentile(50),
            report.percentile(99),
            report.longest,
            report.lock_failures
        );
        ensure!(
            report.lock_failures == 0,
            "a writer alone on its rows met a lock: {:?}",
            report.first_lock_failure
        );
        ensure!(report.longest < STALL, "a writer waited {:?}", report.longest);
        Ok(())
    })
}

/// Somebody's transaction holds the original's or the ghost table's metadata lock for two seconds: attempts fail, writers
/// hardly notice, then it swaps.
#[rstest]
fn a_reader_in_a_transaction_only_delays_the_swap(
    #[values(On::MySql, On::MariaDb)] on: On,
    #[values("orders", "_orders_gho")] table: &str,
) -> anyhow::Result<()> {
    rig::on(on, async |rig| {
        let load = rig.load("orders", 2_000, 3);
        load.create().await?;
        let running = load.start();
        let file = flag_file()?;
        let mut settings = rig.settings("orders", "ADD COLUMN extra int NOT NULL DEFAULT 7");
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Postponing).await?;
        let mut reader = rig.session().await?;
        reader.query_drop("BEGIN").await?;
        let _: Option<u64> = reader
            .query_first(format!("SELECT COUNT(*) FROM {table}"))
            .await?;
        file.close()?;
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(
            migration.state().borrow().phase < Phase::Finishing,
            "it did not wait for the reader"
        );
        reader.query_drop("COMMIT").await?;
        let summary = outcome(&migration).await?;
        let report = settled(&load, running).await?;
        eprintln!(
            "{on:?} {table} held: {} attempts, swapped after {:?}, locked {:?}, longest {:?}, {} lock failures",
            summary.state.cut_over_attempts,
            began.elapsed(),
            summary.state.locked_for.unwrap_or_default(),
            report.longest,
            report.lock_failures
        );
        ensure!(report.longest < STALL, "a writer waited {:?}", report.longest);
        Ok(())
    })
}

/// Attempts without limit cost no memory, and are made until one succeeds.
#[rstest]
fn retries_without_number(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |rig| {
        let load = rig.load("orders", 1_000, 4);
        load.create().await?;
        let running = load.start();
        let file = flag_file()?;
        let mut settings = rig.settings("orders", "ADD COLUMN extra int NOT NULL DEFAULT 7");
        settings.retries = 9_999_999_999_999;
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Postponing).await?;
        let mut reader = rig.session().await?;
        reader.query_drop("BEGIN").await?;
        let _: Option<u64> = reader.query_first("SELECT COUNT(*) FROM orders").await?;
        file.close()?;
        let wanted = scale("CHANGELING_ATTEMPTS", 4);
        let mut state = migration.state();
        let mut memory = Vec::new();
        while state.borrow().cut_over_attempts < wanted {
            state.changed().await?;
            memory.push(resident()?);
        }
        reader.query_drop("COMMIT").await?;
        let summary = outcome(&migration).await?;
        settled(&load, running).await?;
        let (first, last) = (
            memory.first().copied().unwrap_or(0),
            memory.last().copied().unwrap_or(0),
        );
        eprintln!(
            "{on:?}: {} attempts of {}; {} KiB resident at first, {} KiB at last",
            summary.state.cut_over_attempts, 9_999_999_999_999_u64, first, last
        );
        // Other tests run in this process; a queue of ten billion retries would not fit any machine.
        ensure!(
            last < first + 200 * 1024,
            "memory grew from {first} to {last} KiB"
        );
        Ok(())
    })
}

fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// The stream is slower than the lock may last: attempts fail, their sentinels arrive when nobody waits for them any
/// more, and the attempt that succeeds is one that saw its own.
#[rstest]
fn late_sentinels_change_nothing(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    // A server of its own: the slow stream must carry nothing but this test's changes.
    rig::alone(on, on.spec(), async |rig| {
        let mut load = rig.load("orders", 1_000, 5);
        load.pause = Duration::from_millis(100);
        load.create().await?;
        let running = load.start();
        let proxy = FaultProxy::before(&rig.server).await?;
        let mut settings = rig.settings("orders", "ADD COLUMN extra int NOT NULL DEFAULT 7");
        settings.cut_over.lock_timeout = Duration::from_millis(130);
        let file = flag_file()?;
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let server_id = settings.server_id;
        let (host, port) = (proxy.host(), proxy.port());
        let source = Box::new(move |server: &Known| {
            let opts = OptsBuilder::from_opts(server.opts(Role::Streamer))
                .ip_or_hostname(host)
                .tcp_port(port);
            Arc::new(BinlogSource::new(BinlogSourceOptions::new(opts, server_id))) as Arc<dyn ChangeSource>
        });
        let verifier = Arc::new(SameServerProof::new());
        let migration =
            changeling_applier::migration::Migration::start(&rig.host, settings, source, verifier);
        reached(&migration, Phase::Postponing).await?;
        // Heartbeats are fresh enough to begin an attempt, and the sentinel is too late for it.
        proxy.delay(Duration::from_millis(150));
        file.close()?;
        let mut state = migration.state();
        let wait = state.wait_for(|state| state.cut_over_attempts >= 4);
        tokio::time::timeout(Duration::from_secs(120), wait)
            .await
            .context("no attempts")??;
        proxy.resume();
        let summary = outcome(&migration).await?;
        let report = settled(&load, running).await?;
        eprintln!(
            "{on:?}: {} attempts, locked {:?}, longest {:?}",
            summary.state.cut_over_attempts,
            summary.state.locked_for.unwrap_or_default(),
            report.longest
        );
        ensure!(summary.state.cut_over_attempts >= 4);
        ensure!(report.longest < STALL, "a writer waited {:?}", report.longest);
        Ok(())
    })
}
