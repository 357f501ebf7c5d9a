//! A server that is a process of this machine, with a temporary directory and a reaper of its own.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{POLL, STOP_TIMEOUT};
use crate::command;
use crate::error::{Result, SupportError};
use crate::reaper::{PID_FILE, Reaper};

/// Ports are taken from below the range from which systems take the ports of outgoing connections (32768 on Linux), so
/// that a stopped server finds its port free when it is started again.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A thread in a system call that cannot be interrupted stops when the call ends; this is longer than a slow disk's.
const STANDSTILL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A directory for one server: `data`, `log`, the socket and the process id. Its reaper watches from the start.
#[derive(Debug)]
pub(super) struct ServerDirectory {
    path: PathBuf,
    reaper: Option<Reaper>,
}

impl ServerDirectory {
    pub(super) fn new() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        // A socket's path must be shorter than about 100 bytes, which a long TMPDIR would exceed.
        let parent = std::env::temp_dir();
        let parent = if parent.as_os_str().len() > 60 {
            PathBuf::from("/tmp")
        } else {
            parent
        };
        let path = tempfile::Builder::new()
            .prefix("changeling-server-")
            .tempdir_in(&parent)
            .map_err(SupportError::file("create a directory in", &parent))?
            .keep();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .map_err(SupportError::file("open up", &path))?;
        let reaper = Reaper::of_directory(&path)?;
        Ok(Self {
            path,
            reaper: Some(reaper),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }
}

/// The command line and the files of a server, and the process while it runs.
#[derive(Debug)]
pub(super) struct Process {
    words: Vec<OsString>,
    socket: PathBuf,
    stop_signal: Signal,
    // Before the directory: fields drop in this order, and the reaper ends what is left.
    child: Mutex<Option<Child>>,
    directory: ServerDirectory,
}

impl Process {
    /// Starts the command line; its files must be below `directory`, and it must name `directory` somewhere.
    pub(super) fn launch(
        directory: ServerDirectory,
        words: Vec<OsString>,
        socket: PathBuf,
        stop_signal: Signal,
    ) -> Result<Self> {
        let process = Self {
            words,
            socket,
            stop_signal,
            child: Mutex::new(None),
            directory,
        };
        process.start()?;
        Ok(process)
    }

    pub(super) fn start(&self) -> Result<()> {
        let path = self.directory.path();
        let log = path.join("log");
        let open = || {
            let file = File::options().create(true).append(true).open(&log);
            file.map_err(SupportError::file("write", &log))
        };
        let child = Command::new("sh")
            // The id is on disk before the server exists, so that the reaper never misses it.
            .args(["-c", r#"echo $$ >"$0" && exec "$@""#])
            .arg(path.join(PID_FILE))
            .args(&self.words)
            .current_dir(path)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .map_err(|source| SupportError::Spawn {
                command: "sh".into(),
                source,
            })?;
        *self.child() = Some(child);
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // The guarded value is replaced as a whole, so it is sound after a panic too.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    pub(super) fn data_directory(&self) -> PathBuf {
        self.directory.data()
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// How the process ended, if it did.
    pub(super) fn ended(&self) -> Result<Option<String>> {
        let mut child = self.child();
        let Some(running) = child.as_mut() else {
            return Ok(Some("stopped".into()));
        };
        let status = running.try_wait().map_err(SupportError::file(
            "wait for the server in",
            self.directory.path(),
        ))?;
        if status.is_some() {
            *child = None;
        }
        Ok(status.map(|status| status.to_string()))
    }

    /// Signals the process itself. As long as it has not been waited for, its id cannot belong to another.
    fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(pid) = self.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, signal).map_err(|error| {
                SupportError::file("signal the server in", self.directory.path())(error.into())
            })?;
        }
        Ok(())
    }

    /// Signals the process and everything below it: PostgreSQL is one process per connection, and each has left the
    /// process group.
    pub(super) fn signal_all(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let Some(id) = self.id() else { return Ok(()) };
        for descendant in descendants(id) {
            if let Some(pid) = Pid::from_raw(descendant.cast_signed()) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
        Ok(())
    }

    /// Stops every thread and returns when they stand: the signal alone lets those on other processors answer on for a
    /// moment.
    pub(super) async fn pause(&self) -> Result<()> {
        self.signal_all(Signal::STOP)?;
        let Some(id) = self.id() else { return Ok(()) };
        let asked = Instant::now();
        while !all_threads_stand(id) && asked.elapsed() < STANDSTILL_TIMEOUT {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) async fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        while self.ended()?.is_none() {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) async fn shut_down(&self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.signal_all(Signal::CONT)?;
        self.signal(self.stop_signal)?;
        let asked = Instant::now();
        while self.ended()?.is_none() {
            if asked.elapsed() > STOP_TIMEOUT {
                tracing::warn!(directory = %self.directory.path().display(), "the server does not end, killing it");
                return self.kill().await;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends the server and removes its directory. Killing is enough for data that go too; MySQL takes up to ten seconds
    /// to part in good order from its connections and replicas.
    pub(super) async fn remove(mut self) -> Result<()> {
        self.kill().await?;
        let path = self.directory.path().to_owned();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::debug!("left the removal of a server's directory to its reaper");
        }
        if let Some(reaper) = self.directory.reaper.take() {
            reaper.finish().await;
        }
        Ok(())
    }

    pub(super) fn log_tail(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&log)).to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal_all(Signal::KILL);
        if let Some(mut child) = self.child().take() {
            // Returns as soon as the kernel has taken the process apart; until then it would be a zombie.
            let _ = child.wait();
        }
    }
}

/// A port that is free now.
pub(super) fn free_port() -> Result<u16> {
    let span = u64::from(PORTS.end - PORTS.start);
    let mut last = None;
    for _ in 0..200 {
        let offset = u16::try_from(random() % span).unwrap_or_default();
        match std::net::TcpListener::bind(("127.0.0.1", PORTS.start + offset)) {
            Ok(_) => return Ok(PORTS.start + offset),
            Err(error) => last = Some(error),
        }
    }
    let reason = last.map(|error| error.to_string()).unwrap_or_default();
    Err(SupportError::Unsupported(format!(
        "no free port between {PORTS:?} on 127.0.0.1: {reason}"
    )))
}

/// A number nobody else has: the standard library seeds every hasher from the system's random source.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Whether every thread of a process and of those below it is stopped; true where there is no `/proc`.
fn all_threads_stand(id: u32) -> bool {
    let mut processes = descendants(id);
    processes.push(id);
    let tasks = processes
        .into_iter()
        .flat_map(|id| std::fs::read_dir(format!("/proc/{id}/task")))
        .flatten()
        .flatten();
    let mut states = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().chars().next()
    });
    states.all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// Every process below `ancestor`; empty where there is no `/proc`.
fn descendants(ancestor: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name, in parentheses, may hold anything; state and parent follow it.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        if let Some(parent) = fields
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse::<u32>().ok())
        {
            parents.push((id, parent));
        }
    }
    let mut below = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = below.get(next) {
        below.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    below.split_off(1)
}
