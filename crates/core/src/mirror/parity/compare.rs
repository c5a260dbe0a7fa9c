//! The comparison of two listings, without memory: what the command line's `diff` shows.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::side::Sides;

/// How one tag differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceKind {
    /// Only the fallback has it.
    MissingOnPrimary,
    /// Only the primary has it.
    MissingOnFallback,
    /// Both have it, with different digests.
    Mismatched,
}

impl DifferenceKind {
    /// As in status and output.
    pub fn as_str(self) -> &'static str {
        match self {
            DifferenceKind::MissingOnPrimary => "MissingOnPrimary",
            DifferenceKind::MissingOnFallback => "MissingOnFallback",
            DifferenceKind::Mismatched => "Mismatched",
        }
    }
}

/// One tag that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The tag.
    pub tag: String,
    /// How it differs.
    pub kind: DifferenceKind,
    /// What each side has.
    pub digests: Sides<Option<Digest>>,
}

/// The tags that differ between two complete listings, by name.
pub fn compare(primary: &BTreeMap<String, Digest>, fallback: &BTreeMap<String, Digest>) -> Vec<Difference> {
    let only_on_fallback = fallback.keys().filter(|tag| !primary.contains_key(*tag));
    let mut differences: Vec<Difference> = primary
        .keys()
        .chain(only_on_fallback)
        .filter_map(|tag| {
            let digests = Sides {
                primary: primary.get(tag),
                fallback: fallback.get(tag),
            };
            let kind = match (digests.primary, digests.fallback) {
                (None, _) => DifferenceKind::MissingOnPrimary,
                (_, None) => DifferenceKind::MissingOnFallback,
                (one, other) if one == other => return None,
                _ => DifferenceKind::Mismatched,
            };
            Some(Difference {
                tag: tag.clone(),
                kind,
                digests: digests.map(Option::<&Digest>::cloned),
            })
        })
        .collect();
    differences.sort_by(|one, other| one.tag.cmp(&other.tag));
    differences
}
