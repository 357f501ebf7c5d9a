//! A comparison that was ended early and goes on from its journal.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use changeling_differ::engine::{Care, DiffJob, DiffSubject};
use changeling_differ::journal::{JobIdentity, Journal};
use changeling_differ::model::{Key, Verdict};
use changeling_differ::range::KeyRange;
use changeling_differ::side::{SideError, SideErrorKind};
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use crate::tampered::{Tamper, failure, tampered};
use crate::world::{Kept, Outcome, Running, World, host, subject, world_or_skip};

const FILL: &str = "CREATE TABLE t (id int PRIMARY KEY, a text); \
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20000) AS i";
/// The same rows, those below 8000 apart from the others.
const FILL_PARTITIONS: &str = "CREATE TABLE t (id int PRIMARY KEY, a text) PARTITION BY RANGE (id); \
    CREATE TABLE high PARTITION OF t FOR VALUES FROM (8000) TO (MAXVALUE); \
    CREATE TABLE low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (8000); \
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20000) AS i";
const CHANGES: &str = "UPDATE t SET a = 'x' WHERE id % 97 = 0; DELETE FROM t WHERE id BETWEEN 9000 AND 9020; \
    INSERT INTO t SELECT i, 'more' FROM generate_series(20001, 20030) AS i";

/// Ranges that were digested, and one that cannot be.
#[derive(Clone, Default)]
struct Watch {
    digested: Arc<Mutex<Vec<KeyRange>>>,
    broken: Option<u64>,
}

impl Tamper for Watch {
    fn digest(&self, range: &KeyRange) -> Result<(), SideError> {
        self.digested.lock().unwrap().push(range.clone());
        if self.broken.is_some_and(|id| numbers(range).contains(&id)) {
            return Err(failure(SideErrorKind::Permanent));
        }
        Ok(())
    }
}

/// The ids of a range.
fn numbers(range: &KeyRange) -> std::ops::Range<u64> {
    let number = |key: &Key| key.0[0].parse::<u64>().unwrap();
    let (start, end) = match range.partition.as_ref().map(ToString::to_string).as_deref() {
        Some("\"public\".\"low\"") => (0, 8_000),
        Some("\"public\".\"high\"") => (8_000, u64::MAX),
        other => {
            assert_eq!(other, None);
            (0, u64::MAX)
        }
    };
    let from = range.after.as_ref().map_or(start, |after| number(after) + 1);
    from..range.to.as_ref().map_or(end, |to| number(to) + 1)
}

/// Ranges that a journal says are done.
fn done(journal: &Path) -> Vec<std::ops::Range<u64>> {
    let text = std::fs::read_to_string(journal).unwrap();
    text.lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(&line[9..])
                .unwrap()
                .get("done")
                .cloned()
        })
        .map(|done| numbers(&serde_json::from_value(done["range"].clone()).unwrap()))
        .collect()
}

async fn watched(world: &World, watch: &Watch) -> DiffSubject {
    let subject = subject(world.prepare().await.unwrap(), &world.terms);
    tampered(subject, Arc::new(watch.clone()))
}

/// A world, and a place for its journal.
struct Desk {
    world: World,
    journal: PathBuf,
    _directory: tempfile::TempDir,
}

impl Desk {
    async fn new(world: World) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            world,
            journal: directory.path().join("r.journal"),
            _directory: directory,
        }
    }

    /// Begins, or goes on if there is a journal.
    async fn start(&self, watch: &Watch, cancel: CancellationToken) -> Running {
        let subject = watched(&self.world, watch).await;
        let identity = JobIdentity::of(&subject, &self.world.settings);
        let journal = if self.journal.exists() {
            Journal::resume(&self.journal, &identity)
        } else {
            Journal::create(&self.journal, "r.ndjson", &identity)
        };
        let (host, kept) = (host(), Kept::default());
        let job = DiffJob::start_with(
            &host,
            subject,
            self.world.settings.clone(),
            Box::new(kept.clone()),
            Care {
                journal: Some(journal.unwrap()),
                ..Care::default()
            },
            cancel,
        );
        Running::of(job, kept, host)
    }

    async fn run(&self, watch: &Watch) -> Outcome {
        self.start(watch, CancellationToken::new())
            .await
            .finish()
            .await
            .unwrap()
    }
}

