//! The cut-over alone, behind an applier that follows a script.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, MessageResult};
use anyhow::{Context as _, ensure};
use changeling_applier::actor::{
    ApplierEnded, Hold, Release, Remaining, SentinelReached, Step, StillUnproven, WhatRemains,
};
use changeling_applier::cutover::actor::{AttemptCutOver, CutOver, CutOverOutcome, CutOverState};
use changeling_applier::cutover::work::{ApplierControl, Counter, Swap, TriggerSql, Workshop};
use changeling_applier::sync::pending::{KeyEvent, KeyMap};
use changeling_applier::sync::statement::Statements;
use changeling_core::actor::{GetState, LatestSender, LatestSlot, Published};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::key::Key;
use changeling_core::marker::{Marker, STATE_HINT, STATE_ID, Sentinel, parse};
use changeling_core::value::Cell;
use changeling_differ::mysql::SameServerProof;
use mysql_async::prelude::Queryable;
use rstest::rstest;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::applier::{Fed, written};
use super::{OWNER, PATIENCE, Tables};
use crate::rig::{self, On, Rig};

/// How long an attempt may lock the table.
const LIMIT: Duration = Duration::from_millis(1500);
/// For attempts that fail anyway.
const SHORT: Duration = Duration::from_millis(300);

/// What the cut-over takes for an applier: always at rest, and these keys remain.
struct Scripted {
    remaining: KeyMap,
    held: bool,
}

impl Actor for Scripted {
    type Context = Context<Self>;
}

impl Handler<Hold> for Scripted {
    type Result = Result<(), ApplierEnded>;

    fn handle(&mut self, _: Hold, _: &mut Self::Context) -> Self::Result {
        self.held = true;
        Ok(())
    }
}

impl Handler<Step> for Scripted {
    type Result = Result<(), ApplierEnded>;

    fn handle(&mut self, _: Step, _: &mut Self::Context) -> Self::Result {
        assert!(self.held, "a step is asked for while cycles are on hold");
        Ok(())
    }
}

impl Handler<WhatRemains> for Scripted {
    type Result = MessageResult<WhatRemains>;

    fn handle(&mut self, _: WhatRemains, _: &mut Self::Context) -> Self::Result {
        assert!(self.held, "what remains is asked while cycles are on hold");
        MessageResult(Ok(Remaining {
            keys: self.remaining.clone(),
            ..Remaining::default()
        }))
    }
}

impl Handler<StillUnproven> for Scripted {
    type Result = ();

    fn handle(&mut self, _: StillUnproven, _: &mut Self::Context) {}
}

impl Handler<Release> for Scripted {
    type Result = ();

    fn handle(&mut self, _: Release, _: &mut Self::Context) {
        self.held = false;
    }
}

/// A table with a ghost that lacks the last change, and a cut-over that waits for sentinels from the test.
struct Scene {
    rig: Rig,
    tables: Tables,
    cut_over: Addr<CutOver>,
    slot: LatestSlot<SentinelReached>,
    sentinels: LatestSender<SentinelReached>,
}

impl Scene {
    async fn set(mut rig: Rig) -> anyhow::Result<Self> {
        rig.sql(&[
            "CREATE TABLE orders (id bigint PRIMARY KEY, v int NOT NULL)",
            "INSERT INTO orders VALUES (1, 1), (2, 2)",
        ])
        .await?;
        let tables = Tables::prepare(&mut rig, "ADD COLUMN extra int NOT NULL DEFAULT 7").await?;
        // As if copied, and then changed once more.
        rig.sql(&[
            "INSERT INTO _orders_gho (id, v) SELECT id, v FROM orders",
            "UPDATE orders SET v = 3 WHERE id = 2",
        ])
        .await?;
        let remaining = KeyMap::from([(Key::new(vec![Cell::Int(2)]), KeyEvent::Written)]);
        let applier = rig.host.spawn(move |_| Scripted {
            remaining,
            held: false,
        });
        Ok(Self::behind(rig, tables, ApplierControl::of(&applier)))
    }

