//! Keeps the evidence of mirrors in `ConfigMaps`, where every replica reads it.
//!
//! One ConfigMap holds one group, with the group's revision beside it as an annotation, so that a new leader sees from
//! metadata alone which of them differ from what it knows, and a changed tag rewrites one small object. Groups of a new
//! size are all written before those of the old size are deleted. Nothing is written while nothing changes.
//!
//! Every write is guarded by the `resourceVersion` that was seen before, and the lease is asked right before it. A leader
//! of the past that writes late either loses, or is seen by the watch and overwritten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_api::annotations;
use catamaran_api::mirror::RegistryMirror;
use catamaran_core::routing::evidence::{Group, GroupPlace};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource as _, ResourceExt};
use tokio::sync::Semaphore;

use super::{MirrorObject, Replica, owned_by};
use crate::events::CONTROLLER;

mod error;
mod known;

pub use error::{EvidenceWriteError, WriteFailure};
pub(crate) use known::Sighting;
use known::{Known, There};

/// The key of a group in its ConfigMap.
pub const KEY: &str = "evidence";

/// The pause after the first failed write; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Mirrors whose evidence is written at a time. Each has a connection of its own meanwhile: of a thousand mirrors that a leader begins
/// to lead, the API server would refuse some.
const AT_A_TIME: usize = 4;
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The name of the ConfigMap of a mirror's group.
pub(crate) fn config_map_name(mirror: &str, place: GroupPlace) -> String {
    format!("{}{place}", prefix(mirror))
}

fn prefix(mirror: &str) -> String {
    format!("catamaran-evidence-{mirror}-")
}

/// All places of the size that these are of.
fn of_one_size(places: &[GroupPlace]) -> impl Iterator<Item = GroupPlace> + use<> {
    let bits = places.first().map_or(0, |place| place.bits);
    (0..1 << bits).map(move |index| GroupPlace { bits, index })
}

/// The UID of the mirror that owns a ConfigMap.
pub(crate) fn mirror_uid(config_map: &impl ResourceExt) -> Option<&str> {
    let owners = config_map.owner_references().iter();
    let mut mirrors = owners.filter(|owner| owner.kind == RegistryMirror::kind(&()));
    mirrors.next().map(|owner| owner.uid.as_str())
}

/// What a write has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `ConfigMaps` that were created or changed.
    pub written: usize,
    /// `ConfigMaps` that were deleted because their group no longer exists.
    pub deleted: usize,
    /// Groups whose ConfigMap is not there and that were not among those given: give them to the next write.
    pub missing: Vec<GroupPlace>,
}

/// Writes evidence. One for the process; each mirror's writes follow one another, and those of a few mirrors are under way at a time.
#[derive(Debug)]
pub struct EvidenceStore {
    replica: Replica,
    mirrors: Mutex<HashMap<Arc<str>, Arc<Stored>>>,
    writing: Semaphore,
}

/// The `ConfigMaps` of one mirror.
#[derive(Debug, Default)]
struct Stored {
    writing: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

impl Stored {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one call of [`EvidenceStore::write`] is about.
struct Job<'j> {
    api: Api<ConfigMap>,
    mirror: &'j MirrorObject,
    name: &'j str,
    stored: &'j Stored,
}

impl EvidenceStore {
    /// A store that has seen nothing: its first write for each mirror lists what is there.
    pub fn new(replica: &Replica) -> EvidenceStore {
        EvidenceStore {
            replica: replica.clone(),
            mirrors: Mutex::default(),
            writing: Semaphore::new(AT_A_TIME),
        }
    }

