//! Writers that know what they wrote.
//!
//! Each writer has keys and unique values of its own, so it sees no error that it would not see alone, and the
//! rows that must be in the table at the end are known exactly: a lost, doubled or altered row shows whatever
//! happened to the table meanwhile. Within a writer's share everything happens: inserts, updates, deletes, key
//! changes, unique values swapped between rows, `REPLACE`, transactions of several rows, rollbacks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, TxOpts};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::{Result, SupportError};

/// Connections that fill a table: while one waits for the server, the other makes its next statement. Named in
/// [`Load::create_counting`] one by one.
const FILLERS: i64 = 2;
/// Rows of a filling statement: its text stays below a quarter of a megabyte, a packet that every server accepts.
const FILL_ROWS: i64 = 4000;

/// What a row holds beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Unique over the table.
    pub u: String,
    /// A counter.
    pub v: i64,
    /// Text of changing length.
    pub note: String,
}

/// Rows by key.
pub type Rows = BTreeMap<i64, Row>;

/// InnoDB's own account of the last deadlock; nothing where it cannot be had.
async fn last_deadlock(opts: &Opts) -> String {
    let Ok(mut conn) = Conn::new(opts.clone()).await else {
        return String::new();
    };
    let status: Option<(String, String, String)> =
        conn.query_first("SHOW ENGINE INNODB STATUS").await.ok().flatten();
    let text = status.map(|(_, _, text)| text).unwrap_or_default();
    let begin = text.find("LATEST DETECTED DEADLOCK").unwrap_or(text.len());
    let account = &text[begin..];
    // The next heading follows the verdict.
    let verdict = account.find("*** WE ROLL BACK").unwrap_or(0);
    let end = account[verdict..]
        .find('\n')
        .map_or(account.len(), |line| verdict + line);
    account[..end].to_owned()
}

/// Whether InnoDB's account of a deadlock is about this session, and nobody took part but writers: what a migration runs
/// is marked by a comment.
fn is_among_writers(account: &str, session: u32) -> bool {
    account.contains(&format!("thread id {session},")) && !account.contains("/* changeling")
}

/// A table and the writers that work on it.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where.
    pub opts: Opts,
    /// The table's name, quoted as it is needed in SQL, schema included.
    pub table: String,
    /// Connections that write at once.
    pub writers: u64,
    /// Rows at the beginning, keys from 1.
    pub rows: i64,
    /// The same seed gives each writer the same sequence of transactions.
    pub seed: u64,
    /// Pause after each transaction.
    pub pause: Duration,
}

/// What the writers saw.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// What must be in the table.
    pub rows: Rows,
    /// Transactions committed.
    pub committed: u64,
    /// Transactions rolled back on purpose.
    pub rolled_back: u64,
    /// Errors, with the statement.
    pub errors: Vec<String>,
    /// Deadlocks of two writers: next to each other in a unique index they lock each other's gaps. Nobody else's fault.
    pub among_writers: u64,
    /// Other deadlocks and lock waits. Like those, such a transaction was not counted and not tried again.
    pub lock_failures: u64,
    /// The first of them, with what InnoDB says of its last deadlock.
    pub first_lock_failure: Option<String>,
    /// The longest a transaction took.
    pub longest: Duration,
    /// All durations, in order of their length.
    pub durations: Vec<Duration>,
    /// When each transaction began, and how long it took; of one writer after the other.
    pub timeline: Vec<(Instant, Duration)>,
}

impl LoadReport {
    /// The duration that a share of the transactions did not exceed; zero without transactions.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.durations, percent)
    }

    /// The transactions of some time: those under way at its beginning, and those that began within it.
    #[must_use]
    pub fn within(&self, time: &Range<Instant>) -> Waits {
        let mut durations: Vec<Duration> = self
            .timeline
            .iter()
            .filter(|(began, took)| *began < time.end && *began + *took >= time.start)
            .map(|(_, took)| *took)
            .collect();
        durations.sort_unstable();
        Waits { durations }
    }
}

/// How long transactions took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    durations: Vec<Duration>,
}

impl Waits {
    /// How many transactions there were.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.durations.len()
    }

    /// The longest; zero without transactions.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.durations.last().copied().unwrap_or_default()
    }

    /// The duration that a share of the transactions did not exceed; zero without transactions.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.durations, percent)
    }
}

fn percentile(durations: &[Duration], percent: usize) -> Duration {
    let last = durations.len().saturating_sub(1);
    durations.get(last * percent / 100).copied().unwrap_or_default()
}

/// What writers have done so far, to be looked at while they work.
#[derive(Debug, Default)]
pub struct Pulse {
    committed: AtomicU64,
    longest_micros: AtomicU64,
}

