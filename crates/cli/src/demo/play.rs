//! The migration under the writers.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use changeling_applier::progress::{Ending, MigrationState, MigrationSummary, Phase};
use changeling_support::load::{LoadReport, Pulse};
use tokio::time::{interval, sleep};

use super::show::Show;
use super::stage::{ALTER, Stage};
use super::summary::{DemoSummary, Latency, Verdict};
use crate::args::demo::DemoArgs;
use crate::migrate::{self, Running as _};
use crate::render::progress::{self, count};

/// How long the writers work undisturbed first: what they wait then is what they wait without us.
const BEFORE: Duration = Duration::from_secs(3);
/// How long they go on after the swap.
const AFTER: Duration = Duration::from_secs(1);
/// How often the writers are looked at before the migration.
const TICK: Duration = Duration::from_millis(200);

/// Runs it to the end.
pub(super) async fn play(
    stage: &Stage,
    arguments: &DemoArgs,
    show: &mut Show,
) -> anyhow::Result<DemoSummary> {
    let writing = stage.load.start();
    let pulse = writing.pulse();
    // The writers first learn by heart what is in the table.
    let started = Instant::now();
    watch_writers(&pulse, started, show).await;
    let speed = pulse.committed() as f64 / started.elapsed().as_secs_f64();
    show.done(
        started.elapsed(),
        "writers",
        &format!(
            "{} connections, {speed:.0} transactions/s, the longest took {}",
            arguments.writers,
            millis(pulse.longest())
        ),
    );

    show.note("change", &ALTER.join(",\n"));
    let began = Instant::now();
    let (migrated, proven) = migrate(stage, &pulse, show).await?;
    let swapped = Instant::now();
    ensure!(
        migrated.ending == Ending::Swapped,
        "the tables were not swapped: {:?}",
        migrated.ending
    );
    let locked_for = migrated.state.locked_for.unwrap_or_default();
    show.milestone(
        "swapped",
        &format!("the table was locked for {}", millis(locked_for)),
    );

    show.waiting("writers", "they go on for a moment");
    show.beside(sleep(AFTER)).await;
    let report = writing.stop().await;
    let comparing = Instant::now();
    show.waiting("comparing", "every row with what the writers committed");
    let (verdict, rows) = show.beside(compare(stage, &report)).await?;
    if verdict == Verdict::Equal {
        let text = format!("{} rows with what the writers committed", count(rows));
        show.done(comparing.elapsed(), "compared", &text);
    }
    Ok(DemoSummary {
        flavor: arguments.flavor,
        version: stage.server.full_version().to_owned(),
        table: stage.load.table.clone(),
        change: ALTER.map(str::to_owned).to_vec(),
        rows,
        rows_copied: migrated.state.rows_copied,
        events: migrated.state.events_applied,
        elapsed: swapped - began,
        elapsed_copy: migrated.state.elapsed_copy,
        writers: arguments.writers,
        transactions: report.committed,
        lock_failures: report.lock_failures,
        before: latency(&report, started, began),
        during: latency(&report, began, proven),
        swapping: latency(&report, proven, swapped),
        locked_for,
        verdict,
    })
}

async fn watch_writers(pulse: &Pulse, started: Instant, show: &mut Show) {
    let mut ticks = interval(TICK);
    while started.elapsed() < BEFORE {
        ticks.tick().await;
        let text = format!(
            "{} transactions, nothing else going on yet",
            count(pulse.committed())
        );
        let position = u64::try_from(started.elapsed().as_millis()).unwrap_or(0);
        show.moving(
            "writing",
            position,
            u64::try_from(BEFORE.as_millis()).unwrap_or(1),
            &text,
        );
    }
}

fn latency(report: &LoadReport, from: Instant, until: Instant) -> Latency {
    let waits = report.within(&(from..until));
    Latency {
        transactions: waits.transactions() as u64,
        usual: waits.percentile(50),
        p95: waits.percentile(95),
        longest: waits.longest(),
    }
}

/// The migration itself, with a bar; and when the proof was complete and the swap began.
async fn migrate(
    stage: &Stage,
    pulse: &Pulse,
    show: &mut Show,
) -> anyhow::Result<(MigrationSummary, Instant)> {
    let migration = migrate::start(stage.settings())?;
    let mut states = migration.states();
    let mut tracker = Tracker::new(pulse);
    let outcome = migration.outcome();
    tokio::pin!(outcome);
    loop {
        tokio::select! {
            outcome = &mut outcome => {
                let summary = outcome?;
                tracker.look(&summary.state, show);
                return Ok((summary, tracker.proven.unwrap_or_else(Instant::now)));
            }
            // Comes with each new phase, and five times a second in between.
            Ok(()) = states.changed() => {
                let state = states.borrow_and_update().clone();
                tracker.look(&state, show);
            }
        }
    }
}

