//! Reports, written and read back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use changeling_core::ident::TableName;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::ndjson::NdjsonSink;
use super::recorded::{RecordedDifference, RecordedImage, RecordedReport};
use super::sort::SortedReport;
use super::{ReportError, ace, csv};
use crate::model::{
    Cell, ColumnShape, Comparison, Dialect, Difference, DifferenceSink as _, Finding, Generation, Identity,
    Image, JobHeader, JobSummary, Key, KeyIdentity, KeySource, NodeName, NodeSummary, Origin, Present, Row,
    TableShape, Unsettled, ValueKind, Verdict,
};

fn column(name: &str, type_text: &str, kind: ValueKind) -> ColumnShape {
    ColumnShape {
        name: name.into(),
        type_text: type_text.into(),
        cast_type: type_text.into(),
        kind,
        nullable: true,
        generation: Generation::Never,
        identity: Identity::None,
    }
}

pub(super) fn header(nodes: &[&str]) -> JobHeader {
    JobHeader {
        tables: Vec::new(),
        nodes: nodes.iter().map(|name| NodeName::new(*name)).collect(),
        shape: TableShape {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "customers"),
            columns: vec![
                column("id", "bigint", ValueKind::Integer),
                column("code", "text", ValueKind::Text),
                column("ratio", "double precision", ValueKind::Float),
                column("at", "timestamp with time zone", ValueKind::Text),
                column("active", "boolean", ValueKind::Boolean),
            ],
            key: vec![0, 1],
            key_source: KeySource::PrimaryKey,
            key_identity: KeyIdentity::Value,
            ignored: Vec::new(),
            partitions: Vec::new(),
        },
        comparison: Comparison::Exact,
        started: "2026-07-01T10:00:00Z".parse().unwrap(),
        table_filter: None,
        against_origin: None,
        until: None,
        block_size: 100_000,
        compare_unit_size: 10_000,
        children: 2,
        concurrency_factor: 0.5,
        max_diff_rows: 0,
    }
}

pub(super) fn summary(header: &JobHeader, by_pair: Vec<(usize, usize, u64)>) -> JobSummary {
    JobSummary {
        verdict: Verdict::Differ,
        ended: "2026-07-01T10:00:01.23Z".parse().unwrap(),
        nodes: header
            .nodes
            .iter()
            .map(|node| NodeSummary {
                node: node.clone(),
                rows: 10_000,
                missing: 0,
            })
            .collect(),
        ranges: 3,
        mismatched_ranges: 1,
        confirmed: by_pair
            .iter()
            .map(|(_, _, count)| count)
            .max()
            .copied()
            .unwrap_or(0),
        confirmed_by_pair: by_pair,
        in_flight: 0,
        settled: 0,
        unknown: 0,
        unknown_ranges: Vec::new(),
        limit_reached: false,
        cancelled: false,
        sampled: None,
        notes: Vec::new(),
    }
}

fn image(values: Option<&[Option<&str>]>) -> Image {
    values.map_or(Image::Absent, |values| {
        Image::Present(Present {
            row: Arc::new(Row(values.iter().map(|value| Cell::from(*value)).collect())),
            commit_ts: Some("2026-07-01T10:00:00.123456Z".into()),
            origin: Some(Origin::Local),
        })
    })
}

