//! Rows of the changelog table.

use changeling_core::change::RowChange;
use changeling_core::marker::{self, HEARTBEAT_HINT, HEARTBEAT_ID, Marker, STATE_HINT, STATE_ID};
use changeling_core::value::{Cell, RowImage};

/// Reads a changelog row: id, hint, value. A minimal image leaves the hint out; the id stands for it.
pub(super) fn marker(row: &RowChange) -> Option<Marker> {
    let (before, after): (Option<&RowImage>, &RowImage) = match row {
        RowChange::Insert { after } => (None, after),
        RowChange::Update { before, after } => (Some(before), after),
        RowChange::Delete { .. } => return None,
    };
    let cell = |index: usize| {
        let of = |image: &RowImage| {
            image
                .cells()
                .get(index)
                .filter(|cell| **cell != Cell::Absent)
                .cloned()
        };
        of(after).or_else(|| before.and_then(of))
    };
    let text = |index: usize| match cell(index) {
        Some(Cell::Text(text)) => String::from_utf8(text.to_vec()).ok(),
        _ => None,
    };
    let hint = text(1).or_else(|| match cell(0) {
        Some(Cell::UInt(HEARTBEAT_ID)) => Some(HEARTBEAT_HINT.to_owned()),
        Some(Cell::UInt(STATE_ID)) => Some(STATE_HINT.to_owned()),
        _ => None,
    })?;
    marker::parse(&hint, &text(2)?)
}
