//! Copying, applying, proving, throttling, swapping.

use super::super::flag::{FlagSpec, Topic, ValueKind};

const HTTP: &str = "throttle with --throttle-query or --throttle-flag-file instead";

const fn switch(name: &'static str, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::switch(name, topic, help)
}

const fn value(name: &'static str, kind: ValueKind, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::value(name, kind, topic, help)
}

pub(super) const FLAGS: &[FlagSpec] = &[
    value(
        "chunk-size",
        ValueKind::Whole,
        Topic::Speed,
        "Rows of the first chunk, 10 to 100000. Chunks then grow or shrink towards --chunk-time; with --chunk-time 0 \
         all chunks have this size.",
    )
    .default("1000"),
    value(
        "chunk-time",
        ValueKind::Unsigned,
        Topic::Speed,
        "Milliseconds that copying one chunk shall take; 0 for chunks of a fixed size.",
    )
    .default("250")
    .own(),
    value(
        "copy-workers",
        ValueKind::Unsigned,
        Topic::Speed,
        "Chunks that are copied at the same time, 1 to 64.",
    )
    .default("2")
    .own(),
    value(
        "apply-lanes",
        ValueKind::Unsigned,
        Topic::Speed,
        "Sessions that bring changed rows over at the same time, 1 to 64. A row always stays in one lane.",
    )
    .default("4")
    .own(),
    value(
        "defer-indexes",
        ValueKind::Choice(&["auto", "always", "never"]),
        Topic::Speed,
        "Whether non-unique indexes are built after the copy, which is faster: always, never, or auto for only when \
         no replica's lag is guarded.",
    )
    .default("auto")
    .own(),
    value(
        "dml-batch-size",
        ValueKind::Whole,
        Topic::Speed,
        "Changed rows that one apply statement brings over, 1 to 1000: the start, the program adapts it.",
    )
    .default("500")
    .differs(
        "it is the number of changed rows that one statement synchronises, not of events in a transaction; gh-ost's \
         10 would only make it slower",
    ),
    value(
        "default-retries",
        ValueKind::Whole,
        Topic::Speed,
        "How often an operation is tried before giving up, cut-over attempts among them. Memory does not grow with it.",
    )
    .default("60"),
    switch(
        "exact-rowcount",
        Topic::Speed,
        "Count the rows instead of estimating them, for a truer progress and ETA.",
    ),
    switch(
        "concurrent-rowcount",
        Topic::Speed,
        "With --exact-rowcount: count while copying. With =false, count first.",
    )
    .default("true"),
    switch(
        "panic-on-warnings",
        Topic::Proof,
        "Stop when copying a row raises a warning, such as a truncated value or a row that violates a new unique key. \
         On by default here; =false is gh-ost's old way, in which such rows are silently changed or lost.",
    )
    .default("true"),
    value(
        "verify",
        ValueKind::Choice(&["off", "sample", "full"]),
        Topic::Proof,
        "Compare the new table with the old one before the swap: every row, a sample of ranges, or nothing.",
    )
    .default("full")
    .own(),
    value(
        "verify-report",
        ValueKind::Path,
        Topic::Proof,
        "Write the result of the comparison to this file, as JSON.",
    )
    .own(),
    value(
        "max-lag-millis",
        ValueKind::Whole,
        Topic::Throttling,
        "Pause while the source or a control replica lags more than this many milliseconds; at least 100.",
    )
    .default("1500"),
    value(
        "heartbeat-interval-millis",
        ValueKind::Whole,
        Topic::Throttling,
        "How often a heartbeat is written, by which lag is measured; 100 to 1000.",
    )
    .default("100"),
    value(
        "throttle-control-replicas",
        ValueKind::List,
        Topic::Throttling,
        "More replicas whose lag counts, as in replica1,replica2:3307.",
    ),
    value(
        "max-load",
        ValueKind::List,
        Topic::Throttling,
        "Pause while a status variable is at its limit or above, as in Threads_running=50,Threads_connected=500.",
    ),
    value(
        "critical-load",
        ValueKind::List,
        Topic::Throttling,
        "Stop for good when a status variable is at its limit or above; same format as --max-load.",
    ),
    value(
        "critical-load-interval-millis",
        ValueKind::Unsigned,
        Topic::Throttling,
        "Look again after so many milliseconds before --critical-load stops the migration; 0 to stop at once.",
    )
    .default("0"),
    value(
        "critical-load-hibernate-seconds",
        ValueKind::Unsigned,
        Topic::Throttling,
        "Sleep for so many seconds at --critical-load instead of stopping.",
    )
    .default("0")
    .refused("--max-load pauses below that, and --resume continues after a stop"),
    value(
        "nice-ratio",
        ValueKind::Real,
        Topic::Throttling,
        "Sleep after each chunk, in durations of that chunk: 0 copies at full speed, 1 takes twice as long; up to 100.",
    )
    .default("0"),
    value(
        "throttle-query",
        ValueKind::Text,
        Topic::Throttling,
        "A query that is run on the primary each second; pause while its result is above 0.",
    ),
    value("throttle-http", ValueKind::Text, Topic::Throttling, "A URL that is asked; pause unless it says 200.")
        .refused(HTTP),
    value(
        "throttle-http-interval-millis",
        ValueKind::Unsigned,
        Topic::Throttling,
        "How often --throttle-http is asked.",
    )
    .default("100")
    .refused(HTTP),
    value(
        "throttle-http-timeout-millis",
        ValueKind::Unsigned,
        Topic::Throttling,
        "How long --throttle-http may take to answer.",
    )
    .default("1000")
    .refused(HTTP),
    switch("ignore-http-errors", Topic::Throttling, "Do not pause when --throttle-http cannot be reached.")
        .refused(HTTP),
    value(
        "throttle-flag-file",
        ValueKind::Path,
        Topic::Throttling,
        "Pause while this file exists. Choose a name of this migration's own.",
    ),
    value(
        "throttle-additional-flag-file",
        ValueKind::Path,
        Topic::Throttling,
        "Pause while this file exists. The default is shared by all migrations on this machine, gh-ost's too.",
    )
    .default("/tmp/gh-ost.throttle"),
    value(
        "panic-flag-file",
        ValueKind::Path,
        Topic::Throttling,
        "Stop at once when this file appears, and leave all tables as they are.",
    ),
    value("replication-lag-query", ValueKind::Text, Topic::Throttling, "Has had no effect in gh-ost for years; see --max-lag-millis.")
        .differs("deprecated and without effect, lag is measured by a heartbeat row"),
    value(
        "cut-over",
        ValueKind::Text,
        Topic::CutOver,
        "How the tables are swapped. atomic (or default): no query ever fails for want of the table.",
    )
    .default("atomic"),
    value(
        "cut-over-lock-timeout-seconds",
        ValueKind::Whole,
        Topic::CutOver,
        "The longest that an attempt to swap may hold or wait for locks, 1 to 10.",
    )
    .default("3"),
    switch(
        "cut-over-exponential-backoff",
        Topic::CutOver,
        "Wait twice as long after each failed attempt, up to --exponential-backoff-max-interval.",
    ),
    value(
        "exponential-backoff-max-interval",
        ValueKind::Whole,
        Topic::CutOver,
        "The longest wait between attempts, in seconds; at least 2. Needs --cut-over-exponential-backoff.",
    )
    .default("64"),
    value(
        "postpone-cut-over-flag-file",
        ValueKind::Path,
        Topic::CutOver,
        "Create this file at the start, and keep the tables in step without swapping until it is removed or the \
         command unpostpone comes.",
    ),
    switch(
        "analyze-ghost-table-before-cutover",
        Topic::CutOver,
        "ANALYZE the new table just before the swap, so that the first queries have statistics.",
    ),
    switch(
        "allow-setup-metadata-lock-instruments",
        Topic::CutOver,
        "May switch on the metadata lock instrument of performance_schema where the swap wants to look at it.",
    ),
    switch(
        "skip-metadata-lock-check",
        Topic::CutOver,
        "Swap without looking at performance_schema's metadata locks.",
    ),
];
