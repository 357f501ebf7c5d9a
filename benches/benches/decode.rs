//! Decoding a binary log, against reading the same bytes undecoded.
//!
//! Two logs: of small transactions of four row changes, and of statements that change many rows. In memory, the limits
//! are to look at every byte once, and to verify the checksums, which any honest reader has to; the peer is the decoder
//! of `mysql_common`, which does not verify them. Over a connection the limit is `mysql_async`'s stream with its events
//! left undecoded.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use changeling_applier::inspector::Inspection;
use changeling_benches::report::{self, Table, median, ratio};
use changeling_benches::writers::Writers;
use changeling_benches::{is_asked_for, parameter, stage, sysbench};
use changeling_core::actor::{ActorHost, Delivery, HostOptions, Port};
use changeling_core::change::{Applied, Change, ChangeBatch};
use changeling_core::change_source::{ChangeSource, Projection, StreamSpec, Watch};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::schema::Column;
use changeling_streamer::{BinlogSource, BinlogSourceOptions, PositionBy, Replay};
use changeling_support::Server;
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Conn, Row};
use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::{BinlogVersion, EventType};
use mysql_common::binlog::events::EventData;
use serde_json::json;
use tokio::sync::mpsc;

/// The first bytes of a log file.
const MAGIC: &[u8] = &[0xfe, b'b', b'i', b'n'];
/// Bytes of an event's header.
const HEADER: usize = 19;
/// Bytes of the checksum behind an event.
const CHECKSUM: usize = 4;
/// Changes taken out of the decoder at once; the streamer's batch.
const BATCH: usize = 1000;
/// How long the log of small transactions is written to.
const WRITING: Duration = Duration::from_secs(5);
/// How long a stream may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long reading the same log over and over is measured, at least.
const ROUND: Duration = Duration::from_secs(1);

/// A log file in memory.
struct Log {
    file: String,
    bytes: Vec<u8>,
    /// Where each event begins, and the end.
    bounds: Vec<usize>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    if !is_asked_for() {
        return Ok(());
    }
    let rows = parameter::value("ROWS", 100_000)?;
    let rounds: usize = parameter::value("ROUNDS", 3)?;
    let server = stage::server().await?;
    let mut conn = server.mysql().await?;
    sysbench::create(&mut conn, rows).await?;
    let settings = stage::settings(&server, &sysbench::table(), sysbench::ALTER);
    let columns: Arc<[Column]> = Inspection::begin(&settings).await?.original.schema.columns.into();
    for (name, log) in record(&server, &mut conn, rows).await? {
        let bench = Bench {
            name,
            log,
            columns: Arc::clone(&columns),
            rounds,
        };
        bench.in_memory()?;
        bench.over_a_connection(&server).await?;
    }
    server.stop().await?;
    Ok(())
}

