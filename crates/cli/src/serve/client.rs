//! The other end of the socket: `changeling tell`.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use changeling_applier::control::grammar::{self, Parsed};

/// How long the migration may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends commands and returns the answers.
///
/// # Errors
/// A command is none, nobody listens, or the connection breaks.
pub fn tell(socket: &Path, commands: &[String]) -> anyhow::Result<String> {
    for command in commands {
        if command.contains(['\n', '\r']) {
            bail!("a command is one line: {command:?}");
        }
        if let Parsed::Refused(reason) = grammar::parse(command) {
            bail!("{reason}");
        }
    }
    let mut stream = UnixStream::connect(socket).with_context(|| advice(socket))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    for command in commands {
        stream.write_all(command.as_bytes())?;
        stream.write_all(b"\n")?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A migration that was told to panic may be gone before it has closed the connection properly.
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
            Err(error).with_context(|| format!("no answer on {}", socket.display()))
        }
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn advice(socket: &Path) -> String {
    format!(
        "no migration answers on {}. Is it running, on this machine, as this user? It says its socket at the start: \
         # Serving on unix socket",
        socket.display()
    )
}
