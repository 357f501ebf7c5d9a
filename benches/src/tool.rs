//! The real binary, run as an operator runs it, with its memory and its log watched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use changeling_core::ident::TableName;
use changeling_support::Server;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::{parameter, stage};

/// How often the memory is looked at. The kernel keeps the peak, so only growth in the very last moment is missed.
const LOOK: Duration = Duration::from_millis(10);
/// Lines of the log that a failure shows.
const SHOWN: usize = 20;

/// The binary.
#[derive(Clone, Debug)]
pub struct Tool {
    path: PathBuf,
    flags: Vec<String>,
    longest: Duration,
}

/// How a migration went.
#[derive(Clone, Debug)]
pub struct Ran {
    /// When the process was started.
    pub began: Instant,
    /// When it had ended.
    pub ended: Instant,
    /// The most memory that it ever had resident, in KiB: `VmHWM`.
    pub peak_kib: u64,
    /// Processor seconds that it used.
    pub processor: f64,
    /// How long the table was locked by the attempt that succeeded.
    pub locked: Duration,
    /// Cut-over attempts that failed.
    pub failed_attempts: usize,
    /// When each line of the log came.
    log: Vec<(Instant, String)>,
}

/// How a comparison went.
#[derive(Clone, Debug)]
pub struct Diffed {
    /// From the start of the process to its end.
    pub seconds: f64,
    /// The most memory that it ever had resident, in KiB.
    pub peak_kib: u64,
    /// Its verdict.
    pub exit_status: i32,
    /// Rows that the report says differ; nothing of a report without any.
    pub differences: Option<u64>,
}

/// Where the time of a migration went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Until the stream was open: looking at the server, making tables.
    pub prepare: f64,
    /// Until every row was copied.
    pub copy: f64,
    /// Building the deferred indexes.
    pub indexes: f64,
    /// Comparing.
    pub proof: f64,
    /// Until the tables were swapped.
    pub cut_over: f64,
    /// Until the process had ended.
    pub finish: f64,
}

impl Tool {
    /// Builds the binary as `cargo bench` builds, unless one is given.
    ///
    /// # Errors
    /// When it cannot be built.
    pub async fn build() -> Result<Self> {
        let given: String = parameter::value("BINARY", String::new())?;
        let path = if given.is_empty() {
            build().await?
        } else {
            PathBuf::from(given)
        };
        let longest: f64 = parameter::value("LONGEST_SECONDS", 300.0)?;
        let flags: Vec<String> = parameter::list("FLAGS", "")?;
        if !flags.is_empty() {
            println!("flags: {}", flags.join(" "));
        }
        Ok(Self {
            path,
            flags,
            longest: Duration::from_secs_f64(longest),
        })
    }

    /// Migrates.
    ///
    /// # Errors
    /// When the migration fails or takes too long; with the end of its log.
    pub async fn migrate(
        &self,
        server: &Server,
        table: &TableName,
        alter: &str,
        flags: &[&str],
    ) -> Result<Ran> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(&self.path);
        command
            .args(["--execute", "--allow-on-master", "--verbose", "--progress=never"])
            .arg(format!("--host={}", server.host()))
            .arg(format!("--port={}", server.port()))
            .arg(format!("--user={}", server.user()))
            .arg(format!("--database={}", table.schema))
            .arg(format!("--table={}", table.table))
            .arg(format!("--alter={alter}"))
            .arg(format!(
                "--serve-socket-file={}",
                directory.path().join("socket").display()
            ))
            .args(flags)
            .args(&self.flags)
            .env("CHANGELING_PASSWORD", server.password())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let began = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", self.path.display()))?;
        let process = child.id().context("it has an id")?;
        let peak = Arc::new(AtomicU64::new(0));
        let watching = tokio::spawn(watch(process, Arc::clone(&peak)));
        let errors = BufReader::new(child.stderr.take().context("its log")?);
        let reading = tokio::spawn(async move {
            let (mut lines, mut log) = (errors.lines(), Vec::new());
            while let Ok(Some(line)) = lines.next_line().await {
                log.push((Instant::now(), line));
            }
            log
        });
        let ended = self.wait(&mut child).await;
        let processor = watching.await?;
        let log = reading.await?;
        let last: Vec<&str> = log
            .iter()
            .rev()
            .take(SHOWN)
            .rev()
            .map(|(_, line)| line.as_str())
            .collect();
        let ended = ended.with_context(|| last.join("\n"))?;
        Ok(Ran {
            began,
            ended,
            peak_kib: peak.load(Ordering::Relaxed),
            processor,
            locked: locked(&log).with_context(|| last.join("\n"))?,
            failed_attempts: log
                .iter()
                .filter(|(_, line)| line.contains("cut-over attempt"))
                .count(),
            log,
        })
    }

    /// Compares a table on two PostgreSQL servers.
    ///
    /// # Errors
    /// When there is no verdict.
    pub async fn diff(&self, nodes: &[Server; 2], table: &str, block: u64) -> Result<Diffed> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(&self.path);
        command
            .args(["table-diff", "--progress=never", "--output=ndjson"])
            .arg(format!("--block-size={block}"));
        for (name, server) in ["n1", "n2"].into_iter().zip(nodes) {
            command.arg(format!("--node={name}={}?sslmode=disable", server.url()));
        }
        command
            .arg(table)
            .args(&self.flags)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let began = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("start {}", self.path.display()))?;
        let peak = Arc::new(AtomicU64::new(0));
        let watching = tokio::spawn(watch(child.id().context("it has an id")?, Arc::clone(&peak)));
        let output = timeout(self.longest, child.wait_with_output())
            .await
            .with_context(|| format!("not finished after {:?}", self.longest))??;
        let seconds = began.elapsed().as_secs_f64();
        watching.await?;
        let exit_status = output.status.code().unwrap_or(-1);
        ensure!(
            matches!(exit_status, 0 | 1),
            "no verdict: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Diffed {
            seconds,
            peak_kib: peak.load(Ordering::Relaxed),
            exit_status,
            differences: differences(directory.path())?,
        })
    }

    async fn wait(&self, child: &mut Child) -> Result<Instant> {
        let Ok(status) = timeout(self.longest, child.wait()).await else {
            child.kill().await?;
            bail!("not finished after {:?}", self.longest);
        };
        let ended = Instant::now();
        let status = status?;
        ensure!(status.success(), "the migration failed: {status}");
        Ok(ended)
    }
}

