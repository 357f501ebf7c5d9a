//! Waiting for the right moment, and attempting the cut-over until it succeeds.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use changeling_core::ident::TableName;
use changeling_core::schema::TableSchema;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep, timeout};

use super::MigrationError;
use super::pump::Work;
use crate::alter::Action;
use crate::cutover::actor::{AttemptCutOver, CutOver, CutOverOutcome};
use crate::cutover::work::{ApplierControl, Counter, Swap, TriggerSql, TriggerWriter, Workshop};
use crate::error::ApplyError;
use crate::inspector::topology;
use crate::progress::{Ending, Phase};
use crate::proof::Prover;
use crate::server::{Role, Server};
use crate::settings::{CutOverBackoff, Permission, Place};

/// How often is looked whether the cut-over may begin; gh-ost's.
const LOOK: Duration = Duration::from_millis(500);
/// Heartbeats no older than this leave room for the rest of the work under the lock.
const FRESH: Duration = Duration::from_millis(350);
/// How long to wait for fresh heartbeats before an older one, up to half of the lock's limit, will do: a replica that
/// is a second behind never has fresher ones.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long replication may take to start again after a rehearsal that failed.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// The wait between attempts, before jitter; gh-ost's.
const WAIT: Duration = Duration::from_secs(1);

/// Swaps, sooner or later.
pub(super) async fn swap(
    work: &mut Work<'_>,
    mut prover: Option<&mut Prover>,
) -> Result<Ending, MigrationError> {
    let place = work.pump.settings.place.clone();
    let rehearsal = matches!(place, Place::TestOnReplica { .. });
    gate(work, prover.as_deref_mut()).await?;
    if let Place::TestOnReplica {
        stop_replica: Permission::Refused,
    } = place
    {
        let server = Arc::clone(&work.prepared.written);
        work.guard(still(&server)).await?;
    }
    let Place::TestOnReplica {
        stop_replica: Permission::Granted,
    } = place
    else {
        return attempts(work, prover, rehearsal).await;
    };
    let server = Arc::clone(&work.prepared.written);
    let result = match work.guard(replication(&server, "STOP")).await {
        Ok(()) => attempts(work, prover, rehearsal).await,
        // It may be stopped by half, or be about to stop.
        Err(error) => Err(error),
    };
    if result.is_err() {
        start_again(&server).await;
    }
    result
}

/// Replication goes on after a rehearsal that failed, or the log says that it does not.
async fn start_again(server: &Server) {
    let why = match timeout(START_PATIENCE, replication(server, "START")).await {
        Ok(Ok(())) => return tracing::info!("replication was started again on {}", server.address()),
        Ok(Err(error)) => error.to_string(),
        // It waits for the end of a STOP, which waits for whoever keeps the applier from its table.
        Err(_) => format!("the server did not answer within {START_PATIENCE:?}"),
    };
    tracing::error!(
        "replication on {} is stopped, or about to: look at SHOW {noun} STATUS and start it by hand (START {noun}): {why}",
        server.address(),
        noun = server.replica_word()
    );
}

/// Waits while postponed, keeping the ledger short meanwhile; then analyses the ghost table if asked to.
async fn gate(work: &mut Work<'_>, mut prover: Option<&mut Prover>) -> Result<(), MigrationError> {
    let levers = work.pump.levers.clone();
    let postponed = || {
        let postponement = levers.postponement.borrow();
        !postponement.lifted && postponement.file.as_ref().is_some_and(|file| file.exists())
    };
    while postponed() {
        if !levers.postponing.send_replace(true) {
            tracing::info!("postponing the cut-over: the flag file is there");
            work.pump.phase(Phase::Postponing);
        }
        if let Some(prover) = &mut prover {
            work.guard(prover.shorten_ledger()).await?;
        }
        work.guard(async {
            sleep(LOOK).await;
            Ok::<_, MigrationError>(())
        })
        .await?;
    }
    levers.postponing.send_replace(false);
    work.pump.phase(Phase::CuttingOver);
    if work.pump.settings.cut_over.analyze_ghost.granted() && work.attempts.load(Ordering::Relaxed) == 0 {
        let (server, ghost) = (Arc::clone(&work.prepared.written), work.crew.statements.ghost());
        work.guard(analyze(&server, &ghost)).await?;
    }
    Ok(())
}

