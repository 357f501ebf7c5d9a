//! The program, run as an operator runs it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use changeling_support::Server;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::binary;

/// How long a run may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at what it has said.
const LOOK: Duration = Duration::from_millis(10);

/// Each reader of a binary log has a server id of its own.
fn server_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Several test processes may read from one server.
    500_000_000 + std::process::id() % 1_000_000 * 1000 + NEXT.fetch_add(1, Ordering::Relaxed) % 1000
}

/// A command line to be.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    words: Vec<OsString>,
    variables: Vec<(String, String)>,
    directory: Arc<TempDir>,
}

impl Job {
    /// The flags that every gh-ost command line has, with a dry run's meaning.
    pub(crate) fn new(server: &Server, database: &str, table: &str, alter: &str) -> Self {
        let job = Self::bare()
            .flag("--host", server.host())
            .flag("--port", server.port())
            .flag("--user", server.user())
            .flag("--password", server.password())
            .flag("--database", database)
            .flag("--table", table)
            .flag("--alter", alter)
            .flag("--replica-server-id", server_id())
            .flag("--throttle-additional-flag-file", "");
        let socket = job.socket();
        job.flag("--serve-socket-file", socket.display())
    }

    /// On the primary itself, for good.
    pub(crate) fn execute(server: &Server, database: &str, table: &str, alter: &str) -> Self {
        Self::new(server, database, table, alter)
            .with("--allow-on-master")
            .with("--verbose")
            .with("--execute")
    }

    /// No flags at all.
    pub(crate) fn bare() -> Self {
        Self {
            words: Vec::new(),
            variables: Vec::new(),
            directory: Arc::new(tempfile::tempdir().expect("a temporary directory")),
        }
    }

    /// Adds a word.
    pub(crate) fn with(mut self, word: impl Into<OsString>) -> Self {
        self.words.push(word.into());
        self
    }

    /// Adds a flag with a value.
    pub(crate) fn flag(self, name: &str, value: impl std::fmt::Display) -> Self {
        self.with(format!("{name}={value}"))
    }

