//! The proof itself: which statements are asked, in which order, and what follows from the answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use changeling_core::ident::quote_text;
use changeling_core::key::{Bound, Key, KeyRange};
use changeling_core::schema::ColumnKind;
use changeling_core::verify::{Discrepancy, Findings, Suspect, TablePair, Verifier, VerifyError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mysql_async::Conn;

use super::comparison::Dialect;
use super::plan::{Comparand, Plan};
use super::session::{doubt, number, refusal, rows, run};
use super::statement::{Question, Scope, read_extra};
use super::target_walk;

/// Keys in one statement: larger lists make the server's range optimizer, not its look-ups, the cost.
const KEYS_AT_ONCE: usize = 2_000;

/// How often counts may disagree while no row is found to blame, before the answer is "unknown". Once is
/// normal (a sync cycle came between the two statements).
const CONTRADICTIONS: usize = 3;

/// Tells the temporary tables of several proofs in one session apart.
static PROOFS: AtomicU64 = AtomicU64::new(0);

/// Compares a ghost table with its original inside the server that has both.
///
/// One proof belongs to one migration: a ghost table, under whatever names a cut-over gives it, and its original on
/// one server. It serves any number of sessions, each after [`Verifier::prepare`]. A session must have the `sql_mode` and `time_zone` under which rows were copied:
/// values that were converted are converted once more. Preparing sets it to `READ COMMITTED`, in which
/// neither table's rows are locked, and creates a temporary table if some column is converted in a way that
/// may lose something (then the account needs `CREATE TEMPORARY TABLES`).
///
/// A range is one statement, and so one snapshot, as long as it is equal. Every further statement sees a
/// later state. That is sound for each key by itself as long as the caller proves again every key synced
/// after the comparison *began*.
#[derive(Debug)]
pub struct SameServerProof {
    /// One for each name of the ghost table.
    plans: Mutex<Vec<Arc<Plan>>>,
    scratch_name: String,
}

impl Default for SameServerProof {
    fn default() -> Self {
        Self::new()
    }
}

impl SameServerProof {
    /// A proof of a pair that [`Verifier::prepare`] will name.
    #[must_use]
    pub fn new() -> Self {
        let number = PROOFS.fetch_add(1, Ordering::Relaxed);
        Self {
            plans: Mutex::default(),
            scratch_name: format!("_changeling_proof_{number}"),
        }
    }

    fn known(&self, pair: &TablePair) -> Option<Arc<Plan>> {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.iter().find(|plan| plan.is_for(pair)).cloned()
    }

    fn plan(&self, pair: &TablePair) -> Result<Arc<Plan>, VerifyError> {
        self.known(pair).ok_or_else(|| {
            refusal(format!(
                "no session was prepared to compare {} with {}",
                pair.source, pair.target
            ))
        })
    }

    async fn prepare_session(&self, session: &mut Conn, pair: &TablePair) -> Result<(), VerifyError> {
        run(
            session,
            "preparing a session for comparisons",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )
        .await?;
        check_time_zone(session, pair).await?;
        if self.known(pair).is_none() {
            let dialect = dialect(session).await?;
            let unique = target_is_unique(session, pair).await?;
            // Another session may have been faster; both plans are the same.
            let plan = Arc::new(Plan::new(pair, dialect, unique, &self.scratch_name)?);
            self.plans
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(plan);
        }
        match &self.plan(pair)?.converted {
            Some((scratch, _)) => scratch.create(session).await,
            None => Ok(()),
        }
    }

    async fn compare(
        &self,
        session: &mut Conn,
        pair: &TablePair,
        scope: Scope<'_>,
        limit: usize,
    ) -> Result<Findings, VerifyError> {
        let plan = &*self.plan(pair)?;
        let question = Question::new(plan, pair, scope)?;
        let walk = match scope {
            Scope::Range(range) => range.from == Bound::Open && !plan.ranges_are_alike(),
            Scope::Keys(_) => false,
        };
        let mut extra = Vec::new();
        if walk {
            extra = target_walk::extra_keys(session, plan, pair, limit.saturating_add(1)).await?;
        }
        for _ in 0..CONTRADICTIONS {
            if let Some(mut findings) = compare_once(session, &question, plan, pair, scope, limit).await? {
                collect(
                    &mut findings,
                    std::mem::take(&mut extra).into_iter().map(is_extra),
                    limit,
                );
                return Ok(findings);
            }
        }
        Err(doubt(format!(
            "rows of {} and {} were counted differently but none was found to differ, {CONTRADICTIONS} times",
            pair.source, pair.target
        )))
    }
}

/// `None` when the counts disagreed and no row was to blame.
async fn compare_once(
    session: &mut Conn,
    question: &Question<'_>,
    plan: &Plan,
    pair: &TablePair,
    scope: Scope<'_>,
    limit: usize,
) -> Result<Option<Findings>, VerifyError> {
    let mut answer = None;
    if let Some(direct) = &plan.direct {
        let summary = summarise(session, question, direct, &question.source_filter).await?;
        if summary.is_perfect() || plan.direct_decides || !summary.has_unequal() {
            answer = Some((direct, question.source_filter.as_str(), summary));
        }
    }
    let (left, filter, summary) = match (answer, &plan.converted) {
        (Some(answer), _) => answer,
        (None, Some((scratch, converted))) => {
            scratch.fill(session, &question.source_filter).await?;
            (
                converted,
                "TRUE",
                summarise(session, question, converted, "TRUE").await?,
            )
        }
        (None, None) => {
            return Err(refusal(
                "this pair has neither a direct nor a converted comparison",
            ));
        }
    };
    let mut findings = Findings {
        rows: summary.rows,
        ..Findings::default()
    };
    let by_keys = matches!(scope, Scope::Keys(_));
    let more = limit.saturating_add(1);
    if !summary.is_perfect() {
        for row in rows(
            session,
            "reading differing keys",
            &question.differing(left, filter, more),
        )
        .await?
        {
            let difference = question.read_differing(left, &row)?;
            let discrepancy = if difference.missing {
                Discrepancy::Missing
            } else {
                Discrepancy::Different
            };
            let suspect = Suspect {
                key: difference.key,
                discrepancy,
                columns: difference.columns,
            };
            collect(&mut findings, [suspect], limit);
        }
    }
    // Keys name each table once a statement, so that their summary does not count the target.
    if (by_keys || !summary.is_perfect())
        && let Some(statement) = question.extra(more)
    {
        for row in rows(session, "looking for extra rows", &statement).await? {
            collect(&mut findings, [is_extra(read_extra(pair, &row)?)], limit);
        }
    }
    if (by_keys || !summary.is_perfect())
        && let Some(statement) = question.doubled(more)
    {
        for row in rows(session, "looking for doubled keys", &statement).await? {
            collect(&mut findings, [is_extra(question.parse(&row)?)], limit);
        }
    }
    let contradiction = !summary.is_perfect() && findings.suspects.is_empty() && !findings.truncated;
    Ok((!contradiction).then_some(findings))
}

async fn summarise(
    session: &mut Conn,
    question: &Question<'_>,
    left: &Comparand,
    filter: &str,
) -> Result<super::statement::Summary, VerifyError> {
    Question::read_summary(&rows(session, "comparing rows", &question.summary(left, filter)).await?)
}

fn is_extra(key: Key) -> Suspect {
    Suspect {
        key,
        discrepancy: Discrepancy::Extra,
        columns: Vec::new(),
    }
}

/// Adds suspects up to the limit and remembers if there were more.
fn collect(findings: &mut Findings, suspects: impl IntoIterator<Item = Suspect>, limit: usize) {
    for suspect in suspects {
        if findings.suspects.len() < limit {
            findings.suspects.push(suspect);
        } else {
            findings.truncated = true;
        }
    }
}

/// Keys with a `TIMESTAMP` are written and read in UTC.
async fn check_time_zone(session: &mut Conn, pair: &TablePair) -> Result<(), VerifyError> {
    let timestamps = pair
        .key
        .columns
        .iter()
        .any(|column| matches!(column.kind, ColumnKind::Timestamp { .. }));
    if !timestamps {
        return Ok(());
    }
    let zone = rows(session, "reading time_zone", "SELECT @@SESSION.time_zone").await?;
    let zone = zone.first().and_then(|row| row[0].clone()).unwrap_or_default();
    if matches!(zone.as_slice(), b"+00:00" | b"UTC" | b"Etc/UTC") {
        return Ok(());
    }
    Err(refusal(format!(
        "the key of {} holds a TIMESTAMP and the session's time_zone is {}; it has to be '+00:00'",
        pair.source,
        String::from_utf8_lossy(&zone)
    )))
}

async fn dialect(session: &mut Conn) -> Result<Dialect, VerifyError> {
    let version = rows(session, "reading the server's version", "SELECT VERSION()").await?;
    let version = version.first().and_then(|row| row[0].clone()).unwrap_or_default();
    Ok(read_dialect(&String::from_utf8_lossy(&version)))
}

fn read_dialect(version: &str) -> Dialect {
    if version.to_ascii_lowercase().contains("mariadb") {
        return Dialect::MariaDb;
    }
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let mut next = || -> u32 { numbers.next().unwrap_or(0) };
    Dialect::MySql {
        bytewise_collation: (next(), next(), next()) >= (8, 0, 17),
    }
}

/// Whether the target's index is unique and has exactly the key's columns.
async fn target_is_unique(session: &mut Conn, pair: &TablePair) -> Result<bool, VerifyError> {
    let statement = format!(
        "SELECT COUNT(*), COUNT(CASE WHEN NON_UNIQUE = 0 AND SUB_PART IS NULL THEN 1 END) \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND INDEX_NAME = {}",
        quote_text(&pair.target.schema),
        quote_text(&pair.target.table),
        quote_text(&pair.target_index)
    );
    let counts = rows(session, "reading the ghost table's index", &statement).await?;
    let row = counts
        .first()
        .ok_or_else(|| refusal("information_schema returned nothing"))?;
    let parts = pair.key.columns.len() as u64;
    Ok(number(row, 0)? == parts && number(row, 1)? == parts)
}

impl Verifier<Conn> for SameServerProof {
    fn prepare<'a>(
        &'a self,
        session: &'a mut Conn,
        pair: &'a TablePair,
    ) -> BoxFuture<'a, Result<(), VerifyError>> {
        self.prepare_session(session, pair).boxed()
    }

    fn compare_range<'a>(
        &'a self,
        session: &'a mut Conn,
        pair: &'a TablePair,
        range: &'a KeyRange,
        limit: usize,
    ) -> BoxFuture<'a, Result<Findings, VerifyError>> {
        self.compare(session, pair, Scope::Range(range), limit).boxed()
    }

    fn compare_keys<'a>(
        &'a self,
        session: &'a mut Conn,
        pair: &'a TablePair,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Findings, VerifyError>> {
        async move {
            let mut all = Findings::default();
            for keys in keys.chunks(KEYS_AT_ONCE) {
                let found = self.compare(session, pair, Scope::Keys(keys), usize::MAX).await?;
                all.rows += found.rows;
                all.suspects.extend(found.suspects);
            }
            Ok(all)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_apart() {
        assert_eq!(read_dialect("10.11.18-MariaDB-0+deb12u1-log"), Dialect::MariaDb);
        assert_eq!(
            read_dialect("9.7.4-2"),
            Dialect::MySql {
                bytewise_collation: true
            }
        );
        assert_eq!(
            read_dialect("8.0.16"),
            Dialect::MySql {
                bytewise_collation: false
            }
        );
    }

    #[test]
    fn more_suspects_than_the_limit_are_not_forgotten() {
        let mut findings = Findings::default();
        let key = || Key::new(vec![changeling_core::value::Cell::Int(1)]);
        collect(&mut findings, [is_extra(key()), is_extra(key())], 1);
        assert_eq!(findings.suspects.len(), 1);
        assert!(findings.truncated);
    }
}
