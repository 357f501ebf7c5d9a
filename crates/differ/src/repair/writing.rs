//! Writing a batch to one node: all at once, and in ever smaller parts where the server refuses.

use super::decision::Skipped;
use super::target::{Refusal, Target};
use crate::model::{Key, Row, TableShape};
use crate::side::SideError;

/// One row that shall be written.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its place in the batch.
    pub(super) index: usize,
    pub(super) key: Key,
    pub(super) before: Option<Row>,
    pub(super) after: Option<Row>,
    pub(super) by: String,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    Written,
    Skipped(Skipped),
    /// The server refused it, in its words; whether it may take it later, when other rows were written.
    Failed(String, Hope),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hope {
    Later,
    None,
}

/// What is done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Insert,
    Update,
    Delete,
}

impl Item {
    pub(super) fn operation(&self) -> Operation {
        match (&self.before, &self.after) {
            (None, _) => Operation::Insert,
            (Some(_), Some(_)) => Operation::Update,
            (Some(_), None) => Operation::Delete,
        }
    }

    /// Whether UPDATE cannot make the row what it shall be: a column that only INSERT may number.
    fn needs_replacing(&self, target: &Target) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => target
                .statements
                .fixed
                .iter()
                .any(|position| before.0[*position] != after.0[*position]),
            _ => false,
        }
    }
}

/// How rows that are there get their new values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Update,
    /// Delete and insert: for rows that have to exchange values of a unique column.
    Replace,
}

/// Writes the items; the order of the answers is that of the items.
pub(super) async fn write(
    target: &mut Target,
    shape: &TableShape,
    items: &[Item],
) -> Result<Vec<Fate>, SideError> {
    let mut fates: Vec<Option<Fate>> = vec![None; items.len()];
    mind_references(target, items, &mut fates).await?;
    let mut open: Vec<Vec<usize>> = vec![(0..items.len()).filter(|place| fates[*place].is_none()).collect()];
    let mut conflicting = Vec::new();
    while let Some(part) = open.pop() {
        let [first, ..] = part[..] else { continue };
        match attempt(target, shape, items, &part, Way::Update).await? {
            Ok(skipped) => settle(&part, &skipped, &mut fates),
            Err((code, message)) if part.len() == 1 => {
                if code == "23505" {
                    conflicting.push(first);
                }
                // Class 23: constraints, which another row may satisfy.
                let hope = if code.starts_with("23") {
                    Hope::Later
                } else {
                    Hope::None
                };
                fates[first] = Some(Fate::Failed(message, hope));
            }
            Err(_) => {
                let (left, right) = part.split_at(part.len() / 2);
                open.push(right.to_vec());
                open.push(left.to_vec());
            }
        }
    }
    exchange(target, shape, items, &conflicting, &mut fates).await?;
    Ok(fates
        .into_iter()
        .map(|fate| fate.unwrap_or(Fate::Written))
        .collect())
}

fn settle(part: &[usize], skipped: &[usize], fates: &mut [Option<Fate>]) {
    for place in part {
        fates[*place] = Some(if skipped.contains(place) {
            Fate::Skipped(Skipped::Inserted)
        } else {
            Fate::Written
        });
    }
}

/// Rows whose deletion would reach further than the row itself are left alone.
async fn mind_references(
    target: &mut Target,
    items: &[Item],
    fates: &mut [Option<Fate>],
) -> Result<(), SideError> {
    let leaving: Vec<usize> = (0..items.len())
        .filter(|place| {
            items[*place].operation() == Operation::Delete || items[*place].needs_replacing(target)
        })
        .collect();
    let keys: Vec<Key> = leaving.iter().map(|place| items[*place].key.clone()).collect();
    let referenced = match target.referenced(&keys).await {
        Ok(referenced) => referenced,
        Err(Refusal::Side(error)) => return Err(error),
        Err(Refusal::Rows { message, .. }) => vec![Some(message); keys.len()],
    };
    for (place, table) in leaving.iter().zip(referenced) {
        if let Some(table) = table {
            fates[*place] = Some(Fate::Skipped(Skipped::Referenced(table)));
        }
    }
    Ok(())
}