/// Has the server write both logs.
async fn record(server: &Server, conn: &mut Conn, rows: u32) -> Result<[(&'static str, Log); 2]> {
    // Only the log matters here, not how fast it came to be.
    conn.query_drop("SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 0")
        .await?;
    conn.query_drop("FLUSH BINARY LOGS").await?;
    let writers = Writers {
        opts: server.mysql_opts().db_name(Some(sysbench::SCHEMA)).into(),
        table: sysbench::table(),
        rows,
        rate: 1e5,
        connections: 8,
    };
    let running = writers.start().await?;
    tokio::time::sleep(WRITING).await;
    let errors = running.stop().await?.errors;
    ensure!(errors.is_empty(), "{errors:?}");
    conn.query_drop("FLUSH BINARY LOGS").await?;
    let table = sysbench::table();
    for sql in [
        format!("UPDATE {table} SET k = k + 1"),
        format!("DELETE FROM {table} WHERE id <= {}", rows / 2),
    ] {
        conn.query_drop(sql).await?;
    }
    conn.query_drop("FLUSH BINARY LOGS").await?;
    let files: Vec<Row> = conn.query("SHOW BINARY LOGS").await?;
    let files: Vec<String> = files.iter().filter_map(|row| row.get(0)).collect();
    let [.., small, large, _] = &files[..] else {
        bail!("too few logs: {files:?}")
    };
    let directory = server.data_directory().context("a server on this machine")?;
    let read = |file: &String| Log::read(file, std::fs::read(directory.join(file))?);
    Ok([
        ("small transactions", read(small)?),
        ("large statements", read(large)?),
    ])
}

impl Log {
    fn read(file: &str, bytes: Vec<u8>) -> Result<Self> {
        ensure!(bytes.starts_with(MAGIC), "{file} is no binary log");
        let mut bounds = vec![MAGIC.len()];
        let mut at = MAGIC.len();
        while at < bytes.len() {
            let size = bytes.get(at + 9..at + 13).context("a torn event")?;
            at += u32::from_le_bytes(size.try_into()?) as usize;
            bounds.push(at);
        }
        ensure!(at == bytes.len(), "{file} ends within an event");
        Ok(Self {
            file: file.to_owned(),
            bytes,
            bounds,
        })
    }

    fn events(&self) -> impl Iterator<Item = &[u8]> {
        self.bounds
            .windows(2)
            .map(|bounds| &self.bytes[bounds[0]..bounds[1]])
    }

    fn start(&self) -> Coordinates {
        Coordinates {
            file: FilePos {
                file: self.file.clone(),
                pos: 4,
            },
            gtids: Gtids::None,
        }
    }
}

/// What one way of reading came to.
struct Measured {
    way: &'static str,
    rows: u64,
    seconds: f64,
}

struct Bench {
    name: &'static str,
    log: Log,
    columns: Arc<[Column]>,
    rounds: usize,
}

impl Bench {
    fn in_memory(&self) -> Result<()> {
        let key = || Projection::Columns([0].into());
        let measured = [
            self.measure("look at every byte", || Ok(touch(&self.log)))?,
            self.measure("verify checksums", || verify(&self.log))?,
            self.measure("decode, key only", || self.replay(key()))?,
            self.measure("decode, full images", || self.replay(Projection::All))?,
            self.measure("peer: mysql_common, full images", || peer(&self.log))?,
        ];
        let rows = measured[2].rows;
        ensure!(
            rows == measured[3].rows && rows == measured[4].rows,
            "decoders count differently"
        );
        self.report("in memory", rows, &measured, 1);
        Ok(())
    }

    /// In processor time, where the system tells it: nothing here waits. The system counts in hundredths of a second, so
    /// the log is read as often as a round takes.
    fn measure(&self, way: &'static str, mut read: impl FnMut() -> Result<u64>) -> Result<Measured> {
        let mut rows = read()?;
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            let (began, used) = (Instant::now(), stage::thread_seconds());
            let mut passes = 0_u32;
            while began.elapsed() < ROUND {
                rows = read()?;
                passes += 1;
            }
            let took = began.elapsed().as_secs_f64();
            let used = used
                .zip(stage::thread_seconds())
                .map(|(before, after)| after - before);
            times.push(used.unwrap_or(took) / f64::from(passes));
        }
        Ok(Measured {
            way,
            rows,
            seconds: median(&times),
        })
    }

    fn spec(&self, projection: Projection) -> StreamSpec {
        let watch = Watch {
            table: sysbench::table(),
            columns: Arc::clone(&self.columns),
            projection,
        };
        StreamSpec {
            watches: vec![watch],
            changelog: None,
            gateways: vec![],
        }
    }

    fn replay(&self, projection: Projection) -> Result<u64> {
        let mut replay = Replay::new(self.spec(projection), self.log.start())?;
        let mut rows = 0;
        for (number, event) in self.log.events().enumerate() {
            replay.accept(event)?;
            if number % BATCH == 0 {
                rows += count(&replay.take().0);
            }
        }
        Ok(rows + count(&replay.take().0))
    }

    async fn over_a_connection(&self, server: &Server) -> Result<()> {
        let rows = self
            .replay(Projection::StatementsOnly)
            .and_then(|_| self.replay(Projection::All))?;
        let host = ActorHost::start(HostOptions::default())?;
        let (mut undecoded, mut key, mut full) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..=self.rounds {
            undecoded.push(self.undecoded(server).await?);
            key.push(
                self.stream(&host, server, Projection::Columns([0].into()), rows)
                    .await?,
            );
            full.push(self.stream(&host, server, Projection::All, rows).await?);
        }
        // The first of each found nothing in the caches.
        let measured = |way, times: &[f64]| Measured {
            way,
            rows,
            seconds: median(&times[1..]),
        };
        let measured = [
            measured("mysql_async's stream, undecoded", &undecoded),
            measured("streamer, key only", &key),
            measured("streamer, full images", &full),
        ];
        self.report("over a connection", rows, &measured, 0);
        Ok(())
    }

    /// Seconds until the last event of the file has come.
    async fn undecoded(&self, server: &Server) -> Result<f64> {
        let conn = server.mysql().await?;
        let began = Instant::now();
        let request = BinlogStreamRequest::new(90_001)
            .with_filename(self.log.file.as_bytes())
            .with_pos(4);
        let mut stream = conn.get_binlog_stream(request).await?;
        let mut bytes = 0_u64;
        while let Some(event) = stream.next().await {
            let event = event?;
            bytes += u64::from(event.header().event_size());
            if u64::from(event.header().log_pos()) == self.log.bytes.len() as u64 {
                break;
            }
        }
        let took = began.elapsed().as_secs_f64();
        ensure!(
            bytes >= (self.log.bytes.len() - MAGIC.len()) as u64,
            "the stream left something out"
        );
        stream.close().await?;
        Ok(took)
    }

    /// Seconds until the last row of the file has come.
    async fn stream(
        &self,
        host: &ActorHost,
        server: &Server,
        projection: Projection,
        rows: u64,
    ) -> Result<f64> {
        let mut options = BinlogSourceOptions::new(server.mysql_opts(), 90_002);
        options.by = PositionBy::File;
        let source = BinlogSource::new(options);
        let (sender, mut batches) = mpsc::channel::<Delivery<ChangeBatch>>(4);
        let began = Instant::now();
        let handle = source.start(
            host,
            self.spec(projection),
            self.log.start(),
            Port::channel(sender),
        );
        let mut seen = 0;
        while seen < rows {
            let next = tokio::time::timeout(PATIENCE, batches.recv()).await?;
            let Some(Delivery { message, reply }) = next else {
                bail!("the stream ended")
            };
            reply.accept(Applied { seq: message.seq });
            seen += count(&message.changes);
        }
        let took = began.elapsed().as_secs_f64();
        handle.cancel.cancel();
        drop(batches);
        let _ = handle.exit.await;
        Ok(took)
    }

    fn report(&self, place: &str, rows: u64, measured: &[Measured], limit: usize) {
        let mib = self.log.bytes.len() as f64 / f64::from(1 << 20);
        println!(
            "\n{}, {place}: {rows} row changes, {mib:.1} MiB, median of {}; load average {}",
            self.name,
            self.rounds,
            report::load_average()
        );
        let rate = |measured: &Measured| rows as f64 / measured.seconds;
        let mut table = Table::new(&["", "rows/s", "MiB/s", "/ limit"]);
        for one in measured {
            table.row(vec![
                one.way.to_owned(),
                format!("{:.0}", rate(one)),
                format!("{:.0}", mib / one.seconds),
                ratio(rate(one), rate(&measured[limit])),
            ]);
        }
        table.print();
        let rates = measured.iter().map(|one| (one.way.to_owned(), json!(rate(one))));
        report::line(&json!({
            "bench": "decode", "log": self.name, "place": place, "rows": rows, "mib": mib,
            "limit": measured[limit].way, "rows_per_second": rates.collect::<serde_json::Map<_, _>>(),
        }));
    }
}

