//! Locks of ours on the user's table.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use changeling_applier::progress::Phase;
use mysql_async::prelude::Queryable;

use crate::migrate::slow_copy;
use crate::rig::{self, On, outcome, settled};
use crate::stage;

/// Until the cut-over, no session of ours has a lock on a row of the original table, nor on the table.
#[test]
fn the_original_is_not_locked_before_the_cut_over() -> anyhow::Result<()> {
    const LOCKS: &str = "SELECT /*+ NO_ICP() */ d.OBJECT_NAME, d.LOCK_TYPE, d.LOCK_MODE FROM performance_schema.data_locks d \
         JOIN performance_schema.threads t ON t.THREAD_ID = d.THREAD_ID \
         JOIN performance_schema.session_connect_attrs a ON a.PROCESSLIST_ID = t.PROCESSLIST_ID \
         AND a.ATTR_NAME = 'program_name' AND a.ATTR_VALUE = 'changeling' WHERE d.OBJECT_SCHEMA = ?";
    rig::on(On::MySql, async |rig| {
        let load = rig.load("orders", 8_000, 1);
        load.create().await?;
        let running = load.start();
        let mut settings = rig.settings("orders", "ADD COLUMN extra int NOT NULL DEFAULT 7");
        slow_copy(&mut settings);
        settings.copy.chunk_size = 200;
        let migration = stage::migrate(&rig.host, settings);
        let mut watcher = rig.session().await?;
        let mut seen: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        let mut samples = 0;
        loop {
            let locks: Vec<(String, String, String)> = watcher.exec(LOCKS, (&rig.schema,)).await?;
            let phase = migration.state().borrow().phase;
            if phase >= Phase::CuttingOver {
                break;
            }
            samples += 1;
            for lock in locks {
                ensure!(
                    lock.0 != "orders",
                    "a lock of ours on the original while {phase:?}: {lock:?}"
                );
                *seen.entry(lock).or_default() += 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        outcome(&migration).await?;
        settled(&load, running).await?;
        eprintln!("{samples} samples: {seen:?}");
        // Else the question was put wrongly.
        ensure!(
            seen.keys().any(|(table, _, _)| table == "_orders_gho"),
            "not even the ghost table's locks were seen"
        );
        Ok(())
    })
}
