//! The heartbeat writer on a real server.

use std::sync::Arc;
use std::time::Duration;

use changeling_applier::changelog::Changelog;
use changeling_applier::server::Server;
use changeling_applier::throttle::{HeartbeatSetup, HeartbeatWriter};
use changeling_core::actor::{ExitStatus, OnExit, Pumps};
use changeling_core::ident::TableName;
use changeling_core::marker::{HEARTBEAT_HINT, Marker, parse};
use changeling_support::{ServerSpec, SupportError, server_or_skip};
use mysql_async::prelude::Queryable;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::PATIENCE;
use super::servers::endpoint;

type Outcome = Result<(), SupportError>;

fn told() -> (OnExit, oneshot::Receiver<ExitStatus>) {
    let (tell, told) = oneshot::channel();
    (OnExit::call(move |exited| drop(tell.send(exited.status))), told)
}

#[tokio::test]
async fn it_beats_until_it_is_stopped() -> Outcome {
    let server = server_or_skip!(ServerSpec::mysql());
    let changelog = TableName::new("beat", "_t_ghc");
    let mut conn = server.mysql().await?;
    conn.query_drop("CREATE DATABASE beat").await?;
    conn.query_drop(Changelog::create_statement(&changelog)).await?;
    let setup = HeartbeatSetup {
        server: Arc::new(
            Server::open(&endpoint(&server), &Default::default(), None)
                .await
                .expect("it answers"),
        ),
        changelog: changelog.clone(),
        interval: Duration::from_millis(100),
        retries: 2,
    };
    let pumps = Pumps::from(Handle::current());

    let (exited, told_first) = told();
    let writer = HeartbeatWriter::start(&pumps, setup.clone(), exited);
    let value = format!("SELECT value FROM {changelog} WHERE id = 1");
    let mut seen = Vec::new();
    while seen.len() < 4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let value: Option<String> = conn.query_first(&value).await?;
        match value.map(|value| parse(HEARTBEAT_HINT, &value)) {
            // On a busy machine two looks may find the same beat.
            Some(Some(Marker::Heartbeat(heartbeat))) if seen.last() == Some(&heartbeat) => {}
            Some(Some(Marker::Heartbeat(heartbeat))) => seen.push(heartbeat),
            other => assert!(other.is_none(), "{other:?}"),
        }
    }
    assert!(
        seen.is_sorted_by(|one, next| one.written_at_micros < next.written_at_micros),
        "{seen:?}"
    );
    writer.stop().await;
    conn.query_drop(format!("DROP TABLE {changelog}")).await?;
    let status = tokio::time::timeout(PATIENCE, told_first)
        .await
        .expect("a report")
        .expect("a report");
    assert!(matches!(status, ExitStatus::Cancelled), "{status}");

    // Without the table it gives up after the failures that are allowed.
    let (exited, told_second) = told();
    let _writer = HeartbeatWriter::start(&pumps, setup, exited);
    let status = tokio::time::timeout(PATIENCE, told_second)
        .await
        .expect("a report")
        .expect("a report");
    assert!(
        status.is_failure() && status.to_string().contains("1146"),
        "{status}"
    );
    if server.is_shared() {
        conn.query_drop("DROP DATABASE beat").await?;
    }
    Ok(())
}
