//! What to change, where, and what the change may do.

use super::super::flag::{FlagSpec, Topic, ValueKind};

const fn switch(name: &'static str, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::switch(name, topic, help)
}

const fn value(name: &'static str, kind: ValueKind, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::value(name, kind, topic, help)
}

pub(super) const FLAGS: &[FlagSpec] = &[
    value(
        "alter",
        ValueKind::Text,
        Topic::Change,
        "What to change: the part after ALTER TABLE t, as in \"ADD COLUMN note TEXT\", or the whole statement, \
         which may then name database and table.",
    ),
    value(
        "database",
        ValueKind::Text,
        Topic::Change,
        "Database of the table. Write the plain name; nothing in it needs escaping.",
    ),
    value(
        "table",
        ValueKind::Text,
        Topic::Change,
        "The table to change. It may be named in --alter instead, and so may the database.",
    ),
    switch(
        "execute",
        Topic::Change,
        "Do it. Without this flag everything is checked, the ghost table is created, altered, shown and dropped, \
         and no row is copied. Only taken from the command line, never from a file or the environment.",
    ),
    switch(
        "allow-nullable-unique-key",
        Topic::Allowances,
        "Accept a unique key with NULLable columns when there is no better one. Rows with a NULL in the key \
         cannot be told apart, so be sure that there are none.",
    ),
    switch(
        "approve-renamed-columns",
        Topic::Allowances,
        "The ALTER renames columns, and the data is to move along. Without this or --skip-renamed-columns a \
         rename is refused.",
    ),
    switch(
        "skip-renamed-columns",
        Topic::Allowances,
        "The ALTER seems to rename columns, and the data is NOT to move along: a column dropped and another one \
         added. Loses the column's data.",
    ),
    switch(
        "discard-foreign-keys",
        Topic::Allowances,
        "Migrate a table that has foreign keys and let them vanish. Keys of other tables that point to it are \
         still refused.",
    ),
    switch(
        "skip-foreign-key-checks",
        Topic::Allowances,
        "Do not look for foreign keys, when you know that there are none. Those of the table itself would vanish.",
    ),
    switch(
        "skip-strict-mode",
        Topic::Allowances,
        "Do not add STRICT_ALL_TABLES to the sessions that write the ghost table. Values that do not fit are \
         then truncated by the server.",
    ),
    switch(
        "allow-zero-in-date",
        Topic::Allowances,
        "Take NO_ZERO_DATE and NO_ZERO_IN_DATE out of sql_mode, for tables that hold dates such as 0000-00-00.",
    ),
    switch(
        "attempt-instant-ddl",
        Topic::Allowances,
        "First ask the server for ALGORITHM=INSTANT; copy rows only if it cannot do that.",
    ),
    switch(
        "include-triggers",
        Topic::Allowances,
        "Recreate the table's triggers on the new table at the swap. Needs --trigger-suffix. Without it a table \
         that has triggers is refused.",
    ),
    value(
        "trigger-suffix",
        ValueKind::Text,
        Topic::Allowances,
        "What is added to the names of recreated triggers, such as _v2: letters, digits and underscores.",
    ),
    switch(
        "remove-trigger-suffix-if-exists",
        Topic::Allowances,
        "Take --trigger-suffix off names that end in it already, instead of adding it again.",
    ),
    value(
        "storage-engine",
        ValueKind::Text,
        Topic::Allowances,
        "The table's storage engine.",
    )
    .default("innodb")
    .refused("only InnoDB tables can be read without locks and be proven equal"),
];
