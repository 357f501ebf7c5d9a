//! The journal without servers: whatever is cut off its end, nothing is lost and nothing counts that was not finished.

use std::collections::BTreeSet;
use std::sync::Arc;

use changeling_core::ident::TableName;
use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;

use super::entry::{Chain, DoneBlock, EntryRef, FORMAT, Head};
use super::scan::{Prior, Replay, Scanned, scan};
use super::{JobIdentity, Journal, JournalError, NodeIdentity};
use crate::model::{
    Cell, ColumnShape, Comparison, Dialect, Difference, Finding, Generation, Identity, Image, Key,
    KeyIdentity, KeySource, NodeName, Present, Row, TableShape, Unsettled, ValueKind,
};
use crate::range::{KeyRange, Partition};

/// Keys below half of all are in the first, the others in the second.
fn halves() -> Vec<Partition> {
    vec![Partition::new("first"), Partition::new("second")]
}

fn identity() -> JobIdentity {
    let column = |name: &str| ColumnShape {
        name: name.into(),
        type_text: "integer".into(),
        cast_type: "integer".into(),
        kind: ValueKind::Integer,
        nullable: false,
        generation: Generation::Never,
        identity: Identity::None,
    };
    let node = |name: &str| NodeIdentity {
        name: NodeName::new(name),
        server: format!("the server of {name}"),
        order: "id integer".into(),
    };
    JobIdentity {
        nodes: vec![node("n1"), node("n2")],
        shape: TableShape {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "t"),
            columns: vec![column("id"), column("v")],
            key: vec![0],
            key_source: KeySource::PrimaryKey,
            key_identity: KeyIdentity::Value,
            ignored: vec![],
            partitions: vec![],
        },
        comparison: Comparison::Exact,
        table_filter: None,
        against_origin: None,
        until: None,
        sample: None,
    }
}

fn key(number: u16) -> Key {
    Key::of([format!("{number:04}"), "ü\n\"'\u{0}\\".to_owned()])
}

fn number(key: &Key) -> u16 {
    key.0[0].parse().unwrap()
}

fn difference(number: u16) -> Finding {
    let row = Row(Box::new([Cell::of(number.to_string()), Cell::NULL]));
    Finding::Confirmed(Difference {
        key: key(number),
        images: Box::new([
            Image::Present(Present {
                row: Arc::new(row),
                commit_ts: None,
                origin: None,
            }),
            Image::Absent,
        ]),
    })
}

/// Keys of a range, out of `0..keys`.
fn keys_of(range: &KeyRange, keys: u16) -> std::ops::Range<u16> {
    let [first, second] = &halves()[..] else {
        unreachable!()
    };
    let (start, end) = match &range.partition {
        Some(partition) if partition == first => (0, keys / 2),
        Some(partition) if partition == second => (keys / 2, keys),
        _ => (0, keys),
    };
    let from = range.after.as_ref().map_or(start, |after| number(after) + 1);
    let to = range.to.as_ref().map_or(end, |to| number(to) + 1);
    from..to.max(from)
}

/// Choices that a run makes, over and over.
struct Choices<'a> {
    numbers: &'a [u8],
    next: usize,
}

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let number = self.numbers[self.next % self.numbers.len()];
        self.next += 1;
        usize::from(number).wrapping_add(self.next / self.numbers.len()) % bound
    }
}

/// What a comparison does to its journal: gaps are walked in order, some blocks are open at once and end in any order,
/// findings of several are mixed. One key in three differs; some blocks stay unknown, if that is wanted.
struct Run<'a> {
    bytes: Vec<u8>,
    chain: Chain,
    choices: Choices<'a>,
    keys: u16,
    unknown: bool,
    /// Rows read.
    read: usize,
}

struct OpenBlock {
    number: u64,
    gap: usize,
    range: KeyRange,
    findings: Vec<u16>,
}

