//! The applier alone, fed from a queue: no stream, no copy, no migration.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix::Addr;
use anyhow::{Context, ensure};
use changeling_applier::actor::{Applier, ApplierParts, ApplierPorts, Hold, WhatRemains};
use changeling_applier::sync::barrier::Flights;
use changeling_applier::sync::cycle::CycleState;
use changeling_applier::sync::ledger::Ledger;
use changeling_applier::sync::statement::Statements;
use changeling_applier::throttle::ThrottleState;
use changeling_core::actor::{ActorExited, ActorHost, Credits, ExitStatus, Port};
use changeling_core::change::{Change, ChangeBatch, RowChange};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::key::Key;
use changeling_core::value::Cell;
use rstest::rstest;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Tables};
use crate::rig::{self, On};

const ORDERS: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, code varchar(20) NOT NULL, v int NOT NULL, \
                      UNIQUE KEY code (code))";

/// An applier, the queue that feeds it, and what it tells.
pub(super) struct Fed {
    pub(super) applier: Addr<Applier>,
    queue: Port<ChangeBatch>,
    cycles: watch::Receiver<CycleState>,
    exited: mpsc::Receiver<ActorExited>,
    seq: u64,
    _brake: watch::Sender<ThrottleState>,
}

impl Fed {
    pub(super) fn start(host: &ActorHost, tables: &Tables) -> Self {
        // Whoever holds the other end may pause it; once that end is gone the applier ends.
        let (brake, throttle) = watch::channel(ThrottleState::default());
        let (told, exited) = mpsc::channel(1);
        let applier = Applier::new(
            ApplierParts {
                writers: tables.writers(),
                markers: tables.plain(),
                statements: Statements::new(Arc::clone(&tables.plan)),
                flights: Flights::default(),
                ledger: Ledger::default(),
                lanes: 2,
                batch_keys: Arc::new(AtomicUsize::new(100)),
                throttle,
                ours: "changeling:embed".to_owned(),
            },
            ApplierPorts {
                exited: Some(told),
                ..ApplierPorts::default()
            },
            host.pumps().clone(),
            CancellationToken::new(),
        );
        let cycles = applier.cycles();
        let applier = host.spawn(move |_| applier);
        let queue = Port::mailbox(applier.clone().recipient(), Credits::new(4, 1 << 20));
        Self {
            applier,
            queue,
            cycles,
            exited,
            seq: 0,
            _brake: brake,
        }
    }

    /// Hands a batch over; it is taken over, not yet in the ghost table.
    pub(super) async fn feed(&mut self, rows: Vec<RowChange>) -> anyhow::Result<()> {
        self.seq += 1;
        let changes = rows
            .into_iter()
            .map(|row| Change::Row { watch: 0, row })
            .collect();
        let batch = ChangeBatch {
            seq: self.seq,
            changes,
            upto: position(self.seq),
            bytes: 100,
        };
        ensure!(self.queue.deliver(batch).await?.seq == self.seq);
        Ok(())
    }

    /// Waits until everything that was handed over is in the ghost table.
    async fn synchronised(&mut self) -> anyhow::Result<()> {
        let upto = Some(position(self.seq));
        timeout(PATIENCE, self.cycles.wait_for(|state| state.upto == upto))
            .await
            .context("no cycle")??;
        Ok(())
    }
}

/// Positions are the embedder's: here the batch's number.
fn position(seq: u64) -> Coordinates {
    Coordinates {
        file: FilePos {
            file: "queue".into(),
            pos: seq,
        },
        gtids: Gtids::None,
    }
}

fn key(id: i64) -> Key {
    Key::new(vec![Cell::Int(id)])
}

pub(super) fn written(id: i64) -> RowChange {
    RowChange::Insert { after: key(id) }
}

fn removed(id: i64) -> RowChange {
    RowChange::Delete { before: key(id) }
}

