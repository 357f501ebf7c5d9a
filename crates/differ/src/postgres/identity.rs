//! Which table this is, for a comparison that is resumed later.

use crate::side::{SideError, SideErrorKind};

use super::catalog::PgTable;
use super::connect::PgConnection;
use super::partition;
use super::plan::{TablePlan, WalkOrder};

/// The cluster by the number that it got when it was made, the database, and the table by its oid, so that one of the
/// same name that was made anew is another.
///
/// A standby has its primary's number: it has its rows, too.
pub(super) async fn server(connection: &mut PgConnection, table: &PgTable) -> Result<String, SideError> {
    const DATABASE: &str = "SELECT pg_catalog.current_database()::text, \
        (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";
    let statement = connection.prepare(DATABASE).await?;
    let row = connection
        .patient(connection.client().query_one(&statement, &[]))
        .await?;
    let (database, number): (String, String) = (row.get(0), row.get(1));
    let system = system(connection).await?;
    let partitions = table.partitions.as_deref().map(partition::identity);
    Ok(format!(
        "database {database:?} ({number}) of PostgreSQL {}, table {} ({}){}",
        system.as_deref().unwrap_or("of an unknown number"),
        table.name,
        table.oid,
        partitions.map_or_else(String::new, |partitions| format!(", {partitions}"))
    ))
}

/// Where a provider lets nobody ask, database and table must do.
async fn system(connection: &mut PgConnection) -> Result<Option<String>, SideError> {
    const SYSTEM: &str = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    let asked = async {
        let statement = connection.prepare(SYSTEM).await?;
        connection
            .patient(connection.client().query_one(&statement, &[]))
            .await
    };
    match asked.await {
        Ok(row) => Ok(Some(row.get(0))),
        Err(error) if error.kind == SideErrorKind::Permanent => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the order of the key depends on.
pub(super) fn order(table: &PgTable, plan: &TablePlan) -> String {
    if plan.order == WalkOrder::Bytes {
        return "the bytes of its text".into();
    }
    let parts = plan.shape.key_columns().zip(&plan.key).map(|(shaped, key)| {
        let sorting = table
            .columns
            .iter()
            .find(|column| column.name == shaped.name)
            .map_or("", |column| &column.sorting);
        format!("{} {} {sorting}", shaped.name, key.cast_type)
            .trim_end()
            .to_owned()
    });
    parts.collect::<Vec<_>>().join(", ")
}
