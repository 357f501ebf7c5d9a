//! The second way: a container of the image that `compose.yaml` names.
//!
//! The docker command line is driven directly. The testcontainers crate would bring an HTTP client and its own idea of
//! clean-up (a second container), could not use the engine of a `docker context`, and cannot pause or restart with the
//! same port; what is needed here is eight commands.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::process::Command;

use crate::cache;
use crate::command;
use crate::error::Result;
use crate::source::Answer;
use crate::spec::ServerSpec;

const COMPOSE: &str = include_str!("../../compose.yaml");

/// An engine that does not answer in this time does not count.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(15);
/// A pull that takes longer is given up: images are 50 to 250 MB.
const PULL_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a failed pull is remembered, by all processes through the cache directory.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(3600);

/// What is known about images in this process: present, or the reason why not.
static KNOWN: Mutex<Option<HashMap<String, std::result::Result<(), String>>>> = Mutex::new(None);

/// The name of an image that is present.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) name: String,
}

pub(crate) async fn find(spec: &ServerSpec) -> Answer<Image> {
    let service = format!("{}-{}", spec.flavor.word(), spec.version.of(spec.flavor));
    let Some(name) = image_of(&service) else {
        return Ok(Err(format!("compose.yaml has no service {service}")));
    };
    if let Some(answer) = known(&name, None) {
        return Ok(answer.map(|()| Image { name }));
    }
    let answer = present_or_pulled(&name).await?;
    known(&name, Some(answer.clone()));
    Ok(answer.map(|()| Image { name }))
}

fn known(
    name: &str,
    learned: Option<std::result::Result<(), String>>,
) -> Option<std::result::Result<(), String>> {
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(answer) = learned {
        known.insert(name.to_owned(), answer);
    }
    known.get(name).cloned()
}

async fn present_or_pulled(name: &str) -> Answer<()> {
    if let Err(reason) = engine().await {
        return Ok(Err(reason));
    }
    if run(&["image", "inspect", "--format", "{{.Id}}", name], ENGINE_TIMEOUT)
        .await
        .is_ok()
    {
        return Ok(Ok(()));
    }
    // One process pulls, the others wait and find the image or the remembered failure.
    let file_name = name.replace(['/', ':'], "_");
    let _lock = cache::lock(&format!("pull-{file_name}")).await?;
    let failures = cache::directory().join("failed-pulls");
    cache::create(&failures)?;
    let failure = failures.join(file_name);
    let recently = |age: SystemTime| age.elapsed().is_ok_and(|age| age < FAILURE_REMEMBERED);
    if failure
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(recently)
    {
        let reason = std::fs::read_to_string(&failure).unwrap_or_default();
        return Ok(Err(format!("{reason} (remembered in {})", failure.display())));
    }
    match run(&["pull", "--quiet", name], PULL_TIMEOUT).await {
        Ok(_) => {
            let _ = std::fs::remove_file(&failure);
            Ok(Ok(()))
        }
        Err(error) => {
            let text = error.to_string().replace('\n', " ");
            let reason = format!(
                "image {name} is not present and cannot be pulled: {}",
                text.trim()
            );
            let _ = std::fs::write(&failure, &reason);
            Ok(Err(reason))
        }
    }
}

async fn engine() -> std::result::Result<(), String> {
    let asked = run(&["version", "--format", "{{.Server.Version}}"], ENGINE_TIMEOUT).await;
    asked.map(drop).map_err(|_| "no Docker engine answers".to_owned())
}

/// Runs a docker command.
pub(crate) async fn run(words: &[&str], limit: Duration) -> Result<String> {
    command::run(Command::new("docker").args(words), limit).await
}

/// The image of a service of compose.yaml. The file is ours and plain: two spaces of indentation a level.
fn image_of(service: &str) -> Option<String> {
    let header = format!("  {service}:");
    let mut lines = COMPOSE.lines().skip_while(|line| *line != header).skip(1);
    lines
        .by_ref()
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .find_map(|line| line.strip_prefix("    image: "))
        .map(|image| image.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_name_their_images() {
        assert_eq!(image_of("mysql-9.7").as_deref(), Some("mysql:9.7"));
        assert_eq!(image_of("mariadb-10.11").as_deref(), Some("mariadb:10.11"));
        assert_eq!(image_of("postgres-18").as_deref(), Some("postgres:18"));
        assert_eq!(image_of("postgres-9"), None);
    }
}
