//! How busy a node is, and how far behind its standbys and subscribers.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::side::{Lag, SideError, SideErrorKind, Vitals};

use super::connect::PgConnection;

/// Names of loads, and what they count.
const LOADS: [(&str, &str); 3] = [
    ("active_backends", "state = 'active'"),
    ("waiting_backends", "wait_event_type = 'Lock'"),
    ("backends", "true"),
];

/// Longer without an answer than a follower is by itself (`wal_receiver_status_interval`, 10 s).
const SILENCE: Duration = Duration::from_secs(15);

pub(super) struct PgVitals {
    pub(super) connection: PgConnection,
}

impl PgVitals {
    fn hidden(&self, what: &str) -> SideError {
        SideError::new(
            self.connection.node(),
            SideErrorKind::Permanent,
            format_args!("this role may not see {what}; GRANT pg_monitor to it, or do without this limit"),
        )
    }

    async fn count(&mut self, condition: &str) -> Result<i64, SideError> {
        let text = format!(
            "SELECT pg_catalog.count(*) FILTER (WHERE backend_type = 'client backend' AND {condition}), \
               pg_catalog.count(*) FILTER (WHERE datid IS NOT NULL AND query = '<insufficient privilege>') \
             FROM pg_catalog.pg_stat_activity WHERE pid <> pg_catalog.pg_backend_pid()"
        );
        let statement = self.connection.prepare(&text).await?;
        let row = self
            .connection
            .patient(self.connection.client().query_one(&statement, &[]))
            .await?;
        if row.get::<_, i64>(1) > 0 {
            return Err(self.hidden("what other sessions do"));
        }
        Ok(row.get(0))
    }

    /// A standby that catches up after it was away says nothing of how long that will take, one that takes a base backup
    /// replays nothing.
    ///
    /// The server measures lag by the follower's answers. A subscriber whose apply waits for a lock does not answer, and
    /// its last lag would stand; answers come every ten seconds otherwise, so longer silence is lag itself.
    async fn followers(&mut self) -> Result<Vec<Lag>, SideError> {
        const FOLLOWERS: &str = "SELECT application_name::text, state::text, \
              extract(epoch FROM replay_lag)::float8, \
              CASE WHEN replay_lsn < sent_lsn THEN \
                extract(epoch FROM pg_catalog.clock_timestamp() - reply_time)::float8 END \
            FROM pg_catalog.pg_stat_replication";
        let statement = self.connection.prepare(FOLLOWERS).await?;
        let rows = self
            .connection
            .patient(self.connection.client().query(&statement, &[]))
            .await?;
        let mut lags = Vec::with_capacity(rows.len());
        for row in rows {
            let name: Option<String> = row.get(0);
            let state: Option<String> = row.get(1);
            let (lag, silence): (Option<f64>, Option<f64>) = (row.get(2), row.get(3));
            let silence = silence.map(seconds).filter(|silence| *silence > SILENCE);
            let lag = match (state.as_deref(), lag.map(seconds)) {
                (None, _) => return Err(self.hidden("how far standbys and subscribers are")),
                (Some("backup" | "stopping"), _) => continue,
                // Nothing to replay for a while.
                (Some("streaming"), None) => silence.or(Some(Duration::ZERO)),
                (_, Some(lag)) => silence.max(Some(lag)),
                (_, None) => silence,
            };
            lags.push(Lag {
                who: format!("replica {}", name.unwrap_or_default()),
                lag,
            });
        }
        Ok(lags)
    }

    /// Of a node that is a standby itself.
    async fn own(&mut self) -> Result<Option<Lag>, SideError> {
        // Without new log the last replayed transaction gets older and older; that is no lag.
        const OWN: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
              CASE WHEN NOT pg_catalog.pg_is_in_recovery() \
                OR pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0 \
              ELSE extract(epoch FROM pg_catalog.clock_timestamp() \
                - pg_catalog.pg_last_xact_replay_timestamp()) END::float8";
        let statement = self.connection.prepare(OWN).await?;
        let row = self
            .connection
            .patient(self.connection.client().query_one(&statement, &[]))
            .await?;
        Ok(row.get::<_, bool>(0).then(|| Lag {
            who: "as a standby".into(),
            lag: row.get::<_, Option<f64>>(1).map(seconds),
        }))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

impl Vitals for PgVitals {
    fn loads<'a>(&'a mut self, names: &'a [String]) -> BoxFuture<'a, Result<Vec<i64>, SideError>> {
        async move {
            let mut values = Vec::with_capacity(names.len());
            for name in names {
                let found = LOADS.iter().find(|(load, _)| load.eq_ignore_ascii_case(name));
                let Some((_, condition)) = found else {
                    let known = LOADS.map(|(load, _)| load).join(", ");
                    return Err(SideError::new(
                        self.connection.node(),
                        SideErrorKind::Permanent,
                        format_args!("{name} is no load of PostgreSQL; there are {known}"),
                    ));
                };
                values.push(self.count(condition).await?);
            }
            Ok(values)
        }
        .boxed()
    }

    fn lags(&mut self) -> BoxFuture<'_, Result<Vec<Lag>, SideError>> {
        async move {
            let mut lags = self.followers().await?;
            lags.extend(self.own().await?);
            Ok(lags)
        }
        .boxed()
    }
}
