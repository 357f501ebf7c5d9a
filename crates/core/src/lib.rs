//! Words that every Changeling crate shares.
//!
//! Nothing here talks to a network or runs SQL. The folders are the vocabulary:
//!
//! * [`ident`] – names of schemas, tables and columns, and the one function that quotes them;
//! * [`grants`] – what an account of MySQL or MariaDB may do;
//! * [`value`] and [`schema`] – what a row holds and how a table is described;
//! * [`coords`] – where in a change stream something happened;
//! * [`change`] – what a change stream delivers, and [`change_source`] – who delivers it;
//! * [`marker`] – the rows of the changelog table: heartbeats and sentinels;
//! * [`verify`] – the contract between the applier and whoever proves its work;
//! * [`actor`] – the thin layer over actix in which all of its traps are handled once.

pub mod actor;
pub mod change;
pub mod change_source;
pub mod coords;
pub mod grants;
pub mod ident;
pub mod key;
pub mod marker;
pub mod schema;
pub mod value;
pub mod verify;