/// What was done before was not touched again.
fn assert_only_the_rest(before: &[std::ops::Range<u64>], watch: &Watch) {
    let digested = watch.digested.lock().unwrap();
    assert!(!digested.is_empty());
    for range in digested.iter().map(numbers) {
        let again = before
            .iter()
            .find(|done| done.start.max(range.start) < done.end.min(range.end));
        assert_eq!(again, None, "{range:?} was compared again");
    }
}

#[rstest]
#[case::table(FILL)]
#[case::partitions(FILL_PARTITIONS)]
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_cancelled_comparison_goes_on_where_it_was(#[case] fill: &str) {
    let world = world_or_skip!(2).with_ranges(500, 50);
    world.all(fill).await;
    world.on(2, CHANGES).await;
    let whole = world.diff().await;
    let desk = Desk::new(world).await;

    let cancel = CancellationToken::new();
    let running = desk.start(&Watch::default(), cancel.clone()).await;
    running
        .state
        .clone()
        .wait_for(|state| state.ranges_done >= 12)
        .await
        .unwrap();
    cancel.cancel();
    let first = running.finish().await.unwrap();
    assert!(first.summary.cancelled);
    assert!(first.findings.len() < whole.findings.len());
    let before = done(&desk.journal);
    assert!((12..40).contains(&before.len()), "{}", before.len());

    let watch = Watch::default();
    let second = desk.run(&watch).await;
    assert_only_the_rest(&before, &watch);
    assert_eq!(second.lines(), whole.lines());
    let (is, was) = (&second.summary, &whole.summary);
    assert_eq!(
        (is.verdict, is.confirmed, is.cancelled),
        (was.verdict, was.confirmed, false)
    );
    assert_eq!(
        (&is.nodes, &is.confirmed_by_pair),
        (&was.nodes, &was.confirmed_by_pair)
    );
    assert_eq!(second.state.ranges_before, before.len() as u64);
    let note = is
        .notes
        .iter()
        .find(|note| note.starts_with("resumed: "))
        .unwrap();
    assert!(
        note.contains(&format!("{} of {} ranges", before.len(), is.ranges)),
        "{note}"
    );

    // Once more, with nothing left to do.
    let watch = Watch::default();
    let third = desk.run(&watch).await;
    assert_eq!(watch.digested.lock().unwrap().len(), 0);
    assert_eq!(third.lines(), whole.lines());
    assert_eq!(third.summary.nodes, was.nodes);
}

#[rstest]
#[case::table(FILL)]
#[case::partitions(FILL_PARTITIONS)]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_unknown_is_compared_again_and_nothing_else(#[case] fill: &str) {
    let world = world_or_skip!(2).with_ranges(500, 50);
    world.all(fill).await;
    let desk = Desk::new(world).await;
    let broken = Watch {
        broken: Some(7777),
        ..Watch::default()
    };
    let first = desk.run(&broken).await;
    assert_eq!(
        (first.summary.verdict, first.summary.unknown),
        (Verdict::Unknown, 1)
    );
    let before = done(&desk.journal);
    assert!(!before.iter().any(|range| range.contains(&7777)));

    let watch = Watch::default();
    let second = desk.run(&watch).await;
    assert_only_the_rest(&before, &watch);
    assert_eq!(second.summary.verdict, Verdict::Match);
    assert_eq!(second.summary.nodes[1].rows, 20_000);
    assert!(
        second
            .summary
            .notes
            .iter()
            .any(|note| note.starts_with("resumed: "))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_differences_than_were_wanted_at_first() {
    let world = world_or_skip!(2).with_ranges(500, 50);
    world.all(FILL).await;
    world.on(2, CHANGES).await;
    let whole = world.diff().await;
    let mut desk = Desk::new(world).await;
    desk.world.settings.stop_after = NonZeroU64::new(60);
    let first = desk.run(&Watch::default()).await;
    assert_eq!((first.findings.len(), first.summary.limit_reached), (60, true));
    desk.world.settings.stop_after = None;
    let second = desk.run(&Watch::default()).await;
    assert_eq!(second.lines(), whole.lines());
    assert_eq!(second.summary.nodes, whole.summary.nodes);
}
