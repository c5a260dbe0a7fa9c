//! What the pages of a list come to, within bounds.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use super::tag::ListedTag;
use crate::wire::limits::Limits;

/// The tags of the pages so far.
#[derive(Default)]
pub(crate) struct Gathered {
    tags: Vec<ListedTag>,
    bytes: usize,
}

impl Gathered {
    /// Adds a page; the error says what there is too much of.
    pub(crate) fn add(&mut self, page: Vec<ListedTag>, limits: &Limits) -> Result<(), String> {
        if self.tags.len() + page.len() > limits.tags {
            return Err(format!("more than {} tags", limits.tags));
        }
        self.bytes += page.iter().map(|tag| tag.name.len()).sum::<usize>();
        if self.bytes > limits.name_bytes {
            return Err(format!("names of more than {} bytes", limits.name_bytes));
        }
        self.tags.extend(page);
        Ok(())
    }

    /// All of them by name, each once. Pages shift while tags are pushed, so a tag may come twice; what came last is newest.
    pub(crate) fn sorted(self) -> Vec<ListedTag> {
        let mut tags = self.tags;
        tags.reverse();
        tags.sort_by(|one, other| one.name.cmp(&other.name));
        tags.dedup_by(|one, other| one.name == other.name);
        tags
    }
}

/// The pages that were asked for: by their hashes, because what names a page may be long, and there may be many.
#[derive(Default)]
pub(crate) struct Seen {
    pages: HashSet<u64>,
    hasher: RandomState,
}

impl Seen {
    /// Takes note of a page to be asked for; the error says why it must not be.
    pub(crate) fn note(&mut self, page: &str, limits: &Limits) -> Result<(), String> {
        if self.pages.len() >= limits.pages {
            return Err(format!("more than {} pages", limits.pages));
        }
        if !self.pages.insert(self.hasher.hash_one(page)) {
            return Err("its pages lead in a circle".to_owned());
        }
        Ok(())
    }
}