type Values<'a> = Option<&'a [Option<&'a str>]>;

fn difference(id: &str, code: &str, images: &[Values<'_>]) -> Difference {
    Difference {
        key: Key::of([id, code]),
        images: images.iter().map(|values| image(*values)).collect(),
    }
}

pub(super) fn write_report(path: &Path, header: &JobHeader, findings: Vec<Finding>, summary: &JobSummary) {
    let in_flight = |finding: &&Finding| matches!(finding, Finding::InFlight(..));
    let in_flight = findings.iter().filter(in_flight).count() as u64;
    let summary = JobSummary {
        confirmed: findings.len() as u64 - in_flight,
        in_flight,
        ..summary.clone()
    };
    let mut sink = NdjsonSink::new(path);
    futures_util::FutureExt::now_or_never(async {
        sink.begin(header).await.unwrap();
        for finding in findings {
            sink.take(finding).await.unwrap();
        }
        sink.finish(&summary).await.unwrap();
    })
    .expect("a sink that writes a file does not wait");
}

fn read_all(path: &Path) -> Vec<RecordedDifference> {
    let mut report = RecordedReport::open(path).unwrap();
    let mut all = Vec::new();
    while let Some(difference) = report.next_difference().unwrap() {
        all.push(difference);
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    report.rewind().unwrap();
    assert_eq!(report.next_difference().unwrap().is_some(), !all.is_empty());
    all
}

fn ace_json(path: &Path) -> Value {
    let mut written = Vec::new();
    ace::write(&mut SortedReport::of(path).unwrap(), &mut written).unwrap();
    serde_json::from_slice(&written).unwrap()
}

#[test]
fn the_json_is_aces_to_the_letter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let header = header(&["n1", "n2"]);
    let at = Some("2026-07-01 10:00:00+00");
    let findings = vec![
        difference(
            "10",
            "b",
            &[
                Some(&[Some("10"), Some("b"), Some("NaN"), at, Some("true")]),
                None,
            ],
        ),
        difference(
            "9",
            "a|b",
            &[
                Some(&[Some("9"), Some("a|b"), Some("1e+300"), None, Some("false")]),
                Some(&[Some("9"), Some("a|b"), Some("-Infinity"), at, None]),
            ],
        ),
    ];
    let findings = findings.into_iter().map(Finding::Confirmed).collect();
    write_report(&path, &header, findings, &summary(&header, vec![(0, 1, 2)]));
    let metadata = json!({"commit_ts": "2026-07-01T10:00:00.123456Z", "node_origin": "local"});
    let expected = json!({
        "diffs": {"n1/n2": {"rows": {
            "n1": [
                {"id": 9, "code": "a|b", "ratio": 1e300, "at": null, "active": false, "_spock_metadata_": metadata},
                {"id": 10, "code": "b", "ratio": "NaN", "at": "2026-07-01T10:00:00Z", "active": true, "_spock_metadata_": metadata},
            ],
            "n2": [
                {"id": 9, "code": "a|b", "ratio": "-Infinity", "at": "2026-07-01T10:00:00Z", "active": null, "_spock_metadata_": metadata},
            ]}}},
        "summary": {
            "schema": "public", "table": "customers", "nodes": ["n1", "n2"], "block_size": 100_000,
            "compare_unit_size": 10_000, "concurrency_factor": 0.5, "max_diff_rows": 0,
            "start_time": "2026-07-01T10:00:00Z", "end_time": "2026-07-01T10:00:01.23Z", "time_taken": "1.23s",
            "diff_rows_count": {"n1/n2": 2}, "diff_row_limit_reached": false, "total_rows_checked": 10_000,
            "initial_ranges_count": 3, "mismatched_ranges_count": 1, "primary_key": ["id", "code"]}
    });
    assert_eq!(ace_json(&path), expected);
}

/// ACE's encoder fails on such values, and the whole report is lost (ace.md C7).
#[test]
fn c7_not_a_number_and_infinity_do_not_lose_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ace_path) = (directory.path().join("report"), directory.path().join("ace.json"));
    let header = header(&["n1", "n2"]);
    let values = ["NaN", "Infinity", "-Infinity", "-0", "1e-320"];
    let rows: Vec<_> = values
        .iter()
        .map(|value| [Some("1"), Some(*value), Some(*value), None, None])
        .collect();
    let findings = rows
        .iter()
        .map(|row| Finding::Confirmed(difference("1", row[1].unwrap(), &[Some(row), None])));
    write_report(
        &path,
        &header,
        findings.collect(),
        &summary(&header, vec![(0, 1, 5)]),
    );
    fs::write(&ace_path, ace_json(&path).to_string()).unwrap();
    let read = read_all(&ace_path);
    let written: Vec<_> = read
        .iter()
        .map(|difference| match &difference.images[0] {
            RecordedImage::Present { row, .. } => row.0[2].as_str().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(written.len(), 5);
    for (value, read) in ["-0", "-Infinity", "1e-320", "Infinity", "NaN"]
        .iter()
        .zip(written)
    {
        assert_eq!(
            value.parse::<f64>().unwrap().to_bits(),
            read.parse::<f64>().unwrap().to_bits(),
            "{value}"
        );
    }
}

/// ACE joins the parts of a key with `|`; NULL and the text `<nil>` are the same to it; columns may be called like its
/// metadata (ace.md C6).
#[test]
fn c6_keys_keep_their_parts_and_null_is_not_a_text() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ace_path) = (directory.path().join("report"), directory.path().join("ace.json"));
    let mut header = header(&["n1", "n2"]);
    header.shape.columns[0] = column("commit_ts", "text", ValueKind::Text);
    header.shape.columns[3] = column("node_origin", "text", ValueKind::Text);
    let rows = [
        [Some("a|b"), Some("c"), None, None, None],
        [Some("a"), Some("b|c"), None, Some("<nil>"), None],
    ];
    let findings = rows
        .iter()
        .map(|row| Finding::Confirmed(difference(row[0].unwrap(), row[1].unwrap(), &[Some(row), None])))
        .collect();
    write_report(&path, &header, findings, &summary(&header, vec![(0, 1, 2)]));
    let text = {
        let mut written = Vec::new();
        ace::write(&mut SortedReport::of(&path).unwrap(), &mut written).unwrap();
        written
    };
    fs::write(&ace_path, text).unwrap();
    let (ours, aces) = (read_all(&path), read_all(&ace_path));
    assert_eq!(ours, aces);
    assert_eq!(ours.len(), 2);
    assert_eq!(ours[0].key, Key::of(["a", "b|c"]));
    let RecordedImage::Present { row, .. } = &ours[0].images[0] else {
        panic!()
    };
    assert_eq!((row.0[3].as_str(), row.0[2].as_str()), (Some("<nil>"), None));
    let RecordedImage::Present { row, .. } = &ours[1].images[0] else {
        panic!()
    };
    assert_eq!(row.0[3].as_str(), None);
}

