//! Finds differences between tables.
//!
//! * [`model`] – the words that engine, reports, rerun and repair share;
//! * [`repair`] – making differing rows equal;
//! * [`report`] – what was found, as files: NDJSON, ACE's JSON, CSV, one page of HTML;
//! * [`mysql`] – proves, inside one MySQL or MariaDB server, that a ghost table equals its original.

pub mod model;
pub mod mysql;
pub mod repair;
pub mod report;
