//! Replication origins: which node a number stands for. Every node has numbers of its own.

use std::collections::BTreeMap;

use crate::model::Origin;
use crate::side::SideError;

use super::connect::PgConnection;

/// What a node's origin numbers stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<u32, String>);

impl Origins {
    /// Reads them. A role that may not see them gets numbers instead of names.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, SideError> {
        let mut names = native(connection).await?;
        names.extend(spock(connection).await?);
        Ok(Self(names))
    }

    /// What a number stands for; 0 is the node itself.
    #[must_use]
    pub fn of(&self, id: u32) -> Origin {
        match id {
            0 => Origin::Local,
            id => self
                .0
                .get(&id)
                .map_or(Origin::Id(id), |name| Origin::Node(name.clone())),
        }
    }

    /// All that are known, number and name.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.0.iter().map(|(id, name)| (*id, name.as_str()))
    }
}

/// A subscription's origin is called `pg_` and the subscription's oid. Origins are the server's, subscriptions a database's.
async fn native(connection: &mut PgConnection) -> Result<BTreeMap<u32, String>, SideError> {
    const NAMES: &str = "SELECT o.roident, coalesce(s.subname::text, o.roname) \
        FROM pg_catalog.pg_replication_origin AS o \
        LEFT JOIN pg_catalog.pg_subscription AS s ON o.roname = 'pg_' || s.oid AND s.subdbid = \
          (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())";
    names(connection, NAMES).await
}

async fn spock(connection: &mut PgConnection) -> Result<BTreeMap<u32, String>, SideError> {
    const THERE: &str = "SELECT 0::oid, '' WHERE pg_catalog.to_regclass('spock.node') IS NOT NULL";
    // Spock numbers nodes, and its origins carry the node's number.
    const NAMES: &str = "SELECT node_id, node_name::text FROM spock.node";
    if names(connection, THERE).await?.is_empty() {
        return Ok(BTreeMap::new());
    }
    names(connection, NAMES).await
}

async fn names(connection: &mut PgConnection, text: &str) -> Result<BTreeMap<u32, String>, SideError> {
    let statement = match connection.prepare(text).await {
        Ok(statement) => statement,
        Err(error) if error.kind == crate::side::SideErrorKind::Permanent => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    match connection
        .patient(connection.client().query(&statement, &[]))
        .await
    {
        Ok(rows) => Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect()),
        Err(error) if error.kind == crate::side::SideErrorKind::Permanent => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}
