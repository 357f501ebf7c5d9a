//! `changeling table-diff --resume` as a program that was killed.

// clippy.toml allows this in functions marked as tests only, not in the helpers that they share.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use changeling_support::{Server, ServerSpec, server_or_skip};

const ROWS: u64 = 3000;

struct Run {
    status: i32,
    output: String,
    errors: String,
}

/// The nodes' names and databases, and where the program runs.
struct Stage<'a> {
    server: &'a Server,
    directory: tempfile::TempDir,
}

impl Stage<'_> {
    fn command(&self, databases: [&str; 2], words: &[&str]) -> Command {
        let server = self.server;
        let mut command = Command::new(env!("CARGO_BIN_EXE_changeling"));
        command.current_dir(self.directory.path()).arg("table-diff");
        for (name, database) in ["n1", "n2"].iter().zip(databases) {
            let dsn = format!(
                "{name}=postgres://{}:{}@{}:{}/{database}",
                server.user(),
                server.password(),
                server.host(),
                server.port()
            );
            command.args(["--node", &dsn]);
        }
        command.args([
            "public.t",
            "-b",
            "100",
            "-u",
            "20",
            "-M",
            "2",
            "-F",
            "public.slow(id)",
        ]);
        command.args(words);
        command
    }

    fn run(&self, databases: [&str; 2], words: &[&str]) -> Run {
        let output = self.command(databases, words).output().unwrap();
        Run {
            status: output.status.code().unwrap(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|other| other == extension))
            .collect()
    }

    /// The one report.
    fn diffs(&self) -> serde_json::Value {
        let files = self.files("json");
        let [report] = &files[..] else { panic!("{files:?}") };
        let report: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
        report["diffs"].clone()
    }
}

/// Rows of blocks that a journal says are done.
fn done(journal: &Path) -> (usize, u64) {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let rows = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line.get(9..)?).ok())
        .filter_map(|entry| entry["done"]["rows"][0].as_u64());
    rows.fold((0, 0), |(blocks, sum), rows| (blocks + 1, sum + rows))
}

