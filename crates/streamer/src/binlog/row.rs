//! Row events: which columns they carry, and the rows.

use changeling_core::change::RowChange;
use changeling_core::value::{Cell, RowImage};

use super::bytes::{Bytes, Truncated, bit};
use super::column::ReadError;
use super::event::kind;
use super::json;
use super::plan::{Column, Plan, is_json};
use crate::error::{ErrorKind, StreamError};

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Truncated => Truncated.into(),
            ReadError::Json(reason) => Self::new(ErrorKind::Corrupt, reason),
        }
    }
}

/// What a row event does to its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Insert,
    Update { partial: bool },
    Delete,
}

/// The head of a row event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsHead {
    pub(crate) action: Action,
    /// Version 2 of the event has extra data.
    extra: bool,
}

impl RowsHead {
    /// `None` if the event type is none of rows.
    pub(crate) fn of(event_type: u8) -> Option<Self> {
        let (action, extra) = match event_type {
            kind::WRITE_ROWS_V1 => (Action::Insert, false),
            kind::UPDATE_ROWS_V1 => (Action::Update { partial: false }, false),
            kind::DELETE_ROWS_V1 => (Action::Delete, false),
            kind::WRITE_ROWS => (Action::Insert, true),
            kind::UPDATE_ROWS => (Action::Update { partial: false }, true),
            kind::PARTIAL_UPDATE_ROWS => (Action::Update { partial: true }, true),
            kind::DELETE_ROWS => (Action::Delete, true),
            _ => return None,
        };
        Some(Self { action, extra })
    }

    /// The table id, cheap to read where the rest is not wanted.
    pub(crate) fn table_id(body: &[u8]) -> Result<u64, Truncated> {
        Bytes(body).uint(6)
    }

    /// Reads all rows and hands them over.
    pub(crate) fn read(
        self,
        plan: &Plan,
        body: &[u8],
        mut emit: impl FnMut(RowChange) -> Result<(), StreamError>,
    ) -> Result<(), StreamError> {
        let mut bytes = Bytes(body);
        bytes.skip(8)?;
        if self.extra {
            let length = usize::from(bytes.u16()?);
            bytes.skip(length.checked_sub(2).ok_or(Truncated)?)?;
        }
        let columns = bytes.length()?;
        if columns != plan.columns.len() {
            let message = format!(
                "a row event has {columns} columns, its table map {}",
                plan.columns.len()
            );
            return Err(StreamError::new(ErrorKind::Corrupt, message));
        }
        let first = Image::new(plan, bytes.take(columns.div_ceil(8))?);
        let second = match self.action {
            Action::Update { .. } => Some(Image::new(plan, bytes.take(columns.div_ceil(8))?)),
            _ => None,
        };
        first.require(plan)?;
        while !bytes.is_empty() {
            let remaining = bytes.len();
            let before = first.read(plan, &mut bytes, false)?;
            let change = match (self.action, &second) {
                (Action::Update { partial }, Some(second)) => {
                    let mut after = second.read(plan, &mut bytes, partial)?;
                    if !plan.whole {
                        unchanged_from(&before, &mut after);
                    }
                    RowChange::Update {
                        before: RowImage::new(before),
                        after: RowImage::new(after),
                    }
                }
                (Action::Delete, _) => RowChange::Delete {
                    before: RowImage::new(before),
                },
                _ => RowChange::Insert {
                    after: RowImage::new(before),
                },
            };
            emit(change)?;
            if bytes.len() == remaining {
                // An event of no columns: its rows take no bytes, so nobody could count them.
                return Err(StreamError::new(
                    ErrorKind::Corrupt,
                    "a row event has rows without a byte",
                ));
            }
        }
        Ok(())
    }
}

/// What an update did not write is what it was before.
fn unchanged_from(before: &[Cell], after: &mut [Cell]) {
    for (after, before) in after.iter_mut().zip(before) {
        if matches!(after, Cell::Absent) {
            *after = before.clone();
        }
    }
}

/// Which columns an image carries.
#[derive(Clone, Copy)]
struct Image<'a> {
    present: &'a [u8],
    count: usize,
}

impl<'a> Image<'a> {
    fn new(plan: &Plan, present: &'a [u8]) -> Self {
        let count = (0..plan.columns.len())
            .filter(|&column| bit(present, column))
            .count();
        Self { present, count }
    }

    /// Every projected column must be there.
    fn require(&self, plan: &Plan) -> Result<(), StreamError> {
        let missing =
            |(index, column): &(usize, &Column)| column.slot.is_some() && !bit(self.present, *index);
        match plan.columns.iter().enumerate().find(missing) {
            Some((_, column)) if !plan.whole => {
                let message = format!(
                    "a row event lacks column {}: its row image is not full, and without that column the row \
                     cannot be identified",
                    column.name
                );
                Err(StreamError::new(ErrorKind::IncompleteImage, message))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, plan: &Plan, bytes: &mut Bytes<'_>, partial: bool) -> Result<Vec<Cell>, StreamError> {
        let mut cells = vec![Cell::Absent; plan.slots];
        let mut partials: &[u8] = &[];
        if partial {
            // Option 1: a bit for each JSON column of the table says whether its value is a difference.
            let options = bytes.lenenc()?;
            if options & 1 == 1 {
                let documents = plan.columns.iter().filter(|column| is_json(column)).count();
                partials = bytes.take(documents.div_ceil(8))?;
            }
        }
        let nulls = bytes.take(self.count.div_ceil(8))?;
        let (mut carried, mut documents) = (0, 0);
        for (index, column) in plan.columns.iter().enumerate() {
            let differs = is_json(column) && {
                documents += 1;
                bit(partials, documents - 1)
            };
            if !bit(self.present, index) {
                continue;
            }
            carried += 1;
            if bit(nulls, carried - 1) {
                set(&mut cells, column.slot, Cell::Null);
            } else if differs {
                let length = usize::try_from(bytes.u32()?).map_err(|_| Truncated)?;
                let raw = bytes.take(length)?;
                if column.slot.is_some() {
                    let text = json::diff(raw).map_err(ReadError::Json)?;
                    set(&mut cells, column.slot, Cell::JsonDiff(text.into_boxed_str()));
                }
            } else if column.slot.is_some() {
                set(&mut cells, column.slot, column.layout.read(bytes)?);
            } else {
                column.layout.skip(bytes)?;
            }
        }
        Ok(cells)
    }
}

fn set(cells: &mut [Cell], slot: Option<usize>, value: Cell) {
    if let Some(cell) = slot.and_then(|slot| cells.get_mut(slot)) {
        *cell = value;
    }
}
