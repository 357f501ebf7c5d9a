//! Ends a server and removes its directory when the process that started it is gone, however it went.
//!
//! Drop runs after a panic but not after `kill -9`, and the kernel's parent-death signal is out of reach without
//! `unsafe`. So each server has a small shell beside it, in a process group of its own (Ctrl-C does not reach it), that
//! reads from a pipe whose only writer is our process. Any death of ours closes the pipe; the shell then kills the
//! server, removes the directory and ends.
//!
//! The server's process id is read from a file in that directory, and only a process whose command line names the
//! directory is killed, so a recycled process id cannot hit a stranger.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::{Result, SupportError};

/// The file, inside a server's directory, that holds the server's process id.
pub(crate) const PID_FILE: &str = "server.pid";

/// `$1` is the directory. The loop bridges the moment in which the server has been spawned but has not written its id
/// yet, or is still writing files while it dies.
const END_PROCESS: &str = r#"
trap '' HUP INT QUIT TERM
while read -r _; do :; done
dir=$1
round=0
while [ $round -lt 50 ] && [ -d "$dir" ]; do
  pid=$(cat "$dir/server.pid" 2>/dev/null)
  if [ -n "$pid" ]; then
    if [ -r "/proc/$pid/cmdline" ]; then words=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)
    else words=$(ps -o args= -p "$pid" 2>/dev/null); fi
    case $words in *"$dir"*) kill -KILL "$pid" 2>/dev/null ;; esac
  fi
  [ $round -gt 0 ] && rm -rf "$dir" 2>/dev/null
  round=$((round + 1))
  sleep 0.1
done
"#;

/// `$1` is the container's name.
const END_CONTAINER: &str = r#"
trap '' HUP INT QUIT TERM
while read -r _; do :; done
docker rm --force --volumes "$1" >/dev/null 2>&1
"#;

/// A shell that waits for our end. Dropping it triggers the clean-up at once.
#[derive(Debug)]
pub(crate) struct Reaper {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Reaper {
    /// Watches over a server whose files are all in `directory`.
    pub(crate) fn of_directory(directory: &Path) -> Result<Self> {
        Self::spawn(END_PROCESS, directory.as_os_str())
    }

    /// Watches over a container.
    pub(crate) fn of_container(name: &str) -> Result<Self> {
        Self::spawn(END_CONTAINER, name.as_ref())
    }

    fn spawn(script: &str, subject: &std::ffi::OsStr) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", script, "changeling-reaper"])
            .arg(subject)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| SupportError::Spawn {
                command: "sh".into(),
                source,
            })?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Triggers the clean-up and waits for its end.
    pub(crate) async fn finish(mut self) {
        self.pipe.take();
        // Bounded by the script: 50 rounds of 0.1 s, or one command to the engine.
        while let Ok(None) = self.shell.try_wait() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.pipe.take();
        // Collects the shell if it has ended; otherwise it becomes init's when we end, which is its purpose.
        let _ = self.shell.try_wait();
    }
}
