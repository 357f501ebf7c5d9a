//! Writing a batch to one node: all at once, and in ever smaller parts where the server refuses.

use super::decision::{Skipped, Wording};
use super::target::{Change, Departure, Ground, Held, Refusal, Savepoint, Target};
use crate::model::{Key, Row};
use crate::side::SideError;

/// One row that shall be written.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its place in the batch.
    pub(super) index: usize,
    pub(super) key: Key,
    pub(super) before: Option<Row>,
    pub(super) after: Option<Row>,
    pub(super) wording: Wording,
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

    fn needs_replacing(&self, target: &dyn Target) -> bool {
        matches!((&self.before, &self.after), (Some(before), Some(after)) if target.needs_replacing(before, after))
    }

    /// How the rows that refer to this one are affected, if they may be.
    fn departure(&self, target: &dyn Target) -> Option<Departure> {
        match (&self.before, &self.after) {
            (None, _) => None,
            (Some(_), None) => Some(Departure::Deleted),
            (Some(before), Some(after)) if target.needs_replacing(before, after) => Some(Departure::Deleted),
            (Some(before), Some(after)) => target.moves(before, after).then_some(Departure::Moved),
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
pub(super) async fn write(target: &mut dyn Target, items: &[Item]) -> Result<Vec<Fate>, SideError> {
    let mut fates: Vec<Option<Fate>> = vec![None; items.len()];
    mind_references(target, items, &mut fates).await?;
    for (item, fate) in items.iter().zip(&mut fates) {
        if fate.is_none() && item.needs_replacing(target) && !target.may_replace() {
            let message = "it would have to be deleted and inserted, and the values of columns that were not compared \
                           would be lost";
            *fate = Some(Fate::Failed(message.into(), Hope::None));
        }
    }
    let mut open: Vec<Vec<usize>> = vec![(0..items.len()).filter(|place| fates[*place].is_none()).collect()];
    let mut conflicting = Vec::new();
    while let Some(part) = open.pop() {
        let [first, ..] = part[..] else { continue };
        match attempt(target, items, &part, Way::Update).await? {
            Ok(skipped) => settle(&part, &skipped, &mut fates),
            Err((ground, message)) if part.len() == 1 => {
                if ground == Ground::Unique {
                    conflicting.push(first);
                }
                let hope = match ground {
                    Ground::Unique | Ground::Constraint => Hope::Later,
                    Ground::Row => Hope::None,
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
    exchange(target, items, &conflicting, &mut fates).await?;
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

/// Rows whose deletion or change would reach further than the row itself are left alone.
async fn mind_references(
    target: &mut dyn Target,
    items: &[Item],
    fates: &mut [Option<Fate>],
) -> Result<(), SideError> {
    for departure in [Departure::Deleted, Departure::Moved] {
        let leaving: Vec<usize> = (0..items.len())
            .filter(|place| items[*place].departure(target) == Some(departure))
            .collect();
        if leaving.is_empty() {
            continue;
        }
        let keys: Vec<Key> = leaving.iter().map(|place| items[*place].key.clone()).collect();
        let referenced = match target.referenced(&keys, departure).await {
            Ok(referenced) => referenced,
            Err(Refusal::Side(error)) => return Err(error),
            Err(Refusal::Rows { message, .. }) => vec![Some(message); keys.len()],
        };
        for (place, table) in leaving.iter().zip(referenced) {
            if let Some(table) = table {
                fates[*place] = Some(Fate::Skipped(Skipped::Referenced(table)));
            }
        }
    }
    Ok(())
}

/// Two rows that exchange unique values cannot be updated one after the other; together they can be replaced.
async fn exchange(
    target: &mut dyn Target,
    items: &[Item],
    conflicting: &[usize],
    fates: &mut [Option<Fate>],
) -> Result<(), SideError> {
    if conflicting.len() < 2 || !target.may_replace() {
        return Ok(());
    }
    let keys: Vec<Key> = conflicting
        .iter()
        .map(|place| items[*place].key.clone())
        .collect();
    match target.referenced(&keys, Departure::Deleted).await {
        Ok(referenced) if referenced.iter().all(Option::is_none) => {}
        Ok(_) | Err(Refusal::Rows { .. }) => return Ok(()),
        Err(Refusal::Side(error)) => return Err(error),
    }
    if let Ok(skipped) = attempt(target, items, conflicting, Way::Replace).await?
        && skipped.is_empty()
    {
        settle(conflicting, &[], fates);
    }
    Ok(())
}

/// Writes some of the items under a savepoint. Gives the places of those that somebody else inserted first, or the
/// server's refusal.
async fn attempt(
    target: &mut dyn Target,
    items: &[Item],
    part: &[usize],
    way: Way,
) -> Result<Result<Vec<usize>, (Ground, String)>, SideError> {
    target.savepoint(Savepoint::Set).await?;
    match write_part(target, items, part, way).await {
        Ok(skipped) => {
            target.savepoint(Savepoint::Keep).await?;
            Ok(Ok(skipped))
        }
        Err(Refusal::Side(error)) => Err(error),
        Err(Refusal::Rows { ground, message }) => {
            target.savepoint(Savepoint::Undo).await?;
            Ok(Err((ground, message)))
        }
    }
}

async fn write_part(
    target: &mut dyn Target,
    items: &[Item],
    part: &[usize],
    way: Way,
) -> Result<Vec<usize>, Refusal> {
    let (mut deletes, mut updates, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
    let mut replaced = Vec::new();
    for &place in part {
        let item = &items[place];
        let key = &item.key;
        match (&item.before, &item.after) {
            (None, Some(after)) => inserts.push((place, after)),
            (Some(row), None) => deletes.push(Held { key, row }),
            (Some(row), Some(after)) if way == Way::Replace || item.needs_replacing(target) => {
                deletes.push(Held { key, row });
                inserts.push((place, after));
                replaced.push(place);
            }
            (Some(before), Some(after)) => updates.push(Change { key, before, after }),
            (None, None) => {}
        }
    }
    if !deletes.is_empty() {
        let deleted = target.delete(&deletes).await?;
        expect("deleted", deleted, deletes.len())?;
    }
    if !updates.is_empty() {
        let updated = target.update(&updates).await?;
        expect("updated", updated, updates.len())?;
    }
    let rows: Vec<&Row> = inserts.iter().map(|(_, row)| *row).collect();
    let mut skipped = Vec::new();
    if !rows.is_empty() {
        let inserted = target.insert(&rows).await?;
        for ((place, _), inserted) in inserts.iter().zip(inserted) {
            if !inserted {
                skipped.push(*place);
            }
        }
    }
    // What was deleted to be inserted anew must be there again.
    if skipped.iter().any(|place| replaced.contains(place)) {
        return Err(Refusal::Rows {
            ground: Ground::Unique,
            message: "another row has one of its unique values".into(),
        });
    }
    let there = |place: &&usize| !skipped.contains(place);
    let stored: Vec<&Row> = part
        .iter()
        .filter(there)
        .filter(|place| items[**place].wording == Wording::Servers)
        .filter_map(|place| items[*place].after.as_ref())
        .collect();
    let keys: Vec<Key> = part.iter().map(|place| items[*place].key.clone()).collect();
    target.check(&keys, &stored).await?;
    Ok(skipped)
}

/// The rows are locked: only a trigger or rule of the table can keep one from being written.
fn expect(what: &str, rows: u64, expected: usize) -> Result<(), Refusal> {
    if rows == expected as u64 {
        return Ok(());
    }
    Err(Refusal::Rows {
        ground: Ground::Row,
        message: format!(
            "{rows} rows were {what} instead of {expected}; does a trigger or rule of the table interfere?"
        ),
    })
}
