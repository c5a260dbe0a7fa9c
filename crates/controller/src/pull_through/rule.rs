//! The cloud's own rule of what is cached where.

use catamaran_core::pull_through::Placement;

/// What is known of the cloud's rule for the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It was read.
    Read {
        /// The prefix under which the other side is cached; empty for the root.
        prefix: Option<String>,
        /// Whether the mirror lies there.
        placement: Placement,
    },
    /// It could not be read.
    Unknown {
        /// The failing request and its cause.
        message: String,
    },
}
