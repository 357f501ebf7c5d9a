//! A connection that compares.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, RowStream};

use crate::model::{Cell, Key, NodeName, Origin};
use crate::range::KeyRange;
use crate::side::{
    Canceller, Digest, Digested, FetchedRow, KeyDigest, Mark, RowVersion, Session, SideError, SideErrorKind,
};

use super::connect::{PgConnection, failure, no_answer};
use super::origin::Origins;
use super::plan::TablePlan;
use super::replay::Replay;
use super::snapshot::Keeper;
use super::statement::range_parameters;

/// One connection to one node, with the plan for its table.
pub(super) struct PgSession {
    pub(super) connection: PgConnection,
    pub(super) plan: Arc<TablePlan>,
    pub(super) origins: Arc<Origins>,
    pub(super) replay: Arc<Replay>,
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) sight: Sight,
}

/// What the connection's statements see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// What is there when each begins.
    Present,
    /// What the keeper's snapshot shows; a transaction is open.
    Snapshot,
}

/// What an open stream needs to give up and to explain itself.
#[derive(Clone)]
struct Watch {
    node: NodeName,
    patience: Duration,
}

impl Watch {
    async fn next(&self, rows: &mut std::pin::Pin<Box<RowStream>>) -> Option<Result<Row, SideError>> {
        match tokio::time::timeout(self.patience, rows.next()).await {
            Ok(row) => row.map(|row| row.map_err(|error| failure(&self.node, &error))),
            Err(_) => Some(Err(no_answer(&self.node, self.patience))),
        }
    }
}

impl PgSession {
    /// From now on the snapshot, if there is one.
    async fn look_back(&mut self) -> Result<(), SideError> {
        if let (Some(keeper), Sight::Present) = (&self.keeper, self.sight) {
            keeper.show(&self.connection).await?;
            self.sight = Sight::Snapshot;
        }
        Ok(())
    }

    /// From now on what is there.
    async fn look_now(&mut self) -> Result<(), SideError> {
        if self.sight == Sight::Snapshot {
            self.connection.run("COMMIT").await?;
            self.sight = Sight::Present;
        }
        Ok(())
    }

    async fn stream(
        &mut self,
        text: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<RowStream, SideError> {
        let statement = self.connection.prepare(text).await?;
        self.connection
            .patient(
                self.connection
                    .client()
                    .query_raw(&statement, parameters.iter().copied()),
            )
            .await
    }

    async fn all(&mut self, text: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, SideError> {
        let statement = self.connection.prepare(text).await?;
        self.connection
            .patient(self.connection.client().query(&statement, parameters))
            .await
    }

    async fn stream_key_digests<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> Result<BoxStream<'a, Result<KeyDigest, SideError>>, SideError> {
        let text = self.plan.key_digests(range.into());
        let texts = range_parameters(range);
        let rows = self.stream(&text, &bound(&texts)).await?;
        let columns = self.plan.key.len();
        let node = self.connection.node().clone();
        Ok(self.opened(rows, move |row| {
            Ok(KeyDigest {
                key: read_key(&node, row, columns)?,
                hash: row.try_get(columns).map_err(|error| odd(&node, &error))?,
            })
        }))
    }

    /// Of ranges with two ends and of one partition, in one statement.
    async fn digests_of_closed(
        &mut self,
        ranges: &[&KeyRange],
        cap: u64,
    ) -> Result<Vec<Digested>, SideError> {
        let Some(KeyRange { partition, .. }) = ranges.first() else {
            return Ok(vec![]);
        };
        let ends = |end: fn(&KeyRange) -> &Option<Key>| {
            let keys = ranges.iter().filter_map(|range| end(range).as_ref());
            arrays(keys, self.plan.key.len())
        };
        let mut texts = ends(|range| &range.after);
        texts.extend(ends(|range| &range.to));
        let parameters: Vec<&(dyn ToSql + Sync)> =
            texts.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
        let text = self.plan.digests(partition.as_ref(), cap);
        let rows = self.all(&text, &parameters).await?;
        let node = self.connection.node();
        if rows.len() != ranges.len() {
            return Err(SideError::new(
                node,
                SideErrorKind::Permanent,
                format_args!("{} digests of {} ranges", rows.len(), ranges.len()),
            ));
        }
        rows.iter().map(|row| read_digest(node, row, cap)).collect()
    }

    fn watch(&self) -> Watch {
        Watch {
            node: self.connection.node().clone(),
            patience: self.connection.patience(),
        }
    }

    fn opened<'a, T: Send + 'a>(
        &self,
        rows: RowStream,
        read: impl Fn(&Row) -> Result<T, SideError> + Send + 'a,
    ) -> BoxStream<'a, Result<T, SideError>> {
        let watch = self.watch();
        stream::unfold(
            (Box::pin(rows), watch, read),
            |(mut rows, watch, read)| async move {
                let row = watch.next(&mut rows).await?;
                let item = row.and_then(|row| read(&row));
                Some((item, (rows, watch, read)))
            },
        )
        .boxed()
    }

