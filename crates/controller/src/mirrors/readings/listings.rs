//! How many listings are under way at a time at each registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At one registry, over all mirrors. After a flip all its mirrors want a listing at once, of which each takes 25 kB while it waits for
/// the registry's rate limit. One registry that does not answer holds up no listing of another.
const AT_A_TIME: usize = 32;

/// Clones share the limits.
#[derive(Clone, Debug, Default)]
pub(in crate::mirrors) struct Listings {
    registries: Arc<Mutex<HashMap<Box<str>, Arc<Semaphore>>>>,
}

impl Listings {
    /// Until a repository of this registry may be listed; for as long as this is kept.
    pub(in crate::mirrors) async fn turn(&self, registry: &str) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        self.registry(registry).acquire_owned().await.ok()
    }

    fn registry(&self, registry: &str) -> Arc<Semaphore> {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = registries.get(registry) {
            return Arc::clone(known);
        }
        // Those that nobody uses or waits for.
        registries.retain(|_, known| Arc::strong_count(known) > 1);
        let new = Arc::new(Semaphore::new(AT_A_TIME));
        registries.insert(registry.into(), Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn listings_at_a_registry_are_limited_and_hold_up_no_other() {
        let listings = Listings::default();
        let mut turns = Vec::new();
        for _ in 0..AT_A_TIME {
            turns.push(listings.clone().turn("a.io").now_or_never().unwrap());
        }
        assert!(listings.turn("a.io").now_or_never().is_none());
        assert!(listings.turn("b.io").now_or_never().is_some());
        turns.pop();
        assert!(listings.turn("a.io").now_or_never().is_some());
    }

    #[tokio::test]
    async fn registries_that_nobody_lists_are_forgotten() {
        let listings = Listings::default();
        let held = listings.turn("a.io").await;
        for number in 0..100 {
            listings.turn(&format!("{number}.io")).await;
        }
        assert_eq!(listings.registries.lock().unwrap().len(), 2);
        drop(held);
    }
}
