//! Load, queries and lag on a real primary with a real replica.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use changeling_applier::changelog::Changelog;
use changeling_applier::server::Server;
use changeling_applier::settings::{Endpoint, LoadLimits, MigrationSettings, Tls};
use changeling_applier::throttle::{
    Abort, HeartbeatSetup, HeartbeatWriter, LagSource, ThrottleCommand, ThrottleState, Throttler,
    ThrottlerSetup, ThrottlerState, WatchedServers,
};
use changeling_core::actor::{ActorHost, Delivery, ExitNote, OnExit};
use changeling_core::ident::TableName;
use changeling_support::{ServerSpec, SupportError, Topology, server_or_skip};
use mysql_async::prelude::Queryable;
use tokio::sync::{mpsc, watch};

use super::{PATIENCE, aborts, both, free, reason_of, until};

type Outcome = Result<(), SupportError>;

pub(crate) fn endpoint(server: &changeling_support::Server) -> Endpoint {
    Endpoint {
        host: server.host().to_owned(),
        port: server.port(),
        user: server.user().to_owned(),
        password: server.password().to_owned().into(),
    }
}

/// A throttler with an account of its own, so that its connections can be counted.
struct Bench {
    topology: Topology,
    throttler: Addr<Throttler>,
    heartbeat: HeartbeatWriter,
    throttled: watch::Receiver<ThrottleState>,
    observed: watch::Receiver<ThrottlerState>,
    aborts: mpsc::Receiver<Delivery<Abort>>,
    changelog: TableName,
    _host: ActorHost,
}

const WATCHER: &str = "watcher";

/// Wide enough for a busy machine, short enough for a test.
const MAX_LAG: Duration = Duration::from_secs(2);

impl Bench {
    async fn start(topology: Topology, lag: LagSource) -> Result<Self, SupportError> {
        let changelog = TableName::new("lagging", "_t_ghc");
        let mut conn = topology.primary.mysql().await?;
        conn.query_drop(format!("CREATE USER {WATCHER}@'%' IDENTIFIED BY 'w'"))
            .await?;
        conn.query_drop(format!("GRANT ALL ON *.* TO {WATCHER}@'%'"))
            .await?;
        conn.query_drop("CREATE DATABASE lagging").await?;
        conn.query_drop(Changelog::create_statement(&changelog)).await?;
        topology.wait_caught_up(PATIENCE).await?;

        let open = async |server: &changeling_support::Server| {
            let watcher = Endpoint {
                user: WATCHER.into(),
                password: "w".to_owned().into(),
                ..endpoint(server)
            };
            Arc::new(Server::open(&watcher, &Tls::Off, None).await.expect("it answers"))
        };
        let writing = Server::open(&endpoint(&topology.primary), &Tls::Off, None)
            .await
            .expect("it answers");
        let host = ActorHost::start(Default::default()).expect("a thread");
        let mut settings =
            MigrationSettings::new(TableName::new("lagging", "t"), "", endpoint(&topology.replica)).throttle;
        settings.max_lag = MAX_LAG;
        settings.critical_load_interval = Some(Duration::from_millis(300));
        let (abort, aborts) = aborts();
        let setup = ThrottlerSetup::new(&settings, host.pumps().clone(), abort).watching(WatchedServers {
            applier: open(&topology.primary).await,
            inspected: open(&topology.replica).await,
            changelog: changelog.clone(),
            lag,
        });
        let heartbeat = HeartbeatWriter::start(
            host.pumps(),
            HeartbeatSetup {
                server: Arc::new(writing),
                changelog: changelog.clone(),
                interval: settings.heartbeat_interval,
                retries: 60,
            },
            OnExit::ignore(),
        );
        let (throttled, observed) = (setup.throttled(), setup.observed());
        let throttler = host.spawn(move |_| Throttler::new(setup, ExitNote::default()));
        Ok(Self {
            topology,
            throttler,
            heartbeat,
            throttled,
            observed,
            aborts,
            changelog,
            _host: host,
        })
    }

