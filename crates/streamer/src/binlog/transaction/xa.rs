//! XA transactions: their rows are in the log when they are prepared, and count when they are decided.

use super::{Prepared, Progress, Transactions, corrupt};
use crate::binlog::event::{self, Xid};
use crate::error::{ErrorKind, StreamError};

impl Transactions {
    pub(super) fn xa_prepare(&mut self, body: &[u8]) -> Result<Progress, StreamError> {
        let prepare = event::xa_prepare(body)?;
        let Some(open) = &mut self.open else {
            return Err(corrupt(format!(
                "XA {} is prepared without having begun",
                prepare.xid
            )));
        };
        let changes = std::mem::take(&mut open.held);
        let bytes = open.held_bytes;
        if open.xa.as_ref() != Some(&prepare.xid) {
            return Err(corrupt(format!(
                "XA {} is prepared inside of another transaction",
                prepare.xid
            )));
        }
        if prepare.one_phase {
            changes.into_iter().for_each(|change| self.ready.push(change));
            return Ok(self.finish());
        }
        self.prepared_count += 1;
        let prepared = Prepared {
            changes,
            bytes,
            before: self.position.clone(),
            order: self.prepared_count,
        };
        self.prepared_bytes += bytes;
        if let Some(former) = self.prepared.insert(prepare.xid, prepared) {
            self.prepared_bytes -= former.bytes;
        }
        Ok(self.finish())
    }

    pub(super) fn take_prepared(&mut self, xid: &Xid) -> Option<Prepared> {
        let prepared = self.prepared.remove(xid)?;
        self.prepared_bytes -= prepared.bytes;
        Some(prepared)
    }

    pub(super) fn xa_commit(&mut self, xid: &Xid) -> Result<Progress, StreamError> {
        // With ONE PHASE the rows are in this very transaction.
        if let Some(open) = &mut self.open
            && open.xa.as_ref() == Some(xid)
        {
            std::mem::take(&mut open.held)
                .into_iter()
                .for_each(|change| self.ready.push(change));
            return Ok(self.finish());
        }
        match self.take_prepared(xid) {
            Some(prepared) => prepared
                .changes
                .into_iter()
                .for_each(|change| self.ready.push(change)),
            None if self.bounds.known_prepared.contains(&xid.global) => {}
            None => {
                let message = format!(
                    "XA {xid} is committed, but it was prepared before this stream began: which rows it \
                     changed is not known"
                );
                return Err(StreamError::new(ErrorKind::UnseenXa, message));
            }
        }
        Ok(self.finish())
    }
}
