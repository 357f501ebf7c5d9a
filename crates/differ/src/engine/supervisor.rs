//! The supervisor: which range is next, and what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::fut::{ActorFutureExt, ActorStreamExt, wrap_future, wrap_stream};
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Message};
use changeling_core::actor::{Observe, answer_get_state};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::journal::{DoneBlock, Gap};
use crate::model::{JobSummary, UnknownRange};
use crate::range::KeyRange;
use crate::side::{SideError, SideErrorKind};
use crate::throttle::Board;

use super::child::DiffChild;
use super::collector::{Outlet, SharedTally};
use super::opening::Opening;
use super::pace::{Lot, Pace};
use super::settings::DiffSettings;
use super::state::DiffState;
use super::task::{ChildLost, RangeOutcome, RangeTask, Reported, Seed, Work};

/// Wait before a range is tried again, doubled each time: a server that restarts needs seconds.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Marks of finished blocks on their way to the journal, after which no range is given out: a journal that is slow slows
/// the job down instead of growing a queue.
const MARKS_UNDER_WAY: usize = 64;

/// Hands ranges to children, never more than there are children, newest first.
///
/// Messages in: `GetState`, and a throttle that it watches. Ports out: the children's mailboxes, one task each; marks of
/// finished blocks for the journal. Owns the children and the pending ranges. Blocks are cut out of the table one at a time, and only when a child is free for it, so what waits is
/// bounded by children × fan-out × depth. Of it survives what is in the journal: its end is the job's. It ends when
/// nothing is pending, running or on its way to the journal, or when the job's token is cancelled and the children have answered.
pub(super) struct DiffSupervisor {
    settings: DiffSettings,
    walker: usize,
    make_child: Box<dyn Fn() -> Addr<DiffChild>>,
    cancel: CancellationToken,
    tally: SharedTally,
    bytes_under_way: Box<dyn Fn() -> usize>,
    state: DiffState,
    report: watch::Sender<DiffState>,
    idle: Vec<Addr<DiffChild>>,
    pending: Vec<RangeTask>,
    /// What is to be cut into blocks after the walk under way.
    gaps: VecDeque<Gap>,
    /// Which gap is being walked.
    walking: usize,
    /// Whether a walk ended before its end.
    walk_broken: bool,
    blocks: BTreeMap<u64, Block>,
    /// The way to the journal, if there is one.
    journal: Option<Outlet>,
    /// Rows that earlier runs had seen settled.
    settled_before: u64,
    /// Marks on their way there.
    marks: usize,
    /// When to wait.
    throttle: Option<watch::Receiver<Board>>,
    /// Children that rest after a range.
    resting: usize,
    pace: Pace,
    lot: Option<Lot>,
    failures_in_a_row: u32,
    given_up: Option<Arc<str>>,
}

/// A block that is not done.
struct Block {
    gap: usize,
    range: KeyRange,
    /// Ranges of it that are pending or running.
    open: u64,
    /// Whether any of it differed.
    mismatch: bool,
    /// Whether any of it is unknown.
    unknown: bool,
    /// Rows of it compared so far on each node.
    rows: Vec<u64>,
}

/// Whether a block was left out of a sample.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeftOut {
    Yes,
    No,
}

/// What the supervisor is made of.
pub(super) struct Staffing {
    pub(super) settings: DiffSettings,
    /// The node that cuts out blocks.
    pub(super) walker: usize,
    pub(super) make_child: Box<dyn Fn() -> Addr<DiffChild> + Send>,
    pub(super) cancel: CancellationToken,
    pub(super) tally: SharedTally,
    pub(super) bytes_under_way: Box<dyn Fn() -> usize + Send>,
    pub(super) opening: Opening,
    pub(super) report: watch::Sender<DiffState>,
}

impl DiffSupervisor {
    pub(super) fn new(staffing: Staffing) -> Self {
        let settings = staffing.settings;
        let Opening {
            gaps,
            state,
            settled,
            journal,
            throttle,
        } = staffing.opening;
        let mut supervisor = Self {
            lot: settings.sample.map(Lot::new),
            pace: Pace::new(settings.block_size.get(), settings.block_time),
            settings,
            walker: staffing.walker,
            make_child: staffing.make_child,
            cancel: staffing.cancel,
            tally: staffing.tally,
            bytes_under_way: staffing.bytes_under_way,
            state,
            report: staffing.report,
            idle: Vec::new(),
            pending: Vec::new(),
            gaps,
            walking: 0,
            walk_broken: false,
            blocks: BTreeMap::new(),
            journal,
            settled_before: settled,
            marks: 0,
            throttle,
            resting: 0,
            failures_in_a_row: 0,
            given_up: None,
        };
        supervisor.walk_next();
        supervisor
    }