    fn key(&self, row: &Row) -> Result<Key, SideError> {
        read_key(self.connection.node(), row, self.plan.key.len())
    }
}

fn odd(node: &NodeName, error: &tokio_postgres::Error) -> SideError {
    SideError::new(
        node,
        SideErrorKind::Permanent,
        format_args!("an answer could not be read: {error}"),
    )
}

fn read_key(node: &NodeName, row: &Row, columns: usize) -> Result<Key, SideError> {
    let mut parts = Vec::with_capacity(columns);
    for column in 0..columns {
        let text: &str = row.try_get(column).map_err(|error| odd(node, &error))?;
        parts.push(Box::from(text));
    }
    Ok(Key(parts.into_boxed_slice()))
}

/// The texts of a range's ends as parameters.
fn bound<'a>(texts: &'a [&'a str]) -> Vec<&'a (dyn ToSql + Sync)> {
    texts.iter().map(|text| text as &(dyn ToSql + Sync)).collect()
}

/// Keys as one array a column.
fn arrays<'a>(keys: impl Iterator<Item = &'a Key> + Clone, columns: usize) -> Vec<Vec<&'a str>> {
    (0..columns)
        .map(|column| keys.clone().map(|key| &*key.0[column]).collect())
        .collect()
}

/// A row of count, exclusive or and sum.
fn read_digest(node: &NodeName, row: &Row, cap: u64) -> Result<Digested, SideError> {
    let read = |error: tokio_postgres::Error| odd(node, &error);
    let count: i64 = row.try_get(0).map_err(read)?;
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    if count >= cap {
        return Ok(Digested::Overflow);
    }
    Ok(Digested::Whole(Digest {
        count,
        xor: row.try_get(1).map_err(read)?,
        sum: row.try_get::<_, &str>(2).map_err(read)?.into(),
    }))
}

/// Positions count from 1 in the server's answer.
fn position(node: &NodeName, row: &Row) -> Result<usize, SideError> {
    let place: i64 = row.try_get(0).map_err(|error| odd(node, &error))?;
    usize::try_from(place - 1).map_err(|_| {
        SideError::new(
            node,
            SideErrorKind::Permanent,
            "a row came back that was not asked for",
        )
    })
}