impl Ran {
    /// From the start of the process to its end.
    #[must_use]
    pub fn total(&self) -> f64 {
        (self.ended - self.began).as_secs_f64()
    }

    /// When the tables had been swapped.
    #[must_use]
    pub fn swapped(&self) -> Instant {
        self.at("cut-over: ").unwrap_or(self.ended)
    }

    /// Where its time went; the server knows how long indexes were built.
    #[must_use]
    pub fn phases(&self, spent: &BTreeMap<&'static str, crate::statements::Spent>) -> Phases {
        let since = |from: Instant, to: Option<Instant>| to.map_or(0.0, |to| (to - from).as_secs_f64());
        let streaming = self.at("reading the binary log").unwrap_or(self.began);
        let copied = self.at("Row copy complete").unwrap_or(streaming);
        let indexes = spent.get("index build").map_or(0.0, |spent| spent.seconds);
        let proven = self.at("proven: ");
        let to_swap = since(proven.unwrap_or(copied), Some(self.swapped()));
        Phases {
            prepare: since(self.began, Some(streaming)),
            copy: since(streaming, Some(copied)),
            indexes,
            proof: if proven.is_some() {
                since(copied, proven) - indexes
            } else {
                0.0
            },
            cut_over: if proven.is_some() {
                to_swap
            } else {
                to_swap - indexes
            },
            finish: since(self.swapped(), Some(self.ended)),
        }
    }

    fn at(&self, words: &str) -> Option<Instant> {
        self.log
            .iter()
            .find(|(_, line)| line.contains(words))
            .map(|(at, _)| *at)
    }
}

/// What the summary, the last line of the report in this directory, has counted.
fn differences(directory: &Path) -> Result<Option<u64>> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            let text = std::fs::File::open(&path)?;
            let last = std::io::BufRead::lines(std::io::BufReader::new(text)).last();
            let last: serde_json::Value = serde_json::from_str(&last.context("an empty report")??)?;
            return Ok(last["summary"]["confirmed"].as_u64());
        }
    }
    Ok(None)
}

async fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "-p",
            "changeling",
            "--bin",
            "changeling",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .await?;
    ensure!(status.success(), "the binary cannot be built: {status}");
    // This program is target/release/deps/migration-….
    let own = std::env::current_exe()?;
    let path = own
        .ancestors()
        .nth(2)
        .context("a target directory")?
        .join("changeling");
    ensure!(path.exists(), "{} is not there", path.display());
    Ok(path)
}

/// Looks at a process until it is gone; its processor seconds.
async fn watch(process: u32, peak: Arc<AtomicU64>) -> f64 {
    let mut processor = 0.0;
    while let Some(kib) = peak_kib(process) {
        peak.store(kib, Ordering::Relaxed);
        processor = stage::processor_seconds(process);
        sleep(LOOK).await;
    }
    processor
}

/// `VmHWM`; nothing of a process that has ended.
fn peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Reads `cut-over: `d`.`t` locked for 12.3 ms`.
fn locked(log: &[(Instant, String)]) -> Option<Duration> {
    let line = log
        .iter()
        .rev()
        .find_map(|(_, line)| line.split_once(" locked for "))?
        .1;
    let millis: f64 = line.strip_suffix(" ms")?.parse().ok()?;
    Some(Duration::from_secs_f64(millis / 1e3))
}
