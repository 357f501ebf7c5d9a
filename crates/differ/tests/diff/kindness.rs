//! Comparisons that wait for the servers' sake.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use changeling_differ::engine::{Care, DiffJob, DiffSettings, DiffState, DiffSubject};
use changeling_differ::model::{Comparison, Verdict};
use changeling_differ::mysql::side::{MySqlCluster, MySqlNode, MySqlTerms};
use changeling_differ::side::{SideError, SideErrorKind};
use changeling_differ::throttle::{LoadLimits, Throttle, ThrottleTerms};
use changeling_support::{Server, ServerSpec, server_or_skip};
use mysql_async::prelude::Queryable;
use tokio_util::sync::CancellationToken;

use crate::inflight::replicate;
use crate::mysql::node;
use crate::world::{Kept, Running, World, host, subject, world_or_skip};

const FILL: &str = "CREATE TABLE t (id int PRIMARY KEY, a text); \
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20000) AS i";

async fn start(
    subject: DiffSubject,
    settings: &DiffSettings,
    terms: &ThrottleTerms,
    cancel: CancellationToken,
) -> Result<Running, SideError> {
    let throttle = Throttle::start(&subject.sides, terms).await?;
    let (host, kept) = (host(), Kept::default());
    let care = Care {
        throttle: Some(throttle),
        ..Care::default()
    };
    let job = DiffJob::start_with(
        &host,
        subject,
        settings.clone(),
        Box::new(kept.clone()),
        care,
        cancel,
    );
    Ok(Running::of(job, kept, host))
}

async fn start_in(
    world: &World,
    terms: &ThrottleTerms,
    cancel: &CancellationToken,
) -> Result<Running, SideError> {
    let subject = subject(world.prepare().await.unwrap(), &world.terms);
    start(subject, &world.settings, terms, cancel.clone()).await
}

fn limits(name: &str, limit: i64) -> LoadLimits {
    LoadLimits::from([(name.to_owned(), limit)])
}

/// Waits until it is so.
async fn until(running: &Running, what: impl FnMut(&DiffState) -> bool) -> DiffState {
    let mut state = running.state.clone();
    let reached = tokio::time::timeout(Duration::from_secs(40), state.wait_for(what));
    reached.await.expect("it comes to that").unwrap().clone()
}

