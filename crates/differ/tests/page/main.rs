//! The report's page in a real browser.

// clippy.toml allows this in functions marked as tests only, not in the helpers that they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use changeling_core::ident::TableName;
use changeling_differ::model::{
    Cell, ColumnShape, Comparison, Dialect, Difference, DifferenceSink as _, Finding, Generation, Identity,
    Image, JobHeader, JobSummary, Key, KeyIdentity, KeySource, NodeName, NodeSummary, Origin, Present, Row,
    TableShape, Unsettled, ValueKind, Verdict,
};
use changeling_differ::repair::plan::{Plan, PlanKind, PlanPair, PlanRow, Value};
use changeling_differ::report::html;
use changeling_differ::report::ndjson::NdjsonSink;
use changeling_differ::report::sort::SortedReport;
use changeling_support::Browser;

fn header() -> JobHeader {
    let column = |name: &str, kind| ColumnShape {
        name: name.into(),
        type_text: "x".into(),
        cast_type: "x".into(),
        kind,
        nullable: true,
        generation: Generation::Never,
        identity: Identity::None,
    };
    let mut columns = vec![column("id", ValueKind::Integer)];
    columns.extend((1..12).map(|number| column(&format!("c{number}"), ValueKind::Text)));
    JobHeader {
        tables: Vec::new(),
        nodes: vec![NodeName::new("n1"), NodeName::new("n2")],
        shape: TableShape {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "cust</script>omers"),
            columns,
            key: vec![0],
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

/// Of every ten: eight differ in `c5`, one is missing on each node; number 17 is in flight.
fn finding(number: u64) -> Finding {
    let image = |word: &str| {
        let mut cells = vec![Cell::of(number.to_string())];
        cells.extend((1..12).map(|column| match column {
            5 => Cell::of(format!("<b>begin {word} end</b>")),
            6 => Cell::NULL,
            _ => Cell::of(format!("some text {number} {column}")),
        }));
        Image::Present(Present {
            row: Arc::new(Row(cells.into())),
            commit_ts: Some("2026-07-01T10:00:00.000000Z".into()),
            origin: Some(Origin::Local),
        })
    };
    let images = match number % 10 {
        8 => [Image::Absent, image("b")],
        9 => [image("a"), Image::Absent],
        _ => [image("aaa"), image("bbb")],
    };
    let difference = Difference {
        key: Key::of([number.to_string()]),
        images: Box::new(images),
    };
    if number == 17 {
        Finding::InFlight(difference, Unsettled::KeepsChanging)
    } else {
        Finding::Confirmed(difference)
    }
}

fn page(path: &Path, count: u64) {
    let lines = path.with_extension("ndjson");
    let header = header();
    let summary = JobSummary {
        verdict: Verdict::Differ,
        ended: "2026-07-01T10:00:01Z".parse().unwrap(),
        nodes: header
            .nodes
            .iter()
            .map(|node| NodeSummary {
                node: node.clone(),
                rows: 1_000_000,
                missing: count / 10,
            })
            .collect(),
        ranges: 10,
        mismatched_ranges: 10,
        confirmed: count - 1,
        confirmed_by_pair: vec![(0, 1, count - 1)],
        in_flight: 1,
        settled: 0,
        unknown: 0,
        unknown_ranges: Vec::new(),
        limit_reached: false,
        cancelled: false,
        sampled: None,
        notes: Vec::new(),
    };
    let mut sink = NdjsonSink::new(&lines);
    futures_util::FutureExt::now_or_never(async {
        sink.begin(&header).await.unwrap();
        for number in 0..count {
            sink.take(finding(number)).await.unwrap();
        }
        sink.finish(&summary).await.unwrap();
    })
    .unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    html::write(&mut SortedReport::of(&lines).unwrap(), &mut file).unwrap();
    file.flush().unwrap();
}

/// What is done in the page, after it was loaded; the page then goes to the test with its answer.
const DRIVE: &str = r#"
<script>
(async () => {
  const answer = {};
  const pause = () => new Promise((done) => setTimeout(done, 0));
  const frame = () => new Promise((done) => requestAnimationFrame(() => done()));
  try {
    answer.loaded = performance.now();
    answer.elements = document.getElementsByTagName('*').length;
    answer.shown = document.querySelectorAll('.difference').length;
    answer.title = document.getElementById('title').textContent;
    const list = document.getElementById('list');
    // The longest time in which the page did not answer.
    let last = performance.now();
    answer.longest = 0;
    const beat = setInterval(() => { const now = performance.now(); answer.longest = Math.max(answer.longest, now - last); last = now; }, 1);
    // From top to bottom in jumps.
    for (let step = 0; step <= 50; step += 1) { list.scrollTop = list.scrollHeight * step / 50; await frame(); await pause(); }
    answer.last = [...document.querySelectorAll('.difference')].at(-1).querySelector('.key').textContent;
    report.goTo(0); await frame();
    const first = document.querySelector('.difference');
    answer.marks = [...first.querySelectorAll('.changed')].map((cell) => [...cell.children].map((part) => part.localName + ':' + part.textContent).join('|'));
    answer.bold = document.querySelectorAll('.cell b b').length;
    answer.nulls = first.querySelectorAll('.null').length;
    // Filters.
    const kind = document.getElementById('kind');
    kind.value = 'missing_on_n2'; await report.filter();
    answer.missing = report.count();
    answer.absent = document.querySelector('.difference').querySelectorAll('.row')[1].textContent;
    kind.value = 'flight'; await report.filter();
    answer.flight = report.count();
    kind.value = '';
    const search = document.getElementById('search');
    search.value = 'TEXT 4242 '; await report.filter();
    answer.found = report.count();
    search.value = ''; await report.filter();
    // Map.
    answer.bars = document.querySelectorAll('#map i[data-start]').length;
    document.querySelectorAll('#map i[data-start]')[120].click(); await frame();
    answer.middle = Number(document.querySelector('.difference .key').textContent);
    // Plan.
    report.goTo(0); await frame();
    const choose = (select, value) => { select.value = value; select.dispatchEvent(new Event('change')); };
    choose(document.querySelector('.difference select'), 'keep_n2');
    choose(document.getElementById('bulk_missing_on_n1'), 'delete');
    choose(document.getElementById('otherwise'), 'keep_n1');
    choose(document.getElementById('bulk_missing_on_n2'), 'skip');
    answer.plan = report.plan();
    clearInterval(beat);
  } catch (error) { answer.error = String(error.stack || error); }
  location.href = location.hash.slice(1) + '?' + encodeURIComponent(JSON.stringify(answer));
})();
</script>
"#;

#[tokio::test]
async fn a_hundred_thousand_differences_can_be_read_searched_and_planned() {
    const COUNT: u64 = 100_000;
    let test = "a_hundred_thousand_differences_can_be_read_searched_and_planned";
    let browser = match Browser::find().await.unwrap() {
        Ok(browser) => browser,
        Err(reason) => return changeling_support::skip::count(test, &reason),
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    page(&path, COUNT);
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes < 60 << 20, "the page has {bytes} bytes");
    let mut text = std::fs::read_to_string(&path).unwrap();
    // The page that is tested is the page; only what drives it comes behind.
    text.push_str(DRIVE);
    std::fs::write(&path, text).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&browser.answer_of(&path).await.unwrap()).unwrap();
    eprintln!("{bytes} bytes; {answer}");
    assert_eq!(answer["error"], serde_json::Value::Null);
    assert_eq!(answer["title"], "public.cust</script>omers");
    assert!(answer["elements"].as_u64().unwrap() < 5_000, "{answer}");
    assert!(answer["shown"].as_u64().unwrap() < 100, "{answer}");
    assert_eq!(answer["last"], (COUNT - 1).to_string());
    let marks = serde_json::json!(["s:<b>begin |b:aaa|s: end</b>", "s:<b>begin |b:bbb|s: end</b>"]);
    assert_eq!(answer["marks"], marks);
    assert_eq!((&answer["bold"], &answer["nulls"]), (&0.into(), &0.into()));
    assert_eq!(answer["missing"], COUNT / 10);
    assert!(answer["absent"].as_str().unwrap().contains("no row"), "{answer}");
    assert_eq!((&answer["flight"], &answer["found"]), (&1.into(), &1.into()));
    assert_eq!(answer["bars"], 240);
    let middle = answer["middle"].as_u64().unwrap();
    assert!((49_000..51_000).contains(&middle), "{answer}");
    // Frozen is what a person would call so.
    assert!(answer["longest"].as_f64().unwrap() < 1_000.0, "{answer}");
    decides(answer["plan"].as_str().unwrap());
}

struct Number(i64);

impl PlanRow for Number {
    fn value(&self, column: &str) -> Option<Value> {
        (column == "id").then(|| Value::of_text(&self.0.to_string(), PlanKind::Number))
    }
}

/// The plan that was put together in the browser is a plan.
fn decides(text: &str) {
    let plan = Plan::read(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let table = plan.for_table("public.cust</script>omers").unwrap();
    let decide = |n1: Option<i64>, n2: Option<i64>| {
        let (n1, n2) = (n1.map(Number), n2.map(Number));
        let pair = PlanPair {
            key: &["id".to_owned()],
            columns: &["id".to_owned()],
            changed: &[],
            n1: n1.as_ref().map(|row| row as _),
            n2: n2.as_ref().map(|row| row as _),
        };
        table.decide(&pair).unwrap().by.to_owned()
    };
    assert_eq!(decide(Some(0), Some(0)), "row_override_0");
    assert_eq!(decide(Some(1), Some(1)), "table_default");
    assert_eq!(decide(None, Some(8)), "missing_on_n1");
    assert_eq!(decide(Some(9), None), "missing_on_n2");
}
