//! The binary log of MySQL and MariaDB.
//!
//! Bytes travel upwards through these modules: [`connect`] makes packets of them, [`dump`] events,
//! [`event`] verifies and opens an event, [`transaction`] follows the state of the stream, with
//! [`table_map`], [`plan`], [`row`] and [`column`] for rows, [`statement`] for text, [`compressed`] for what
//! is packed. [`position`] asks the server where it is, and [`witness`] whether that is
//! where it was.

pub(crate) mod bytes;
pub(crate) mod column;
pub(crate) mod compressed;
pub(crate) mod connect;
pub(crate) mod dump;
pub(crate) mod event;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod plan;
pub(crate) mod position;
pub(crate) mod row;
pub(crate) mod statement;
pub(crate) mod table_map;
pub(crate) mod temporal;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod transaction;
pub(crate) mod watched;
pub(crate) mod witness;