    /// Writes `groups`, as far as they differ from what is there. `all` are the places of the groups that hold anything, all
    /// of one size; the others of that size are written as empty ones, so that what they held before is used no longer. Once
    /// that size is complete, `ConfigMaps` of other groups are deleted. Only the leader's writes are sent.
    ///
    /// A leader's first call lists what is there and writes only what differs: pass every group.
    ///
    /// # Errors
    /// An [`EvidenceWriteError`] at the first request that failed, with the time to wait before the next attempt. What was
    /// written until then stays; give the same groups again.
    pub async fn write(
        &self,
        mirror: &MirrorObject,
        groups: &[(GroupPlace, Group)],
        all: &[GroupPlace],
    ) -> Result<Written, EvidenceWriteError> {
        if mirror.deleted {
            // The garbage collector deletes its `ConfigMaps`, perhaps before it.
            return Ok(Written::default());
        }
        let stored = self.stored(&mirror.id.uid);
        let _writing = stored.writing.lock().await;
        // Nobody closes it.
        let _turn = self.writing.acquire().await.ok();
        let job = Job {
            api: Api::namespaced(self.replica.client.clone(), &self.replica.namespace),
            mirror,
            name: &mirror.id.name,
            stored: &stored,
        };
        let result = self.write_all(&job, groups, all).await;
        let mut known = stored.known();
        match &result {
            Ok(_) => known.succeeded(),
            Err(_) => known.failed(),
        }
        let retry_after = pause(known.failures());
        result.map_err(|error| error.retry_after(retry_after))
    }

    /// Forgets mirrors that are gone.
    pub fn retain(&self, existing: &BTreeSet<Arc<str>>) {
        self.mirrors().retain(|uid, _| existing.contains(uid));
    }

    /// Notes what the watch shows of a ConfigMap: whether what this replica wrote as the leader was deleted or changed by
    /// others, so that all groups of the mirror are to be written again.
    pub(crate) fn is_lost(&self, sighting: &Sighting) -> bool {
        let stored = self.stored(&sighting.uid);
        let mut known = stored.known();
        if !self.replica.leads() {
            known.forget();
        }
        known.is_lost(sighting)
    }

    /// The same of what a list did not show: the UIDs of mirrors whose `ConfigMaps` are not all among those that `listed` knows.
    pub(crate) fn unlisted(&self, listed: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        if !self.replica.leads() {
            return Vec::new();
        }
        let mirrors = self.mirrors();
        let lost = mirrors.iter().filter(|(_, stored)| stored.known().lacks_any(&listed));
        lost.map(|(uid, _)| Arc::clone(uid)).collect()
    }

