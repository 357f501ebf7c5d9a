//! From arguments to nodes.

use std::path::Path;
use std::time::Duration;

use changeling_core::ident::TableName;
use changeling_differ::cluster::{self, ClusterNode};
use changeling_differ::model::NodeName;
use changeling_differ::mysql::side::{MySqlNode, MySqlServer};
use changeling_differ::postgres::{PgNode, PgOptions, PgServer, Surroundings};

use crate::args::diff::{GivenNode, NodeArgs};

use super::DiffError;

/// Nodes of one kind.
#[derive(Debug)]
pub enum Nodes {
    /// PostgreSQL.
    Postgres(Vec<PgNode>),
    /// MySQL and MariaDB.
    MySql(Vec<MySqlNode>),
}

/// The nodes that the arguments name, each with this table.
///
/// # Errors
/// They are not known, fewer than two, or of two kinds.
pub fn nodes_of_any_kind(
    arguments: &NodeArgs,
    cluster: Option<&str>,
    table: &TableName,
    statement_timeout: Duration,
) -> Result<Nodes, DiffError> {
    let is_mysql = |node: &&GivenNode| node.dsn.starts_with("mysql://") || node.dsn.starts_with("mariadb://");
    match arguments.given.iter().filter(is_mysql).count() {
        0 => nodes(arguments, cluster, table, statement_timeout).map(Nodes::Postgres),
        all if all == arguments.given.len() => mysql(arguments, table, statement_timeout).map(Nodes::MySql),
        _ => Err(DiffError::Usage(
            "nodes of PostgreSQL and of MySQL cannot be compared with each other".into(),
        )),
    }
}

/// The nodes of PostgreSQL that the arguments name, each with this table.
///
/// # Errors
/// They are not known, or fewer than two.
fn nodes(
    arguments: &NodeArgs,
    cluster: Option<&str>,
    table: &TableName,
    statement_timeout: Duration,
) -> Result<Vec<PgNode>, DiffError> {
    let found = match cluster {
        None => given(arguments)?,
        Some(cluster) => of_cluster(arguments, cluster)?,
    };
    check_count(found.len())?;
    Ok(found
        .into_iter()
        .map(|node| PgNode {
            server: PgServer::new(NodeName::new(node.name), node.options, statement_timeout),
            table: table.clone(),
        })
        .collect())
}

fn check_count(nodes: usize) -> Result<(), DiffError> {
    if nodes < 2 {
        return Err(DiffError::Usage(format!(
            "a comparison needs at least two nodes, and there is {nodes}"
        )));
    }
    Ok(())
}

fn mysql(
    arguments: &NodeArgs,
    table: &TableName,
    statement_timeout: Duration,
) -> Result<Vec<MySqlNode>, DiffError> {
    let all = arguments.nodes == "all";
    let chosen: Vec<&str> = arguments.nodes.split(',').map(str::trim).collect();
    let mut nodes = Vec::with_capacity(arguments.given.len());
    for node in &arguments.given {
        if !all && !chosen.contains(&node.name.as_str()) {
            continue;
        }
        // The driver's own words may repeat the URL, and with it the password.
        let wrong = |_| {
            DiffError::Usage(format!(
                "--node {}: not a URL as mysql://user:password@host:3306/",
                node.name
            ))
        };
        let opts =
            mysql_async::Opts::from_url(&node.dsn.replacen("mariadb://", "mysql://", 1)).map_err(wrong)?;
        nodes.push(MySqlNode {
            server: MySqlServer::new(NodeName::new(node.name.as_str()), opts, statement_timeout),
            table: table.clone(),
        });
    }
    check_count(nodes.len())?;
    Ok(nodes)
}

fn given(arguments: &NodeArgs) -> Result<Vec<ClusterNode>, DiffError> {
    let surroundings = Surroundings::of_process();
    let mut nodes = Vec::with_capacity(arguments.given.len());
    for node in &arguments.given {
        let options = PgOptions::parse(&node.dsn, arguments.dbname.as_deref(), &surroundings)
            .map_err(|error| DiffError::Usage(format!("--node {}: {error}", node.name)))?;
        nodes.push(ClusterNode {
            name: node.name.clone(),
            options,
        });
    }
    cluster::choose_nodes(nodes, &arguments.nodes).map_err(|error| DiffError::Usage(error.to_string()))
}

fn of_cluster(arguments: &NodeArgs, cluster: &str) -> Result<Vec<ClusterNode>, DiffError> {
    let database = arguments.dbname.as_deref();
    cluster::find_cluster(cluster, database, &Surroundings::of_process(), Path::new("."))
        .and_then(|nodes| cluster::choose_nodes(nodes, &arguments.nodes))
        .map_err(|error| DiffError::Usage(error.to_string()))
}
