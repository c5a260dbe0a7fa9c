//! Flips that are stored together, ahead of the statuses that say them.
//!
//! A flip is carried out by the status of its mirror. Where more mirrors flip at once than the API server takes in statuses at a time,
//! the last of them would flip long after the first. So their flips go into one ConfigMap, [`NAME`], which every replica watches: a
//! flip that is there holds as if the status said it, and the status says it in its turn. Once every status does, the ConfigMap is
//! deleted.
//!
//! Every write is guarded by the `resourceVersion` that was seen before, and the lease is asked right before it. Who finds a flip of
//! the same epoch or a later one there does not write, and goes on from that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_api::annotations;
use catamaran_core::mirror::failover::Standing;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Replica;
use crate::events::CONTROLLER;

mod entry;
mod seen;
#[cfg(test)]
mod tests;

pub(crate) use entry::{as_stored, flip, last_flip};
pub(crate) use seen::SeenFlips;

/// The ConfigMap that they are in, in the operator's namespace.
pub const NAME: &str = "catamaran-flips";

/// Its key.
pub const KEY: &str = "flips";

/// The largest content that is written, in bytes: the API server takes 1 MiB, and flips of some 3,000 mirrors are less.
const LARGEST: usize = 900_000;

/// How long flips are gathered for one write. All mirrors of a registry decide within some tens of milliseconds of each other.
const GATHER: Duration = Duration::from_millis(20);

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a write is tried again after others have written.
const ATTEMPTS: usize = 3;

/// What stands for each mirror, by its UID.
pub(crate) type Flips = BTreeMap<Arc<str>, Arc<Standing>>;

/// Why a flip was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FlipWriteError {
    /// A flip of the same epoch, or a later one, is there.
    #[error("another flip of this mirror is stored")]
    Conflict(Arc<Standing>),
    /// This replica has ceased to lead.
    #[error("another replica leads")]
    NotLeading,
    /// It has to be written to the status.
    #[error("failed to store flips together: {0}")]
    Refused(Arc<str>),
}

/// Stores flips. One for the process.
#[derive(Debug)]
pub struct FlipStore {
    replica: Replica,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<Arc<str>, Waiting>,
    /// What is there, as it was seen or written last; none where there is no ConfigMap.
    there: Option<There>,
    /// Whether every status says its flip.
    is_said: bool,
}

/// A flip on its way.
#[derive(Debug)]
struct Waiting {
    standing: Arc<Standing>,
    done: oneshot::Sender<Result<(), FlipWriteError>>,
}

/// The ConfigMap.
#[derive(Clone, Debug)]
pub(crate) struct There {
    version: String,
    flips: Arc<Flips>,
}

impl There {
    fn of(config_map: &ConfigMap) -> There {
        There {
            version: config_map.resource_version().unwrap_or_default(),
            flips: Arc::new(stored(config_map)),
        }
    }
}

/// What a ConfigMap holds. What can't be read is missing: the status has it, or will.
pub(super) fn stored(config_map: &ConfigMap) -> Flips {
    entry::decode(config_map).unwrap_or_else(|error| {
        tracing::warn!(%error, name = NAME, "failed to read flips that were stored together");
        Flips::new()
    })
}

impl FlipStore {
    /// A store that has seen nothing.
    pub fn new(replica: &Replica) -> FlipStore {
        FlipStore {
            replica: replica.clone(),
            state: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// Stores what stands for a mirror after a flip, together with those of other mirrors that come at the same time.
    pub(crate) async fn store(&self, uid: &Arc<str>, standing: Arc<Standing>) -> Result<(), FlipWriteError> {
        let (done, stored) = oneshot::channel();
        let waiting = Waiting { standing, done };
        self.state().waiting.insert(Arc::clone(uid), waiting);
        self.news.notify_one();
        let ended = || Err(FlipWriteError::Refused("the process ends".into()));
        stored.await.unwrap_or_else(|_| ended())
    }

    /// Writes what waits, for as long as the process lives.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            tokio::time::sleep(GATHER).await;
            let waiting = std::mem::take(&mut self.state().waiting);
            if waiting.is_empty() {
                self.delete().await;
            } else {
                self.write(waiting).await;
            }
        }
    }

    /// What a watch shows.
    pub(crate) fn seen(&self, there: Option<There>) {
        let mut state = self.state();
        state.there = there;
        state.is_said = false;
    }

    /// Every status says what is stored here, so it is deleted.
    pub(crate) fn said(&self) {
        if !std::mem::replace(&mut self.state().is_said, true) {
            self.news.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.replica.client.clone(), &self.replica.namespace)
    }

