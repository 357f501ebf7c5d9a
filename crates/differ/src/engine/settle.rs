//! Looking closer at keys that seemed to differ: reading the rows, then looking again.
//!
//! A difference is confirmed when it was there at one instant and is not a change on its way. Rows are read on all
//! nodes; then everything that was committed is given time to arrive (a fence), and the rows' versions are read
//! again. What has not changed on any node was there between the two readings on all of them.
//!
//! Where nodes replay each other's changes one such round is not enough: a row may be inserted on one node, replayed
//! on the other, and deleted on the first, each just after it was looked at there. Two rounds in a row are. Take a
//! version on the replaying node that is the same at all three readings. It reflects one state of the origin, in the
//! order of its log, from where the first reading was to where the second fence was. The origin's second reading lies
//! between: after its fence the origin shows what the other had shown at the first reading, and the second fence
//! comes after it. So it shows that state too, or the nodes differ for good.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::try_join_all;

use crate::model::{Difference, Image, Key, KeyIdentity, Present, Row, TableShape, Unsettled};
use crate::side::{FetchedRow, Mark, Session, SideError};

use super::collector::{Outlet, SharedTally};
use super::ghost::Ghosts;
use super::judge::Judge;
use super::settings::Recheck;

/// Keys looked at together when nothing is known of the rows' size yet.
const FIRST_BATCH: usize = 32;
/// Keys looked at together, at most: more do not save round trips that count.
const LARGEST_BATCH: usize = 1000;
/// Wait between two looks at whether a fence was passed: small against what replaying takes, large against a look.
const FENCE_POLL: std::time::Duration = std::time::Duration::from_millis(5);

/// How many keys fit into a batch: what the last one weighed decides.
#[derive(Debug)]
pub(super) struct BatchSize {
    budget: usize,
    keys: AtomicUsize,
}

impl BatchSize {
    /// Batches of about so many bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            keys: AtomicUsize::new(FIRST_BATCH),
        }
    }

    fn get(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    fn learn(&self, keys: usize, bytes: usize) {
        let fit = self.budget.saturating_mul(keys) / bytes.max(1);
        let grown = self.get().saturating_mul(4);
        self.keys
            .store(fit.clamp(1, LARGEST_BATCH).min(grown), Ordering::Relaxed);
    }
}

/// What settling needs beside sessions.
pub(super) struct Settling<'a> {
    pub(super) shape: &'a TableShape,
    pub(super) recheck: Recheck,
    pub(super) judge: &'a Judge,
    pub(super) outlet: &'a Outlet,
    pub(super) tally: &'a SharedTally,
    pub(super) batch: &'a BatchSize,
    pub(super) named: NamedKeys,
    pub(super) ghosts: Ghosts,
}

/// Keys that have several texts and were looked at under one of them. Ranges follow the values of keys that are equal by
/// value, so all texts of a key are in one range, and a range's are all that have to be remembered.
#[derive(Debug, Default)]
pub(super) struct NamedKeys(Mutex<HashSet<Key>>);

impl NamedKeys {
    /// Whether the key is new.
    fn take(&self, key: &Key) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone())
    }
}

/// Why settling ended early.
pub(super) enum Unfinished {
    /// A node did not answer.
    Side(SideError),
    /// Nobody takes findings any more.
    Closed,
}

impl From<SideError> for Unfinished {
    fn from(error: SideError) -> Self {
        Self::Side(error)
    }
}

/// A key whose rows differ, as last read.
struct Suspect {
    /// Where it stands in its batch.
    place: usize,
    key: Key,
    rows: Vec<Option<FetchedRow>>,
    /// Rounds in a row in which nothing had changed.
    stable: u32,
}

impl Suspect {
    fn differs(&self) -> bool {
        let cells = |row: &Option<FetchedRow>| row.as_ref().map(|row| row.cells.clone());
        self.rows
            .windows(2)
            .any(|pair| cells(&pair[0]) != cells(&pair[1]))
    }

    fn is_nowhere(&self) -> bool {
        self.rows.iter().all(Option::is_none)
    }

    /// The key as each node that has the row writes it, in the order of the nodes.
    fn key_texts(&self, shape: &TableShape) -> Vec<Key> {
        let key = |row: &FetchedRow| {
            let part = |column: &usize| row.cells.get(*column)?.text.clone();
            shape.key.iter().map(part).collect::<Option<Box<[_]>>>().map(Key)
        };
        self.rows.iter().flatten().filter_map(key).collect()
    }

    fn difference(self) -> Difference {
        let mut shared: Vec<Arc<Row>> = Vec::new();
        let mut images = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            images.push(match row {
                None => Image::Absent,
                Some(row) => {
                    let values = Row(row.cells);
                    let same = shared.iter().find(|other| ***other == values).map(Arc::clone);
                    let values = same.unwrap_or_else(|| {
                        let values = Arc::new(values);
                        shared.push(Arc::clone(&values));
                        values
                    });
                    Image::Present(Present {
                        row: values,
                        commit_ts: row.commit_ts,
                        origin: row.origin,
                    })
                }
            });
        }
        Difference {
            key: self.key,
            images: images.into_boxed_slice(),
        }
    }
}

