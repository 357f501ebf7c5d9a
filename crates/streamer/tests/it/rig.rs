//! A server, a stream from it, and what the stream delivered.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use changeling_core::actor::{ActorHost, Delivery, ExitStatus, HostOptions, Port};
use changeling_core::change::{Applied, Change, ChangeBatch, RowChange};
use changeling_core::change_source::{ChangeSource, Projection, StreamHandle, StreamSpec, Watch};
use changeling_core::coords::Coordinates;
use changeling_core::ident::TableName;
use changeling_core::marker::{STATE_ID, Sentinel};
use changeling_core::schema::{Column, ColumnKind, Generated};
use changeling_core::value::Cell;
use changeling_streamer::{BinlogSource, BinlogSourceOptions};
use changeling_support::{Server, ServerSpec};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::sync::mpsc;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
static SERVER_ID: AtomicU32 = AtomicU32::new(70_000);

/// Starts a server, or counts a skip where none can be had.
pub(crate) async fn start(test: &str, spec: ServerSpec) -> Option<Server> {
    changeling_support::skip::unless_available(test, spec.start().await).expect("the server starts")
}

/// A server with a database of the test's own, a changelog table in it, and the way to make streams.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) schema: String,
    pub(crate) conn: Conn,
    pub(crate) host: ActorHost,
}

impl Rig {
    pub(crate) async fn new(test: &str, spec: ServerSpec) -> Option<Self> {
        let server = start(test, spec).await?;
        let mut conn = server.mysql().await.expect("a connection");
        let schema = format!("st_{test}");
        for statement in [
            format!("DROP DATABASE IF EXISTS {schema}"),
            format!("CREATE DATABASE {schema}"),
            format!("USE {schema}"),
        ] {
            conn.query_drop(statement).await.expect("a database");
        }
        conn.query_drop(
            "CREATE TABLE ghc (id bigint unsigned NOT NULL AUTO_INCREMENT, last_update timestamp NOT NULL \
             DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, hint varchar(64) CHARACTER SET ascii NOT \
             NULL, value varchar(4096) CHARACTER SET ascii NOT NULL, PRIMARY KEY (id), UNIQUE KEY (hint)) \
             AUTO_INCREMENT=256",
        )
        .await
        .expect("changelog");
        let host = ActorHost::start(HostOptions::default()).expect("a host");
        Some(Self {
            server,
            schema,
            conn,
            host,
        })
    }

    pub(crate) async fn run(&mut self, statements: &[&str]) {
        for statement in statements {
            if let Err(error) = self.conn.query_drop(*statement).await {
                panic!("{statement}: {error}");
            }
        }
    }

    pub(crate) async fn connect(&self) -> Conn {
        let mut conn = self.server.mysql().await.expect("a connection");
        conn.query_drop(format!("USE {}", self.schema))
            .await
            .expect("use");
        conn
    }

    pub(crate) fn options(&self) -> BinlogSourceOptions {
        options(&self.server)
    }

    /// Starts a stream here and now that watches these tables.
    pub(crate) async fn stream(&mut self, watches: &[(&str, Projection)]) -> Stream {
        let options = self.options();
        self.stream_with(options, watches).await
    }

    pub(crate) async fn stream_with(
        &mut self,
        options: BinlogSourceOptions,
        watches: &[(&str, Projection)],
    ) -> Stream {
        let source = BinlogSource::new(options);
        let at = source.current().await.expect("a position");
        source.check_start(&at).await.expect("a usable position");
        let spec = self.spec(watches).await;
        Stream::start(&self.host, &source, spec, at)
    }

    pub(crate) async fn spec(&mut self, watches: &[(&str, Projection)]) -> StreamSpec {
        let mut spec = StreamSpec {
            watches: vec![],
            changelog: Some(TableName::new(&self.schema, "ghc")),
            gateways: vec![],
        };
        for (table, projection) in watches {
            let columns = inspect(&mut self.conn, table).await;
            spec.watches.push(Watch {
                table: TableName::new(&self.schema, *table),
                columns: columns.into(),
                projection: projection.clone(),
            });
        }
        spec
    }