async fn analyze(server: &Server, ghost: &TableName) -> Result<(), MigrationError> {
    let mut conn = server.connect(Role::Definer).await?;
    let sql = format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {ghost}");
    let rows: Vec<(String, String, String, String)> = conn
        .query(sql)
        .await
        .map_err(server.failed(&format!("analyse {ghost}")))?;
    match rows
        .into_iter()
        .find(|(_, _, kind, _)| kind.eq_ignore_ascii_case("error"))
    {
        Some((_, _, _, text)) => Err(ApplyError::Aborted(format!("cannot analyse {ghost}: {text}")).into()),
        None => Ok(()),
    }
}

/// Stops or starts a replica's threads.
async fn replication(server: &Server, verb: &str) -> Result<(), MigrationError> {
    let mut conn = server.connect(Role::Definer).await?;
    let noun = server.replica_word();
    for thread in ["IO_THREAD", "SQL_THREAD"] {
        conn.query_drop(format!("{verb} {noun} {thread}"))
            .await
            .map_err(server.failed(&format!("{} replication", verb.to_lowercase())))?;
    }
    Ok(())
}

/// Between a rehearsal's swap and its swap back, a replica that goes on would write to the wrong table.
async fn still(server: &Server) -> Result<(), MigrationError> {
    if topology::applies(server).await? {
        return Err(ApplyError::Aborted(format!(
            "replication still runs on {}, and its changes would go astray between the swap and the swap back: stop it \
             (STOP {noun} SQL_THREAD), then go on with --resume; or leave out --test-on-replica-skip-replica-stop",
            server.address(),
            noun = server.replica_word()
        ))
        .into());
    }
    Ok(())
}

async fn attempts(
    work: &mut Work<'_>,
    mut prover: Option<&mut Prover>,
    rehearsal: bool,
) -> Result<Ending, MigrationError> {
    let cut_over = spawn(work, if rehearsal { Swap::AndBack } else { Swap::ForGood });
    let settings = &work.pump.settings;
    let mut tries = 0;
    loop {
        ready(work, prover.as_deref_mut()).await?;
        tries += 1;
        let attempt = work.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        work.pump
            .state
            .send_modify(|state| state.cut_over_attempts = attempt);
        // Not guarded: once begun, an attempt ends by itself, swapped or undone, within its limit.
        let outcome = cut_over
            .send(AttemptCutOver {
                attempt,
                lock_limit: settings.cut_over.lock_timeout,
            })
            .await
            .unwrap_or_else(|_| CutOverOutcome::Unknown("the cut-over is gone".to_owned()));
        match outcome {
            CutOverOutcome::Swapped(locked_for) => {
                work.crew.closing();
                work.pump
                    .state
                    .send_modify(|state| state.locked_for = Some(locked_for));
                tracing::info!(
                    "cut-over: {} locked for {:.1} ms",
                    settings.table,
                    locked_for.as_secs_f64() * 1e3
                );
                return Ok(if rehearsal {
                    Ending::Rehearsed
                } else {
                    Ending::Swapped
                });
            }
            CutOverOutcome::Retry(why) => {
                tracing::warn!("cut-over attempt {attempt} failed, the original table is in charge: {why}");
                if tries >= settings.retries.max(1) {
                    return Err(ApplyError::Aborted(format!(
                        "the cut-over failed {tries} times, the last time because {why}"
                    ))
                    .into());
                }
                let wait = backoff(&settings.cut_over.backoff, tries);
                work.guard(async {
                    sleep(wait).await;
                    Ok::<_, MigrationError>(())
                })
                .await?;
                gate(work, prover.as_deref_mut()).await?;
            }
            CutOverOutcome::Fatal(error) => return Err(error.into()),
            CutOverOutcome::Unknown(why) => return Err(MigrationError::Unknown(why)),
        }
    }
}

