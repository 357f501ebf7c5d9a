//! The table that the seeds in `crates/streamer/tests/data` are about, watched whole or by key.

use changeling_core::change_source::{Projection, StreamSpec, Watch};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::ident::TableName;
use changeling_core::schema::{Column, ColumnKind, Generated};
use changeling_streamer::Replay;

/// A stream at the beginning of a file; the lowest bits of `choice` choose projection and server.
pub fn replay(choice: u8) -> Replay {
    let projection = match choice & 3 {
        0 => Projection::All,
        1 => Projection::Columns([0].into()),
        2 => Projection::Columns([4, 2, 0].into()),
        _ => Projection::StatementsOnly,
    };
    let spec = StreamSpec {
        watches: vec![Watch { table: TableName::new("r", "t"), columns: columns(choice & 4 != 0).into(), projection }],
        changelog: Some(TableName::new("r", "ghc")),
        gateways: vec![],
    };
    let gtids = match choice >> 3 & 3 {
        0 => Gtids::MySql("".parse().expect("empty")),
        1 => Gtids::MariaDb("".parse().expect("empty")),
        _ => Gtids::None,
    };
    let at = Coordinates { file: FilePos { file: "binlog.000001".into(), pos: 4 }, gtids };
    Replay::new(spec, at).expect("a usable watch list")
}

fn columns(mariadb: bool) -> Vec<Column> {
    let text = || ColumnKind::Text { charset: "utf8mb4".into(), collation: "utf8mb4_bin".into() };
    let (charset, collation) = (String::new(), String::new());
    let members = || vec!["x".to_owned(), "y".to_owned()];
    let kinds = [
        ("id", ColumnKind::Integer { width: 4, unsigned: true }),
        ("a", text()),
        ("d", ColumnKind::Decimal { precision: 10, scale: 2 }),
        ("e", ColumnKind::Enum { members: members(), charset: charset.clone(), collation: collation.clone() }),
        ("j", if mariadb { text() } else { ColumnKind::Json }),
        ("ts", ColumnKind::Timestamp { fsp: 3 }),
        ("b", ColumnKind::VarBinary),
        ("dt", ColumnKind::DateTime { fsp: 6 }),
        ("tm", ColumnKind::Time { fsp: 2 }),
        ("y", ColumnKind::Year),
        ("s", ColumnKind::Set { members: members(), charset, collation }),
        ("bi", ColumnKind::Bit { width: 9 }),
        ("f", ColumnKind::Float),
        ("g", ColumnKind::Double),
        ("da", ColumnKind::Date),
        ("bn", ColumnKind::Binary { length: 4 }),
        ("ge", ColumnKind::Geometry),
    ];
    let column = |(name, kind): (&str, ColumnKind)| Column {
        name: name.into(),
        column_type: String::new(),
        kind,
        nullable: true,
        generated: Generated::No,
        auto_increment: false,
        invisible: false,
    };
    kinds.into_iter().map(column).collect()
}

/// Makes frame and checksum of an event fit its content, so that the content is looked at.
pub fn seal(event: &mut Vec<u8>) {
    event.resize(event.len().max(23), 0);
    let size = u32::try_from(event.len()).expect("a small event").to_le_bytes();
    event[9..13].copy_from_slice(&size);
    // No position: it would have to follow the one before.
    event[13..17].fill(0);
    let content = event.len() - 4;
    let checksum = crc32fast::hash(&event[..content]).to_le_bytes();
    event[content..].copy_from_slice(&checksum);
}