    /// Begins with the next gap, if there is one. One walk at a time: so the numbers of blocks follow the keys' order.
    fn walk_next(&mut self) {
        let Some(gap) = self.gaps.pop_front() else {
            self.state.walked = !self.walk_broken;
            return;
        };
        self.walking = gap.index;
        self.pending.push(RangeTask {
            seed: None,
            work: Work::Walk {
                rows: self.pace.rows(),
                node: self.walker,
            },
            range: gap.range,
            attempt: 0,
            reported: Reported::default(),
        });
    }

    /// Gives out what can be given out, and ends when nothing is left.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.heed_throttle();
        if self.cancel.is_cancelled() {
            self.state.abandoned += (self.pending.len() + self.gaps.len()) as u64;
            self.pending.clear();
            self.gaps.clear();
        }
        self.give_up_rest();
        while !self.pending.is_empty()
            && self.state.throttled.is_none()
            && self.state.running + self.resting < self.settings.children.get() as usize
            && self.marks < MARKS_UNDER_WAY
        {
            let child = self.idle.pop().unwrap_or_else(|| {
                self.state.children_made += 1;
                (self.make_child)()
            });
            let Some(mut task) = self.pending.pop() else {
                return;
            };
            if let (None, Work::Walk { rows, .. }) = (task.seed, &mut task.work) {
                *rows = self.pace.rows();
            }
            self.start(child, task, ctx);
        }
        self.publish(ctx);
    }

    /// Looks whether to wait, or to end.
    fn heed_throttle(&mut self) {
        let Some(throttle) = &self.throttle else {
            return;
        };
        let board = throttle.borrow();
        self.state.throttled = board.reason();
        if let (None, Some(why)) = (&self.state.critical, board.critical()) {
            tracing::error!(%why, "the comparison ends");
            self.state.critical = Some(why);
            self.cancel.cancel();
        }
    }

    /// Gives a child its rest after a range that took so long.
    fn rest(&mut self, child: Addr<DiffChild>, took: Duration, ctx: &mut Context<Self>) {
        let rest =
            Duration::try_from_secs_f64(took.as_secs_f64() * self.settings.nice_ratio).unwrap_or_default();
        if rest.is_zero() {
            self.idle.push(child);
            return;
        }
        self.resting += 1;
        ctx.run_later(rest, move |actor, ctx| {
            actor.resting -= 1;
            actor.idle.push(child);
            actor.pump(ctx);
        });
    }

    fn start(&mut self, child: Addr<DiffChild>, task: RangeTask, ctx: &mut Context<Self>) {
        self.state.running += 1;
        self.state.most_running = self.state.most_running.max(self.state.running);
        // One message to a child that is idle: its mailbox is empty.
        let answer = child.send(task.clone());
        let began = Instant::now();
        ctx.spawn(wrap_future(answer).map(move |answer, actor: &mut Self, ctx| {
            actor.state.running -= 1;
            match answer {
                Ok(Ok(outcome)) => {
                    actor.rest(child, began.elapsed(), ctx);
                    actor.settle(task, outcome, ctx);
                }
                // The panic was logged where it happened. The address is dropped, and the child with it.
                Ok(Err(ChildLost)) | Err(_) => {
                    actor.again(task, "a child was lost while at it", Duration::ZERO, ctx)
                }
            }
            actor.pump(ctx);
        }));
    }

    fn settle(&mut self, task: RangeTask, outcome: RangeOutcome, ctx: &mut Context<Self>) {
        // A walk that goes on while nothing can be compared is no sign of health.
        if matches!(
            outcome,
            RangeOutcome::Match { .. } | RangeOutcome::Compared { .. } | RangeOutcome::Split { .. }
        ) {
            self.failures_in_a_row = 0;
        }
        match outcome {
            RangeOutcome::Walked { block, rest } => self.walked(&task, block, rest, ctx),
            RangeOutcome::Match { rows, took } => {
                if task.attempt == 0 {
                    self.pace.learn(rows.iter().copied().max().unwrap_or(0), took);
                }
                self.count_rows(task.seed, &rows);
                self.close(task.seed, ctx);
            }
            RangeOutcome::Compared { rows, suspects } => {
                self.count_rows(task.seed, &rows);
                self.mark_mismatch(task.seed, suspects > 0);
                self.close(task.seed, ctx);
            }
            RangeOutcome::Split {
                parts,
                agreed,
                mismatch,
            } => {
                self.count_rows(task.seed, &agreed);
                self.mark_mismatch(task.seed, mismatch);
                self.split(&task, parts, ctx);
            }
            RangeOutcome::Failed(error) => self.failed(task, &error, ctx),
            RangeOutcome::Stopped => self.state.abandoned += 1,
        }
    }

    fn walked(&mut self, task: &RangeTask, block: KeyRange, rest: Option<KeyRange>, ctx: &mut Context<Self>) {
        let gap = self.walking;
        if let Some(rest) = rest {
            let walk = RangeTask {
                range: rest,
                reported: task.reported.fork(),
                ..task.clone()
            };
            self.open(walk.seed);
            self.pending.push(walk);
        } else if task.seed.is_none() {
            self.walk_next();
        }
        let seed = match task.seed {
            Some(seed) => Some(seed),
            None => self.new_block(gap, &block, ctx),
        };
        // The walk itself is done, whatever it has opened.
        if let Some(seed) = seed {
            self.open(Some(seed));
            self.pending.push(RangeTask {
                seed: Some(seed),
                work: Work::Compare,
                range: block,
                attempt: task.attempt,
                reported: task.reported.fork(),
            });
        }
        self.close(task.seed, ctx);
    }

    /// A number for the next block; `None` if it is left out of the sample.
    fn new_block(&mut self, gap: usize, range: &KeyRange, ctx: &mut Context<Self>) -> Seed {
        let number = self.state.ranges;
        self.state.ranges += 1;
        let block = Block {
            gap,
            range: range.clone(),
            open: 0,
            mismatch: false,
            unknown: false,
            rows: vec![0; self.state.rows.len()],
        };
        if self.lot.as_mut().is_some_and(|lot| !lot.draw()) {
            self.state.skipped += 1;
            self.journal(number, block, LeftOut::Yes, ctx);
            return None;
        }
        self.blocks.insert(number, block);
        Some(number)
    }

    fn split(&mut self, task: &RangeTask, parts: Vec<(Work, KeyRange)>, ctx: &mut Context<Self>) {
        // The first part is to be on top.
        for (work, range) in parts.into_iter().rev() {
            self.open(task.seed);
            self.pending.push(RangeTask {
                seed: task.seed,
                work,
                range,
                attempt: task.attempt,
                reported: task.reported.fork(),
            });
        }
        self.close(task.seed, ctx);
    }

    fn failed(&mut self, task: RangeTask, error: &SideError, ctx: &mut Context<Self>) {
        if error.kind == SideErrorKind::Permanent {
            return self.unknown(&task, &error.to_string(), ctx);
        }
        let pause = RETRY_PAUSE.saturating_mul(1 << task.attempt.min(6));
        let task = match (&task.work, error.kind) {
            // Too much for one statement: in smaller blocks, each of which inherits the attempts.
            (Work::Compare | Work::Read { .. }, SideErrorKind::Timeout) => RangeTask {
                work: Work::Walk {
                    rows: (self.settings.block_size.get() >> (3 * (task.attempt + 1))).max(1),
                    node: 0,
                },
                ..task
            },
            _ => task,
        };
        self.again(task, &error.to_string(), pause, ctx);
    }

    /// Tries it again after a pause, or leaves it as unknown.
    fn again(&mut self, task: RangeTask, why: &str, pause: Duration, ctx: &mut Context<Self>) {
        let attempt = task.attempt + 1;
        if attempt >= self.settings.attempts.get() || self.cancel.is_cancelled() {
            return self.unknown(&task, why, ctx);
        }
        tracing::warn!(range = %task.range, attempt, why, "a range is tried again");
        self.state.retries += 1;
        let task = RangeTask { attempt, ..task };
        if pause.is_zero() {
            self.pending.push(task);
            return;
        }
        // It keeps its place among the running: a server that is in trouble gets no other range meanwhile.
        self.state.running += 1;
        ctx.run_later(pause, move |actor, ctx| {
            actor.state.running -= 1;
            actor.pending.push(task);
            actor.pump(ctx);
        });
    }

    fn unknown(&mut self, task: &RangeTask, why: &str, ctx: &mut Context<Self>) {
        if self.cancel.is_cancelled() {
            self.state.abandoned += 1;
            return;
        }
        tracing::warn!(range = %task.range, why, "a range is unknown");
        self.record_unknown(&task.range, why);
        match task.seed.and_then(|seed| self.blocks.get_mut(&seed)) {
            Some(block) => block.unknown = true,
            None => {
                // The rest of this gap is unknown, the next may be better.
                self.walk_broken = true;
                self.walk_next();
            }
        }
        self.close(task.seed, ctx);
        self.failures_in_a_row += 1;
        if self.failures_in_a_row >= self.settings.give_up_after.get() {
            self.given_up = Some(why.into());
        }
    }

    fn record_unknown(&mut self, range: &KeyRange, why: &str) {
        self.state.unknown += 1;
        if self.state.unknown_ranges.len() < JobSummary::SHOWN_UNKNOWN {
            self.state.unknown_ranges.push(UnknownRange {
                range: range.clone(),
                reason: why.to_owned(),
            });
        }
    }

    fn give_up_rest(&mut self) {
        let Some(why) = self.given_up.clone() else {
            return;
        };
        let pending = std::mem::take(&mut self.pending)
            .into_iter()
            .map(|task| task.range);
        let gaps = std::mem::take(&mut self.gaps).into_iter().map(|gap| gap.range);
        for range in pending.chain(gaps) {
            self.record_unknown(&range, &format!("not looked at after others had failed: {why}"));
        }
    }

    fn count_rows(&mut self, seed: Seed, rows: &[u64]) {
        let add = |sums: &mut [u64]| {
            for (sum, rows) in sums.iter_mut().zip(rows) {
                *sum += rows;
            }
        };
        add(&mut self.state.rows);
        if let Some(block) = seed.and_then(|seed| self.blocks.get_mut(&seed)) {
            add(&mut block.rows);
        }
    }

    fn open(&mut self, seed: Seed) {
        if let Some(block) = seed.and_then(|seed| self.blocks.get_mut(&seed)) {
            block.open += 1;
        }
    }

    fn mark_mismatch(&mut self, seed: Seed, mismatch: bool) {
        if let Some(block) = seed.and_then(|seed| self.blocks.get_mut(&seed)) {
            block.mismatch |= mismatch;
        }
    }

    fn close(&mut self, seed: Seed, ctx: &mut Context<Self>) {
        let Some(number) = seed else {
            return;
        };
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        block.open -= 1;
        if block.open > 0 {
            return;
        }
        if let Some(block) = self.blocks.remove(&number) {
            self.state.ranges_done += 1;
            self.state.mismatched_ranges += u64::from(block.mismatch);
            if !block.unknown {
                self.journal(number, block, LeftOut::No, ctx);
            }
        }
    }

    /// Sends the mark of a finished block. The job is not done before it has arrived.
    fn journal(&mut self, number: u64, block: Block, left_out: LeftOut, ctx: &mut Context<Self>) {
        let Some(journal) = self.journal.clone() else {
            return;
        };
        let done = DoneBlock {
            block: number,
            gap: block.gap,
            range: block.range,
            at: Timestamp::now(),
            rows: block.rows,
            mismatch: block.mismatch,
            left_out: left_out == LeftOut::Yes,
            settled: self.tally.read().settled - self.settled_before,
        };
        self.marks += 1;
        let sent = async move { journal.mark(done).await };
        ctx.spawn(wrap_future(sent).map(|_closed, actor: &mut Self, ctx| {
            // If nobody takes it any more the job has failed or has enough, and says so itself.
            actor.marks -= 1;
            actor.pump(ctx);
        }));
    }

    fn publish(&mut self, ctx: &mut Context<Self>) {
        self.state.pending = self.pending.len();
        self.state.most_pending = self.state.most_pending.max(self.pending.len());
        self.state.done = self.pending.is_empty() && self.state.running == 0 && self.marks == 0;
        self.report.send_replace(self.observe());
        if self.state.done {
            ctx.stop();
        }
    }
}

