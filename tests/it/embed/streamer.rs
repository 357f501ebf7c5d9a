//! The streamer alone. `crates/streamer/examples/embed.rs` is the same as a program.

use std::sync::Arc;

use anyhow::{Context, ensure};
use changeling_applier::inspector::read;
use changeling_applier::server::{Role, Server};
use changeling_applier::settings::Tls;
use changeling_core::actor::{ActorHost, ExitStatus, HostOptions, Port};
use changeling_core::change::{Applied, Change, RowChange};
use changeling_core::change_source::{ChangeSource, Projection, StreamSpec, Watch};
use changeling_core::value::Cell;
use changeling_streamer::{BinlogSource, BinlogSourceOptions};
use rstest::rstest;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::PATIENCE;
use crate::rig::{self, On};
use crate::stage;

/// Whole rows with their types, into a channel of the embedder's.
#[rstest]
fn rows_of_a_table(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&[
            "CREATE TABLE orders (id bigint PRIMARY KEY, total decimal(10,2) NOT NULL, note varchar(20), \
                   at datetime(3), flags set('a','b','c'))",
        ])
        .await?;
        let table = rig.table("orders");
        // The inspector reads the columns; an embedder may as well write them down.
        let server = Server::open(&stage::endpoint(&rig.server), &Tls::Off, None).await?;
        let columns = read(&server, &mut server.connect(Role::Inspector).await?, &table).await?;
        let columns = columns.context("the table")?.schema.columns;

        let host = ActorHost::start(HostOptions::default())?;
        let source = BinlogSource::new(BinlogSourceOptions::new(
            rig.server.mysql_opts(),
            rig::server_id(),
        ));
        let orders = Watch {
            table,
            columns: columns.into(),
            projection: Projection::All,
        };
        let spec = StreamSpec {
            watches: vec![orders],
            changelog: None,
            gateways: vec![],
        };
        let (sender, mut batches) = mpsc::channel(8);
        let here = source.current().await?;
        let stream = source.start(&host, spec.clone(), here, Port::channel(sender));

        rig.sql(&[
            "INSERT INTO orders VALUES (1, 12.50, 'first', '2026-01-02 03:04:05.006', 'a,c'), (2, 0, NULL, NULL, NULL)",
            "UPDATE orders SET total = -3.1 WHERE id = 1",
            "DELETE FROM orders WHERE id = 2",
        ])
        .await?;
        let mut rows = Vec::new();
        let mut upto = None;
        while rows.len() < 4 {
            let delivery = timeout(PATIENCE, batches.recv())
                .await?
                .context("the stream ended")?;
            let batch = delivery.message;
            for change in batch.changes {
                if let Change::Row { row, .. } = change {
                    rows.push(row);
                }
            }
            upto = Some(batch.upto);
            delivery.reply.accept(Applied { seq: batch.seq });
        }
        let total = |row: &RowChange| match row {
            RowChange::Insert { after } | RowChange::Update { after, .. } => after.cells()[1].clone(),
            RowChange::Delete { before } => before.cells()[1].clone(),
        };
        let totals: Vec<Cell> = rows.iter().map(total).collect();
        ensure!(
            totals == ["12.50", "0.00", "-3.10", "0.00"].map(|text| Cell::Decimal(text.into())),
            "{rows:?}"
        );
        let RowChange::Insert { after } = &rows[0] else {
            anyhow::bail!("{:?}", rows[0])
        };
        let first = after.cells();
        ensure!(
            first[0] == Cell::Int(1) && first[2] == Cell::Text("first".into()),
            "{first:?}"
        );
        ensure!(
            matches!(
                first[3],
                Cell::DateTime {
                    year: 2026,
                    seconds: 5,
                    micros: 6000,
                    ..
                }
            ),
            "{first:?}"
        );
        ensure!(first[4] == Cell::Set(0b101), "{first:?}");

        // Ended, and gone on with from the last position.
        stream.cancel.cancel();
        ensure!(matches!(
            timeout(PATIENCE, stream.exit).await??,
            ExitStatus::Cancelled
        ));
        rig.sql(&["INSERT INTO orders (id, total) VALUES (3, 7)"]).await?;
        let (sender, mut batches) = mpsc::channel(8);
        let _stream = source.start(&host, spec, upto.context("a position")?, Port::channel(sender));
        let next = loop {
            let delivery = timeout(PATIENCE, batches.recv())
                .await?
                .context("the stream ended")?;
            delivery.reply.accept(Applied {
                seq: delivery.message.seq,
            });
            if let Some(Change::Row { row, .. }) = delivery.message.changes.into_iter().next() {
                break row;
            }
        };
        ensure!(
            matches!(&next, RowChange::Insert { after } if after.cells()[0] == Cell::Int(3)),
            "{next:?}"
        );
        Ok(())
    })
}

/// Whoever does not read holds the stream back, not its memory.
#[rstest]
fn a_full_channel_holds_the_stream_back(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&["CREATE TABLE orders (id bigint PRIMARY KEY)"]).await?;
        let server = Server::open(&stage::endpoint(&rig.server), &Tls::Off, None).await?;
        let table = rig.table("orders");
        let columns = read(&server, &mut server.connect(Role::Inspector).await?, &table).await?;
        let columns: Arc<[_]> = columns.context("the table")?.schema.columns.into();
        let mut options = BinlogSourceOptions::new(rig.server.mysql_opts(), rig::server_id());
        options.batch_changes = 10;
        let source = BinlogSource::new(options);
        let spec = StreamSpec {
            watches: vec![Watch {
                table,
                columns,
                projection: Projection::All,
            }],
            changelog: None,
            gateways: vec![],
        };
        let (sender, mut batches) = mpsc::channel(2);
        let mut stream = source.start(&rig.host, spec, source.current().await?, Port::channel(sender));
        let values: Vec<String> = (0..1000).map(|id| format!("({id})")).collect();
        rig.sql(&[format!("INSERT INTO orders VALUES {}", values.join(","))])
            .await?;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        ensure!(
            batches.len() == 2,
            "{} batches wait in a channel of two",
            batches.len()
        );
        let mut rows = 0;
        while rows < 1000 {
            let delivery = timeout(PATIENCE, batches.recv())
                .await?
                .context("the stream ended")?;
            rows += delivery.message.changes.len();
            delivery.reply.accept(Applied {
                seq: delivery.message.seq,
            });
        }
        let told = stream.state.wait_for(|state| state.rows == 1000);
        timeout(PATIENCE, told).await??;
        Ok(())
    })
}

/// The README shows what is compiled.
#[test]
fn the_readme_shows_the_example() {
    let example = include_str!("../../../crates/streamer/examples/embed.rs");
    let readme = include_str!("../../../README.md");
    let shown = readme
        .split("```rust\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let shown: Vec<&str> = shown.filter(|code| code.contains("BinlogSource::new")).collect();
    assert_eq!(shown.len(), 1, "one example in the README");
    assert!(
        example.contains(shown[0].trim()),
        "crates/streamer/examples/embed.rs differs from the README"
    );
}
