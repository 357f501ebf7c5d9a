//! Leftovers, resuming, steering, output.

use super::super::flag::{FlagSpec, Topic, ValueKind};

const HOOKS: &str = "run your programs around this one, or ask its socket with changeling tell";
const STATSD: &str = "--log-format json and the command socket tell the same numbers";
const REVERT: &str =
    "the old table is kept unless --ok-to-drop-table is given, but it lacks what was written after the swap";

const fn switch(name: &'static str, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::switch(name, topic, help)
}

const fn value(name: &'static str, kind: ValueKind, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::value(name, kind, topic, help)
}

pub(super) const FLAGS: &[FlagSpec] = &[
    switch(
        "initially-drop-ghost-table",
        Topic::Leftovers,
        "Drop a ghost table (_t_gho) that an earlier run left. Without this flag it stops the migration.",
    ),
    switch(
        "initially-drop-old-table",
        Topic::Leftovers,
        "Drop an old table (_t_del) that an earlier run left. It may be the only copy of your data: look first.",
    ),
    switch(
        "ok-to-drop-table",
        Topic::Leftovers,
        "Drop the old table after the swap. By default it is kept as _t_del.",
    ),
    switch(
        "timestamp-old-table",
        Topic::Leftovers,
        "Put the time into the old table's name, so that it never stands in the way of a later migration.",
    ),
    value(
        "force-table-names",
        ValueKind::Text,
        Topic::Leftovers,
        "Base of the names _x_gho, _x_ghc, _x_ghk and _x_del instead of the table's own name.",
    ),
    switch(
        "checkpoint",
        Topic::Resuming,
        "Write checkpoints, from which --resume continues. On by default here; --checkpoint=false writes none.",
    )
    .default("true"),
    value(
        "checkpoint-seconds",
        ValueKind::Unsigned,
        Topic::Resuming,
        "How often a checkpoint is written; at least 1. gh-ost's 300 is not needed here, a checkpoint is one small row.",
    )
    .default("5"),
    FlagSpec::value(
        "resume",
        ValueKind::SwitchOr(&["auto"]),
        Topic::Resuming,
        "Continue from the last checkpoint of an earlier run with the same flags, or fail. With =auto continue if there \
         is a matching checkpoint, else start afresh.",
    ),
    switch("revert", Topic::Resuming, "Go back to the table that an earlier migration replaced.").refused(REVERT),
    value("old-table", ValueKind::Text, Topic::Resuming, "The table to go back to, with --revert.").refused(REVERT),
    switch(
        "test-on-replica",
        Topic::Rehearsing,
        "Rehearse on the replica --host: stop replication at the end, swap, swap back, and leave both tables to be \
         compared.",
    ),
    switch(
        "test-on-replica-skip-replica-stop",
        Topic::Rehearsing,
        "With --test-on-replica: do not stop replication, somebody else does.",
    ),
    switch("migrate-on-replica", Topic::Rehearsing, "Change the table on the replica --host only.")
        .refused("rehearse on a replica with --test-on-replica instead"),
    value(
        "serve-socket-file",
        ValueKind::Path,
        Topic::Steering,
        "Unix socket for commands, readable by you alone; by default /tmp/gh-ost.DATABASE.TABLE.sock. Try: changeling \
         tell --socket PATH help",
    ),
    switch(
        "initially-drop-socket-file",
        Topic::Steering,
        "Take the socket's path even from a migration that still answers there. A socket where nobody answers is always \
         taken over.",
    ),
    value("serve-tcp-port", ValueKind::Unsigned, Topic::Steering, "TCP port for commands.")
        .default("0")
        .refused("commands over TCP need a credential that gh-ost's protocol does not have; use the Unix socket"),
    switch(
        "force-named-cut-over",
        Topic::Steering,
        "The commands unpostpone and cut-over must name the table, as in unpostpone=orders.",
    ),
    switch("force-named-panic", Topic::Steering, "The command panic must name the table, as in panic=orders."),
    value("hooks-path", ValueKind::Path, Topic::Hooks, "Directory of programs to run at certain events.").refused(HOOKS),
    value("hooks-hint", ValueKind::Text, Topic::Hooks, "Text that hooks receive.").refused(HOOKS),
    value("hooks-hint-owner", ValueKind::Text, Topic::Hooks, "Name of an owner that hooks receive.").refused(HOOKS),
    value("hooks-hint-token", ValueKind::Text, Topic::Hooks, "Token that hooks receive.").refused(HOOKS),
    value("hooks-status-interval", ValueKind::Unsigned, Topic::Hooks, "Seconds between calls of the status hook.")
        .default("60")
        .refused(HOOKS),
    value("statsd-addr", ValueKind::Text, Topic::Metrics, "host:port of a DogStatsD server.").refused(STATSD),
    value("statsd-tags", ValueKind::List, Topic::Metrics, "Tags for all metrics, as name:value.").refused(STATSD),
    value(
        "runtime-metrics-interval",
        ValueKind::Unsigned,
        Topic::Metrics,
        "Seconds between metrics of the program itself, 0 for none. The default does nothing without --statsd-addr, in \
         gh-ost too.",
    )
    .default("10")
    .refused(STATSD),
    switch("quiet", Topic::Output, "Log errors only, whatever else is said. That is also the default."),
    switch("verbose", Topic::Output, "Log what is going on, step by step."),
    switch("debug", Topic::Output, "Log everything there is to log."),
    switch("stack", Topic::Output, "Show the chain of causes of an error, one a line."),
    value(
        "log-format",
        ValueKind::Choice(&["text", "json"]),
        Topic::Output,
        "Form of the log on standard error: text as gh-ost writes it, or one JSON object a line.",
    )
    .default("text")
    .own(),
    value(
        "progress",
        ValueKind::Choice(&["auto", "always", "never"]),
        Topic::Output,
        "A progress bar instead of status lines: auto for only on a terminal.",
    )
    .default("auto")
    .own(),
    value(
        "settings",
        ValueKind::Path,
        Topic::About,
        "Settings file, .toml or .yaml, with flag names as keys. It comes after the defaults and before the environment \
         (CHANGELING_CHUNK_SIZE for --chunk-size, and so on) and the command line; the last one counts.",
    )
    .own(),
    switch(
        "check-flag",
        Topic::About,
        "Do nothing but check that all other flags given exist; exit 0 if they do. For scripts that must work with \
         several versions.",
    ),
    switch("version", Topic::About, "Show the version and the commit it was built from."),
    switch("help", Topic::About, "Show this help. Nothing else is done."),
];
