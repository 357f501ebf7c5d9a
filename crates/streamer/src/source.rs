//! A server's binary log as a [`ChangeSource`].

use changeling_core::actor::{ActorHost, Port};
use changeling_core::change::ChangeBatch;
use changeling_core::change_source::{ChangeSource, SourceError, StreamHandle, StreamSpec};
use changeling_core::coords::Coordinates;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::actor::Streamer;
use crate::binlog::position::Inquiry;
use crate::error::StreamError;
use crate::options::BinlogSourceOptions;

/// The binary log of one server, primary or replica.
///
/// It owns no connection; each question and each stream opens its own.
#[derive(Clone, Debug)]
pub struct BinlogSource {
    options: BinlogSourceOptions,
}

impl BinlogSource {
    /// The binary log of the server that the options name.
    #[must_use]
    pub fn new(options: BinlogSourceOptions) -> Self {
        Self { options }
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &BinlogSourceOptions {
        &self.options
    }

    async fn ask_current(&self) -> Result<Coordinates, StreamError> {
        let mut inquiry = Inquiry::open(&self.options).await?;
        let answer = inquiry.current(self.options.by).await;
        inquiry.close().await;
        answer
    }

    async fn ask_check(&self, at: &Coordinates) -> Result<(), StreamError> {
        let mut inquiry = Inquiry::open(&self.options).await?;
        let answer = inquiry.check(at, self.options.by).await;
        inquiry.close().await;
        answer
    }
}

impl ChangeSource for BinlogSource {
    fn current(&self) -> BoxFuture<'_, Result<Coordinates, SourceError>> {
        async { Ok(self.ask_current().await?) }.boxed()
    }

    fn check_start<'a>(&'a self, at: &'a Coordinates) -> BoxFuture<'a, Result<(), SourceError>> {
        async { Ok(self.ask_check(at).await?) }.boxed()
    }

    fn start(
        &self,
        host: &ActorHost,
        spec: StreamSpec,
        at: Coordinates,
        changes: Port<ChangeBatch>,
    ) -> StreamHandle {
        let (told, exit) = oneshot::channel();
        let streamer = Streamer::new(self.clone(), spec, at, changes, host.pumps().clone())
            .exits_to(move |status| drop(told.send(status)));
        let (state, cancel) = (streamer.state(), streamer.cancel_token());
        // It keeps itself alive until its pump has ended.
        drop(host.spawn(move |_| streamer));
        StreamHandle { state, cancel, exit }
    }
}
