//! `table-diff`, `table-repair` and `table-rerun` as a person calls them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use changeling_support::{Result, Server, ServerSpec, server_or_skip};

struct Stage {
    server: Server,
    directory: tempfile::TempDir,
}

impl Stage {
    fn command(&self, words: &[&str]) -> Command {
        let node = |name: &str| {
            format!(
                "{name}=host={} port={} user={} password={} dbname={name} sslmode=disable",
                self.server.host(),
                self.server.port(),
                self.server.user(),
                self.server.password()
            )
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_changeling"));
        command
            .args([words[0], "--node", &node("n1"), "--node", &node("n2")])
            .args(&words[1..])
            .current_dir(self.directory.path());
        command
    }

    fn run(&self, words: &[&str]) -> (i32, String) {
        let output: Output = self.command(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    /// Files of the directory whose names end so, without their directories.
    fn files(&self, end: &str) -> Vec<String> {
        let mut files: Vec<String> = walk(self.directory.path())
            .iter()
            .map(|path| {
                path.strip_prefix(self.directory.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .filter(|name| name.ends_with(end))
            .collect();
        files.sort();
        files
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_compared_repaired_and_looked_at_again() -> Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres().dedicated());
    let admin = server.postgres("postgres").await?;
    let mut nodes = Vec::new();
    for name in ["n1", "n2"] {
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let client = server.postgres(name).await?;
        let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 500) AS i";
        client.batch_execute(table).await.unwrap();
        nodes.push(client);
    }
    let damage = "DELETE FROM t WHERE id <= 3; UPDATE t SET v = 'wrong' WHERE id IN (10, 11); INSERT INTO t VALUES (900, 'x')";
    nodes[1].batch_execute(damage).await.unwrap();
    let stage = Stage {
        server,
        directory: tempfile::tempdir().unwrap(),
    };

    let (status, said) = stage.run(&["table-diff", "public.t", "-o", "html"]);
    assert_eq!(status, 1, "{said}");
    assert_eq!(stage.files(".html").len(), 1, "{said}");
    let json = &stage.files(".json")[0];
    let lines = &stage.files(".ndjson")[0];

    let (status, said) = stage.run(&["table-rerun", "public.t", "-f", json]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("6 of the reported keys still differ"), "{said}");

    // Nobody says who is right; another table; flags that exclude each other; no such node; no such file.
    for (words, status, word) in [
        (&["table-repair", "public.t", "-f", json][..], 3, "who is right?"),
        (
            &["table-repair", "public.u", "-f", json, "-r", "n1"],
            3,
            "is about public.t",
        ),
        (
            &["table-repair", "public.t", "-f", json, "-Z", "-P"],
            3,
            "cannot be used with",
        ),
        (
            &["table-repair", "public.t", "-f", json, "-r", "n1", "--no-binlog"],
            3,
            "PostgreSQL has no binary log",
        ),
        (
            &["table-repair", "public.t", "-f", json, "-r", "n9"],
            3,
            "it has n1, n2",
        ),
        (
            &["table-repair", "public.t", "-f", "nowhere", "-r", "n1"],
            2,
            "nowhere",
        ),
        (
            &[
                "table-repair",
                "public.t",
                "-f",
                json,
                "-r",
                "n1",
                "--recovery-mode",
            ],
            3,
            "--against-origin",
        ),
    ] {
        let (found, said) = stage.run(words);
        assert_eq!(found, status, "{words:?}: {said}");
        assert!(said.contains(word), "{words:?}: {said}");
    }

    let (status, said) = stage.run(&[
        "table-repair",
        "public.t",
        "-f",
        lines,
        "-r",
        "n1",
        "-y",
        "-g",
        "--emit-sql",
        "sql",
    ]);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("n2: 3 inserted, 2 updated, 1 deleted, 0 left alone, 0 refused"),
        "{said}"
    );
    assert_eq!(stage.files("sql").len(), 2);
    assert!(
        stage
            .files(".json")
            .iter()
            .any(|name| name.contains("dry_run_report_"))
    );
    assert_eq!(stage.run(&["table-diff", "public.t", "--count-only"]).0, 1);

    // Somebody changes a row: it is left alone, and the status says so.
    nodes[1]
        .batch_execute("UPDATE t SET v = 'mine' WHERE id = 10")
        .await
        .unwrap();
    let (status, said) = stage.run(&["table-repair", "public.t", "-f", lines, "-r", "n1", "-g"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("n2 ('10'): left alone"), "{said}");
    let report = stage
        .files(".json")
        .into_iter()
        .find(|name| name.contains("/repair_report_"))
        .unwrap();
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stage.directory.path().join(report)).unwrap()).unwrap();
    assert_eq!(
        report["changes"]["n2"]["upserted_rows"].as_array().unwrap().len(),
        4
    );
    assert_eq!(report["mode"], "source_of_truth");
    assert!(!report.to_string().contains(stage.server.password()), "{report}");

    let plan = stage.directory.path().join("plan.yaml");
    std::fs::write(&plan, "tables: {public.t: {default_action: {type: keep_n2x}}}").unwrap();
    let (status, said) = stage.run(&["table-diff", "public.t", "-o", "json"]);
    assert_eq!(status, 1, "{said}");
    let json = stage
        .files(".json")
        .into_iter()
        .filter(|name| name.contains("_diffs-"))
        .max()
        .unwrap();
    let (status, said) = stage.run(&["table-repair", "public.t", "-f", &json, "-p", "plan.yaml"]);
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("plan.yaml: line 1, column 44"), "{said}");
    std::fs::write(&plan, "tables: {public.t: {default_action: {type: keep_n2}}}").unwrap();
    let (status, said) = stage.run(&["table-repair", "public.t", "-f", &json, "-p", "plan.yaml"]);
    assert_eq!(status, 0, "{said}");

    assert_eq!(stage.run(&["table-diff", "public.t"]).0, 0);
    let (status, said) = stage.run(&["table-rerun", "-f", lines]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("have been resolved"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_compared_repaired_and_looked_at_again() -> Result<()> {
    use mysql_async::prelude::Queryable as _;
    let one = server_or_skip!(ServerSpec::mysql().dedicated());
    let other = server_or_skip!(ServerSpec::mysql().dedicated());
    let mut connections = Vec::new();
    for server in [&one, &other] {
        let mut connection = server.mysql().await?;
        for text in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.t (k timestamp(6) NOT NULL, id decimal(20,2) NOT NULL, v varchar(20), PRIMARY KEY (k, id))",
            "INSERT INTO shop.t VALUES ('2026-07-01 10:00:00.5', 1.10, 'a'), ('2026-07-01 10:00:00.5', 2, 'b')",
        ] {
            connection.query_drop(text).await.unwrap();
        }
        connections.push(connection);
    }
    connections[1]
        .query_drop("UPDATE shop.t SET v = 'x' WHERE id = 1.10")
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let node = |name: &str, server: &Server| {
            let login = format!("{}:{}", server.user(), server.password());
            format!("{name}=mysql://{login}@{}:{}/shop", server.host(), server.port())
        };
        let output = Command::new(env!("CARGO_BIN_EXE_changeling"))
            .args([
                words[0],
                "--node",
                &node("n1", &one),
                "--node",
                &node("n2", &other),
            ])
            .args(&words[1..])
            .current_dir(directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (status, said) = run(&["table-diff", "shop.t"]);
    assert_eq!(status, 1, "{said}");
    let json = walk(directory.path())
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "json"));
    let json = json.unwrap().display().to_string();
    let (status, said) = run(&["table-rerun", "shop.t", "-f", &json]);
    assert_eq!(status, 1, "{said}");
    for (words, word) in [
        (&["-r", "n1", "--preserve-origin"][..], "--preserve-origin: MySQL"),
        (&["--recovery-mode"], "--recovery-mode: MySQL"),
        (&[], "who is right?"),
        (&["-r", "n1", "--table-on", "n2=shop.u"], "is about shop.t there"),
        (&["-r", "n1", "--table-on", "n3=shop.t"], "no such node"),
    ] {
        let (status, said) = run(&[&["table-repair", "shop.t", "-f", &json], words].concat());
        assert_eq!(status, 3, "{words:?}: {said}");
        assert!(said.contains(word), "{words:?}: {said}");
    }
    let (status, said) = run(&[
        "table-repair",
        "-f",
        &json,
        "-r",
        "n1",
        "-y",
        "-g",
        "--emit-sql",
        "sql",
    ]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("n2: 0 inserted, 1 updated, 0 deleted"), "{said}");
    let sql = std::fs::read_to_string(directory.path().join("sql/shop_t_repair_n2.sql")).unwrap();
    assert!(sql.contains("START TRANSACTION;\nUPDATE `shop`.`t` SET"), "{sql}");
    // Cut off in the middle of a batch: a failure, and nothing of it is there.
    connections[1]
        .query_drop("CREATE TRIGGER shop.slow BEFORE UPDATE ON shop.t FOR EACH ROW SET @x = SLEEP(30)")
        .await
        .unwrap();
    let mut killer = other.mysql().await?;
    let killing = tokio::spawn(async move {
        let sleeping = "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'";
        loop {
            if let Some(id) = killer.query_first::<u64, _>(sleeping).await.unwrap() {
                break killer.query_drop(format!("KILL {id}")).await.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    let (status, said) = run(&["table-repair", "-f", &json, "-r", "n1", "--fire-triggers"]);
    killing.await.unwrap();
    assert_eq!(status, 2, "{said}");
    let value: Option<String> = connections[1]
        .query_first("SELECT v FROM shop.t WHERE id = 1.10")
        .await
        .unwrap();
    assert_eq!(value.as_deref(), Some("x"));
    connections[1].query_drop("DROP TRIGGER shop.slow").await.unwrap();
    let triggers = "CREATE TRIGGER shop.note BEFORE UPDATE ON shop.t FOR EACH ROW SET @x = 1";
    connections[1].query_drop(triggers).await.unwrap();
    let (status, said) = run(&["table-repair", "-f", &json, "-r", "n1"]);
    assert_eq!(status, 2, "{said}");
    assert!(
        said.contains("(note)") && said.contains("--fire-triggers"),
        "{said}"
    );
    // Somebody changes the row: it is left alone, and the status says so.
    connections[1]
        .query_drop("UPDATE shop.t SET v = 'mine' WHERE id = 1.10")
        .await
        .unwrap();
    let (status, said) = run(&["table-repair", "-f", &json, "-r", "n1", "--fire-triggers"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("left alone"), "{said}");
    connections[1]
        .query_drop("UPDATE shop.t SET v = 'x' WHERE id = 1.10")
        .await
        .unwrap();
    let (status, said) = run(&["table-repair", "-f", &json, "-r", "n1", "--fire-triggers"]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(run(&["table-diff", "shop.t"]).0, 0);
    connections[1]
        .query_drop("UPDATE shop.t SET v = 'y' WHERE id = 1.10")
        .await
        .unwrap();
    assert_eq!(run(&["table-rerun", "-f", &json]).0, 1);
    connections[0]
        .query_drop("DELETE FROM shop.t WHERE id = 1.10")
        .await
        .unwrap();
    connections[1]
        .query_drop("DELETE FROM shop.t WHERE id = 1.10")
        .await
        .unwrap();
    let (status, said) = run(&["table-rerun", "shop.t", "-f", &json]);
    assert_eq!(status, 0, "{said}");
    drop(connections);
    Ok(())
}

/// Two tables of one server, under two names. The report knows them, in either form: nobody has to say them again.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_may_have_the_table_under_different_names() -> Result<()> {
    use mysql_async::prelude::Queryable as _;
    let postgres = server_or_skip!(ServerSpec::any_postgres().dedicated());
    let mysql = server_or_skip!(ServerSpec::mysql().dedicated());
    let table = |name: &str| format!("CREATE TABLE {name} (id int PRIMARY KEY, v varchar(9))");
    let client = postgres.postgres("postgres").await?;
    let mut connection = mysql.mysql().await?;
    for text in [
        "CREATE SCHEMA shop",
        "CREATE SCHEMA old",
        &table("shop.t"),
        &table("old.u"),
        &table("old.t"),
    ] {
        client.batch_execute(text).await.unwrap();
        connection.query_drop(text).await.unwrap();
    }
    for server in [&postgres, &mysql] {
        for form in ["json", "ndjson"] {
            let fill = "DELETE FROM shop.t; DELETE FROM old.u; INSERT INTO shop.t VALUES (1, 'a'), (2, 'b'); INSERT INTO old.u VALUES (1, 'x'), (3, 'c')";
            client.batch_execute(fill).await.unwrap();
            connection.query_drop(fill).await.unwrap();
            let directory = tempfile::tempdir().unwrap();
            let url = server.url().replace("?prefer_socket=false", "");
            let run = |words: &[&str]| {
                let output = Command::new(env!("CARGO_BIN_EXE_changeling"))
                    .args([
                        words[0],
                        "--node",
                        &format!("a={url}"),
                        "--node",
                        &format!("b={url}"),
                    ])
                    .args(&words[1..])
                    .current_dir(directory.path())
                    .output()
                    .unwrap();
                let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
                (output.status.code().unwrap(), text)
            };
            let (status, said) = run(&["table-diff", "shop.t", "--table-on", "b=old.u", "-o", form]);
            assert_eq!(status, 1, "{said}");
            let report = walk(directory.path())
                .into_iter()
                .find(|path| path.extension().is_some_and(|end| end == form));
            let report = report.unwrap().display().to_string();
            let (status, said) = run(&["table-rerun", "-f", &report]);
            assert_eq!(status, 1, "{said}");
            assert!(said.contains("3 of the reported keys still differ"), "{said}");
            let (status, said) = run(&["table-repair", "-f", &report, "-r", "a", "--emit-sql", "."]);
            assert_eq!(status, 0, "{said}");
            assert!(said.contains("b: 1 inserted, 1 updated, 1 deleted"), "{said}");
            let sql = std::fs::read_to_string(directory.path().join("shop_t_repair_b.sql")).unwrap();
            assert!(sql.contains("old") && !sql.contains("shop"), "{sql}");
            let (status, said) = run(&["table-diff", "shop.t", "--table-on", "b=old.u"]);
            assert_eq!(status, 0, "{said}");
        }
    }
    let rows: Vec<u64> = connection.query("SELECT COUNT(*) FROM old.t").await.unwrap();
    assert_eq!(rows, [0], "the table of the same name was not touched");
    Ok(())
}

/// Nobody is left to cancel it: the server has to notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_is_killed_leaves_no_statement_on_postgresql() -> Result<()> {
    use std::time::{Duration, Instant};
    let server = server_or_skip!(ServerSpec::postgres(15).dedicated());
    let admin = server.postgres("postgres").await?;
    for name in ["n1", "n2"] {
        let database = format!("CREATE DATABASE {name}");
        admin.batch_execute(&database).await.unwrap();
        // A minute for ten rows.
        let table = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10); \
            CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(6); RETURN true; END'";
        let client = server.postgres(name).await?;
        client.batch_execute(table).await.unwrap();
    }
    let under_way = async || -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname IN ('n1', 'n2') AND state = 'active' AND query LIKE '%slow(%'";
        admin.query_one(count, &[]).await.unwrap().get(0)
    };
    let stage = Stage {
        server,
        directory: tempfile::tempdir().unwrap(),
    };
    let mut killed = stage
        .command(&["table-diff", "public.t", "--table-filter", "slow(id)"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while under_way().await == 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "it never began");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let began = Instant::now();
    while under_way().await > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the server goes on for nobody"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
