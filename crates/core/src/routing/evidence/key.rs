//! What names a reference and a mapping in evidence and status.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::policy::{MirrorPolicy, Repositories, RepositoryRule};
use crate::side::{Side, Sides};

/// One reference of one mapping: the first 8 bytes of SHA-256 over the primary's registry, the path there, the fallback's
/// registry, the path there, and the tag or digest, with a zero byte between them.
///
/// Both registries and paths are part of it, so what is known of another mapping is never found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(super) u64);

/// A mapping of repositories: the registries and prefixes, or, for a repository with paths of its own, the registries and
/// these paths. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(u64);

/// A text is not 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse the mapping: not 16 lower-case hexadecimal digits")]
pub struct MappingIdError;

/// Makes the keys of one repository: what they have in common is hashed once.
#[derive(Clone, Debug, Default)]
pub(crate) struct RepositoryKeys {
    hash: Sha256,
}

impl Key {
    /// The number of the fixed bucket that it belongs to: its first byte.
    pub(crate) fn bucket(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// The first key of a bucket.
    pub(crate) fn first_of(bucket: usize) -> Key {
        Key((bucket as u64) << 56)
    }

    /// A number that has the order of keys.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl RepositoryKeys {
    /// Of a repository whose mirror is not known.
    pub(crate) fn of_name(repository: &str) -> RepositoryKeys {
        RepositoryKeys {
            hash: Sha256::new_with_prefix(repository).chain_update([0]),
        }
    }

    /// The key of a tag or digest.
    pub(crate) fn key(&self, reference: &str) -> Key {
        Key(first_bytes(self.hash.clone().chain_update(reference)))
    }
}

impl MirrorPolicy {
    /// The key of a tag or digest of a repository, which goes by this name in status, or by the rule that lists it.
    pub fn key(&self, repository: &str, rule: Option<&RepositoryRule>, reference: &str) -> Key {
        self.keys(repository, rule).key(reference)
    }

    /// The keys of a repository by its name in status; none if the mirror lists others.
    pub(crate) fn keys_of(&self, repository: &str) -> Option<RepositoryKeys> {
        let Repositories::Listed(rules) = &self.repositories else {
            return Some(self.keys(repository, None));
        };
        let rule = rules.iter().find(|rule| rule.name == repository)?;
        Some(self.keys(repository, Some(rule)))
    }

    fn keys(&self, repository: &str, rule: Option<&RepositoryRule>) -> RepositoryKeys {
        let mut hash = Sha256::new();
        for side in Side::ALL {
            let (registry, prefix) = (&self.sides[side].registry, &self.sides[side].prefix);
            hash.update(registry);
            hash.update([0]);
            if let Some(rule) = rule {
                hash.update(&rule.paths[side]);
            } else {
                hash.update(prefix);
                hash.update(if prefix.is_empty() { "" } else { "/" });
                hash.update(repository);
            }
            hash.update([0]);
        }
        RepositoryKeys { hash }
    }

    /// The mapping of a repository by its name in status, or by the rule that lists it. All repositories whose paths are the
    /// prefixes and one name have one mapping.
    pub fn mapping(&self, repository: &str, rule: Option<&RepositoryRule>) -> MappingId {
        let below_prefixes = |rule: &RepositoryRule| {
            Side::ALL
                .iter()
                .all(|side| is_path(&rule.paths[*side], &self.sides[*side].prefix, repository))
        };
        match rule {
            Some(rule) if !below_prefixes(rule) => self.mapping_of(1, rule.paths.as_ref().map(String::as_str)),
            _ => self.mapping_of(0, self.sides.as_ref().map(|side| side.prefix.as_str())),
        }
    }

    /// The mappings of all repositories: one unless repositories with paths of their own are listed.
    pub fn mappings(&self) -> BTreeSet<MappingId> {
        match &self.repositories {
            Repositories::InUse => BTreeSet::from([self.mapping("", None)]),
            Repositories::Listed(rules) => rules.iter().map(|rule| self.mapping(&rule.name, Some(rule))).collect(),
        }
    }

    /// The same whichever side is the primary: what was seen of two registries stays true when they change places.
    fn mapping_of(&self, kind: u8, paths: Sides<&str>) -> MappingId {
        let mut places = Side::ALL.map(|side| (self.sides[side].registry.as_str(), paths[side]));
        places.sort_unstable();
        let mut hash = Sha256::new_with_prefix([kind]);
        for (registry, path) in places {
            hash.update(registry);
            hash.update([0]);
            hash.update(path);
            hash.update([0]);
        }
        MappingId(first_bytes(hash))
    }
}

/// Whether `path` is `name` below `prefix`.
fn is_path(path: &str, prefix: &str, name: &str) -> bool {
    if prefix.is_empty() {
        return path == name;
    }
    let below = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    below == Some(name)
}

fn first_bytes(hash: Sha256) -> u64 {
    hash.finalize()
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl fmt::Display for MappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for MappingId {
    type Err = MappingIdError;

    fn from_str(text: &str) -> Result<MappingId, MappingIdError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(MappingIdError);
        }
        u64::from_str_radix(text, 16).map(MappingId).map_err(|_| MappingIdError)
    }
}
