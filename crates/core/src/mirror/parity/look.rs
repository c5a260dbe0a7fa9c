//! What one look says of a tag or digest.

use super::{Observed, Rules};
use crate::digest::Digest;
use crate::routing::evidence::{Key, RepositoryKeys};
use crate::side::{Side, Sides};

/// A digest, and its key in evidence, which takes longer to compute than to keep.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) key: Key,
}

/// What one side said when it was last read.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) what: Sighting,
    pub(super) second: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Sighting {
    Present(Content),
    Absent,
    /// A pull-through cache lacks a tag, which says nothing: it gets it with the next pull.
    NotCached,
}

/// One look, and what it takes to understand it.
pub(super) struct Look<'a> {
    pub(super) seen: Sides<Observed>,
    pub(super) second: u32,
    pub(super) rules: &'a Rules,
    pub(super) keys: &'a RepositoryKeys,
    /// Of a digest, not of a tag.
    pub(super) is_digest: bool,
}

impl Look<'_> {
    /// What it says of a side; none if it does not. `known` is what the side had before.
    pub(super) fn side(&self, side: Side, known: Option<&Content>) -> Option<Seen> {
        let what = match &self.seen[side] {
            Observed::Unknown => return None,
            Observed::Absent if self.rules.subset == Some(side) && !self.is_digest => Sighting::NotCached,
            Observed::Absent => Sighting::Absent,
            Observed::Present(digest) => Sighting::Present(match known {
                Some(known) if known.digest == *digest => known.clone(),
                _ => Content {
                    digest: digest.clone(),
                    key: self.keys.key(&digest.to_string()),
                },
            }),
        };
        let second = self.second;
        Some(Seen { what, second })
    }
}

impl Sighting {
    pub(super) fn content(&self) -> Option<&Content> {
        match self {
            Sighting::Present(content) => Some(content),
            Sighting::Absent | Sighting::NotCached => None,
        }
    }
}