    /// Takes a flag away again.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let prefix = format!("{name}=");
        self.words.retain(|word| {
            let word = word.to_string_lossy();
            word != name && !word.starts_with(&prefix)
        });
        self
    }

    /// Sets an environment variable.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Slow enough to be caught in the middle, checkpoints often.
    pub(crate) fn slow(self) -> Self {
        self.flag("--chunk-size", 10)
            .flag("--chunk-time", 0)
            .flag("--copy-workers", 1)
            .flag("--nice-ratio", 12)
            .flag("--checkpoint-seconds", 1)
    }

    /// A path for this job's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Running {
        let mut child = Command::new(binary::path())
            .args(&self.words)
            .env_clear()
            .envs(
                ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"]
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("HOME", self.directory.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program can be started");
        let (output, errors) = (Heard::default(), Heard::default());
        let readers = [
            output.listen(child.stdout.take().expect("it is piped")),
            errors.listen(child.stderr.take().expect("it is piped")),
        ];
        Running {
            child,
            output,
            errors,
            readers,
            socket: self.socket(),
            _directory: Arc::clone(&self.directory),
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self) -> anyhow::Result<Ended> {
        self.start().end().await
    }

    /// Runs it to its end, which must be a success.
    pub(crate) async fn succeed(&self) -> anyhow::Result<Ended> {
        let ended = self.run().await?;
        ensure!(ended.succeeded(), "{ended}");
        Ok(ended)
    }

    /// Runs it to its end, which must be a failure that says all of this.
    pub(crate) async fn fail(&self, says: &[&str]) -> anyhow::Result<Ended> {
        let ended = self.run().await?;
        ended.must_have_failed(says)?;
        Ok(ended)
    }
}

/// Text that grows.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn listen(&self, mut from: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let heard = self.clone();
        tokio::spawn(async move {
            let mut piece = vec![0; 4096];
            while let Ok(length @ 1..) = from.read(&mut piece).await {
                heard
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&piece[..length]);
            }
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// The program, while it runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: Heard,
    errors: Heard,
    readers: [JoinHandle<()>; 2],
    socket: PathBuf,
    _directory: Arc<TempDir>,
}

impl Running {
    /// What it has written to standard output.
    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// What it has written to standard error.
    pub(crate) fn errors(&self) -> String {
        self.errors.text()
    }

    /// Waits until it has said this, on either.
    pub(crate) async fn says(&mut self, text: &str) -> anyhow::Result<()> {
        self.until(&format!("says {text:?}"), |output, errors| {
            output.contains(text) || errors.contains(text)
        })
        .await
    }

    /// Waits until what it has said is so.
    pub(crate) async fn until(&mut self, what: &str, so: impl Fn(&str, &str) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let ended = self.child.try_wait()?;
            let (output, errors) = (self.output(), self.errors());
            if so(&output, &errors) {
                return Ok(());
            }
            if let Some(status) = ended {
                // The rest of what it said may still be on its way.
                tokio::time::sleep(LOOK * 5).await;
                let (output, errors) = (self.output(), self.errors());
                ensure!(
                    so(&output, &errors),
                    "ended with {status} before it {what}:\n{output}\n{errors}"
                );
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "never {what}:\n{output}\n{errors}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives it commands by its socket, as `changeling tell` does.
    pub(crate) async fn tell(&self, command: &str) -> anyhow::Result<String> {
        let told = Command::new(binary::path())
            .arg("tell")
            .arg("--socket")
            .arg(&self.socket)
            .arg(command)
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&told.stderr);
        ensure!(told.status.success(), "tell {command}: {errors}");
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
    }

    /// Writes a line to its socket, as `echo … | nc -U` does.
    pub(crate) async fn pipe(&self, line: &str) -> anyhow::Result<String> {
        let mut stream = tokio::net::UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Rows copied so far, as the command `sup` shows them.
    pub(crate) async fn rows_copied(&self) -> anyhow::Result<u64> {
        let line = self.tell("sup").await?;
        let rows = line
            .strip_prefix("Copy: ")
            .and_then(|rest| rest.split('/').next());
        rows.and_then(|rows| rows.parse().ok())
            .with_context(|| format!("no status line: {line}"))
    }

    /// Waits until the status line holds this.
    pub(crate) async fn shows(&self, text: &str) -> anyhow::Result<()> {
        self.showing(text, true).await
    }

    async fn showing(&self, text: &str, there: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let line = self
                .tell("sup")
                .await
                .map_err(|error| error.context(self.errors()))?;
            if line.contains(text) == there {
                return Ok(());
            }
            if began.elapsed() > PATIENCE / 3 {
                bail!(
                    "the line holds {text:?} is not {there}: {line}\n{}",
                    self.errors()
                );
            }
            tokio::time::sleep(LOOK * 5).await;
        }
    }

    /// Whether rows are copied during this time.
    pub(crate) async fn copies_within(&self, time: Duration) -> anyhow::Result<bool> {
        let (before, began) = (self.rows_copied().await?, Instant::now());
        while began.elapsed() < time {
            tokio::time::sleep(LOOK * 5).await;
            if self.rows_copied().await? > before {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("it has ended")
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended")?;
        let id = Pid::from_raw(i32::try_from(id)?).context("no process")?;
        Ok(kill_process(id, signal)?)
    }

    /// Kills it, as `kill -9` does, and waits until it is gone; `false` if it had ended by itself.
    pub(crate) async fn kill(mut self) -> anyhow::Result<(bool, Ended)> {
        let killed = self.child.try_wait()?.is_none() && self.signal(Signal::KILL).is_ok();
        let ended = self.end().await?;
        Ok((killed && ended.status.code().is_none(), ended))
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> anyhow::Result<Ended> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else {
            bail!("it does not end:\n{}\n{}", self.output(), self.errors());
        };
        for reader in &mut self.readers {
            // A grandchild that holds the pipe open is no reason to hang.
            let _ = tokio::time::timeout(Duration::from_secs(2), reader).await;
        }
        Ok(Ended {
            status: status?,
            output: self.output(),
            errors: self.errors(),
        })
    }
}

/// How it ended, and everything it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Ended {
    /// Exit status 0 and gh-ost's last word.
    pub(crate) fn succeeded(&self) -> bool {
        self.status.success() && self.output.lines().last() == Some("# Done")
    }

    /// A failure that says all of this in its last words, and no success.
    pub(crate) fn must_have_failed(&self, says: &[&str]) -> anyhow::Result<()> {
        ensure!(matches!(self.status.code(), Some(1 | 2)), "{self}");
        ensure!(!self.output.contains("# Done"), "{self}");
        let last_words = self.last_words();
        for text in says {
            ensure!(last_words.contains(text), "does not say {text:?}: {self}");
        }
        ensure!(!self.errors.contains("panicked at"), "{self}");
        Ok(())
    }

    /// What follows `FATAL`.
    pub(crate) fn last_words(&self) -> &str {
        self.errors.split_once(" FATAL ").map_or("", |(_, rest)| rest)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}\n{}", self.status, self.output, self.errors)
    }
}

/// Whether a file is there.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
