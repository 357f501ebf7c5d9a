//! The walk through the phases.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use changeling_core::actor::ActorHost;
use changeling_core::change_source::ChangeSource;
use changeling_core::ident::{TableName, quote};
use mysql_async::prelude::Queryable;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::begin::{self, Prepared, Start};
use super::checkpoints::Checkpoints;
use super::crew::{Crew, CrewParts};
use super::levers::Levers;
use super::lock::MigrationLock;
use super::status::Snapshots;
use super::{MigrationError, Outcome, ProofBy, SourceFactory, finish, swap, verify_report};
use crate::changelog::Changelog;
use crate::copy::chunk::Copier;
use crate::copy::planner::Planner;
use crate::copy::pump::{CopyProgress, CopyPump};
use crate::error::ApplyError;
use crate::ghost::Definer;
use crate::inspector::{Inspection, await_prepared};
use crate::plan::TableNames;
use crate::progress::{Ending, MigrationState, MigrationSummary, Phase};
use crate::proof::{Extent, Prover};
use crate::server::{Role, Server};
use crate::sessions::Sessions;
use crate::settings::{MigrationSettings, Purpose, VerifyMode};

/// How long the first heartbeat may take to come back through the stream. A lagging replica delivers what came before
/// it first, so this is long; the message then says where to look.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(600);
/// More attempts than an earlier run can have begun after its last checkpoint: their sentinels are still in the log, and
/// must not pass for newer ones than ours.
const SINCE_CHECKPOINT: u64 = 1_000;
/// How long before it says what it waits for.
const IMPATIENT: Duration = Duration::from_secs(10);

/// Does the work of a migration.
pub(super) struct MigrationPump {
    pub(super) host: ActorHost,
    pub(super) settings: MigrationSettings,
    pub(super) verifier: ProofBy,
    pub(super) levers: Levers,
    pub(super) state: watch::Sender<MigrationState>,
    pub(super) stop: CancellationToken,
}

/// What the later phases work with.
pub(super) struct Work<'a> {
    pub pump: &'a MigrationPump,
    pub inspection: &'a Inspection,
    pub prepared: &'a Prepared,
    pub crew: &'a Crew,
    pub faults: mpsc::Receiver<ApplyError>,
    /// Ends pumps and retries when the migration stops.
    pub cancel: CancellationToken,
    /// Cut-over attempts begun, earlier runs included.
    pub attempts: Arc<AtomicU64>,
}

