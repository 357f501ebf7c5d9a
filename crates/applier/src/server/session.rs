//! How sessions are set up. Everything that a server's configuration could change behind our back is set.

use std::time::Duration;

use changeling_core::ident::quote_text;

use super::Server;
use crate::plan::SessionPlan;

/// How long a statement of ours waits for a row lock. The sync path reads the original table without row
/// locks, so it waits only where our own sessions meet on the ghost table, or for a user's writes under the
/// cut-over; waiting longer than a few seconds would only hide it. 1205 is tried again.
pub const INNODB_LOCK_WAIT: Duration = Duration::from_secs(3);

/// How long a statement of ours waits for a metadata lock. A foreign `ALTER TABLE` on the original may hold one
/// for hours; the statement is tried again, and meanwhile the tool can say what it waits for. Short also
/// because whoever comes after us in the queue waits with us.
pub const METADATA_LOCK_WAIT: Duration = Duration::from_secs(5);

/// How long a session of ours may be idle: a throttled migration can stand still for hours, and the server's
/// `wait_timeout` is often minutes.
pub const SESSION_IDLE: Duration = Duration::from_secs(86_400);

/// How long the server waits for us to take or send a packet; a paused reader must not lose its session.
const NET_TIMEOUT: Duration = Duration::from_secs(600);

/// Warnings kept by the server for one statement, its highest value: a chunk's warnings are all read back.
const MAX_ERROR_COUNT: u32 = 65_535;

/// Statements for every session.
pub(super) fn base(server: &Server) -> Vec<String> {
    let variables = &server.variables;
    let mut settings: Vec<String> = vec![
        "autocommit=1".into(),
        // Else a COMMIT may end the session.
        "completion_type=0".into(),
        // No ANSI_QUOTES, no PAD_CHAR_TO_FULL_LENGTH, no strictness: what is read looks the same everywhere.
        "sql_mode=''".into(),
        "sql_quote_show_create=1".into(),
        "sql_safe_updates=0".into(),
        "sql_select_limit=18446744073709551615".into(),
        "unique_checks=1".into(),
        format!("wait_timeout={}", SESSION_IDLE.as_secs()),
        format!("net_read_timeout={}", NET_TIMEOUT.as_secs()),
        format!("net_write_timeout={}", NET_TIMEOUT.as_secs()),
        format!("lock_wait_timeout={}", METADATA_LOCK_WAIT.as_secs()),
        format!("innodb_lock_wait_timeout={}", INNODB_LOCK_WAIT.as_secs()),
    ];
    let isolation = if variables.has("transaction_isolation") {
        "transaction_isolation"
    } else {
        "tx_isolation"
    };
    settings.push(format!("{isolation}='READ-COMMITTED'"));
    for (name, value) in [
        // A limit on statements would end long chunks and proofs.
        ("max_execution_time", "0"),
        ("max_statement_time", "0"),
        // MySQL: AUTO_INCREMENT and row estimates as they are, not as they were a day ago.
        ("information_schema_stats_expiry", "0"),
        // MariaDB: a read of rows newer than the snapshot is no error in READ COMMITTED work.
        ("innodb_snapshot_isolation", "OFF"),
        ("check_constraint_checks", "ON"),
        ("system_versioning_asof", "DEFAULT"),
        ("alter_algorithm", "DEFAULT"),
        ("sql_if_exists", "OFF"),
    ] {
        if variables.has(name) {
            settings.push(format!("{name}={value}"));
        }
    }
    let mut statements = vec![
        "SET NAMES utf8mb4".to_owned(),
        format!("SET SESSION {}", settings.join(", ")),
    ];
    // MySQL: a key that the server made up is a key all the same. Only set where it matters: some
    // services do not allow it.
    if variables.is_on("show_gipk_in_create_table_and_information_schema") == Some(false) {
        statements.push("SET SESSION show_gipk_in_create_table_and_information_schema=ON".to_owned());
    }
    statements
}

/// The settings of a session that writes the ghost table, on top of what every session has.
#[derive(Clone, Debug)]
pub struct WriteSession {
    plan: SessionPlan,
}

impl WriteSession {
    /// A session as the plan wants it.
    #[must_use]
    pub fn new(plan: &SessionPlan) -> Self {
        Self { plan: plan.clone() }
    }

    /// Its `SET` statements.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        vec![format!(
            "SET SESSION sql_mode={}, time_zone={}",
            quote_text(&self.plan.sql_mode),
            quote_text(&self.plan.time_zone),
        )]
    }

    /// Statements that the account need not be allowed: `max_error_count` is restricted on MySQL 9. Without it the
    /// server shows the first 1024 warnings of a statement, but still counts all in `@@warning_count`.
    #[must_use]
    pub fn wishes(&self) -> Vec<String> {
        vec![format!("SET SESSION max_error_count={MAX_ERROR_COUNT}")]
    }
}

/// A server's `sql_mode` with some modes taken out and some put in, in a stable order.
///
/// Combination modes (`ANSI`, `TRADITIONAL`, …) are taken out as well: the server lists what they stand
/// for beside them, and setting one again would bring back what was removed.
#[must_use]
pub fn sql_modes(mode: &str, without: &[&str], with: &[&str]) -> String {
    const COMBINATIONS: [&str; 9] = [
        "ANSI",
        "TRADITIONAL",
        "DB2",
        "MAXDB",
        "MSSQL",
        "MYSQL323",
        "MYSQL40",
        "ORACLE",
        "POSTGRESQL",
    ];
    let mut modes: Vec<String> = mode
        .split(',')
        .map(|name| name.trim().to_ascii_uppercase())
        .filter(|name| !name.is_empty())
        .filter(|name| !without.contains(&name.as_str()) && !COMBINATIONS.contains(&name.as_str()))
        .collect();
    for name in with {
        if !modes.iter().any(|mode| mode == name) {
            modes.push((*name).to_owned());
        }
    }
    modes.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", &[], &["A"], "A")]
    #[case("STRICT_TRANS_TABLES,NO_ZERO_DATE", &["NO_ZERO_DATE"], &["STRICT_ALL_TABLES"], "STRICT_TRANS_TABLES,STRICT_ALL_TABLES")]
    #[case("ansi_quotes,ANSI,REAL_AS_FLOAT", &["ANSI_QUOTES"], &["REAL_AS_FLOAT"], "REAL_AS_FLOAT")]
    fn modes(#[case] mode: &str, #[case] without: &[&str], #[case] with: &[&str], #[case] expected: &str) {
        assert_eq!(sql_modes(mode, without, with), expected);
    }
}
