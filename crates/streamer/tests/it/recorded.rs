//! Binary log files that servers wrote, kept in `tests/data`, and what becomes of them when bytes change.

use std::path::PathBuf;

use changeling_core::change_source::{Projection, StreamSpec, Watch};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::ident::TableName;
use changeling_core::schema::{Column, ColumnKind, Generated};
use changeling_streamer::Replay;
use changeling_support::ServerSpec;
use mysql_async::prelude::Queryable;
use proptest::prelude::*;

use crate::rig::{Rig, brief, keys};

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data", name].iter().collect()
}

/// Writes the files anew: `cargo test -p changeling-streamer --test it record_ -- --ignored`.
async fn record(mut rig: Rig, own: &str, to: &str) {
    rig.run(&[
        "DROP TABLE ghc",
        "DROP DATABASE IF EXISTS r",
        "CREATE DATABASE r",
        "USE r",
        "FLUSH BINARY LOGS",
    ])
    .await;
    let status = "SHOW MASTER STATUS";
    let status = if own == "mysql.sql" {
        "SHOW BINARY LOG STATUS"
    } else {
        status
    };
    let (file, ..): (String, u64, String, String, Option<String>) = match own {
        "mysql.sql" => rig
            .conn
            .query_first(status)
            .await
            .expect("status")
            .expect("a log"),
        _ => {
            let row: (String, u64, String, String) = rig
                .conn
                .query_first(status)
                .await
                .expect("status")
                .expect("a log");
            (row.0, row.1, row.2, row.3, None)
        }
    };
    for name in ["common.sql", own] {
        let statements = std::fs::read_to_string(data(name)).expect("statements");
        rig.run(&statements.lines().collect::<Vec<_>>()).await;
    }
    rig.run(&["FLUSH BINARY LOGS"]).await;
    let directory: String = rig
        .conn
        .query_first("SELECT @@datadir")
        .await
        .expect("datadir")
        .expect("datadir");
    std::fs::copy(PathBuf::from(directory).join(file), data(to)).expect("the log is copied");
}

#[tokio::test]
#[ignore = "writes into tests/data"]
async fn record_mysql() {
    let rig = Rig::new("record_mysql", ServerSpec::mysql().dedicated())
        .await
        .expect("a server");
    record(rig, "mysql.sql", "mysql-9.7.binlog").await;
}

#[tokio::test]
#[ignore = "writes into tests/data"]
async fn record_mariadb() {
    let rig = Rig::new("record_mariadb", ServerSpec::mariadb().dedicated())
        .await
        .expect("a server");
    record(rig, "mariadb.sql", "mariadb-10.11.binlog").await;
}

fn column(name: &str, kind: ColumnKind) -> Column {
    Column {
        name: name.into(),
        column_type: String::new(),
        kind,
        nullable: true,
        generated: Generated::No,
        auto_increment: false,
        invisible: false,
    }
}

/// Table `t` of `common.sql`.
fn watch(projection: Projection, mariadb: bool) -> Watch {
    let text = || ColumnKind::Text {
        charset: "utf8mb4".into(),
        collation: "utf8mb4_bin".into(),
    };
    let (charset, collation) = (String::new(), String::new());
    let members = || vec!["x".to_owned(), "y".to_owned()];
    let kinds = [
        (
            "id",
            ColumnKind::Integer {
                width: 4,
                unsigned: true,
            },
        ),
        ("a", text()),
        (
            "d",
            ColumnKind::Decimal {
                precision: 10,
                scale: 2,
            },
        ),
        (
            "e",
            ColumnKind::Enum {
                members: members(),
                charset: charset.clone(),
                collation: collation.clone(),
            },
        ),
        ("j", if mariadb { text() } else { ColumnKind::Json }),
        ("ts", ColumnKind::Timestamp { fsp: 3 }),
        ("b", ColumnKind::VarBinary),
        ("dt", ColumnKind::DateTime { fsp: 6 }),
        ("tm", ColumnKind::Time { fsp: 2 }),
        ("y", ColumnKind::Year),
        (
            "s",
            ColumnKind::Set {
                members: members(),
                charset,
                collation,
            },
        ),
        ("bi", ColumnKind::Bit { width: 9 }),
        ("f", ColumnKind::Float),
        ("g", ColumnKind::Double),
        ("da", ColumnKind::Date),
        ("bn", ColumnKind::Binary { length: 4 }),
        ("ge", ColumnKind::Geometry),
    ];
    let columns: Vec<Column> = kinds.into_iter().map(|(name, kind)| column(name, kind)).collect();
    Watch {
        table: TableName::new("r", "t"),
        columns: columns.into(),
        projection,
    }
}

fn replay(projection: Projection, mariadb: bool, gtids: Gtids) -> Replay {
    let spec = StreamSpec {
        watches: vec![watch(projection, mariadb)],
        changelog: Some(TableName::new("r", "ghc")),
        gateways: vec![],
    };
    let at = Coordinates {
        file: FilePos {
            file: "binlog.000001".into(),
            pos: 4,
        },
        gtids,
    };
    Replay::new(spec, at).expect("a usable watch list")
}

