//! The journal as a file.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Take, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::entry::{Chain, DoneBlock, EntryRef, FORMAT, Head};
use super::identity::JobIdentity;
use super::scan::{Prior, Replay, ScanError, scan};
use crate::model::{Finding, SinkError};

/// Bytes gathered before they are handed to the system; they are at the end of each block in any case.
const BUFFER: usize = 256 * 1024;
/// Time between two syncs: what a power failure costs, at most.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refuses.
    #[error("cannot {doing} the journal {path}: {source}")]
    File {
        /// What was to be done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is none.
    #[error("{path} cannot be resumed: {message}. Start anew without --resume")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// Another process is at it.
    #[error("{path} is in use: the comparison that writes it still runs. Wait for its end, or end it")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// What is to be compared is not what was.
    #[error(
        "{path} cannot be resumed, because what is compared is not the same any more: {}. Start anew without --resume, or \
         compare what was compared",
        changes.join("; ")
    )]
    Changed {
        /// Which file.
        path: PathBuf,
        /// What changed.
        changes: Vec<String>,
    },
}

/// A journal that is open, at its end, and ours: other processes are kept out.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    chain: Chain,
    bytes: u64,
    report: String,
    prior: Prior,
    dropped: u64,
    sitting_began: Timestamp,
}

impl Journal {
    /// A new one at `path`, for a report with this file name.
    ///
    /// # Errors
    /// [`JournalError::File`]; also if there is such a file.
    pub fn create(path: &Path, report: &str, identity: &JobIdentity) -> Result<Self, JournalError> {
        let failed = |source| failure("create", path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(failed)?;
        lock(&file, path)?;
        let head = Head {
            format: FORMAT,
            tool: concat!("changeling ", env!("CARGO_PKG_VERSION")).into(),
            report: report.into(),
            identity: identity.clone(),
        };
        let (mut chain, mut text) = (Chain::default(), Vec::new());
        chain.write(&mut text, &EntryRef::Head(&head)).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        sync_directory(path).map_err(failed)?;
        // Without a line that counts there is nothing finished either.
        let prior = scan(&text[..]).map_err(|error| unfit(path, &error))?.prior;
        let bytes = text.len() as u64;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            chain,
            bytes,
            report: report.into(),
            prior,
            dropped: 0,
            sitting_began: Timestamp::now(),
        };
        journal.sit()?;
        Ok(journal)
    }

    /// One that was left behind, for a comparison of the same. What a crash left of its last line is cut off.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn resume(path: &Path, identity: &JobIdentity) -> Result<Self, JournalError> {
        let failed = |doing| move |source| failure(doing, path, source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("open"))?;
        lock(&file, path)?;
        let scanned = scan(BufReader::with_capacity(BUFFER, &file)).map_err(|error| unfit(path, &error))?;
        if scanned.head.format != FORMAT {
            return Err(JournalError::Unfit {
                path: path.to_owned(),
                message: format!("it was written by {}", scanned.head.tool),
            });
        }
        let changes = identity.changes_since(&scanned.head.identity);
        if !changes.is_empty() {
            return Err(JournalError::Changed {
                path: path.to_owned(),
                changes,
            });
        }
        if scanned.dropped > 0 {
            tracing::warn!(
                journal = %path.display(), lines = scanned.dropped,
                "the end of the journal was not written whole; what it may have said is compared again"
            );
        }
        file.set_len(scanned.bytes).map_err(failed("cut"))?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            chain: scanned.chain,
            bytes: scanned.bytes,
            report: scanned.head.report,
            prior: scanned.prior,
            dropped: scanned.dropped,
            sitting_began: Timestamp::now(),
        };
        journal.sit()?;
        Ok(journal)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file name of the report that it belongs to.
    #[must_use]
    pub fn report(&self) -> &str {
        &self.report
    }

    /// Blocks that earlier sittings have finished.
    #[must_use]
    pub fn finished_ranges(&self) -> u64 {
        self.prior.ranges
    }

    /// Lines that were dropped from its end.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn prior(&self) -> &Prior {
        &self.prior
    }

    /// What was found in finished blocks.
    pub(crate) fn findings(&self) -> Result<Findings<'_>, SinkError> {
        let opened = File::open(&self.path).map_err(|source| failure("read", &self.path, source))?;
        let input = BufReader::with_capacity(BUFFER, opened.take(self.bytes));
        Ok(Findings {
            journal: self,
            replay: Replay::of(input),
        })
    }

    /// A line for this run. Not among [`Self::bytes`]: those are what was there before.
    fn sit(&mut self) -> Result<(), JournalError> {
        let began = self.sitting_began;
        let mut text = Vec::new();
        let written = self
            .chain
            .write(&mut text, &EntryRef::Sitting { began })
            .and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)))
            .and_then(|_| self.file.write_all(&text))
            .and_then(|()| self.file.sync_data());
        written.map_err(|source| failure("write", &self.path, source))
    }

    /// Writes from now on.
    pub(crate) fn keep(self) -> Keeping {
        Keeping {
            path: self.path,
            syncing: Arc::new(SyncHandle::of(&self.file)),
            output: BufWriter::with_capacity(BUFFER, self.file),
            chain: self.chain,
            unsettled: BTreeSet::new(),
            synced: Instant::now(),
        }
    }
}