impl MigrationPump {
    pub(super) fn new(
        host: ActorHost,
        settings: MigrationSettings,
        verifier: ProofBy,
        levers: Levers,
        state: watch::Sender<MigrationState>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            host,
            settings,
            verifier,
            levers,
            state,
            stop,
        }
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.state.send_modify(|state| state.phase = phase);
    }

    pub(super) async fn run(mut self, source: SourceFactory) -> Outcome {
        let inspection = Inspection::begin(&self.settings).await?;
        self.introduce(&inspection).await;
        let _lock = {
            let (server, table) = (&inspection.primary, &inspection.names.original);
            MigrationLock::take(server, table, self.settings.retries, &self.levers).await?
        };
        if let Some(summary) = finish::instant(&self, &inspection).await? {
            return Ok(summary);
        }
        let source = source(&inspection.source);
        let prepared = match begin::prepare(&self.settings, &inspection, &*source).await? {
            Start::Work(prepared) => prepared,
            Start::Swapped(checkpoint) => {
                return Ok(finish::after_swap(&self, &inspection, &checkpoint).await);
            }
        };
        self.settings.table = prepared.plan.names.original.clone();
        if self.settings.purpose == Purpose::DryRun {
            return finish::dry_run(&self, &inspection, &prepared).await;
        }
        self.execute(&inspection, &prepared, source).await
    }

    async fn introduce(&self, inspection: &Inspection) {
        let rows = estimate_rows(&inspection.primary, &inspection.names.original).await;
        self.state.send_modify(|state| {
            state.names = Some(inspection.names.clone());
            state.applier = inspection.primary.identity.clone();
            state.inspector = inspection.source.identity.clone();
            state.rows_estimate = rows;
        });
    }

    async fn execute(
        &self,
        inspection: &Inspection,
        prepared: &Prepared,
        source: Arc<dyn ChangeSource>,
    ) -> Outcome {
        let files = self
            .create_postpone_file()
            .and_then(|()| Ok(verify_report::begin(&self.settings, &prepared.plan)?));
        if let Err(error) = files {
            if self.nothing_done(prepared) {
                self.after_failure(inspection, prepared).await;
            }
            return Err(error);
        }
        let copied = prepared
            .resumed
            .as_ref()
            .map_or_else(CopyProgress::default, |from| CopyProgress {
                rows: from.rows_copied,
                chunks: 0,
                watermark: from.watermark.clone(),
            });
        if let Some(from) = &prepared.resumed {
            tracing::info!(
                "Resuming from checkpoint at coords={}, {} rows copied",
                from.upto,
                from.rows_copied
            );
        }
        let crew = Crew::start(CrewParts {
            host: &self.host,
            settings: &self.settings,
            plan: Arc::clone(&prepared.plan),
            owner: &prepared.owner,
            source,
            inspected: Arc::clone(&prepared.inspected),
            written: Arc::clone(&prepared.written),
            start: prepared.start.clone(),
            levers: &self.levers,
            copied,
            events_before: prepared.resumed.as_ref().map_or(0, |from| from.events_applied),
        });
        let snapshots = Snapshots {
            state: self.state.clone(),
            levers: self.levers.clone(),
            instruments: crew.instruments.clone(),
            began: Instant::now(),
        };
        let ticker = Ticker(tokio::spawn(snapshots.clone().keep_fresh()));
        let faults = self.levers.fault.lock().ok().and_then(|mut faults| faults.take());
        let Some(faults) = faults else {
            return Err(MigrationError::Resume(
                "this migration was started before".to_owned(),
            ));
        };
        let mut work = Work {
            pump: self,
            inspection,
            prepared,
            crew: &crew,
            faults,
            cancel: self.stop.child_token(),
            attempts: Arc::new(AtomicU64::new(
                prepared
                    .resumed
                    .as_ref()
                    .map_or(0, |from| from.attempts + SINCE_CHECKPOINT),
            )),
        };
        let result = work.phases().await;
        work.cancel.cancel();
        let compared = *crew.instruments.proof.borrow();
        verify_report::end(&self.settings, &prepared.plan, compared, &result);
        let last = work.checkpoints();
        let result = match result {
            Err(MigrationError::Stopped(_)) if self.nothing_done(prepared) => Err(MigrationError::Stopped(
                "Nothing was copied yet and nothing is left behind".to_owned(),
            )),
            Err(MigrationError::Stopped(_)) => Err(MigrationError::Stopped(last.last().await)),
            result => result,
        };
        drop(ticker);
        snapshots.last();
        let names = TableNames {
            old: crew.statements.old(),
            ..prepared.plan.names.clone()
        };
        crew.dismiss(&self.levers).await;
        let ending = match result {
            Ok(ending) => ending,
            Err(error) => {
                self.after_failure(inspection, prepared).await;
                return Err(error);
            }
        };
        finish::clean_up(self, inspection, &names, &prepared.owner, &ending).await;
        self.phase(Phase::Done);
        Ok(MigrationSummary {
            state: self.state.borrow().clone(),
            ending,
        })
    }
}

impl MigrationPump {
    /// gh-ost's way: the file is there from the start, so that removing it is all there is to do.
    fn create_postpone_file(&self) -> Result<(), MigrationError> {
        let Some(path) = &self.settings.cut_over.postpone_flag_file else {
            return Ok(());
        };
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(drop)
            .map_err(|error| {
                let path = path.display();
                ApplyError::Aborted(format!(
                    "cannot create {path}: {error}. Choose another --postpone-cut-over-flag-file"
                ))
                .into()
            })
    }

    fn nothing_done(&self, prepared: &Prepared) -> bool {
        self.state.borrow().phase < Phase::Copying && prepared.resumed.is_none()
    }

    /// Before a row was copied, our tables are worth nothing and go; later they are what a resumed run goes on from.
    async fn after_failure(&self, inspection: &Inspection, prepared: &Prepared) {
        if self.nothing_done(prepared) {
            begin::discard(
                inspection,
                &begin::ours(&self.settings, &prepared.plan),
                &prepared.owner,
            )
            .await;
            return;
        }
        let names = &prepared.plan.names;
        tracing::error!(
            "{}, {} and {} are left behind: go on with --resume, or, if what ended this run says to start anew, start again with \
             --initially-drop-ghost-table",
            names.ghost,
            names.changelog,
            names.checkpoint
        );
    }
}

