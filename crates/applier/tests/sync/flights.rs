//! Waiting for chunks, by a clock that stands still.

use std::time::Duration;

use changeling_applier::sync::barrier::Flights;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn several_cycles_wait_for_several_chunks() {
    let flights = Flights::default();
    let began = Instant::now();
    for seconds in [3, 1, 2] {
        let flight = flights.take_off();
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            drop(flight);
        });
    }
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let flights = flights.clone();
            tokio::spawn(async move { flights.landed().await })
        })
        .collect();
    for wait in waiting {
        wait.await.unwrap();
    }
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    assert_eq!(flights.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_never_pauses_does_not_starve_the_cycle() {
    let flights = Flights::default();
    let copying = flights.clone();
    let mut flight = copying.take_off();
    let copy = tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(100)).await;
            // The next one takes off before this one lands: there is always one in flight.
            let next = copying.take_off();
            drop(std::mem::replace(&mut flight, next));
        }
    });
    timeout(Duration::from_secs(1), flights.landed()).await.unwrap();
    assert_eq!(flights.count(), 1);
    copy.abort();
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_is_harmless_and_a_chunk_that_panics_lands() {
    let flights = Flights::default();
    let flight = flights.take_off();
    assert!(timeout(Duration::from_secs(1), flights.landed()).await.is_err());
    let chunk = tokio::spawn(async move {
        let _flight = flight;
        panic!("the chunk is lost");
    });
    flights.landed().await;
    assert!(chunk.await.is_err());
}
