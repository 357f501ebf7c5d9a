//! Finding the keys that differ in sorted streams of several nodes.

use std::cmp::Ordering;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::BoxStream;

use crate::model::{Key, NodeName};
use crate::side::{KeyDigest, SideError, SideErrorKind};

/// One node's stream and its first entry not yet consumed.
struct Head<'a> {
    node: NodeName,
    stream: BoxStream<'a, Result<KeyDigest, SideError>>,
    entry: Option<KeyDigest>,
}

/// Keys that differ, in the order of bytes, and whether these are all of them.
pub(super) struct Suspects {
    pub(super) keys: Vec<Key>,
    pub(super) complete: bool,
}

/// Streams to be merged.
pub(super) struct Merge<'a> {
    heads: Vec<Head<'a>>,
}

impl<'a> Merge<'a> {
    pub(super) async fn of(
        streams: Vec<(NodeName, BoxStream<'a, Result<KeyDigest, SideError>>)>,
    ) -> Result<Self, SideError> {
        let mut heads: Vec<Head<'a>> = streams
            .into_iter()
            .map(|(node, stream)| Head {
                node,
                stream,
                entry: None,
            })
            .collect();
        // Together: each server sorts before it sends the first.
        try_join_all(heads.iter_mut().map(Head::advance)).await?;
        Ok(Self { heads })
    }

    /// Keys after `after` under which the streams do not agree, as many as fit into so many bytes.
    pub(super) async fn suspects(mut self, after: Option<&Key>, bytes: usize) -> Result<Suspects, SideError> {
        let mut keys: Vec<Key> = Vec::new();
        let mut weight = 0;
        while let Some(least) = self.least() {
            let agreed = self.agree_on(&least);
            for head in &mut self.heads {
                if head.entry.as_ref().is_some_and(|entry| entry.key == least) {
                    head.advance().await?;
                }
            }
            if agreed || after.is_some_and(|after| least <= *after) {
                continue;
            }
            weight += least.weight();
            keys.push(least);
            if weight >= bytes {
                return Ok(Suspects {
                    keys,
                    complete: false,
                });
            }
        }
        Ok(Suspects { keys, complete: true })
    }

    fn least(&self) -> Option<Key> {
        self.heads
            .iter()
            .filter_map(|head| head.entry.as_ref())
            .map(|entry| &entry.key)
            .min()
            .cloned()
    }

    fn agree_on(&self, key: &Key) -> bool {
        let mut hash = None;
        self.heads.iter().all(|head| match &head.entry {
            Some(entry) if entry.key == *key => *hash.get_or_insert(entry.hash) == entry.hash,
            _ => false,
        })
    }
}

impl Head<'_> {
    async fn advance(&mut self) -> Result<(), SideError> {
        let next = self.stream.next().await.transpose()?;
        if let (Some(before), Some(next)) = (&self.entry, &next)
            && before.key.cmp(&next.key) != Ordering::Less
        {
            // Merging would pass over rows; without order nothing is known.
            return Err(SideError::new(
                &self.node,
                SideErrorKind::Permanent,
                format_args!(
                    "keys {} and {} came out of order or are the same: the key does not identify rows",
                    before.key, next.key
                ),
            ));
        }
        self.entry = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    fn stream_of<'a>(rows: &[(u8, i64)]) -> BoxStream<'a, Result<KeyDigest, SideError>> {
        let entries: Vec<_> = rows
            .iter()
            .map(|&(key, hash)| {
                Ok(KeyDigest {
                    key: Key::of([format!("{key:03}")]),
                    hash,
                })
            })
            .collect();
        stream::iter(entries).boxed()
    }

    async fn merged(
        sides: &[Vec<(u8, i64)>],
        after: Option<&Key>,
        bytes: usize,
    ) -> Result<Suspects, SideError> {
        let streams = sides
            .iter()
            .enumerate()
            .map(|(index, rows)| (NodeName::new(format!("n{index}")), stream_of(rows)))
            .collect();
        Merge::of(streams).await?.suspects(after, bytes).await
    }

    proptest! {
        #[test]
        fn exactly_the_keys_that_differ_are_found(
            sides in prop::collection::vec(prop::collection::btree_map(0u8..40, 0i64..3, 0..30), 2..5),
            bytes in 1usize..200,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let rows: Vec<Vec<(u8, i64)>> = sides.iter().map(|side| side.iter().map(|(&k, &h)| (k, h)).collect()).collect();
            let expected: Vec<Key> = (0u8..40)
                .filter(|key| sides.windows(2).any(|pair| pair[0].get(key) != pair[1].get(key)))
                .map(|key| Key::of([format!("{key:03}")]))
                .collect();
            let mut found: Vec<Key> = Vec::new();
            loop {
                let part = runtime.block_on(merged(&rows, found.last(), bytes)).unwrap();
                found.extend(part.keys);
                if part.complete { break; }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn disorder_is_an_error_and_never_a_result() {
        assert!(
            merged(&[vec![(1, 0), (1, 0)], vec![(1, 0)]], None, 100)
                .await
                .is_err()
        );
        assert!(
            merged(&[vec![(2, 0), (1, 0)], vec![(1, 0), (2, 0)]], None, 100)
                .await
                .is_err()
        );
    }
}
