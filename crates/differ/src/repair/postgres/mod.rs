//! PostgreSQL as the target of a repair.

mod facts;
mod references;
mod scribe;
mod statement;
mod target;

pub(super) use target::{PgTarget, origin_name};