    fn behind(rig: Rig, tables: Tables, applier: ApplierControl) -> Self {
        let shop = Workshop {
            writers: tables.writers(),
            plain: tables.plain(),
            statements: Statements::new(Arc::clone(&tables.plan)),
            applier,
            verifier: Some(Arc::new(SameServerProof::new())),
            triggers: Arc::new(|_| TriggerSql::default()),
            counter: Counter::Leave,
            swap: Swap::ForGood,
            owner: OWNER.into(),
        };
        let slot = LatestSlot::new();
        let sentinels = slot.sender();
        let (pumps, read) = (rig.host.pumps().clone(), slot.clone());
        let cut_over = rig
            .host
            .spawn(move |_| CutOver::new(shop, read, pumps, CancellationToken::new()));
        Self {
            rig,
            tables,
            cut_over,
            slot,
            sentinels,
        }
    }

    /// Makes an attempt, and meanwhile plays the stream.
    async fn attempt(
        &self,
        attempt: u64,
        lock_limit: Duration,
        stream: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<CutOverOutcome> {
        let outcome = self.cut_over.send(AttemptCutOver { attempt, lock_limit });
        let (outcome, stream) = tokio::join!(timeout(PATIENCE, outcome), stream);
        stream?;
        Ok(outcome.context("the attempt hangs")??)
    }

    /// The sentinel of an attempt, once it is written: it is read where the stream would read it.
    async fn written(&self, attempt: u64) -> anyhow::Result<Sentinel> {
        let mut conn = self.rig.session().await?;
        let sql = format!(
            "SELECT value FROM {} WHERE id = {STATE_ID}",
            self.tables.plan.names.changelog
        );
        let look = async {
            loop {
                let value: Option<String> = conn.query_first(&sql).await?;
                match value.and_then(|value| parse(STATE_HINT, &value)) {
                    Some(Marker::Sentinel(sentinel)) if sentinel.attempt == attempt => return Ok(sentinel),
                    _ => sleep(Duration::from_millis(2)).await,
                }
            }
        };
        timeout(PATIENCE, look).await.context("no sentinel was written")?
    }

    fn publish(&self, sentinel: Sentinel) -> Published {
        let upto = Coordinates {
            file: FilePos {
                file: "script".into(),
                pos: sentinel.attempt,
            },
            gtids: Gtids::None,
        };
        self.sentinels.publish(SentinelReached { sentinel, upto })
    }

    async fn state(&self) -> anyhow::Result<CutOverState> {
        Ok(self.cut_over.send(GetState::new()).await?)
    }

    /// The original is in charge, and can be written.
    async fn nothing_changed(&mut self, outcome: CutOverOutcome, because: &str) -> anyhow::Result<()> {
        let CutOverOutcome::Retry(why) = outcome else {
            anyhow::bail!("{outcome:?}")
        };
        ensure!(why.contains(because), "{why}");
        self.rig.sql(&["UPDATE orders SET v = v WHERE id = 1"]).await?;
        ensure!(
            self.rig.columns("orders").await?.len() == 2,
            "the new table is in place"
        );
        let tables: Vec<String> = self.rig.conn.query("SHOW TABLES").await?;
        ensure!(tables == ["_orders_ghc", "_orders_gho", "orders"], "{tables:?}");
        Ok(())
    }
}

async fn nothing() -> anyhow::Result<()> {
    Ok(())
}

/// Sentinels that do not come, come late, come from earlier attempts or with another challenge change nothing; the
/// attempt's own swaps.
#[rstest]
fn only_its_own_sentinel_swaps(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    const LAGS: &str = "the sentinel did not come through the stream in time";
    rig::on(on, async |rig| {
        let mut scene = Scene::set(rig).await?;
        // Never.
        let outcome = scene.attempt(1, SHORT, nothing()).await?;
        scene.nothing_changed(outcome, LAGS).await?;
        // That of the attempt before, while this one waits.
        let first = scene.written(1).await?;
        let stale = async {
            scene.written(2).await?;
            ensure!(scene.publish(first) == Published::Queued);
            Ok(())
        };
        let outcome = scene.attempt(2, SHORT, stale).await?;
        scene.nothing_changed(outcome, LAGS).await?;
        ensure!(scene.state().await?.stale_sentinels == 1);
        // Late: after the attempt has given up.
        ensure!(scene.publish(scene.written(2).await?) == Published::Queued);
        let outcome = scene.attempt(3, SHORT, nothing()).await?;
        scene.nothing_changed(outcome, LAGS).await?;
        // The right number, another challenge: somebody else's, or of an earlier life of this process.
        let wrong = async {
            let own = scene.written(4).await?;
            scene.publish(Sentinel {
                challenge: own.challenge ^ 1,
                ..own
            });
            Ok(())
        };
        let outcome = scene.attempt(4, SHORT, wrong).await?;
        scene.nothing_changed(outcome, LAGS).await?;
        // Its own, after an older one that is stale even for the slot.
        let own = async {
            let own = scene.written(5).await?;
            ensure!(scene.publish(first) == Published::Stale);
            ensure!(scene.publish(own) == Published::Queued);
            Ok(())
        };
        let outcome = scene.attempt(5, LIMIT, own).await?;
        ensure!(
            matches!(outcome, CutOverOutcome::Swapped(locked) if locked < LIMIT),
            "{outcome:?}"
        );
        let rows: Vec<(i64, i64, i64)> = scene
            .rig
            .conn
            .query("SELECT id, v, extra FROM orders ORDER BY id")
            .await?;
        ensure!(
            rows == [(1, 1, 7), (2, 3, 7)],
            "the change that remained was made under the lock: {rows:?}"
        );
        let state = scene.state().await?;
        ensure!(
            state.stale_sentinels == 3 && state.attempts == 5 && state.running.is_none(),
            "{state:?}"
        );
        Ok(())
    })
}

/// However many sentinels come and however many attempts fail, one is kept.
#[rstest]
fn memory_does_not_grow(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    const MANY: u64 = 2_000_000;
    const ATTEMPTS: u64 = 20;
    /// What the allocator and other tests of this process may take meanwhile; the sentinels alone would be 200 MB.
    const ROOM: u64 = 64 << 10;
    rig::on(on, async |rig| {
        let mut scene = Scene::set(rig).await?;
        let before = resident()?;
        let last = 9_999_999_999_999;
        for number in 0..ATTEMPTS {
            let attempt = last - ATTEMPTS + number;
            let flood = async {
                let challenge = scene.written(attempt).await?.challenge ^ 1;
                for stale in 0..MANY / ATTEMPTS {
                    let attempt = number * (MANY / ATTEMPTS) + stale + 1;
                    ensure!(scene.publish(Sentinel { attempt, challenge }) != Published::Closed);
                }
                Ok(())
            };
            let outcome = scene.attempt(attempt, Duration::from_millis(50), flood).await?;
            scene.nothing_changed(outcome, "").await?;
        }
        let grown = resident()?.saturating_sub(before);
        ensure!(grown < ROOM, "{grown} KiB more after {MANY} sentinels");
        let own = async {
            scene.publish(scene.written(last).await?);
            Ok(())
        };
        let outcome = scene.attempt(last, LIMIT, own).await?;
        ensure!(matches!(outcome, CutOverOutcome::Swapped(_)), "{outcome:?}");
        let state = scene.state().await?;
        eprintln!(
            "{on:?}: {} attempts, {} sentinels for others, {} displaced unseen, {grown} KiB grown",
            state.attempts,
            state.stale_sentinels,
            scene.slot.superseded()
        );
        ensure!(
            state.stale_sentinels + scene.slot.superseded() == MANY,
            "{state:?}"
        );
        Ok(())
    })
}

/// A cycle that fails while the cut-over drains has lost its keys: the attempt must fail.
#[rstest]
fn a_failed_step_is_not_swapped(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&[
            "CREATE TABLE orders (id bigint PRIMARY KEY, v int NOT NULL)",
            "INSERT INTO orders VALUES (1, 1), (2, 2)",
        ])
        .await?;
        let tables = Tables::prepare(&mut rig, "ADD UNIQUE KEY v (v)").await?;
        rig.sql(&["INSERT INTO _orders_gho SELECT id, v FROM orders"])
            .await?;
        let mut fed = Fed::start(&rig.host, &tables);
        fed.applier.send(Hold).await??;
        // A row that the new table cannot have. Its event comes in time.
        rig.sql(&["INSERT INTO orders VALUES (3, 1)"]).await?;
        fed.feed(vec![written(3)]).await?;
        let mut scene = Scene::behind(rig, tables, ApplierControl::of(&fed.applier));
        let own = async {
            scene.publish(scene.written(1).await?);
            Ok(())
        };
        let outcome = timeout(LIMIT * 2, scene.attempt(1, LIMIT, own)).await;
        let rows: Vec<i64> = scene.rig.conn.query("SELECT id FROM orders ORDER BY id").await?;
        ensure!(rows == [1, 2, 3], "{outcome:?}, and the rows are {rows:?}");
        Ok(())
    })
}

/// Memory of this process in KiB.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
