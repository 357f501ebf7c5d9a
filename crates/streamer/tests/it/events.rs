//! Events made by hand: what servers send rarely, or never should.

use changeling_core::change_source::{Projection, StreamSpec, Watch};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::ident::TableName;
use changeling_core::schema::{Column, ColumnKind, Generated};
use changeling_streamer::{ErrorKind, Replay, StreamError};

use crate::rig::{brief, keys};

const QUERY: u8 = 2;
const ROTATE: u8 = 4;
const FORMAT: u8 = 15;
const XID: u8 = 16;
const TABLE_MAP: u8 = 19;
const INCIDENT: u8 = 26;
const WRITE_ROWS: u8 = 30;
const UPDATE_ROWS: u8 = 31;
const ANONYMOUS_GTID: u8 = 34;
const XA_PREPARE: u8 = 38;
const PAYLOAD: u8 = 40;
const START_ENCRYPTION: u8 = 164;
const IGNORABLE: u16 = 0x80;

/// A log under construction, and a stream that reads it.
struct Log {
    replay: Replay,
    end: u64,
    checksums: bool,
}

impl Log {
    /// A stream of table `s.t (id int, v int)` at the beginning of a file.
    fn new(projection: Projection) -> Self {
        let mut log = Self::without_format(projection, 4);
        log.format().expect("the format is understood");
        log
    }

    fn without_format(projection: Projection, pos: u64) -> Self {
        let column = |name: &str| Column {
            name: name.into(),
            column_type: "int".into(),
            kind: ColumnKind::Integer {
                width: 4,
                unsigned: false,
            },
            nullable: true,
            generated: Generated::No,
            auto_increment: false,
            invisible: false,
        };
        let watch = Watch {
            table: TableName::new("s", "t"),
            columns: vec![column("id"), column("v")].into(),
            projection,
        };
        let spec = StreamSpec {
            watches: vec![watch],
            changelog: None,
            gateways: vec![],
        };
        let at = Coordinates {
            file: FilePos {
                file: "b.1".into(),
                pos,
            },
            gtids: Gtids::None,
        };
        Self {
            replay: Replay::new(spec, at).expect("a usable watch"),
            end: pos,
            checksums: true,
        }
    }

    fn format(&mut self) -> Result<(), StreamError> {
        let mut body = 4_u16.to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 50 + 4]);
        body.push(19);
        body.extend_from_slice(&[0; 40]);
        body.push(u8::from(self.checksums));
        // Its place for a checksum is there in any case.
        let checksums = std::mem::replace(&mut self.checksums, true);
        let result = self.push(FORMAT, &body);
        self.checksums = checksums;
        result
    }

    fn push(&mut self, kind: u8, body: &[u8]) -> Result<(), StreamError> {
        self.push_with(kind, body, 0)
    }

    fn push_with(&mut self, kind: u8, body: &[u8], flags: u16) -> Result<(), StreamError> {
        let size = 19 + body.len() + if self.checksums { 4 } else { 0 };
        self.end += size as u64;
        let bytes = event(kind, body, flags, self.end as u32, self.checksums);
        self.replay.accept(&bytes)
    }

    fn begin(&mut self) {
        self.push(ANONYMOUS_GTID, &[0; 42]).expect("a GTID");
        self.push(QUERY, &query("BEGIN")).expect("a beginning");
    }

    fn insert(&mut self, id: i32) -> Result<(), StreamError> {
        self.push(TABLE_MAP, &table_map(7, "t"))?;
        self.push(WRITE_ROWS, &rows(7, &[(id, 0)]))
    }

    fn commit(&mut self) {
        self.push(XID, &[0; 8]).expect("an end");
    }

    fn seen(&mut self) -> Vec<String> {
        brief(&self.replay.take().0)
    }

    fn position(&mut self) -> String {
        self.replay.take().1.to_string()
    }
}

fn event(kind: u8, body: &[u8], flags: u16, end: u32, checksum: bool) -> Vec<u8> {
    let size = 19 + body.len() + if checksum { 4 } else { 0 };
    let mut bytes = vec![0; 4];
    bytes.push(kind);
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&(size as u32).to_le_bytes());
    bytes.extend_from_slice(&end.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(body);
    if checksum {
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
    }
    bytes
}

