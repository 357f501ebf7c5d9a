//! Finds differences between tables.
//!
//! * [`cluster`] – which nodes there are;
//! * [`engine`] – compares one table on several nodes;
//! * [`journal`] – what a comparison has established, so that it can be resumed;
//! * [`model`] – the words that engine, reports, rerun and repair share;
//! * [`repair`] – making differing rows equal;
//! * [`rerun`] – what has become of the differences of a report;
//! * [`report`] – what was found, as files: NDJSON, ACE's JSON, CSV, one page of HTML;
//! * [`side`] and [`range`] – what the engine asks of a server; [`postgres`] answers;
//! * [`throttle`] – when no range is given out, out of kindness to the servers;
//! * [`mysql`] – proves, inside one MySQL or MariaDB server, that a ghost table equals its original.

pub mod cluster;
pub mod engine;
pub mod journal;
pub mod model;
pub mod mysql;
pub mod postgres;
pub mod range;
pub mod repair;
pub mod report;
pub mod rerun;
pub mod side;
pub mod throttle;
