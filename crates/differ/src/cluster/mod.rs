//! Which nodes there are and how each is reached: from a service file, ACE's cluster file, or the command line.

mod definition;
mod service_file;

pub use definition::read_definition;
pub(crate) use service_file::sections_of;
pub use service_file::{read_service_file, service_file_paths};

use std::path::{Path, PathBuf};

use crate::postgres::{OptionsError, PgOptions, Surroundings};

/// A node that was found: its name and its server.
#[derive(Clone, Debug)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub options: PgOptions,
}

/// The nodes are not known.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file says something that is not understood.
    #[error("{path}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What.
        message: String,
    },
    /// A connection parameter is wrong.
    #[error("node {node}: {source}")]
    Options {
        /// The node.
        node: String,
        /// What is wrong.
        source: OptionsError,
    },
    /// No file knows the cluster.
    #[error(
        "cluster {cluster:?} is neither in a service file (sections [{cluster}] and [{cluster}.node]; looked in {looked}) \
         nor is there a file {cluster}.json here. Nodes can also be given one by one: --node name=postgres://…"
    )]
    Missing {
        /// The cluster.
        cluster: String,
        /// Files that were looked at.
        looked: String,
    },
    /// A node that was asked for is not in the cluster.
    #[error("there is no node {node:?}; the cluster has {known}")]
    NoSuchNode {
        /// The node.
        node: String,
        /// Those that it has.
        known: String,
    },
}

/// The nodes of a cluster: from the first service file that has sections for it, or else from `<cluster>.json` in
/// `directory`.
///
/// `database` stands in for what the file says; empty chooses the file's own or first.
///
/// # Errors
/// No file knows it, or one cannot be read or understood.
pub fn find_cluster(
    cluster: &str,
    database: Option<&str>,
    surroundings: &Surroundings,
    directory: &Path,
) -> Result<Vec<ClusterNode>, ClusterError> {
    let service_files = service_file_paths(surroundings);
    for path in &service_files {
        if path.is_file() {
            let nodes = read_service_file(path, cluster, database, surroundings)?;
            if !nodes.is_empty() {
                return Ok(nodes);
            }
        }
    }
    let definition = directory.join(format!("{cluster}.json"));
    if definition.is_file() {
        return read_definition(&definition, database, surroundings);
    }
    let looked: Vec<String> = service_files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Err(ClusterError::Missing {
        cluster: cluster.into(),
        looked: looked.join(", "),
    })
}

/// The chosen ones of them, in the cluster's order: `all`, or names with commas between them.
///
/// # Errors
/// A name that the cluster has not.
pub fn choose_nodes(nodes: Vec<ClusterNode>, choice: &str) -> Result<Vec<ClusterNode>, ClusterError> {
    if choice == "all" || choice.is_empty() {
        return Ok(nodes);
    }
    let names: Vec<&str> = choice.split(',').map(str::trim).collect();
    if let Some(missing) = names
        .iter()
        .find(|name| !nodes.iter().any(|node| node.name == **name))
    {
        let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(ClusterError::NoSuchNode {
            node: (*missing).into(),
            known: known.join(", "),
        });
    }
    Ok(nodes
        .into_iter()
        .filter(|node| names.contains(&node.name.as_str()))
        .collect())
}

fn read(path: &Path) -> Result<String, ClusterError> {
    std::fs::read_to_string(path).map_err(|source| ClusterError::File {
        path: path.into(),
        source,
    })
}