impl Pulse {
    /// Transactions committed so far.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// The longest that a transaction has taken so far.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_micros.load(Ordering::Relaxed))
    }

    fn beat(&self, took: Duration, committed: bool) {
        self.committed.fetch_add(u64::from(committed), Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_micros.fetch_max(micros, Ordering::Relaxed);
    }
}

/// Writers at work.
#[derive(Debug)]
pub struct RunningLoad {
    stop: CancellationToken,
    writers: Vec<JoinHandle<LoadReport>>,
    pulse: Arc<Pulse>,
}

impl Load {
    /// The definition of the table's columns and keys, for `CREATE TABLE`.
    pub const COLUMNS: &'static str = "id bigint NOT NULL PRIMARY KEY, u varchar(64) NOT NULL, v int NOT NULL, note varchar(300) NOT NULL, \
         changed timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), \
         UNIQUE KEY u (u), KEY v (v)";

    /// Creates the table and fills it.
    ///
    /// # Errors
    /// As the server says.
    pub async fn create(&self) -> Result<()> {
        self.create_counting(&AtomicI64::new(0)).await
    }

    /// The same, with a count of the rows that are in the table so far.
    ///
    /// # Errors
    /// As the server says.
    pub async fn create_counting(&self, filled: &AtomicI64) -> Result<()> {
        let mut conn = self.connect().await?;
        let sql = format!("CREATE TABLE {} ({}) ENGINE=InnoDB", self.table, Self::COLUMNS);
        self.run(&mut conn, &sql).await?;
        tokio::try_join!(self.fill(0, filled), self.fill(1, filled)).map(drop)
    }

    /// Every `FILLERS`th statement, so that the table grows at its end only.
    async fn fill(&self, turn: i64, filled: &AtomicI64) -> Result<()> {
        let mut conn = self.connect().await?;
        let mut first = 1 + turn * FILL_ROWS;
        while first <= self.rows {
            let last = self.rows.min(first + FILL_ROWS - 1);
            let mut sql = format!("INSERT INTO {} (id, u, v, note) VALUES ", self.table);
            for id in first..=last {
                let row = first_row(id);
                let comma = if id == first { "" } else { "," };
                let _ = write!(sql, "{comma}({id},'{}',{},'{}')", row.u, row.v, row.note);
            }
            self.run(&mut conn, &sql).await?;
            filled.fetch_add(last - first + 1, Ordering::Relaxed);
            first += FILLERS * FILL_ROWS;
        }
        Ok(())
    }

    /// Starts the writers.
    #[must_use]
    pub fn start(&self) -> RunningLoad {
        let stop = CancellationToken::new();
        let pulse = Arc::new(Pulse::default());
        let writers = (0..self.writers)
            .map(|number| {
                let writer = Writer::new(self.clone(), number, Arc::clone(&pulse));
                tokio::spawn(writer.run(stop.clone()))
            })
            .collect();
        RunningLoad { stop, writers, pulse }
    }

    /// Compares the table with what must be in it: one line for each row that is missing, extra or different, the first
    /// hundred of them.
    ///
    /// # Errors
    /// As the server says.
    pub async fn differences(&self, expected: &Rows) -> Result<Vec<String>> {
        const SHOWN: usize = 100;
        let mut conn = self.connect().await?;
        let sql = format!("SELECT id, u, v, note FROM {} ORDER BY id", self.table);
        let found: Vec<(i64, String, i64, String)> = conn
            .query(&sql)
            .await
            .map_err(|error| self.failed(&sql, &error))?;
        let found: Rows = found
            .into_iter()
            .map(|(id, u, v, note)| (id, Row { u, v, note }))
            .collect();
        let mut lines = Vec::new();
        for (id, row) in expected {
            match found.get(id) {
                None => lines.push(format!("missing {id}: {row:?}")),
                Some(other) if other != row => lines.push(format!("different {id}: {other:?} for {row:?}")),
                Some(_) => {}
            }
        }
        lines.extend(
            found
                .iter()
                .filter(|(id, _)| !expected.contains_key(id))
                .map(|(id, row)| format!("extra {id}: {row:?}")),
        );
        lines.truncate(SHOWN);
        Ok(lines)
    }

    async fn connect(&self) -> Result<Conn> {
        Conn::new(self.opts.clone())
            .await
            .map_err(|error| self.failed("connect", &error))
    }

    async fn run(&self, conn: &mut Conn, sql: &str) -> Result<()> {
        conn.query_drop(sql)
            .await
            .map_err(|error| self.failed(sql, &error))
    }

    fn failed(&self, sql: &str, error: &mysql_async::Error) -> SupportError {
        let sql: String = sql.chars().take(200).collect();
        SupportError::Load(format!("{}: {error}: {sql}", self.table))
    }
}

