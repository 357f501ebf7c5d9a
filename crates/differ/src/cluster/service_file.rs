//! `pg_service.conf`: a section `[cluster]` with what all nodes share, and one `[cluster.node]` for each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::postgres::{PgOptions, Surroundings};

use super::{ClusterError, ClusterNode, read};

/// Where service files are looked for, in this order: what `ACE_PGSERVICEFILE` and `PGSERVICEFILE` say, this directory, the home directory, the system's.
#[must_use]
pub fn service_file_paths(surroundings: &Surroundings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = ["ACE_PGSERVICEFILE", "PGSERVICEFILE"]
        .into_iter()
        .filter_map(|name| surroundings.variable(name))
        .map(PathBuf::from)
        .collect();
    paths.push("pg_service.conf".into());
    if let Some(home) = surroundings.variable("HOME") {
        paths.push(Path::new(home).join(".pg_service.conf"));
    }
    paths.push("/etc/pg_service.conf".into());
    paths
}

type Words = BTreeMap<String, String>;

/// The nodes of a cluster, in the file's order; none if it has no section for it.
///
/// # Errors
/// The file cannot be read or understood.
pub fn read_service_file(
    path: &Path,
    cluster: &str,
    database: Option<&str>,
    surroundings: &Surroundings,
) -> Result<Vec<ClusterNode>, ClusterError> {
    let sections = sections_of(path)?;
    let shared = sections
        .iter()
        .find(|(name, _)| name == cluster)
        .map(|(_, words)| words.clone())
        .unwrap_or_default();
    let prefix = format!("{cluster}.");
    let mut nodes = Vec::new();
    for (name, own) in &sections {
        let Some(node) = name.strip_prefix(&prefix) else {
            continue;
        };
        let mut words = shared.clone();
        words.extend(own.clone());
        if let Some(database) = database {
            words.insert("dbname".into(), database.into());
        }
        let options = PgOptions::from_words(words, surroundings).map_err(|source| ClusterError::Options {
            node: node.into(),
            source,
        })?;
        nodes.push(ClusterNode {
            name: node.into(),
            options,
        });
    }
    Ok(nodes)
}

/// The sections of a service file, with their words.
///
/// # Errors
/// The file cannot be read or understood.
pub(crate) fn sections_of(path: &Path) -> Result<Vec<(String, Words)>, ClusterError> {
    sections(&read(path)?).map_err(|message| ClusterError::Content {
        path: path.into(),
        message,
    })
}

fn sections(text: &str) -> Result<Vec<(String, Words)>, String> {
    let mut sections: Vec<(String, Words)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.trim().to_owned(), Words::new()));
            continue;
        }
        let (Some((name, value)), Some((_, words))) = (line.split_once('='), sections.last_mut()) else {
            return Err(format!(
                "line {}: neither a [section] nor name=value in one",
                index + 1
            ));
        };
        words.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_inherit_from_the_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pg_service.conf");
        let text = "# ours\n[demo]\nuser=u\ndbname=d\n\n[demo.n2]\nhost=b\n[other.n1]\nhost=x\n[demo.n1]\nhost = a\nport=6000\nuser=w\n";
        std::fs::write(&path, text).unwrap();
        let nothing = Surroundings::default();
        let nodes = read_service_file(&path, "demo", None, &nothing).unwrap();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["n2", "n1"]);
        assert_eq!(nodes[0].options.user.as_deref(), Some("u"));
        assert_eq!(
            (nodes[1].options.host.as_str(), nodes[1].options.port),
            ("a", 6000)
        );
        assert_eq!(nodes[1].options.user.as_deref(), Some("w"));
        let other = read_service_file(&path, "demo", Some("e"), &nothing).unwrap();
        assert_eq!(other[0].options.database.as_deref(), Some("e"));
        assert!(
            read_service_file(&path, "none", None, &nothing)
                .unwrap()
                .is_empty()
        );
        std::fs::write(&path, "host=a\n").unwrap();
        assert!(read_service_file(&path, "demo", None, &nothing).is_err());
    }
}
