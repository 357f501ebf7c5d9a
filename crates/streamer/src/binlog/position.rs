//! What server this is, where its log ends, and whether a position can still be started from.

use std::time::Duration;

use changeling_core::coords::{Coordinates, FilePos, GtidSet, Gtids, MariaGtidSet};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row};

use super::connect::{address, server_error};
use super::dump::SEARCH;
use crate::error::{ErrorKind, StreamError};
use crate::options::{BinlogSourceOptions, PositionBy};

/// The last transaction of each domain in a MariaDB server's log.
const BINLOG_POS: &str = "SELECT @@global.gtid_binlog_pos";

/// Whose product a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    MySql,
    MariaDb,
}

/// What matters of a server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) flavour: Flavour,
    pub(crate) gtids: bool,
    /// Letter case of table names is not told apart.
    pub(crate) fold_case: bool,
    /// Tells this server from every other one.
    pub(crate) identity: String,
}

/// A short connection for questions.
pub(crate) struct Inquiry {
    conn: Conn,
    patience: Duration,
    address: String,
    pub(crate) server: Server,
}

pub(crate) fn driver_error(error: &mysql_async::Error) -> StreamError {
    match error {
        mysql_async::Error::Server(refused) => server_error(refused.code, &refused.message),
        mysql_async::Error::Io(error) => StreamError::new(ErrorKind::Unreachable, error.to_string()),
        other => StreamError::new(ErrorKind::Unreachable, other.to_string()),
    }
}

fn invalid_answer(what: &str) -> StreamError {
    StreamError::new(
        ErrorKind::Unknown,
        format!("the server's answer about {what} is not understood"),
    )
}

impl Inquiry {
    pub(crate) async fn open(options: &BinlogSourceOptions) -> Result<Self, StreamError> {
        let opts: Opts = options.opts.clone();
        let patience = options.connect_timeout;
        let address = address(&opts);
        let conn = within(patience, &address, Conn::new(opts)).await?;
        let unknown = Server {
            flavour: Flavour::MySql,
            gtids: false,
            fold_case: false,
            identity: String::new(),
        };
        let mut inquiry = Self {
            conn,
            patience,
            address,
            server: unknown,
        };
        inquiry.server = inquiry.recognise().await?;
        Ok(inquiry)
    }

    /// Ends the connection politely; the server would otherwise count an aborted client.
    pub(crate) async fn close(self) {
        let Self { conn, patience, .. } = self;
        drop(tokio::time::timeout(patience, conn.disconnect()).await);
    }

    async fn rows(&mut self, query: &str) -> Result<Vec<Row>, StreamError> {
        let Self {
            conn,
            patience,
            address,
            ..
        } = self;
        within(*patience, address, conn.query(query)).await
    }

    async fn texts(&mut self, query: &str) -> Result<Vec<Option<String>>, StreamError> {
        let row = self.rows(query).await?.into_iter().next();
        Ok(row
            .map(|row| (0..row.len()).map(|index| text(&row, index)).collect())
            .unwrap_or_default())
    }

    async fn recognise(&mut self) -> Result<Server, StreamError> {
        let answer = self
            .texts("SELECT VERSION(), @@global.log_bin, @@global.lower_case_table_names")
            .await?;
        let [Some(version), Some(log_bin), Some(lower_case)] = answer.as_slice() else {
            return Err(invalid_answer("its version"));
        };
        if log_bin == "0" || log_bin == "OFF" {
            let message = format!("{} writes no binary log (log_bin=OFF)", self.address);
            return Err(StreamError::new(ErrorKind::Settings, message));
        }
        let fold_case = lower_case != "0";
        if version.contains("MariaDB") {
            let answer = self.texts("SELECT @@global.server_id, @@global.server_uid").await;
            let identity = match answer {
                Ok(parts) => parts.into_iter().flatten().collect::<Vec<_>>().join("/"),
                // Before 10.5 there is no server_uid.
                Err(_) => self
                    .texts("SELECT @@global.server_id, @@hostname, @@port")
                    .await?
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("/"),
            };
            return Ok(Server {
                flavour: Flavour::MariaDb,
                gtids: true,
                fold_case,
                identity,
            });
        }
        let answer = self
            .texts("SELECT @@global.server_uuid, @@global.gtid_mode")
            .await?;
        let [Some(identity), Some(gtid_mode)] = answer.as_slice() else {
            return Err(invalid_answer("its identity"));
        };
        // With ON_PERMISSIVE there may still be transactions without a GTID.
        let gtids = gtid_mode == "ON";
        Ok(Server {
            flavour: Flavour::MySql,
            gtids,
            fold_case,
            identity: identity.clone(),
        })
    }