    async fn write(&self, mut waiting: BTreeMap<Arc<str>, Waiting>) {
        for attempt in 1..=ATTEMPTS {
            if !self.replica.leads() {
                return answer(waiting, &Err(FlipWriteError::NotLeading));
            }
            let there = self.state().there.clone();
            let mut flips = there
                .as_ref()
                .map(|there| Flips::clone(&there.flips))
                .unwrap_or_default();
            waiting = refuse_earlier(waiting, &flips);
            if waiting.is_empty() {
                return;
            }
            let new = waiting
                .iter()
                .map(|(uid, one)| (Arc::clone(uid), Arc::clone(&one.standing)));
            flips.extend(new);
            let content = entry::encode(&flips);
            if content.len() > LARGEST {
                let why = format!("{} flips are more than a ConfigMap can hold", flips.len());
                return answer(waiting, &Err(FlipWriteError::Refused(why.into())));
            }
            let written = self.put(content, there.map(|there| there.version));
            let written = timeout(PATIENCE, written).await;
            let error = match written {
                Ok(Ok(version)) => {
                    let mut state = self.state();
                    state.there = Some(There {
                        version,
                        flips: Arc::new(flips),
                    });
                    state.is_said = false;
                    drop(state);
                    return answer(waiting, &Ok(()));
                }
                Ok(Err(error)) => error,
                Err(_) => return answer(waiting, &refused(&format!("no answer within {} s", PATIENCE.as_secs()))),
            };
            let is_conflict = matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
            if !is_conflict || attempt == ATTEMPTS {
                return answer(waiting, &refused(&error.to_string()));
            }
            if let Err(error) = self.look().await {
                return answer(waiting, &refused(&error));
            }
        }
    }

    /// Creates the ConfigMap, or replaces what the one of this version holds; its version then.
    async fn put(&self, content: String, version: Option<String>) -> kube::Result<String> {
        let data = BTreeMap::from([(KEY.to_owned(), content)]);
        let config_map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(BTreeMap::from([(annotations::FLIPS.to_owned(), String::new())])),
                resource_version: version.clone(),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        let written = if version.is_some() {
            let params = PatchParams {
                field_manager: Some(CONTROLLER.to_owned()),
                ..PatchParams::default()
            };
            self.api().patch(NAME, &params, &Patch::Merge(&config_map)).await?
        } else {
            let params = PostParams {
                field_manager: Some(CONTROLLER.to_owned()),
                ..PostParams::default()
            };
            self.api().create(&params, &config_map).await?
        };
        Ok(written.resource_version().unwrap_or_default())
    }

    /// Reads what is there; by a list, which is a right that the operator has anyway.
    async fn look(&self) -> Result<(), String> {
        let this = ListParams::default().fields(&format!("metadata.name={NAME}"));
        let listed = timeout(PATIENCE, self.api().list(&this)).await;
        let listed = listed.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
        let listed = listed.map_err(|error| error.to_string())?;
        self.state().there = listed.items.first().map(There::of);
        Ok(())
    }

    /// Deletes the ConfigMap, unless it was written since every status said what it holds.
    async fn delete(&self) {
        let there = {
            let state = self.state();
            state.there.clone().filter(|_| state.is_said)
        };
        let Some(there) = there.filter(|_| self.replica.leads()) else {
            return;
        };
        let only_this = Preconditions {
            resource_version: Some(there.version),
            uid: None,
        };
        let params = DeleteParams {
            preconditions: Some(only_this),
            ..DeleteParams::default()
        };
        // What is left is deleted after the next change that the watch shows.
        match timeout(PATIENCE, self.api().delete(NAME, &params)).await {
            Ok(Ok(_)) => self.state().there = None,
            Ok(Err(error)) => {
                tracing::debug!(%error, "failed to delete flips that every status says");
                self.state().is_said = false;
            }
            Err(_) => self.state().is_said = false,
        }
    }
}

fn refused(why: &str) -> Result<(), FlipWriteError> {
    Err(FlipWriteError::Refused(why.into()))
}

/// Answers those of which a flip as late is there; the others are left.
fn refuse_earlier(waiting: BTreeMap<Arc<str>, Waiting>, there: &Flips) -> BTreeMap<Arc<str>, Waiting> {
    let mut left = BTreeMap::new();
    for (uid, one) in waiting {
        match there.get(&uid).filter(|there| there.epoch >= one.standing.epoch) {
            Some(there) => answer_one(one, Err(FlipWriteError::Conflict(Arc::clone(there)))),
            None => {
                left.insert(uid, one);
            }
        }
    }
    left
}

fn answer(waiting: BTreeMap<Arc<str>, Waiting>, result: &Result<(), FlipWriteError>) {
    for one in waiting.into_values() {
        answer_one(one, result.clone());
    }
}

fn answer_one(one: Waiting, result: Result<(), FlipWriteError>) {
    // A task that has ceased to wait is gone.
    let _ = one.done.send(result);
}
