//! What was found, as files.
//!
//! * [`ndjson`] – the report proper: one JSON document a line, written while the job runs. All others are made from it.
//! * [`ace`] – pgEdge ACE's JSON, exactly; read as well, also when ACE wrote it.
//! * [`csv`] – for spreadsheets and `COPY`.
//! * [`html`] – one page that needs nothing else.
//! * [`recorded`] – a report read back, whichever of the two formats it has.
//!
//! Memory does not depend on how much differs: a report is never held, sorting is done in files ([`sort`]).

pub mod ace;
pub mod csv;
mod error;
pub mod html;
pub mod ndjson;
mod order;
pub mod recorded;
pub mod sort;

pub use error::ReportError;

#[cfg(test)]
mod tests;
