//! Every way to a server that is available here; the others are counted as skips.

use std::process::Command;
use std::time::Instant;

use changeling_support::{Flavor, Result, ServerSpec, SourceKind, server_or_skip, skip};

/// Not a test: one start, in a process whose environment allows one way only.
#[tokio::test]
#[ignore = "run by the tests below in a process with an environment of its own"]
async fn started() -> Result<()> {
    let flavor = std::env::var("CHANGELING_WAY_FLAVOR").unwrap_or_default();
    let spec = match flavor.as_str() {
        "mysql" => ServerSpec::mysql(),
        "mariadb" => ServerSpec::mariadb(),
        "mariadb-11.8" => ServerSpec::mariadb_11_8(),
        "postgres-17" => ServerSpec::postgres(17),
        "postgres-18" => ServerSpec::postgres(18),
        _ => ServerSpec::any_postgres(),
    };
    let begun = Instant::now();
    let Some(server) = skip::unless_available(&format!("sources::{flavor}"), spec.start().await)? else {
        println!("\nWAY none");
        return Ok(());
    };
    println!(
        "\nWAY {} {} {:?}",
        server.source(),
        server.full_version(),
        begun.elapsed()
    );
    assert!(server.version().major >= spec.version().major);
    assert_eq!(server.is_shared(), server.source() == SourceKind::Address);
    server.stop().await
}

/// Starts a server in a process that allows one way only. The environment of this process stays untouched.
fn through(way: &str, flavor: &str, address: Option<(&str, &str)>) {
    let mut command = Command::new(std::env::current_exe().expect("this test binary has a path"));
    command.args(["--exact", "sources::started", "--ignored", "--nocapture"]);
    command
        .env("CHANGELING_SERVERS", way)
        .env("CHANGELING_WAY_FLAVOR", flavor);
    command.envs(address);
    let output = command.output().expect("this test binary starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text
        .lines()
        .find(|line| line.starts_with("WAY "))
        .expect("it tells the way");
    println!("{flavor} through {way}: {line}");
    assert!(
        line == "WAY none" || line.starts_with(&format!("WAY {way} ")),
        "{line}"
    );
}

#[test]
fn through_packages() {
    for flavor in ["mysql", "mariadb", "mariadb-11.8", "postgres-17", "postgres-18"] {
        through("packages", flavor, None);
    }
}

#[test]
fn through_the_machines_own_programs() {
    for flavor in ["mysql", "mariadb", "postgres-15"] {
        through("local", flavor, None);
    }
}

#[test]
fn through_containers() {
    for flavor in ["mysql", "mariadb", "postgres-17"] {
        through("container", flavor, None);
    }
}

#[test]
fn a_version_that_cannot_be_read_is_refused() {
    let output = Command::new(std::env::current_exe().expect("this test binary has a path"))
        .args(["--exact", "sources::started", "--ignored", "--nocapture"])
        .env("CHANGELING_WAY_FLAVOR", "mysql")
        .env("CHANGELING_TEST_MYSQL_VERSION", "eight")
        .output()
        .expect("this test binary starts again");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("CHANGELING_TEST_MYSQL_VERSION=eight"), "{text}");
}

#[tokio::test]
async fn through_an_address() -> Result<()> {
    for spec in [
        ServerSpec::mysql(),
        ServerSpec::mariadb(),
        ServerSpec::any_postgres(),
    ] {
        let server = server_or_skip!(spec.dedicated());
        let (flavor, variable) = match server.flavor() {
            Flavor::MySql => ("mysql", "CHANGELING_TEST_MYSQL"),
            Flavor::MariaDb => ("mariadb", "CHANGELING_TEST_MARIADB"),
            Flavor::Postgres => ("postgres-15", "CHANGELING_TEST_POSTGRES"),
        };
        let url = server.url();
        tokio::task::spawn_blocking(move || through("address", flavor, Some((variable, &url))))
            .await
            .expect("the other process starts its server");
        server.stop().await?;
    }
    Ok(())
}
