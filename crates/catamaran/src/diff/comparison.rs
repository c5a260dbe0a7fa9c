//! What two repositories come to.

use catamaran_core::mirror::Missing;
use catamaran_core::mirror::parity::Difference;
use catamaran_core::side::Sides;

/// A tag with the same digest on both sides, of which one lacks a part.
#[derive(Debug)]
pub struct BrokenTag {
    /// The tag.
    pub tag: String,
    /// What each side lacks first.
    pub missing: Sides<Option<Missing>>,
}

impl Comparison {
    /// Whether every tag is the same, and could be pulled from both sides as far as that was asked.
    pub fn is_well(&self) -> bool {
        self.differences.is_empty() && self.broken.as_ref().is_none_or(Vec::is_empty)
    }
}

/// One that could be finished.
#[derive(Debug)]
pub struct Comparison {
    /// The repositories as they were typed.
    pub repositories: Sides<String>,
    /// Tags that at least one side has.
    pub tags: usize,
    /// What is not the same.
    pub differences: Vec<Difference>,
    /// Tags that are the same and can't be pulled from a side, sorted by tag; none where nobody asked.
    pub broken: Option<Vec<BrokenTag>>,
    /// What is worth knowing besides, for people.
    pub notes: Vec<String>,
}
