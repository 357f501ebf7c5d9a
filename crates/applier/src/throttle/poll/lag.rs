//! Lag: of the inspected server, and of control replicas.

use std::sync::Arc;
use std::time::Duration;

use changeling_core::actor::ExitStatus;
use changeling_core::ident::TableName;
use changeling_core::marker::{HEARTBEAT_HINT, HEARTBEAT_ID, Marker, parse};
use futures_util::FutureExt;
use mysql_async::Row;
use mysql_async::prelude::Queryable;

use super::super::LagSource;
use super::super::link::{Link, Links};
use super::super::setup::WatchedServers;
use super::{INTERVAL, Poll, Reading, Trouble, pause_after};
use crate::server::{Server, ServerError, shown};

/// The pace at which control replicas are read under a tight limit, and below which limit that is; gh-ost's.
const TIGHT_INTERVAL: Duration = Duration::from_millis(100);
const TIGHT_LIMIT: Duration = Duration::from_secs(1);

/// Why a lag is not known.
struct Unread {
    text: String,
    pause: Duration,
}

impl Unread {
    fn new(error: &ServerError, interval: Duration) -> Self {
        Self {
            text: error.to_string(),
            pause: pause_after(error, interval),
        }
    }
}

/// Reads the lag of the inspected server, each heartbeat interval.
pub(in super::super) async fn poll_lag(
    poll: Poll,
    link: Arc<Link>,
    servers: WatchedServers,
    interval: Duration,
) -> ExitStatus {
    let mut trouble = Trouble::new(format!("lag of {}", link.server().address()));
    loop {
        let read = match servers.lag {
            LagSource::HeartbeatRow => heartbeat_age(&link, &servers.changelog, interval).await,
            LagSource::ReplicaStatus => seconds_behind(&link, interval).await,
        };
        let (lag, pause) = match read {
            Ok(lag) => {
                trouble.over();
                (Some(lag), interval)
            }
            Err(unread) => {
                trouble.failed(&unread.text);
                (None, unread.pause)
            }
        };
        if !poll.report(Reading::Lag(lag)).await {
            return ExitStatus::DownstreamClosed;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Reads the lag of a control replica, at a pace that follows the limit.
pub(in super::super) async fn poll_replica(
    mut poll: Poll,
    links: Arc<Links>,
    servers: WatchedServers,
    (host, port): (String, u16),
) -> ExitStatus {
    let address = format!("{host}:{port}");
    let mut trouble = Trouble::new(format!("lag of control replica {address}"));
    let mut link = links.at(&address);
    loop {
        let tight = poll.limits.borrow_and_update().max_lag < TIGHT_LIMIT;
        let interval = if tight { TIGHT_INTERVAL } else { INTERVAL };
        let found = match &link {
            Some(link) => Ok(Arc::clone(link)),
            None => reach(&links, &servers.inspected, &host, port).await,
        };
        let read = match found {
            Ok(found) => heartbeat_age(link.insert(found), &servers.changelog, interval).await,
            Err(error) => Err(Unread::new(&error, interval)),
        };
        let (lag, pause) = match read {
            Ok(lag) => {
                trouble.over();
                (Ok(lag), interval)
            }
            Err(unread) => {
                trouble.failed(&unread.text);
                (Err(unread.text), unread.pause)
            }
        };
        if !poll
            .report(Reading::Replica {
                address: address.clone(),
                lag,
            })
            .await
        {
            return ExitStatus::DownstreamClosed;
        }
        poll.rest(pause).await;
    }
}

async fn reach(links: &Links, inspected: &Server, host: &str, port: u16) -> Result<Arc<Link>, ServerError> {
    let server = Box::pin(inspected.open_sibling(host, port)).await?;
    Ok(links.to(&Arc::new(server)))
}

/// The age of the heartbeat row, by the clock it was written by: ours.
async fn heartbeat_age(link: &Link, changelog: &TableName, interval: Duration) -> Result<Duration, Unread> {
    let sql = format!("SELECT value FROM {changelog} WHERE id = {HEARTBEAT_ID}");
    let value: Option<String> = link
        .ask("read the heartbeat", |conn| {
            let sql = sql.clone();
            async move { conn.query_first(sql).await }.boxed()
        })
        .await
        .map_err(|error| Unread::new(&error, interval))?;
    match value
        .as_deref()
        .map(|value| (value, parse(HEARTBEAT_HINT, value)))
    {
        Some((_, Some(Marker::Heartbeat(heartbeat)))) => Ok(heartbeat.age()),
        Some((value, _)) => Err(Unread {
            text: format!("{value:?} in {changelog} is not a heartbeat"),
            pause: interval,
        }),
        None => Err(Unread {
            text: format!("no heartbeat in {changelog} yet"),
            pause: interval,
        }),
    }
}

async fn seconds_behind(link: &Link, interval: Duration) -> Result<Duration, Unread> {
    let sql = format!("SHOW {} STATUS", link.server().replica_word());
    let rows: Vec<Row> = link
        .ask("read the replica's state", |conn| conn.query(sql.clone()).boxed())
        .await
        .map_err(|error| Unread::new(&error, interval))?;
    let names = ["Seconds_Behind_Source", "Seconds_Behind_Master"];
    let seconds = rows
        .iter()
        .filter_map(|row| shown(row, &names)?.parse().ok())
        .max();
    Ok(Duration::from_secs(seconds.unwrap_or(0)))
}
