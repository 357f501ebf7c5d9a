//! A browser without a screen, for tests of pages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::cache::{self, Staging};
use crate::command;
use crate::error::{Result, SupportError};
use crate::source::apt::{self, Apt, Mirror, Suites};

/// The variable that names the program to use: a Chromium or Chrome.
const PROGRAM: &str = "CHANGELING_BROWSER";

/// Programs looked for on the machine.
const KNOWN: [&str; 5] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

const SUITE: &str = "bookworm";
const PACKAGE: &str = "chromium-headless-shell";

/// Not needed by a browser that shows nothing. The C library is the machine's: the browser starts itself again and
/// again, and would not find a loader that is not where it expects it.
const UNNEEDED: [&str; 14] = [
    "libc6",
    "libc-bin",
    "libgcc-s1",
    "gcc-12-base",
    "perl",
    "libperl",
    "debconf",
    "adduser",
    "passwd",
    "base-",
    "systemd",
    "ucf",
    "xdg-utils",
    "sensible-utils",
];

/// A page may take so long to answer.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long a browser may take to say what it is, on a busy machine.
const HELLO: Duration = Duration::from_secs(60);

/// A browser that was found and does start.
#[derive(Clone, Debug)]
pub struct Browser {
    program: PathBuf,
    libraries: Option<OsString>,
}

impl Browser {
    /// Finds one: named by `CHANGELING_BROWSER`, installed, or unpacked once from Debian's packages into the cache.
    ///
    /// The inner error says why there is none here: a reason to skip a test.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub async fn find() -> Result<std::result::Result<Self, String>> {
        let mut reasons = Vec::new();
        let named = std::env::var_os(PROGRAM).map(PathBuf::from);
        let installed = KNOWN.iter().map(PathBuf::from);
        for program in named.into_iter().chain(installed) {
            let browser = Self {
                program,
                libraries: None,
            };
            if browser.starts().await {
                return Ok(Ok(browser));
            }
            reasons.push(format!("{}: not here", browser.program.display()));
        }
        match unpacked().await? {
            Ok(browser) if browser.starts().await => return Ok(Ok(browser)),
            Ok(browser) => reasons.push(format!("{}: does not start", browser.program.display())),
            Err(reason) => reasons.push(format!("packages: {reason}")),
        }
        Ok(Err(format!(
            "no browser can be had here ({}); install chromium, or name one in {PROGRAM}",
            reasons.join("; ")
        )))
    }

    async fn starts(&self) -> bool {
        let hello = command::finish(self.command().arg("--version"), HELLO).await;
        hello.is_ok_and(|output| output.status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Opens a page and waits until it goes to the address behind the `#` of its own, with a question mark and an answer
    /// added to it: `location.href = location.hash.slice(1) + '?' + encodeURIComponent(answer)`. Gives the answer.
    ///
    /// # Errors
    /// The browser cannot be started, or there is no answer within three minutes.
    pub async fn answer_of(&self, file: &Path) -> Result<String> {
        let profile =
            tempfile::tempdir().map_err(SupportError::file("create a directory in", std::env::temp_dir()))?;
        let heard = |source| SupportError::file("listen for the answer of", file)(source);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(heard)?;
        let port = listener.local_addr().map_err(heard)?.port();
        let mut data = OsString::from("--user-data-dir=");
        data.push(profile.path());
        let mut address = OsString::from("file://");
        address.push(file);
        address.push(format!("#http://127.0.0.1:{port}/"));
        let mut command = self.command();
        command
            .args([
                "--headless",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--window-size=1400,1000",
            ])
            // The page is of the test's own making, and root may not start a browser otherwise.
            .arg("--no-sandbox")
            // Keeps it open until it is killed.
            .arg("--remote-debugging-port=0")
            .arg(data)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut browser = command.spawn().map_err(|source| SupportError::Spawn {
            command: self.program.display().to_string(),
            source,
        })?;
        let answer = tokio::time::timeout(PATIENCE, first_request(&listener)).await;
        let _ = browser.kill().await;
        match answer {
            Ok(answer) => answer.map_err(heard),
            Err(_) => Err(SupportError::Command {
                command: self.program.display().to_string(),
                outcome: format!("the page gave no answer within {} s", PATIENCE.as_secs()),
                output: String::new(),
            }),
        }
    }
}

/// What stands behind the question mark of the first request.
async fn first_request(listener: &TcpListener) -> std::io::Result<String> {
    let (stream, _) = listener.accept().await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    let query = line
        .split_whitespace()
        .nth(1)
        .and_then(|path| path.split_once('?'));
    Ok(query.map(|(_, query)| unescaped(query)).unwrap_or_default())
}

/// `%41` is `A`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = &after[if code.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn unpacked() -> Result<std::result::Result<Browser, String>> {
    let root = cache::directory()
        .join("packages")
        .join(format!("{PACKAGE}-{SUITE}-{}", std::env::consts::ARCH));
    if !root.exists() {
        let _lock = cache::lock(&format!("packages-{PACKAGE}")).await?;
        if !root.exists()
            && let Err(reason) = fetch(&root).await?
        {
            return Ok(Err(reason));
        }
    }
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let directories = [
        root.join("usr/lib").join(&triplet),
        root.join("lib").join(&triplet),
        root.join("usr/lib").join(&triplet).join("pulseaudio"),
    ];
    Ok(Ok(Browser {
        program: root.join("usr/lib/chromium").join(PACKAGE),
        libraries: std::env::join_paths(directories).ok(),
    }))
}

async fn fetch(root: &Path) -> Result<std::result::Result<(), String>> {
    let mirror = match Mirror::of_this_machine() {
        Ok(mirror) => mirror,
        Err(reason) => return Ok(Err(reason)),
    };
    let parent = root.parent().unwrap_or(Path::new("/"));
    let work = Staging::new(parent)?;
    let fetched = match Apt::open(&mirror, &Suites::main(&[SUITE]), work.path()).await {
        Ok(apt) => apt.fetch(&[PACKAGE], &UNNEEDED).await,
        Err(error) => Err(error),
    };
    let files = match fetched {
        Ok(files) => files,
        Err(error) => return Ok(Err(format!("apt with {}: {error}", mirror.uri))),
    };
    let staging = Staging::new(parent)?;
    apt::unpack(&files, staging.path()).await?;
    staging.publish(root)?;
    Ok(Ok(()))
}
