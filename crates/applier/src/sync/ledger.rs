//! Keys that were synchronised since proving began, and still have to be proven.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use changeling_core::key::Key;

/// The ledger of the proof. It is shut until proving begins; then every key of every cycle enters it, at
/// the latest when the cycle ends.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    open: Arc<Mutex<Option<HashSet<Key>>>>,
}

impl Ledger {
    /// Begins to record. Keys synchronised from now on are in the ledger.
    pub fn open(&self) {
        self.lock().get_or_insert_default();
    }

    /// Records keys, if the ledger is open.
    pub fn record<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        if let Some(ledger) = self.lock().as_mut() {
            ledger.extend(keys.into_iter().cloned());
        }
    }

    /// Takes everything out; what is not proven then has to be recorded again.
    #[must_use]
    pub fn take(&self) -> HashSet<Key> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether a key is recorded.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.lock().as_ref().is_some_and(|ledger| ledger.contains(key))
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().as_ref().map_or(0, HashSet::len)
    }

    /// Whether nothing is left to prove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashSet<Key>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