#[test]
fn a_file_that_ace_wrote_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ace.json");
    // Three nodes; n1 and n2 agree about key 1; big integers, a list that is null, an unknown field, no metadata.
    let text = r#"{
  "diffs": {
    "n1/n3": {"rows": {"n1": [{"id": 12345678901234567890, "doc": {"a": [1]}, "n": 1.10}], "n3": null}},
    "n2/n3": {"rows": {"n2": [{"n": 1.10, "id": 12345678901234567890, "doc": {"a": [1]}}], "n3": []}}
  },
  "summary": {"schema": "s", "table": "t", "nodes": ["n1", "n2", "n3"], "primary_key": ["id"], "later": {"x": 1}}
}"#;
    fs::write(&path, text).unwrap();
    let report = RecordedReport::open(&path).unwrap();
    assert_eq!(report.columns, ["id", "doc", "n"]);
    let read = read_all(&path);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].key, Key::of(["12345678901234567890"]));
    assert_eq!(read[0].pairs, [(0, 2), (1, 2)]);
    assert_eq!(read[0].images[2], RecordedImage::Absent);
    let RecordedImage::Present { row, .. } = &read[0].images[1] else {
        panic!()
    };
    assert_eq!(row.0[1].as_str(), Some(r#"{"a": [1]}"#));
    assert_eq!(row.0[2].as_str(), Some("1.10"));
}

#[test]
fn what_is_no_report_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    for (text, word) in [
        ("", "EOF"),
        ("[]", "invalid type"),
        ("{\"diffs\": {}}", "no summary"),
        ("{\"diffs\": {}, \"summary\": {}}", "names no key"),
        (
            "{\"diffs\": {\"a/b\": {\"rows\": {\"a\": [{\"id\": 1}]}}}, \"summary\": {\"nodes\": [\"a\", \"c\"], \"primary_key\": [\"id\"]}}",
            "no pair",
        ),
        (
            "{\"diffs\": {\"a/b\": {\"rows\": {\"a\": [{\"id\": null}]}}}, \"summary\": {\"nodes\": [\"a\", \"b\"], \"primary_key\": [\"id\"]}}",
            "key column id",
        ),
        (
            "{\"diffs\": {\"a/b\": {\"rows\": {\"a\": [{\"id\": 1}, {\"id\": 2, \"x\": 3}]}}}, \"summary\": {\"nodes\": [\"a\", \"b\"], \"primary_key\": [\"id\"]}}",
            "columns",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let error = RecordedReport::open(&path).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn a_report_that_was_cut_off_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let header = header(&["n1", "n2"]);
    let row: Values<'_> = Some(&[Some("1"), Some("a"), None, None, None]);
    let findings = vec![Finding::Confirmed(difference("1", "a", &[row, None]))];
    write_report(&path, &header, findings, &summary(&header, vec![(0, 1, 1)]));
    let whole = fs::read(&path).unwrap();
    let lines: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    for end in lines[0]..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let Err(error) = RecordedReport::open(&path) else {
            panic!("cut off at {end}, and nobody noticed");
        };
        assert!(matches!(error, ReportError::Unfinished { .. }), "{error}");
        assert!(matches!(
            SortedReport::of(&path),
            Err(ReportError::Unfinished { .. })
        ));
    }
}

#[test]
fn rows_in_flight_are_not_for_repair() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let header = header(&["n1", "n2"]);
    let row: Values<'_> = Some(&[Some("1"), Some("a"), None, None, None]);
    let findings = vec![Finding::InFlight(
        difference("1", "a", &[row, None]),
        Unsettled::KeepsChanging,
    )];
    write_report(&path, &header, findings, &summary(&header, Vec::new()));
    let mut report = RecordedReport::open(&path).unwrap();
    assert_eq!(report.next_difference().unwrap(), None);
    assert_eq!(report.in_flight, 1);
    assert_eq!(ace_json(&path)["diffs"], json!({}));
}

