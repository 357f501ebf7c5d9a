//! Caps, cancelling, lost children and lost servers.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use changeling_differ::engine::DiffSubject;
use changeling_differ::model::{Key, Verdict};
use changeling_differ::range::KeyRange;
use changeling_differ::side::{RowVersion, SideError, SideErrorKind};
use tokio_util::sync::CancellationToken;

use crate::tampered::{Tamper, failure, tampered};
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

/// Panics so many times: what a defect of ours would do.
struct Panics(AtomicU32);

impl Panics {
    fn maybe(&self) {
        let left = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "a planned panic");
    }
}

impl Tamper for Panics {
    fn digest(&self, _: &KeyRange) -> Result<(), SideError> {
        self.maybe();
        Ok(())
    }

    fn versions(&self, keys: &[Key], _: &mut [Option<RowVersion>]) -> Result<(), SideError> {
        if keys.iter().any(|key| &*key.0[0] == "15003") {
            self.maybe();
        }
        Ok(())
    }
}

async fn faulty(world: &World, panics: u32) -> DiffSubject {
    let subject = subject(world.prepare().await.unwrap(), &world.terms);
    tampered(subject, Arc::new(Panics(AtomicU32::new(panics))))
}

/// One row is another at every look, and the connection is lost while it is looked at again.
#[derive(Default)]
struct Restless(AtomicU32);

impl Tamper for Restless {
    fn versions(&self, keys: &[Key], versions: &mut [Option<RowVersion>]) -> Result<(), SideError> {
        let look = self.0.fetch_add(1, Ordering::SeqCst);
        let place = keys.iter().position(|key| &*key.0[0] == "1050");
        if let Some(place) = place {
            versions[place] = Some(RowVersion(look.to_string().into()));
        }
        if look == 2 {
            return Err(failure(SideErrorKind::Connection));
        }
        Ok(())
    }
}

/// What was sure before the connection was lost had been handed over, and was a second time when the range was tried again.
#[tokio::test(flavor = "multi_thread")]
async fn c3_a_connection_lost_beside_a_restless_row_doubles_no_difference() {
    let world = world_or_skip!(2).with_ranges(500, 500);
    world.all(FILL).await;
    world
        .on(2, "UPDATE t SET a = 'x' WHERE id BETWEEN 1001 AND 1099")
        .await;
    let subject = subject(world.prepare().await.unwrap(), &world.terms);
    let outcome = world
        .diff_of(tampered(subject, Arc::new(Restless::default())))
        .await;
    let mut keys: Vec<&str> = outcome
        .findings
        .iter()
        .map(|finding| &*finding.difference().key.0[0])
        .collect();
    assert_eq!(keys.len(), 99);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 99);
    let (summary, state) = (&outcome.summary, &outcome.state);
    assert_eq!((summary.confirmed, summary.in_flight, state.retries), (98, 1, 1));
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