impl RunningLoad {
    /// What they have done so far.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Lets each writer end its transaction, and adds up what they saw.
    pub async fn stop(self) -> LoadReport {
        self.stop.cancel();
        let mut total = LoadReport::default();
        for writer in self.writers {
            match writer.await {
                Ok(report) => {
                    total.rows.extend(report.rows);
                    total.committed += report.committed;
                    total.rolled_back += report.rolled_back;
                    total.errors.extend(report.errors);
                    total.among_writers += report.among_writers;
                    total.lock_failures += report.lock_failures;
                    total.first_lock_failure = total.first_lock_failure.or(report.first_lock_failure);
                    total.longest = total.longest.max(report.longest);
                    total.durations.extend(report.durations);
                    total.timeline.extend(report.timeline);
                }
                Err(error) => total.errors.push(format!("a writer panicked: {error}")),
            }
        }
        total.durations.sort_unstable();
        total
    }
}

fn first_row(id: i64) -> Row {
    Row {
        u: format!("u{id}"),
        v: id % 1000,
        note: format!("row {id}"),
    }
}

/// A small generator of its own: the sequence must be the same with every version of every library.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

struct Writer {
    load: Load,
    number: u64,
    dice: Dice,
    fresh: u64,
    pulse: Arc<Pulse>,
    report: LoadReport,
}

/// A transaction: its statements, and the rows if it commits.
struct Step {
    statements: Vec<String>,
    rows: Rows,
    removed: Vec<i64>,
}

impl Writer {
    fn new(load: Load, number: u64, pulse: Arc<Pulse>) -> Self {
        let share = |id: &i64| id.unsigned_abs() % load.writers == number;
        let rows = (1..=load.rows)
            .filter(share)
            .map(|id| (id, first_row(id)))
            .collect();
        let dice = Dice(load.seed.wrapping_mul(1_000_003).wrapping_add(number));
        Self {
            load,
            number,
            dice,
            fresh: 0,
            pulse,
            report: LoadReport {
                rows,
                ..LoadReport::default()
            },
        }
    }

    async fn run(mut self, stop: CancellationToken) -> LoadReport {
        let mut conn = None;
        while !stop.is_cancelled() {
            let step = self.step();
            let commit = self.dice.below(10) != 0;
            let began = Instant::now();
            let result = self.attempt(&mut conn, &step, commit).await;
            let took = began.elapsed();
            self.report.longest = self.report.longest.max(took);
            self.report.durations.push(took);
            self.report.timeline.push((began, took));
            self.pulse.beat(took, commit && result.is_ok());
            match result {
                Ok(()) if commit => {
                    self.report.committed += 1;
                    step.removed
                        .iter()
                        .for_each(|id| drop(self.report.rows.remove(id)));
                    self.report.rows.extend(step.rows);
                }
                Ok(()) => self.report.rolled_back += 1,
                Err(error) => {
                    let id = conn.take().map(|conn| conn.id());
                    if matches!(&error, mysql_async::Error::Server(error) if matches!(error.code, 1205 | 1213))
                    {
                        let deadlock = last_deadlock(&self.load.opts).await;
                        if id.is_some_and(|id| is_among_writers(&deadlock, id)) {
                            self.report.among_writers += 1;
                        } else {
                            self.report.lock_failures += 1;
                            self.report
                                .first_lock_failure
                                .get_or_insert_with(|| format!("{error}: {:?}\n{deadlock}", step.statements));
                        }
                    } else {
                        self.report.errors.push(format!("{error}: {:?}", step.statements));
                    }
                }
            }
            if !self.load.pause.is_zero() {
                tokio::time::sleep(self.load.pause).await;
            }
        }
        self.report
    }

    async fn attempt(
        &self,
        conn: &mut Option<Conn>,
        step: &Step,
        commit: bool,
    ) -> std::result::Result<(), mysql_async::Error> {
        if conn.is_none() {
            *conn = Some(Conn::new(self.load.opts.clone()).await?);
        }
        let Some(conn) = conn else { return Ok(()) };
        let mut transaction = conn.start_transaction(TxOpts::default()).await?;
        for statement in &step.statements {
            transaction.query_drop(statement).await?;
        }
        if commit {
            transaction.commit().await
        } else {
            transaction.rollback().await
        }
    }

    fn step(&mut self) -> Step {
        let mut step = Step {
            statements: Vec::new(),
            rows: Rows::new(),
            removed: Vec::new(),
        };
        for _ in 0..=self.dice.below(3) {
            match self.dice.below(16) {
                0..=3 if self.crowded() => self.delete(&mut step),
                0..=3 => self.insert(&mut step),
                4..=8 => self.update(&mut step),
                9..=10 => self.delete(&mut step),
                11..=12 => self.change_key(&mut step),
                13..=14 => self.swap_unique(&mut step),
                _ => self.replace(&mut step),
            }
        }
        step
    }