/// What was found in finished blocks of earlier sittings.
pub(crate) struct Findings<'a> {
    journal: &'a Journal,
    replay: Replay<BufReader<Take<File>>>,
}

impl Findings<'_> {
    /// The next; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Finding>, SinkError> {
        let next = self.replay.next(&self.journal.prior);
        next.map_err(|source| failure("read", &self.journal.path, source).into())
    }
}

/// A second handle to sync by, on a thread where waiting does no harm.
#[derive(Debug)]
struct SyncHandle(Option<File>);

impl SyncHandle {
    fn of(file: &File) -> Self {
        Self(file.try_clone().ok())
    }

    fn sync(&self) -> io::Result<()> {
        match &self.0 {
            Some(file) => file.sync_data(),
            None => Err(io::Error::other("the system gives no second handle")),
        }
    }
}

/// A journal that is written.
#[derive(Debug)]
pub(crate) struct Keeping {
    path: PathBuf,
    output: BufWriter<File>,
    syncing: Arc<SyncHandle>,
    chain: Chain,
    /// Open blocks in which a row was in flight.
    unsettled: BTreeSet<u64>,
    synced: Instant,
}

impl Keeping {
    /// Something was found in a block that is not done yet.
    pub(crate) fn find(&mut self, block: u64, finding: &Finding) -> Result<(), SinkError> {
        if matches!(finding, Finding::InFlight(..)) {
            // Nothing is established there, so there will be no use for it.
            self.unsettled.insert(block);
            return Ok(());
        }
        self.write(&EntryRef::Finding { block, finding })
    }

    /// A block is done, and all that was found in it was told before.
    pub(crate) async fn finish(&mut self, done: &DoneBlock) -> Result<(), SinkError> {
        if self.unsettled.remove(&done.block) {
            return Ok(());
        }
        self.write(&EntryRef::Done(done))?;
        self.flush()?;
        if self.synced.elapsed() < SYNC_EVERY {
            return Ok(());
        }
        self.sync().await
    }

    /// The job is over, for now or for good.
    pub(crate) async fn close(mut self) -> Result<(), SinkError> {
        self.flush()?;
        self.sync().await
    }

    async fn sync(&mut self) -> Result<(), SinkError> {
        let handle = Arc::clone(&self.syncing);
        let synced = tokio::task::spawn_blocking(move || handle.sync()).await;
        self.synced = Instant::now();
        synced
            .unwrap_or_else(|_| Err(io::Error::other("its thread is gone")))
            .map_err(|source| failure("sync", &self.path, source).into())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.output
            .flush()
            .map_err(|source| failure("write", &self.path, source).into())
    }

    fn write(&mut self, entry: &EntryRef<'_>) -> Result<(), SinkError> {
        self.chain
            .write(&mut self.output, entry)
            .map_err(|source| failure("write", &self.path, source).into())
    }
}

/// Two processes with one journal would each overwrite what the other had established.
fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) if source.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(journal = %path.display(), "this file system cannot lock; do not resume it twice at once");
            Ok(())
        }
        Err(TryLockError::Error(source)) => Err(failure("lock", path, source)),
    }
}

/// A new file's name is safe when its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn failure(doing: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn unfit(path: &Path, error: &ScanError) -> JournalError {
    JournalError::Unfit {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

impl From<JournalError> for SinkError {
    fn from(error: JournalError) -> Self {
        let message = error.to_string();
        let source = match error {
            JournalError::File { source, .. } => Some(source),
            _ => None,
        };
        Self { message, source }
    }
}
