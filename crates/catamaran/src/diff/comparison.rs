//! What two repositories come to.

use std::collections::BTreeMap;

use catamaran_core::mirror::FlawedPart;
use catamaran_core::mirror::parity::Difference;
use catamaran_core::mirror::parity::explain::Explanation;
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::{Side, Sides};

/// A tag whose content can't be pulled from a side.
#[derive(Debug)]
pub struct FlawedTag {
    /// The tag.
    pub tag: String,
    /// What is wrong first on each side.
    pub parts: Sides<Option<FlawedPart>>,
}

impl FlawedTag {
    /// The graver of the two sides' flaws.
    pub fn flaw(&self) -> Option<Flaw> {
        let flaw = |side: Side| self.parts[side].as_ref().map(|part| part.flaw);
        flaw(Side::Primary).max(flaw(Side::Fallback))
    }
}

impl Comparison {
    /// Whether every tag is the same, and could be pulled from both sides as far as that was asked.
    pub fn is_well(&self) -> bool {
        self.differences.is_empty() && self.flawed.as_ref().is_none_or(Vec::is_empty)
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
    /// What makes tags with different digests differ, as far as anybody asked and it could be told.
    pub explanations: BTreeMap<String, Explanation>,
    /// Tags that can't be pulled from a side, sorted by tag; none where nobody asked.
    pub flawed: Option<Vec<FlawedTag>>,
    /// What is worth knowing besides, for people.
    pub notes: Vec<String>,
}