/// Ends the ticker with its scope.
struct Ticker(JoinHandle<()>);

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Work<'_> {
    /// Runs a phase until it ends, a fault ends the migration, or the operator does.
    pub(super) async fn guard<T, E: Into<MigrationError>>(
        &mut self,
        phase: impl Future<Output = Result<T, E>>,
    ) -> Result<T, MigrationError> {
        let stop = &self.pump.stop;
        tokio::select! {
            biased;
            fault = self.faults.recv() => Err(fault
                .unwrap_or_else(|| ApplyError::Aborted("the migration lost its levers".to_owned()))
                .into()),
            () = stop.cancelled() => Err(MigrationError::Stopped(String::new())),
            result = phase => result.map_err(Into::into),
        }
    }

    async fn phases(&mut self) -> Result<Ending, MigrationError> {
        let (pump, crew, prepared) = (self.pump, self.crew, self.prepared);
        let cancel = self.cancel.clone();
        self.guard(first_heartbeat(crew, prepared)).await?;
        // What is prepared from now on is in the stream; what was prepared before has to be decided first.
        self.guard(await_prepared(&self.inspection.primary, pump.settings.verify))
            .await?;
        let checkpoints = Ticker(tokio::spawn(self.checkpoints().keep()));
        self.count_rows().await?;
        pump.phase(Phase::Copying);
        self.guard(copy(pump, crew, &cancel)).await?;
        tracing::info!("Row copy complete");
        pump.phase(Phase::BuildingIndexes);
        self.guard(build_indexes(self.inspection, prepared)).await?;
        let mut prover = self.prover();
        if let Some(prover) = &mut prover {
            pump.phase(Phase::Verifying);
            self.guard(prover.prove()).await?;
            let proof = *crew.instruments.proof.borrow();
            tracing::info!(
                "proven: {} rows in {} ranges, {} keys again, {} caught up late",
                proof.rows,
                proof.ranges,
                proof.keys,
                proof.suspects
            );
        }
        let ending = swap::swap(self, prover.as_mut()).await;
        drop(checkpoints);
        ending
    }

    fn checkpoints(&self) -> Checkpoints {
        Checkpoints {
            settings: self.pump.settings.clone(),
            plan: Arc::clone(&self.prepared.plan),
            owner: self.prepared.owner.clone(),
            instruments: self.crew.instruments.clone(),
            sessions: self.crew.sessions.markers.clone(),
            state: self.pump.state.clone(),
            attempts: Arc::clone(&self.attempts),
        }
    }

    fn prover(&self) -> Option<Prover> {
        let extent = match self.pump.settings.verify {
            VerifyMode::Off => return None,
            VerifyMode::Sample => Extent::Sample,
            VerifyMode::Full => Extent::Full,
        };
        let crew = self.crew;
        Some(Prover {
            verifier: Arc::clone(&self.pump.verifier),
            statements: crew.statements.clone(),
            readers: crew.sessions.readers.clone(),
            ledger: crew.ledger.clone(),
            cycles: crew.instruments.cycles.clone(),
            throttle: crew.throttle.clone(),
            workers: self.pump.settings.copy.workers.get(),
            extent,
            progress: crew.instruments.proof.clone(),
            cancel: self.cancel.clone(),
        })
    }

    /// Counts before or beside the copy, as asked.
    async fn count_rows(&mut self) -> Result<(), MigrationError> {
        let settings = &self.pump.settings;
        if !settings.exact_rowcount.granted() {
            return Ok(());
        }
        let count = count_exactly(
            Arc::clone(&self.prepared.written),
            self.prepared.plan.names.original.to_string(),
            self.pump.state.clone(),
        );
        if settings.concurrent_rowcount.granted() {
            let cancel = self.cancel.clone();
            tokio::spawn(async move { cancel.run_until_cancelled(count).await });
            return Ok(());
        }
        self.pump.phase(Phase::CountingRows);
        self.guard(async {
            count.await;
            Ok::<_, MigrationError>(())
        })
        .await
    }
}

/// The server's own estimate; zero where it has none, which shows as no estimate.
async fn estimate_rows(server: &Server, table: &TableName) -> u64 {
    let estimate = async {
        let mut conn = server.connect(Role::Inspector).await.ok()?;
        let sql =
            "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
        let rows: Option<Option<u64>> = conn.exec_first(sql, (&table.schema, &table.table)).await.ok()?;
        let _ = conn.disconnect().await;
        rows.flatten()
    };
    estimate.await.unwrap_or(0)
}

async fn count_exactly(server: Arc<Server>, table: String, state: watch::Sender<MigrationState>) {
    let counted = async {
        let mut conn = server.connect(Role::Inspector).await?;
        let sql = format!("SELECT /* changeling */ COUNT(*) FROM {table}");
        let rows: Option<u64> = conn.query_first(sql).await.map_err(server.failed("count rows"))?;
        let _ = conn.disconnect().await;
        Ok::<_, crate::server::ServerError>(rows.unwrap_or(0))
    };
    match counted.await {
        Ok(rows) => state.send_modify(|state| state.rows_estimate = rows),
        Err(error) => tracing::warn!(%error, "the estimate of rows stays what it was"),
    }
}

