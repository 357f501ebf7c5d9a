//! The cache directory: unpacked packages, initialised data directories, remembered failures.
//!
//! Entries are made in a staging directory and renamed into place under a lock, so that parallel processes make each
//! entry once and a killed one leaves no half entry.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Result, SupportError};

/// How long to wait for another process that makes the same entry; longer than the slowest fetch.
const LOCK_TIMEOUT: Duration = Duration::from_secs(900);
/// How often a taken lock is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// `$XDG_CACHE_HOME/changeling`, else `~/.cache/changeling`, else a directory below the temporary one. Root uses
/// `/var/cache/changeling`: PostgreSQL runs as another user, who cannot enter root's home.
pub(crate) fn directory() -> PathBuf {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let of_root = || {
        rustix::process::geteuid()
            .is_root()
            .then(|| PathBuf::from("/var/cache"))
    };
    absolute("XDG_CACHE_HOME")
        .or_else(of_root)
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("changeling")
}

/// Held until dropped; the operating system drops it with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock of a cache entry.
pub(crate) async fn lock(name: &str) -> Result<Lock> {
    let locks = directory().join("locks");
    create(&locks)?;
    let path = locks.join(name);
    let file = File::create(&path).map_err(SupportError::file("create the lock", &path))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(LOCK_POLL).await,
            Err(TryLockError::WouldBlock) => {
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "another process holds it");
                return Err(SupportError::file("take the lock", path)(source));
            }
            Err(TryLockError::Error(source)) => {
                return Err(SupportError::file("take the lock", path)(source));
            }
        }
    }
}

/// A directory that is being made next to its final place; removed unless published.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: tempfile::TempDir,
}

impl Staging {
    /// Starts a new entry whose parent directory is `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        create(parent)?;
        let directory = tempfile::Builder::new()
            .prefix(".staging-")
            .tempdir_in(parent)
            .map_err(SupportError::file("create a directory in", parent))?;
        Ok(Self { directory })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Renames the finished entry into place.
    pub(crate) fn publish(self, place: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let staged = self.directory.keep();
        // A temporary directory is private; servers that run as another user must be able to read the entry.
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o755))
            .and_then(|()| std::fs::rename(&staged, place))
            .map_err(SupportError::file("move a finished cache entry to", place))
    }
}

/// Creates a directory and its parents.
pub(crate) fn create(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(SupportError::file("create", path))
}