fn spawn(work: &Work<'_>, swap: Swap) -> actix::Addr<CutOver> {
    let crew = work.crew;
    let shop = Workshop {
        writers: crew.sessions.writers.for_role(Role::CutOver),
        plain: crew.sessions.plain.clone(),
        statements: crew.statements.clone(),
        applier: ApplierControl::of(&crew.applier),
        verifier: match work.pump.settings.verify {
            crate::settings::VerifyMode::Off => None,
            _ => Some(Arc::clone(&work.pump.verifier)),
        },
        triggers: triggers(work),
        counter: counter(work),
        swap,
        owner: work.prepared.owner.as_str().into(),
    };
    let (pumps, sentinels) = (work.pump.host.pumps().clone(), crew.sentinels.clone());
    // Not a child of the stop token: an attempt under way is finished or undone, not broken off.
    let cancel = tokio_util::sync::CancellationToken::new();
    work.pump
        .host
        .spawn(move |_| CutOver::new(shop, sentinels, pumps, cancel))
}

/// The next number is carried over unless the ALTER says what it is to be.
fn counter(work: &Work<'_>) -> Counter {
    let plan = &work.prepared.plan;
    let counts = |schema: &TableSchema| schema.columns.iter().any(|column| column.auto_increment);
    let set = work
        .inspection
        .alter
        .actions()
        .any(|action| matches!(action, Action::AutoIncrement { .. }));
    if counts(&plan.original) && counts(&plan.ghost) && !set {
        Counter::Carry
    } else {
        Counter::Leave
    }
}

fn triggers(work: &Work<'_>) -> TriggerWriter {
    let triggers = work.inspection.triggers.clone();
    let policy = work.pump.settings.triggers.clone();
    let owner = work.prepared.owner.clone();
    Arc::new(move |ghost: &TableName| {
        let mut sql = TriggerSql::default();
        for plan in crate::trigger::plan(&triggers, &policy, ghost, &owner) {
            sql.create.extend(plan.create);
            sql.drop.push(plan.drop);
        }
        sql
    })
}

/// Waits until an attempt has a chance: not throttled, and the stream close enough behind. Meanwhile, and from one attempt
/// to the next, the ledger is kept short. A stream that never comes close enough keeps the swap waiting for good, which is
/// said once.
async fn ready(work: &mut Work<'_>, mut prover: Option<&mut Prover>) -> Result<(), MigrationError> {
    let limit = work.pump.settings.cut_over.lock_timeout;
    let crew = work.crew;
    let wait = async {
        let mut throttle = crew.throttle.clone();
        let began = Instant::now();
        let mut said = false;
        loop {
            let _ = throttle.wait_for(|state| state.apply.is_none()).await;
            if let Some(prover) = &mut prover {
                prover.shorten_ledger().await?;
            }
            let age = crew
                .instruments
                .cycles
                .borrow()
                .heartbeat
                .map(|heartbeat| heartbeat.age());
            let patient = began.elapsed() < PATIENCE;
            let enough = if patient { FRESH } else { limit / 2 };
            if age.is_some_and(|age| age <= enough) {
                return Ok::<_, ApplyError>(());
            }
            if !patient && !std::mem::replace(&mut said, true) {
                tracing::warn!("{}", too_far_behind(age, limit));
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    work.guard(wait).await
}

fn too_far_behind(age: Option<Duration>, limit: Duration) -> String {
    let lag = age.map_or_else(
        || "nothing has come".to_owned(),
        |age| format!("the last heartbeat is {:.2}s old", age.as_secs_f64()),
    );
    format!(
        "the cut-over waits until the stream is less than {:.2}s behind, half of --cut-over-lock-timeout-seconds ({lag}): an \
         attempt holds its lock until the stream has caught up. Raise that limit, or read the stream from a server that is \
         closer",
        (limit / 2).as_secs_f64()
    )
}

/// Waits longer each time if asked to, and never in step with anything else.
fn backoff(settings: &CutOverBackoff, tries: u64) -> Duration {
    let base = match settings {
        CutOverBackoff::Constant => WAIT,
        CutOverBackoff::Exponential { max } => {
            let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
            WAIT.saturating_mul(1 << doublings).min(*max)
        }
    };
    let random = RandomState::new().build_hasher().finish() % 500;
    base.mul_f64(0.75 + f64::from(u32::try_from(random).unwrap_or(0)) / 1000.0)
}
