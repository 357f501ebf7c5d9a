//! In which order rows of one table can be written that refer to each other: MySQL checks each row at once.

use std::collections::HashMap;

use crate::model::Row;

/// Places of the rows such that each comes after those it refers to, as far as these are among them. Rows that refer to
/// each other in a circle come in some order; the server will refuse one of them.
///
/// `references` are pairs of positions: of a column that refers, and of the one that it refers to.
pub(super) fn parents_first(rows: &[&Row], references: &[Vec<(usize, usize)>]) -> Vec<usize> {
    if references.is_empty() {
        return (0..rows.len()).collect();
    }
    let parents = parents(rows, references);
    let mut order = Vec::with_capacity(rows.len());
    let mut seen = vec![false; rows.len()];
    // A walk without recursion: a chain may be as long as the batch.
    for start in 0..rows.len() {
        let mut path = vec![(start, 0)];
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        while let Some((row, next)) = path.pop() {
            match parents[row].get(next) {
                Some(&parent) => {
                    path.push((row, next + 1));
                    if !std::mem::replace(&mut seen[parent], true) {
                        path.push((parent, 0));
                    }
                }
                None => order.push(row),
            }
        }
    }
    order
}

/// For each row the places of those that it refers to.
fn parents(rows: &[&Row], references: &[Vec<(usize, usize)>]) -> Vec<Vec<usize>> {
    let values = |row: &Row, positions: &mut dyn Iterator<Item = usize>| -> Option<Vec<Box<str>>> {
        positions.map(|position| row.0[position].text.clone()).collect()
    };
    let mut parents = vec![Vec::new(); rows.len()];
    for reference in references {
        let mut places = HashMap::new();
        for (place, row) in rows.iter().enumerate() {
            if let Some(values) = values(row, &mut reference.iter().map(|(_, ours)| *ours)) {
                places.insert(values, place);
            }
        }
        for (place, row) in rows.iter().enumerate() {
            let wanted = values(row, &mut reference.iter().map(|(theirs, _)| *theirs));
            if let Some(&parent) = wanted.and_then(|wanted| places.get(&wanted))
                && parent != place
            {
                parents[place].push(parent);
            }
        }
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cell;

    fn order(rows: &[(&str, Option<&str>)]) -> Vec<usize> {
        let rows: Vec<Row> = rows
            .iter()
            .map(|(id, parent)| Row(Box::new([Cell::of(*id), Cell::from(*parent)])))
            .collect();
        parents_first(&rows.iter().collect::<Vec<_>>(), &[vec![(1, 0)]])
    }

    #[test]
    fn parents_come_first() {
        assert_eq!(
            order(&[("1", Some("2")), ("2", Some("3")), ("3", None)]),
            [2, 1, 0]
        );
        assert_eq!(
            order(&[("1", None), ("2", Some("1")), ("3", Some("9"))]),
            [0, 1, 2]
        );
        assert_eq!(order(&[("1", Some("1"))]), [0]);
    }

    #[test]
    fn a_circle_ends() {
        let mut order = order(&[("1", Some("2")), ("2", Some("1")), ("3", Some("1"))]);
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2]);
    }
}