    fn mirrors(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Stored>>> {
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, uid: &str) -> Arc<Stored> {
        Arc::clone(self.mirrors().entry(uid.into()).or_default())
    }

    async fn write_all(
        &self,
        job: &Job<'_>,
        groups: &[(GroupPlace, Group)],
        all: &[GroupPlace],
    ) -> Result<Written, EvidenceWriteError> {
        self.still_leading()?;
        self.look(job).await?;
        let mut done = Written::default();
        if all.is_empty() && job.stored.known().is_empty() {
            return Ok(done);
        }
        let complete: BTreeMap<String, GroupPlace> = of_one_size(all)
            .map(|place| (config_map_name(job.name, place), place))
            .collect();
        for (name, place) in &complete {
            let given = groups.iter().find(|(given, _)| given == place).map(|(_, group)| group);
            let empty = (!all.contains(place)).then(|| Group::builder(*place).build());
            let Some(group) = empty.as_ref().or(given) else {
                continue;
            };
            let uid = &job.mirror.id.uid;
            if !job.stored.known().is_current(name, uid, group.revision()) {
                self.put(job, name, group).await?;
                done.written += 1;
            }
        }
        done.missing = job.stored.known().missing(&complete);
        if done.missing.is_empty() {
            done.deleted = self.delete_all_but(job, &complete).await?;
        }
        Ok(done)
    }

    /// Lists what there is, if that is not known.
    async fn look(&self, job: &Job<'_>) -> Result<(), EvidenceWriteError> {
        if job.stored.known().is_listed() {
            return Ok(());
        }
        let of_mirror = ListParams::default().labels(&format!("{}={}", annotations::EVIDENCE, job.name));
        let there = list(&job.api, &of_mirror).await?;
        job.stored.known().listed(there);
        Ok(())
    }

    async fn put(&self, job: &Job<'_>, name: &str, group: &Group) -> Result<(), EvidenceWriteError> {
        self.still_leading()?;
        let revision = group.revision();
        let config_map = self.config_map(job, name, group);
        let version = job.stored.known().begin(name, Some(revision));
        let result = match version {
            Some(version) => replace(&job.api, config_map, version).await,
            None => create(&job.api, config_map).await,
        };
        let mut known = job.stored.known();
        known.end();
        known.put(name, There::of(&result?));
        Ok(())
    }

    async fn delete_all_but(
        &self,
        job: &Job<'_>,
        names: &BTreeMap<String, GroupPlace>,
    ) -> Result<usize, EvidenceWriteError> {
        let prefix = prefix(job.name);
        let stale = job
            .stored
            .known()
            .others(|name| name.starts_with(&prefix) && !names.contains_key(name));
        for (name, version) in &stale {
            self.still_leading()?;
            let only_this = Preconditions {
                resource_version: Some(version.clone()),
                uid: None,
            };
            let params = DeleteParams {
                preconditions: Some(only_this),
                ..DeleteParams::default()
            };
            job.stored.known().begin(name, None);
            let deleted = job.api.delete(name, &params).await;
            let mut known = job.stored.known();
            known.end();
            deleted.map_err(EvidenceWriteError::from)?;
            known.remove(name);
        }
        Ok(stale.len())
    }

    fn config_map(&self, job: &Job<'_>, name: &str, group: &Group) -> ConfigMap {
        let marks = [
            (annotations::WRITTEN_BY, self.replica.identity.clone()),
            (annotations::REVISION, known::revision(group.revision())),
        ];
        let label = (annotations::EVIDENCE.to_owned(), job.name.to_owned());
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([label])),
                annotations: Some(marks.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
                owner_references: Some(vec![OwnerReference {
                    controller: Some(true),
                    block_owner_deletion: Some(true),
                    ..owned_by(&job.mirror.id)
                }]),
                ..ObjectMeta::default()
            },
            binary_data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(group.encode()))])),
            ..ConfigMap::default()
        }
    }

    /// Asked right before each write: a process that was frozen since it decided must not write late.
    fn still_leading(&self) -> Result<(), EvidenceWriteError> {
        if self.replica.leads() {
            Ok(())
        } else {
            Err(EvidenceWriteError::not_leading())
        }
    }
}

/// Metadata of what there is, by name.
async fn list(api: &Api<ConfigMap>, which: &ListParams) -> Result<BTreeMap<String, There>, EvidenceWriteError> {
    let found = api.list_metadata(which).await?.items;
    Ok(found.iter().map(|found| (found.name_any(), There::of(found))).collect())
}

async fn replace(
    api: &Api<ConfigMap>,
    mut config_map: ConfigMap,
    version: String,
) -> Result<ConfigMap, EvidenceWriteError> {
    config_map.metadata.resource_version = Some(version);
    let params = PatchParams::apply(CONTROLLER).force();
    let name = config_map.name_any();
    Ok(api.patch(&name, &params, &Patch::Apply(&config_map)).await?)
}

async fn create(api: &Api<ConfigMap>, config_map: ConfigMap) -> Result<ConfigMap, EvidenceWriteError> {
    let params = PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, &config_map).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            // Another leader has created it since: a conflict. Or its label was removed: it is added again.
            let name = config_map.name_any();
            let unlabelled = format!("!{}", annotations::EVIDENCE);
            let this = ListParams::default()
                .fields(&format!("metadata.name={name}"))
                .labels(&unlabelled);
            match list(api, &this).await?.remove(&name) {
                Some(there) => replace(api, config_map, there.version).await,
                None => Err(kube::Error::Api(status).into()),
            }
        }
        created => Ok(created?),
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
