//! Keyed synchronisation: the heart of the product, and the argument why no row is lost.
//!
//! T is the original table, G the ghost table. An event of the binary log says only that a key of T
//! changed. A *cycle* ([`cycle`]) then makes `G[k] = T[k]` for all keys it knows of:
//!
//! 1. take the map of pending keys ([`pending`]);
//! 2. commit a *marker* and wait for its `COMMIT` to return;
//! 3. wait for the copy chunks that were in flight at that moment ([`barrier`]);
//! 4. for each batch of keys ([`statement`]), in READ COMMITTED: delete from G the keys whose last event
//!    removed them, then `REPLACE INTO G … SELECT … FROM T WHERE key IN (…)`.
//!
//! # Why it converges
//!
//! *Write* `s(k)` *for the instant at which a cycle read* `T[k]`.
//!
//! * **What an event says is visible when its key is read.** An event stands in the binary log before its
//!   transaction can be read (flush, sync, semi-sync wait, engine commit, in this order). Commits are
//!   ordered: the engine commits in the order of the log. The marker's event stands after every event of the
//!   map, because the map was taken before it was written; so once its `COMMIT` has returned, they are all
//!   visible, and step 4 reads a state at least as new as every event of the map.
//! * **Every committed change is followed by a sync of its key.** It is an event; the event is delivered;
//!   it enters a map that some later cycle takes. That cycle's `s(k)` is not before the change. Hence after
//!   the last change of k and the cycle after it, `G[k]` was made from the last state, or `k` is in no table.
//! * **An older value never overwrites it.** G is written by cycles and by copy chunks only. Cycles run
//!   strictly one after another, and a key is in one lane of a cycle, so `s(k)` only grows. A chunk that
//!   read before the marker has committed before step 4 begins (step 3); a chunk that starts later reads a
//!   state not older than the map; if what it reads is outdated by the time it writes, then an event that it
//!   does not know of follows, and so does a cycle, which again waits for this very chunk.
//!   A chunk never overwrites (`INSERT IGNORE`).
//! * **A deleted key stays deleted.** Its last event is a removal, so step 4 deletes `G[k]`; a chunk that
//!   had still read the row has committed before. If `T[k]` was inserted again meanwhile, the `REPLACE` brings
//!   it, and its own event follows.
//! * **Rows are not lost to other unique keys.** Let `REPLACE` of k evict `G[j]`, or `INSERT IGNORE` skip k
//!   because of `G[j]`, on a unique key that T has too. T held both rows' values at no one instant, so j
//!   changed on T after the state that `G[j]` shows (and k changed after that). Both changes are events later
//!   than the state of `G[j]`; a cycle that ends after them reads both keys again. The rows that a chunk skipped
//!   enter the map as written, *unless an event of theirs is in it*: a removal that came meanwhile must stay one, or
//!   the deleted row would never be deleted from G. Where a unique key is new or
//!   narrower on G this argument fails, and [`conflict`] takes its place.
//! * **Repeating is harmless.** A cycle reads the present and is idempotent. So a position to resume from only
//!   has to be *not later* than what was synchronised: it is the `upto` of the last batch in the map of the last
//!   completed cycle.
//!
//! The state-space test in `crates/applier/tests/convergence.rs` runs this argument against every
//! interleaving of a small model, and shows that leaving out any one of the steps loses a row.

pub mod barrier;
pub mod conflict;
pub mod cycle;
pub mod lane;
pub mod ledger;
pub mod pending;
pub mod statement;
