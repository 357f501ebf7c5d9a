//! What was found.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cell::{Key, Row};

/// Who wrote a row version last, as the node that has it tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A client of the node itself.
    Local,
    /// It was replicated, from this node.
    Node(String),
    /// It was replicated; the node-local number of the origin, of which no name is known.
    Id(u32),
}

/// A row as one node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// Its values. Nodes that agree share them.
    pub row: Arc<Row>,
    /// When its last change was committed there: RFC 3339, UTC, microseconds. `None` where the server does not keep it.
    pub commit_ts: Option<String>,
    /// Who changed it last. `None` where the server does not keep it.
    pub origin: Option<Origin>,
}

/// What one node has under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// No row.
    Absent,
    /// This row.
    Present(Present),
}

impl Image {
    /// The row, if there is one.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Absent => None,
            Self::Present(present) => Some(&present.row),
        }
    }
}

/// A key under which the nodes do not all have the same.
///
/// At least two images differ in presence or in a cell; `commit_ts` and `origin` do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The key.
    pub key: Key,
    /// What each node has, in the order of [`JobHeader::nodes`](super::JobHeader::nodes).
    pub images: Box<[Image]>,
}

/// How two nodes differ under one key. `a` comes before `b` in the job's order of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairDifference<'a> {
    /// Only `b` has the row.
    MissingOnA(&'a Present),
    /// Only `a` has the row.
    MissingOnB(&'a Present),
    /// Both have it and a cell differs.
    Modified(&'a Present, &'a Present),
}

impl Difference {
    /// How two nodes differ; `None` if these two agree. Positions as in [`Difference::images`].
    #[must_use]
    pub fn between(&self, a: usize, b: usize) -> Option<PairDifference<'_>> {
        match (&self.images[a], &self.images[b]) {
            (Image::Absent, Image::Absent) => None,
            (Image::Absent, Image::Present(there)) => Some(PairDifference::MissingOnA(there)),
            (Image::Present(here), Image::Absent) => Some(PairDifference::MissingOnB(here)),
            (Image::Present(here), Image::Present(there)) => {
                (here.row != there.row).then_some(PairDifference::Modified(here, there))
            }
        }
    }

    /// Every pair of nodes that differs, each once, the first position smaller than the second.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, PairDifference<'_>)> {
        let nodes = self.images.len();
        (0..nodes)
            .flat_map(move |a| (a + 1..nodes).map(move |b| (a, b)))
            .filter_map(|(a, b)| self.between(a, b).map(|how| (a, b, how)))
    }

    /// Whether any two nodes differ. False only for what is not a difference.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.pairs().next().is_some()
    }

    /// Bytes occupied; what nodes share counts once.
    #[must_use]
    pub fn weight(&self) -> usize {
        let mut seen: Vec<*const Row> = Vec::with_capacity(self.images.len());
        let mut bytes = self.key.weight();
        for image in &self.images {
            bytes += size_of::<Image>();
            if let Image::Present(present) = image {
                let row = Arc::as_ptr(&present.row);
                if !seen.contains(&row) {
                    seen.push(row);
                    bytes += present.row.weight();
                }
            }
        }
        bytes
    }
}

/// Why a difference could not be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsettled {
    /// The row kept changing through all rounds of looking again.
    KeepsChanging,
    /// A node did not replay the others' changes within the time allowed.
    NotReplayed,
    /// A version of it was committed after the `--until` fence, so what was there at the fence is not known.
    AfterFence,
}

/// A difference and how sure it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The nodes differ, and it is not because a change is still on its way.
    Confirmed(Difference),
    /// The nodes were seen to differ, but the row is being changed or replicated: no statement about it.
    InFlight(Difference, Unsettled),
}

impl Finding {
    /// The difference, sure or not.
    #[must_use]
    pub fn difference(&self) -> &Difference {
        match self {
            Self::Confirmed(difference) | Self::InFlight(difference, _) => difference,
        }
    }
}