impl Run<'_> {
    fn write(&mut self, entry: &EntryRef<'_>) {
        self.chain.write(&mut self.bytes, entry).unwrap();
    }

    fn all(&mut self, prior: &Prior) {
        self.write(&EntryRef::Sitting {
            began: Timestamp::UNIX_EPOCH,
        });
        let mut next = prior.ranges;
        let mut open = Vec::new();
        let gaps = prior.gaps.clone();
        for gap in gaps {
            let mut rest = Some(gap.range);
            while let Some(range) = rest.take() {
                let step = 1 + self.choices.below(9) as u16;
                let here = keys_of(&range, self.keys);
                let block = if here.len() >= usize::from(step) {
                    let (block, after) = range.cut(key(here.start + step - 1));
                    rest = Some(after);
                    block
                } else {
                    range
                };
                let here = keys_of(&block, self.keys);
                self.read += here.len();
                open.push(OpenBlock {
                    number: next,
                    gap: gap.index,
                    range: block,
                    findings: here.filter(|key| key % 3 == 0).collect(),
                });
                next += 1;
                while open.len() > 4 {
                    self.work(&mut open);
                }
            }
        }
        while !open.is_empty() {
            self.work(&mut open);
        }
    }

    /// One finding of one block, or its end.
    fn work(&mut self, open: &mut Vec<OpenBlock>) {
        let chosen = self.choices.below(open.len());
        let block = open[chosen].number;
        if let Some(found) = open[chosen].findings.pop() {
            let finding = difference(found);
            self.write(&EntryRef::Finding {
                block,
                finding: &finding,
            });
            return;
        }
        let done = open.remove(chosen);
        if self.unknown && self.choices.below(5) == 0 {
            return;
        }
        let rows = keys_of(&done.range, self.keys).len() as u64;
        self.write(&EntryRef::Done(&DoneBlock {
            block,
            gap: done.gap,
            range: done.range,
            at: Timestamp::UNIX_EPOCH,
            rows: vec![rows, 0],
            mismatch: rows > 0,
            left_out: false,
            settled: 0,
        }));
    }
}

fn started(partitions: &[Partition]) -> (Vec<u8>, Chain) {
    let (mut bytes, mut chain) = (Vec::new(), Chain::default());
    let mut identity = identity();
    identity.shape.partitions = partitions.to_vec();
    let head = Head {
        format: FORMAT,
        tool: "a test".into(),
        report: "r.ndjson".into(),
        identity,
    };
    chain.write(&mut bytes, &EntryRef::Head(&head)).unwrap();
    (bytes, chain)
}

fn gone_on<'a>(
    mut bytes: Vec<u8>,
    scanned: &Scanned,
    numbers: &'a [u8],
    keys: u16,
    unknown: bool,
) -> Run<'a> {
    bytes.truncate(usize::try_from(scanned.bytes).unwrap());
    let mut run = Run {
        bytes,
        chain: scanned.chain,
        choices: Choices { numbers, next: 0 },
        keys,
        unknown,
        read: 0,
    };
    let mut prior = scanned.prior.clone();
    if prior.sittings.is_empty() {
        // As a journal whose first run has not begun.
        prior.gaps = super::tiling::Tiling::of(&scanned.head.identity.shape.partitions).gaps();
    }
    run.all(&prior);
    run
}

/// What a report made of it would list.
fn replayed(bytes: &[u8], scanned: &Scanned) -> Vec<u16> {
    let mut replay = Replay::of(&bytes[..usize::try_from(scanned.bytes).unwrap()]);
    let mut found = Vec::new();
    while let Some(finding) = replay.next(&scanned.prior).unwrap() {
        found.push(number(&finding.difference().key));
    }
    found
}

/// Nothing is left, each difference is there once, and each row was read once in blocks that count.
fn assert_complete(bytes: &[u8], keys: u16) {
    let scanned = scan(bytes).unwrap();
    assert_eq!(scanned.prior.gaps, []);
    assert_eq!((scanned.bytes, scanned.dropped), (bytes.len() as u64, 0));
    let mut found = replayed(bytes, &scanned);
    found.sort_unstable();
    let expected: Vec<u16> = (0..keys).filter(|key| key % 3 == 0).collect();
    assert_eq!(found, expected);
    assert_eq!(scanned.prior.rows, [u64::from(keys), 0]);
}

/// What a reader may count: lines that are there in full, up to the cut.
fn finished_before(bytes: &[u8], cut: usize) -> (u64, BTreeSet<u16>) {
    let (mut ranges, mut found) = (0, BTreeSet::new());
    let mut open: std::collections::BTreeMap<u64, Vec<u16>> = Default::default();
    let whole = bytes[..cut]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    for line in bytes[..whole]
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let entry: serde_json::Value = serde_json::from_slice(&line[9..]).unwrap();
        if let Some(finding) = entry.get("finding") {
            let key = finding["finding"]["confirmed"]["key"][0].as_str().unwrap();
            let block = finding["block"].as_u64().unwrap();
            open.entry(block).or_default().push(key.parse().unwrap());
        }
        if let Some(done) = entry.get("done") {
            ranges += 1;
            found.extend(open.remove(&done["block"].as_u64().unwrap()).unwrap_or_default());
        }
    }
    (ranges, found)
}

