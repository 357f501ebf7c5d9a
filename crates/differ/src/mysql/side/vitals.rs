//! How busy a node is, and how far behind its primary.

use std::time::Duration;

use changeling_core::ident::quote_text;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mysql_async::Row;
use mysql_async::prelude::Queryable as _;

use crate::model::Dialect;
use crate::side::{Lag, SideError, Vitals};

use super::connect::{MySqlConnection, failure};

/// MySQL before 8.0.22 does not know the word replica.
const PARSE_ERROR: u16 = 1064;

pub(super) struct MySqlVitals {
    pub(super) connection: MySqlConnection,
}

impl MySqlVitals {
    /// One row for each channel; none if the node replicates from nobody.
    async fn replication(&mut self) -> Result<Vec<Row>, SideError> {
        let conn = &mut self.connection.conn;
        let rows: Result<Vec<Row>, mysql_async::Error> = match self.connection.dialect {
            Dialect::MariaDb => conn.query("SHOW ALL SLAVES STATUS").await,
            _ => match conn.query("SHOW REPLICA STATUS").await {
                Err(mysql_async::Error::Server(error)) if error.code == PARSE_ERROR => {
                    conn.query("SHOW SLAVE STATUS").await
                }
                answer => answer,
            },
        };
        rows.map_err(|error| failure(&self.connection.node, &error))
    }
}

impl Vitals for MySqlVitals {
    /// All of them by one statement: the server goes through all its variables for each.
    fn loads<'a>(&'a mut self, names: &'a [String]) -> BoxFuture<'a, Result<Vec<i64>, SideError>> {
        async move {
            let list: Vec<String> = names.iter().map(|name| quote_text(name)).collect();
            let text = format!("SHOW GLOBAL STATUS WHERE Variable_name IN ({})", list.join(", "));
            let rows = self.connection.all(&text).await?;
            let value = |name: &String| {
                let mut rows = rows.iter().filter_map(|row| match &row[..] {
                    [Some(found), Some(value)] => Some((found, value)),
                    _ => None,
                });
                // The server's spelling may differ from the operator's.
                let found = rows.find(|(found, _)| found.eq_ignore_ascii_case(name));
                match found.map(|(_, value)| value.trim().parse()) {
                    Some(Ok(number)) => Ok(number),
                    Some(Err(_)) => Err(self.connection.odd(&format!("{name} is not a whole number"))),
                    None => Err(self.connection.odd(&format!("{name} is no status variable"))),
                }
            };
            names.iter().map(value).collect()
        }
        .boxed()
    }

    /// As the replica itself reports it, in whole seconds; unknown while replication stands still.
    fn lags(&mut self) -> BoxFuture<'_, Result<Vec<Lag>, SideError>> {
        async move {
            let rows = self.replication().await?;
            let lag = |row: &Row| {
                let read = |name| row.get_opt::<Option<u64>, _>(name).and_then(Result::ok).flatten();
                read("Seconds_Behind_Source").or_else(|| read("Seconds_Behind_Master"))
            };
            Ok(rows
                .iter()
                .map(|row| Lag {
                    who: "as a replica".into(),
                    lag: lag(row).map(Duration::from_secs),
                })
                .collect())
        }
        .boxed()
    }
}