/// How often the filter was asked about a row of the first node; known when the sessions have ended.
async fn calls(server: &Server) -> u64 {
    let client = server.postgres("a").await.unwrap();
    let began = Instant::now();
    loop {
        let row = client
            .query_one(
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'changeling'), \
                 coalesce((SELECT calls FROM pg_stat_user_functions WHERE funcname = 'slow'), 0)",
                &[],
            )
            .await
            .unwrap();
        if row.get::<_, i64>(0) == 0 {
            return u64::try_from(row.get::<_, i64>(1)).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "sessions do not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn fill(server: &Server, database: &str) {
    let admin = server.postgres("postgres").await.unwrap();
    admin
        .batch_execute(&format!("CREATE DATABASE {database}"))
        .await
        .unwrap();
    let client = server.postgres(database).await.unwrap();
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, name text); \
             INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, {ROWS}) AS i; \
             CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS \
               'BEGIN PERFORM pg_sleep(0.0005); RETURN true; END'"
        ))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_goes_on_and_reports_all_differences_once() -> changeling_support::Result<()>
{
    let server = server_or_skip!(ServerSpec::any_postgres().option("-ctrack_functions=all"));
    for database in ["a", "b", "c"] {
        fill(&server, database).await;
        if database != "a" {
            let client = server.postgres(database).await?;
            client
                .batch_execute(
                    "UPDATE t SET name = 'x' WHERE id % 100 = 50; DELETE FROM t WHERE id = 1234; \
                     INSERT INTO t VALUES (9999, 'more')",
                )
                .await?;
        }
    }
    let stage = || Stage {
        server: &server,
        directory: tempfile::tempdir().unwrap(),
    };
    let both = ["a", "b"];
    let (whole, killed) = (stage(), stage());
    let uninterrupted = whole.run(both, &[]);
    assert_eq!(uninterrupted.status, 1, "{}", uninterrupted.errors);
    assert!(
        uninterrupted.output.contains("n1/n2: 32 rows differ"),
        "{}",
        uninterrupted.output
    );
    assert!(whole.files("journal").is_empty(), "nothing is left to go on with");
    let calls_of_all = calls(&server).await;

    let mut child = killed
        .command(both, &["-q"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let journal = loop {
        let journal = killed.files("journal").pop();
        match journal {
            Some(journal) if done(&journal).0 >= 12 => break journal,
            _ => {}
        }
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "it ended before it could be killed"
        );
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(killed.files("json").is_empty());
    let (blocks, rows) = done(&journal);
    assert!((12..29).contains(&blocks), "{blocks}");
    let name = journal.file_name().unwrap().to_str().unwrap();

    let other = killed.run(["a", "c"], &["--resume", name]);
    assert_eq!(other.status, 2);
    assert!(other.errors.contains("n2 was database \"b\""), "{}", other.errors);
    for database in both {
        let client = server.postgres(database).await?;
        client.batch_execute("ALTER TABLE t ADD COLUMN x int").await?;
    }
    let altered = killed.run(both, &["--resume", name]);
    assert_eq!(altered.status, 2);
    assert!(
        altered.errors.contains("column \"x\" was not compared"),
        "{}",
        altered.errors
    );
    for database in both {
        let client = server.postgres(database).await?;
        client.batch_execute("ALTER TABLE t DROP COLUMN x").await?;
    }
    let semantic = killed.run(both, &["--resume", name, "--compare", "semantic"]);
    assert!(
        semantic.errors.contains("--compare was exact"),
        "{}",
        semantic.errors
    );
    assert_eq!(
        done(&journal),
        (blocks, rows),
        "a refusal leaves the journal as it is"
    );

    let calls_before = calls(&server).await;
    let resumed = killed.run(both, &["--resume", name]);
    assert_eq!(resumed.status, 1, "{}", resumed.errors);
    assert!(
        resumed.output.contains("n1/n2: 32 rows differ"),
        "{}",
        resumed.output
    );
    assert!(
        resumed.output.contains(&format!("resumed: {blocks} of "))
            && resumed
                .output
                .contains(&format!("n1: {} {:03} rows compared", ROWS / 1000, ROWS % 1000)),
        "{}",
        resumed.output
    );
    assert_eq!(killed.diffs(), whole.diffs());
    assert!(killed.files("journal").is_empty());
    assert_eq!(killed.files("ndjson").len(), 1);
    let calls_of_rest = calls(&server).await - calls_before;
    assert!(
        calls_of_rest <= calls_of_all - rows + calls_of_all / 10,
        "{calls_of_rest} rows were read again; {rows} of {calls_of_all} were done"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_it_says_how_to_go_on() -> changeling_support::Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres());
    for database in ["a", "b"] {
        fill(&server, database).await;
    }
    let stage = Stage {
        server: &server,
        directory: tempfile::tempdir().unwrap(),
    };
    let both = ["a", "b"];
    let child = stage
        .command(both, &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while stage
        .files("journal")
        .pop()
        .is_none_or(|journal| done(&journal).0 < 5)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(asked.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = String::from_utf8(output.stdout).unwrap();
    let (_, name) = output
        .trim()
        .rsplit_once("--resume ")
        .unwrap_or_else(|| panic!("{output}"));
    let resumed = stage.run(both, &["--resume", name]);
    assert_eq!(resumed.status, 0, "{}{}", resumed.output, resumed.errors);
    assert!(resumed.output.contains("TABLES MATCH"), "{}", resumed.output);
    assert!(stage.files("journal").is_empty() && stage.files("ndjson").is_empty());

    let kept_none = stage.run(both, &["--no-journal", "--fail-fast"]);
    assert_eq!(kept_none.status, 0);
    assert_eq!(stage.run(both, &["--resume", name]).status, 2, "it is gone");
    assert_eq!(stage.run(both, &["--resume", "x", "--count-only"]).status, 3);
    Ok(())
}
