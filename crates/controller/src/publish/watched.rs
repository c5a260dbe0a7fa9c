//! One watched collection, with retries and restarts.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::freshness::{WATCH_SECONDS, WatchFreshness};

/// The first pause after a failed request.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause; jitter up to doubles each. The webhook is asked for pods as soon as the API server is back, and
/// must know by then what it missed.
const LONGEST_PAUSE: Duration = Duration::from_millis(1500);

/// Objects of a page of a list. All of a page are in memory at once, with who wrote which of their fields.
const PAGE: u32 = 50;

/// What all watches have in common. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    restarts: Arc<watch::Sender<u64>>,
    freshness: WatchFreshness,
    latest: Arc<AtomicU64>,
}

impl Watches {
    /// None yet; a restart takes back what `freshness` has noted.
    pub fn new(freshness: WatchFreshness) -> Watches {
        Watches {
            restarts: Arc::new(watch::channel(0).0),
            freshness,
            latest: Arc::default(),
        }
    }

    /// Restarts every watch from a fresh list.
    pub fn restart(&self) {
        self.freshness.reset();
        self.latest.store(0, Ordering::Release);
        self.restarts.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes at every restart.
    pub fn restarts(&self) -> watch::Receiver<u64> {
        self.restarts.subscribe()
    }

    /// The latest version that one of them has delivered since they were restarted. A consistent read that begins now is of this
    /// version or a later one, unless the store was restored.
    pub fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// Until one of them fails, or ends before its time.
    pub async fn interrupted(&self) {
        self.freshness.interrupted().await;
    }

    fn delivered<K: Resource>(&self, event: &Event<K>) {
        let object = match event {
            Event::Apply(object) | Event::Delete(object) | Event::InitApply(object) => object,
            Event::Init | Event::InitDone => return,
        };
        let version = object.resource_version().and_then(|version| version.parse().ok());
        self.latest.fetch_max(version.unwrap_or_default(), Ordering::AcqRel);
    }
}

/// Events of a collection, with pauses of at most 3 s between failed requests, restarted with [`Watches`]. `labels`
/// selects objects; empty selects all. The watch begins with a consistent list.
pub(crate) fn watched<K>(api: Api<K>, labels: &str, watches: &Watches) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    let config = if labels.is_empty() {
        config
    } else {
        config.labels(labels)
    };
    let begin = move || watcher::watcher(api.clone(), config.clone()).boxed();
    let collection = Collection {
        events: begin(),
        begin,
        restarts: watches.restarts(),
        watches: watches.clone(),
        pauses: pauses(),
    };
    stream::unfold(collection, |mut collection| async move {
        let event = collection.next().await;
        Some((event, collection))
    })
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

struct Collection<K, B> {
    events: Events<K>,
    begin: B,
    restarts: watch::Receiver<u64>,
    watches: Watches,
    pauses: ExponentialBackoff,
}

impl<K: Resource + Send + 'static, B: Fn() -> Events<K>> Collection<K, B> {
    async fn next(&mut self) -> Event<K> {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                _ = self.restarts.changed() => {
                    self.events = (self.begin)();
                    pause = Duration::ZERO;
                }
                event = after(pause, &mut self.events) => match event {
                    // A list begins with this event before anything was asked.
                    Some(Ok(Event::Init)) => return Event::Init,
                    Some(Ok(event)) => {
                        self.pauses = pauses();
                        self.watches.delivered(&event);
                        return event;
                    }
                    Some(Err(error)) => {
                        // The last snapshot stands; its age is what stops rewriting in the end.
                        tracing::debug!(%error, "a watch failed and is retried");
                        pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
                    }
                    None => self.events = (self.begin)(),
                },
            }
        }
    }
}

async fn after<K>(pause: Duration, events: &mut Events<K>) -> Option<watcher::Result<Event<K>>> {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    events.next().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_at_most_three_seconds() {
        let pauses: Vec<Duration> = pauses().take(50).collect();
        assert!(pauses[0] >= FIRST_PAUSE && pauses[0] <= FIRST_PAUSE * 2);
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(3)));
        assert!(pauses[10..].iter().all(|pause| *pause >= LONGEST_PAUSE));
        assert_ne!(pauses[20], pauses[21], "no jitter");
    }
}
