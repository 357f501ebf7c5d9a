//! The argument of `sync/mod.rs`, run against every interleaving of a small model.
//!
//! The model has an original and a ghost table with a secondary unique column, a binary log whose entries stand in it
//! before they can be read, a stream with any delay, and the tool: pending keys, cycles with lanes, chunks with
//! retries, checkpoints, a crash, cut-over attempts. Where the tool's own types can be used they are: [`Pending`],
//! [`lane::split`] and [`Watermark`] are the real ones, fed with real `ChangeBatch`es.
//!
//! `holds` explores workloads with every rule kept; `teeth` leaves out one rule at a time and demands that a row is
//! lost. `CHANGELING_EXPLORE=1` prints what was explored.
//!
//! [`Pending`]: changeling_applier::sync::pending::Pending
//! [`lane::split`]: changeling_applier::sync::lane::split
//! [`Watermark`]: changeling_applier::copy::watermark::Watermark

#[path = "convergence/explore.rs"]
mod explore;
#[path = "convergence/holds.rs"]
mod holds;
#[path = "convergence/random.rs"]
mod random;
#[path = "convergence/scenario.rs"]
mod scenario;
#[path = "convergence/step.rs"]
mod step;
#[path = "convergence/table.rs"]
mod table;
#[path = "convergence/teeth.rs"]
mod teeth;
#[path = "convergence/tool.rs"]
mod tool;
#[path = "convergence/workloads.rs"]
mod workloads;
#[path = "convergence/world.rs"]
mod world;
#[path = "convergence/write.rs"]
mod write;
