//! The journal: what a comparison has established, kept so that a killed or cancelled one can go on.
//!
//! A file beside the report, one line after the other, only ever appended to (`entry`). The first line says what is
//! compared ([`JobIdentity`]), then each run (a *sitting*) has a line, each difference one with the number of its block,
//! and each block that is done one with its range.
//!
//! **Why not the report itself.** A resumed run discards what the killed one had recorded of half-done blocks. In a
//! report, which repair, rerun and viewers read, such lines would have to be marked as void, and a reader that does not
//! know of the mark would repair what was never confirmed. So the report stays what it was, and the journal has the
//! differences a second time.
//!
//! **What is established.** A block counts if its line is there. That line is written after the lines of its
//! differences: they travel through one channel in that order (`engine::collector`), into one file. A reader takes the
//! longest beginning of the file in which every line is whole and its checksum, which goes on from the line before, is
//! right. So whatever a crash leaves of the end, and in whatever order the system wrote the file's pages, a block's line
//! counts only if all lines before it do, its differences among them. Syncing is therefore no matter of order: it only
//! bounds what a power failure costs, about a second's work. A killed process loses nothing that was handed to the
//! system, which is done at the end of each block.
//!
//! Blocks that are unknown, or in which a row was in flight, have no line: they are compared again.
//!
//! **What is left.** Finished blocks are joined where they touch (`tiling`); the gaps between them are walked again. The
//! blocks of all sittings and the gaps are one chain from the beginning of the keys to their end, so no row is left out
//! ([`crate::range`]), as long as the nodes sort as they did; [`JobIdentity`] sees to that.

mod entry;
mod file;
mod identity;
mod scan;
mod tiling;

#[cfg(test)]
mod tests;

pub(crate) use entry::DoneBlock;
pub(crate) use file::Keeping;
pub use file::{Journal, JournalError};
pub use identity::{JobIdentity, NodeIdentity};
pub(crate) use scan::Prior;
pub(crate) use tiling::Gap;
