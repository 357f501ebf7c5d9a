//! Looking for extra rows where a range of the source is no range of the target.
//!
//! When the key's collation or character set changes, the two tables order their rows differently. Then
//! the target is walked by itself, in its own order and in short statements, and every row is looked up in
//! the source. It happens as part of the range without a beginning, once in a run of ranges. A ghost row
//! that appears after the walk has passed comes from a sync cycle, whose keys are proven again.

use changeling_core::key::{Bound, Direction, Key, KeyRange, Side};
use changeling_core::verify::{TablePair, VerifyError};
use mysql_async::Conn;

use super::matching::mirrored;
use super::plan::Plan;
use super::session::{refusal, rows};
use super::statement::{extra, read_extra};

/// Rows of the target in one statement: some ten milliseconds on either server.
const STEP: usize = 5_000;

/// Keys of the target that the source lacks, at most `limit`.
pub(super) async fn extra_keys(
    session: &mut Conn,
    plan: &Plan,
    pair: &TablePair,
    limit: usize,
) -> Result<Vec<Key>, VerifyError> {
    let own = mirrored(pair);
    let names = super::matching::QualifiedKey::new(&own, &pair.target, &pair.target);
    let mut found = Vec::new();
    let mut range = KeyRange {
        from: Bound::Open,
        to: Bound::Open,
    };
    loop {
        let ahead = names
            .in_range(Side::Source, &range)
            .map_err(|error| refusal(error.to_string()))?;
        let border = format!(
            "SELECT {} FROM {} WHERE {ahead} ORDER BY {} LIMIT 1 OFFSET {}",
            names.select_list(Side::Source),
            plan.target_from,
            own.order(Direction::Forward),
            STEP - 1
        );
        let border = rows(session, "walking the ghost table", &border).await?;
        let last = match border.first() {
            Some(row) => Some(own.parse(row).map_err(|error| refusal(error.to_string()))?),
            None => None,
        };
        range.to = last.clone().map_or(Bound::Open, Bound::Included);
        let here = names
            .in_range(Side::Source, &range)
            .map_err(|error| refusal(error.to_string()))?;
        let statement = extra(plan, pair, &here, limit - found.len());
        for row in rows(session, "looking for extra rows", &statement).await? {
            found.push(read_extra(pair, &row)?);
        }
        match last {
            Some(last) if found.len() < limit => {
                range = KeyRange {
                    from: Bound::Excluded(last),
                    to: Bound::Open,
                };
            }
            _ => return Ok(found),
        }
    }
}
