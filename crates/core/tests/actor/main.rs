//! The actor layer from outside, as other crates see it.

mod credit;
mod host;
mod port;
mod pump;
mod supervise;

use std::fmt;

/// How long a test waits before it calls something a hang.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// An error with a text.
#[derive(Debug)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

/// Waits for what must come.
async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}
