//! The streamer used alone, as an embedder would; and from a replica.

use std::time::Duration;

use changeling_core::actor::{Delivery, ExitStatus, GetState, Port};
use changeling_core::change::Applied;
use changeling_core::change_source::{ChangeSource, Projection};
use changeling_streamer::{BinlogSource, StopStreaming, Streamer};
use changeling_support::ServerSpec;
use tokio::sync::{mpsc, oneshot};

use crate::rig::{PATIENCE, Rig, Stream, brief, keys, options};

#[tokio::test]
async fn a_streamer_alone_feeds_a_channel() {
    let Some(mut rig) = Rig::new("a_streamer_alone", ServerSpec::mysql()).await else {
        return;
    };
    rig.run(&["CREATE TABLE t (id int PRIMARY KEY, v varchar(10))"])
        .await;
    let source = BinlogSource::new(rig.options());
    let at = source.current().await.expect("a position");
    let spec = rig.spec(&[("t", Projection::All)]).await;

    let (sender, mut batches) = mpsc::channel(8);
    let (told, ended) = oneshot::channel();
    let streamer = Streamer::new(source, spec, at, Port::channel(sender), rig.host.pumps().clone())
        .exits_to(move |status| drop(told.send(status)));
    let streamer = rig.host.spawn(move |_| streamer);

    rig.run(&["INSERT INTO t VALUES (1, 'one')"]).await;
    let mut seen = Vec::new();
    while seen.is_empty() {
        let next = tokio::time::timeout(PATIENCE, batches.recv())
            .await
            .expect("a batch in time");
        let Delivery {
            message: batch,
            reply,
        } = next.expect("a batch");
        seen.extend(brief(&batch.changes));
        reply.accept(Applied { seq: batch.seq });
    }
    assert_eq!(seen, ["+1,one"]);
    let state = streamer.send(GetState::new()).await.expect("the actor answers");
    assert!(state.running && state.ended.is_none() && state.stream.events > 0);
    assert!(
        serde_json::to_string(&state)
            .expect("a serialisable state")
            .contains("\"running\":true")
    );
    streamer.send(StopStreaming).await.expect("the actor answers");
    let status = tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("an end in time");
    assert!(matches!(status, Ok(ExitStatus::Cancelled)), "{status:?}");
}

async fn from_a_replica(spec: ServerSpec, test: &str) {
    let started = spec.with_replica().start().await;
    let Some(topology) =
        changeling_support::skip::unless_available(test, started).expect("the servers start")
    else {
        return;
    };
    let mut primary = topology.primary.mysql().await.expect("a connection");
    for statement in ["CREATE DATABASE repl", "CREATE TABLE repl.t (id int PRIMARY KEY)"] {
        mysql_async::prelude::Queryable::query_drop(&mut primary, statement)
            .await
            .expect("a table");
    }
    topology
        .wait_caught_up(Duration::from_secs(20))
        .await
        .expect("the replica follows");
    let source = BinlogSource::new(options(&topology.replica));
    let at = source.current().await.expect("a position");
    let host = changeling_core::actor::ActorHost::start(Default::default()).expect("a host");
    let mut replica = topology.replica.mysql().await.expect("a connection");
    mysql_async::prelude::Queryable::query_drop(&mut replica, "USE repl")
        .await
        .expect("the database");
    let columns = crate::rig::inspect(&mut replica, "t").await;
    let watch = changeling_core::change_source::Watch {
        table: changeling_core::ident::TableName::new("repl", "t"),
        columns: columns.into(),
        projection: keys(&[0]),
    };
    let spec = changeling_core::change_source::StreamSpec {
        watches: vec![watch],
        changelog: None,
        gateways: vec![],
    };
    let mut stream = Stream::start(&host, &source, spec, at);
    mysql_async::prelude::Queryable::query_drop(&mut primary, "INSERT INTO repl.t VALUES (1), (2)")
        .await
        .expect("rows");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(brief(&stream.batch().await.expect("a batch").changes));
    }
    assert_eq!(seen, ["+1", "+2"]);
    stream.stop().await;
}

#[tokio::test]
async fn a_replica_of_mysql_is_read() {
    from_a_replica(ServerSpec::mysql(), "a_replica_of_mysql_is_read").await;
}

#[tokio::test]
async fn a_replica_of_mariadb_is_read() {
    from_a_replica(ServerSpec::mariadb(), "a_replica_of_mariadb_is_read").await;
}
