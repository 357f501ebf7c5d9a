//! One connection to a server, kept, shared by all that is asked of it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::server::{ErrorKind, Role, Server, ServerError};

/// How long a statement may run on the server, which then ends it itself: a throttle query that takes longer
/// would otherwise go on there after we stopped to wait, and the next one run beside it.
const STATEMENT_LIMIT: Duration = Duration::from_secs(4);

/// How long an answer is awaited; above [`STATEMENT_LIMIT`], so that a server that is merely slow says so
/// itself and keeps its connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to be made and set up; above the ten seconds of the connection itself.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// A server and the one connection to it. Who asks while another does waits for its turn.
#[derive(Debug)]
pub(super) struct Link {
    server: Arc<Server>,
    conn: tokio::sync::Mutex<Option<Conn>>,
}

impl Link {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            conn: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Asks the server, on the connection that is there or on a new one. A kept connection that turns out to be
    /// broken is replaced once. Dropping the future closes the connection.
    pub(super) async fn ask<T>(
        &self,
        doing: &str,
        mut work: impl for<'a> FnMut(&'a mut Conn) -> BoxFuture<'a, Result<T, mysql_async::Error>> + Send,
    ) -> Result<T, ServerError> {
        let mut place = self.conn.lock().await;
        loop {
            // Taken out, so that a future dropped in the middle takes the connection with it.
            let kept = place.take();
            let is_new = kept.is_none();
            let mut conn = match kept {
                Some(conn) => conn,
                None => self.open().await?,
            };
            let error = match tokio::time::timeout(ANSWER_TIMEOUT, work(&mut conn)).await {
                Ok(Ok(answer)) => {
                    *place = Some(conn);
                    return Ok(answer);
                }
                Ok(Err(error)) => self.server.failed(doing)(error),
                Err(_) => return Err(self.silent(doing, ANSWER_TIMEOUT)),
            };
            if error.kind != ErrorKind::Lost {
                if error.errno().is_some() {
                    *place = Some(conn);
                }
                return Err(error);
            }
            if is_new {
                return Err(error);
            }
        }
    }

    async fn open(&self) -> Result<Conn, ServerError> {
        match tokio::time::timeout(OPEN_TIMEOUT, Box::pin(self.connect())).await {
            Ok(connected) => connected,
            Err(_) => Err(self.silent("connect", OPEN_TIMEOUT)),
        }
    }

    async fn connect(&self) -> Result<Conn, ServerError> {
        let mut conn = self.server.connect(Role::Throttler).await?;
        let variables = &self.server.variables;
        let limit = if variables.has("max_execution_time") {
            format!("SET SESSION max_execution_time={}", STATEMENT_LIMIT.as_millis())
        } else if variables.has("max_statement_time") {
            format!("SET SESSION max_statement_time={}", STATEMENT_LIMIT.as_secs())
        } else {
            return Ok(conn);
        };
        conn.query_drop(limit)
            .await
            .map_err(self.server.failed("set up a session"))?;
        Ok(conn)
    }

    fn silent(&self, doing: &str, limit: Duration) -> ServerError {
        let text = format!("no answer within {} s", limit.as_secs());
        let error = io::Error::new(io::ErrorKind::TimedOut, text);
        ServerError::new(self.server.address(), doing, error.into())
    }
}

/// The links that are in use, so that there is one a server, whatever it is watched for and however it is
/// addressed.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Vec<Weak<Link>>>);

impl Links {
    /// The link to this server.
    pub(super) fn to(&self, server: &Arc<Server>) -> Arc<Link> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        let same = |link: &Arc<Link>| link.server.unique_id == server.unique_id;
        links
            .iter()
            .filter_map(Weak::upgrade)
            .find(same)
            .unwrap_or_else(|| {
                let link = Arc::new(Link::new(Arc::clone(server)));
                links.push(Arc::downgrade(&link));
                link
            })
    }

    /// The link to the server of this address, if there is one already.
    pub(super) fn at(&self, address: &str) -> Option<Arc<Link>> {
        let links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links
            .iter()
            .filter_map(Weak::upgrade)
            .find(|link| link.server.address() == address)
    }
}
