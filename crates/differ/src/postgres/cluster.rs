//! Several PostgreSQL nodes with one table: from their addresses to sides that the engine can compare.

use std::sync::Arc;
use std::time::Duration;

use changeling_core::ident::TableName;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};

use crate::model::{Comparison, NodeName, TableShape};
use crate::range::KeyRange;
use crate::side::{ServerPlans, Session, Side, SideError, SideErrorKind, SideIdentity, Vitals};

use super::agreement::{ColumnChoice, Disagreement, Terms, agree};
use super::catalog::{PgTable, UTF8};
use super::connect::{PgConnection, PgServer};
use super::filter::{FilterError, check_filter};
use super::identity;
use super::origin::Origins;
use super::partition::{self, PgPartition};
use super::plan::{RowHash, TablePlan};
use super::probe::{self, Encoding};
use super::replay::{self, Replay};
use super::session::{PgSession, Sight};
use super::snapshot::{self, Keeper, SnapshotMode};
use super::statement::RangeForm;
use super::vitals::PgVitals;

/// A node of the comparison.
#[derive(Clone, Debug)]
pub struct PgNode {
    /// How it is reached.
    pub server: PgServer,
    /// Its table; nodes may have it under different names.
    pub table: TableName,
}

/// What is compared, beside the nodes.
#[derive(Clone, Debug, Default)]
pub struct PgTerms {
    /// Which columns.
    pub columns: ColumnChoice,
    /// When values are the same.
    pub comparison: Comparison,
    /// The operator's own predicate.
    pub filter: Option<String>,
    /// Whether the job judges by commit times or origins.
    pub needs_commit_times: bool,
    /// At what instants ranges are digested.
    pub snapshot: SnapshotMode,
    /// How long a fenced snapshot waits for the nodes to replay each other's changes.
    pub replay_timeout: Duration,
}

