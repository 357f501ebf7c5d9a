//! What a demo has shown.

use std::time::Duration;

use super::play::millis;
use super::show::Paint;
use crate::args::demo::Flavor;
use crate::render::progress::count;

/// What a demo has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoSummary {
    /// Kind of server.
    pub flavor: Flavor,
    /// Its version.
    pub version: String,
    /// The table.
    pub table: String,
    /// What was changed about it.
    pub change: Vec<String>,
    /// Rows of the table at the end.
    pub rows: u64,
    /// Rows copied.
    pub rows_copied: u64,
    /// Row changes of the writers that were taken from the binary log.
    pub events: u64,
    /// From the first look at the server to the end of the swap.
    pub elapsed: Duration,
    /// Of this, copying.
    pub elapsed_copy: Duration,
    /// Connections that wrote.
    pub writers: u16,
    /// Transactions they committed in all.
    pub transactions: u64,
    /// Transactions that ended as a deadlock or a lock wait.
    pub lock_failures: u64,
    /// How long their transactions took before the migration,
    pub before: Latency,
    /// during it,
    pub during: Latency,
    /// and from the end of its proof until the tables were swapped.
    pub swapping: Latency,
    /// How long the table was locked for the swap.
    pub locked_for: Duration,
    /// The result of the comparison.
    pub verdict: Verdict,
}

/// How long transactions took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many there were.
    pub transactions: u64,
    /// The median.
    pub usual: Duration,
    /// What 95 of 100 did not exceed.
    pub p95: Duration,
    /// The longest.
    pub longest: Duration,
}

/// The result of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every row is what the writers made it.
    Equal,
    /// Some are not.
    Different {
        /// How many; a hundred means a hundred or more.
        rows: u64,
        /// Some of them.
        first: Vec<String>,
    },
    /// Writers got errors that they would not have got without a migration.
    WritersFailed {
        /// How many.
        errors: u64,
        /// The first.
        first: String,
    },
}

impl DemoSummary {
    /// Whether all promises were kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict == Verdict::Equal
    }
}

/// The summary as it is printed.
#[must_use]
pub(super) fn text(summary: &DemoSummary, paint: Paint) -> String {
    let mut text = format!("\n  {}\n\n", verdict(summary, paint));
    let mut row = |name: &str, value: String| {
        let name = paint.faint(&format!("{name:<18}"));
        text.push_str(&format!("    {name}{value}\n"));
    };
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let speed = summary.rows_copied as f64 / summary.elapsed_copy.as_secs_f64().max(0.001);
    row("server", format!("{} {}", summary.flavor, summary.version));
    row(
        "table",
        format!("{}, {} rows at the end", summary.table, count(summary.rows)),
    );
    row("change", summary.change.join(",\n                      "));
    row(
        "time",
        format!(
            "{}, of it {} copying",
            seconds(summary.elapsed),
            seconds(summary.elapsed_copy)
        ),
    );
    row(
        "rows copied",
        format!("{}, {} rows/s", count(summary.rows_copied), count(speed as u64)),
    );
    row(
        "changes meanwhile",
        format!("{} row changes read from the binary log", count(summary.events)),
    );
    row(
        "rows proven",
        "all, before the swap; those changed last under its lock".to_owned(),
    );
    row("table locked", paint.strong(&millis(summary.locked_for)));
    let failures = match summary.lock_failures {
        0 => "no error".to_owned(),
        failures => format!("{} deadlocks or lock waits", count(failures)),
    };
    row(
        "writers",
        format!(
            "{} connections, {} transactions, {failures}",
            summary.writers,
            count(summary.transactions)
        ),
    );
    if summary.writers > 0 {
        let latency = |latency: &Latency| {
            format!(
                "{:>10}{:>10}{:>10}",
                millis(latency.usual),
                millis(latency.p95),
                paint_right(paint, &millis(latency.longest))
            )
        };
        row(
            "  they waited",
            paint.faint(&format!("{:>10}{:>10}{:>10}", "median", "p95", "longest")),
        );
        row("  before", latency(&summary.before));
        row("  during", latency(&summary.during));
        row("  at the swap", latency(&summary.swapping));
    }
    text.push('\n');
    text
}

/// Padding must not count the colour.
fn paint_right(paint: Paint, text: &str) -> String {
    paint.strong(&format!("{text:>10}"))
}

fn verdict(summary: &DemoSummary, paint: Paint) -> String {
    match &summary.verdict {
        Verdict::Equal => format!(
            "{} all {} rows are what the writers made them, in a table of the new shape.",
            paint.good("EQUAL"),
            count(summary.rows)
        ),
        Verdict::Different { rows, first } => {
            let at_least = if *rows >= 100 { "at least " } else { "" };
            let mut text = format!(
                "{} {at_least}{} rows are not what the writers made them:",
                paint.bad("DIFFERENT"),
                count(*rows)
            );
            for line in first {
                text.push_str(&format!("\n    {line}"));
            }
            text
        }
        Verdict::WritersFailed { errors, first } => format!(
            "{} the writers got {} errors, the first: {first}",
            paint.bad("DISTURBED"),
            count(*errors)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> DemoSummary {
        DemoSummary {
            flavor: Flavor::Mysql,
            version: "9.7.4".into(),
            table: "changeling_demo.orders".into(),
            change: vec!["ADD COLUMN x int".into(), "ADD KEY x (x)".into()],
            rows: 512_345,
            rows_copied: 500_000,
            events: 81_022,
            elapsed: Duration::from_millis(20_400),
            elapsed_copy: Duration::from_secs(10),
            writers: 4,
            transactions: 9_876,
            lock_failures: 0,
            before: Latency {
                transactions: 1000,
                usual: Duration::from_micros(1210),
                p95: Duration::from_micros(2940),
                longest: Duration::from_micros(8060),
            },
            during: Latency {
                transactions: 8000,
                usual: Duration::from_micros(1590),
                p95: Duration::from_micros(9310),
                longest: Duration::from_millis(141),
            },
            swapping: Latency {
                transactions: 30,
                usual: Duration::from_micros(2100),
                p95: Duration::from_millis(31),
                longest: Duration::from_millis(38),
            },
            locked_for: Duration::from_millis(14),
            verdict: Verdict::Equal,
        }
    }

    #[test]
    fn a_good_end() {
        insta::assert_snapshot!(text(&summary(), Paint::Plain));
        assert!(summary().is_good());
    }

    #[test]
    fn a_bad_end_is_loud() {
        let different = Verdict::Different {
            rows: 100,
            first: vec!["missing 7".into()],
        };
        let bad = DemoSummary {
            verdict: different,
            lock_failures: 3,
            ..summary()
        };
        insta::assert_snapshot!(text(&bad, Paint::Plain));
        assert!(!bad.is_good());
        let failed = Verdict::WritersFailed {
            errors: 2,
            first: "no such table".into(),
        };
        let bad = DemoSummary {
            verdict: failed,
            ..summary()
        };
        assert!(
            text(&bad, Paint::Plain).contains("DISTURBED the writers got 2 errors, the first: no such table")
        );
        assert!(!bad.is_good());
    }

    #[test]
    fn colours_move_no_column() {
        let bare = |text: String| {
            text.split('\x1b')
                .enumerate()
                .map(|(turn, part)| {
                    if turn == 0 {
                        part.to_owned()
                    } else {
                        part.split_once('m').map_or("", |(_, rest)| rest).to_owned()
                    }
                })
                .collect::<String>()
        };
        assert_eq!(
            bare(text(&summary(), Paint::Ansi)),
            text(&summary(), Paint::Plain)
        );
    }
}
