//! The tests' writers by themselves: `cargo run -p changeling-support --example load -- mysql 60`.
//!
//! Says how many of their transactions were ended by a lock in so many seconds without anybody else on the table: what a
//! migration must not be blamed for.

use std::time::Duration;

use changeling_support::ServerSpec;
use changeling_support::load::Load;

const USAGE: &str = "mysql or mariadb, then seconds";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let spec = match words.next().as_deref() {
        Some("mysql") => ServerSpec::mysql(),
        Some("mariadb") => ServerSpec::mariadb(),
        _ => return Err(USAGE.into()),
    };
    let seconds: u64 = words.next().ok_or(USAGE)?.parse()?;
    let server = spec.start().await.map_err(|error| error.to_string())?;
    let load = Load {
        opts: server.mysql_opts().into(),
        table: "`alone`.`orders`".to_owned(),
        writers: 8,
        rows: 5_000,
        seed: 14,
        pause: Duration::ZERO,
    };
    let mut conn = server.mysql().await?;
    mysql_async::prelude::Queryable::query_drop(&mut conn, "CREATE DATABASE alone").await?;
    load.create().await?;
    let running = load.start();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let report = running.stop().await;
    println!(
        "{} transactions, {} ended by a lock, {} among themselves, {} errors, longest {:?}",
        report.committed,
        report.lock_failures,
        report.among_writers,
        report.errors.len(),
        report.longest
    );
    Ok(server.stop().await?)
}
