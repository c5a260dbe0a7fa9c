//! What a registry says of its tags, and the pages that it says it on.

pub(crate) mod link;
pub(crate) mod pages;
mod tag;

pub use tag::{ListedTag, Lock, Resolved};
