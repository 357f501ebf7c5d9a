//! Keys that a range shows and a look by key does not find, on any node.
//!
//! Most often such a row has been deleted in between. If it has not, it cannot be reached: the key's index is damaged, or a
//! partition holds it that does not promise to. Nothing is known of what differs in such rows, so a range that has them is not
//! established.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;

use crate::model::Key;
use crate::range::KeyRange;
use crate::side::{Session, Side, SideError, SideErrorKind};

use super::settle::nowhere;

/// Keys that are remembered: one alone tells all.
const REMEMBERED: usize = 100;
/// How often a key may be there again and gone again before it is no coincidence.
const ROUNDS: u32 = 3;

/// Keys of rows that were on no node.
#[derive(Debug, Default)]
pub(super) struct Ghosts(Mutex<HashSet<Key>>);

impl Ghosts {
    /// Remembers it, if there are not enough.
    pub(super) fn note(&self, key: &Key) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < REMEMBERED {
            keys.insert(key.clone());
        }
    }

    /// Fails if one of them is in the range after all and still not to be found.
    pub(super) async fn lay(
        self,
        range: &KeyRange,
        sides: &[Arc<dyn Side>],
        sessions: &mut [Box<dyn Session>],
    ) -> Result<(), SideError> {
        let mut keys = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut unreachable = None;
        for _ in 0..ROUNDS {
            if keys.is_empty() {
                return Ok(());
            }
            let mut seen = Vec::new();
            for (side, session) in sides.iter().zip(sessions.iter_mut()) {
                let mut rows = session.key_digests_now(range).await?;
                while let Some(row) = rows.next().await.transpose()? {
                    if keys.contains(&row.key) {
                        unreachable = Some((side.node(), row.key.clone()));
                        seen.push(row.key);
                    }
                }
            }
            keys = nowhere(sessions, seen).await?.into_iter().collect();
        }
        match unreachable {
            Some((node, key)) if !keys.is_empty() => Err(SideError::new(
                node,
                SideErrorKind::Permanent,
                format_args!(
                    "the row with key {key} is there when {range} is read and not when it is looked up by its key: its index \
                     is damaged (REINDEX), or it is in a partition where it does not belong"
                ),
            )),
            _ => Ok(()),
        }
    }
}
