//! Which polls there are, and how they are run.

use std::sync::Arc;

use actix::{AsyncContext, Context};
use changeling_core::actor::{ExitStatus, OnExit, Pump};
use tokio_util::sync::CancellationToken;

use super::Throttler;
use crate::throttle::poll::{Poll, poll_files, poll_lag, poll_loads, poll_query, poll_replica};
use crate::throttle::readings::Replica;

impl Throttler {
    pub(super) fn start_polls(&mut self, ctx: &mut Context<Self>) {
        if !self.setup.files.is_empty() {
            let files = poll_files(self.poll(ctx), self.setup.files.clone());
            self.start("throttle: flag files", ctx, files);
        }
        let Some(servers) = self.setup.servers.clone() else {
            return;
        };
        let applier = self.links.to(&servers.applier);
        let inspected = self.links.to(&servers.inspected);
        let loads = poll_loads(self.poll(ctx), Arc::clone(&applier), Arc::clone(&self.look));
        self.start("throttle: load", ctx, loads);
        let query = poll_query(self.poll(ctx), applier);
        self.start("throttle: query", ctx, query);
        let lag = poll_lag(self.poll(ctx), inspected, servers, self.setup.heartbeat_interval);
        self.start("throttle: lag", ctx, lag);
        self.follow_replicas(ctx);
    }

    /// One poll for each control replica; those that stay keep theirs.
    pub(super) fn follow_replicas(&mut self, ctx: &mut Context<Self>) {
        let Some(servers) = self.setup.servers.clone() else {
            return;
        };
        let wanted = self.setup.limits.borrow().control_replicas.clone();
        let mut former = std::mem::take(&mut self.readings.replicas);
        for host in wanted {
            if self.readings.replicas.iter().any(|replica| replica.host == host) {
                continue;
            }
            let replica = match former.iter().position(|replica| replica.host == host) {
                Some(index) => former.swap_remove(index),
                None => {
                    let poll = poll_replica(
                        self.poll(ctx),
                        Arc::clone(&self.links),
                        servers.clone(),
                        host.clone(),
                    );
                    Replica {
                        address: format!("{}:{}", host.0, host.1),
                        host,
                        lag: None,
                        _pump: self.pump("throttle: control replica", ctx, poll),
                    }
                }
            };
            self.readings.replicas.push(replica);
        }
    }

    fn poll(&self, ctx: &Context<Self>) -> Poll {
        Poll {
            throttler: ctx.address().downgrade(),
            limits: self.setup.limits.subscribe(),
        }
    }

    fn start(
        &mut self,
        name: &'static str,
        ctx: &Context<Self>,
        poll: impl Future<Output = ExitStatus> + Send + 'static,
    ) {
        let pump = self.pump(name, ctx, poll);
        self.pumps.push(pump);
    }

    /// A poll holds nothing that needs winding up, so it is cut off wherever it is.
    fn pump(
        &self,
        name: &'static str,
        ctx: &Context<Self>,
        poll: impl Future<Output = ExitStatus> + Send + 'static,
    ) -> Pump {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let throttler = ctx.address().downgrade();
        let exited = OnExit::call(move |exited| {
            if let Some(throttler) = throttler.upgrade() {
                drop(throttler.try_send(exited));
            }
        });
        let poll = async move {
            token
                .run_until_cancelled(poll)
                .await
                .unwrap_or(ExitStatus::Cancelled)
        };
        Pump::spawn(&self.setup.pumps, name, cancel, poll, exited)
    }
}
