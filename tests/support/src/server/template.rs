//! Initialised data directories, made once per version and copied for every server: a copy takes a tenth of the time.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::cache::{self, Staging};
use crate::command;
use crate::error::Result;
use crate::installation::Installation;
use crate::spec::{Flavor, ServerSpec};

/// Initialising is 3 s when nothing disturbs.
pub(super) const INITIALISE_TIMEOUT: Duration = Duration::from_secs(300);
/// Copying is 200 MB at worst.
const COPY_TIMEOUT: Duration = Duration::from_secs(120);

/// Raised whenever the way templates are made changes, so that old ones are not used.
const RECIPE: u32 = 1;

/// Options that shape the data directory and therefore must be given when it is initialised.
const SHAPING: [&str; 8] = [
    "--lower-case-table-names",
    "--innodb-page-size",
    "--innodb-data-file-path",
    "--innodb-undo-tablespaces",
    "--innodb-checksum-algorithm",
    "--innodb-log-block-size",
    "--character-set-system",
    "--initialize",
];

/// Those of the wanted options that shape the data directory.
pub(super) fn shaping_options(spec: &ServerSpec) -> Vec<OsString> {
    let shapes = |option: &&String| {
        let name = option.split('=').next().unwrap_or_default().replace('_', "-");
        SHAPING.contains(&name.as_str())
    };
    spec.options.iter().filter(shapes).map(OsString::from).collect()
}

/// The place of the template for these options, `data` below it; made by `initialise` if it is not there yet.
pub(super) async fn prepared(
    spec: &ServerSpec,
    installation: &Installation,
    initialise: impl AsyncFnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (
        RECIPE,
        &installation.build,
        &installation.program,
        shaping_options(spec),
    )
        .hash(&mut hasher);
    let name = format!(
        "{}-{}-{:016x}",
        spec.flavor.word(),
        installation.version,
        hasher.finish()
    );
    let parent = cache::directory().join("templates");
    let place = parent.join(&name);
    if !place.exists() {
        let _lock = cache::lock(&format!("template-{name}")).await?;
        if !place.exists() {
            let staging = Staging::new(&parent)?;
            initialise(staging.path()).await?;
            staging.publish(&place)?;
        }
    }
    Ok(place.join("data"))
}

/// Copies a template, by reference where the file system can, leaving runs of zeros (new log files) out.
pub(super) async fn copy(flavor: Flavor, template: &Path, data: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    let fast = ["-a", "--reflink=auto", "--sparse=always"];
    copy.args(if cfg!(target_os = "linux") {
        &fast[..]
    } else {
        &["-pR"]
    });
    command::run(copy.arg(template).arg(data), COPY_TIMEOUT).await?;
    if flavor == Flavor::MySql {
        // Holds the server's UUID, which must differ from server to server; it makes a new one.
        let _ = std::fs::remove_file(data.join("auto.cnf"));
    }
    Ok(())
}
