//! Server programs on this machine: installed ones, and unpacked packages that run through their own loader.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::source::SourceKind;
use crate::spec::Version;

/// Programs and data files of one server.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) source: SourceKind,
    pub(crate) version: Version,
    /// What the server calls its version, to keep template data directories apart.
    pub(crate) build: String,
    /// The server program; for PostgreSQL `postgres`, with `initdb` beside it.
    pub(crate) program: PathBuf,
    /// The prefix, `/usr`, of unpacked packages or of an installed server.
    pub(crate) prefix: PathBuf,
    /// Present where the machine's own loader and libraries must not be used.
    pub(crate) loader: Option<Loader>,
}

/// The dynamic loader of unpacked packages.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    pub(crate) program: PathBuf,
    pub(crate) library_path: OsString,
}

impl Installation {
    /// The first words of a command line that runs `program` of this installation.
    pub(crate) fn launch(&self, program: &Path) -> Vec<OsString> {
        let mut words = Vec::new();
        if let Some(loader) = &self.loader {
            words.push(loader.program.clone().into_os_string());
            words.push("--library-path".into());
            words.push(loader.library_path.clone());
        }
        words.push(program.as_os_str().to_owned());
        words
    }

    pub(crate) fn is_unpacked(&self) -> bool {
        self.loader.is_some()
    }

    /// The first of these directories below the prefix that exists and holds `file`.
    pub(crate) fn directory_with(&self, candidates: &[&str], file: &str) -> Option<PathBuf> {
        candidates
            .iter()
            .map(|candidate| self.prefix.join(candidate))
            .find(|path| path.join(file).exists())
    }
}

/// `--name=path`, for paths of any bytes.
pub(crate) fn path_option(name: &str, path: impl AsRef<OsStr>) -> OsString {
    let mut option = OsString::from(name);
    option.push("=");
    option.push(path.as_ref());
    option
}
