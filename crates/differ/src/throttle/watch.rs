//! Reading the sources, over and over.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::judge::{Reading, judge};
use super::{Board, ThrottleTerms};
use crate::side::{Side, SideError, SideErrorKind, Vitals};

/// The pace of readings, gh-ost's: people and load change in seconds.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer is awaited before the source counts as unread.
const PATIENCE: Duration = Duration::from_secs(5);

/// The readers of all sources. They end when it is dropped.
#[derive(Debug)]
pub struct Throttle {
    board: watch::Receiver<Board>,
    _readers: JoinSet<()>,
}

impl Throttle {
    /// Reads every source once, then each second. One connection a node if servers are asked.
    ///
    /// # Errors
    /// A source cannot be read now, so perhaps never.
    pub async fn start(sides: &[Arc<dyn Side>], terms: &ThrottleTerms) -> Result<Self, SideError> {
        let terms = Arc::new(terms.clone());
        let asked = if terms.asks_servers() { sides } else { &[] };
        let first = try_join_all(asked.iter().map(|side| first(side, &terms))).await?;
        let (board, receiver) = watch::channel(Board {
            reasons: vec![None; asked.len() + 1],
            critical: None,
        });
        let board = Arc::new(board);
        let mut readers = JoinSet::new();
        post(&board, 0, flag(&terms.flag_files).await, None);
        if !terms.flag_files.is_empty() {
            readers.spawn(watch_files(terms.flag_files.clone(), Arc::clone(&board)));
        }
        for (index, (side, (vitals, reading))) in asked.iter().zip(first).enumerate() {
            let reader = Reader {
                side: Arc::clone(side),
                terms: Arc::clone(&terms),
                board: Arc::clone(&board),
                place: index + 1,
                vitals: Some(vitals),
                failing: false,
            };
            reader.publish(&reading);
            readers.spawn(reader.watch());
        }
        Ok(Self {
            board: receiver,
            _readers: readers,
        })
    }

    pub(crate) fn board(&self) -> watch::Receiver<Board> {
        self.board.clone()
    }
}

async fn first(side: &Arc<dyn Side>, terms: &ThrottleTerms) -> Result<(Box<dyn Vitals>, Reading), SideError> {
    let mut vitals = side.vitals().await?;
    let reading = read(side, vitals.as_mut(), terms).await?;
    Ok((vitals, reading))
}

async fn read(
    side: &Arc<dyn Side>,
    vitals: &mut dyn Vitals,
    terms: &ThrottleTerms,
) -> Result<Reading, SideError> {
    let names = terms.variables();
    let asked = async {
        let mut reading = Reading::default();
        if !names.is_empty() {
            let values = vitals.loads(&names).await?;
            reading.loads = names.iter().cloned().zip(values).collect();
        }
        if terms.max_lag.is_some() {
            reading.lags = vitals.lags().await?;
        }
        Ok(reading)
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let why = format!("no answer for {} s", PATIENCE.as_secs());
        Err(SideError::new(side.node(), SideErrorKind::Timeout, why))
    })
}

/// What a source says now. A critical load is not forgotten.
fn post(board: &watch::Sender<Board>, place: usize, wait: Option<Arc<str>>, end: Option<Arc<str>>) {
    board.send_if_modified(|board| {
        let new_end = board.critical.is_none() && end.is_some();
        if new_end {
            board.critical = end;
        }
        let new_wait = board.reasons[place] != wait;
        board.reasons[place] = wait;
        new_end || new_wait
    });
}

async fn watch_files(files: Vec<PathBuf>, board: Arc<watch::Sender<Board>>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        post(&board, 0, flag(&files).await, None);
    }
}

async fn flag(files: &[PathBuf]) -> Option<Arc<str>> {
    for file in files {
        if exists(file).await {
            return Some(format!("flag-file {}", file.display()).into());
        }
    }
    None
}

async fn exists(file: &Path) -> bool {
    tokio::fs::try_exists(file).await.unwrap_or(false)
}

/// Reads one node.
struct Reader {
    side: Arc<dyn Side>,
    terms: Arc<ThrottleTerms>,
    board: Arc<watch::Sender<Board>>,
    place: usize,
    /// `None` after a failure: the next reading is on a new connection.
    vitals: Option<Box<dyn Vitals>>,
    failing: bool,
}

impl Reader {
    async fn watch(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.read().await {
                Ok(reading) => {
                    if std::mem::replace(&mut self.failing, false) {
                        tracing::info!(node = %self.side.node(), "load and lag can be read again");
                    }
                    self.publish(&reading);
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, "load or lag cannot be read, so nothing is compared; further failures are not logged");
                    }
                    let why = format!("{} load or lag cannot be read: {}", error.node, error.message);
                    post(&self.board, self.place, Some(why.into()), None);
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Reading, SideError> {
        // Put back only after an answer: a connection that was given up in the middle is not used again.
        let mut vitals = match self.vitals.take() {
            Some(vitals) => vitals,
            None => self.side.vitals().await?,
        };
        let reading = read(&self.side, vitals.as_mut(), &self.terms).await?;
        self.vitals = Some(vitals);
        Ok(reading)
    }

    fn publish(&self, reading: &Reading) {
        let judged = judge(self.side.node(), &self.terms, reading);
        post(
            &self.board,
            self.place,
            judged.wait.map(Arc::from),
            judged.end.map(Arc::from),
        );
    }
}