fn query(text: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&[1, 0, 0, 0, 0]);
    body.extend_from_slice(b"s\0");
    body.extend_from_slice(text.as_bytes());
    body
}

fn table_map(id: u8, table: &str) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0, 1, b's', 0, table.len() as u8];
    body.extend_from_slice(table.as_bytes());
    body.extend_from_slice(&[0, 2, 3, 3, 0, 3]);
    body
}

fn rows(id: u8, rows: &[(i32, i32)]) -> Vec<u8> {
    let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0b11];
    for (key, value) in rows {
        body.push(0);
        body.extend_from_slice(&key.to_le_bytes());
        body.extend_from_slice(&value.to_le_bytes());
    }
    body
}

fn kind_of(result: Result<(), StreamError>) -> ErrorKind {
    let error = result.expect_err("the stream stops");
    assert!(error.to_string().contains("b.1"), "{error} names the place");
    error.kind()
}

#[test]
fn an_ordinary_transaction() {
    let mut log = Log::new(keys(&[0]));
    log.begin();
    log.insert(1).expect("a row");
    assert_eq!(log.position(), "b.1:4", "the position waits for the end");
    log.commit();
    assert_eq!(
        log.seen(),
        Vec::<String>::new(),
        "taken before the end, as from a large transaction"
    );
    let end = log.end;
    assert_eq!(log.position(), format!("b.1:{end}"));
}

#[test]
fn an_incident_stops_the_stream() {
    let mut log = Log::new(keys(&[0]));
    let error = log
        .push(INCIDENT, b"\x01\0\x0cLOST_EVENTS!")
        .expect_err("an incident");
    assert_eq!(error.kind(), ErrorKind::Incident);
    assert!(error.to_string().contains("LOST_EVENTS"), "{error}");
}

#[test]
fn only_what_says_so_is_passed_over() {
    let mut log = Log::new(keys(&[0]));
    log.push_with(99, b"anything", IGNORABLE)
        .expect("an ignorable event");
    assert_eq!(kind_of(log.push(99, b"anything")), ErrorKind::Unknown);
    // Row events of long ago.
    assert_eq!(
        kind_of(Log::new(keys(&[0])).push(20, &[0; 20])),
        ErrorKind::Unknown
    );
}

