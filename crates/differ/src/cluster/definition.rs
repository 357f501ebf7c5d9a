//! ACE's cluster file, `<cluster>.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::postgres::{PgOptions, Surroundings};

use super::{ClusterError, ClusterNode, read};

#[derive(Deserialize)]
struct Definition {
    pgedge: Edge,
    node_groups: Vec<Node>,
}

#[derive(Deserialize)]
struct Edge {
    databases: Vec<Database>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Database {
    db_name: String,
    db_user: String,
    db_password: String,
    ssl_mode: String,
    ssl_cert: String,
    ssl_key: String,
    ssl_root_cert: String,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    #[serde(default)]
    is_active: String,
    #[serde(default)]
    public_ip: String,
    #[serde(default)]
    private_ip: String,
    port: Port,
}

/// ACE writes it as a text; people write numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

/// The active nodes, in the file's order, with the database of this name, or the first.
///
/// # Errors
/// The file cannot be read or understood, or has no such database.
pub fn read_definition(
    path: &Path,
    database: Option<&str>,
    surroundings: &Surroundings,
) -> Result<Vec<ClusterNode>, ClusterError> {
    let odd = |message: String| ClusterError::Content {
        path: path.into(),
        message,
    };
    let definition: Definition =
        serde_json::from_str(&read(path)?).map_err(|error| odd(error.to_string()))?;
    let databases = &definition.pgedge.databases;
    let chosen = match database {
        Some(name) => databases.iter().find(|database| database.db_name == name),
        None => databases.first(),
    };
    let chosen = chosen.ok_or_else(|| odd(format!("it has no database {}", database.unwrap_or("at all"))))?;
    definition
        .node_groups
        .iter()
        .filter(|node| !matches!(node.is_active.as_str(), "off" | "no" | "false"))
        .map(|node| {
            let options = PgOptions::from_words(words(node, chosen), surroundings).map_err(|source| {
                ClusterError::Options {
                    node: node.name.clone(),
                    source,
                }
            })?;
            Ok(ClusterNode {
                name: node.name.clone(),
                options,
            })
        })
        .collect()
}

/// What the file leaves empty is left open.
fn words(node: &Node, database: &Database) -> BTreeMap<String, String> {
    let port = match &node.port {
        Port::Number(port) => port.to_string(),
        Port::Text(text) => text.clone(),
    };
    let host = if node.public_ip.is_empty() {
        &node.private_ip
    } else {
        &node.public_ip
    };
    [
        ("host", host),
        ("port", &port),
        ("user", &database.db_user),
        ("password", &database.db_password),
        ("dbname", &database.db_name),
        ("sslmode", &database.ssl_mode),
        ("sslrootcert", &database.ssl_root_cert),
        ("sslcert", &database.ssl_cert),
        ("sslkey", &database.ssl_key),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value.clone()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::SslMode;

    #[test]
    fn a_cluster_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("demo.json");
        let text = r#"{"json_version": "1.1", "cluster_name": "demo", "pgedge": {"pg_version": 17, "auto_start": "on",
            "databases": [{"db_name": "d", "db_user": "u", "db_password": "p"}, {"db_name": "e", "db_user": "w", "ssl_mode": "verify-ca", "ssl_root_cert": "ca.pem"}]},
            "node_groups": [{"ssh": {"os_user": "o"}, "name": "n1", "is_active": "on", "public_ip": "10.0.0.1", "port": "6432"},
                            {"name": "n2", "is_active": "on", "private_ip": "10.0.0.2", "port": 6433},
                            {"name": "n3", "is_active": "off", "public_ip": "10.0.0.3", "port": "6434"}]}"#;
        std::fs::write(&path, text).unwrap();
        let nothing = Surroundings::default();
        let nodes = read_definition(&path, None, &nothing).unwrap();
        assert_eq!(nodes.len(), 2);
        assert_eq!(
            (nodes[0].options.host.as_str(), nodes[0].options.port),
            ("10.0.0.1", 6432)
        );
        assert_eq!(
            (nodes[1].options.host.as_str(), nodes[1].options.port),
            ("10.0.0.2", 6433)
        );
        assert_eq!(nodes[1].options.database.as_deref(), Some("d"));
        let other = read_definition(&path, Some("e"), &nothing).unwrap();
        assert_eq!(other[0].options.ssl_mode, SslMode::VerifyCa);
        assert!(read_definition(&path, Some("f"), &nothing).is_err());
    }
}
