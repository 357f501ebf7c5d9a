//! Whether the binary log shows every change of the table, in the order of the commits.

use changeling_core::grants::matches_pattern;
use changeling_core::ident::TableName;

use super::keys::RowImages;
use super::problem::{ProblemKind, Problems};
use super::topology::{Filters, Topology};
use crate::server::{ErrorKind, Role, Server, ServerError, Version, shown};
use crate::settings::MigrationSettings;

/// Checks the servers' settings.
pub(super) fn check(topology: &Topology, settings: &MigrationSettings, problems: &mut Problems) {
    let Topology { source, primary, .. } = topology;
    for server in [source, primary] {
        if server.variables.is_on("log_bin") != Some(true) {
            problems.add(
                ProblemKind::BinaryLog,
                format!("{} must have binary logs enabled", server.address()),
                "start the server with --log-bin",
            );
        }
    }
    let format = source.variables.get("binlog_format").unwrap_or("ROW");
    if !format.eq_ignore_ascii_case("ROW") {
        problems.add(
            ProblemKind::BinaryLog,
            format!(
                "you must be using ROW binlog format, {} has {format}",
                source.address()
            ),
            "SET GLOBAL binlog_format='ROW', and let sessions that began before reconnect",
        );
    }
    if primary.variables.is_on("binlog_order_commits") == Some(false) {
        problems.add(
            ProblemKind::BinaryLog,
            format!(
                "{} has binlog_order_commits=OFF: a change in the log need not be visible yet",
                primary.address()
            ),
            "SET GLOBAL binlog_order_commits=ON",
        );
    }
    let gtid = |name| {
        source
            .variables
            .get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("ON"))
    };
    if settings.gtid.granted()
        && !source.is_mariadb()
        && !(gtid("gtid_mode") && gtid("enforce_gtid_consistency"))
    {
        problems.add(
            ProblemKind::BinaryLog,
            format!(
                "{} must have gtid_mode=ON and enforce_gtid_consistency=ON to use GTID support",
                source.address()
            ),
            "leave --gtid out, or switch GTIDs on",
        );
    }
    if !topology.channels.is_empty() {
        check_replica(source, problems);
    }
}

/// A replica must write what it applies to its own log, in the order in which the primary committed it.
fn check_replica(source: &Server, problems: &mut Problems) {
    let variables = &source.variables;
    let either = |new: &str, old: &str| {
        variables
            .get(new)
            .or_else(|| variables.get(old))
            .map(str::to_owned)
    };
    let is_on =
        |value: Option<String>| value.is_some_and(|value| value.eq_ignore_ascii_case("ON") || value == "1");
    if !is_on(either("log_replica_updates", "log_slave_updates")) {
        problems.add(
            ProblemKind::BinaryLog,
            format!(
                "{} must have log_slave_updates enabled for executing migration",
                source.address()
            ),
            "start it with --log-replica-updates (MariaDB: --log-slave-updates), or read from the primary",
        );
    }
    if source.is_mariadb() {
        // Every parallel mode of MariaDB commits in order, but only within a replication domain.
        let threads = variables.number("slave_parallel_threads").unwrap_or(0);
        let domains: std::collections::BTreeSet<&str> = variables
            .get("gtid_slave_pos")
            .unwrap_or_default()
            .split(',')
            .filter_map(|gtid| gtid.trim().split('-').next().filter(|domain| !domain.is_empty()))
            .collect();
        if threads > 0 && domains.len() > 1 {
            problems.add(
                ProblemKind::BinaryLog,
                format!(
                    "{} applies {} GTID domains in parallel, so its log is not in the primary's order",
                    source.address(),
                    domains.len()
                ),
                "SET GLOBAL slave_parallel_threads=0, or read from the primary",
            );
        }
        return;
    }
    let workers = either("replica_parallel_workers", "slave_parallel_workers")
        .and_then(|workers| workers.parse::<u64>().ok())
        .unwrap_or(0);
    if workers > 1
        && !is_on(either(
            "replica_preserve_commit_order",
            "slave_preserve_commit_order",
        ))
    {
        problems.add(
            ProblemKind::BinaryLog,
            format!(
                "{} applies in parallel without replica_preserve_commit_order, so its log is not in the primary's order",
                source.address()
            ),
            "SET GLOBAL replica_preserve_commit_order=ON, or read from the primary",
        );
    }
}

/// Which columns events are sure to carry. `NOBLOB` leaves out what no key of whole columns can hold, and
/// MariaDB's `FULL_NODUP` has all columns in one of the two images.
pub(super) fn images(topology: &Topology) -> RowImages {
    let minimal = [&topology.source, &topology.primary].iter().any(|server| {
        server
            .variables
            .get("binlog_row_image")
            .is_some_and(|image| image.eq_ignore_ascii_case("MINIMAL"))
    });
    if minimal {
        RowImages::Minimal
    } else {
        RowImages::Full
    }
}

