//! From arguments to nodes.

use std::path::Path;
use std::time::Duration;

use changeling_core::ident::TableName;
use changeling_differ::cluster::{self, ClusterNode};
use changeling_differ::model::NodeName;
use changeling_differ::postgres::{PgNode, PgOptions, PgServer};

use crate::args::diff::NodeArgs;

use super::DiffError;

/// The nodes that the arguments name, each with this table.
///
/// # Errors
/// They are not known, or fewer than two.
pub fn nodes(
    arguments: &NodeArgs,
    cluster: Option<&str>,
    table: &TableName,
    statement_timeout: Duration,
) -> Result<Vec<PgNode>, DiffError> {
    let found = match cluster {
        None => given(arguments)?,
        Some(cluster) => of_cluster(arguments, cluster)?,
    };
    if found.len() < 2 {
        return Err(DiffError::Usage(format!(
            "a comparison needs at least two nodes, and there is {}",
            found.len()
        )));
    }
    Ok(found
        .into_iter()
        .map(|node| PgNode {
            server: PgServer::new(
                NodeName::new(node.name),
                with_login(node.options),
                statement_timeout,
            ),
            table: table.clone(),
        })
        .collect())
}

fn given(arguments: &NodeArgs) -> Result<Vec<ClusterNode>, DiffError> {
    let mut nodes = Vec::with_capacity(arguments.given.len());
    for node in &arguments.given {
        let mut options = PgOptions::parse(&node.dsn)
            .map_err(|error| DiffError::Usage(format!("--node {}: {error}", node.name)))?;
        if arguments.dbname.is_some() {
            options.database.clone_from(&arguments.dbname);
        }
        nodes.push(ClusterNode {
            name: node.name.clone(),
            options,
        });
    }
    cluster::choose_nodes(nodes, &arguments.nodes).map_err(|error| DiffError::Usage(error.to_string()))
}

fn of_cluster(arguments: &NodeArgs, cluster: &str) -> Result<Vec<ClusterNode>, DiffError> {
    let files = cluster::service_file_paths(|name| std::env::var(name).ok());
    let database = arguments.dbname.as_deref();
    cluster::find_cluster(cluster, database, &files, Path::new("."))
        .and_then(|nodes| cluster::choose_nodes(nodes, &arguments.nodes))
        .map_err(|error| DiffError::Usage(error.to_string()))
}

/// libpq's own defaults: `PGUSER` and `PGPASSWORD`, then the name of the person.
fn with_login(mut options: PgOptions) -> PgOptions {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if options.user.is_none() {
        options.user = variable("PGUSER").or_else(|| variable("USER"));
    }
    if options.password.is_none() {
        options.password = variable("PGPASSWORD").map(Into::into);
    }
    options
}