    /// Writes a sentinel that nobody wrote before, and returns it.
    pub(crate) async fn mark(&mut self) -> Sentinel {
        mark(&mut self.conn).await
    }
}

pub(crate) fn options(server: &Server) -> BinlogSourceOptions {
    let mut options =
        BinlogSourceOptions::new(server.mysql_opts(), SERVER_ID.fetch_add(1, Ordering::Relaxed));
    options.heartbeat = Duration::from_millis(500);
    options
}

pub(crate) async fn mark(conn: &mut Conn) -> Sentinel {
    static CHALLENGE: AtomicU64 = AtomicU64::new(1);
    let sentinel = Sentinel {
        attempt: 1,
        challenge: CHALLENGE.fetch_add(1, Ordering::Relaxed),
    };
    let value = sentinel.value();
    conn.query_drop(format!(
        "INSERT INTO ghc (id, hint, value) VALUES ({STATE_ID}, 'state', '{value}') ON DUPLICATE KEY UPDATE \
         last_update = NOW(), value = VALUES(value)"
    ))
    .await
    .expect("the sentinel is written");
    sentinel
}

/// A stream, read by the test.
pub(crate) struct Stream {
    pub(crate) handle: StreamHandle,
    pub(crate) batches: mpsc::Receiver<Delivery<ChangeBatch>>,
    seq: u64,
    pub(crate) upto: Option<Coordinates>,
}

impl Stream {
    pub(crate) fn start(host: &ActorHost, source: &BinlogSource, spec: StreamSpec, at: Coordinates) -> Self {
        let (sender, batches) = mpsc::channel(4);
        let handle = source.start(host, spec, at, Port::channel(sender));
        Self {
            handle,
            batches,
            seq: 0,
            upto: None,
        }
    }

    /// The next batch, taken over; `None` when the stream has ended.
    pub(crate) async fn batch(&mut self) -> Option<ChangeBatch> {
        let next = tokio::time::timeout(PATIENCE, self.batches.recv()).await;
        let Delivery { message, reply } = next.expect("the stream delivers or ends")?;
        self.seq += 1;
        assert_eq!(message.seq, self.seq, "batches are numbered without gaps");
        reply.accept(Applied { seq: message.seq });
        self.upto = Some(message.upto.clone());
        Some(message)
    }

    /// All changes up to a sentinel, which must come.
    pub(crate) async fn until(&mut self, sentinel: Sentinel) -> Vec<Change> {
        let mut seen = Vec::new();
        loop {
            let Some(batch) = self.batch().await else {
                panic!(
                    "the stream ended before the sentinel: {:?}; seen {seen:?}",
                    self.ended().await
                )
            };
            for change in batch.changes {
                if change == Change::Sentinel(sentinel) {
                    return seen;
                }
                seen.push(change);
            }
        }
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        while self.batch().await.is_some() {}
        let exit = tokio::time::timeout(PATIENCE, &mut self.handle.exit).await;
        exit.expect("the end is told").expect("the end is told once")
    }

    /// Fails unless the stream stops with a message that has all of these words.
    pub(crate) async fn stops_saying(&mut self, words: &[&str]) {
        let status = self.ended().await;
        let ExitStatus::Failed(error) = &status else {
            panic!("{status:?}")
        };
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{text:?} does not say {word:?}");
        }
    }

    pub(crate) async fn stop(mut self) {
        self.handle.cancel.cancel();
        let status = self.ended().await;
        assert!(matches!(status, ExitStatus::Cancelled), "{status:?}");
    }
}

/// Rows in short: `+1`, `-1`, `1>2`; other changes by their names.
pub(crate) fn brief(changes: &[Change]) -> Vec<String> {
    changes.iter().map(brief_change).collect()
}

