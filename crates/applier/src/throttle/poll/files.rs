//! Flag files.

use std::path::Path;

use changeling_core::actor::ExitStatus;

use super::super::setup::FlagFiles;
use super::{INTERVAL, Poll, Reading, Trouble};

/// Looks for the flag files, each second.
pub(in super::super) async fn poll_files(mut poll: Poll, files: FlagFiles) -> ExitStatus {
    let watched = |path: &Path| Trouble::new(format!("flag file {}", path.display()));
    let mut throttling: Vec<_> = files.throttle.iter().map(|path| (path, watched(path))).collect();
    let mut panicking = files.panic.as_ref().map(|path| (path, watched(path)));
    loop {
        let mut throttle = false;
        for (path, trouble) in &mut throttling {
            throttle |= exists(path, trouble).await;
        }
        let mut panic = None;
        if let Some((path, trouble)) = &mut panicking
            && exists(path, trouble).await
        {
            panic = Some(format!(
                "Found panic-file {}. Aborting without cleanup",
                path.display()
            ));
        }
        if !poll.report(Reading::Files { throttle, panic }).await {
            return ExitStatus::DownstreamClosed;
        }
        poll.rest(INTERVAL).await;
    }
}

/// A path that cannot be looked at does not exist, as far as gh-ost is concerned.
async fn exists(path: &Path, trouble: &mut Trouble) -> bool {
    match tokio::fs::try_exists(path).await {
        Ok(exists) => {
            trouble.over();
            exists
        }
        Err(error) => {
            trouble.failed(&error);
            false
        }
    }
}
