//! Fences by GTID: whether a node has executed what the others had.
//!
//! Every node marks the set of all that it has executed, its own and what it replayed. A node has passed a mark if it
//! has executed those of its transactions that come from servers it knows of: from itself, or from one of which it has
//! executed anything. So a replica waits for its primary, and a primary whose commit was replayed before it became
//! visible at home waits for itself. Without GTIDs there are no fences.

use crate::model::Dialect;
use crate::side::{Mark, SideError};

use super::connect::MySqlConnection;

/// What this node has executed.
pub(super) async fn mark(connection: &mut MySqlConnection) -> Result<Option<Mark>, SideError> {
    let position = executed(connection).await?;
    Ok((!position.is_empty()).then(|| Mark {
        node: connection.node.clone(),
        position: position.into(),
    }))
}

async fn executed(connection: &mut MySqlConnection) -> Result<String, SideError> {
    let text = match connection.dialect {
        Dialect::MariaDb => {
            "SELECT CONCAT_WS(',', NULLIF(@@gtid_binlog_pos, ''), NULLIF(@@gtid_slave_pos, ''))"
        }
        _ => "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')",
    };
    let rows = connection.all(text).await?;
    Ok(rows
        .first()
        .and_then(|row| row.first().cloned().flatten())
        .unwrap_or_default())
}

/// Whether this node has executed what the marks name of servers that it knows of.
pub(super) async fn passed(connection: &mut MySqlConnection, marks: &[Mark]) -> Result<bool, SideError> {
    let own = executed(connection).await?;
    let node = connection.node.clone();
    for mark in marks.iter().filter(|mark| mark.node != node) {
        let reached = match connection.dialect {
            Dialect::MariaDb => domains_reached(&own, &mark.position),
            _ => sets_reached(connection, &own, &mark.position).await?,
        };
        if !reached {
            return Ok(false);
        }
    }
    Ok(true)
}

/// MySQL: `uuid:1-5:7,uuid:tag:1-3`.
async fn sets_reached(connection: &mut MySqlConnection, own: &str, mark: &str) -> Result<bool, SideError> {
    let server = |set: &str| set.split(':').next().unwrap_or_default().trim().to_lowercase();
    let known: Vec<String> = own.split(',').map(server).collect();
    let awaited: Vec<&str> = mark
        .split(',')
        .filter(|set| known.contains(&server(set)))
        .collect();
    // A set consists of hexadecimal digits, letters of tags and signs; a quote in it would be no set.
    if awaited.is_empty() || awaited.iter().any(|set| set.contains('\'')) {
        return Ok(awaited.is_empty());
    }
    let rows = connection
        .all(&format!(
            "SELECT GTID_SUBSET('{}', @@GLOBAL.gtid_executed)",
            awaited.join(",")
        ))
        .await?;
    Ok(rows
        .first()
        .and_then(|row| row.first().cloned().flatten())
        .as_deref()
        == Some("1"))
}

/// MariaDB: `domain-server-sequence`, the last of each domain.
fn domains_reached(own: &str, mark: &str) -> bool {
    let parts = |text: &str| -> Vec<(u64, u64)> {
        text.split(',')
            .filter_map(|gtid| {
                let mut numbers = gtid.trim().split('-').map(str::parse::<u64>);
                let domain = numbers.next()?.ok()?;
                Some((domain, numbers.nth(1)?.ok()?))
            })
            .collect()
    };
    let own = parts(own);
    let reached = |domain: u64| {
        own.iter()
            .filter(|(other, _)| *other == domain)
            .map(|(_, last)| *last)
            .max()
    };
    parts(mark)
        .into_iter()
        .all(|(domain, last)| reached(domain).is_none_or(|own| own >= last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_reached_when_its_last_is() {
        assert!(domains_reached("0-1-7", "0-1-7"));
        assert!(domains_reached("0-1-7,0-2-9", "0-2-8"));
        assert!(!domains_reached("0-1-7", "0-2-8"));
        assert!(
            domains_reached("1-1-7", "0-2-8"),
            "a domain that it does not know"
        );
        assert!(domains_reached("", "0-2-8"));
    }
}
