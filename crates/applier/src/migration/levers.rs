//! What an operator can move while a migration runs.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use actix::Addr;
use tokio::sync::{mpsc, watch};

use crate::copy::pump::CopyControls;
use crate::copy::size::ChunkSize;
use crate::error::ApplyError;
use crate::settings::MigrationSettings;
use crate::throttle::Throttler;

/// Faults that may wait unread: the first one decides.
const FAULTS: usize = 16;

/// Whether the cut-over waits for its flag file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Postponement {
    /// The file whose existence postpones.
    pub file: Option<PathBuf>,
    /// An operator said not to wait. Holds until the cut-over has succeeded or is postponed anew.
    pub lifted: bool,
}

/// Shared by the actor, which moves them, and the pump, which obeys.
#[derive(Clone, Debug)]
pub(super) struct Levers {
    /// Chunk size and nice ratio.
    pub copy: Arc<CopyControls>,
    /// Keys of a sync statement.
    pub batch_keys: Arc<AtomicUsize>,
    /// Whether the cut-over waits.
    pub postponement: watch::Sender<Postponement>,
    /// Whether it is waiting at this moment.
    pub postponing: watch::Sender<bool>,
    /// Where reasons to end are sent.
    pub faults: mpsc::Sender<ApplyError>,
    pub(super) fault: Arc<Mutex<Option<mpsc::Receiver<ApplyError>>>>,
    throttler: Arc<Mutex<Option<Addr<Throttler>>>>,
}

impl Levers {
    pub(super) fn new(settings: &MigrationSettings) -> Self {
        let (faults, fault) = mpsc::channel(FAULTS);
        let size = ChunkSize::new(settings.copy.chunk_size, settings.copy.chunk_time);
        Self {
            copy: Arc::new(CopyControls::new(size, settings.throttle.nice_ratio)),
            batch_keys: Arc::new(AtomicUsize::new(settings.batch_keys)),
            postponement: watch::Sender::new(Postponement {
                file: settings.cut_over.postpone_flag_file.clone(),
                lifted: false,
            }),
            postponing: watch::Sender::new(false),
            faults,
            fault: Arc::new(Mutex::new(Some(fault))),
            throttler: Arc::default(),
        }
    }

    /// The throttler, once there is one.
    pub(super) fn throttler(&self) -> Option<Addr<Throttler>> {
        self.throttler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_throttler(&self, throttler: Option<Addr<Throttler>>) {
        *self.throttler.lock().unwrap_or_else(PoisonError::into_inner) = throttler;
    }

    /// Reports a reason to end. If the channel is full, there are reasons enough.
    pub(super) fn fault(&self, error: ApplyError) {
        let _ = self.faults.try_send(error);
    }
}