/// The stream works, and everything from its start on comes through it, once a heartbeat that was written after
/// that start has been seen.
async fn first_heartbeat(crew: &Crew, prepared: &Prepared) -> Result<(), ApplyError> {
    let began = changeling_core::marker::Heartbeat::now().written_at_micros;
    let mut cycles = crew.instruments.cycles.clone();
    let seen = async {
        let seen = |heartbeat: changeling_core::marker::Heartbeat| heartbeat.written_at_micros >= began;
        let _ = cycles.wait_for(|state| state.heartbeat.is_some_and(seen)).await;
    };
    tokio::pin!(seen);
    if timeout(IMPATIENT, &mut seen).await.is_ok() {
        return Ok(());
    }
    tracing::warn!(
        "waiting for the first heartbeat to come through the binary log of {}; does it lag, or leave out {}?",
        prepared.inspected.address(),
        prepared.plan.names.changelog
    );
    timeout(FIRST_HEARTBEAT, seen).await.map_err(|_| {
        ApplyError::Aborted(format!(
            "no heartbeat came through the binary log of {} in {FIRST_HEARTBEAT:?}. Does it replicate, log what it \
             replicates (log_replica_updates), and not filter {}?",
            prepared.inspected.address(),
            prepared.plan.names.changelog
        ))
    })
}

async fn copy(pump: &MigrationPump, crew: &Crew, cancel: &CancellationToken) -> Result<(), ApplyError> {
    let names = &crew.statements.plan().names;
    // The stream has started; what is visible after this marker and changes later comes through it.
    Changelog::new(names.changelog.clone(), &crew.sessions.markers)
        .marker(cancel)
        .await?;
    let readers = &crew.sessions.readers;
    refuse_rows_without_key(crew, readers).await?;
    let end = Planner::last_key(&mut readers.lasting(), &crew.statements, cancel).await?;
    let done = crew.instruments.copy.borrow().watermark.clone();
    let settings = &pump.settings.copy;
    let copier = |_| {
        let session = crew.sessions.writers.for_role(Role::Copier).lasting();
        Copier::new(session, crew.statements.clone(), settings.warnings)
    };
    crew.instruments.copying_since.send_replace(Some(Instant::now()));
    CopyPump {
        planner: Planner::new(readers.lasting(), crew.statements.clone(), done, end),
        copiers: (0..settings.workers.get()).map(copier).collect(),
        flights: crew.flights.clone(),
        backlog: Arc::clone(&crew.instruments.backlog),
        cycles: crew.instruments.cycles.clone(),
        controls: Arc::clone(&pump.levers.copy),
        throttle: crew.throttle.clone(),
        progress: crew.instruments.copy.clone(),
        cancel: cancel.clone(),
    }
    .run()
    .await
}

/// A row with NULL in the key is in no range of the copy. Those that are there are looked for after the stream has begun;
/// one that is written later stops the migration by its event.
async fn refuse_rows_without_key(crew: &Crew, readers: &Sessions) -> Result<(), ApplyError> {
    let plan = crew.statements.plan();
    let nullable: Vec<String> = plan
        .key
        .columns
        .iter()
        .filter(|column| column.source.nullable)
        .map(|column| format!("{} IS NULL", quote(&column.source.name)))
        .collect();
    if nullable.is_empty() {
        return Ok(());
    }
    let original = &plan.names.original;
    let sql = format!("SELECT 1 FROM {original} WHERE {} LIMIT 1", nullable.join(" OR "));
    let mut conn = readers.open().await?;
    let found: Option<u8> = conn
        .query_first(sql)
        .await
        .map_err(readers.server().failed("look for rows with NULL in the key"))?;
    if found.is_some() {
        return Err(ApplyError::Aborted(format!(
            "{original} has rows with NULL in its key {} ({}), by which rows are to be found; give them a value, or choose \
             another key",
            quote(&plan.key.source_name),
            nullable.join(" or ")
        )));
    }
    Ok(())
}

async fn build_indexes(inspection: &Inspection, prepared: &Prepared) -> Result<(), MigrationError> {
    let indexes = &prepared.plan.deferred_indexes;
    if indexes.is_empty() {
        return Ok(());
    }
    let mut definer = Definer::open(&inspection.primary, &inspection.definition, &prepared.owner).await?;
    definer
        .build_deferred(&prepared.plan.names.ghost, indexes)
        .await?;
    Ok(())
}
