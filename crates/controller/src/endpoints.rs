//! One observer for each registry endpoint: it feeds the endpoint's machine, makes its probes, and tells the mirrors what they found.
//!
//! All mirrors that reach a registry in the same way share an endpoint. [`Endpoints::watch`] has a side of a mirror watched for as
//! long as the [`Subscription`] is kept; readings arrive in the mirror's own queue. `observer` is the loop of one endpoint, `key`
//! says which sides share one, `probe` makes one probe, `replicas` tells other replicas what this one sees.

mod key;
mod observer;
mod probe;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_core::endpoint::{Input, Report, Watch, Watcher};
use catamaran_core::mirror::Event;
use catamaran_core::policy::MirrorPolicy;
use futures::channel::mpsc;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::context::Context;
use crate::metrics::Metrics;
pub(crate) use key::EndpointKey;
use observer::{Observer, Sink};
pub use replicas::{ReplicaName, run};

/// Readings of one mirror that may wait. A task that does not take them for that long has other trouble.
pub(crate) const READINGS: usize = 64;

/// The observers of all endpoints.
#[derive(Debug, Default)]
pub struct Endpoints {
    observers: Arc<Mutex<HashMap<EndpointKey, Arc<Observer>>>>,
    /// What an observer sees has changed.
    news: Arc<Notify>,
    /// The node that this replica runs on.
    node: String,
    /// What other replicas have said last.
    heard: Mutex<BTreeMap<Arc<str>, Heard>>,
}

/// A replica's node, and what it said of each endpoint.
type Heard = (Arc<str>, BTreeMap<String, Report>);

/// Replicas that are listened to at most.
const MOST_REPLICAS: usize = 16;

/// A side of a mirror that is watched, until this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    observer: Arc<Observer>,
    watcher: Watcher,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.observer.leave(&self.watcher);
    }
}

impl Subscription {
    /// Has the endpoint probed at once, unless a probe is under way that began at this time or later.
    pub(crate) fn probe_now(&self, after: Timestamp) {
        self.observer.feed(Input::Wanted(after));
    }
}

/// What is to be watched, and who is told.
pub(crate) struct Wish {
    pub(crate) policy: Arc<MirrorPolicy>,
    pub(crate) watcher: Watcher,
    pub(crate) watch: Watch,
    pub(crate) readings: mpsc::Sender<Event>,
}

impl Endpoints {
    /// No observers yet, on this node.
    pub fn on_node(node: &str) -> Endpoints {
        Endpoints {
            node: node.to_owned(),
            ..Endpoints::default()
        }
    }

    /// Has a side of a mirror watched, in place of how it was watched before.
    pub(crate) fn watch(&self, context: &Arc<Context>, wish: Wish, before: Option<Subscription>) -> Subscription {
        let key = EndpointKey::of(&wish.policy, wish.watcher.side);
        let watcher = wish.watcher.clone();
        let mut all = self.all();
        let observer = all.get(&key).cloned().unwrap_or_else(|| {
            let observer = Observer::new(key.clone(), &self.node, context.clock, Arc::clone(&self.news));
            all.insert(key.clone(), Arc::clone(&observer));
            self.repeat_to(&observer);
            share(&all, &key);
            tokio::spawn(Arc::clone(&observer).run(Arc::clone(context), self.end_of(key, &context.metrics)));
            observer
        });
        let sink = Sink {
            policy: wish.policy,
            generation: wish.watch.generation,
            readings: wish.readings,
        };
        observer.join(watcher.clone(), wish.watch, sink);
        drop(all);
        if let Some(before) = before {
            if Arc::ptr_eq(&before.observer, &observer) {
                // It goes on as this one.
                return before;
            }
            drop(before);
        }
        Subscription { observer, watcher }
    }

    /// What an observer without watchers does at last; whether it may end.
    fn end_of(&self, key: EndpointKey, metrics: &Arc<Metrics>) -> impl Fn(&Observer) -> bool + Send + Sync + 'static {
        let (all, metrics) = (Arc::clone(&self.observers), Arc::clone(metrics));
        move |observer| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = observer.is_idle();
            if idle {
                all.remove(&key);
                share(&all, &key);
                let registry = &key.side.registry;
                if !all.keys().any(|other| other.side.registry == *registry) {
                    metrics.forget_registry(registry);
                }
            }
            idle
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<EndpointKey, Arc<Observer>>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until what this replica sees has changed.
    async fn news(&self) {
        self.news.notified().await;
    }

    /// What this replica sees, by the endpoints' names.
    fn reports(&self) -> BTreeMap<String, Report> {
        let all = self.all();
        let reports = all
            .values()
            .filter_map(|observer| Some((observer.id().to_owned(), observer.report()?)));
        reports.collect()
    }

    /// Another replica says what it sees.
    fn heard(&self, replica: &Arc<str>, node: &Arc<str>, reports: &BTreeMap<String, Report>) {
        for observer in self.all().values() {
            if let Some(report) = reports.get(observer.id()) {
                observer.hear(replica, node, report.clone());
            }
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < MOST_REPLICAS || heard.contains_key(replica) {
            heard.insert(Arc::clone(replica), (Arc::clone(node), reports.clone()));
        }
    }

    fn gone(&self, replica: &Arc<str>) {
        for observer in self.all().values() {
            observer.feed(Input::Gone(Arc::clone(replica)));
        }
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(replica);
    }

    /// What others said before there was this observer.
    fn repeat_to(&self, observer: &Observer) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (replica, (node, reports)) in heard.iter() {
            if let Some(report) = reports.get(observer.id()) {
                observer.hear(replica, node, report.clone());
            }
        }
    }
}

/// Endpoints that differ only in the time that a probe may take share the requests.
fn share(all: &HashMap<EndpointKey, Arc<Observer>>, key: &EndpointKey) {
    let sharing: Vec<_> = all.iter().filter(|(other, _)| other.side == key.side).collect();
    let share = u32::try_from(sharing.len()).unwrap_or(u32::MAX);
    for (_, observer) in sharing {
        observer.set_share(share);
    }
}
