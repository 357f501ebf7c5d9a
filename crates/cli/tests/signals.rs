//! Signals. A process has them once, so this is a program of its own, with one test.

use std::process::Command;
use std::time::Duration;

use changeling_cli::signal::Signals;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

fn send(signal: &str) {
    let sent = Command::new("sh")
        .args(["-c", "kill -$0 $1", signal, &std::process::id().to_string()])
        .status()
        .expect("a shell");
    assert!(sent.success());
}

#[tokio::test]
async fn the_first_asks_the_second_ends_and_a_hangup_does_neither() {
    let signals = Signals::listen().expect("signals can be listened to");
    let stop = CancellationToken::new();
    let watching = tokio::spawn(signals.watch(stop.clone()));
    send("HUP");
    sleep(Duration::from_millis(200)).await;
    assert!(!stop.is_cancelled() && !watching.is_finished());
    send("TERM");
    timeout(Duration::from_secs(10), stop.cancelled())
        .await
        .expect("the first asks to stop");
    assert!(!watching.is_finished());
    send("INT");
    let status = timeout(Duration::from_secs(10), watching)
        .await
        .expect("the second ends")
        .expect("no panic");
    assert_eq!(status, 130);
}
