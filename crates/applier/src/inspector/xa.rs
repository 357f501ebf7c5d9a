//! Transactions that were prepared before we began to read: their rows are already in the binary log, their
//! decision is not.

use std::time::Duration;

use mysql_async::Row;
use tokio::time::Instant;

use super::problem::{InspectError, ProblemKind, Problems};
use crate::server::{ErrorKind, Role, Server, shown};
use crate::settings::VerifyMode;

/// How long undecided transactions are waited for: a coordinator decides within moments, or was lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(250);

fn name(row: &Row) -> String {
    let format = shown(row, &["formatID"]).unwrap_or_default();
    let number = |names: &[&str]| {
        shown(row, names)
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(0)
    };
    let data = shown(row, &["data"]).unwrap_or_default();
    let printable = data
        .chars()
        .all(|c| !c.is_control() && c != char::REPLACEMENT_CHARACTER);
    let split = number(&["gtrid_length"]);
    match (data.get(..split), data.get(split..)) {
        (Some(global), Some("")) if printable => format!("'{global}'"),
        (Some(global), Some(branch)) if printable => format!("'{global}','{branch}',{format}"),
        _ => format!("{} bytes, format {format}", data.len()),
    }
}

/// Waits until every transaction that is prepared now is decided.
///
/// The inspection asks so before anything is created. Whoever reads the stream asks again once it has begun:
/// what is prepared later is in the stream, what was prepared earlier is decided then.
///
/// # Errors
/// A server's, or a refusal that names those that nobody decides in ten seconds.
pub async fn await_prepared(server: &Server, verify: VerifyMode) -> Result<(), InspectError> {
    let mut problems = Problems::default();
    let mut conn = server.connect(Role::Inspector).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut awaited: Option<Vec<String>> = None;
    loop {
        let rows = match server.show(&mut conn, "XA RECOVER").await {
            // MySQL shows them to XA_RECOVER_ADMIN only. The proof of every row finds what they change; without
            // that proof nothing would.
            Err(error) if error.kind == ErrorKind::Privilege || error.errno() == Some(1401) => {
                if verify == VerifyMode::Full {
                    tracing::warn!(%error, "prepared XA transactions cannot be seen; the final proof will tell");
                } else {
                    problems.add(
                        ProblemKind::Privileges,
                        format!("user has insufficient privileges for migration: {error}"),
                        "GRANT XA_RECOVER_ADMIN ON *.* TO the account, or use --verify=full",
                    );
                }
                break;
            }
            other => other?,
        };
        let mut left: Vec<String> = rows.iter().map(name).collect();
        if let Some(awaited) = &awaited {
            left.retain(|name| awaited.contains(name));
        }
        if left.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            problems.add(
                ProblemKind::Xa,
                format!("undecided XA transactions on {}: {}", server.address(), left.join("; ")),
                "XA COMMIT or XA ROLLBACK each of them: their changes are in the binary log before we can read it",
            );
            break;
        }
        awaited = Some(left);
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(problems.into_result()?)
}
