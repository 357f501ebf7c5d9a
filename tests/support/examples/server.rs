//! A server by hand, for a look or a script: `cargo run -p changeling-support --example server -- mysql`.
//!
//! Says its address, runs until Ctrl-C, and leaves nothing behind. With `--once` it ends as soon as it has answered,
//! which fills the cache.

use changeling_support::{Flavor, ServerSpec, Version};

const USAGE: &str =
    "one of mysql, mysql-8.4, mariadb, mariadb-11.8, postgres-17, …; then server options, or --once";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut spec = named(&words.next().ok_or(USAGE)?).ok_or(USAGE)?;
    let mut once = false;
    for word in words {
        if word == "--once" {
            once = true;
        } else {
            spec = spec.option(word);
        }
    }
    let server = spec.start().await.map_err(|error| error.to_string())?;
    println!(
        "{} from {}: {}",
        server.full_version(),
        server.source(),
        server.url()
    );
    if !once {
        tokio::signal::ctrl_c().await?;
    }
    Ok(server.stop().await?)
}

fn named(word: &str) -> Option<ServerSpec> {
    let (name, version) = word.split_once('-').unwrap_or((word, ""));
    let flavor = match name {
        "mysql" if version.is_empty() => return Some(ServerSpec::mysql()),
        "mariadb" if version.is_empty() => return Some(ServerSpec::mariadb()),
        "mysql" => Flavor::MySql,
        "mariadb" => Flavor::MariaDb,
        "postgres" => Flavor::Postgres,
        _ => return None,
    };
    Some(ServerSpec::new(flavor, version.parse::<Version>().ok()?))
}
