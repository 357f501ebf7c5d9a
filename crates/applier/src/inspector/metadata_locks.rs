//! The instrument that shows who holds a table's metadata lock.

use mysql_async::prelude::Queryable;

use super::problem::{ProblemKind, Problems};
use crate::server::{ErrorKind, Role, Server, ServerError};
use crate::settings::MigrationSettings;

/// Switches the instrument on where that is allowed. It names those who are in the way of the cut-over, which
/// is good to know everywhere; only an old MySQL cannot do without. (MariaDB has other means.)
pub(super) async fn check(
    server: &Server,
    settings: &MigrationSettings,
    problems: &mut Problems,
) -> Result<(), ServerError> {
    if server.is_mariadb() || settings.skip_metadata_lock_check.granted() {
        return Ok(());
    }
    let doing = "look at the instrument of metadata locks";
    let mut conn = server.connect(Role::Inspector).await?;
    let enabled: Result<Option<u64>, ServerError> = conn
        .query_first(
            "SELECT COUNT(*) FROM performance_schema.setup_instruments \
             WHERE NAME = 'wait/lock/metadata/sql/mdl' AND ENABLED = 'YES' AND TIMED = 'YES'",
        )
        .await
        .map_err(server.failed(doing));
    let enabled = match enabled {
        Err(error) if error.kind == ErrorKind::Lost => return Err(error),
        Err(_) => false,
        Ok(count) => count == Some(1),
    };
    if enabled {
        return Ok(());
    }
    if settings.allow_setup_instruments.granted() {
        return conn
            .query_drop(
                "UPDATE performance_schema.setup_instruments SET ENABLED = 'YES', TIMED = 'YES' \
                 WHERE NAME = 'wait/lock/metadata/sql/mdl'",
            )
            .await
            .map_err(server.failed("switch the instrument of metadata locks on"));
    }
    // Where one session renames under its own lock, nobody needs to be seen waiting.
    if !server.renames_under_lock() {
        problems.add(
            ProblemKind::Busy,
            format!(
                "bailing out because metadata lock instrument not enabled on {}",
                server.address()
            ),
            "--allow-setup-metadata-lock-instruments switches it on, --skip-metadata-lock-check does without",
        );
    }
    Ok(())
}