/// Checks that no filter hides one of these tables.
pub(super) async fn check_filters(
    topology: &Topology,
    tables: &[&TableName],
    problems: &mut Problems,
) -> Result<(), ServerError> {
    let mut servers = vec![&topology.source];
    if !topology.is_one_server() {
        servers.push(&topology.primary);
    }
    for server in servers {
        let statement = if !server.is_mariadb() && server.version >= Version::new(8, 2, 0) {
            "SHOW BINARY LOG STATUS"
        } else {
            "SHOW MASTER STATUS"
        };
        let mut conn = server.connect(Role::Inspector).await?;
        let rows = match server.show(&mut conn, statement).await {
            Err(error) if error.kind == ErrorKind::Privilege => {
                problems.add(
                    ProblemKind::Privileges,
                    format!("user has insufficient privileges for migration: {error}"),
                    "GRANT REPLICATION CLIENT ON *.* TO the account (MariaDB: BINLOG MONITOR)",
                );
                continue;
            }
            other => other?,
        };
        let split = |text: Option<String>| {
            text.unwrap_or_default()
                .split(',')
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect()
        };
        for row in &rows {
            let filters = Filters {
                do_db: split(shown(row, &["Binlog_Do_DB"])),
                ignore_db: split(shown(row, &["Binlog_Ignore_DB"])),
                ..Filters::default()
            };
            complain(server, &filters, "binlog", tables, problems);
        }
    }
    for channel in &topology.channels {
        complain(&topology.source, &channel.filters, "replicate", tables, problems);
    }
    Ok(())
}

fn complain(
    server: &Server,
    filters: &Filters,
    prefix: &str,
    tables: &[&TableName],
    problems: &mut Problems,
) {
    for table in tables {
        if let Some(filter) = filters.hides(table) {
            problems.add(
                ProblemKind::BinaryLog,
                format!("{} hides changes of {table}: {prefix}_{filter}", server.address()),
                "read the binary log of a server without this filter",
            );
        }
    }
}

impl Filters {
    /// The filter that hides a table, if one does.
    fn hides(&self, table: &TableName) -> Option<String> {
        let full = format!("{}.{}", table.schema, table.table);
        if !self.do_db.is_empty() && !self.do_db.contains(&table.schema) {
            return Some(format!("do_db={}", self.do_db.join(",")));
        }
        if self.ignore_db.contains(&table.schema) {
            return Some(format!("ignore_db={}", table.schema));
        }
        // Table rules in the servers' order: what an earlier rule decides no later one changes.
        if self.do_table.contains(&full) {
            return None;
        }
        if self.ignore_table.contains(&full) {
            return Some(format!("ignore_table={full}"));
        }
        if self.wild_do.iter().any(|pattern| matches_pattern(pattern, &full)) {
            return None;
        }
        if let Some(pattern) = self
            .wild_ignore
            .iter()
            .find(|pattern| matches_pattern(pattern, &full))
        {
            return Some(format!("wild_ignore_table={pattern}"));
        }
        if !self.do_table.is_empty() || !self.wild_do.is_empty() {
            let all: Vec<&str> = self
                .do_table
                .iter()
                .chain(&self.wild_do)
                .map(String::as_str)
                .collect();
            return Some(format!("do_table={}", all.join(",")));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a\\_b", "a_b", true)]
    #[case("a\\_b", "axb", false)]
    #[case("a_b", "axb", true)]
    #[case("a%", "a", true)]
    #[case("%", "", true)]
    #[case("%b%", "abc", true)]
    #[case("%%b", "ab", true)]
    #[case("", "a", false)]
    #[case("a\\%", "a%", true)]
    #[case("a\\", "a\\", true)]
    fn patterns(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches_pattern(pattern, text), expected);
    }

    #[rstest]
    #[case(Filters { do_db: vec!["x".into()], ..Filters::default() }, true)]
    #[case(Filters { do_db: vec!["s".into()], ..Filters::default() }, false)]
    #[case(Filters { ignore_db: vec!["s".into()], ..Filters::default() }, true)]
    #[case(Filters { do_table: vec!["s.t".into()], ..Filters::default() }, false)]
    #[case(Filters { do_table: vec!["s.u".into()], ..Filters::default() }, true)]
    #[case(Filters { ignore_table: vec!["s.t".into()], ..Filters::default() }, true)]
    #[case(Filters { wild_ignore: vec!["s.%".into()], do_table: vec!["s.t".into()], ..Filters::default() }, false)]
    #[case(Filters { wild_ignore: vec!["%.t".into()], ..Filters::default() }, true)]
    #[case(Filters { wild_do: vec!["s.%".into()], ..Filters::default() }, false)]
    #[case(Filters::default(), false)]
    fn what_a_filter_hides(#[case] filter: Filters, #[case] hidden: bool) {
        assert_eq!(filter.hides(&TableName::new("s", "t")).is_some(), hidden);
    }
}