#[rstest]
fn cut_at_any_byte_nothing_is_lost_and_nothing_unfinished_counts(
    #[values(vec![], halves())] partitions: Vec<Partition>,
) {
    const KEYS: u16 = 60;
    let numbers = [7, 3, 0, 250, 91, 12, 5, 33, 200, 1, 64, 128, 17];
    let (bytes, chain) = started(&partitions);
    let first_line = bytes.len();
    let mut run = Run {
        bytes,
        chain,
        choices: Choices {
            numbers: &numbers,
            next: 0,
        },
        keys: KEYS,
        unknown: false,
        read: 0,
    };
    let all = Prior {
        gaps: super::tiling::Tiling::of(&partitions).gaps(),
        ..Prior::default()
    };
    run.all(&all);
    assert_complete(&run.bytes, KEYS);
    for cut in 0..=run.bytes.len() {
        let Ok(scanned) = scan(&run.bytes[..cut]) else {
            assert!(
                cut < first_line,
                "only without its first line it is no journal: {cut}"
            );
            continue;
        };
        assert!(cut >= first_line);
        let (ranges, found) = finished_before(&run.bytes, cut);
        assert_eq!(scanned.prior.ranges, ranges, "cut at {cut}");
        let counted = replayed(&run.bytes, &scanned);
        assert_eq!(counted.len(), found.len(), "cut at {cut}");
        assert_eq!(BTreeSet::from_iter(counted), found, "cut at {cut}");
        let before = scanned.prior.rows.first().copied().unwrap_or(0);
        let again = gone_on(run.bytes[..cut].to_vec(), &scanned, &numbers[3..], KEYS, false);
        assert_eq!(again.read as u64, u64::from(KEYS) - before, "cut at {cut}");
        assert_complete(&again.bytes, KEYS);
    }
}

proptest! {
    #[test]
    fn many_runs_each_killed_anywhere_end_in_the_whole_report(
        keys in 0u16..150,
        runs in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), any::<prop::sample::Index>(), any::<bool>()), 0..5),
        last in prop::collection::vec(any::<u8>(), 1..40),
        partitioned in prop::sample::select(vec![vec![], halves()]),
    ) {
        let (mut bytes, _) = started(&partitioned);
        let first_line = bytes.len();
        for (numbers, cut, unknown) in &runs {
            let scanned = scan(&bytes[..]).unwrap();
            bytes = gone_on(bytes, &scanned, numbers, keys, *unknown).bytes;
            bytes.truncate(first_line + cut.index(bytes.len() - first_line + 1));
        }
        let scanned = scan(&bytes[..]).unwrap();
        let before = scanned.prior.rows.first().copied().unwrap_or(0);
        let run = gone_on(bytes, &scanned, &last, keys, false);
        prop_assert_eq!(run.read as u64, u64::from(keys) - before);
        assert_complete(&run.bytes, keys);
    }

    /// A page that the system never wrote, a line that is lost or doubled: what follows does not count.
    #[test]
    fn damage_ends_what_counts(
        numbers in prop::collection::vec(any::<u8>(), 1..40),
        place in any::<prop::sample::Index>(),
        kind in 0..3,
    ) {
        const KEYS: u16 = 50;
        let (bytes, _) = started(&[]);
        let first_line = bytes.len();
        let whole = gone_on(bytes.clone(), &scan(&bytes[..]).unwrap(), &numbers, KEYS, false).bytes;
        let mut damaged = whole.clone();
        let at = first_line + place.index(whole.len() - first_line);
        let line = whole[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let end = line + whole[line..].iter().position(|&byte| byte == b'\n').unwrap() + 1;
        match kind {
            0 => damaged[at] ^= 0x20,
            1 => drop(damaged.drain(line..end)),
            _ => {
                let copy = whole[line..end].to_vec();
                damaged.splice(end..end, copy);
            }
        }
        let scanned = scan(&damaged[..]).unwrap();
        let kept = if kind == 2 { end } else { line };
        prop_assert_eq!(scanned.bytes, kept as u64);
        let (ranges, _) = finished_before(&whole, kept);
        prop_assert_eq!(scanned.prior.ranges, ranges);
        let run = gone_on(damaged, &scanned, &numbers, KEYS, false);
        assert_complete(&run.bytes, KEYS);
    }

    #[test]
    fn keys_come_back_as_they_were(parts in prop::collection::vec(any::<String>(), 1..4), more in any::<Option<String>>()) {
        let partition = more.as_deref().map(Partition::new);
        let range = KeyRange { partition, after: Some(Key::of(parts)), to: more.map(|text| Key::of([text])) };
        let done = DoneBlock {
            block: u64::MAX, gap: 0, range, at: Timestamp::UNIX_EPOCH, rows: vec![u64::MAX], mismatch: true, left_out: false, settled: 0,
        };
        let (mut bytes, mut chain) = (Vec::new(), Chain::default());
        chain.write(&mut bytes, &EntryRef::Done(&done)).unwrap();
        prop_assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let document = Chain::default().read(&bytes).unwrap();
        let super::entry::Frame::Done(read) = serde_json::from_slice(document).unwrap() else { panic!() };
        prop_assert_eq!(read, done);
    }
}

