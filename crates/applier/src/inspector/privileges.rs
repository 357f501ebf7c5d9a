//! Whether the accounts may do what a migration does.

use changeling_core::grants::Grants;
use mysql_async::prelude::Queryable;

use super::problem::{ProblemKind, Problems};
use super::topology::Topology;
use crate::server::{Role, Server, ServerError};

/// What is needed on the schema where the tables are written. `TRIGGER` also to see whether there are any.
const ON_SCHEMA: [&str; 10] = [
    "ALTER",
    "CREATE",
    "DELETE",
    "DROP",
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "SELECT",
    "TRIGGER",
    "UPDATE",
];

async fn of(server: &Server) -> Result<Grants, ServerError> {
    let mut conn = server.connect(Role::Inspector).await?;
    let lines: Vec<String> = conn
        .query("SHOW GRANTS")
        .await
        .map_err(server.failed("read the account's privileges"))?;
    let patterns = server.variables.is_on("partial_revokes") != Some(true);
    Ok(Grants::parse(lines.iter().map(String::as_str), patterns))
}

fn missing_on_source(grants: &Grants) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !grants.globally("REPLICATION SLAVE") {
        missing.push("REPLICATION SLAVE");
    }
    // MariaDB split REPLICATION CLIENT; SUPER contains it on both.
    if !["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"]
        .iter()
        .any(|name| grants.globally(name))
    {
        missing.push("REPLICATION CLIENT");
    }
    missing
}

fn missing_on_primary(grants: &Grants, schema: &str) -> Vec<&'static str> {
    ON_SCHEMA
        .into_iter()
        .filter(|privilege| !grants.on_schema(privilege, schema))
        .collect()
}

/// Checks both accounts.
pub(super) async fn check(
    topology: &Topology,
    schema: &str,
    problems: &mut Problems,
) -> Result<(), ServerError> {
    let source = of(&topology.source).await?;
    let missing = missing_on_source(&source);
    complain(&topology.source, &missing, "*.*", problems);
    let primary = if topology.is_one_server() {
        source
    } else {
        of(&topology.primary).await?
    };
    let missing = missing_on_primary(&primary, schema);
    complain(
        &topology.primary,
        &missing,
        &format!("{}.*", changeling_core::ident::quote(schema)),
        problems,
    );
    check_writable(&topology.primary, &primary, problems);
    warn_of_blindness(&topology.primary, &primary);
    Ok(())
}

/// The swap by two sessions looks who else waits for the table. gh-ost's list of privileges does not let it see
/// the statements of other accounts, so this is no reason not to begin.
fn warn_of_blindness(primary: &Server, grants: &Grants) {
    if !primary.renames_under_lock() && !grants.globally("PROCESS") {
        tracing::warn!(
            "without PROCESS a TRUNCATE of another account that arrives in the milliseconds of the swap is not seen, and \
             would be undone by it. GRANT PROCESS ON *.* TO the account"
        );
    }
}

fn complain(server: &Server, missing: &[&str], object: &str, problems: &mut Problems) {
    if missing.is_empty() {
        return;
    }
    let list = missing.join(", ");
    problems.add(
        ProblemKind::Privileges,
        format!(
            "user has insufficient privileges for migration: {} misses {list} ON {object} on {}",
            server.endpoint.user,
            server.address()
        ),
        format!("GRANT {list} ON {object} TO the account"),
    );
}

/// A server that takes no writes, or none from this account.
fn check_writable(primary: &Server, grants: &Grants, problems: &mut Problems) {
    let on = |name| primary.variables.is_on(name) == Some(true);
    let exempt = ["SUPER", "CONNECTION_ADMIN", "READ_ONLY ADMIN", "READ ONLY ADMIN"]
        .iter()
        .any(|name| grants.globally(name));
    if on("super_read_only") || (on("read_only") && !exempt) {
        problems.add(
            ProblemKind::Topology,
            format!("{} is read-only", primary.address()),
            "the tables are written there: is it the primary? --assume-master-host names another",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GHOST: &str =
        "GRANT ALTER, CREATE, DELETE, DROP, INDEX, INSERT, LOCK TABLES, SELECT, TRIGGER, UPDATE ON ";

    fn primary(lines: &[&str]) -> Vec<&'static str> {
        missing_on_primary(&Grants::parse(lines.iter().copied(), true), "my_db")
    }

    #[rstest]
    #[case(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], 0)]
    #[case(&["GRANT USAGE ON *.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `my_db`.* TO `u`@`%`"], 0)]
    #[case(&["GRANT ALL PRIVILEGES ON `my\\_db`.* TO `u`@`%`"], 0)]
    #[case(&["GRANT ALL PRIVILEGES ON `my%`.* TO `u`@`%`"], 0)]
    #[case(&["GRANT ALL PRIVILEGES ON `other`.* TO `u`@`%`"], 10)]
    #[case(&["GRANT ALL PRIVILEGES ON `my_db`.`t` TO `u`@`%`"], 10)]
    #[case(&["GRANT SELECT (`a`, `b`), UPDATE ON `my_db`.* TO `u`@`%`"], 9)]
    #[case(&["GRANT `role`@`%` TO `u`@`%`", "GRANT PROXY ON ``@`` TO `u`@`%`"], 10)]
    #[case(&["GRANT SELECT ON *.* TO `u`@`%`", "REVOKE SELECT ON `my_db`.* FROM `u`@`%`"], 10)]
    #[case(&["GRANT SELECT ON *.* TO `u`@`%`"], 9)]
    fn on_the_primary(#[case] lines: &[&str], #[case] missing: usize) {
        assert_eq!(primary(lines).len(), missing, "{:?}", primary(lines));
    }

    #[test]
    fn the_list_that_gh_ost_asks_for_is_enough() {
        for object in ["*.*", "`my\\_db`.*", "`my_db`.*"] {
            assert_eq!(
                primary(&[&format!("{GHOST}{object} TO `u`@`%`")]),
                Vec::<&str>::new()
            );
        }
    }

    #[rstest]
    #[case(&["GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `u`@`%`"], 0)]
    #[case(&["GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*X'"], 0)]
    #[case(&["GRANT SUPER, REPLICATION SLAVE ON *.* TO `u`@`%`"], 0)]
    #[case(&["GRANT REPLICATION CLIENT ON *.* TO `u`@`%`"], 1)]
    #[case(&["GRANT USAGE ON *.* TO `u`@`%`"], 2)]
    fn on_the_source(#[case] lines: &[&str], #[case] missing: usize) {
        assert_eq!(
            missing_on_source(&Grants::parse(lines.iter().copied(), true)).len(),
            missing
        );
    }
}