/// The events of a file, without its first four bytes.
fn events(file: &[u8]) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    let mut rest = &file[4..];
    while rest.len() >= 19 {
        let size = u32::from_le_bytes([rest[9], rest[10], rest[11], rest[12]]) as usize;
        let (event, after) = rest.split_at(size.clamp(19, rest.len()));
        events.push(event.to_vec());
        rest = after;
    }
    events
}

fn recorded(name: &str) -> Vec<Vec<u8>> {
    events(&std::fs::read(data(name)).expect("a recorded log"))
}

const COMMON: &[&str] = &[
    "Definition t",
    "+1",
    "+2",
    "heartbeat",
    "sentinel",
    "1>1",
    "1>1",
    "+3",
    "+4",
    "-2",
    "-3",
];

fn check(name: &str, mariadb: bool, rest: &[&str], gtids: (Gtids, &str)) {
    let events = recorded(name);
    let mut replay = replay(keys(&[0]), mariadb, gtids.0);
    for event in &events {
        replay.accept(event).unwrap_or_else(|error| panic!("{error}"));
    }
    let (changes, upto) = replay.take();
    assert_eq!(brief(&changes), [COMMON, rest].concat());
    let text = match upto.gtids {
        Gtids::None => String::new(),
        Gtids::MySql(set) => set.to_string(),
        Gtids::MariaDb(set) => set.to_string(),
    };
    assert!(text.contains(gtids.1), "{text}");
}

#[test]
fn a_recorded_log_of_mysql() {
    let rest = ["+10", "+11", "10>10", "11>11", "1>1", "-1", "Truncate t"];
    check("mysql-9.7.binlog", false, &rest, (Gtids::None, ""));
    check(
        "mysql-9.7.binlog",
        false,
        &rest,
        (Gtids::MySql("".parse().expect("a set")), ":blue:1"),
    );
}

#[test]
fn a_recorded_log_of_mariadb() {
    let rest = ["+10", "+11", "10>10", "11>11", "-1", "Truncate t"];
    check("mariadb-10.11.binlog", true, &rest, (Gtids::None, ""));
    check(
        "mariadb-10.11.binlog",
        true,
        &rest,
        (Gtids::MariaDb("".parse().expect("a set")), "0-"),
    );
}

/// Any flipped bit of any event is noticed by its checksum or its frame.
#[test]
fn a_flipped_bit_stops_the_stream() {
    for (name, mariadb) in [("mysql-9.7.binlog", false), ("mariadb-10.11.binlog", true)] {
        let events = recorded(name);
        for (number, event) in events.iter().enumerate() {
            let at = (number * 7 + 5) % event.len();
            let mut damaged = event.clone();
            damaged[at] ^= 1 << (number % 8);
            let mut replay = replay(keys(&[0]), mariadb, Gtids::None);
            let before = events[..number].iter().try_for_each(|event| replay.accept(event));
            before.unwrap_or_else(|error| panic!("{error}"));
            // The flag of a file in use is not covered, and the first event's kind decides how it is read.
            let free = number == 0 && matches!(at, 4 | 17 | 18);
            assert!(
                replay.accept(&damaged).is_err() || free,
                "{name}: event {number}, byte {at}"
            );
        }
    }
}

/// Gives an event a checksum that fits its content, so that the content is looked at.
fn seal(event: &mut [u8]) {
    if event.len() >= 23 {
        let size = u32::try_from(event.len()).expect("a small event").to_le_bytes();
        event[9..13].copy_from_slice(&size);
        let content = event.len() - 4;
        let checksum = crc32fast::hash(&event[..content]).to_le_bytes();
        event[content..].copy_from_slice(&checksum);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever the content of events is: an error or changes, never a panic.
    #[test]
    fn damaged_events_never_panic(
        mariadb: bool,
        whole: bool,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let name = if mariadb { "mariadb-10.11.binlog" } else { "mysql-9.7.binlog" };
        let mut events = recorded(name);
        for (event, byte, value, how) in damage {
            let chosen = event.index(events.len());
            let event = &mut events[chosen];
            let at = byte.index(event.len());
            match how {
                0 => event.truncate(at.max(23)),
                1 => event.insert(at, value),
                _ => event[at] = value,
            }
            // Types, positions and the like stay readable more often than not.
            if at >= 19 {
                seal(event);
            }
        }
        let projection = if whole { Projection::All } else { keys(&[0]) };
        let mut replay = replay(projection, mariadb, Gtids::None);
        for event in &events {
            let _ = replay.accept(event);
        }
        let _ = replay.take();
    }

    #[test]
    fn arbitrary_bytes_never_panic(event in proptest::collection::vec(any::<u8>(), 0..200), kind: u8) {
        let mut replay = replay(Projection::All, false, Gtids::None);
        for start in recorded("mysql-9.7.binlog").iter().take(12) {
            let _ = replay.accept(start);
        }
        let mut event = event;
        event.resize(event.len().max(23), 0);
        event[4] = kind;
        seal(&mut event);
        let _ = replay.accept(&event);
    }
}