#[test]
fn a_wrong_checksum_stops_the_stream() {
    let mut log = Log::new(keys(&[0]));
    let mut bytes = event(QUERY, &query("BEGIN"), 0, log.end as u32 + 40, true);
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    let error = log.replay.accept(&bytes).expect_err("a wrong checksum");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn a_gap_between_events_stops_the_stream() {
    let mut log = Log::new(keys(&[0]));
    log.begin();
    log.end += 10;
    assert_eq!(
        kind_of(log.push(TABLE_MAP, &table_map(7, "t"))),
        ErrorKind::Corrupt
    );
    let mut log = Log::new(keys(&[0]));
    log.begin();
    log.end -= 10;
    assert_eq!(
        kind_of(log.push(TABLE_MAP, &table_map(7, "t"))),
        ErrorKind::Corrupt
    );
}

#[test]
fn positions_above_four_gibibytes_are_followed() {
    let start = (1_u64 << 32) - 150;
    let mut log = Log::without_format(keys(&[0]), start);
    // As a dump from there begins: with a made-up format description.
    let mut body = 4_u16.to_le_bytes().to_vec();
    body.extend_from_slice(&[0; 54]);
    body.extend_from_slice(&[19, 0, 1]);
    log.replay
        .accept(&event(FORMAT, &body, 0, 0, true))
        .expect("the format");
    log.begin();
    log.insert(1).expect("a row");
    log.commit();
    assert!(log.end > 1 << 32);
    let end = log.end;
    assert_eq!(log.position(), format!("b.1:{end}"));
}

#[test]
fn rows_without_a_table_map_stop_the_stream() {
    let mut log = Log::new(keys(&[0]));
    log.begin();
    assert_eq!(
        kind_of(log.push(WRITE_ROWS, &rows(7, &[(1, 1)]))),
        ErrorKind::Corrupt
    );
}

#[test]
fn a_table_id_is_given_to_another_table() {
    let mut log = Log::new(keys(&[0]));
    log.begin();
    log.insert(1).expect("a row of t");
    log.push(TABLE_MAP, &table_map(7, "u")).expect("a map");
    log.push(WRITE_ROWS, &rows(7, &[(2, 2)])).expect("a row of u");
    log.insert(3).expect("a row of t");
    // Skipped without a look at its content.
    log.push(TABLE_MAP, &table_map(7, "u")).expect("a map");
    log.push(WRITE_ROWS, &[7, 0, 0, 0, 0, 0, 1, 0, 255])
        .expect("rows of u");
    log.commit();
    assert_eq!(log.seen(), ["+1", "+3"]);
}

#[test]
fn an_update_that_lacks_the_key_stops_the_stream() {
    let mut log = Log::new(keys(&[0]));
    log.begin();
    log.push(TABLE_MAP, &table_map(7, "t")).expect("a map");
    let body = [
        7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0b10, 0b10, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0,
    ];
    let error = log.push(UPDATE_ROWS, &body).expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::IncompleteImage);
    assert!(
        error.to_string().contains("`s`.`t`") && error.to_string().contains("column id"),
        "{error}"
    );
    // Only the second image lacks it: the key is unchanged.
    let mut log = Log::new(keys(&[0]));
    log.begin();
    log.push(TABLE_MAP, &table_map(7, "t")).expect("a map");
    let body = [
        7, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0b01, 0b10, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0,
    ];
    log.push(UPDATE_ROWS, &body).expect("a change");
    assert_eq!(log.seen(), ["1>1"]);
}

/// A payload event around inner events.
fn payload(inner: &[u8], algorithm: u8, announced: u64) -> Vec<u8> {
    let content = if algorithm == 0 {
        zstd::encode_all(inner, 1).expect("zstd")
    } else {
        inner.to_vec()
    };
    let mut body = vec![2, 1, algorithm, 3, 9, 0xfe];
    body.extend_from_slice(&announced.to_le_bytes());
    body.extend_from_slice(&[1, 9, 0xfe]);
    body.extend_from_slice(&(content.len() as u64).to_le_bytes());
    body.push(0);
    body.extend_from_slice(&content);
    if algorithm == 255 {
        body.drain(1..2);
        body.splice(1..2, [3, 0xfc, 255, 0]);
    }
    body
}

fn inner(end: bool) -> Vec<u8> {
    let mut events = event(QUERY, &query("BEGIN"), 0, 0, false);
    events.extend(event(TABLE_MAP, &table_map(7, "t"), 0, 0, false));
    events.extend(event(WRITE_ROWS, &rows(7, &[(5, 5)]), 0, 0, false));
    if end {
        events.extend(event(XID, &[0; 8], 0, 0, false));
    }
    events
}

#[test]
fn payloads_are_whole_transactions_or_errors() {
    let whole = inner(true);
    for algorithm in [0, 255] {
        let mut log = Log::new(keys(&[0]));
        log.push(PAYLOAD, &payload(&whole, algorithm, whole.len() as u64))
            .expect("a payload");
        assert_eq!(log.seen(), ["+5"]);
    }
    let reject = |body: &[u8]| kind_of(Log::new(keys(&[0])).push(PAYLOAD, body));
    let cut = inner(false);
    assert_eq!(
        reject(&payload(&cut, 0, cut.len() as u64)),
        ErrorKind::Corrupt,
        "no end"
    );
    assert_eq!(
        reject(&payload(&whole, 0, 5)),
        ErrorKind::Corrupt,
        "another size than announced"
    );
    assert_eq!(
        reject(&payload(&whole, 0, 1 << 60)),
        ErrorKind::Limit,
        "an enormous size"
    );
    assert_eq!(
        reject(&payload(&whole, 7, 5)),
        ErrorKind::Unknown,
        "an unknown packing"
    );
    let bomb = vec![0; 2 << 20];
    assert_eq!(
        reject(&payload(&bomb, 0, 5)),
        ErrorKind::Limit,
        "more than announced, above the cap"
    );
    let mut broken = payload(&whole, 0, whole.len() as u64);
    let middle = broken.len() - 20;
    broken.truncate(middle);
    assert_eq!(reject(&broken), ErrorKind::Corrupt, "shorter than it says");
    let nested = event(PAYLOAD, &payload(&whole, 0, whole.len() as u64), 0, 0, false);
    assert_eq!(
        reject(&payload(&nested, 0, nested.len() as u64)),
        ErrorKind::Corrupt,
        "a payload in a payload"
    );
}