/// A difference that is lost is one that nobody looks at again, and then everything seems to be resolved.
#[test]
fn a_report_with_a_line_cut_out_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ace_path) = (directory.path().join("report"), directory.path().join("ace.json"));
    let header = header(&["n1", "n2"]);
    let row = |id: &'static str| [Some(id), Some("a"), None, None, None];
    let findings = ["1", "2", "3"]
        .map(|id| Finding::Confirmed(difference(id, "a", &[Some(&row(id)), None])))
        .to_vec();
    write_report(&path, &header, findings, &summary(&header, vec![(0, 1, 3)]));
    let whole = fs::read_to_string(&path).unwrap();
    let mut ace = ace_json(&path);
    let lines: Vec<&str> = whole.lines().collect();
    for missing in 1..=3 {
        let left: Vec<&str> = [&lines[..missing], &lines[missing + 1..]].concat();
        fs::write(&path, left.join("\n") + "\n").unwrap();
        let error = RecordedReport::open(&path).unwrap_err();
        assert!(matches!(error, ReportError::Incomplete { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("counts 3") && error.contains("lists 2"), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(matches!(
            SortedReport::of(&path),
            Err(ReportError::Incomplete { .. })
        ));
    }
    ace["diffs"]["n1/n2"]["rows"]["n1"]
        .as_array_mut()
        .unwrap()
        .remove(1);
    fs::write(&ace_path, ace.to_string()).unwrap();
    let error = RecordedReport::open(&ace_path).unwrap_err().to_string();
    assert!(
        error.contains("counts 3 differences of n1/n2, and it lists 2"),
        "{error}"
    );
    ace["diffs"] = json!({});
    fs::write(&ace_path, ace.to_string()).unwrap();
    assert!(RecordedReport::open(&ace_path).is_err());
}

/// What was not established is not in ACE's form; who looks again at what it lists must not take that for everything.
#[test]
fn the_json_tells_that_it_is_not_about_the_whole_table() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ace_path) = (directory.path().join("report"), directory.path().join("ace.json"));
    let header = header(&["n1", "n2"]);
    let row: Values<'_> = Some(&[Some("1"), Some("a"), None, None, None]);
    let findings = || {
        vec![
            Finding::Confirmed(difference("1", "a", &[row, None])),
            Finding::InFlight(difference("2", "a", &[row, None]), Unsettled::KeepsChanging),
        ]
    };
    let whole = summary(&header, vec![(0, 1, 1)]);
    let cases = [
        JobSummary {
            unknown: 2,
            ..whole.clone()
        },
        JobSummary {
            cancelled: true,
            ..whole.clone()
        },
        JobSummary {
            sampled: Some(0.5),
            ..whole.clone()
        },
        whole.clone(),
    ];
    for case in cases {
        write_report(&path, &header, findings(), &case);
        fs::write(&ace_path, ace_json(&path).to_string()).unwrap();
        let mut report = RecordedReport::open(&ace_path).unwrap();
        assert!(report.shortfall().is_some(), "{case:?}");
        report.rewind().unwrap();
        assert_eq!(report.in_flight, 1);
    }
}

