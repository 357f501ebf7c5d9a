//! Statements about watched tables are reported; what cannot be followed stops the stream.

use changeling_core::change_source::Projection;
use changeling_support::ServerSpec;

use crate::rig::{Rig, brief, keys};

async fn definitions(rig: &mut Rig) {
    rig.run(&[
        "CREATE TABLE a (id int PRIMARY KEY, v int)",
        "CREATE TABLE b (id int PRIMARY KEY)",
    ])
    .await;
    let mut stream = rig.stream(&[("a", Projection::StatementsOnly)]).await;
    let schema = rig.schema.clone();
    rig.run(&[
        "ALTER TABLE b ADD COLUMN a int",
        "CREATE TABLE IF NOT EXISTS a (id int)",
        "INSERT INTO a VALUES (1, 1)",
        "ALTER /* of */ TABLE `a` ADD COLUMN w int -- w",
        &format!("CREATE INDEX i ON {schema}.a (v)"),
        "DROP INDEX i ON a",
        "CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.v = 5",
        "DROP TRIGGER tr",
        "TRUNCATE a",
        "RENAME TABLE b TO b2, a TO a2",
        "RENAME TABLE a2 TO a",
        "DROP TABLE IF EXISTS b2, a",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(
        brief(&stream.until(sentinel).await),
        [
            "Definition a",
            "Definition a",
            "Definition a",
            "Definition a",
            "Truncate a",
            "Definition a",
            "Definition a",
            "Definition a"
        ]
    );
    stream.stop().await;
}

async fn statement_dml(rig: &mut Rig) {
    rig.run(&[
        "CREATE TABLE s (id int PRIMARY KEY)",
        "CREATE TABLE other (id int PRIMARY KEY)",
    ])
    .await;
    let mut stream = rig.stream(&[("s", keys(&[0]))]).await;
    rig.run(&[
        "SET SESSION binlog_format = STATEMENT",
        "INSERT INTO other VALUES (1)",
    ])
    .await;
    rig.run(&[
        "INSERT INTO s VALUES (1)",
        "BEGIN",
        "UPDATE s SET id = 2",
        "DELETE FROM other",
        "COMMIT",
    ])
    .await;
    rig.run(&["SET SESSION binlog_format = ROW"]).await;
    let sentinel = rig.mark().await;
    assert_eq!(
        brief(&stream.until(sentinel).await),
        ["StatementDml s", "StatementDml s"]
    );
    stream.stop().await;
}

async fn a_changed_table_stops_the_stream(rig: &mut Rig) {
    rig.run(&["CREATE TABLE c (id int PRIMARY KEY, v int)"]).await;
    let mut stream = rig.stream(&[("c", keys(&[0]))]).await;
    rig.run(&[
        "ALTER TABLE c ADD COLUMN w int FIRST",
        "INSERT INTO c VALUES (1, 2, 3)",
    ])
    .await;
    let batch = stream
        .batch()
        .await
        .expect("the statement is delivered before the stream stops");
    assert_eq!(brief(&batch.changes), ["Definition c"]);
    stream
        .stops_saying(&["has 3 columns in the binary log, 2 were inspected"])
        .await;
    let mut stream = rig.stream(&[("c", keys(&[0]))]).await;
    rig.run(&["ALTER TABLE c MODIFY v bigint", "INSERT INTO c VALUES (2, 5, 3)"])
        .await;
    stream
        .stops_saying(&["column v of", "is int", "type code 8"])
        .await;
}

async fn all(mut rig: Rig) {
    definitions(&mut rig).await;
    statement_dml(&mut rig).await;
    a_changed_table_stops_the_stream(&mut rig).await;
}

#[tokio::test]
async fn mysql_statements() {
    let Some(rig) = Rig::new("mysql_statements", ServerSpec::mysql()).await else {
        return;
    };
    all(rig).await;
}

#[tokio::test]
async fn mariadb_statements() {
    let Some(rig) = Rig::new("mariadb_statements", ServerSpec::mariadb()).await else {
        return;
    };
    all(rig).await;
}