#[test]
fn an_encrypted_log_needs_checksums() {
    let mut log = Log::new(keys(&[0]));
    log.push(START_ENCRYPTION, &[0; 17])
        .expect("what follows is verified");
    let mut log = Log::without_format(keys(&[0]), 4);
    log.checksums = false;
    log.format().expect("a format without checksums");
    assert_eq!(
        kind_of(log.push(START_ENCRYPTION, &[0; 17])),
        ErrorKind::Unsupported
    );
}

#[test]
fn prepared_rows_are_bounded() {
    let mut log = Log::new(keys(&[0]));
    log.push(ANONYMOUS_GTID, &[0; 42]).expect("a GTID");
    log.push(QUERY, &query("XA START X'61',X'',1"))
        .expect("a beginning");
    log.push(TABLE_MAP, &table_map(7, "t")).expect("a map");
    let many: Vec<(i32, i32)> = (0..1000).map(|id| (id, id)).collect();
    let failed = (0..100).find_map(|_| log.push(WRITE_ROWS, &rows(7, &many)).err());
    assert_eq!(failed.expect("a bound").kind(), ErrorKind::Limit);
}

#[test]
fn xa_is_prepared_under_the_name_it_began_with() {
    let mut log = Log::new(keys(&[0]));
    log.push(ANONYMOUS_GTID, &[0; 42]).expect("a GTID");
    log.push(QUERY, &query("XA START X'61',X'',1"))
        .expect("a beginning");
    let prepare = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'b'];
    assert_eq!(kind_of(log.push(XA_PREPARE, &prepare)), ErrorKind::Corrupt);
}

#[test]
fn images_of_a_rolled_back_transaction_are_not_trusted() {
    for (projection, trusted) in [(keys(&[0]), true), (Projection::All, false)] {
        let mut log = Log::new(projection);
        log.begin();
        log.insert(1).expect("a row");
        let result = log.push(QUERY, &query("ROLLBACK"));
        if trusted {
            result.expect("keys are read again");
            assert_eq!(log.seen(), ["+1"]);
        } else {
            assert_eq!(kind_of(result), ErrorKind::Unsupported);
        }
    }
}

/// The server crashed while it wrote: the transaction was rolled back when it recovered.
#[test]
fn a_transaction_cut_off_by_the_end_of_a_file_is_dropped() {
    let mut log = Log::new(keys(&[0]));
    log.begin();
    log.insert(1).expect("a row");
    let mut body = 4_u64.to_le_bytes().to_vec();
    body.extend_from_slice(b"b.2");
    log.push(ROTATE, &body).expect("the next file");
    log.end = 4;
    log.format().expect("its format");
    log.begin();
    log.insert(2).expect("a row");
    log.commit();
    assert_eq!(log.seen(), ["+2"]);
    let end = log.end;
    assert_eq!(log.position(), format!("b.2:{end}"));
}

#[test]
fn a_transaction_within_another_stops_the_stream() {
    let mut log = Log::new(keys(&[0]));
    log.begin();
    assert_eq!(kind_of(log.push(ANONYMOUS_GTID, &[0; 42])), ErrorKind::Corrupt);
}

#[test]
fn a_watch_that_cannot_be_is_refused() {
    for columns in [&[0, 0][..], &[2]] {
        let result = std::panic::catch_unwind(|| Log::without_format(keys(columns), 4));
        assert!(result.is_err(), "{columns:?}");
    }
}
