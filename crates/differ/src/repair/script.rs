//! A repair as SQL, to be read, kept and run by somebody else.

use std::io::{self, Write};

use super::journal::{Entry, Event, RepairLog};
use crate::model::{Key, Row};

/// Writes a node's statements, in its server's language and about its table.
///
/// Every statement compares before it sets: run later, it leaves a row alone that is no longer what it was.
pub(super) trait Scribe: Send {
    /// What comes first: of what this is the repair, settings that change what a text means, the transaction's begin.
    fn head(&self) -> String;

    /// A row's statement, without its end.
    fn statement(&self, key: &Key, before: Option<&Row>, after: Option<&Row>) -> String;
}

/// Writes a statement for each row that the repair writes, to one output a node.
pub struct Script {
    parts: Vec<Part>,
}

struct Part {
    output: Box<dyn Write + Send>,
    scribe: Box<dyn Scribe>,
    begun: bool,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script")
            .field("nodes", &self.parts.len())
            .finish()
    }
}

impl Script {
    pub(super) fn new(parts: impl Iterator<Item = (Box<dyn Write + Send>, Box<dyn Scribe>)>) -> Self {
        let part = |(output, scribe)| Part {
            output,
            scribe,
            begun: false,
        };
        Self {
            parts: parts.map(part).collect(),
        }
    }

    /// Ends the scripts.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(&mut self) -> io::Result<()> {
        for part in &mut self.parts {
            if part.begun {
                part.output.write_all(b"COMMIT;\n")?;
            }
            part.output.flush()?;
        }
        Ok(())
    }
}

impl RepairLog for Script {
    fn take(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let Event::Written { before, after, by } = &entry.event else {
            return Ok(());
        };
        let part = &mut self.parts[entry.node];
        if !part.begun {
            part.begun = true;
            part.output.write_all(part.scribe.head().as_bytes())?;
        }
        let statement = part.scribe.statement(entry.key, *before, *after);
        writeln!(part.output, "{statement}; -- {}", line(by))
    }
}

/// A text that stays within its comment.
pub(super) fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