    fn by_gtid(&self, by: PositionBy) -> Result<bool, StreamError> {
        match by {
            PositionBy::File => Ok(false),
            PositionBy::Auto => Ok(self.server.gtids),
            PositionBy::Gtid if self.server.gtids => Ok(true),
            PositionBy::Gtid => {
                let message = format!("{} has no GTIDs (gtid_mode is not ON)", self.address);
                Err(StreamError::new(ErrorKind::Settings, message))
            }
        }
    }

    /// The end of the log.
    ///
    /// On MySQL file position and GTID set are read one after the other; the set, which is what a stream
    /// starts from, may be a little older and is never newer.
    pub(crate) async fn current(&mut self, by: PositionBy) -> Result<Coordinates, StreamError> {
        let by_gtid = self.by_gtid(by)?;
        let status = self.status().await?;
        let (Some(Some(file)), Some(Some(pos))) = (status.first(), status.get(1)) else {
            return Err(invalid_answer("the end of its binary log"));
        };
        let pos = pos
            .parse()
            .map_err(|_| invalid_answer("the end of its binary log"))?;
        let file = FilePos {
            file: file.clone(),
            pos,
        };
        let gtids = match (by_gtid, self.server.flavour) {
            (false, _) => Gtids::None,
            (true, Flavour::MySql) => {
                let set = status.get(4).cloned().flatten().unwrap_or_default();
                Gtids::MySql(parse(&set)?)
            }
            (true, Flavour::MariaDb) => Gtids::MariaDb(self.maria_state_at(&file).await?),
        };
        Ok(Coordinates { file, gtids })
    }

    async fn status(&mut self) -> Result<Vec<Option<String>>, StreamError> {
        const OLDER: &str = "SHOW MASTER STATUS";
        if self.server.flavour == Flavour::MariaDb {
            return self.texts(OLDER).await;
        }
        match self.texts("SHOW BINARY LOG STATUS").await {
            // A syntax error: before MySQL 8.2.
            Err(error) if error.to_string().contains("errno 1064") => self.texts(OLDER).await,
            status => status,
        }
    }

    /// The GTID state at exactly a position of a MariaDB server's log.
    async fn maria_state_at(&mut self, at: &FilePos) -> Result<MariaGtidSet, StreamError> {
        let file = changeling_core::ident::quote_text(&at.file);
        let query = format!("SELECT BINLOG_GTID_POS({file}, {})", at.pos);
        // It reads the file up to there.
        let ordinary = std::mem::replace(&mut self.patience, SEARCH);
        let answer = self.texts(&query).await;
        self.patience = ordinary;
        match answer?.into_iter().next().flatten() {
            Some(state) => parse(&state),
            None => Err(invalid_answer(&format!("the GTID position at {at}"))),
        }
    }

    /// Whether nothing is missing between `at` and the present.
    pub(crate) async fn check(&mut self, at: &Coordinates, by: PositionBy) -> Result<(), StreamError> {
        if at.gtids != Gtids::None {
            self.by_gtid(PositionBy::Gtid)?;
        } else if by == PositionBy::Gtid {
            let message = format!("position {at} has no GTIDs, but the stream was asked to go by them");
            return Err(StreamError::new(ErrorKind::Settings, message));
        }
        match (&at.gtids, self.server.flavour) {
            (Gtids::None, _) => self.check_file(&at.file).await,
            (Gtids::MySql(known), Flavour::MySql) => self.check_mysql(known).await,
            (Gtids::MariaDb(known), Flavour::MariaDb) => self.check_maria(known).await,
            _ => {
                let message = format!(
                    "the position's GTIDs are not of the sort that {} has",
                    self.address
                );
                Err(StreamError::new(ErrorKind::OtherServer, message))
            }
        }
    }

    async fn check_file(&mut self, at: &FilePos) -> Result<(), StreamError> {
        let logs = self.rows("SHOW BINARY LOGS").await?;
        let size = logs
            .iter()
            .find(|row| text(row, 0).as_deref() == Some(&at.file))
            .and_then(|row| text(row, 1));
        match size.and_then(|size| size.parse::<u64>().ok()) {
            Some(size) if (4..=size).contains(&at.pos) => Ok(()),
            Some(size) => {
                let message = format!(
                    "{} has only {size} bytes on {}, so position {at} is of another server or another time",
                    at.file, self.address
                );
                Err(StreamError::new(ErrorKind::OtherServer, message))
            }
            None => {
                let message = format!("{} no longer has the binary log {}", self.address, at.file);
                Err(StreamError::new(ErrorKind::Purged, message))
            }
        }
    }