fn block(number: u64, range: KeyRange) -> DoneBlock {
    DoneBlock {
        block: number,
        gap: 0,
        range,
        at: Timestamp::now(),
        rows: vec![1, 1],
        mismatch: false,
        left_out: false,
        settled: 2,
    }
}

#[tokio::test]
async fn a_file_is_gone_on_with_by_one_process_and_only_for_the_same_comparison() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.journal");
    let journal = Journal::create(&path, "r.ndjson", &identity()).unwrap();
    assert!(
        Journal::create(&path, "r.ndjson", &identity()).is_err(),
        "never over another one"
    );
    let (first, rest) = KeyRange::ALL.cut(key(5));
    let (second, third) = rest.cut(key(9));
    let mut keeping = journal.keep();
    keeping.find(0, &difference(3)).unwrap();
    keeping
        .find(1, &{
            let Finding::Confirmed(difference) = difference(7) else {
                panic!()
            };
            Finding::InFlight(difference, Unsettled::KeepsChanging)
        })
        .unwrap();
    keeping.finish(&block(0, first)).await.unwrap();
    keeping.finish(&block(1, second.clone())).await.unwrap();
    keeping.finish(&block(2, third)).await.unwrap();
    assert!(
        matches!(
            Journal::resume(&path, &identity()),
            Err(JournalError::InUse { .. })
        ),
        "while it is written"
    );
    drop(keeping);

    let mut other = identity();
    other.nodes[1].server = "another".into();
    other.shape.columns[1].type_text = "text".into();
    other.table_filter = Some("id > 5".into());
    let refused = Journal::resume(&path, &other).unwrap_err().to_string();
    for part in [
        "n2 was the server of n2",
        "column \"v\"",
        "--table-filter was not given",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    let mut sorted = identity();
    sorted.nodes[0].order = "id by the bytes of its text".into();
    assert!(
        Journal::resume(&path, &sorted).is_err(),
        "ranges of two orders do not fit"
    );

    use std::io::Write as _;
    let mut torn = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    torn.write_all(b"00000000 {\"done\":{\"blo").unwrap();
    drop(torn);
    let journal = Journal::resume(&path, &identity()).unwrap();
    assert_eq!((journal.finished_ranges(), journal.dropped_lines()), (2, 1));
    assert_eq!(journal.report(), "r.ndjson");
    let left: Vec<&KeyRange> = journal.prior().gaps.iter().map(|gap| &gap.range).collect();
    assert_eq!(left, [&second], "a block with a row in flight is not done");
    assert_eq!(journal.prior().settled(), 2);
    let mut findings = journal.findings().unwrap();
    assert_eq!(findings.next().unwrap(), Some(difference(3)));
    assert_eq!(findings.next().unwrap(), None);
    let mut keeping = journal.keep();
    keeping
        .finish(&DoneBlock {
            gap: 1,
            ..block(2, second)
        })
        .await
        .unwrap();
    keeping.close().await.unwrap();
    let journal = Journal::resume(&path, &identity()).unwrap();
    assert_eq!((journal.dropped_lines(), journal.prior().gaps.len()), (0, 0));
    assert!(
        journal
            .prior()
            .note(3)
            .unwrap()
            .contains("3 of 3 ranges were compared by 2 earlier runs")
    );
}

#[test]
fn what_is_no_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    assert!(matches!(
        Journal::resume(&path, &identity()),
        Err(JournalError::File { .. })
    ));
    std::fs::write(&path, "{\"header\":{}}\n").unwrap();
    let refused = Journal::resume(&path, &identity()).unwrap_err().to_string();
    assert!(refused.contains("not a journal"), "{refused}");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "{\"header\":{}}\n",
        "left as it is"
    );
}