fn brief_change(change: &Change) -> String {
    match change {
        Change::Row {
            row: RowChange::Insert { after },
            ..
        } => format!("+{}", cells(after.cells())),
        Change::Row {
            row: RowChange::Delete { before },
            ..
        } => format!("-{}", cells(before.cells())),
        Change::Row {
            row: RowChange::Update { before, after },
            ..
        } => {
            format!("{}>{}", cells(before.cells()), cells(after.cells()))
        }
        Change::Sentinel(_) => "sentinel".into(),
        Change::Heartbeat(_) => "heartbeat".into(),
        Change::Ddl { table, kind, .. } => format!("{kind:?} {}", table.table),
    }
}

fn cells(cells: &[Cell]) -> String {
    cells.iter().map(cell).collect::<Vec<_>>().join(",")
}

pub(crate) fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => "NULL".into(),
        Cell::Absent => "?".into(),
        Cell::Int(value) => value.to_string(),
        Cell::UInt(value) => value.to_string(),
        Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

/// Key columns only, as a migration watches.
pub(crate) fn keys(columns: &[usize]) -> Projection {
    Projection::Columns(columns.into())
}

/// A table's columns, as far as these tests need them.
pub(crate) async fn inspect(conn: &mut Conn, table: &str) -> Vec<Column> {
    let rows: Vec<Row> = conn
        .query(format!(
            "SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, IS_NULLABLE, CHARACTER_MAXIMUM_LENGTH, \
             NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_SET_NAME, COLLATION_NAME, \
             EXTRA FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}' ORDER \
             BY ORDINAL_POSITION"
        ))
        .await
        .expect("columns");
    assert!(!rows.is_empty(), "{table} has columns");
    rows.iter().map(column).collect()
}

fn column(row: &Row) -> Column {
    let text = |index: usize| row.get::<Option<String>, _>(index).flatten().unwrap_or_default();
    let number = |index: usize| row.get::<Option<u64>, _>(index).flatten().unwrap_or_default();
    let (column_type, data_type) = (text(1), text(2));
    let unsigned = column_type.contains("unsigned");
    let integer = |width| ColumnKind::Integer { width, unsigned };
    let fsp = u8::try_from(number(7)).expect("fsp");
    let (charset, collation) = (text(8), text(9));
    let members = || {
        let inner = column_type
            .split_once('(')
            .expect("members")
            .1
            .trim_end_matches(')');
        inner
            .split(',')
            .map(|member| member.trim_matches('\'').to_owned())
            .collect()
    };
    let kind = match data_type.as_str() {
        "tinyint" => integer(1),
        "smallint" => integer(2),
        "mediumint" => integer(3),
        "int" => integer(4),
        "bigint" => integer(8),
        "float" => ColumnKind::Float,
        "double" => ColumnKind::Double,
        "decimal" => ColumnKind::Decimal {
            precision: u8::try_from(number(5)).expect("precision"),
            scale: u8::try_from(number(6)).expect("scale"),
        },
        "bit" => ColumnKind::Bit {
            width: u8::try_from(number(5)).expect("width"),
        },
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            ColumnKind::Text { charset, collation }
        }
        "binary" => ColumnKind::Binary {
            length: u32::try_from(number(4)).expect("length"),
        },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnKind::VarBinary,
        "date" => ColumnKind::Date,
        "time" => ColumnKind::Time { fsp },
        "datetime" => ColumnKind::DateTime { fsp },
        "timestamp" => ColumnKind::Timestamp { fsp },
        "year" => ColumnKind::Year,
        "enum" => ColumnKind::Enum {
            members: members(),
            charset,
            collation,
        },
        "set" => ColumnKind::Set {
            members: members(),
            charset,
            collation,
        },
        "json" => ColumnKind::Json,
        "vector" => ColumnKind::Vector,
        "uuid" => ColumnKind::Uuid,
        "inet4" => ColumnKind::Inet4,
        "inet6" => ColumnKind::Inet6,
        "geometry" | "point" | "linestring" | "polygon" => ColumnKind::Geometry,
        _ => ColumnKind::Unknown {
            column_type: column_type.clone(),
        },
    };
    Column {
        name: text(0),
        column_type,
        kind,
        nullable: text(3) == "YES",
        generated: Generated::No,
        auto_increment: text(10).contains("auto_increment"),
        invisible: false,
    }
}