    /// Whether the log goes on behind what was read: transactions up to `known`, events up to `end`.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn has_more(&mut self, known: &Coordinates, end: &FilePos) -> Result<bool, StreamError> {
        match &known.gtids {
            Gtids::None => {
                let status = self.status().await?;
                let [Some(file), Some(pos)] = status.get(..2).unwrap_or_default() else {
                    return Err(invalid_answer("the end of its binary log"));
                };
                Ok(*file != end.file || *pos != end.pos.to_string())
            }
            Gtids::MySql(known) => {
                let executed = self.gtids("SELECT @@global.gtid_executed").await?;
                Ok(!parse::<GtidSet>(&executed)?.subtract(known).is_empty())
            }
            Gtids::MariaDb(known) => {
                let written = self.gtids(BINLOG_POS).await?;
                Ok(!parse::<MariaGtidSet>(&written)?.subtract(known).is_empty())
            }
        }
    }

    /// The only value of the answer; nothing, if there is none.
    async fn gtids(&mut self, query: &str) -> Result<String, StreamError> {
        let answer = self.texts(query).await?;
        Ok(answer.into_iter().next().flatten().unwrap_or_default())
    }

    /// Whether the server has no file of this name any more, and only later ones.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn has_purged(&mut self, file: &str) -> Result<bool, StreamError> {
        let number = |file: &str| {
            file.rsplit('.')
                .next()
                .and_then(|number| number.parse::<u64>().ok())
        };
        let logs = self.rows("SHOW BINARY LOGS").await?;
        let first = logs.first().and_then(|row| text(row, 0));
        Ok(match (first.as_deref().and_then(number), number(file)) {
            (Some(first), Some(asked)) => asked < first,
            _ => false,
        })
    }

    async fn check_mysql(&mut self, known: &GtidSet) -> Result<(), StreamError> {
        // Purged first: it only grows, and what it grows by was executed.
        let answer = self
            .texts("SELECT @@global.gtid_purged, @@global.gtid_executed")
            .await?;
        let [Some(purged), Some(executed)] = answer.as_slice() else {
            return Err(invalid_answer("its GTIDs"));
        };
        let (purged, executed): (GtidSet, GtidSet) = (parse(purged)?, parse(executed)?);
        let lost = purged.subtract(known);
        if !lost.is_empty() {
            return Err(self.purged(&lost.to_string()));
        }
        let ahead = known.subtract(&executed);
        if !ahead.is_empty() {
            return Err(self.behind(&ahead.to_string()));
        }
        Ok(())
    }

    async fn check_maria(&mut self, known: &MariaGtidSet) -> Result<(), StreamError> {
        let logs = self.rows("SHOW BINARY LOGS").await?;
        let first = logs
            .first()
            .and_then(|row| text(row, 0))
            .ok_or_else(|| invalid_answer("its binary logs"))?;
        let purged = self.maria_state_at(&FilePos { file: first, pos: 4 }).await?;
        let lost = purged.subtract(known);
        if !lost.is_empty() {
            return Err(self.purged(&lost.to_string()));
        }
        let written: MariaGtidSet = parse(&self.gtids(BINLOG_POS).await?)?;
        let ahead = known.subtract(&written);
        if !ahead.is_empty() {
            return Err(self.behind(&ahead.to_string()));
        }
        Ok(())
    }

    fn purged(&self, lost: &str) -> StreamError {
        let message = format!(
            "{} has purged transactions that were not read yet: {lost}",
            self.address
        );
        StreamError::new(ErrorKind::Purged, message)
    }

    fn behind(&self, ahead: &str) -> StreamError {
        let message = format!(
            "{} does not have transactions that were read before ({ahead}): it is another server, or was set \
             back",
            self.address
        );
        StreamError::new(ErrorKind::OtherServer, message)
    }
}

fn parse<T: std::str::FromStr<Err = changeling_core::coords::GtidSyntax>>(
    text: &str,
) -> Result<T, StreamError> {
    text.parse()
        .map_err(|error: changeling_core::coords::GtidSyntax| {
            StreamError::new(ErrorKind::Unknown, error.to_string())
        })
}

fn text(row: &Row, index: usize) -> Option<String> {
    match row.as_ref(index)? {
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        mysql_async::Value::Int(number) => Some(number.to_string()),
        mysql_async::Value::UInt(number) => Some(number.to_string()),
        _ => None,
    }
}

async fn within<T>(
    patience: Duration,
    address: &str,
    answer: impl Future<Output = Result<T, mysql_async::Error>>,
) -> Result<T, StreamError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(driver_error(&error).at(|| address.to_owned())),
        Err(_) => Err(StreamError::new(
            ErrorKind::Silent,
            format!("{address} did not answer within {patience:?}"),
        )),
    }
}