impl Session for PgSession {
    fn step<'a>(
        &'a mut self,
        range: &'a KeyRange,
        rows: u64,
    ) -> BoxFuture<'a, Result<Option<Key>, SideError>> {
        async move {
            self.look_back().await?;
            let text = self.plan.step(range.into(), rows);
            let texts = range_parameters(range);
            let rows = self.all(&text, &bound(&texts)).await?;
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
            self.look_back().await?;
            let text = self.plan.cuts(range.into(), every, limit);
            let texts = range_parameters(range);
            let rows = self.all(&text, &bound(&texts)).await?;
            rows.iter().map(|row| self.key(row)).collect()
        }
        .boxed()
    }

    fn digest<'a>(&'a mut self, range: &'a KeyRange, cap: u64) -> BoxFuture<'a, Result<Digested, SideError>> {
        async move {
            self.look_back().await?;
            let text = self.plan.digest(range.into(), cap);
            let texts = range_parameters(range);
            let rows = self.all(&text, &bound(&texts)).await?;
            let node = self.connection.node();
            let [row] = &rows[..] else {
                return Err(SideError::new(
                    node,
                    SideErrorKind::Permanent,
                    "a digest without a row",
                ));
            };
            read_digest(node, row, cap)
        }
        .boxed()
    }

    fn digests<'a>(
        &'a mut self,
        ranges: &'a [KeyRange],
        cap: u64,
    ) -> BoxFuture<'a, Result<Vec<Digested>, SideError>> {
        async move {
            self.look_back().await?;
            let closed: Vec<&KeyRange> = ranges.iter().filter(|range| range.is_closed()).collect();
            let mut answers = self.digests_of_closed(&closed, cap).await?.into_iter();
            let mut digests = Vec::with_capacity(ranges.len());
            for range in ranges {
                let answer = if range.is_closed() { answers.next() } else { None };
                digests.push(match answer {
                    Some(answer) => answer,
                    None => self.digest(range, cap).await?,
                });
            }
            Ok(digests)
        }
        .boxed()
    }

    fn key_digests<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<KeyDigest, SideError>>, SideError>> {
        async move {
            self.look_back().await?;
            self.stream_key_digests(range).await
        }
        .boxed()
    }

    fn key_digests_now<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<KeyDigest, SideError>>, SideError>> {
        async move {
            self.look_now().await?;
            self.stream_key_digests(range).await
        }
        .boxed()
    }

    fn rows<'a>(
        &'a mut self,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<FetchedRow, SideError>>, SideError>> {
        async move {
            self.look_now().await?;
            let text = self.plan.rows();
            let arrays = arrays(keys.iter(), self.plan.key.len());
            let parameters: Vec<&(dyn ToSql + Sync)> =
                arrays.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
            let rows = self.stream(&text, &parameters).await?;
            let columns = self.plan.columns.len();
            let origins = Arc::clone(&self.origins);
            let node = self.connection.node().clone();
            Ok(self.opened(rows, move |row| fetched(&node, row, columns, &origins)))
        }
        .boxed()
    }

    fn versions<'a>(
        &'a mut self,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Option<Vec<Option<RowVersion>>>, SideError>> {
        async move {
            self.look_now().await?;
            let text = self.plan.versions();
            let arrays = arrays(keys.iter(), self.plan.key.len());
            let parameters: Vec<&(dyn ToSql + Sync)> =
                arrays.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
            let rows = self.all(&text, &parameters).await?;
            let node = self.connection.node();
            let mut versions = vec![None; keys.len()];
            for row in &rows {
                let version: &str = row.try_get(1).map_err(|error| odd(node, &error))?;
                if let Some(place) = versions.get_mut(position(node, row)?) {
                    *place = Some(RowVersion(version.into()));
                }
            }
            Ok(Some(versions))
        }
        .boxed()
    }

    fn mark(&mut self) -> BoxFuture<'_, Result<Option<Mark>, SideError>> {
        async move {
            self.look_now().await?;
            let replay = Arc::clone(&self.replay);
            replay.mark(&mut self.connection).await
        }
        .boxed()
    }

    fn passed<'a>(&'a mut self, marks: &'a [Mark]) -> BoxFuture<'a, Result<bool, SideError>> {
        async move {
            self.look_now().await?;
            let replay = Arc::clone(&self.replay);
            replay.passed(&mut self.connection, marks).await
        }
        .boxed()
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        self.connection.canceller()
    }
}

/// Columns before the cells: position, version, commit time, origin.
const BEFORE_CELLS: usize = 4;

fn fetched(node: &NodeName, row: &Row, columns: usize, origins: &Origins) -> Result<FetchedRow, SideError> {
    let read = |error: tokio_postgres::Error| odd(node, &error);
    let text = |column: usize| row.try_get::<_, Option<&str>>(column).map_err(read);
    let mut cells = Vec::with_capacity(columns);
    for column in 0..columns {
        cells.push(Cell::from(text(BEFORE_CELLS + column)?));
    }
    let origin: Option<Origin> = text(3)?.and_then(|id| id.parse().ok()).map(|id| origins.of(id));
    Ok(FetchedRow {
        asked: position(node, row)?,
        version: text(1)?.map(|version| RowVersion(version.into())),
        commit_ts: text(2)?.map(ToOwned::to_owned),
        origin,
        cells: cells.into_boxed_slice(),
    })
}