/// What must be remembered between two looks at a migration.
struct Tracker<'a> {
    pulse: &'a Pulse,
    phase: Phase,
    proven: Option<Instant>,
    looked: Instant,
    rows: u64,
    committed: u64,
    copy_rate: f64,
    write_rate: f64,
}

impl<'a> Tracker<'a> {
    fn new(pulse: &'a Pulse) -> Self {
        Self {
            pulse,
            phase: Phase::Preparing,
            proven: None,
            looked: Instant::now(),
            rows: 0,
            committed: pulse.committed(),
            copy_rate: 0.0,
            write_rate: 0.0,
        }
    }

    fn look(&mut self, state: &MigrationState, show: &mut Show) {
        self.measure(state);
        self.tell(state, show);
        let bar = progress::view(state, self.copy_rate);
        let mut parts = match state.phase {
            Phase::Copying => vec![format!("{} rows/s", count(self.copy_rate as u64))],
            Phase::Verifying => vec![format!("{} rows equal", count(state.verified.0))],
            _ => Vec::new(),
        };
        parts.push(format!("{} keys waiting", count(state.backlog)));
        if self.write_rate > 0.0 {
            parts.push(format!(
                "writers {:.0}/s, longest {}",
                self.write_rate,
                millis(self.pulse.longest())
            ));
        }
        parts.extend(state.throttled.as_ref().map(|reason| format!("PAUSED: {reason}")));
        show.moving(bar.phase, bar.position, bar.length, &parts.join(" · "));
    }

    /// One line for each part of the way that is behind us.
    fn tell(&mut self, state: &MigrationState, show: &mut Show) {
        let passed = |phase| self.phase <= phase && state.phase > phase;
        if passed(Phase::Copying) {
            let seconds = state.elapsed_copy.as_secs_f64().max(0.001);
            let speed = state.rows_copied as f64 / seconds;
            let text = format!(
                "{} rows, {} rows/s",
                count(state.rows_copied),
                count(speed as u64)
            );
            show.milestone("copied", &text);
        }
        if passed(Phase::BuildingIndexes) && self.phase == Phase::BuildingIndexes {
            show.milestone("indexed", "the indexes that are not unique, built after the copy");
        }
        if passed(Phase::Verifying) {
            show.milestone(
                "proven",
                "every row is equal in both tables, compared within the server",
            );
            self.proven = Some(Instant::now());
        }
        self.phase = self.phase.max(state.phase);
    }

    /// Rates, smoothed over about ten looks.
    fn measure(&mut self, state: &MigrationState) {
        const NEWEST: f64 = 0.1;
        let seconds = self.looked.elapsed().as_secs_f64();
        if seconds < 0.05 {
            return;
        }
        let committed = self.pulse.committed();
        let smooth = |old: f64, before: u64, now: u64| {
            let newest = now.saturating_sub(before) as f64 / seconds;
            if before == 0 || old == 0.0 {
                newest
            } else {
                old + NEWEST * (newest - old)
            }
        };
        self.copy_rate = smooth(self.copy_rate, self.rows, state.rows_copied);
        self.write_rate = smooth(self.write_rate, self.committed, committed);
        (self.rows, self.committed, self.looked) = (state.rows_copied, committed, Instant::now());
    }
}

/// Compares the table with what the writers know, and with what the ALTER says.
async fn compare(stage: &Stage, report: &LoadReport) -> anyhow::Result<(Verdict, u64)> {
    let rows = report.rows.len() as u64;
    if let Some(first) = report.errors.first() {
        let errors = report.errors.len() as u64;
        return Ok((
            Verdict::WritersFailed {
                errors,
                first: first.clone(),
            },
            rows,
        ));
    }
    let differences = stage.load.differences(&report.rows).await?;
    if !differences.is_empty() {
        let lines = differences.len() as u64;
        return Ok((
            Verdict::Different {
                rows: lines,
                first: differences.into_iter().take(5).collect(),
            },
            rows,
        ));
    }
    let (altered, all) = stage.altered_rows().await?;
    if altered != all {
        bail!(
            "{} of {} rows do not have the new column's value",
            all - altered,
            all
        );
    }
    Ok((Verdict::Equal, rows))
}

/// Milliseconds, to a tenth where that says something.
pub(super) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 100.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{} ms", count(millis as u64))
    }
}