/// Two rows that exchange unique values cannot be updated one after the other; together they can be replaced.
async fn exchange(
    target: &mut Target,
    shape: &TableShape,
    items: &[Item],
    conflicting: &[usize],
    fates: &mut [Option<Fate>],
) -> Result<(), SideError> {
    if conflicting.len() < 2 {
        return Ok(());
    }
    let keys: Vec<Key> = conflicting
        .iter()
        .map(|place| items[*place].key.clone())
        .collect();
    match target.referenced(&keys).await {
        Ok(referenced) if referenced.iter().all(Option::is_none) => {}
        Ok(_) | Err(Refusal::Rows { .. }) => return Ok(()),
        Err(Refusal::Side(error)) => return Err(error),
    }
    if let Ok(skipped) = attempt(target, shape, items, conflicting, Way::Replace).await?
        && skipped.is_empty()
    {
        settle(conflicting, &[], fates);
    }
    Ok(())
}

/// Writes some of the items under a savepoint. Gives the places of those that somebody else inserted first, or the
/// server's refusal.
async fn attempt(
    target: &mut Target,
    shape: &TableShape,
    items: &[Item],
    part: &[usize],
    way: Way,
) -> Result<Result<Vec<usize>, (String, String)>, SideError> {
    target.run("SAVEPOINT changeling").await?;
    match write_part(target, shape, items, part, way).await {
        Ok(skipped) => {
            target.run("RELEASE SAVEPOINT changeling").await?;
            Ok(Ok(skipped))
        }
        Err(Refusal::Side(error)) => Err(error),
        Err(Refusal::Rows { code, message }) => {
            target
                .run("ROLLBACK TO SAVEPOINT changeling; RELEASE SAVEPOINT changeling")
                .await?;
            Ok(Err((code, message)))
        }
    }
}

async fn write_part(
    target: &mut Target,
    shape: &TableShape,
    items: &[Item],
    part: &[usize],
    way: Way,
) -> Result<Vec<usize>, Refusal> {
    let (mut deletes, mut updates, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
    for &place in part {
        let item = &items[place];
        match (item.operation(), &item.after) {
            (Operation::Insert, _) => inserts.push(place),
            (Operation::Delete, _) | (_, None) => deletes.push(place),
            (Operation::Update, Some(_)) if way == Way::Replace || item.needs_replacing(target) => {
                deletes.push(place);
                inserts.push(place);
            }
            (Operation::Update, Some(after)) => updates.push(after),
        }
    }
    let keys =
        |places: &[usize]| -> Vec<Key> { places.iter().map(|place| items[*place].key.clone()).collect() };
    if !deletes.is_empty() {
        let deleted = target.delete(&keys(&deletes)).await?;
        expect("deleted", deleted, deletes.len())?;
    }
    if !updates.is_empty() {
        let updated = target.update(&updates).await?;
        expect("updated", updated, updates.len())?;
    }
    let rows: Vec<&Row> = inserts
        .iter()
        .filter_map(|place| items[*place].after.as_ref())
        .collect();
    let mut skipped = Vec::new();
    if !rows.is_empty() {
        let inserted = target.insert(&rows).await?;
        for (place, row) in inserts.iter().zip(&rows) {
            if row.key(shape).is_none_or(|key| !inserted.contains(&key)) {
                skipped.push(*place);
            }
        }
    }
    // What was deleted to be inserted anew must be there again.
    if skipped.iter().any(|place| deletes.contains(place)) {
        return Err(Refusal::Rows {
            code: "23505".into(),
            message: "another row has one of its unique values".into(),
        });
    }
    target.check_references(&keys(part)).await?;
    target
        .try_run("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        .await?;
    Ok(skipped)
}

/// The rows are locked: only a trigger or rule of the table can keep one from being written.
fn expect(what: &str, rows: u64, expected: usize) -> Result<(), Refusal> {
    if rows == expected as u64 {
        return Ok(());
    }
    Err(Refusal::Rows {
        code: "P0001".into(),
        message: format!(
            "{rows} rows were {what} instead of {expected}; does a trigger or rule of the table interfere?"
        ),
    })
}