/// One row under two texts of its key stays one difference.
#[test]
fn the_json_holds_two_texts_of_one_key_together() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ace_path) = (directory.path().join("report"), directory.path().join("ace.json"));
    let header = header(&["n1", "n2"]);
    let one: Values<'_> = Some(&[Some("1"), Some("A"), None, None, None]);
    let other: Values<'_> = Some(&[Some("1"), Some("a"), None, None, None]);
    let findings = vec![Finding::Confirmed(difference("1", "A", &[one, other]))];
    write_report(&path, &header, findings, &summary(&header, vec![(0, 1, 1)]));
    let mut written = Vec::new();
    ace::write(&mut SortedReport::of(&path).unwrap(), &mut written).unwrap();
    fs::write(&ace_path, written).unwrap();
    assert_eq!(read_all(&path), read_all(&ace_path));
    assert_eq!(read_all(&ace_path).len(), 1);
}

#[test]
fn csv_tells_null_from_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let header = header(&["n1", "n2"]);
    let row: Values<'_> = Some(&[Some("1"), Some("a\"b,\nc"), None, Some(""), Some("true")]);
    let findings = vec![Finding::Confirmed(difference("1", "a\"b,\nc", &[row, None]))];
    write_report(&path, &header, findings, &summary(&header, vec![(0, 1, 1)]));
    let mut written = Vec::new();
    csv::write(&mut SortedReport::of(&path).unwrap(), &mut written).unwrap();
    let expected = "\"finding\",\"node\",\"present\",\"commit_ts\",\"node_origin\",\"id\",\"code\",\"ratio\",\"at\",\"active\"\n\
        confirmed,\"n1\",true,\"2026-07-01T10:00:00.123456Z\",\"local\",\"1\",\"a\"\"b,\nc\",,\"\",\"true\"\n\
        confirmed,\"n2\",false,,,\"1\",\"a\"\"b,\nc\",,,\n";
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}

