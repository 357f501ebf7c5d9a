//! Writers at a steady pace, in the shape of sysbench's `oltp_write_only`.
//!
//! A transaction is an update of the indexed column, one of another column, a delete and an insert of the same key:
//! four row changes. Each has a time at which it is due, whatever became of those before it; its latency counts from
//! then, so that a stall shows in everything that it held up, not in one transaction of each session.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use changeling_core::ident::TableName;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::sysbench::Dice;

/// Deadlock, and lock wait: such a transaction is counted and not tried again.
const CONTENTION: [u16; 2] = [1213, 1205];

/// Who writes what.
#[derive(Clone, Debug)]
pub struct Writers {
    /// Where.
    pub opts: Opts,
    /// The table.
    pub table: TableName,
    /// Keys from 1 to this.
    pub rows: u32,
    /// Transactions due each second.
    pub rate: f64,
    /// Sessions.
    pub connections: u64,
}

/// One transaction.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// When it was to begin.
    pub due: Instant,
    /// When it began.
    pub began: Instant,
    /// When its commit was answered.
    pub ended: Instant,
}

/// Everything the writers did.
#[derive(Debug, Default)]
pub struct Timeline {
    beats: Vec<Beat>,
    /// Transactions that met a deadlock or a lock wait.
    pub contended: u64,
    /// Other errors, by their text.
    pub errors: BTreeMap<String, u64>,
}

/// How long transactions of some time took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    /// How many.
    pub transactions: usize,
    /// Each second.
    pub rate: f64,
    /// From when they began, 95 of 100.
    pub p95: Duration,
    /// From when they began, 99 of 100.
    pub p99: Duration,
    /// The longest from when they began.
    pub longest: Duration,
    /// From when they were due, 99 of 100.
    pub due_p99: Duration,
    /// The longest from when they were due.
    pub due_longest: Duration,
}

/// Writers at work.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Timeline>>,
}

impl Writers {
    /// Starts them.
    ///
    /// # Errors
    /// When a session cannot be opened.
    pub async fn start(&self) -> Result<Running> {
        let stop = CancellationToken::new();
        let mut sessions = Vec::new();
        for _ in 0..self.connections {
            sessions.push(Conn::new(self.opts.clone()).await?);
        }
        let pace = Pace {
            began: Instant::now(),
            step: Duration::from_secs_f64(1.0 / self.rate),
            next: Arc::new(AtomicU64::new(0)),
        };
        let task = |(number, conn): (u64, Conn)| {
            let writer = Writer {
                writers: self.clone(),
                conn,
                dice: Dice::new(number << 32),
                seen: Timeline::default(),
            };
            tokio::spawn(writer.run(pace.clone(), stop.clone()))
        };
        let tasks = (1..).zip(sessions).map(task).collect();
        Ok(Running { stop, tasks })
    }
}

impl Running {
    /// Lets each end its transaction.
    ///
    /// # Errors
    /// When one panicked.
    pub async fn stop(self) -> Result<Timeline> {
        self.stop.cancel();
        let mut all = Timeline::default();
        for task in self.tasks {
            let seen = task.await?;
            all.beats.extend(seen.beats);
            all.contended += seen.contended;
            for (text, count) in seen.errors {
                *all.errors.entry(text).or_default() += count;
            }
        }
        Ok(all)
    }
}

/// Tells each transaction when it is due.
#[derive(Clone, Debug)]
struct Pace {
    began: Instant,
    step: Duration,
    next: Arc<AtomicU64>,
}

impl Pace {
    fn next(&self) -> Instant {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.began + self.step.mul_f64(number as f64)
    }
}

struct Writer {
    writers: Writers,
    conn: Conn,
    dice: Dice,
    seen: Timeline,
}

impl Writer {
    async fn run(mut self, pace: Pace, stop: CancellationToken) -> Timeline {
        while !stop.is_cancelled() {
            let due = pace.next();
            tokio::select! {
                () = sleep_until(due) => {}
                () = stop.cancelled() => break,
            }
            let began = Instant::now();
            match self.transaction().await {
                Ok(()) => self.seen.beats.push(Beat {
                    due,
                    began,
                    ended: Instant::now(),
                }),
                Err(error) => self.failed(error).await,
            }
        }
        let _ = self.conn.disconnect().await;
        self.seen
    }

    async fn transaction(&mut self) -> Result<(), mysql_async::Error> {
        let (table, rows) = (&self.writers.table, self.writers.rows);
        let mut id = || 1 + self.dice.below(rows);
        let (indexed, plain, moved) = (id(), id(), id());
        let (k, c, pad) = (
            1 + self.dice.below(rows),
            self.dice.digits(10),
            self.dice.digits(5),
        );
        let conn = &mut self.conn;
        conn.query_drop("BEGIN").await?;
        conn.exec_drop(format!("UPDATE {table} SET k = k + 1 WHERE id = ?"), (indexed,))
            .await?;
        conn.exec_drop(
            format!("UPDATE {table} SET c = ? WHERE id = ?"),
            (self.dice.digits(10), plain),
        )
        .await?;
        conn.exec_drop(format!("DELETE FROM {table} WHERE id = ?"), (moved,))
            .await?;
        conn.exec_drop(
            format!("INSERT INTO {table} (id, k, c, pad) VALUES (?, ?, ?, ?)"),
            (moved, k, c, pad),
        )
        .await?;
        conn.query_drop("COMMIT").await
    }

    async fn failed(&mut self, error: mysql_async::Error) {
        match error {
            mysql_async::Error::Server(ref server) if CONTENTION.contains(&server.code) => {
                self.seen.contended += 1
            }
            error => *self.seen.errors.entry(error.to_string()).or_default() += 1,
        }
        if self.conn.query_drop("ROLLBACK").await.is_err()
            && let Ok(conn) = Conn::new(self.writers.opts.clone()).await
        {
            self.conn = conn;
        }
    }
}

impl Timeline {
    /// Transactions that were due in this time.
    #[must_use]
    pub fn within(&self, time: &Range<Instant>) -> Latencies {
        let inside = || self.beats.iter().filter(|beat| time.contains(&beat.due));
        let sorted = |latency: fn(&Beat) -> Duration| {
            let mut all: Vec<Duration> = inside().map(latency).collect();
            all.sort_unstable();
            all
        };
        let began = sorted(|beat| beat.ended - beat.began);
        let due = sorted(|beat| beat.ended - beat.due);
        let ended = self
            .beats
            .iter()
            .filter(|beat| time.contains(&beat.ended))
            .count();
        Latencies {
            transactions: began.len(),
            rate: ended as f64 / (time.end - time.start).as_secs_f64().max(1e-9),
            p95: percentile(&began, 95),
            p99: percentile(&began, 99),
            longest: percentile(&began, 100),
            due_p99: percentile(&due, 99),
            due_longest: percentile(&due, 100),
        }
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}