/// A key that came through the queue is in the ghost table as it is in the original, whatever happened to it.
#[rstest]
fn fed_from_a_queue(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&[ORDERS]).await?;
        let values: Vec<String> = (1..=500).map(|id| format!("({id}, 'c{id}', 0)")).collect();
        rig.sql(&[format!("INSERT INTO orders VALUES {}", values.join(","))])
            .await?;
        let tables = Tables::prepare(
            &mut rig,
            "ADD COLUMN extra int NOT NULL DEFAULT 7, MODIFY v bigint NOT NULL",
        )
        .await?;
        let mut fed = Fed::start(&rig.host, &tables);

        fed.feed((1..=500).map(written).collect()).await?;
        fed.synchronised().await?;
        ensure!(rig.assert_same("orders", "_orders_gho").await? == 500);

        // A deleted row, a new one, a changed key, and a unique value that three rows pass round.
        rig.sql(&[
            "DELETE FROM orders WHERE id = 1",
            "INSERT INTO orders VALUES (501, 'c501', 1)",
            "UPDATE orders SET id = 502, v = 2 WHERE id = 2",
            "UPDATE orders SET code = 'x' WHERE id = 3",
            "UPDATE orders SET code = 'c3' WHERE id = 4",
            "UPDATE orders SET code = 'c4' WHERE id = 5",
        ])
        .await?;
        fed.feed(vec![removed(1), written(501)]).await?;
        fed.feed(vec![RowChange::Update {
            before: key(2),
            after: key(502),
        }])
        .await?;
        fed.feed(vec![written(5), written(4), written(3)]).await?;
        // The same once more: a cycle reads the present, so repeating is harmless.
        fed.feed(vec![removed(1), written(2), written(3), written(600)])
            .await?;
        fed.synchronised().await?;
        ensure!(rig.assert_same("orders", "_orders_gho").await? == 500);
        ensure!(rig.value::<i64>("SELECT MIN(extra) FROM _orders_gho").await? == 7);

        // What is on hold is kept and named.
        fed.applier.send(Hold).await??;
        rig.sql(&["UPDATE orders SET v = 9 WHERE id = 10"]).await?;
        fed.feed(vec![written(10)]).await?;
        let remaining = fed.applier.send(WhatRemains).await??;
        ensure!(remaining.keys.keys().eq([&key(10)]), "{remaining:?}");
        Ok(())
    })
}

/// A duplicate on a unique key that only the ghost table has ends the applier, and it names the rows.
#[rstest]
fn a_duplicate_is_named(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&["CREATE TABLE orders (id bigint PRIMARY KEY, code varchar(20) NOT NULL)"])
            .await?;
        let tables = Tables::prepare(&mut rig, "ADD UNIQUE KEY code (code)").await?;
        rig.sql(&["INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, 'a')"])
            .await?;
        let mut fed = Fed::start(&rig.host, &tables);
        fed.feed(vec![written(1), written(2), written(3)]).await?;
        let ended = timeout(PATIENCE, fed.exited.recv()).await?.context("told")?;
        let ExitStatus::Failed(error) = ended.status else {
            anyhow::bail!("{ended:?}")
        };
        let error = error.to_string();
        ensure!(
            error.contains("id=1") && error.contains("id=3") && !error.contains("id=2"),
            "{error}"
        );
        Ok(())
    })
}

/// An applier whose cycle failed has lost the cycle's keys. It must not say that it is at rest and nothing remains: a
/// cut-over would swap without these rows.
#[rstest]
fn a_failed_applier_is_not_at_rest(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&["CREATE TABLE orders (id bigint PRIMARY KEY, code varchar(20) NOT NULL)"])
            .await?;
        let tables = Tables::prepare(&mut rig, "ADD UNIQUE KEY code (code)").await?;
        rig.sql(&["INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, 'a')"])
            .await?;
        let mut fed = Fed::start(&rig.host, &tables);
        fed.feed(vec![written(1), written(2), written(3)]).await?;
        timeout(PATIENCE, fed.exited.recv()).await?.context("told")?;
        let held = timeout(Duration::from_secs(2), fed.applier.send(Hold)).await??;
        ensure!(held.is_err(), "a failed applier is at rest");
        ensure!(
            fed.applier.send(WhatRemains).await?.is_err(),
            "a failed applier says what remains"
        );
        Ok(())
    })
}
