//! Which differences the operator asked for.

use jiff::Timestamp;

use crate::model::{Difference, Finding, Image, NodeName, Origin, Present, Unsettled};

/// The terms of `--until` and `--against-origin`.
///
/// Neither hides a row from the comparison: hidden on one node and shown on another it would look missing. Both say
/// afterwards what a difference is worth.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    pub(super) nodes: Vec<NodeName>,
    pub(super) until: Option<Timestamp>,
    pub(super) against_origin: Option<String>,
}

impl Judge {
    /// The finding, `None` if it was not asked for.
    pub(super) fn judge(&self, difference: Difference, unsettled: Option<Unsettled>) -> Option<Finding> {
        if !self.concerns_origin(&difference) {
            return None;
        }
        let unsettled = unsettled.or_else(|| self.is_later(&difference).then_some(Unsettled::AfterFence));
        Some(match unsettled {
            None => Finding::Confirmed(difference),
            Some(why) => Finding::InFlight(difference, why),
        })
    }

    fn concerns_origin(&self, difference: &Difference) -> bool {
        let Some(wanted) = &self.against_origin else {
            return true;
        };
        difference.images.iter().zip(&self.nodes).any(|(image, node)| {
            present(image).is_some_and(|version| match &version.origin {
                // On the origin itself its own writes have no origin.
                Some(Origin::Local) => node.as_str() == wanted,
                Some(Origin::Node(name)) => name == wanted,
                Some(Origin::Id(id)) => id.to_string() == *wanted,
                None => false,
            })
        })
    }

    /// A version whose commit time is not known any more is older than what the server keeps.
    fn is_later(&self, difference: &Difference) -> bool {
        let Some(until) = self.until else {
            return false;
        };
        difference.images.iter().filter_map(present).any(|version| {
            version
                .commit_ts
                .as_deref()
                .is_some_and(|text| text.parse::<Timestamp>().is_ok_and(|committed| committed > until))
        })
    }
}

fn present(image: &Image) -> Option<&Present> {
    match image {
        Image::Absent => None,
        Image::Present(present) => Some(present),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Key, Row};

    fn version(origin: Option<Origin>, commit_ts: &str) -> Image {
        Image::Present(Present {
            row: Arc::new(Row(Box::default())),
            commit_ts: Some(commit_ts.into()),
            origin,
        })
    }

    fn judge(until: Option<&str>, origin: Option<&str>) -> Judge {
        Judge {
            nodes: vec![NodeName::new("n1"), NodeName::new("n2")],
            until: until.map(|text| text.parse().unwrap()),
            against_origin: origin.map(Into::into),
        }
    }

    fn difference(first: Image) -> Difference {
        Difference {
            key: Key::of(["1"]),
            images: Box::new([first, Image::Absent]),
        }
    }

    #[test]
    fn a_version_after_the_fence_is_not_judged() {
        let terms = judge(Some("2026-01-01T00:00:00Z"), None);
        let later = terms.judge(difference(version(None, "2026-01-01T00:00:00.000001Z")), None);
        assert!(matches!(later, Some(Finding::InFlight(_, Unsettled::AfterFence))));
        let earlier = terms.judge(difference(version(None, "2026-01-01T00:00:00.000000Z")), None);
        assert!(matches!(earlier, Some(Finding::Confirmed(_))));
    }

    #[test]
    fn an_origin_is_a_name_on_every_node_and_local_on_its_own() {
        let at = "2026-01-01T00:00:00Z";
        let asked = |name: &str, origin| {
            judge(None, Some(name))
                .judge(difference(version(Some(origin), at)), None)
                .is_some()
        };
        assert!(asked("n1", Origin::Local));
        assert!(!asked("n2", Origin::Local));
        assert!(asked("n3", Origin::Node("n3".into())));
        assert!(!asked("n3", Origin::Node("n2".into())));
        assert!(asked("7", Origin::Id(7)));
    }
}
