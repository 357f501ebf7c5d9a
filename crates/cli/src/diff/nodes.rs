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

/// The nodes that the arguments name, each with the table that `table_of` says it has.
///
/// # Errors
/// They are not known, fewer than two, or of two kinds; a table is named for a node that is none of them.
pub fn nodes_of_any_kind(
    arguments: &NodeArgs,
    cluster: Option<&str>,
    table_of: &dyn Fn(&NodeName) -> TableName,
    statement_timeout: Duration,
) -> Result<Nodes, DiffError> {
    let found = found_nodes(arguments, cluster, table_of, statement_timeout)?;
    let names: Vec<&str> = match &found {
        Nodes::Postgres(nodes) => nodes.iter().map(|node| node.server.node().as_str()).collect(),
        Nodes::MySql(nodes) => nodes.iter().map(|node| node.server.node().as_str()).collect(),
    };
    for (place, given) in arguments.tables.iter().enumerate() {
        if !names.contains(&given.node.as_str()) {
            return Err(DiffError::Usage(format!(
                "--table-on {}: there is no such node; there are {}",
                given.node,
                names.join(", ")
            )));
        }
        if arguments.tables[..place]
            .iter()
            .any(|other| other.node == given.node)
        {
            return Err(DiffError::Usage(format!(
                "--table-on {}: given twice",
                given.node
            )));
        }
    }
    Ok(found)
}

fn found_nodes(
    arguments: &NodeArgs,
    cluster: Option<&str>,
    table_of: &dyn Fn(&NodeName) -> TableName,
    statement_timeout: Duration,
) -> Result<Nodes, DiffError> {
    let is_mysql = |node: &&GivenNode| node.dsn.starts_with("mysql://") || node.dsn.starts_with("mariadb://");
    match arguments.given.iter().filter(is_mysql).count() {
        0 => nodes(arguments, cluster, table_of, statement_timeout).map(Nodes::Postgres),
        all if all == arguments.given.len() => {
            mysql(arguments, table_of, statement_timeout).map(Nodes::MySql)
        }
        _ => Err(DiffError::Usage(
            "nodes of PostgreSQL and of MySQL cannot be compared with each other".into(),
        )),
    }
}

/// The nodes of PostgreSQL that the arguments name, each with its table.
///
/// # Errors
/// They are not known, or fewer than two.
fn nodes(
    arguments: &NodeArgs,
    cluster: Option<&str>,
    table_of: &dyn Fn(&NodeName) -> TableName,
    statement_timeout: Duration,
) -> Result<Vec<PgNode>, DiffError> {
    let found = match cluster {
        None => given(arguments)?,
        Some(cluster) => of_cluster(arguments, cluster)?,
    };
    check_count(found.len())?;
    Ok(found
        .into_iter()
        .map(|node| {
            let name = NodeName::new(node.name);
            PgNode {
                table: table_of(&name),
                server: PgServer::new(name, node.options, statement_timeout),
            }
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
    table_of: &dyn Fn(&NodeName) -> TableName,
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
        let name = NodeName::new(node.name.as_str());
        nodes.push(MySqlNode {
            table: table_of(&name),
            server: MySqlServer::new(name, opts, statement_timeout),
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
