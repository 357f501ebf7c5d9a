//! What comparing leaves behind and waits for: nothing.

use changeling_core::verify::Verifier;
use changeling_differ::mysql::SameServerProof;
use mysql_async::Row;
use mysql_async::prelude::Queryable;

use crate::ghost::{Proof, World};
use crate::on_each_server;

const SOURCE: &str = "id INT NOT NULL PRIMARY KEY, v VARCHAR(9)";
const TARGET: &str = "id BIGINT NOT NULL PRIMARY KEY, v VARCHAR(2)";

async fn binary_log_position(world: &mut World) -> (String, u64) {
    // MySQL's words from 8.2 on; and before, and MariaDB's.
    let answered = world
        .session
        .query_first::<Row, _>("SHOW BINARY LOG STATUS")
        .await;
    let row = match answered {
        Ok(row) => row,
        Err(_) => world.session.query_first("SHOW MASTER STATUS").await.unwrap(),
    };
    let row = row.unwrap();
    (row.get(0).unwrap(), row.get(1).unwrap())
}

async fn the_temporary_table_is_not_in_the_binary_log(world: &mut World) {
    world.run("SET SESSION binlog_format = 'ROW'").await;
    world.tables(SOURCE, TARGET).await;
    let pair = world.pair(&["id"], &[]).await;
    world.run("INSERT INTO t VALUES (1, 'long'), (2, 'x')").await;
    world.copy(&pair).await;
    let (file, position) = binary_log_position(world).await;
    let mut session = world.connect().await;
    session
        .query_drop("SET SESSION binlog_format = 'ROW'")
        .await
        .unwrap();
    let proof = Proof::of(&mut session, pair).await;
    assert_eq!(proof.everything(&mut session).await.suspects, []);
    session.disconnect().await.unwrap();
    let (after, _) = binary_log_position(world).await;
    assert_eq!(file, after);
    let events: Vec<Row> = world
        .session
        .query(format!("SHOW BINLOG EVENTS IN '{file}' FROM {position}"))
        .await
        .unwrap();
    for event in events {
        let info: String = event.get("Info").unwrap();
        assert!(!info.contains("_changeling_proof"), "{info}");
    }
}

async fn rows_that_others_have_locked_are_not_waited_for(world: &mut World) {
    for target in [SOURCE, TARGET] {
        world.tables(SOURCE, target).await;
        let pair = world.pair(&["id"], &[]).await;
        world.run("INSERT INTO t VALUES (1, 'long'), (2, 'x')").await;
        world.copy(&pair).await;
        world.run("SET SESSION innodb_lock_wait_timeout = 1").await;
        let proof = Proof::of(&mut world.session, pair).await;
        let mut other = world.connect().await;
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop("UPDATE t SET v = 'new'").await.unwrap();
        other.query_drop("UPDATE g SET v = 'new'").await.unwrap();
        assert_eq!(proof.everything(&mut world.session).await.suspects, []);
        let keys = [proof.key(&["1"]), proof.key(&["2"])];
        assert_eq!(proof.keys(&mut world.session, &keys).await.suspects, []);
        // Nor does the proof, in a transaction, hold anything that another writer would wait for.
        other.query_drop("ROLLBACK").await.unwrap();
        other
            .query_drop("SET SESSION innodb_lock_wait_timeout = 1")
            .await
            .unwrap();
        world.run("START TRANSACTION").await;
        assert_eq!(proof.everything(&mut world.session).await.suspects, []);
        assert_eq!(proof.keys(&mut world.session, &keys).await.suspects, []);
        other.query_drop("UPDATE t SET v = 'newer'").await.unwrap();
        other
            .query_drop("INSERT INTO t VALUES (0, ''), (5, '')")
            .await
            .unwrap();
        world.run("COMMIT").await;
    }
}

async fn a_session_keeps_its_mode(world: &mut World) {
    world
        .tables(
            "id INT NOT NULL PRIMARY KEY, d DATE NOT NULL DEFAULT '0000-00-00', v VARCHAR(9)",
            "id INT NOT NULL PRIMARY KEY, d DATE NOT NULL DEFAULT '0000-00-00', v VARCHAR(2)",
        )
        .await;
    let pair = world.pair(&["id"], &[]).await;
    let mode = "NO_ZERO_DATE,NO_ZERO_IN_DATE,STRICT_ALL_TABLES";
    world.run(&format!("SET SESSION sql_mode = '{mode}'")).await;
    let before: Option<String> = world
        .session
        .query_first("SELECT @@SESSION.sql_mode")
        .await
        .unwrap();
    let proof = Proof::of(&mut world.session, pair).await;
    let after: Option<String> = world
        .session
        .query_first("SELECT @@SESSION.sql_mode")
        .await
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(proof.everything(&mut world.session).await.suspects, []);
}

async fn a_missing_privilege_is_explained(world: &mut World) {
    world.tables(SOURCE, TARGET).await;
    let pair = world.pair(&["id"], &[]).await;
    let user = format!("poor_{}", world.schema);
    let user = &user[user.len().saturating_sub(30)..];
    world
        .run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'Poor-4711'"))
        .await;
    world
        .run(&format!("GRANT SELECT ON {}.* TO '{user}'@'%'", world.schema))
        .await;
    let opts = world.server.mysql_opts().user(Some(user)).pass(Some("Poor-4711"));
    let mut session = mysql_async::Conn::new(opts).await.unwrap();
    let error = SameServerProof::new()
        .prepare(&mut session, &pair)
        .await
        .unwrap_err();
    assert!(!error.transient);
    assert!(error.message.contains("CREATE TEMPORARY TABLES"), "{error}");
    world.run(&format!("DROP USER '{user}'@'%'")).await;
}

on_each_server!(
    the_temporary_table_is_not_in_the_binary_log,
    rows_that_others_have_locked_are_not_waited_for,
    a_session_keeps_its_mode,
    a_missing_privilege_is_explained,
);
