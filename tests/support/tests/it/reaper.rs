//! A server must not outlive the process that started it, however that process ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use changeling_support::{Result, ServerSpec, server_or_skip};

/// Not a test: the process that is killed. It starts a server, tells where it is, and never ends by itself.
#[tokio::test]
#[ignore = "run by killed_process_leaves_nothing in a process of its own"]
async fn held() -> Result<()> {
    let spec = match std::env::var("CHANGELING_HELD").as_deref() {
        Ok("mysql") => ServerSpec::mysql(),
        Ok("postgres") => ServerSpec::any_postgres(),
        _ => ServerSpec::mariadb(),
    };
    let server = server_or_skip!(spec.dedicated());
    let data = server.data_directory().unwrap_or_default();
    println!(
        "\nHELD {} {} {}",
        server.port(),
        server.process_id().unwrap_or(0),
        data.display()
    );
    std::future::pending().await
}

async fn killed_process_leaves_nothing(which: &str) -> Result<()> {
    // Fetches or skips here, so that the other process need not.
    let spec = match which {
        "mysql" => ServerSpec::mysql(),
        "postgres" => ServerSpec::any_postgres(),
        _ => ServerSpec::mariadb(),
    };
    drop(server_or_skip!(spec.dedicated()));

    let mut holder = Command::new(std::env::current_exe().expect("this test binary has a path"))
        .args(["--exact", "reaper::held", "--ignored", "--nocapture"])
        .env("CHANGELING_HELD", which)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test binary starts again");
    let output = BufReader::new(holder.stdout.take().expect("its output is piped"));
    let line = output
        .lines()
        .map_while(|line| line.ok())
        .find(|line| line.starts_with("HELD "));
    let line = line.expect("the holder tells where its server is");
    let words: Vec<&str> = line.split(' ').collect();
    let port: u16 = words[1].parse().expect("a port");
    assert!(
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(),
        "the server runs"
    );

    holder.kill().expect("kill -9");
    holder.wait().expect("it is dead");
    let killed = Instant::now();
    let directory = Path::new(words[3]).parent().filter(|_| !words[3].is_empty());
    let gone = || {
        let process = words[2] == "0" || !Path::new("/proc").join(words[2]).exists();
        let port_closed = std::net::TcpStream::connect(("127.0.0.1", port)).is_err();
        process && port_closed && directory.is_none_or(|directory| !directory.exists())
    };
    while !gone() {
        assert!(
            killed.elapsed() < Duration::from_secs(20),
            "left behind after kill -9: {line}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{which}: everything gone {:?} after kill -9", killed.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_killed_process_leaves_no_mysql() -> Result<()> {
    killed_process_leaves_nothing("mysql").await
}

#[tokio::test]
async fn a_killed_process_leaves_no_mariadb() -> Result<()> {
    killed_process_leaves_nothing("mariadb").await
}

#[tokio::test]
async fn a_killed_process_leaves_no_postgres() -> Result<()> {
    killed_process_leaves_nothing("postgres").await
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing() -> Result<()> {
    let server = server_or_skip!(ServerSpec::mariadb().dedicated());
    let Some(data) = server.data_directory() else {
        return Ok(());
    };
    drop(server);
    let dropped = Instant::now();
    while data.parent().is_some_and(Path::exists) {
        assert!(
            dropped.elapsed() < Duration::from_secs(20),
            "{} is left behind",
            data.display()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
