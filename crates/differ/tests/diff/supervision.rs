//! Caps, cancelling, lost children and lost servers.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use changeling_core::ident::TableName;
use changeling_differ::engine::DiffSubject;
use changeling_differ::model::{Key, NodeName, Verdict};
use changeling_differ::range::KeyRange;
use changeling_differ::side::{
    Canceller, Digested, FetchedRow, KeyDigest, Mark, RowVersion, ServerPlans, Session, Side, SideError,
    SideIdentity, Vitals,
};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::world::{World, subject, world_or_skip};

const FILL: &str = "CREATE TABLE t (id int PRIMARY KEY, a text); \
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20000) AS i";

#[tokio::test(flavor = "multi_thread")]
async fn mass_mismatch_with_one_child_finishes() {
    let mut world = world_or_skip!(2).with_ranges(1000, 50);
    world.settings.children = NonZeroU32::MIN;
    world.all(FILL).await;
    world.on(2, "TRUNCATE t").await;
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Differ);
    assert_eq!(outcome.summary.confirmed, 20_000);
    assert_eq!(outcome.findings.len(), 20_000);
    assert_eq!((outcome.state.most_running, outcome.state.children_made), (1, 1));
    assert!(outcome.state.most_pending < 64, "{}", outcome.state.most_pending);
}