/// The comparison cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A node did not answer, or refused.
    #[error(transparent)]
    Side(#[from] SideError),
    /// The tables have too little in common.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    /// The operator's predicate is not one.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// One node is no comparison.
    #[error("a comparison needs at least two nodes, and {0} was given")]
    TooFewNodes(usize),
    /// Two nodes have one name.
    #[error("two nodes are called {0:?}")]
    SameName(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Nodes that agreed.
pub struct PgCluster {
    /// The table as it is compared.
    pub shape: TableShape,
    /// One side a node, in the order given.
    pub sides: Vec<Arc<dyn Side>>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// What each node's origin numbers stand for, in the order of the sides.
    pub origins: Vec<Arc<Origins>>,
    /// Schemas in which each node has to look for the operators of its key's types.
    pub(crate) search_paths: Vec<Vec<String>>,
}

impl std::fmt::Debug for PgCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgCluster")
            .field("shape", &self.shape)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

impl PgCluster {
    /// Inspects the table on every node and finds out how it can be compared. One connection a node, closed again.
    ///
    /// # Errors
    /// A node cannot be reached, the tables have too little in common, the filter is not a predicate.
    pub async fn prepare(nodes: &[PgNode], terms: PgTerms) -> Result<Self, PrepareError> {
        check_names(nodes)?;
        if let Some(filter) = &terms.filter {
            check_filter(filter)?;
        }
        let mut connections = try_join_all(nodes.iter().map(|node| node.server.connect(&[]))).await?;
        let tables = try_join_all(
            connections
                .iter_mut()
                .zip(nodes)
                .map(|(connection, node)| PgTable::inspect(connection, &node.table)),
        )
        .await?;
        let (snapshot, patience) = (terms.snapshot, terms.replay_timeout);
        let terms = Terms {
            choice: terms.columns,
            comparison: terms.comparison,
            filter: terms.filter,
            seed: random_seed()?,
            null_text: random_text()?,
            needs_commit_times: terms.needs_commit_times,
        };
        let (mut plans, mut notes) = agree(&tables, &terms)?;
        let shape = plans[0].shape.clone();
        let hash = common_hash(&mut connections, encoding(&tables), terms.seed, &mut notes).await?;
        let mut slots = Vec::new();
        for connection in &mut connections {
            slots.extend(replay::subscribed(connection).await?);
        }
        let mut origins = Vec::with_capacity(nodes.len());
        let mut identities = Vec::with_capacity(nodes.len());
        let mut replays = Vec::with_capacity(nodes.len());
        for ((connection, table), plan) in connections.iter_mut().zip(&tables).zip(&mut plans) {
            plan.hash = hash;
            check_statements(connection, plan).await?;
            identities.push(SideIdentity {
                server: identity::server(connection, table).await?,
                order: identity::order(table, plan),
            });
            origins.push(Arc::new(Origins::read(connection).await?));
            replays.push(Replay::of(connection, &slots, table.oid).await?);
        }
        let search_paths = plans.iter().map(|plan| plan.search_path.clone()).collect();
        let keepers = keepers(connections, &replays, snapshot, patience).await?;
        let mut sides: Vec<Arc<dyn Side>> = Vec::with_capacity(nodes.len());
        for (index, ((plan, identity), (replay, keeper))) in plans
            .into_iter()
            .zip(identities)
            .zip(replays.into_iter().zip(keepers))
            .enumerate()
        {
            sides.push(Arc::new(PgSide {
                server: nodes[index].server.clone(),
                table: nodes[index].table.clone(),
                identity,
                estimate: tables[index].estimate,
                plan: Arc::new(plan),
                origins: Arc::clone(&origins[index]),
                replay: Arc::new(replay),
                keeper,
                oid: tables[index].oid,
                partitions: tables[index].partitions.clone().unwrap_or_default(),
            }));
        }
        Ok(Self {
            shape,
            sides,
            notes,
            origins,
            search_paths,
        })
    }
}

/// One for each node, or none at all.
async fn keepers(
    mut connections: Vec<PgConnection>,
    replays: &[Replay],
    mode: SnapshotMode,
    patience: Duration,
) -> Result<Vec<Option<Arc<Keeper>>>, SideError> {
    if mode == SnapshotMode::None {
        return Ok(connections.iter().map(|_| None).collect());
    }
    if mode == SnapshotMode::Fenced {
        snapshot::fence(&mut connections, replays, patience).await?;
    }
    let kept = try_join_all(connections.into_iter().map(Keeper::of)).await?;
    Ok(kept.into_iter().map(|keeper| Some(Arc::new(keeper))).collect())
}

/// Has the server read the statements, so that a filter with a mistake in it is refused and not unknown.
async fn check_statements(connection: &mut PgConnection, plan: &TablePlan) -> Result<(), SideError> {
    connection.search(&plan.search_path).await?;
    let range = RangeForm::closed(plan.shape.partitions.first());
    for text in [plan.digest(range, 1), plan.rows()] {
        connection.prepare(&text).await?;
    }
    connection.search(&[]).await
}

fn check_names(nodes: &[PgNode]) -> Result<(), PrepareError> {
    if nodes.len() < 2 {
        return Err(PrepareError::TooFewNodes(nodes.len()));
    }
    for (index, node) in nodes.iter().enumerate() {
        if nodes[..index]
            .iter()
            .any(|other| other.server.node() == node.server.node())
        {
            return Err(PrepareError::SameName(node.server.node().to_string()));
        }
    }
    Ok(())
}

fn random_seed() -> Result<i64, PrepareError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(PrepareError::Random)?;
    Ok(i64::from_le_bytes(bytes))
}

fn random_text() -> Result<String, PrepareError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(PrepareError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn encoding(tables: &[PgTable]) -> Encoding {
    let first = &tables[0].encoding;
    if tables.iter().any(|table| table.encoding != *first) {
        Encoding::Mixed
    } else if first == UTF8 {
        Encoding::Utf8
    } else {
        Encoding::Alike
    }
}

/// The quickest hash of which all nodes make the same.
async fn common_hash(
    connections: &mut [PgConnection],
    encoding: Encoding,
    seed: i64,
    notes: &mut Vec<String>,
) -> Result<RowHash, SideError> {
    let quickest = match encoding {
        Encoding::Utf8 | Encoding::Alike => RowHash::Chained,
        // By the texts in UTF-8, whatever they are stored in.
        Encoding::Mixed => RowHash::Sha256,
    };
    for hash in [quickest, RowHash::Sha256] {
        let prints = try_join_all(
            connections
                .iter_mut()
                .map(|connection| probe::fingerprint(connection, hash, seed, encoding)),
        )
        .await?;
        if prints.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(hash);
        }
        notes.push("the nodes hash texts differently; SHA-256 is used, which is slower".into());
    }
    Err(SideError::new(
        connections[0].node(),
        SideErrorKind::Permanent,
        "the nodes do not agree on any hash",
    ))
}

/// One node.
struct PgSide {
    server: PgServer,
    table: TableName,
    identity: SideIdentity,
    estimate: f64,
    plan: Arc<TablePlan>,
    origins: Arc<Origins>,
    replay: Arc<Replay>,
    keeper: Option<Arc<Keeper>>,
    oid: u32,
    /// Its leaves at the beginning.
    partitions: Vec<PgPartition>,
}

impl Side for PgSide {
    fn node(&self) -> &NodeName {
        self.server.node()
    }

    fn table(&self) -> &TableName {
        &self.table
    }

    fn identity(&self) -> SideIdentity {
        self.identity.clone()
    }

    fn estimate(&self) -> f64 {
        self.estimate
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, SideError>> {
        async move {
            let connection = self.server.connect(&self.plan.search_path).await?;
            let session: Box<dyn Session> = Box::new(PgSession {
                connection,
                plan: Arc::clone(&self.plan),
                origins: Arc::clone(&self.origins),
                replay: Arc::clone(&self.replay),
                keeper: self.keeper.clone(),
                sight: Sight::Present,
            });
            Ok(session)
        }
        .boxed()
    }

    fn vitals(&self) -> BoxFuture<'_, Result<Box<dyn Vitals>, SideError>> {
        async move {
            let connection = self.server.connect(&[]).await?;
            let vitals: Box<dyn Vitals> = Box::new(PgVitals { connection });
            Ok(vitals)
        }
        .boxed()
    }

    fn is_still_all(&self) -> BoxFuture<'_, Result<Option<String>, SideError>> {
        async move {
            // As a whole it is read by its own name, whatever its leaves are.
            if self.plan.shape.partitions.is_empty() {
                return Ok(None);
            }
            let mut connection = self.server.connect(&[]).await?;
            partition::changed_since(&mut connection, self.oid, &self.partitions).await
        }
        .boxed()
    }

    fn statements(&self) -> Vec<(&'static str, String)> {
        const ROWS: u64 = 100_000;
        let plan = &self.plan;
        let range = RangeForm::closed(plan.shape.partitions.first());
        vec![
            ("end of a block", plan.step(range, ROWS)),
            ("digest of a range", plan.digest(range, 4 * ROWS)),
            ("cuts of a range", plan.cuts(range, ROWS / 16, 16)),
            ("keys and hashes of a range", plan.key_digests(range)),
            ("rows by key", plan.rows()),
            ("versions by key", plan.versions()),
        ]
    }

    fn plans(&self) -> BoxFuture<'_, Result<ServerPlans, SideError>> {
        const ROWS: u64 = 100_000;
        async move {
            let mut connection = self.server.connect(&self.plan.search_path).await?;
            let all = KeyRange::all_of(&self.plan.shape.partitions);
            let all = RangeForm::from(&all[0]);
            let statements = [
                ("end of the first block", self.plan.step(all, ROWS)),
                ("digest of the first block", self.plan.digest(all, ROWS)),
            ];
            let mut plans = Vec::with_capacity(statements.len());
            for (title, text) in statements {
                let statement = connection.prepare(&format!("EXPLAIN {text}")).await?;
                let rows = connection
                    .patient(connection.client().query(&statement, &[]))
                    .await?;
                plans.push((title, rows.iter().map(|row| row.get(0)).collect()));
            }
            Ok(plans)
        }
        .boxed()
    }
}
