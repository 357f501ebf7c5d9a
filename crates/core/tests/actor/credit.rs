use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use changeling_core::actor::Credits;
use futures_util::FutureExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_messages_nor_bytes_than_the_window() {
    let credits = Credits::new(3, 100);
    let (messages, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks = (0..8_usize).map(|task| {
        let (credits, messages, bytes) = (credits.clone(), Arc::clone(&messages), Arc::clone(&bytes));
        tokio::spawn(async move {
            for round in 0..300 {
                let weight = 1 + (task * 37 + round * 11) % 100;
                let permit = credits.acquire(weight).await;
                assert!(messages.fetch_add(1, Ordering::SeqCst) < 3);
                assert!(bytes.fetch_add(weight, Ordering::SeqCst) + weight <= 100);
                let (held_messages, held_bytes) = credits.in_flight();
                assert!(
                    held_messages <= 3 && held_bytes <= 100,
                    "{held_messages} {held_bytes}"
                );
                tokio::task::yield_now().await;
                messages.fetch_sub(1, Ordering::SeqCst);
                bytes.fetch_sub(weight, Ordering::SeqCst);
                drop(permit);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("the window held");
    }
    assert_eq!(credits.in_flight(), (0, 0));
}

#[tokio::test]
async fn an_oversize_message_passes_alone() {
    let credits = Credits::new(10, 100);
    let small = credits.acquire(1).await;
    assert!(
        credits.acquire(1000).now_or_never().is_none(),
        "it must wait for the small one"
    );
    drop(small);
    let huge = credits
        .acquire(1000)
        .now_or_never()
        .expect("it passes when nothing else is there");
    assert_eq!(credits.in_flight(), (1, 100));
    assert!(
        credits.acquire(0).now_or_never().is_none(),
        "not even a weightless one beside it"
    );
    drop(huge);
    assert!(credits.acquire(0).now_or_never().is_some());
}

#[tokio::test]
async fn a_heavy_message_is_not_starved_by_light_ones() {
    let credits = Credits::new(10, 100);
    let light = credits.acquire(50).await;
    let mut heavy = Box::pin(credits.acquire(100));
    assert!(heavy.as_mut().now_or_never().is_none());
    assert!(
        credits.acquire(10).now_or_never().is_none(),
        "it came later and must wait"
    );
    drop(light);
    assert!(heavy.now_or_never().is_some());
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_nothing_behind() {
    let credits = Credits::new(2, 100);
    let permit = credits.acquire(60).await;
    let mut waiter = Box::pin(credits.acquire(60));
    assert!(waiter.as_mut().now_or_never().is_none());
    assert_eq!(credits.in_flight(), (1, 60), "a waiter holds no credit");
    drop(waiter);
    assert!(credits.acquire(40).now_or_never().is_some());
    drop(permit);
    assert!(credits.acquire(100).now_or_never().is_some());
}

#[tokio::test]
async fn an_empty_window_is_one_message_wide() {
    let credits = Credits::new(0, 0);
    let permit = credits
        .acquire(5)
        .now_or_never()
        .expect("else nothing could ever pass");
    assert!(credits.acquire(5).now_or_never().is_none());
    drop(permit);
}