impl Settling<'_> {
    /// Looks at all of them. `handed_over` is told how far it has come: whatever ends this, nothing up to that key is left to
    /// be handed over, and nothing after it has been. `keys` are sorted.
    pub(super) async fn settle(
        &self,
        sessions: &mut [Box<dyn Session>],
        keys: &[Key],
        handed_over: impl Fn(&Key),
    ) -> Result<(), Unfinished> {
        let mut rest = keys;
        while !rest.is_empty() {
            let batch = &rest[..self.batch.get().min(rest.len())];
            let (done, after) = rest.split_at(self.settle_batch(sessions, batch, &handed_over).await?);
            if let Some(last) = done.last() {
                handed_over(last);
            }
            rest = after;
        }
        Ok(())
    }

    /// Settles the first keys of the batch, as many as fit into memory; returns how many.
    async fn settle_batch(
        &self,
        sessions: &mut [Box<dyn Session>],
        batch: &[Key],
        handed_over: impl Fn(&Key),
    ) -> Result<usize, Unfinished> {
        let mut open = read(sessions, batch.to_vec(), self.batch.budget).await?;
        let done = open.len();
        self.batch.learn(done, weight(&open));
        let nowhere = open.iter().filter(|suspect| suspect.is_nowhere());
        nowhere.for_each(|suspect| self.ghosts.note(&suspect.key));
        self.drop_equal(&mut open);
        self.name_by_first_row(&mut open);
        let mut replayed = true;
        let mut settled = Vec::new();
        for round in 0..self.recheck.rounds.get() {
            if open.is_empty() {
                break;
            }
            let fence = self.fence(sessions).await?;
            replayed = fence != Fence::NotPassed;
            let changed = look_again(sessions, &mut open).await?;
            self.drop_equal(&mut open);
            let needed = if fence == Fence::Unneeded { 1 } else { 2 };
            if replayed {
                let (sure, unsure): (Vec<Suspect>, Vec<Suspect>) =
                    open.into_iter().partition(|suspect| suspect.stable >= needed);
                open = unsure;
                settled.extend(sure.into_iter().map(|suspect| (suspect, None)));
            }
            if changed > 0 && !open.is_empty() {
                tokio::time::sleep(self.recheck.pause.saturating_mul(1 << round.min(16))).await;
            }
        }
        let why = if replayed {
            Unsettled::KeepsChanging
        } else {
            Unsettled::NotReplayed
        };
        settled.extend(open.into_iter().map(|suspect| (suspect, Some(why))));
        // In the order of keys, and only now: a node that is lost in a later round has the whole batch looked at again.
        settled.sort_by_key(|(suspect, _)| suspect.place);
        for (suspect, unsettled) in settled {
            let key = &batch[suspect.place];
            self.hand_over(suspect, unsettled).await?;
            handed_over(key);
        }
        Ok(done)
    }

    fn drop_equal(&self, open: &mut Vec<Suspect>) {
        let before = open.len();
        open.retain(Suspect::differs);
        self.tally.settle((before - open.len()) as u64);
    }

    /// Two texts may be one key (1.0 and 1.00): then the first node's text stands for both, and whoever comes second is
    /// dropped, for he asks for the same rows.
    fn name_by_first_row(&self, open: &mut Vec<Suspect>) {
        if self.shape.key_identity == KeyIdentity::Text {
            return;
        }
        open.retain_mut(|suspect| {
            let texts = suspect.key_texts(self.shape);
            let Some(named) = texts.first() else {
                return true;
            };
            if texts.iter().all(|text| *text == suspect.key) {
                return true;
            }
            suspect.key = named.clone();
            self.named.take(named)
        });
    }

    async fn hand_over(&self, suspect: Suspect, unsettled: Option<Unsettled>) -> Result<(), Unfinished> {
        let texts = suspect.key_texts(self.shape);
        if texts.windows(2).any(|pair| pair[0] != pair[1]) {
            self.tally.find_other_text();
        }
        let Some(finding) = self.judge.judge(suspect.difference(), unsettled) else {
            self.tally.leave_out();
            return Ok(());
        };
        let delivered = self.outlet.deliver(finding).await;
        delivered.map_err(|_| Unfinished::Closed)
    }

    /// Waits until what every node has committed until now has arrived where it is to arrive.
    async fn fence(&self, sessions: &mut [Box<dyn Session>]) -> Result<Fence, SideError> {
        let marks = try_join_all(sessions.iter_mut().map(|session| session.mark())).await?;
        let marks: Vec<Mark> = marks.into_iter().flatten().collect();
        if marks.is_empty() {
            return Ok(Fence::Unneeded);
        }
        let began = Instant::now();
        loop {
            let passed = try_join_all(sessions.iter_mut().map(|session| session.passed(&marks))).await?;
            if passed.into_iter().all(|passed| passed) {
                return Ok(Fence::Passed);
            }
            if began.elapsed() >= self.recheck.replay_timeout {
                return Ok(Fence::NotPassed);
            }
            tokio::time::sleep(FENCE_POLL).await;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fence {
    /// No node replays another's changes.
    Unneeded,
    Passed,
    NotPassed,
}

/// Those of these keys that no node has.
pub(super) async fn nowhere(
    sessions: &mut [Box<dyn Session>],
    keys: Vec<Key>,
) -> Result<Vec<Key>, SideError> {
    if keys.is_empty() {
        return Ok(keys);
    }
    let suspects = read(sessions, keys, usize::MAX).await?;
    let absent = suspects.into_iter().filter(Suspect::is_nowhere);
    Ok(absent.map(|suspect| suspect.key).collect())
}

/// The rows of the first of these keys on all nodes: as many as have about so many bytes together, and at least one. How
/// large rows are is not known before they come, and a thousand small ones may be followed by a thousand large ones.
async fn read(
    sessions: &mut [Box<dyn Session>],
    keys: Vec<Key>,
    budget: usize,
) -> Result<Vec<Suspect>, SideError> {
    let share = budget / sessions.len().max(1);
    let columns = try_join_all(
        sessions
            .iter_mut()
            .map(|session| read_node(session.as_mut(), &keys, share)),
    )
    .await?;
    let read = columns.iter().map(Vec::len).min().unwrap_or(0);
    let mut suspects: Vec<Suspect> = keys
        .into_iter()
        .take(read)
        .enumerate()
        .map(|(place, key)| Suspect {
            place,
            key,
            rows: Vec::with_capacity(columns.len()),
            stable: 0,
        })
        .collect();
    for column in columns {
        for (suspect, row) in suspects.iter_mut().zip(column) {
            suspect.rows.push(row);
        }
    }
    Ok(suspects)
}

/// One entry for each of the first keys. Rows come in the order of the keys; those after the last that fits are let pass.
async fn read_node(
    session: &mut dyn Session,
    keys: &[Key],
    budget: usize,
) -> Result<Vec<Option<FetchedRow>>, SideError> {
    let mut found: Vec<Option<FetchedRow>> = keys.iter().map(|_| None).collect();
    let mut bytes = 0;
    let mut rows = session.rows(keys).await?;
    while let Some(row) = rows.next().await {
        let row = row?;
        let place = row.asked;
        bytes += text(&row);
        if place < found.len() {
            found[place] = Some(row);
            if bytes > budget {
                found.truncate(place + 1);
            }
        }
    }
    Ok(found)
}

/// Reads the versions, and the rows of those that are not what they were; returns how many.
async fn look_again(sessions: &mut [Box<dyn Session>], open: &mut [Suspect]) -> Result<usize, SideError> {
    let keys: Vec<Key> = open.iter().map(|suspect| suspect.key.clone()).collect();
    let versions = try_join_all(sessions.iter_mut().map(|session| session.versions(&keys))).await?;
    let versions: Option<Vec<_>> = versions.into_iter().collect();
    let Some(versions) = versions else {
        return read_again(sessions, open).await;
    };
    let mut changed = Vec::new();
    for (place, suspect) in open.iter_mut().enumerate() {
        let same = suspect.rows.iter().zip(&versions).all(|(row, column)| {
            row.as_ref().map(|row| row.version.as_ref())
                == column.get(place).and_then(Option::as_ref).map(Some)
        });
        if same {
            suspect.stable += 1;
        } else {
            changed.push(place);
        }
    }
    if changed.is_empty() {
        return Ok(0);
    }
    let again = changed.iter().map(|&place| keys[place].clone()).collect();
    let count = changed.len();
    // Not bounded in bytes: the same rows have just been held.
    for (place, suspect) in changed.into_iter().zip(read(sessions, again, usize::MAX).await?) {
        open[place] = Suspect {
            place: open[place].place,
            ..suspect
        };
    }
    Ok(count)
}

/// For servers without versions: the rows themselves are compared with what they were.
async fn read_again(sessions: &mut [Box<dyn Session>], open: &mut [Suspect]) -> Result<usize, SideError> {
    let keys: Vec<Key> = open.iter().map(|suspect| suspect.key.clone()).collect();
    let mut changed = 0;
    for (before, mut now) in open.iter_mut().zip(read(sessions, keys, usize::MAX).await?) {
        if before.rows == now.rows {
            now.stable = before.stable + 1;
        } else {
            changed += 1;
        }
        *before = Suspect {
            place: before.place,
            ..now
        };
    }
    Ok(changed)
}

/// Bytes of a row's values.
fn text(row: &FetchedRow) -> usize {
    row.cells
        .iter()
        .map(|cell| size_of_val(cell) + cell.as_str().map_or(0, str::len))
        .sum()
}

fn weight(suspects: &[Suspect]) -> usize {
    suspects
        .iter()
        .map(|suspect| suspect.key.weight() + suspect.rows.iter().flatten().map(text).sum::<usize>())
        .sum()
}
