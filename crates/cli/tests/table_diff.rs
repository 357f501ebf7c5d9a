//! `changeling table-diff` as a program: exit statuses, reports, where nodes come from.

// clippy.toml allows this in functions marked as tests only, not in the helpers that they share.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use changeling_support::{Server, ServerSpec, server_or_skip};

struct Run {
    status: i32,
    output: String,
    errors: String,
}

fn run(directory: &Path, words: &[&str]) -> Run {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_changeling"))
        .current_dir(directory)
        .env_remove("PGSERVICEFILE")
        .env_remove("ACE_PGSERVICEFILE")
        .arg("table-diff")
        .args(words)
        .output()
        .unwrap();
    Run {
        status: status.code().unwrap(),
        output: String::from_utf8(stdout).unwrap(),
        errors: String::from_utf8(stderr).unwrap(),
    }
}

fn dsn(server: &Server, database: &str) -> String {
    format!(
        "postgres://{}:{}@{}:{}/{database}",
        server.user(),
        server.password(),
        server.host(),
        server.port()
    )
}

async fn databases(server: &Server) {
    let admin = server.postgres("postgres").await.unwrap();
    for database in ["a", "b"] {
        admin
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .await
            .unwrap();
        let client = server.postgres(database).await.unwrap();
        client
            .batch_execute(
                "CREATE TABLE t (id int PRIMARY KEY, name text, f float8); \
                 INSERT INTO t SELECT i, 'n' || i, i FROM generate_series(1, 3000) AS i",
            )
            .await
            .unwrap();
    }
}

