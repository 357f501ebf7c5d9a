//! MySQL and MariaDB.
//!
//! [`SameServerProof`] compares a ghost table with its original where both are: the server joins them on
//! the key and compares every shared column byte by byte. Nothing is hashed and no row leaves the server
//! unless it is a suspect, and then only its key does.
//!
//! What "equal" means for a column is decided in `comparison`. Most pairs of column types have an
//! expression that is true only for a faithfully copied value; where it is not also *false* only for an
//! unfaithful one, or where there is none, the server converts the source's rows once more into a
//! temporary table (`scratch`) and that is compared. What was tried and what it costs: `docs/verify.md` of
//! this crate.

mod column_type;
mod comparison;
mod matching;
mod plan;
mod proof;
mod scratch;
mod session;
pub mod side;
mod statement;
mod target_walk;

pub use proof::SameServerProof;