impl Actor for DiffSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.pump(ctx);
        // Children answer a cancelled job by themselves; this only ends a wait before another try.
        let cancelled = self.cancel.clone().cancelled_owned();
        ctx.spawn(wrap_future(cancelled).map(|(), actor: &mut Self, ctx| actor.pump(ctx)));
        if let Some(throttle) = self.throttle.clone() {
            let changes = futures_util::stream::unfold(throttle, async |mut throttle| {
                throttle.changed().await.ok()?;
                Some(((), throttle))
            });
            let heeded = wrap_stream(changes).map(|(), actor: &mut Self, ctx| actor.pump(ctx));
            ctx.spawn(heeded.finish());
        }
    }
}

impl Observe for DiffSupervisor {
    type State = DiffState;

    fn observe(&self) -> DiffState {
        DiffState {
            found: self.tally.read(),
            bytes_under_way: (self.bytes_under_way)(),
            ..self.state.clone()
        }
    }
}

answer_get_state!(DiffSupervisor);

/// Asks the job to end. What was found until then is kept.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct CancelJob;

impl actix::Handler<CancelJob> for DiffSupervisor {
    type Result = ();

    fn handle(&mut self, _: CancelJob, ctx: &mut Self::Context) {
        self.cancel.cancel();
        self.pump(ctx);
    }
}
