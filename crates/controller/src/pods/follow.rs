//! Lists a collection and watches it from there on, for as long as the task lives.

use std::time::Duration;

use futures::stream::StreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::pages::{ListError, Listing};

/// Objects of a page. A page is streamed, so this bounds only the work of one request.
const PAGE: u32 = 250;

/// How long the API server serves one watch, in seconds. A watch that is cut without a word leaves a replica in the past.
const WATCH_SECONDS: u32 = 25;

/// How much longer than that a watch may take to end.
const MARGIN: Duration = Duration::from_secs(5);

/// The shortest time from the begin of one watch to the next.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is seen of a collection.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// A list begins: whatever is not seen before it ends is gone.
    Listing,
    /// An object is there, or has changed.
    Seen(K),
    /// The list has ended.
    Listed,
    /// An object is gone.
    Gone(K),
}

/// The pause after so many failures in a row: half a second, doubled each time, at most half a minute.
pub(crate) fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.min(16));
    Duration::from_millis(500).saturating_mul(doubled).min(LONGEST_PAUSE)
}

/// Sends what `take` makes of each change of the objects that `fields` selects, until nobody receives. A change of `restarts` begins
/// the list again.
pub(crate) async fn follow<K, T>(
    client: &kube::Client,
    mut restarts: watch::Receiver<u64>,
    fields: &str,
    sender: &mpsc::Sender<T>,
    take: impl Fn(Change<K>) -> Option<T>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let follower = Follower {
        client,
        fields,
        sender,
        take,
        kind: std::marker::PhantomData,
    };
    let mut failures = 0;
    while !sender.is_closed() {
        restarts.mark_unchanged();
        match follower.list().await {
            Ok(version) => {
                failures = 0;
                tokio::select! {
                    () = follower.watch(version) => {}
                    Ok(()) = restarts.changed() => {}
                }
            }
            Err(error) => tracing::debug!(%error, "a list failed and is begun again"),
        }
        tokio::time::sleep(pause(failures)).await;
        failures += 1;
    }
}

struct Follower<'f, K, T, F> {
    client: &'f kube::Client,
    fields: &'f str,
    sender: &'f mpsc::Sender<T>,
    take: F,
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K, T, F> Follower<'_, K, T, F>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    F: Fn(Change<K>) -> Option<T>,
{
    async fn send(&self, change: Change<K>) {
        if let Some(news) = (self.take)(change) {
            // Without a receiver the loop ends by itself.
            let _ = self.sender.send(news).await;
        }
    }

    async fn list(&self) -> Result<String, ListError> {
        self.send(Change::Listing).await;
        let params = ListParams::default().limit(PAGE).fields(self.fields);
        let mut listing = Listing::<K>::new(self.client, &K::url_path(&(), None), params);
        while let Some(objects) = listing.next().await? {
            for object in objects {
                self.send(Change::Seen(object)).await;
            }
        }
        self.send(Change::Listed).await;
        Ok(listing.version().to_owned())
    }

    /// Watches from a version on, again and again, until the API server no longer has what follows it.
    async fn watch(&self, mut version: String) {
        let params = WatchParams::default().timeout(WATCH_SECONDS).fields(self.fields);
        let api = Api::<K>::all(self.client.clone());
        let mut failures = 0;
        while !self.sender.is_closed() {
            let next = Instant::now() + SHORTEST_WATCH;
            let before = version.clone();
            match self.watch_once(&api, &params, &mut version).await {
                Ok(()) => failures = 0,
                Err(kube::Error::Api(status)) if status.code == 410 => return,
                Err(error) => {
                    tracing::debug!(%error, "a watch failed and is begun again");
                    failures = if before == version { failures + 1 } else { 0 };
                    tokio::time::sleep(pause(failures)).await;
                }
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn watch_once(&self, api: &Api<K>, params: &WatchParams, version: &mut String) -> Result<(), kube::Error> {
        let mut events = std::pin::pin!(api.watch(params, version).await?);
        let longest = Duration::from_secs(u64::from(WATCH_SECONDS)) + MARGIN;
        while let Ok(Some(event)) = tokio::time::timeout(longest, events.next()).await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version.clone_from(&object.resource_version().unwrap_or_default());
                    self.send(Change::Seen(object)).await;
                }
                WatchEvent::Deleted(object) => {
                    version.clone_from(&object.resource_version().unwrap_or_default());
                    self.send(Change::Gone(object)).await;
                }
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
