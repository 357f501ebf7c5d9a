//! The Unix socket that takes commands, as gh-ost's does: a line, an answer.
//!
//! * Nobody but the owner can ever connect: the socket is bound inside a directory of ours, made 0600 there,
//!   and only then linked to its path.
//! * A path where nobody answers is taken over; one where somebody answers is left alone, unless the operator
//!   has said `--initially-drop-socket-file`. What is not a socket is never touched.
//! * gh-ost closes the connection after one line, and `echo status | nc -U …` relies on it. Here more lines may
//!   follow at once; the connection is closed when none has come for a moment.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use changeling_applier::control::grammar::CommandRules;
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Control;
use super::answer::answer;
use crate::render::status::Scene;

/// Bytes of a line. A throttle query may be long; what is longer than this is not a command.
const MAX_LINE: usize = 16 * 1024;
/// Clients at the same time; more wait to be accepted.
const MAX_CLIENTS: usize = 256;
/// How long a client may take to send its first line, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to send another line. Scripts that do not close their side wait for us to.
const LINGER: Duration = Duration::from_millis(150);
/// How long answers that are being given when it ends may still take: `panic` ends the migration that is to answer it.
const PARTING: Duration = Duration::from_secs(1);

/// Why the socket cannot be had.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error(
        "another migration answers on {}; let it finish, give this one another --serve-socket-file, or take the \
         path from it with --initially-drop-socket-file",
        .0.display()
    )]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{} exists and is not a socket; choose another --serve-socket-file or remove it", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {}: {source}. Choose another --serve-socket-file", path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that is listened on. Its file goes when this goes.
#[derive(Debug)]
pub struct CommandSocket {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl CommandSocket {
    /// Listens at `path`.
    ///
    /// # Errors
    /// Somebody else does, or the system refuses.
    pub fn bind(path: &Path, take_over: bool) -> Result<Self, SocketError> {
        let refused = |source| SocketError::Refused {
            path: path.to_owned(),
            source,
        };
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        // The directory is 0700: until the socket is linked to its path, only we can reach it.
        let private = tempfile::Builder::new()
            .prefix(".chg")
            .tempdir_in(parent)
            .map_err(refused)?;
        let inside = private.path().join("s");
        let listener = UnixListener::bind(&inside).map_err(refused)?;
        fs::set_permissions(&inside, Permissions::from_mode(0o600)).map_err(refused)?;
        let metadata = fs::metadata(&inside).map_err(refused)?;
        claim(&inside, path, private.path(), take_over)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes commands until cancelled. Lines that were read by then are answered.
    pub async fn serve<C: Control + Clone>(
        self,
        control: C,
        rules: CommandRules,
        scene: Scene,
        cancel: CancellationToken,
    ) {
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        let shared = Arc::new((control, rules, scene));
        let talks = TaskTracker::new();
        loop {
            let Ok(permit) = Arc::clone(&clients).acquire_owned().await else {
                break;
            };
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (shared, cancel) = (Arc::clone(&shared), cancel.clone());
                    talks.spawn(async move {
                        let _permit = permit;
                        let (control, rules, scene) = &*shared;
                        if let Err(error) = converse(stream, control, rules, scene, &cancel).await {
                            tracing::debug!("a client of the command socket went away: {error}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a client on {}: {error}", self.path.display());
                    // Out of descriptors, mostly: the listener would spin.
                    tokio::time::sleep(LINGER).await;
                }
            }
        }
        talks.close();
        let _ = timeout(PARTING, talks.wait()).await;
    }
}

impl Drop for CommandSocket {
    /// Removes the file if it is still ours.
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Links the socket to its path. A link never replaces a file, so of several claimants one wins.
fn claim(inside: &Path, path: &Path, private: &Path, take_over: bool) -> Result<(), SocketError> {
    let refused = |source| SocketError::Refused {
        path: path.to_owned(),
        source,
    };
    match fs::hard_link(inside, path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refused(error)),
    }
    let there = fs::symlink_metadata(path).map_err(refused)?;
    if !there.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    if !take_over && somebody_answers(path) {
        return Err(SocketError::InUse(path.to_owned()));
    }
    // Move it aside and look again: another claimant may have put a live one there just now.
    let aside = private.join("old");
    match fs::rename(path, &aside) {
        Ok(()) if !take_over && somebody_answers(&aside) => {
            let _ = fs::hard_link(&aside, path);
            return Err(SocketError::InUse(path.to_owned()));
        }
        Ok(()) => tracing::info!("Taking over the socket file {}", path.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    match fs::hard_link(inside, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(SocketError::InUse(path.to_owned()))
        }
        Err(error) => Err(refused(error)),
    }
}

fn somebody_answers(path: &Path) -> bool {
    match BlockingStream::connect(path) {
        Ok(_) => true,
        // Nobody listens, or nothing is there any more. Anything else may hide somebody who does.
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
        ),
    }
}

async fn converse<C: Control>(
    stream: UnixStream,
    control: &C,
    rules: &CommandRules,
    scene: &Scene,
    cancel: &CancellationToken,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let mut patience = PATIENCE;
    loop {
        let line = tokio::select! {
            // Asked last: a line that is there already is answered.
            biased;
            line = timeout(patience, read_line(&mut lines)) => line,
            () = cancel.cancelled() => break,
        };
        let Ok(line) = line else { break };
        let line = line?;
        let reply = match line {
            Line::End => break,
            Line::TooLong => {
                let reply = format!("a command is at most {MAX_LINE} bytes long\n");
                timeout(PATIENCE, write.write_all(reply.as_bytes())).await??;
                break;
            }
            Line::Text(line) => answer(&line, control, rules, scene).await,
        };
        timeout(PATIENCE, write.write_all(reply.as_bytes())).await??;
        patience = LINGER;
    }
    write.shutdown().await
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text(String),
    TooLong,
    End,
}

/// Reads a line, and never keeps more of it than [`MAX_LINE`] bytes. The last one may lack its end.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Line> {
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            let text = String::from_utf8_lossy(&line).into_owned();
            return Ok(if line.is_empty() {
                Line::End
            } else {
                Line::Text(text)
            });
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let piece = available
            .get(..end.unwrap_or(available.len()))
            .unwrap_or_default();
        if line.len() + piece.len() > MAX_LINE {
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(piece);
        let used = end.map_or(available.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(Line::Text(String::from_utf8_lossy(&line).into_owned()));
        }
    }
}
