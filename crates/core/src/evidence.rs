//! What was verified about each tag, in the compact form that the webhook reads.
//!
//! One record is 9 bytes: 8 of SHA-256 over the repository's name, a zero byte and the tag or digest, and one [`Verdict`].
//! The records are sorted, cut into shards that fit into a ConfigMap, and every shard carries a header and a checksum.
//! Nothing that can't be read counts as in sync.

mod wire;

#[cfg(test)]
mod tests;

use sha2::{Digest as _, Sha256};

use crate::side::Side;
pub use wire::EvidenceError;

/// What is known about one tag (or digest) on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// Both sides have it, with the same digest. Not 0, so that blank memory is never in sync.
    InSync = 1,
    /// The fallback has it, the primary does not.
    MissingOnPrimary = 2,
    /// The primary has it, the fallback does not.
    MissingOnFallback = 3,
    /// Both sides have it, with different digests.
    Mismatched = 4,
    /// Seen, but not verified yet.
    Pending = 5,
}

impl Verdict {
    /// The verdict on a tag that `side` lacks.
    pub fn missing_on(side: Side) -> Verdict {
        match side {
            Side::Primary => Verdict::MissingOnPrimary,
            Side::Fallback => Verdict::MissingOnFallback,
        }
    }

    /// `InSync`, `MissingOnPrimary`, ... as in the resource's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::InSync => "InSync",
            Verdict::MissingOnPrimary => "MissingOnPrimary",
            Verdict::MissingOnFallback => "MissingOnFallback",
            Verdict::Mismatched => "Mismatched",
            Verdict::Pending => "Pending",
        }
    }

    fn from_byte(byte: u8) -> Option<Verdict> {
        [
            Verdict::InSync,
            Verdict::MissingOnPrimary,
            Verdict::MissingOnFallback,
            Verdict::Mismatched,
            Verdict::Pending,
        ]
        .into_iter()
        .find(|verdict| *verdict as u8 == byte)
    }

    /// The verdict that forbids whatever either of the two forbids.
    fn more_cautious(self, other: Verdict) -> Verdict {
        match (self, other) {
            _ if self == other => self,
            (Verdict::InSync, _) => other,
            (_, Verdict::InSync) => self,
            (Verdict::Pending, _) => other,
            (_, Verdict::Pending) => self,
            // Missing on different sides, or different anyway: to be swapped in neither direction.
            _ => Verdict::Mismatched,
        }
    }
}

/// Verdicts by repository and tag or digest: 9 bytes each, found by binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    keys: Box<[u64]>,
    verdicts: Box<[Verdict]>,
}

impl Evidence {
    /// Starts an empty collection.
    pub fn builder() -> EvidenceBuilder {
        EvidenceBuilder::default()
    }

    /// The verdict on a tag or digest; none when it was never verified.
    ///
    /// `repository` is the name in status and evidence ([`crate::mapping::Location::repository`]).
    pub fn lookup(&self, repository: &str, tag_or_digest: &str) -> Option<Verdict> {
        if self.is_empty() {
            return None;
        }
        let index = self.keys.binary_search(&key(repository, tag_or_digest)).ok()?;
        self.verdicts.get(index).copied()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing was verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn records(&self) -> impl Iterator<Item = (u64, Verdict)> + '_ {
        self.keys.iter().copied().zip(self.verdicts.iter().copied())
    }
}

/// Collects records for an [`Evidence`].
///
/// Two records with the same key, by accident of the hash or inserted twice, become one with the more cautious verdict.
#[derive(Clone, Debug, Default)]
pub struct EvidenceBuilder {
    records: Vec<(u64, Verdict)>,
}

impl EvidenceBuilder {
    /// Adds the verdict on a tag or digest of a repository, by its name in status and evidence.
    pub fn insert(&mut self, repository: &str, tag_or_digest: &str, verdict: Verdict) -> &mut Self {
        self.records.push((key(repository, tag_or_digest), verdict));
        self
    }

    /// Sorts what was inserted.
    pub fn build(&mut self) -> Evidence {
        let mut records = std::mem::take(&mut self.records);
        records.sort_unstable_by_key(|(key, _)| *key);
        records.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.more_cautious(later.1);
            }
            same
        });
        Evidence {
            keys: records.iter().map(|(key, _)| *key).collect(),
            verdicts: records.iter().map(|(_, verdict)| *verdict).collect(),
        }
    }
}

fn key(repository: &str, tag_or_digest: &str) -> u64 {
    let hash = Sha256::new()
        .chain_update(repository)
        .chain_update([0])
        .chain_update(tag_or_digest)
        .finalize();
    hash.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}
