//! What is known of the target, and who is sending what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use catamaran_core::digest::Digest;

/// More digests than this are not remembered: those are asked for each time.
const MOST_REMEMBERED: usize = 100_000;
/// Flights that were dropped half way are cleared away when there are so many.
const MOST_FLIGHTS: usize = 1024;

/// Which blobs and manifests the target is known to have in which repositories, and which are under way: of several copies
/// that need the same one sends it. Keep it no longer than a round of copies: registries clean up.
#[derive(Debug, Default)]
pub struct Placed {
    known: Mutex<HashMap<Digest, Vec<Arc<str>>>>,
    flights: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    pieces: Mutex<Pieces>,
}

/// The pieces that a target takes of a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pieces {
    /// Of the size that we want.
    #[default]
    AsWanted,
    /// Of the least size that large stores take.
    OfStores,
    /// None: a blob comes by one request.
    Refused,
}

impl Placed {
    pub(super) fn is_in(&self, digest: &Digest, repository: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let repositories = known.get(digest);
        repositories.is_some_and(|repositories| repositories.iter().any(|known| &**known == repository))
    }

    /// In what pieces the target has taken blobs.
    pub(super) fn pieces(&self) -> Pieces {
        *self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_pieces(&self, pieces: Pieces) {
        *self.pieces.lock().unwrap_or_else(PoisonError::into_inner) = pieces;
    }

    /// Another repository that has it.
    pub(super) fn elsewhere(&self, digest: &Digest, repository: &str) -> Option<Arc<str>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let repositories = known.get(digest)?;
        repositories.iter().find(|known| &***known != repository).cloned()
    }

    pub(super) fn note(&self, digest: &Digest, repository: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED && !known.contains_key(digest) {
            return;
        }
        let repositories = known.entry(digest.clone()).or_default();
        if !repositories.iter().any(|known| &**known == repository) {
            repositories.push(repository.into());
        }
    }

    /// Forgets everything about a repository.
    pub(super) fn forget(&self, repository: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, repositories| {
            repositories.retain(|known| &**known != repository);
            !repositories.is_empty()
        });
    }

    /// The holder of the lock sends it; the others find it there afterwards.
    pub(super) fn flight(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.len() >= MOST_FLIGHTS {
            flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        }
        flights.entry(digest.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_repository_has_another_can_mount() {
        let (placed, digest) = (Placed::default(), Digest::of(b"layer"));
        assert_eq!(placed.elsewhere(&digest, "a"), None);
        placed.note(&digest, "a");
        placed.note(&digest, "a");
        assert!(placed.is_in(&digest, "a") && !placed.is_in(&digest, "b"));
        assert_eq!(placed.elsewhere(&digest, "a"), None);
        assert_eq!(placed.elsewhere(&digest, "b").as_deref(), Some("a"));
        placed.forget("a");
        assert!(!placed.is_in(&digest, "a"));
    }

    #[test]
    fn flights_that_ended_are_cleared_away() {
        let placed = Placed::default();
        let held = placed.flight(&Digest::of(b"held"));
        for n in 0..3 * MOST_FLIGHTS {
            placed.flight(&Digest::of(&n.to_be_bytes()));
        }
        assert!(placed.flights.lock().unwrap().len() <= MOST_FLIGHTS);
        assert!(Arc::ptr_eq(&held, &placed.flight(&Digest::of(b"held"))));
    }
}