    async fn tell(&self, command: ThrottleCommand) {
        self.throttler.send(command).await.expect("it runs");
    }

    async fn until(&mut self, reason: &str) {
        until(&mut self.throttled, |state| both(state, reason)).await;
    }

    async fn until_free(&mut self) {
        until(&mut self.throttled, free).await;
    }

    /// Connections of the throttler on a server, by id.
    async fn connections(&self, server: &changeling_support::Server) -> Result<Vec<u64>, SupportError> {
        let query = format!("SELECT id FROM information_schema.processlist WHERE user = '{WATCHER}'");
        Ok(server.mysql().await?.query(query).await?)
    }

    async fn end(self) -> Outcome {
        self.heartbeat.stop().await;
        drop(self.throttler);
        self.topology.stop().await
    }
}

fn limits(variable: &str, limit: i64) -> LoadLimits {
    [(variable.to_owned(), limit)].into()
}

async fn lag_throttles(mut bench: Bench) -> Outcome {
    let own = (
        bench.topology.replica.host().to_owned(),
        bench.topology.replica.port(),
    );
    bench.until_free().await;
    bench.topology.replica.stop_applying().await?;
    bench.until("lag=").await;
    assert!(bench.observed.borrow().lag > MAX_LAG);
    bench.topology.replica.start_replication().await?;
    bench.until_free().await;

    // The same replica as a control replica is read on the same connection.
    bench
        .tell(ThrottleCommand::SetControlReplicas(vec![own.clone()]))
        .await;
    bench.until_free().await;
    let name = format!("{}:{}", own.0, own.1);
    let replicas = bench.observed.borrow().control_replicas.clone();
    assert!(
        matches!(&*replicas, [(address, Ok(_))] if *address == name),
        "{replicas:?}"
    );
    let connections = bench.connections(&bench.topology.replica).await?;
    assert_eq!(connections.len(), 1, "on the replica");

    // A connection that was lost is opened again, and the reading does not fail.
    bench
        .topology
        .replica
        .mysql()
        .await?
        .query_drop(format!("KILL {}", connections[0]))
        .await?;
    let changes = bench.observed.borrow().changes;
    let killed = Instant::now();
    while bench.connections(&bench.topology.replica).await? == connections
        || killed.elapsed() < Duration::from_secs(2)
    {
        assert!(killed.elapsed() < PATIENCE, "it keeps a dead connection");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bench.connections(&bench.topology.replica).await?.len(), 1);
    assert_eq!(
        bench.observed.borrow().changes,
        changes,
        "{:?}",
        bench.throttled.borrow()
    );

    // A server that is there and does not answer may lag without bound.
    bench.topology.replica.pause().await?;
    bench.until("lag=").await;
    bench.topology.replica.resume().await?;
    bench.until_free().await;

    // A limit that the inspected server keeps and a control replica cannot be asked about.
    bench
        .tell(ThrottleCommand::SetControlReplicas(vec![
            own,
            ("127.0.0.1".into(), 1),
        ]))
        .await;
    bench.until("127.0.0.1:1 cannot connect to 127.0.0.1:1").await;
    bench.tell(ThrottleCommand::SetControlReplicas(Vec::new())).await;
    bench.until_free().await;

    // Without heartbeats everything lags.
    bench.heartbeat.stop().await;
    until(&mut bench.throttled, |state| both(state, "lag=")).await;
    bench
        .topology
        .primary
        .mysql()
        .await?
        .query_drop(format!("DROP TABLE {}", bench.changelog))
        .await?;
    drop(bench.throttler);
    bench.topology.stop().await
}

/// Where the heartbeat is written on the replica itself, the server's own word is all there is.
async fn replica_status_throttles(mut bench: Bench) -> Outcome {
    bench.until_free().await;
    bench.topology.replica.set_delay(6).await?;
    bench.until("lag=").await;
    assert_eq!(bench.observed.borrow().lag.subsec_nanos(), 0, "whole seconds");
    // A replica that does not replicate has no lag.
    bench.topology.replica.stop_replication().await?;
    bench.until_free().await;
    bench.end().await
}

