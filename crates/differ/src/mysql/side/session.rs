//! A connection that compares.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use mysql_async::prelude::Queryable as _;

use crate::model::{Cell, Key};
use crate::range::KeyRange;
use crate::side::{
    Canceller, Digest, Digested, FetchedRow, KeyDigest, Mark, RowVersion, Session, SideError, SideErrorKind,
};

use super::connect::{MySqlConnection, Texts, failure, no_answer, texts};
use super::plan::{RowLock, TablePlan};
use super::replay;

/// Look-ups in one statement: enough to save round trips, few enough for the server's parser.
const LOOK_UPS: usize = 50;

/// One connection to one node, with the plan for its table.
pub(crate) struct MySqlSession {
    pub(crate) connection: MySqlConnection,
    pub(crate) plan: Arc<TablePlan>,
}

impl MySqlSession {
    fn key(&self, row: &Texts) -> Result<Key, SideError> {
        let parts: Option<Box<[Box<str>]>> = row
            .iter()
            .take(self.plan.key.len())
            .map(|part| part.as_deref().map(Box::from))
            .collect();
        match parts {
            Some(parts) if parts.len() == self.plan.key.len() => Ok(Key(parts)),
            _ => Err(self.connection.odd("a key holds NULL")),
        }
    }
}

/// A hash as the server writes it, an unsigned number; the bits count.
fn bits(text: Option<&String>) -> Option<i64> {
    text?.parse::<u64>().ok().map(u64::cast_signed)
}

impl Session for MySqlSession {
    fn step<'a>(
        &'a mut self,
        range: &'a KeyRange,
        rows: u64,
    ) -> BoxFuture<'a, Result<Option<Key>, SideError>> {
        async move {
            let rows = self.connection.all(&self.plan.step(range, rows)).await?;
            rows.first().map(|row| self.key(row)).transpose()
        }
        .boxed()
    }

    fn cuts<'a>(
        &'a mut self,
        range: &'a KeyRange,
        every: u64,
        limit: u64,
    ) -> BoxFuture<'a, Result<Vec<Key>, SideError>> {
        async move {
            let rows = self.connection.all(&self.plan.cuts(range, every, limit)).await?;
            rows.iter().map(|row| self.key(row)).collect()
        }
        .boxed()
    }

    fn digest<'a>(&'a mut self, range: &'a KeyRange, cap: u64) -> BoxFuture<'a, Result<Digested, SideError>> {
        async move {
            let rows = self.connection.all(&self.plan.digest(range, cap)).await?;
            let [row] = &rows[..] else {
                return Err(self.connection.odd("a digest without a row"));
            };
            let number = |index: usize| row.get(index).and_then(Option::as_ref)?.parse::<u64>().ok();
            let (Some(count), Some(hashed), Some(xor), Some(Some(sum))) =
                (number(0), number(1), bits(row.get(2).and_then(Option::as_ref)), row.get(3))
            else {
                return Err(self.connection.odd("a digest that is none"));
            };
            if count >= cap {
                return Ok(Digested::Overflow);
            }
            if hashed != count {
                return Err(self.connection.odd(
                    "rows are too long to be hashed; raise max_allowed_packet to more than twice the longest row",
                ));
            }
            Ok(Digested::Whole(Digest {
                count,
                xor,
                sum: sum.as_str().into(),
            }))
        }
        .boxed()
    }

    fn key_digests<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<KeyDigest, SideError>>, SideError>> {
        async move {
            let text = self.plan.key_digests(range);
            let columns = self.plan.key.len();
            let (node, patience) = (self.connection.node.clone(), self.connection.patience);
            let asked = self.connection.conn.query_stream::<mysql_async::Row, _>(text);
            let rows = match tokio::time::timeout(patience, asked).await {
                Ok(rows) => rows.map_err(|error| failure(&node, &error))?,
                Err(_) => return Err(no_answer(&node, patience)),
            };
            let read = stream::unfold((rows, node), move |(mut rows, node)| async move {
                let row = match tokio::time::timeout(patience, rows.next()).await {
                    Ok(row) => row?.map_err(|error| failure(&node, &error)),
                    Err(_) => Err(no_answer(&node, patience)),
                };
                let item = row.and_then(|row| texts(&node, row)).and_then(|row| {
                    let odd =
                        || SideError::new(&node, SideErrorKind::Permanent, "a row is too long to be hashed");
                    let (key, rest) = row.split_at_checked(columns).ok_or_else(odd)?;
                    let key: Option<Box<[Box<str>]>> =
                        key.iter().map(|part| part.as_deref().map(Box::from)).collect();
                    Ok(KeyDigest {
                        key: Key(key.ok_or_else(odd)?),
                        hash: bits(rest.first().and_then(Option::as_ref)).ok_or_else(odd)?,
                    })
                });
                Some((item, (rows, node)))
            });
            Ok(read.boxed())
        }
        .boxed()
    }

    fn rows<'a>(
        &'a mut self,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<FetchedRow, SideError>>, SideError>> {
        async move {
            let found = self.look_up(keys, RowLock::None).await?;
            Ok(stream::iter(found.into_iter().map(Ok)).boxed())
        }
        .boxed()
    }

    fn versions<'a>(
        &'a mut self,
        _: &'a [Key],
    ) -> BoxFuture<'a, Result<Option<Vec<Option<RowVersion>>>, SideError>> {
        async { Ok(None) }.boxed()
    }

    fn mark(&mut self) -> BoxFuture<'_, Result<Option<Mark>, SideError>> {
        replay::mark(&mut self.connection).boxed()
    }

    fn passed<'a>(&'a mut self, marks: &'a [Mark]) -> BoxFuture<'a, Result<bool, SideError>> {
        replay::passed(&mut self.connection, marks).boxed()
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        self.connection.canceller()
    }
}

impl MySqlSession {
    /// The rows under these keys that are there.
    pub(crate) async fn look_up(
        &mut self,
        keys: &[Key],
        lock: RowLock,
    ) -> Result<Vec<FetchedRow>, SideError> {
        let mut found = Vec::with_capacity(keys.len());
        for (part, asked) in keys.chunks(LOOK_UPS).enumerate() {
            let text = self.plan.rows(asked, part * LOOK_UPS, lock);
            for row in self.connection.all(&text).await? {
                found.push(self.fetched(row)?);
            }
        }
        Ok(found)
    }

    fn fetched(&self, row: Texts) -> Result<FetchedRow, SideError> {
        let mut values = row.into_iter();
        let asked = values.next().flatten().and_then(|place| place.parse().ok());
        let asked = asked.ok_or_else(|| self.connection.odd("a row came back that was not asked for"))?;
        let nulls = values.next().flatten().unwrap_or_default();
        let cells: Box<[Cell]> = values
            .map(|text| Cell {
                text: text.map(String::into_boxed_str),
            })
            .collect();
        if cells.len() != self.plan.columns.len() {
            return Err(self
                .connection
                .odd("a row came back with other columns than were asked for"));
        }
        let null = |column: usize| nulls.as_bytes().get(column) == Some(&b'1');
        if (0..cells.len()).any(|column| cells[column].text.is_none() != null(column)) {
            return Err(self.connection.odd(
                "a value is too long to be read; raise max_allowed_packet to more than twice the longest value",
            ));
        }
        Ok(FetchedRow {
            asked,
            version: None,
            commit_ts: None,
            origin: None,
            cells,
        })
    }
}
