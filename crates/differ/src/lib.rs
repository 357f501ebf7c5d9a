//! Finds differences between tables.
//!
//! * [`mysql`] – proves, inside one MySQL or MariaDB server, that a ghost table equals its original.

pub mod mysql;
