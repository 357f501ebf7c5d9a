//! The stream comes from a replica that lags; rows are written on the primary.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use changeling_applier::progress::Ending;
use changeling_applier::settings::{Permission, Place};
use changeling_support::server_or_skip;
use mysql_async::prelude::Queryable;
use rstest::rstest;

use crate::rig::{self, On, scale, seeds, settled};
use crate::stage;

/// Unique values move between rows on the primary, keys change and rows vanish, a second before the tool hears of it.
#[rstest]
fn no_row_is_lost_behind_a_replica_that_lags(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::run(async {
        let topology = server_or_skip!(on.spec().with_replica().delay_seconds(1));
        let primary = Arc::new(topology.primary);
        let replica = topology.replica;
        rig::within(on, Arc::clone(&primary), async |mut rig| {
            for seed in seeds() {
                let table = format!("orders{seed}");
                let mut load = rig.load(&table, i64::try_from(scale("CHANGELING_ROWS", 5_000))?, seed);
                // A replica that is left behind for good by writers without any pause would keep the migration waiting.
                load.pause = Duration::from_millis(20);
                load.create().await?;
                replica.wait_caught_up(&primary, Duration::from_secs(60)).await?;
                let running = load.start();
                let alter = "ADD COLUMN extra int NOT NULL DEFAULT 7, MODIFY v bigint NOT NULL";
                let mut settings = rig.settings(&table, alter);
                settings.inspected = stage::endpoint(&replica);
                settings.place = Place::Primary { inspect_primary: Permission::Refused };
                settings.throttle.max_lag = Duration::from_secs(10);
                // MySQL delays until a whole second has come, and looks at whole seconds: what it was told to apply a second
                // late is up to three seconds late. A swap is not tried behind more than half of this.
                settings.cut_over.lock_timeout = Duration::from_secs(8);
                let summary = rig.migrate(settings).await.with_context(|| format!("seed {seed}"))?;
                ensure!(summary.ending == Ending::Swapped, "{summary:?}");
                let report = settled(&load, running).await.with_context(|| format!("seed {seed}"))?;
                let extra: Vec<i64> = rig.conn.query(format!("SELECT DISTINCT extra FROM {}", load.table)).await?;
                ensure!(extra == [7], "the ALTER is not in place: {extra:?}");
                eprintln!(
                    "{on:?} behind a replica, seed {seed}: {} transactions, {} lock failures, longest {:?}, p95 {:?}, locked \
                     {:?}, attempts {}, total {:?}",
                    report.committed,
                    report.lock_failures,
                    report.longest,
                    report.percentile(95),
                    summary.state.locked_for.unwrap_or_default(),
                    summary.state.cut_over_attempts,
                    summary.state.elapsed
                );
                ensure!(report.lock_failures == 0, "a writer alone on its rows met a lock: {:?}", report.first_lock_failure);
            }
            Ok(())
        })
        .await
    })
}
