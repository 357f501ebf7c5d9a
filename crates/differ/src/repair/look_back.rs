//! The look back: what was written is read again.

use tokio_util::sync::CancellationToken;

use super::RepairError;
use super::batch::{BATCH_KEYS, Run, cancelled};
use super::decision::NodeRow;
use super::journal::Event;
use super::leftover::Leftover;
use super::target::Locking;
use super::touched::Touched;
use crate::model::Key;

impl Run<'_> {
    /// Reads every touched key again: does anything of it still want repair?
    pub(super) async fn look_back(&mut self, cancel: &CancellationToken) -> Result<(), RepairError> {
        let mut touched = std::mem::replace(&mut self.touched, Touched::new()?).read()?;
        loop {
            cancelled(cancel)?;
            let batch = touched.next(BATCH_KEYS)?;
            if batch.is_empty() {
                return Ok(());
            }
            let keys: Vec<Key> = batch.iter().map(|(key, _)| key.clone()).collect();
            let mut now = Vec::new();
            for target in self.targets.iter_mut() {
                now.push(target.rows(&keys, Locking::None).await?);
            }
            for (index, (key, pairs)) in batch.iter().enumerate() {
                let rows: Vec<Option<NodeRow>> = now.iter().map(|rows| rows[index].clone()).collect();
                let wants = self.decider.wants(pairs, &rows);
                let done = wants.is_ok_and(|wants| wants.iter().all(Option::is_none));
                self.outcome.rechecked += 1;
                if !done {
                    self.outcome.remaining += 1;
                    let reason = "it was written, and is not as it should be: it was changed since, or is stored otherwise".into();
                    self.write_down(self.spokesman(pairs), key, Event::Skipped { reason })?;
                    continue;
                }
                match self.decider.leftover(pairs, &rows) {
                    Leftover::Nothing => {}
                    Leftover::AsAsked => self.outcome.as_asked += 1,
                    Leftover::Skipped(why) => {
                        self.outcome.remaining += 1;
                        let reason = why.to_string();
                        self.write_down(self.spokesman(pairs), key, Event::Skipped { reason })?;
                    }
                }
            }
        }
    }
}
