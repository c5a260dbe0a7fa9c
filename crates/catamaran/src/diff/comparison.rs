//! What two repositories come to.

use catamaran_core::mirror::parity::Difference;
use catamaran_core::side::Sides;

/// One that could be finished.
#[derive(Debug)]
pub struct Comparison {
    /// The repositories as they were typed.
    pub repositories: Sides<String>,
    /// Tags that at least one side has.
    pub tags: usize,
    /// What is not the same.
    pub differences: Vec<Difference>,
    /// What is worth knowing besides, for people.
    pub notes: Vec<String>,
}