fn reports(directory: &Path, extension: &str) -> Vec<String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|other| other == extension))
        .filter(|path| path.file_name().unwrap().to_str().unwrap().contains("_diffs-"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_exit_statuses() -> changeling_support::Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres());
    databases(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (
        format!("n1={}", dsn(&server, "a")),
        format!("n2={}", dsn(&server, "b")),
    );
    let nodes = ["--node", &a, "--node", &b];
    let diff = |words: &[&str]| run(directory.path(), &[&nodes[..], words].concat());

    let equal = diff(&["public.t"]);
    assert_eq!(equal.status, 0, "{}", equal.errors);
    assert!(
        equal.output.contains("TABLES MATCH") && equal.output.contains("3 000 rows"),
        "{}",
        equal.output
    );
    assert!(reports(directory.path(), "ndjson").is_empty());
    assert_eq!(diff(&["public.t", "-q"]).output, "");

    let client = server.postgres("b").await?;
    client
        .batch_execute("UPDATE t SET f = 'NaN' WHERE id = 7; DELETE FROM t WHERE id = 8")
        .await?;
    let differ = diff(&["public.t", "--count-only"]);
    assert_eq!(differ.status, 1, "{}", differ.errors);
    assert!(reports(directory.path(), "json").is_empty());
    let differ = diff(&["public.t"]);
    assert_eq!(differ.status, 1);
    assert!(
        differ.output.contains("n1/n2: 2 rows differ"),
        "{}",
        differ.output
    );
    let written = reports(directory.path(), "json");
    let [report] = &written[..] else {
        panic!("{written:?}")
    };
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!(report["summary"]["diff_rows_count"]["n1/n2"], 2);
    assert_eq!(report["diffs"]["n1/n2"]["rows"]["n2"][0]["f"], "NaN");
    assert_eq!(diff(&["public.t", "--fail-fast"]).status, 1);
    assert_eq!(
        diff(&["public.t", "--ignore-columns", "f", "-F", "id <> 8"]).status,
        0
    );
    assert_eq!(diff(&["public.t", "--sample", "0.000001"]).status, 2);

    let explained = diff(&["public.t", "--explain"]);
    assert_eq!(explained.status, 0);
    assert!(
        explained.output.contains("hashtextextended"),
        "{}",
        explained.output
    );

    let missing = diff(&["public.no_such"]);
    assert_eq!(missing.status, 2);
    assert!(missing.errors.contains("no_such"), "{}", missing.errors);
    let gone = run(
        directory.path(),
        &["--node", &a, "--node", "n2=host=127.0.0.1 port=1", "public.t"],
    );
    assert_eq!(gone.status, 2);
    assert!(gone.errors.contains("n2"), "{}", gone.errors);
    for wrong in [
        &["public.t", "-b", "x"][..],
        &["t"],
        &["demo", "public.t"],
        &["public.t", "-b", "2000000"],
        &["public.t", "--no-such-flag"],
    ] {
        let refused = diff(wrong);
        assert_eq!(refused.status, 3, "{wrong:?}: {}", refused.errors);
        assert!(!refused.errors.contains(server.password()) || server.password() == server.user());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_from_a_service_file_or_ace_s_cluster_file() -> changeling_support::Result<()> {
    let server = server_or_skip!(ServerSpec::any_postgres());
    databases(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let none = run(directory.path(), &["demo", "public.t"]);
    assert_eq!(none.status, 3);
    assert!(none.errors.contains("demo.json"), "{}", none.errors);

    let (host, port, user, password) = (server.host(), server.port(), server.user(), server.password());
    let service = format!(
        "[demo]\nhost={host}\nport={port}\nuser={user}\npassword={password}\n[demo.n1]\ndbname=a\n[demo.n2]\ndbname=b\n"
    );
    std::fs::write(directory.path().join("pg_service.conf"), service).unwrap();
    let found = run(directory.path(), &["demo", "public.t"]);
    assert_eq!(found.status, 0, "{}", found.errors);
    assert_eq!(run(directory.path(), &["demo", "public.t", "-n", "n1"]).status, 3);
    assert_eq!(
        run(directory.path(), &["demo", "public.t", "-n", "n1,n9"]).status,
        3
    );

    let definition = format!(
        r#"{{"pgedge": {{"databases": [{{"db_name": "a", "db_user": "{user}", "db_password": "{password}"}}]}},
            "node_groups": [{{"name": "n1", "is_active": "on", "public_ip": "{host}", "port": "{port}"}},
                            {{"name": "n2", "is_active": "on", "public_ip": "{host}", "port": "{port}"}}]}}"#
    );
    std::fs::write(directory.path().join("other.json"), definition).unwrap();
    let found = run(directory.path(), &["other", "public.t"]);
    assert_eq!(found.status, 0, "{}", found.errors);
    assert!(found.output.contains("on n1, n2"), "{}", found.output);
    Ok(())
}

/// Peak resident memory of a process so far, in KiB.
#[cfg(target_os = "linux")]
fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn p10_large_values_are_fetched_a_few_at_a_time() -> changeling_support::Result<()> {
    // A hundred megabytes as the server has them, four times that as the texts of both nodes.
    const LIMIT_KIB: u64 = 96 * 1024;
    let server = server_or_skip!(ServerSpec::postgres(15));
    databases(&server).await;
    for (name, digit) in [("a", 1), ("b", 2)] {
        let fill = format!(
            "CREATE TABLE large (id int PRIMARY KEY, v bytea); \
             INSERT INTO large SELECT i, decode(repeat(md5('{digit}'), 65536), 'hex') FROM generate_series(1, 100) AS i"
        );
        server.postgres(name).await?.batch_execute(&fill).await?;
    }
    let directory = tempfile::tempdir().unwrap();
    let words = ["public.large", "-q", "-o", "ndjson"];
    let (status, most) = with_peak(&server, directory.path(), &words).await;
    assert_eq!(status.code(), Some(1));
    assert_eq!(reports(directory.path(), "ndjson")[0].lines().count(), 102);
    assert!((1..LIMIT_KIB).contains(&most), "{most} KiB");
    Ok(())
}

/// Compares, and looks at the most memory that the process has resident, in KiB.
#[cfg(target_os = "linux")]
async fn with_peak(server: &Server, directory: &Path, words: &[&str]) -> (std::process::ExitStatus, u64) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_changeling"))
        .current_dir(directory)
        .args(["table-diff", "--node", &format!("n1={}", dsn(server, "a"))])
        .args(["--node", &format!("n2={}", dsn(server, "b"))])
        .args(words)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    loop {
        most = most.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (status, most);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What broke ACE: 100 000 rows on one node, none on the other, blocks of 10 000, unit 500.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn p6_a_hundred_thousand_differences_fit_into_48_mib() -> changeling_support::Result<()> {
    const LIMIT_KIB: u64 = 48 * 1024;
    let server = server_or_skip!(ServerSpec::any_postgres());
    databases(&server).await;
    server
        .postgres("a")
        .await?
        .batch_execute(
            "INSERT INTO t SELECT i, repeat(md5(i::text), 6), i FROM generate_series(3001, 100000) AS i",
        )
        .await?;
    server.postgres("b").await?.batch_execute("TRUNCATE t").await?;
    let directory = tempfile::tempdir().unwrap();
    let words = ["public.t", "-b", "10000", "-u", "500", "-q", "-o", "ndjson"];
    let (status, most) = with_peak(&server, directory.path(), &words).await;
    assert_eq!(status.code(), Some(1));
    let found = reports(directory.path(), "ndjson");
    assert_eq!(
        found[0].lines().count(),
        100_002,
        "a head, the differences, a foot"
    );
    assert!((1..LIMIT_KIB).contains(&most), "{most} KiB");
    Ok(())
}
