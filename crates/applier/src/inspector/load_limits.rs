//! Whether what is to throttle can be read at all: the variables of `--max-load` and `--critical-load`, and the answer of
//! `--throttle-query`.

use mysql_async::Row;
use mysql_async::prelude::Queryable;

use super::problem::{ProblemKind, Problems};
use crate::server::{ErrorKind, Role, Server, ServerError};
use crate::settings::{LoadLimits, ThrottleSettings};

/// A variable that does not exist could never be read: the migration would wait for it for ever.
pub(super) async fn check(
    server: &Server,
    settings: &ThrottleSettings,
    problems: &mut Problems,
) -> Result<(), ServerError> {
    let limits = [
        ("--max-load", &settings.max_load),
        ("--critical-load", &settings.critical_load),
    ];
    if let Some(query) = &settings.query {
        try_query(server, query, problems).await?;
    }
    if limits.iter().all(|(_, limits)| limits.is_empty()) {
        return Ok(());
    }
    let mut conn = server.connect(Role::Inspector).await?;
    let counted: Vec<(String, String)> = conn
        .query("SHOW GLOBAL STATUS")
        .await
        .map_err(server.failed("read the status variables"))?;
    for (flag, limits) in limits {
        complain(server, flag, limits, &counted, problems);
    }
    Ok(())
}

/// While a migration runs a query that fails is logged and does not throttle, as with gh-ost. One that never worked would
/// be a throttle that is not there.
async fn try_query(server: &Server, query: &str, problems: &mut Problems) -> Result<(), ServerError> {
    let mut conn = server.connect(Role::Inspector).await?;
    let asked: Result<Option<Row>, _> = conn.query_first(query).await;
    match asked.map_err(server.failed("ask the throttle query")) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            let message = "--throttle-query answered with no row".to_owned();
            problems.add(ProblemKind::Settings, message, "it has to answer with a number");
            Ok(())
        }
        Err(error) if error.kind == ErrorKind::Lost => Err(error),
        Err(error) => {
            problems.add(
                ProblemKind::Settings,
                format!("--throttle-query does not work: {error}"),
                "it has to answer with a number; above 0 throttles",
            );
            Ok(())
        }
    }
}

fn complain(
    server: &Server,
    flag: &str,
    limits: &LoadLimits,
    counted: &[(String, String)],
    problems: &mut Problems,
) {
    for variable in limits.keys() {
        let value = counted
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(variable));
        let is_number = value.map(|(_, value)| value.trim().parse::<i64>().is_ok());
        let wrong = match is_number {
            Some(true) => continue,
            Some(false) => "is no number",
            None => "is not there",
        };
        problems.add(
            ProblemKind::Settings,
            format!(
                "{flag} has a limit for {variable}, which {wrong} among the status variables of {}",
                server.address()
            ),
            "SHOW GLOBAL STATUS lists them; Threads_running is the usual one",
        );
    }
}
