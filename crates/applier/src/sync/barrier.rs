//! Which copy chunks are in flight, and waiting for those that were at some moment.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The copy chunks in flight.
///
/// A chunk is in flight from before its statement is sent until its commit has returned or its failure is
/// certain; a retry belongs to the same flight.
#[derive(Clone, Debug, Default)]
pub struct Flights {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    landed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    aloft: BTreeSet<u64>,
}

/// A chunk in flight; it lands when this is dropped.
#[derive(Debug)]
pub struct Flight {
    flights: Flights,
    number: u64,
}

impl Flights {
    /// A chunk takes off.
    #[must_use]
    pub fn take_off(&self) -> Flight {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.aloft.insert(number);
        Flight {
            flights: self.clone(),
            number,
        }
    }

    /// How many are in flight.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().aloft.len()
    }

    /// Waits until every chunk that is in flight now has landed. Chunks that take off later are not
    /// waited for. Cancel-safe.
    pub async fn landed(&self) {
        let horizon = self.state().next;
        loop {
            let landed = self.shared.landed.notified();
            tokio::pin!(landed);
            // Registered before looking, so that a landing in between is not missed.
            landed.as_mut().enable();
            if self.state().aloft.range(..horizon).next().is_none() {
                return;
            }
            landed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.state().aloft.remove(&self.number);
        self.flights.shared.landed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_chunks_that_were_in_flight_are_waited_for() {
        let flights = Flights::default();
        flights.landed().await;
        let first = flights.take_off();
        let waiting = tokio::spawn({
            let flights = flights.clone();
            async move { flights.landed().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        let later = flights.take_off();
        drop(first);
        waiting.await.unwrap();
        assert_eq!(flights.count(), 1);
        drop(later);
    }
}
