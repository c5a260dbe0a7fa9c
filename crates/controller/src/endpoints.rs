//! One observer for each registry endpoint: it feeds the endpoint's machine, makes its probes, and tells the mirrors what they found.
//!
//! All mirrors that reach a registry in the same way share an endpoint. [`Endpoints::watch`] has a side of a mirror watched for as
//! long as the [`Subscription`] is kept; readings arrive in the mirror's own queue. `observer` is the loop of one endpoint, `key`
//! says which sides share one, `probe` makes one probe.

mod key;
mod observer;
mod probe;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_core::endpoint::{Input, Watch, Watcher};
use catamaran_core::mirror::Event;
use catamaran_core::policy::MirrorPolicy;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::context::Context;
pub(crate) use key::EndpointKey;
use observer::{Observer, Sink};

/// Readings of one mirror that may wait. A task that does not take them for that long has other trouble.
pub(crate) const READINGS: usize = 64;

/// The observers of all endpoints.
#[derive(Debug, Default)]
pub struct Endpoints(Arc<Mutex<HashMap<EndpointKey, Arc<Observer>>>>);

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
    /// Has a side of a mirror watched, in place of how it was watched before.
    pub(crate) fn watch(&self, context: &Arc<Context>, wish: Wish, before: Option<Subscription>) -> Subscription {
        let key = EndpointKey::of(&wish.policy, wish.watcher.side);
        let watcher = wish.watcher.clone();
        let mut all = self.all();
        let observer = match all.get(&key) {
            Some(observer) => Arc::clone(observer),
            None => {
                let observer = Observer::new(key.clone(), context.clock);
                all.insert(key.clone(), Arc::clone(&observer));
                share(&all, &key);
                tokio::spawn(Arc::clone(&observer).run(Arc::clone(context), self.end_of(key)));
                observer
            }
        };
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
    fn end_of(&self, key: EndpointKey) -> impl Fn(&Observer) -> bool + Send + Sync + 'static {
        let all = Arc::clone(&self.0);
        move |observer| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = observer.is_idle();
            if idle {
                all.remove(&key);
                share(&all, &key);
            }
            idle
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<EndpointKey, Arc<Observer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