async fn load_and_queries_throttle(mut bench: Bench) -> Outcome {
    bench.until_free().await;
    bench
        .tell(ThrottleCommand::SetMaxLoad(limits("threads_CONNECTED", 1)))
        .await;
    bench.until("max-load threads_CONNECTED=").await;
    assert!(bench.observed.borrow().loads["threads_CONNECTED"] >= 1);
    bench
        .tell(ThrottleCommand::SetMaxLoad(limits("Threads_connected", 100_000)))
        .await;
    bench.until_free().await;
    bench
        .tell(ThrottleCommand::SetMaxLoad(limits("Threads_connectd", 1)))
        .await;
    bench.until("Threads_connectd is no status variable of ").await;
    bench.tell(ThrottleCommand::SetMaxLoad(LoadLimits::new())).await;
    bench.until_free().await;

    for query in [
        "SELECT 1",
        "SELECT COUNT(*) FROM information_schema.tables",
        "SELECT 0.5",
    ] {
        bench.tell(ThrottleCommand::SetQuery(Some(query.into()))).await;
        bench.until("throttle-query").await;
        for quiet in [
            "SELECT 0",
            "SELECT -1",
            "SELECT nonsense",
            "SELECT 1 FROM dual WHERE 1 = 0",
            "SELECT NULL",
        ] {
            bench.tell(ThrottleCommand::SetQuery(Some(quiet.into()))).await;
            bench.until_free().await;
        }
    }

    // A query that does not end is ended by the server, and not asked twice at the same time.
    bench.tell(ThrottleCommand::SetQuery(Some(endless()))).await;
    bench.until_free().await;
    assert_eq!(
        bench.connections(&bench.topology.primary).await?.len(),
        1,
        "on the primary"
    );
    bench.tell(ThrottleCommand::SetQuery(None)).await;

    assert!(bench.aborts.try_recv().is_err(), "an abort for nothing");
    bench
        .tell(ThrottleCommand::SetCriticalLoad(limits("Threads_connected", 1)))
        .await;
    let reason = reason_of(&mut bench.aborts).await;
    assert!(
        reason.starts_with("critical-load met again after 300 millis: Threads_connected="),
        "{reason}"
    );
    assert!(reason.ends_with(", >=1"), "{reason}");
    bench.end().await
}

/// Not SLEEP: MySQL answers that with 1 when it is ended.
fn endless() -> String {
    let many = "(SELECT 1 AS n UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 \
                UNION SELECT 7 UNION SELECT 8 UNION SELECT 9 UNION SELECT 10)";
    let tables: Vec<String> = (0..14).map(|index| format!("{many} t{index}")).collect();
    format!("SELECT COUNT(*) FROM {}", tables.join(" JOIN "))
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_throttles_on_mysql() -> Outcome {
    let topology = server_or_skip!(ServerSpec::mysql().with_replica());
    lag_throttles(Bench::start(topology, LagSource::HeartbeatRow).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_throttles_on_mariadb() -> Outcome {
    let topology = server_or_skip!(ServerSpec::mariadb().with_replica());
    lag_throttles(Bench::start(topology, LagSource::HeartbeatRow).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn load_and_queries_throttle_on_mysql() -> Outcome {
    let topology = server_or_skip!(ServerSpec::mysql().with_replica());
    load_and_queries_throttle(Bench::start(topology, LagSource::HeartbeatRow).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn load_and_queries_throttle_on_mariadb() -> Outcome {
    let topology = server_or_skip!(ServerSpec::mariadb().with_replica());
    load_and_queries_throttle(Bench::start(topology, LagSource::HeartbeatRow).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_status_throttles_on_mysql() -> Outcome {
    let topology = server_or_skip!(ServerSpec::mysql().with_replica());
    replica_status_throttles(Bench::start(topology, LagSource::ReplicaStatus).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_status_throttles_on_mariadb() -> Outcome {
    let topology = server_or_skip!(ServerSpec::mariadb().with_replica());
    replica_status_throttles(Bench::start(topology, LagSource::ReplicaStatus).await?).await
}
