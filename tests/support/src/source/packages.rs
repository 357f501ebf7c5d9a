//! The fourth way: packages of Debian or Ubuntu, unpacked once into the cache directory and run through their own loader.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::cache::{self, Staging};
use crate::command;
use crate::error::{Result, SupportError};
use crate::installation::{Installation, Loader};
use crate::source::apt::{self, Apt};
use crate::source::product::Product;
use crate::source::{Answer, SourceKind};
use crate::spec::{Flavor, ServerSpec, Version};

/// `--version` of a tool answers at once; a minute covers a cold disk.
const VERSION_TIMEOUT: Duration = Duration::from_secs(60);

/// Needed by maintainer scripts and tools, not by a server that runs: about 30 MB less to fetch.
const UNNEEDED: [&str; 23] = [
    "perl",
    "libperl",
    "debconf",
    "libdebconf",
    "adduser",
    "passwd",
    "base-passwd",
    "login",
    "systemd",
    "sysvinit",
    "init-system",
    "locales",
    "libc-l10n",
    "ucf",
    "ssl-cert",
    "openssl",
    "postgresql-common",
    "libipc-run",
    "libio-pty",
    "libjson-perl",
    "libtext-",
    "procps",
    "sensible-utils",
];

/// The file whose presence says that a root is whole; it holds the server's version.
const VERSION_FILE: &str = "changeling-version";

pub(crate) async fn find(spec: &ServerSpec) -> Answer<Installation> {
    let Some(product) = Product::of(spec) else {
        return Ok(Err(format!("neither Debian nor Ubuntu packages {spec}")));
    };
    let architecture = std::env::consts::ARCH;
    let name = format!(
        "{}-{}-{}-{architecture}",
        spec.flavor.word(),
        spec.version.of(spec.flavor),
        product.suite()
    );
    let root = cache::directory().join("packages").join(&name);
    if !root.join(VERSION_FILE).exists() {
        let _lock = cache::lock(&format!("packages-{name}")).await?;
        if !root.join(VERSION_FILE).exists()
            && let Err(reason) = fetch(spec, &product, &root).await?
        {
            return Ok(Err(reason));
        }
    }
    let installation = open(spec, &root)?;
    if !installation.version.fits(spec.flavor, spec.version) {
        let reason = format!(
            "{} {} has {} {} by now",
            product.distribution.name(),
            product.suite(),
            spec.flavor,
            installation.version
        );
        return Ok(Err(reason));
    }
    Ok(Ok(installation))
}

async fn fetch(spec: &ServerSpec, product: &Product, root: &Path) -> Answer<()> {
    for tool in ["apt-get", "dpkg-deb"] {
        let there = command::finish(Command::new(tool).arg("--version"), VERSION_TIMEOUT).await;
        if there.is_err() {
            return Ok(Err(format!("{tool} is not here, so packages cannot be had")));
        }
    }
    let mirror = match product.distribution.mirror().await? {
        Ok(mirror) => mirror,
        Err(reason) => return Ok(Err(reason)),
    };
    let parent = root.parent().unwrap_or(Path::new("/"));
    let work = Staging::new(parent)?;
    tracing::info!(server = %spec, suite = product.suite(), "fetching packages, once");
    let packages: Vec<&str> = product.packages.iter().map(String::as_str).collect();
    // A mirror out of reach is one more reason why this way does not work here, not the end of the search.
    let fetched = match Apt::open(&mirror, &product.suites, work.path()).await {
        Ok(apt) => apt.fetch(&packages, &UNNEEDED).await,
        Err(error) => Err(error),
    };
    let files = match fetched {
        Ok(files) => files,
        Err(error) => return Ok(Err(format!("apt with {}: {error}", mirror.uri))),
    };

    let staging = Staging::new(parent)?;
    apt::unpack(&files, staging.path()).await?;
    for bulk in [
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/i18n",
    ] {
        let _ = std::fs::remove_dir_all(staging.path().join(bulk));
    }
    let version = server_package_version(&product.packages[0], &files).unwrap_or_default();
    if spec.flavor == Flavor::Postgres {
        wrap_postgres(spec, staging.path())?;
    }
    let file = staging.path().join(VERSION_FILE);
    std::fs::write(&file, version).map_err(SupportError::file("write", &file))?;
    staging.publish(root)?;
    Ok(Ok(()))
}

/// `mysql-server-core_9.7.4-2_amd64.deb` is 9.7.4-2; an epoch is written `1%3a`.
fn server_package_version(package: &str, files: &[PathBuf]) -> Option<String> {
    files.iter().find_map(|path| {
        let name = path.file_name()?.to_str()?;
        let version = name.strip_prefix(package)?.strip_prefix('_')?.split('_').next()?;
        Some(version.rsplit("%3a").next().unwrap_or(version).to_owned())
    })
}

/// PostgreSQL's initdb starts `postgres` itself and knows nothing of our loader, so a script of that name stands in the
/// program's place. It finds its root from its own path, because the root is renamed after this.
fn wrap_postgres(spec: &ServerSpec, root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let bin = root.join(format!("usr/lib/postgresql/{}/bin", spec.version.major));
    let (program, moved) = (bin.join("postgres"), bin.join("postgres.elf"));
    std::fs::rename(&program, &moved).map_err(SupportError::file("rename", &program))?;
    let loader = loader(root)?;
    let inside = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let libraries: Vec<String> = std::env::split_paths(&loader.library_path)
        .map(|path| format!("$root/{}", inside(&path)))
        .collect();
    let script = format!(
        "#!/bin/sh\nroot=${{0%/usr/lib/postgresql/*}}\nexec \"$root/{}\" --argv0 \"$0\" --library-path \"{}\" \"$0.elf\" \"$@\"\n",
        inside(&loader.program),
        libraries.join(":"),
    );
    std::fs::write(&program, script)
        .and_then(|()| std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)))
        .map_err(SupportError::file("write", &program))
}

fn open(spec: &ServerSpec, root: &Path) -> Result<Installation> {
    let file = root.join(VERSION_FILE);
    let build = std::fs::read_to_string(&file).map_err(SupportError::file("read", &file))?;
    let version = build.parse::<Version>().map_err(SupportError::Unsupported)?;
    let program = match spec.flavor {
        Flavor::MySql => "usr/sbin/mysqld".to_owned(),
        Flavor::MariaDb => "usr/sbin/mariadbd".to_owned(),
        Flavor::Postgres => format!("usr/lib/postgresql/{}/bin/postgres", spec.version.major),
    };
    Ok(Installation {
        source: SourceKind::Packages,
        version,
        build,
        program: root.join(program),
        prefix: root.join("usr"),
        loader: Some(loader(root)?),
    })
}

/// The loader and the library directories of a root, whatever the architecture calls them.
fn loader(root: &Path) -> Result<Loader> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    // Before Debian 13 the C library lives in /lib, which a merged system links to /usr/lib and an unpacked root does not.
    let directories = [
        root.join("lib").join(&triplet),
        root.join("usr/lib").join(&triplet),
    ];
    let program = directories.iter().find_map(|directory| {
        let entries = std::fs::read_dir(directory).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.starts_with("ld-linux") && name.contains(".so.")
        })
    });
    let Some(program) = program else {
        let hint = format!(
            "no loader for {triplet} in {}; delete that directory to fetch it anew",
            root.display()
        );
        return Err(SupportError::Unsupported(hint));
    };
    let existing: Vec<&PathBuf> = directories.iter().filter(|path| path.is_dir()).collect();
    let library_path = std::env::join_paths(existing).unwrap_or_else(|_| OsString::new());
    Ok(Loader {
        program,
        library_path,
    })
}
