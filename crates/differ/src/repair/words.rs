//! The report's values in the servers' own words, so that they can be compared with what is read now.

use std::collections::BTreeMap;

use super::RepairError;
use super::target::{Refusal, Target};
use crate::model::{Cell, Row};
use crate::report::recorded::{RecordedDifference, RecordedImage};

/// What the report says of a batch's rows, in the servers' words.
pub(super) struct Recorded {
    /// By node, then by place in the batch; `None` for a column that the report does not have.
    pub(super) rows: Vec<BTreeMap<usize, Vec<Option<Cell>>>>,
    /// Why, by node and place, for values that are none.
    pub(super) unreadable: BTreeMap<(usize, usize), String>,
}

impl Recorded {
    /// The recorded rows in the words of the node that they are of.
    pub(super) async fn of(
        batch: &[RecordedDifference],
        targets: &mut [Box<dyn Target>],
        positions: &[Option<usize>],
    ) -> Result<Self, RepairError> {
        let mut all = Vec::new();
        let mut unreadable = BTreeMap::new();
        for (node, target) in targets.iter_mut().enumerate() {
            let mut given: Vec<(usize, Row)> = Vec::new();
            for (index, difference) in batch.iter().enumerate() {
                if let RecordedImage::Present { row, .. } = &difference.images[node] {
                    let cell = |place: &Option<usize>| place.map_or(Cell::NULL, |place| row.0[place].clone());
                    given.push((index, Row(positions.iter().map(cell).collect())));
                }
            }
            let mut of_node = BTreeMap::new();
            for (index, row) in canonical_rows(&mut **target, given, &mut |index, why| {
                unreadable.insert((node, index), why);
            })
            .await?
            {
                let known = |(cell, place): (Cell, &Option<usize>)| place.map(|_| cell);
                of_node.insert(index, row.0.into_iter().zip(positions).map(known).collect());
            }
            all.push(of_node);
        }
        Ok(Self {
            rows: all,
            unreadable,
        })
    }
}

/// The row, if the report has all of its columns.
pub(super) fn whole(cells: Option<&Vec<Option<Cell>>>) -> Option<Row> {
    cells.map(|cells| {
        Row(cells
            .iter()
            .map(|cell| cell.clone().unwrap_or_default())
            .collect())
    })
}

/// Puts rows into the server's words; where it refuses, half by half, to find the one that is to blame.
async fn canonical_rows(
    target: &mut dyn Target,
    rows: Vec<(usize, Row)>,
    unreadable: &mut dyn FnMut(usize, String),
) -> Result<Vec<(usize, Row)>, RepairError> {
    let mut done = Vec::new();
    let mut open = vec![rows];
    while let Some(part) = open.pop() {
        if part.is_empty() {
            continue;
        }
        let given: Vec<&Row> = part.iter().map(|(_, row)| row).collect();
        match target.canonical(&given).await {
            Ok(found) => {
                done.extend(part.iter().map(|(index, _)| *index).zip(found));
            }
            Err(Refusal::Side(error)) => return Err(error.into()),
            Err(Refusal::Rows { message, .. }) => {
                let mut part = part;
                if let [(index, _)] = part[..] {
                    unreadable(index, message);
                    continue;
                }
                let right = part.split_off(part.len() / 2);
                open.push(part);
                open.push(right);
            }
        }
    }
    Ok(done)
}