fn any_text() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        any::<String>().prop_map(Some),
        "[a-z|<>\"\\\\]{0,8}".prop_map(Some)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the texts are: written as NDJSON, sorted, written as ACE's JSON and read back, both formats say the same.
    #[test]
    fn both_formats_say_the_same(rows in prop::collection::btree_map((-50i64..50, "[a-c|]{0,3}"), (any_text(), any_text(), 0u8..3), 0..20)) {
        let directory = tempfile::tempdir().unwrap();
        let (path, ace_path) = (directory.path().join("report"), directory.path().join("ace.json"));
        let mut header = header(&["n1", "n2", "n/3"]);
        header.shape.columns[2] = column("ratio", "text", ValueKind::Text);
        header.shape.columns[3] = column("at", "text", ValueKind::Text);
        let mut counts = std::collections::BTreeMap::new();
        let mut findings = Vec::new();
        for ((id, code), (one, other, where_)) in &rows {
            let id = id.to_string();
            let row = [Some(id.as_str()), Some(code.as_str()), one.as_deref(), other.as_deref(), None];
            let changed = [Some(id.as_str()), Some(code.as_str()), Some("changed to this"), other.as_deref(), Some("true")];
            let images: [Values<'_>; 3] = match where_ {
                0 => [Some(&row), None, Some(&changed)],
                1 => [None, None, Some(&row)],
                _ => [Some(&row), Some(&changed), Some(&row)],
            };
            let found = difference(&id, code, &images);
            for (a, b, _) in found.pairs() {
                *counts.entry((a, b)).or_insert(0) += 1;
            }
            findings.push(Finding::Confirmed(found));
        }
        findings.reverse();
        let by_pair = counts.into_iter().map(|((a, b), count)| (a, b, count)).collect();
        write_report(&path, &header, findings, &summary(&header, by_pair));
        let mut written = Vec::new();
        ace::write(&mut SortedReport::of(&path).unwrap(), &mut written).unwrap();
        fs::write(&ace_path, written).unwrap();
        let (ours, aces) = (read_all(&path), read_all(&ace_path));
        prop_assert_eq!(ours.len(), rows.len());
        prop_assert_eq!(ours.len(), aces.len());
        for (ours, aces) in ours.iter().zip(&aces) {
            prop_assert_eq!(&ours.key, &aces.key);
            let mut pairs = aces.pairs.clone();
            pairs.sort_unstable();
            prop_assert_eq!(&ours.pairs, &pairs);
            for (ours, aces) in ours.images.iter().zip(&aces.images) {
                prop_assert_eq!(ours, aces);
            }
        }
    }
}

#[test]
fn a_report_of_many_runs_is_sorted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let header = header(&["n1", "n2"]);
    let filler = "x".repeat(20_000);
    // 2000 rows of 20 kB: five runs.
    let findings = (0..2000_u32).map(|n| {
        let id = (n.wrapping_mul(2_654_435_761) % 100_003).to_string();
        Finding::Confirmed(difference(
            &id,
            "a",
            &[Some(&[Some(&id), Some("a"), None, Some(&filler), None]), None],
        ))
    });
    write_report(
        &path,
        &header,
        findings.collect(),
        &summary(&header, vec![(0, 1, 2000)]),
    );
    let mut last = -1;
    let mut count = 0;
    let each = |_: &JobHeader, finding: Finding| {
        let id: i64 = finding.difference().key.0[0].parse().unwrap();
        assert!(id > last, "{id} after {last}");
        (last, count) = (id, count + 1);
        Ok(())
    };
    SortedReport::of(&path).unwrap().for_each(each).unwrap();
    assert_eq!(count, 2000);
}

/// A file that somebody edited: each of these made the program panic.
#[test]
fn findings_that_cannot_be_of_the_table_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.ndjson");
    let header = header(&["n1", "n2"]);
    let values: Vec<Option<&str>> = header.shape.columns.iter().map(|_| Some("1")).collect();
    let sound = difference("1", "1", &[Some(&values), None]);
    write_report(
        &path,
        &header,
        vec![Finding::Confirmed(sound.clone())],
        &summary(&header, vec![(0, 1, 1)]),
    );
    assert_eq!(read_all(&path).len(), 1);
    let mut headless = header.clone();
    headless.shape.key = vec![99];
    let mut short = sound.clone();
    short.images[0] = image(Some(&values[1..]));
    let third = difference("1", "1", &[Some(&values), None, None]);
    let nowhere = difference("1", "1", &[None, None]);
    let mut long_key = sound.clone();
    long_key.key = Key::of(["1", "1", "1"]);
    for (header, finding) in [
        (&headless, sound),
        (&header, short),
        (&header, third),
        (&header, nowhere),
        (&header, long_key),
    ] {
        write_report(
            &path,
            header,
            vec![Finding::Confirmed(finding)],
            &summary(header, vec![(0, 1, 1)]),
        );
        let read = RecordedReport::open(&path).and_then(|mut report| report.next_difference());
        assert!(matches!(read, Err(ReportError::Malformed { .. })), "{read:?}");
    }
}
