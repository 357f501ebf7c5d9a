//! Ubuntu's archive, as a second one beside Debian's: where it is, and how its signature is verified on a machine that is
//! no Ubuntu.

use std::path::{Path, PathBuf};

use crate::cache::{self, Staging};
use crate::source::Answer;
use crate::source::apt::{self, Apt, Mirror, Suites};

/// Ubuntu's own well-known addresses: two architectures in one archive, all others in another.
const ARCHIVE: &str = "http://archive.ubuntu.com/ubuntu";
const PORTS: &str = "http://ports.ubuntu.com/ubuntu-ports";

/// The public keys that sign both; in Ubuntu and in Debian the same package has them, at the same place.
const KEYRING: &str = "usr/share/keyrings/ubuntu-archive-keyring.gpg";
const KEYRING_PACKAGE: &str = "ubuntu-keyring";
/// Of Debian's suites, the oldest that has the package.
const KEYRING_SUITES: Suites = Suites::main(&["trixie"]);

/// The archive for this machine's architecture, with the keys that sign it; otherwise the reason why not.
pub(crate) async fn mirror() -> Answer<Mirror> {
    let uri = match std::env::consts::ARCH {
        "x86_64" | "x86" => ARCHIVE,
        _ => PORTS,
    };
    Ok(keyring().await?.map(|keyring| Mirror {
        uri: uri.into(),
        keyring: Some(keyring),
    }))
}

/// The machine's own keyring, else the one that Debian packages: Debian's signature vouches for Ubuntu's key then.
async fn keyring() -> Answer<PathBuf> {
    let installed = Path::new("/").join(KEYRING);
    if installed.exists() {
        return Ok(Ok(installed));
    }
    let root = cache::directory().join("packages").join(KEYRING_PACKAGE);
    let cached = root.join(KEYRING);
    if !cached.exists() {
        let _lock = cache::lock(&format!("packages-{KEYRING_PACKAGE}")).await?;
        if !cached.exists()
            && let Err(reason) = fetch_keyring(&root).await?
        {
            return Ok(Err(format!("Ubuntu's signing key cannot be had: {reason}")));
        }
    }
    Ok(Ok(cached))
}

async fn fetch_keyring(root: &Path) -> Answer<()> {
    let mirror = match Mirror::of_this_machine() {
        Ok(mirror) => mirror,
        Err(reason) => return Ok(Err(reason)),
    };
    let parent = root.parent().unwrap_or(Path::new("/"));
    let work = Staging::new(parent)?;
    let staging = Staging::new(parent)?;
    let unpacked = async {
        let apt = Apt::open(&mirror, &KEYRING_SUITES, work.path()).await?;
        let files = apt.fetch(&[KEYRING_PACKAGE], &[]).await?;
        apt::unpack(&files, staging.path()).await
    };
    if let Err(error) = unpacked.await {
        return Ok(Err(format!("apt with {}: {error}", mirror.uri)));
    }
    if !staging.path().join(KEYRING).exists() {
        return Ok(Err(format!("package {KEYRING_PACKAGE} has no {KEYRING}")));
    }
    staging.publish(root)?;
    Ok(Ok(()))
}
