//! The server that is measured on.

use anyhow::{Result, bail};
use changeling_applier::settings::{Endpoint, MigrationSettings, Permission, Place, Purpose};
use changeling_core::ident::TableName;
use changeling_support::{Durability, Flavor, Server, ServerSpec};

use crate::{parameter, report};

/// `USER_HZ`, the same on every Linux whatever its kernel ticks at.
const TICKS_PER_SECOND: f64 = 100.0;

/// Starts the server that the environment asks for, and says what it is.
///
/// # Errors
/// When there is none, or a variable says nonsense.
pub async fn server() -> Result<Server> {
    let flavor: String = parameter::value("FLAVOR", "mysql".to_owned())?;
    let durability: String = parameter::value("DURABILITY", "full".to_owned())?;
    let pool: u32 = parameter::value("BUFFER_POOL_MIB", 1024)?;
    let mut spec = match flavor.as_str() {
        "mysql" => ServerSpec::mysql(),
        "mariadb" => ServerSpec::mariadb(),
        other => bail!("CHANGELING_BENCH_FLAVOR={other}: mysql or mariadb"),
    };
    spec = spec
        .dedicated()
        .buffer_pool_mib(pool)
        .durability(match durability.as_str() {
            "full" => Durability::Full,
            "relaxed" => Durability::Relaxed,
            other => bail!("CHANGELING_BENCH_DURABILITY={other}: full or relaxed"),
        });
    let options: Vec<String> = parameter::list("SERVER_OPTIONS", "")?;
    for option in &options {
        spec = spec.option(option.clone());
    }
    let server = spec.start().await?;
    println!(
        "{} {}, durability {durability}, buffer pool {pool} MiB{}{}; {} processors, load average {}",
        server.flavor(),
        server.full_version(),
        if options.is_empty() { "" } else { ", " },
        options.join(" "),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        report::load_average()
    );
    Ok(server)
}

/// Whether the server is MariaDB.
#[must_use]
pub fn is_mariadb(server: &Server) -> bool {
    server.flavor() == Flavor::MariaDb
}

/// Settings of a migration inside this process, on the server itself.
#[must_use]
pub fn settings(server: &Server, table: &TableName, alter: &str) -> MigrationSettings {
    let endpoint = Endpoint {
        host: server.host().to_owned(),
        port: server.port(),
        user: server.user().to_owned(),
        password: server.password().to_owned().into(),
    };
    let mut settings = MigrationSettings::new(table.clone(), alter, endpoint);
    settings.purpose = Purpose::Execute;
    settings.place = Place::Primary {
        inspect_primary: Permission::Granted,
    };
    settings.server_id = 100_000 + u32::from(server.port());
    settings
}

/// Processor seconds that a process of this machine has used.
#[must_use]
pub fn processor_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th word after it.
    let words: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        words
            .get(index)
            .and_then(|word| word.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// Processor seconds that this thread has used, in nanosecond steps: what a busy machine does not spoil. Nothing where
/// there is no `/proc`.
#[must_use]
pub fn thread_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos: f64 = stat.split_whitespace().next()?.parse().ok()?;
    Some(nanos / 1e9)
}