/// Sessions of comparisons on a database, as the server counts them.
async fn sessions(world: &World, only: &str) -> i64 {
    world.clients[0]
        .query_one(
            &format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY ($1) \
                 AND application_name = 'changeling' {only}"
            ),
            &[&world.databases],
        )
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_the_cap_holds_by_the_servers_own_count() {
    let mut world = world_or_skip!(3).with_ranges(200, 20);
    world.settings.children = NonZeroU32::new(3).unwrap();
    world.all(FILL).await;
    world.on(2, "UPDATE t SET a = 'x' WHERE id % 7 = 0").await;
    let cluster = world.prepare().await.unwrap();
    let running = world.start(subject(cluster, &world.terms), CancellationToken::new());
    let mut most = 0;
    let mut state = running.state.clone();
    while !state.borrow_and_update().done {
        most = most.max(sessions(&world, "").await);
    }
    let outcome = running.finish().await.unwrap();
    assert_eq!(outcome.summary.confirmed, 20_000 / 7);
    assert_eq!((outcome.state.most_running, outcome.state.children_made), (3, 3));
    assert!(
        (4..=9).contains(&most),
        "three children with a session on each of three nodes, seen {most}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_with_a_full_queue_ends_at_once_and_leaves_no_statement() {
    let mut world = world_or_skip!(2).with_ranges(1000, 10);
    world.settings.children = NonZeroU32::new(2).unwrap();
    world.all(FILL).await;
    world.on(2, "UPDATE t SET a = 'x'").await;
    // Each digest takes seconds on one node, so there is always a statement to be cancelled.
    world
        .all("CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(0.01) IS NOT NULL'")
        .await;
    world.terms.filter = Some("public.slow(id)".into());
    let cluster = world.prepare().await.unwrap();
    let cancel = CancellationToken::new();
    let running = world.start(subject(cluster, &world.terms), cancel.clone());
    running
        .state
        .clone()
        .wait_for(|state| state.running == 2)
        .await
        .unwrap();
    while sessions(&world, "AND state = 'active'").await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = Instant::now();
    cancel.cancel();
    let outcome = running.finish().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    // The server answers a cancel request before the statement has noticed it; one that had not been asked to end
    // would run for ten seconds.
    let asked = Instant::now();
    while sessions(&world, "AND state = 'active'").await > 0 {
        assert!(asked.elapsed() < Duration::from_secs(1), "a statement is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_job_cancels_it_on_the_servers_too() {
    let mut world = world_or_skip!(2);
    world.all(FILL).await;
    world
        .all("CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(0.01) IS NOT NULL'")
        .await;
    world.terms.filter = Some("public.slow(id)".into());
    let cluster = world.prepare().await.unwrap();
    let running = world.start(subject(cluster, &world.terms), CancellationToken::new());
    while sessions(&world, "AND state = 'active'").await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(running.job);
    let asked = Instant::now();
    while sessions(&world, "AND state = 'active'").await > 0 {
        assert!(asked.elapsed() < Duration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_is_enough() {
    let mut world = world_or_skip!(2).with_ranges(1000, 100);
    world.settings.stop_after = NonZeroU64::new(7);
    world.all(FILL).await;
    world.on(2, "DELETE FROM t").await;
    let outcome = world.diff().await;
    assert_eq!(outcome.findings.len(), 7);
    assert_eq!(outcome.summary.confirmed, 7);
    assert!(outcome.summary.limit_reached);
    assert_eq!(outcome.summary.verdict, Verdict::Differ);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_never_says_match() {
    let mut world = world_or_skip!(2).with_ranges(500, 100);
    world.settings.sample = Some(0.3);
    world.all(FILL).await;
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    let seen = outcome.summary.nodes[0].rows;
    assert!((500..20_000).contains(&seen), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_lost_connections_cost_a_retry() {
    let world = world_or_skip!(2).with_ranges(300, 100);
    world.all(FILL).await;
    world.on(2, "UPDATE t SET a = 'x' WHERE id = 15000").await;
    let cluster = world.prepare().await.unwrap();
    let running = world.start(subject(cluster, &world.terms), CancellationToken::new());
    running
        .state
        .clone()
        .wait_for(|state| state.ranges_done >= 2)
        .await
        .unwrap();
    world
        .on(
            1,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'changeling' AND datname LIKE current_database()",
        )
        .await;
    let outcome = running.finish().await.unwrap();
    assert_eq!(outcome.lines(), ["15000 | 15000,v15000 | 15000,x"]);
    assert_eq!(outcome.summary.unknown, 0, "{:?}", outcome.summary);
    assert!(outcome.state.retries > 0);
    assert_eq!(outcome.summary.nodes[0].rows, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_node_that_is_gone_makes_the_rest_unknown() {
    let mut world = world_or_skip!(2).with_ranges(300, 100);
    let role = format!("leaver_{}", world.databases[0]);
    world
        .on(1, &format!("CREATE ROLE {role} LOGIN PASSWORD 'r'"))
        .await;
    world.all(FILL).await;
    world.all(&format!("GRANT SELECT ON t TO {role}")).await;
    world.login = (role.clone(), "r".into());
    let cluster = world.prepare().await.unwrap();
    world.on(2, &format!("REVOKE SELECT ON t FROM {role}")).await;
    let outcome = world.diff_of(subject(cluster, &world.terms)).await;
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    assert!(outcome.summary.unknown > 0);
    let reason = &outcome.summary.unknown_ranges[0].reason;
    assert!(reason.contains("n2") && reason.contains("permission"), "{reason}");
    assert!(outcome.state.unknown_ranges.len() <= 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_statements_that_take_too_long_are_unknown_and_never_a_match() {
    let mut world = world_or_skip!(2).with_ranges(500, 100);
    world.statement_timeout = Duration::from_millis(300);
    world.all(FILL).await;
    world.all("CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 <> 12345 OR pg_sleep(60) IS NOT NULL'").await;
    world.terms.filter = Some("public.slow(id)".into());
    let cluster = world.prepare().await.unwrap();
    let outcome = world.diff_of(subject(cluster, &world.terms)).await;
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    assert!(outcome.summary.unknown >= 1);
    assert!(
        outcome.summary.unknown_ranges[0].reason.contains("timeout"),
        "{:?}",
        outcome.summary
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_range_that_is_too_slow_as_one_is_cut_smaller() {
    let mut world = world_or_skip!(2).with_ranges(20_000, 100);
    world.settings.block_time = Duration::from_secs(3600);
    world.statement_timeout = Duration::from_millis(700);
    world.all("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 4000) AS i; ANALYZE t").await;
    // A block of all rows takes a second and a half; the walk reads the key alone.
    world.all("CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0003); RETURN $1; END'").await;
    world
        .all("ALTER TABLE t RENAME TO base; CREATE TABLE t (id int PRIMARY KEY, a text)")
        .await;
    world.all("INSERT INTO t SELECT * FROM base").await;
    world.terms.filter = Some("public.slow(a) IS NOT NULL".into());
    let outcome = world.diff().await;
    assert!(outcome.state.retries > 0, "{:?}", outcome.state);
    assert_ne!(outcome.summary.verdict, Verdict::Differ);
}

/// A side whose sessions panic a few times: what a defect of ours would do.
struct Faulty {
    side: Arc<dyn Side>,
    panics: Arc<AtomicU32>,
}

struct FaultySession {
    session: Box<dyn Session>,
    panics: Arc<AtomicU32>,
}

impl Side for Faulty {
    fn node(&self) -> &NodeName {
        self.side.node()
    }

    fn table(&self) -> &TableName {
        self.side.table()
    }

    fn identity(&self) -> SideIdentity {
        self.side.identity()
    }

    fn estimate(&self) -> f64 {
        self.side.estimate()
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, SideError>> {
        Box::pin(async move {
            let session: Box<dyn Session> = Box::new(FaultySession {
                session: self.side.connect().await?,
                panics: Arc::clone(&self.panics),
            });
            Ok(session)
        })
    }

    fn vitals(&self) -> BoxFuture<'_, Result<Box<dyn Vitals>, SideError>> {
        self.side.vitals()
    }

    fn statements(&self) -> Vec<(&'static str, String)> {
        self.side.statements()
    }

    fn plans(&self) -> BoxFuture<'_, Result<ServerPlans, SideError>> {
        self.side.plans()
    }
}

impl FaultySession {
    fn maybe_panic(&self) {
        let left = self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "a planned panic");
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, SideError>>;

impl Session for FaultySession {
    fn step<'a>(&'a mut self, range: &'a KeyRange, rows: u64) -> Answer<'a, Option<Key>> {
        self.session.step(range, rows)
    }

    fn cuts<'a>(&'a mut self, range: &'a KeyRange, every: u64, limit: u64) -> Answer<'a, Vec<Key>> {
        self.session.cuts(range, every, limit)
    }

    fn digest<'a>(&'a mut self, range: &'a KeyRange, cap: u64) -> Answer<'a, Digested> {
        Box::pin(async move {
            self.maybe_panic();
            self.session.digest(range, cap).await
        })
    }

    fn key_digests<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> Answer<'a, BoxStream<'a, Result<KeyDigest, SideError>>> {
        self.session.key_digests(range)
    }

    fn rows<'a>(&'a mut self, keys: &'a [Key]) -> Answer<'a, BoxStream<'a, Result<FetchedRow, SideError>>> {
        self.session.rows(keys)
    }

    fn versions<'a>(&'a mut self, keys: &'a [Key]) -> Answer<'a, Option<Vec<Option<RowVersion>>>> {
        Box::pin(async move {
            if keys.iter().any(|key| &*key.0[0] == "15003") {
                self.maybe_panic();
            }
            self.session.versions(keys).await
        })
    }

    fn mark(&mut self) -> Answer<'_, Option<Mark>> {
        self.session.mark()
    }

    fn passed<'a>(&'a mut self, marks: &'a [Mark]) -> Answer<'a, bool> {
        self.session.passed(marks)
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        self.session.canceller()
    }
}

async fn faulty(world: &World, panics: u32) -> DiffSubject {
    let mut subject = subject(world.prepare().await.unwrap(), &world.terms);
    subject.sides[1] = Arc::new(Faulty {
        side: Arc::clone(&subject.sides[1]),
        panics: Arc::new(AtomicU32::new(panics)),
    });
    subject
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_panics_costs_one_retry() {
    let world = world_or_skip!(2).with_ranges(500, 100);
    world.all(FILL).await;
    world
        .on(2, "UPDATE t SET a = 'x' WHERE id BETWEEN 15000 AND 15099")
        .await;
    let outcome = world.diff_of(faulty(&world, 1).await).await;
    assert_eq!(outcome.findings.len(), 100, "{:?}", outcome.summary);
    assert_eq!((outcome.state.retries, outcome.summary.unknown), (1, 0));
    // Two and the one that replaced the lost one; or one and its replacement, if the second was made only after that.
    assert!(
        (2..=3).contains(&outcome.state.children_made),
        "{}",
        outcome.state.children_made
    );
    assert_eq!(outcome.summary.nodes[1].rows, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_always_panic_make_their_ranges_unknown() {
    let world = world_or_skip!(2).with_ranges(500, 100);
    world.all(FILL).await;
    let outcome = world.diff_of(faulty(&world, u32::MAX).await).await;
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    assert!(outcome.summary.unknown > 0);
    // The rest is given up after eight in a row, not tried to the end.
    assert!(
        outcome.state.children_made < 60,
        "{}",
        outcome.state.children_made
    );
    no_session_left(&world).await;
}

/// A connection that was closed takes the server a moment.
async fn no_session_left(world: &World) {
    let began = Instant::now();
    while sessions(world, "").await > 0 {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_with_the_job() {
    let world = world_or_skip!(2);
    world.all(FILL).await;
    assert_eq!(world.diff().await.summary.verdict, Verdict::Match);
    no_session_left(&world).await;
}
