//! What `changeling table-diff` promises about limits and explanations, on every kind of server.

// clippy.toml allows this in functions marked as tests only, not in the helpers that they share.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use changeling_support::{Server, ServerSpec, server_or_skip};
use mysql_async::prelude::Queryable;
use rstest::rstest;

struct Run {
    status: i32,
    output: String,
    errors: String,
}

/// Two nodes and where the program runs.
struct Stage {
    nodes: [String; 2],
    table: &'static str,
    directory: tempfile::TempDir,
}

impl Stage {
    fn new(nodes: [String; 2], table: &'static str) -> Self {
        Self {
            nodes,
            table,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_changeling"));
        command.current_dir(self.directory.path()).arg("table-diff");
        for (name, dsn) in ["n1", "n2"].iter().zip(&self.nodes) {
            command.args(["--node", &format!("{name}={dsn}")]);
        }
        command.arg(self.table).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        // A program that hangs is told to end, and then has another status than the one expected.
        let mut command = Command::new("timeout");
        let program = self.command(words);
        command
            .arg("60")
            .arg(program.get_program())
            .args(program.get_args());
        let output = command.current_dir(self.directory.path()).output().unwrap();
        Run {
            status: output.status.code().unwrap(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// How many rows the one report in NDJSON has.
    fn reported(&self) -> usize {
        let files = self.files();
        let report = files
            .iter()
            .find(|path| path.extension().is_some_and(|extension| extension == "ndjson"))
            .unwrap();
        let text = std::fs::read_to_string(report).unwrap();
        text.lines()
            .filter(|line| line.starts_with("{\"finding\""))
            .count()
    }

    fn clear(&self) {
        for file in self.files() {
            std::fs::remove_file(file).unwrap();
        }
    }
}

/// 1000 rows, of which 20 differ.
fn limits_hold(stage: &Stage) {
    let blocks = ["-b", "100", "-u", "10"];
    let run = |words: &[&str]| stage.run(&[&blocks[..], words].concat());

    let counted = run(&["--count-only"]);
    assert_eq!(counted.status, 1, "{}", counted.errors);
    assert!(
        counted.output.contains("n1/n2: 20 rows differ"),
        "{}",
        counted.output
    );
    assert_eq!(stage.files(), [] as [PathBuf; 0], "counting writes no file");

    let first = run(&["--fail-fast", "-o", "ndjson"]);
    assert_eq!((first.status, stage.reported()), (1, 1), "{}", first.errors);
    assert!(
        first.output.contains("as many differences as were wanted"),
        "{}",
        first.output
    );
    assert_eq!(stage.files().len(), 1, "nothing to go on with");
    stage.clear();

    let few = run(&["--max-diff-rows", "7", "-o", "ndjson"]);
    assert_eq!((few.status, stage.reported()), (1, 7), "{}", few.errors);
    let (_, journal) = few.output.trim().rsplit_once("--resume ").unwrap();
    let rest = run(&["--resume", journal, "-o", "ndjson"]);
    assert_eq!((rest.status, stage.reported()), (1, 20), "{}", rest.errors);
    assert!(rest.output.contains("n1: 1 000 rows compared"), "{}", rest.output);
    stage.clear();

    let sampled = run(&["--sample", "0.000001", "--count-only"]);
    assert_eq!(sampled.status, 2, "{}", sampled.errors);
    assert!(sampled.output.contains("a sample of"), "{}", sampled.output);
}

/// Of two DSNs with the same rows.
fn explains(stage: &Stage) {
    let explained = stage.run(&["--explain"]);
    assert_eq!(explained.status, 0, "{}", explained.errors);
    for part in [
        "key (id)",
        "-- digest of a range",
        "SELECT ",
        "-- plan: digest of the first block",
        "n2 (about",
    ] {
        assert!(explained.output.contains(part), "{part}: {}", explained.output);
    }
    assert_eq!(stage.files(), [] as [PathBuf; 0]);
}

fn postgres_nodes(server: &Server) -> [String; 2] {
    let (user, password, host, port) = (server.user(), server.password(), server.host(), server.port());
    ["a", "b"].map(|database| format!("postgres://{user}:{password}@{host}:{port}/{database}"))
}

async fn fill_postgres(server: &Server) {
    let admin = server.postgres("postgres").await.unwrap();
    for database in ["a", "b"] {
        admin
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .await
            .unwrap();
        let client = server.postgres(database).await.unwrap();
        client
            .batch_execute(
                "CREATE TABLE t (id int PRIMARY KEY, name text); \
                 INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 1000) AS i; \
                 CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS \
                   'BEGIN PERFORM pg_sleep(0.0005); RETURN true; END'",
            )
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_postgres() -> changeling_support::Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres().option("-ctrack_functions=all"));
    fill_postgres(&server).await;
    let stage = Stage::new(postgres_nodes(&server), "public.t");
    let client = server.postgres("a").await?;
    let touched = || async {
        client
            .query_one(
                "SELECT pg_stat_force_next_flush(), (SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_user_functions), \
                 (SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 't'), \
                 (SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 't')",
                &[],
            )
            .await
            .map(|row| (row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i64>(3)))
            .unwrap()
    };
    // What was there before is told late.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = touched().await;
    explains(&stage);
    let fenced = stage.run(&["--explain", "--snapshot", "fenced", "-F", "public.slow(id)"]);
    assert_eq!(fenced.status, 0, "{}", fenced.errors);
    assert!(
        fenced.output.contains("Seq Scan") || fenced.output.contains("Index"),
        "{}",
        fenced.output
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(touched().await, before, "an explanation reads no row");

    server
        .postgres("b")
        .await?
        .batch_execute("UPDATE t SET name = 'x' WHERE id % 50 = 0")
        .await?;
    limits_hold(&stage);
    Ok(())
}

/// Connections of the program to one database, most that were seen at a time.
#[tokio::test(flavor = "multi_thread")]
async fn max_connections_hold_on_postgres() -> changeling_support::Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres());
    fill_postgres(&server).await;
    let stage = Stage::new(postgres_nodes(&server), "public.t");
    let client = server.postgres("postgres").await?;
    for (most, more) in [
        (1, &[][..]),
        (3, &["--max-lag-millis", "60000", "--snapshot", "node"][..]),
    ] {
        let number = most.to_string();
        let words = [
            "-b",
            "20",
            "-u",
            "5",
            "-c",
            "4",
            "-q",
            "-F",
            "public.slow(id)",
            "-M",
            &number,
        ];
        let mut child = stage
            .command(&[&words[..], more].concat())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        let status = loop {
            let row = client
                .query_one(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = 'b' AND application_name = 'changeling'",
                    &[],
                )
                .await
                .unwrap();
            seen = seen.max(row.get::<_, i64>(0));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert_eq!(status.code(), Some(0));
        assert_eq!(seen, most, "with {more:?}");
    }
    Ok(())
}

#[rstest]
#[case::mysql(ServerSpec::mysql())]
#[case::mariadb(ServerSpec::mariadb())]
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_mysql(#[case] spec: ServerSpec) -> changeling_support::Result<()> {
    let topology = server_or_skip!(spec.with_replica());
    let mut admin = topology.primary.mysql().await?;
    admin.query_drop("CREATE DATABASE d").await?;
    admin
        .query_drop("CREATE TABLE d.t (id INT PRIMARY KEY, name VARCHAR(20))")
        .await?;
    let rows: Vec<String> = (1..=1000).map(|id| format!("({id}, 'n{id}')")).collect();
    admin
        .query_drop(format!("INSERT INTO d.t VALUES {}", rows.join(",")))
        .await?;
    topology.wait_caught_up(Duration::from_secs(30)).await?;
    let dsn = |server: &Server| {
        let (user, password, host, port) = (server.user(), server.password(), server.host(), server.port());
        format!("mysql://{user}:{password}@{host}:{port}/")
    };
    let stage = Stage::new([dsn(&topology.primary), dsn(&topology.replica)], "d.t");
    let mut replica = topology.replica.mysql().await?;
    let mut read = async || {
        let row: Option<(String, u64)> = replica
            .query_first("SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'")
            .await
            .unwrap();
        // MariaDB does not count them.
        row.map_or(0, |row| row.1)
    };
    let before = read().await;
    explains(&stage);
    // Replication reads a few of its own; of the table there are a thousand.
    assert!(read().await < before + 100, "an explanation reads no row");
    let refused = stage.run(&["--snapshot", "node"]);
    assert_eq!(refused.status, 3, "{}", refused.errors);

    // Not in its log: on MariaDB the primary would be waited for to replay it.
    replica.query_drop("SET sql_log_bin = 0").await?;
    replica
        .query_drop("UPDATE d.t SET name = 'x' WHERE id % 50 = 0")
        .await?;
    limits_hold(&stage);
    let lagging = stage.run(&[
        "--count-only",
        "--max-lag-millis",
        "60000",
        "--max-load",
        "Threads_running=9999",
    ]);
    assert_eq!(lagging.status, 1, "{}", lagging.errors);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_program_says_so_and_is_cancelled_at_once() -> changeling_support::Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres());
    fill_postgres(&server).await;
    let stage = Stage::new(postgres_nodes(&server), "public.t");
    let flag = stage.directory.path().join("wait");
    std::fs::write(&flag, "").unwrap();
    let child = stage
        .command(&["--throttle-flag-file", "wait", "--progress", "always"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rows: i64 = server
        .postgres("postgres")
        .await
        .unwrap()
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'changeling'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(rows, 0, "nothing was handed out, so nobody connected");
    let asked = Instant::now();
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(output.status.code(), Some(2));
    let (output, errors) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(errors.contains("throttled, flag-file wait"), "{errors}");
    let (_, journal) = output.trim().rsplit_once("--resume ").unwrap();
    std::fs::remove_file(&flag).unwrap();
    let resumed = stage.run(&["--throttle-flag-file", "wait", "--resume", journal]);
    assert_eq!(resumed.status, 0, "{}", resumed.errors);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_goes_on_until_a_signal_and_ends_with_the_last_status() -> changeling_support::Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres());
    fill_postgres(&server).await;
    let stage = Stage::new(postgres_nodes(&server), "public.t");
    let out = stage.directory.path().join("out");
    let child = stage
        .command(&["--schedule", "--every", "500ms"])
        .stdout(std::fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    let seen = |words: &str, times: usize| {
        let out = out.clone();
        let words = words.to_owned();
        async move {
            let began = Instant::now();
            while std::fs::read_to_string(&out).unwrap().matches(&words).count() < times {
                assert!(began.elapsed() < Duration::from_secs(30), "{words} × {times}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    seen("TABLES MATCH", 2).await;
    let client = server.postgres("b").await.unwrap();
    client
        .batch_execute("ALTER TABLE t RENAME TO away")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    client
        .batch_execute("UPDATE away SET name = 'x' WHERE id = 7; ALTER TABLE away RENAME TO t")
        .await
        .unwrap();
    seen("TABLES DIFFER", 1).await;
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let status = child.wait_with_output().unwrap().status;
    assert_eq!(status.code(), Some(1));
    Ok(())
}
