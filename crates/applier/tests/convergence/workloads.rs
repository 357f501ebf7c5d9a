//! What applications do to two or three rows.

use crate::table::Change::{Delete, Insert, Update};
use crate::table::{Workload, row};

const A: u8 = b'a';
const B: u8 = b'b';
const C: u8 = b'c';

/// One row, updated, deleted, inserted again.
pub(crate) fn hot_row() -> Workload {
    Workload::new(
        &[row(A, 1, 0)],
        &[&[Update(A, row(A, 1, 1))], &[Delete(A)], &[Insert(row(A, 2, 2))]],
    )
}

/// A row behind the end of the copy comes and goes.
pub(crate) fn beyond_the_end() -> Workload {
    Workload::new(
        &[row(A, 1, 0)],
        &[&[Insert(row(B, 2, 1))], &[Update(B, row(B, 3, 2))], &[Delete(B)]],
    )
}

/// Two rows exchange a unique value in one transaction.
pub(crate) fn swapped_values() -> Workload {
    Workload::new(
        &[row(A, 1, 0), row(B, 2, 0)],
        &[&[Update(A, row(A, 2, 1)), Update(B, row(B, 1, 1))]],
    )
}

/// And back again.
pub(crate) fn swapped_twice() -> Workload {
    let mut workload = swapped_values();
    workload.push(&[Update(A, row(A, 1, 2)), Update(B, row(B, 2, 2))]);
    workload
}

/// They exchange it, and one of them goes.
pub(crate) fn swapped_and_deleted() -> Workload {
    let mut workload = swapped_values();
    workload.push(&[Delete(B)]);
    workload
}

/// A unique value is given up by one row and taken by the next, in transactions of their own.
pub(crate) fn handed_on() -> Workload {
    Workload::new(
        &[row(A, 1, 0), row(B, 2, 0)],
        &[&[Update(A, row(A, 3, 1))], &[Update(B, row(B, 1, 1))]],
    )
}

/// The value goes to a new row.
pub(crate) fn inherited() -> Workload {
    Workload::new(
        &[row(A, 1, 0), row(B, 2, 0)],
        &[&[Delete(A)], &[Insert(row(C, 1, 1))]],
    )
}

/// Three rows pass their values round.
pub(crate) fn passed_round() -> Workload {
    Workload::new(
        &[row(A, 1, 0), row(B, 2, 0), row(C, 3, 0)],
        &[&[
            Update(A, row(A, 2, 1)),
            Update(B, row(B, 3, 1)),
            Update(C, row(C, 1, 1)),
        ]],
    )
}

/// A row changes its key, to and fro.
pub(crate) fn moved_key() -> Workload {
    Workload::new(
        &[row(A, 1, 0), row(B, 2, 0)],
        &[&[Update(B, row(C, 2, 1))], &[Update(C, row(B, 2, 2))]],
    )
}

/// A row changes its key and its unique value.
pub(crate) fn moved_away() -> Workload {
    Workload::new(&[row(A, 1, 0), row(B, 2, 0)], &[&[Update(B, row(C, 3, 1))]])
}

/// Keys exchanged by way of a third, and the unique values stay with the keys.
pub(crate) fn swapped_keys() -> Workload {
    Workload::new(
        &[row(A, 1, 0), row(B, 2, 0)],
        &[
            &[
                Update(A, row(C, 3, 0)),
                Update(B, row(A, 1, 1)),
                Update(C, row(B, 2, 1)),
            ],
            &[Delete(A)],
        ],
    )
}

/// Deleted and inserted again within one transaction, with the other's value.
pub(crate) fn inserted_again() -> Workload {
    Workload::new(
        &[row(A, 1, 0), row(B, 2, 0)],
        &[
            &[Delete(A), Delete(B), Insert(row(A, 2, 1))],
            &[Insert(row(B, 1, 1))],
        ],
    )
}

/// A key changes only in what its collation does not see.
pub(crate) fn changed_case() -> Workload {
    Workload::new(
        &[row(A, 1, 0)],
        &[&[Update(A, row(A.to_ascii_uppercase(), 1, 1))]],
    )
}

/// And goes, and comes back as it was first.
pub(crate) fn changed_case_and_back() -> Workload {
    let mut workload = changed_case();
    workload.push(&[Delete(A)]);
    workload.push(&[Insert(row(A, 1, 2))]);
    workload
}

/// The original has no second unique key; two rows share a value until the first gives it up.
pub(crate) fn shared_value() -> Workload {
    Workload::new(&[row(A, 1, 0), row(B, 1, 0)], &[&[Update(A, row(A, 2, 1))]])
}

/// Two rows come to share a value, and stay so.
pub(crate) fn duplicate() -> Workload {
    Workload::new(&[row(A, 1, 0), row(B, 2, 0)], &[&[Update(B, row(B, 1, 1))]])
}

/// One row, updated and deleted.
pub(crate) fn short_life() -> Workload {
    Workload::new(&[row(A, 1, 0)], &[&[Update(A, row(A, 1, 1))], &[Delete(A)]])
}

/// Nothing happens.
pub(crate) fn quiet() -> Workload {
    Workload::new(&[row(A, 1, 0), row(B, 2, 0)], &[])
}