    /// Whether free keys become so few that finding one takes long: writers that work for minutes would end up
    /// with none.
    fn crowded(&self) -> bool {
        let share = u64::try_from(self.load.rows).unwrap_or(0) / self.load.writers.max(1);
        self.report.rows.len() as u64 > share + share / 2 + 60
    }

    /// A key of this writer that exists and was not touched in this transaction.
    fn existing(&mut self, step: &Step) -> Option<i64> {
        let first = i64::try_from(self.dice.next() % 1_000_000_007).unwrap_or(0);
        let span = self.report.rows.keys().next_back().copied().unwrap_or(1).max(1);
        let from = first % (span + 1);
        let untouched = |id: &&i64| !step.rows.contains_key(id) && !step.removed.contains(id);
        let rows = &self.report.rows;
        rows.range(from..)
            .map(|(id, _)| id)
            .find(untouched)
            .or_else(|| rows.keys().find(untouched))
            .copied()
    }

    /// A key of this writer that is free.
    fn free(&mut self, step: &Step) -> i64 {
        loop {
            let span = u64::try_from(self.load.rows).unwrap_or(0) * 2 + 1000;
            let turn = self.dice.below(span / self.load.writers + 1);
            let id = i64::try_from(turn * self.load.writers + self.number).unwrap_or(0);
            if id > 0 && !self.report.rows.contains_key(&id) && !step.rows.contains_key(&id) {
                return id;
            }
        }
    }

    fn fresh_row(&mut self) -> Row {
        self.fresh += 1;
        let length = usize::try_from(self.dice.below(200)).unwrap_or(0);
        Row {
            u: format!("w{}-{}-{}", self.load.seed, self.number, self.fresh),
            v: i64::try_from(self.dice.below(1_000_000)).unwrap_or(0),
            note: "x".repeat(length),
        }
    }

    fn insert(&mut self, step: &mut Step) {
        let id = self.free(step);
        self.write(step, "INSERT", id);
    }

    /// A whole new row in the place of one that is there.
    fn replace(&mut self, step: &mut Step) {
        let Some(id) = self.existing(step) else { return };
        self.write(step, "REPLACE", id);
    }

    fn write(&mut self, step: &mut Step, verb: &str, id: i64) {
        let row = self.fresh_row();
        let table = &self.load.table;
        step.statements.push(format!(
            "{verb} INTO {table} (id, u, v, note) VALUES ({id}, '{}', {}, '{}')",
            row.u, row.v, row.note
        ));
        step.rows.insert(id, row);
        step.removed.retain(|removed| *removed != id);
    }

    fn update(&mut self, step: &mut Step) {
        let Some(id) = self.existing(step) else { return };
        let mut row = self.report.rows[&id].clone();
        row.v += 1;
        let Row { note, .. } = self.fresh_row();
        row.note = note;
        let table = &self.load.table;
        step.statements.push(format!(
            "UPDATE {table} SET v = v + 1, note = '{}' WHERE id = {id}",
            row.note
        ));
        step.rows.insert(id, row);
    }

    fn delete(&mut self, step: &mut Step) {
        let Some(id) = self.existing(step) else { return };
        step.statements
            .push(format!("DELETE FROM {} WHERE id = {id}", self.load.table));
        step.removed.push(id);
    }

    fn change_key(&mut self, step: &mut Step) {
        let Some(id) = self.existing(step) else { return };
        let other = self.free(step);
        step.statements.push(format!(
            "UPDATE {} SET id = {other} WHERE id = {id}",
            self.load.table
        ));
        let row = self.report.rows[&id].clone();
        step.removed.retain(|removed| *removed != other);
        step.removed.push(id);
        step.rows.insert(other, row);
    }

    /// The values of two rows change places, by way of a third value.
    fn swap_unique(&mut self, step: &mut Step) {
        let Some(one) = self.existing(step) else { return };
        let mut first = self.report.rows[&one].clone();
        step.rows.insert(one, first.clone());
        let Some(other) = self.existing(step) else { return };
        let mut second = self.report.rows[&other].clone();
        std::mem::swap(&mut first.u, &mut second.u);
        let third = self.fresh_row().u;
        let table = &self.load.table;
        for (id, value) in [(one, &third), (other, &second.u), (one, &first.u)] {
            step.statements
                .push(format!("UPDATE {table} SET u = '{value}' WHERE id = {id}"));
        }
        step.rows.insert(one, first);
        step.rows.insert(other, second);
    }
}
