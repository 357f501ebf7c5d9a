//! The streamer alone: rows of one table as they change, without a migration.
//!
//! ```text
//! cargo run -p changeling-streamer --example embed -- mysql://root:secret@127.0.0.1:3306
//! ```

use changeling_core::actor::{ActorHost, HostOptions, Port};
use changeling_core::change::{Applied, Change};
use changeling_core::change_source::{ChangeSource, Projection, StreamSpec, Watch};
use changeling_core::ident::TableName;
use changeling_core::schema::{Column, ColumnKind, Generated};
use changeling_streamer::{BinlogSource, BinlogSourceOptions};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("which server? mysql://user:password@host:port")?;
    let host = ActorHost::start(HostOptions::default())?;
    let source = BinlogSource::new(BinlogSourceOptions::new(mysql_async::Opts::from_url(&url)?, 4711));

    let orders = Watch {
        table: TableName::new("shop", "orders"),
        columns: columns().into(),
        projection: Projection::All,
    };
    let spec = StreamSpec {
        watches: vec![orders],
        changelog: None,
        gateways: vec![],
    };

    // The channel is the window: while it is full, nothing more is read from the server.
    let (sender, mut batches) = mpsc::channel(8);
    let here = source.current().await?;
    let stream = source.start(&host, spec, here, Port::channel(sender));

    while let Some(delivery) = batches.recv().await {
        let batch = delivery.message;
        for change in &batch.changes {
            if let Change::Row { row, .. } = change {
                println!("{row:?}");
            }
        }
        // Taken over. A stream started at `batch.upto` another day misses nothing.
        delivery.reply.accept(Applied { seq: batch.seq });
    }
    println!("the stream ended: {:?}", stream.exit.await?);
    Ok(())
}

/// As the table has them: an event that does not fit stops the stream.
fn columns() -> [Column; 2] {
    let (precision, scale) = (10, 2);
    let (width, unsigned) = (8, false);
    [
        column("id", "bigint", ColumnKind::Integer { width, unsigned }),
        column("total", "decimal(10,2)", ColumnKind::Decimal { precision, scale }),
    ]
}

fn column(name: &str, column_type: &str, kind: ColumnKind) -> Column {
    Column {
        name: name.into(),
        column_type: column_type.into(),
        kind,
        nullable: false,
        generated: Generated::No,
        auto_increment: false,
        invisible: false,
    }
}
