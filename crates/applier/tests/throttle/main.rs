//! The throttler from outside: alone with the clock stopped, and on real servers.

mod alone;
mod heartbeat;
mod servers;

use std::time::Duration;

use changeling_applier::throttle::{Abort, ThrottleState};
use changeling_core::actor::{Delivery, Port};
use tokio::sync::{mpsc, watch};

/// How long a test waits before it calls something a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the pumps are told so; says what they were told instead.
async fn until(throttled: &mut watch::Receiver<ThrottleState>, wanted: impl Fn(&ThrottleState) -> bool) {
    let reached = tokio::time::timeout(PATIENCE, throttled.wait_for(wanted))
        .await
        .is_ok();
    assert!(reached, "still {:?}", throttled.borrow());
}

/// Whether both copy and apply wait for a reason that begins so.
fn both(state: &ThrottleState, reason: &str) -> bool {
    let told =
        |text: &Option<std::sync::Arc<str>>| text.as_ref().is_some_and(|text| text.starts_with(reason));
    told(&state.copy) && told(&state.apply)
}

fn free(state: &ThrottleState) -> bool {
    *state == ThrottleState::default()
}

/// Where aborts arrive.
fn aborts() -> (Port<Abort>, mpsc::Receiver<Delivery<Abort>>) {
    let (sender, receiver) = mpsc::channel(4);
    (Port::channel(sender), receiver)
}

async fn reason_of(aborts: &mut mpsc::Receiver<Delivery<Abort>>) -> String {
    let delivery = tokio::time::timeout(PATIENCE, aborts.recv())
        .await
        .expect("an abort")
        .expect("a throttler");
    delivery.reply.accept(());
    delivery.message.reason.to_string()
}