fn count(changes: &[Change]) -> u64 {
    changes
        .iter()
        .filter(|change| matches!(change, Change::Row { .. }))
        .count() as u64
}

/// Looks at each event's header and at every byte.
fn touch(log: &Log) -> u64 {
    let mut sum = 0_u64;
    for event in log.events() {
        let (words, rest) = event.as_chunks::<8>();
        sum = words
            .iter()
            .fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
        sum = rest
            .iter()
            .fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
    }
    black_box(sum);
    0
}

fn verify(log: &Log) -> Result<u64> {
    for event in log.events() {
        let (body, checksum) = event.split_at(event.len() - CHECKSUM);
        ensure!(
            crc32fast::hash(body).to_le_bytes() == checksum,
            "a checksum is wrong"
        );
        ensure!(event.len() >= HEADER, "an event without a header");
    }
    Ok(0)
}

/// Decodes every row with `mysql_common`.
fn peer(log: &Log) -> Result<u64> {
    let mut reader = EventStreamReader::new(BinlogVersion::Version4);
    let mut rest = &log.bytes[MAGIC.len()..];
    let mut count = 0;
    while let Some(event) = reader.read(&mut rest)? {
        let is_rows = matches!(
            event.header().event_type(),
            Ok(EventType::WRITE_ROWS_EVENT
                | EventType::UPDATE_ROWS_EVENT
                | EventType::DELETE_ROWS_EVENT
                | EventType::WRITE_ROWS_EVENT_V1
                | EventType::UPDATE_ROWS_EVENT_V1
                | EventType::DELETE_ROWS_EVENT_V1)
        );
        if !is_rows {
            continue;
        }
        let Some(EventData::RowsEvent(data)) = event.read_data()? else {
            continue;
        };
        let map = reader
            .get_tme(data.table_id())
            .context("rows without a table map")?;
        for row in data.rows(map) {
            black_box(row?);
            count += 1;
        }
    }
    Ok(count)
}