/// Nothing is running, and nothing begins for a while.
async fn assert_rests(running: &Running) {
    let before = until(running, |state| state.running == 0).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let after = running.state.borrow().clone();
    assert_eq!((after.running, after.done), (0, false));
    assert_eq!(
        (after.ranges, after.rows, after.pending),
        (before.ranges, before.rows, before.pending)
    );
    assert!(after.pending > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_flag_file_nothing_is_handed_out_and_a_cancel_is_answered_at_once() {
    let world = world_or_skip!(2).with_ranges(500, 50);
    world.all(FILL).await;
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("throttle");
    let terms = ThrottleTerms {
        flag_files: vec![flag.clone()],
        ..ThrottleTerms::default()
    };
    std::fs::write(&flag, "").unwrap();
    let cancel = CancellationToken::new();
    let running = start_in(&world, &terms, &cancel).await.unwrap();
    let state = until(&running, |state| state.throttled.is_some()).await;
    assert!(state.throttled.unwrap().starts_with("flag-file "));
    assert_rests(&running).await;
    assert_eq!(
        running.state.borrow().children_made,
        0,
        "not even a connection was made"
    );
    let asked = Instant::now();
    cancel.cancel();
    let outcome = running.finish().await.unwrap();
    assert!(
        asked.elapsed() < Duration::from_millis(500),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(
        (outcome.summary.verdict, outcome.summary.cancelled),
        (Verdict::Unknown, true)
    );
    assert_eq!(outcome.summary.nodes[0].rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_in_the_middle_it_waits_and_then_goes_on_to_the_end() {
    let mut world = world_or_skip!(2).with_ranges(200, 50);
    world.all(FILL).await;
    world.on(2, "UPDATE t SET a = 'x' WHERE id % 1000 = 0").await;
    // Slow enough to be caught in the middle: two seconds in all.
    world
        .all("CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN IF $1 % 20 = 0 THEN PERFORM pg_sleep(0.004); END IF; RETURN true; END'")
        .await;
    world.terms.filter = Some("public.slow(id)".into());
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("throttle");
    let terms = ThrottleTerms {
        flag_files: vec![flag.clone()],
        ..ThrottleTerms::default()
    };
    let running = start_in(&world, &terms, &CancellationToken::new()).await.unwrap();
    until(&running, |state| state.ranges_done > 3).await;
    std::fs::write(&flag, "").unwrap();
    until(&running, |state| state.throttled.is_some()).await;
    assert_rests(&running).await;
    assert!(running.state.borrow().ranges_done > 3);
    std::fs::remove_file(&flag).unwrap();
    let outcome = running.finish().await.unwrap();
    assert_eq!(outcome.findings.len(), 20);
    assert_eq!(outcome.summary.nodes[1].rows, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_of_postgres_throttles_and_ends() {
    let world = world_or_skip!(2);
    world.all(FILL).await;
    let busy = ThrottleTerms {
        max_load: limits("backends", 1),
        ..ThrottleTerms::default()
    };
    let cancel = CancellationToken::new();
    let running = start_in(&world, &busy, &cancel).await.unwrap();
    let state = until(&running, |state| state.throttled.is_some()).await;
    let reason = state.throttled.unwrap();
    assert!(
        reason.starts_with("n1 max-load backends=") && reason.ends_with(" >= 1"),
        "{reason}"
    );
    cancel.cancel();
    assert_eq!(running.finish().await.unwrap().summary.nodes[0].rows, 0);

    let quiet = ThrottleTerms {
        max_load: limits("waiting_backends", 10_000),
        max_lag: Some(Duration::from_secs(600)),
        ..ThrottleTerms::default()
    };
    let running = start_in(&world, &quiet, &CancellationToken::new()).await.unwrap();
    assert_eq!(running.finish().await.unwrap().summary.verdict, Verdict::Match);

    let critical = ThrottleTerms {
        critical_load: limits("active_backends", 0),
        ..ThrottleTerms::default()
    };
    let running = start_in(&world, &critical, &CancellationToken::new())
        .await
        .unwrap();
    let summary = running.finish().await.unwrap().summary;
    assert_eq!((summary.verdict, summary.cancelled), (Verdict::Unknown, true));
    assert!(
        summary
            .notes
            .iter()
            .any(|note| note.starts_with("n1 critical-load met: active_backends=")),
        "{:?}",
        summary.notes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_read_is_an_error_at_the_start() {
    let mut world = world_or_skip!(2);
    world.all(FILL).await;
    let cancel = CancellationToken::new();
    let unknown = ThrottleTerms {
        max_load: limits("Threads_runing", 5),
        ..ThrottleTerms::default()
    };
    let error = start_in(&world, &unknown, &cancel).await.err().unwrap();
    assert_eq!(error.kind, SideErrorKind::Permanent);
    assert!(error.message.contains("there are active_backends"), "{error}");

    let role = format!("reader_{}", world.databases[0]);
    world
        .on(1, &format!("CREATE ROLE {role} LOGIN PASSWORD 'r'"))
        .await;
    world.all(&format!("GRANT SELECT ON t TO {role}")).await;
    world.login = (role.clone(), "r".into());
    let load = ThrottleTerms {
        max_load: limits("backends", 1000),
        ..ThrottleTerms::default()
    };
    let error = start_in(&world, &load, &cancel).await.err().unwrap();
    assert!(error.message.contains("GRANT pg_monitor"), "{error}");
    world.on(1, &format!("GRANT pg_monitor TO {role}")).await;
    let running = start_in(&world, &load, &cancel).await.unwrap();
    assert_eq!(running.finish().await.unwrap().summary.verdict, Verdict::Match);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_lags_throttles() {
    let world = world_or_skip!(2).with_ranges(100, 20);
    let slot = replicate(&world).await;
    world
        .on(
            2,
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END'; \
             CREATE TRIGGER slow BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION slow(); \
             ALTER TABLE t ENABLE ALWAYS TRIGGER slow",
        )
        .await;
    // Three times as fast as they are applied.
    let began = Instant::now();
    let lagging = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{slot}' AND replay_lag > '2s'"
    );
    while world.clients[0]
        .query_one(&lagging, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {
        assert!(began.elapsed() < Duration::from_secs(60), "no lag comes about");
        world.on(1, "UPDATE t SET n = n + 1 WHERE id = 1").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let terms = ThrottleTerms {
        max_lag: Some(Duration::from_millis(800)),
        ..ThrottleTerms::default()
    };
    let cancel = CancellationToken::new();
    let running = start_in(&world, &terms, &cancel).await.unwrap();
    // Subscriptions of other tests are on this server as well.
    let ours = format!("n1 replica {slot} lag=");
    until(&running, |state| {
        state
            .throttled
            .as_ref()
            .is_some_and(|reason| reason.starts_with(&ours))
    })
    .await;
    cancel.cancel();
    assert!(running.finish().await.unwrap().summary.cancelled);
    // Or the database could not be dropped, nor the slot.
    world.on(2, "DROP TRIGGER slow ON t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nice_child_rests_in_proportion() {
    let mut world = world_or_skip!(2).with_ranges(20, 20);
    world.settings.children = NonZeroU32::MIN;
    world.settings.nice_ratio = 4.0;
    world
        .all("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 200)")
        .await;
    world
        .all("CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.001); RETURN true; END'")
        .await;
    world.terms.filter = Some("public.slow(id)".into());
    let began = Instant::now();
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Match);
    // 200 rows take 200 ms at least; after nine of ten ranges it rests four times as long.
    let least = Duration::from_millis(200 + 9 * 20 * 4);
    assert!(began.elapsed() > least, "{:?}", began.elapsed());
    assert_eq!(outcome.state.children_made, 1);
}

async fn mysql_subject(nodes: &[MySqlNode]) -> DiffSubject {
    let cluster = MySqlCluster::prepare(nodes, MySqlTerms::default()).await.unwrap();
    DiffSubject {
        sides: cluster.sides,
        shape: cluster.shape,
        comparison: Comparison::Exact,
        table_filter: None,
        concurrency_factor: 0.5,
        notes: cluster.notes,
    }
}

async fn fill(server: &Server, schema: &str) {
    let mut admin = server.mysql().await.unwrap();
    for text in [
        format!("CREATE DATABASE {schema}"),
        format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY)"),
        format!(
            "INSERT INTO {schema}.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n"
        ),
    ] {
        admin.query_drop(text).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_apply_throttles_until_it_does() -> changeling_support::Result<()> {
    let topology = server_or_skip!(ServerSpec::mysql().with_replica());
    let limit = Duration::from_secs(30);
    fill(&topology.primary, "d").await;
    topology.wait_caught_up(limit).await?;
    let nodes = [
        node("n1", &topology.primary, "d"),
        node("n2", &topology.replica, "d"),
    ];
    let settings = DiffSettings {
        block_size: NonZeroU64::new(100).unwrap(),
        ..DiffSettings::default()
    };
    let terms = ThrottleTerms {
        max_lag: Some(Duration::from_millis(1500)),
        max_load: limits("threads_RUNNING", 1000),
        ..ThrottleTerms::default()
    };
    topology.replica.stop_applying().await?;
    let running = start(
        mysql_subject(&nodes).await,
        &settings,
        &terms,
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let state = until(&running, |state| state.throttled.is_some()).await;
    assert_eq!(
        state.throttled.as_deref(),
        Some("n2 as a replica does not keep up, by how much is not known")
    );
    assert_rests(&running).await;
    topology.replica.start_replication().await?;
    let outcome = running.finish().await.unwrap();
    assert_eq!(outcome.summary.verdict, Verdict::Match, "{:?}", outcome.summary);
    assert_eq!(outcome.summary.nodes[1].rows, 900);
    Ok(())
}

async fn load_of_mysql(server: &Server) {
    fill(server, "a").await;
    fill(server, "b").await;
    let nodes = [node("n1", server, "a"), node("n2", server, "b")];
    let settings = DiffSettings::default();
    let busy = ThrottleTerms {
        max_load: limits("Threads_connected", 1),
        ..ThrottleTerms::default()
    };
    let cancel = CancellationToken::new();
    let running = start(mysql_subject(&nodes).await, &settings, &busy, cancel.clone())
        .await
        .unwrap();
    let reason = until(&running, |state| state.throttled.is_some()).await.throttled;
    assert!(
        reason
            .as_ref()
            .unwrap()
            .starts_with("n1 max-load Threads_connected="),
        "{reason:?}"
    );
    cancel.cancel();
    assert_eq!(running.finish().await.unwrap().summary.nodes[0].rows, 0);
    let wrong = ThrottleTerms {
        critical_load: limits("Threads_runing", 1),
        max_lag: Some(Duration::from_secs(1)),
        ..ThrottleTerms::default()
    };
    let error = start(
        mysql_subject(&nodes).await,
        &settings,
        &wrong,
        CancellationToken::new(),
    )
    .await;
    let error = error.err().unwrap();
    assert!(error.message.contains("no status variable"), "{error}");
    let quiet = ThrottleTerms {
        max_lag: Some(Duration::from_secs(1)),
        critical_load: limits("Threads_running", 10_000),
        ..ThrottleTerms::default()
    };
    let running = start(
        mysql_subject(&nodes).await,
        &settings,
        &quiet,
        CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!(running.finish().await.unwrap().summary.verdict, Verdict::Match);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_of_mysql_throttles() -> changeling_support::Result<()> {
    load_of_mysql(&server_or_skip!(ServerSpec::mysql())).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn load_of_mariadb_throttles() -> changeling_support::Result<()> {
    load_of_mysql(&server_or_skip!(ServerSpec::mariadb())).await;
    Ok(())
}
