//! Carries out what the core plans for pods that wait for an image: patches, replacements, and words where nothing helps.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use catamaran_core::policy::MirrorId;
use catamaran_core::rescue::{RescueAction, RescueReport, plan};
use catamaran_core::routes::RouteTable;
use catamaran_core::side::Sides;
use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt as _};
use tokio::sync::Mutex as AsyncMutex;

use crate::context::{CONTROLLER, Context};
use crate::events;

mod facts;
mod patch;
#[cfg(test)]
mod tests;
mod words;

pub use facts::waits_for_an_image;
pub use words::Publisher;
use words::Words;

/// Time between two patches: at most 100 a second, so that a rescue of thousands does not starve the API server.
const PACE: Duration = Duration::from_millis(10);

/// What a rest is worth: as many patches may follow each other at once.
const CREDIT: Duration = Duration::from_millis(200);

/// Patches under way at a time: enough that the pace is the limit, also with an API server that takes half a second.
const AT_A_TIME: usize = 32;

/// How long the pods of one `ReplicaSet` are not replaced again, only patched.
const REPLACE_AGAIN: Duration = Duration::from_mins(5);

/// How long the first pods of a `ReplicaSet` are replaced together.
const SETTLE: Duration = Duration::from_secs(5);

/// Pods whose trouble was told and is not told again; forgotten when there are too many.
const MAX_TOLD: usize = 10_000;

/// Rescues pods at a bounded pace.
pub struct Rescuer<'c> {
    context: &'c Arc<Context>,
    pace: AsyncMutex<Instant>,
    touched: Mutex<HashSet<MirrorId>>,
    told: Mutex<HashSet<(String, RescueReport)>>,
    replaced: Mutex<HashMap<String, Instant>>,
    /// The version of each pod that was acted on: what is seen of it until the next one is what it was before.
    acted: Mutex<HashMap<String, String>>,
    words: Words,
}

impl<'c> Rescuer<'c> {
    /// A rescuer with nothing told yet, and what publishes the Events that it has for pods.
    pub fn new(context: &'c Arc<Context>) -> (Rescuer<'c>, Publisher) {
        let (words, publisher) = words::channel();
        let rescuer = Rescuer {
            context,
            pace: AsyncMutex::new(Instant::now()),
            touched: Mutex::default(),
            told: Mutex::default(),
            replaced: Mutex::default(),
            acted: Mutex::default(),
            words,
        };
        (rescuer, publisher)
    }

    /// Rescues all of these, several at a time.
    pub async fn rescue_all(&self, pods: Vec<Arc<Pod>>) {
        stream::iter(pods)
            .for_each_concurrent(AT_A_TIME, |pod| async move { self.rescue(&pod).await })
            .await;
    }

    /// Does for one pod what can be done now.
    pub async fn rescue(&self, pod: &Pod) {
        if pod.metadata.deletion_timestamp.is_some() || self.is_excluded(pod) || self.has_acted_on(pod) {
            return;
        }
        let table = self.context.table.borrow().clone();
        let mut patches = Vec::new();
        for action in self.plan(pod, &table) {
            match action {
                RescueAction::Patch { .. } => patches.push(action),
                RescueAction::Replace { reason } => return self.replace(pod, &table, &reason).await,
                RescueAction::Report(report) => self.tell(pod, report),
            }
        }
        if !patches.is_empty() {
            self.patch(pod, &patches).await;
        }
    }

    fn plan(&self, pod: &Pod, table: &RouteTable) -> Vec<RescueAction> {
        let health = |id: &MirrorId| {
            let memory = self.context.memories.get(id)?;
            let policy = &table.route(id)?.policy;
            let state = memory.state();
            Some(Sides::from_fn(|side| state.probes[side].availability(&policy.health)))
        };
        let Some(mut waiting) = facts::waiting_pod(pod) else {
            return Vec::new();
        };
        // A replacement that waits for the same dead registry was not rewritten, so another one would not be either.
        waiting.owner_is_replica_set &= !self.replaced_of_late(pod);
        plan(&waiting, table, &health)
    }

    /// Waits so that no more than one in [`PACE`] goes on, with a little credit after a rest.
    async fn wait_for_a_turn(&self) {
        let mut next = self.pace.lock().await;
        let now = Instant::now();
        *next = (*next + PACE).max(now.checked_sub(CREDIT).unwrap_or(now));
        tokio::time::sleep(next.saturating_duration_since(now)).await;
    }

    /// Has the mirrors of pods that were rescued since the last call tell of it.
    pub fn report(&self) {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        for mirror in &touched {
            self.context.trigger(mirror);
        }
    }

    /// Whether admission leaves this pod alone, too, by its namespace.
    fn is_excluded(&self, pod: &Pod) -> bool {
        let excluded = &self.context.excluded_namespaces;
        pod.namespace().is_some_and(|namespace| excluded.contains(&namespace))
    }

    fn has_acted_on(&self, pod: &Pod) -> bool {
        let acted = self.acted.lock().unwrap_or_else(PoisonError::into_inner);
        let version = pod.metadata.uid.as_ref().and_then(|uid| acted.get(uid));
        version.is_some() && version == pod.metadata.resource_version.as_ref()
    }

    fn note_acted_on(&self, pod: &Pod) {
        let mut acted = self.acted.lock().unwrap_or_else(PoisonError::into_inner);
        if acted.len() >= MAX_TOLD {
            acted.clear();
        }
        if let (Some(uid), Some(version)) = (&pod.metadata.uid, &pod.metadata.resource_version) {
            acted.insert(uid.clone(), version.clone());
        }
    }

    fn touch(&self, mirror: &MirrorId) {
        if let Some(memory) = self.context.memories.get(mirror) {
            memory.count_rescued();
            self.touched
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(mirror.clone());
        }
    }

    fn replaced_of_late(&self, pod: &Pod) -> bool {
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = facts::owner(pod).and_then(|owner| replaced.get(owner));
        replaced.is_some_and(|at| at.elapsed() < REPLACE_AGAIN && at.elapsed() > SETTLE)
    }

    fn note_replaced(&self, pod: &Pod) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.retain(|_, at| at.elapsed() < REPLACE_AGAIN);
        if let Some(owner) = facts::owner(pod) {
            replaced.entry(owner.to_owned()).or_insert_with(Instant::now);
        }
    }

    async fn patch(&self, pod: &Pod, patches: &[RescueAction]) {
        let Some(patch) = patch::json_patch(pod, patches) else {
            return;
        };
        self.wait_for_a_turn().await;
        if !self.context.leads() {
            return;
        }
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let written = self
            .api(pod)
            .patch(&pod.name_any(), &params, &Patch::Json::<()>(patch))
            .await;
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        match written {
            Ok(_) => {
                self.note_acted_on(pod);
                tracing::info!(namespace, name, containers = patches.len(), "re-pointed a waiting pod");
                self.count(patches, "patched");
                self.words.say(pod, &events::RESCUED, &patch::describe(patches));
            }
            // It has changed or gone since it was seen: the next look decides anew.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                tracing::debug!(namespace, name, status.code, "a waiting pod has changed meanwhile");
            }
            Err(error) => {
                tracing::warn!(namespace, name, %error, "failed to re-point a waiting pod");
                self.count(patches, "failed");
            }
        }
    }

    fn count(&self, patches: &[RescueAction], kind: &'static str) {
        let mirrors: HashSet<&MirrorId> = patches.iter().filter_map(patch::mirror).collect();
        for mirror in mirrors {
            self.context.metrics.rescued(&mirror.name, kind);
            if kind != "failed" {
                self.touch(mirror);
            }
        }
    }

    async fn replace(&self, pod: &Pod, table: &RouteTable, reason: &str) {
        self.wait_for_a_turn().await;
        if !self.context.leads() {
            return;
        }
        let only_this = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let params = DeleteParams {
            preconditions: Some(only_this),
            ..DeleteParams::default()
        };
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        match self.api(pod).delete(&name, &params).await {
            Ok(_) => {
                self.note_acted_on(pod);
                self.note_replaced(pod);
                tracing::info!(namespace, name, reason, "replaced a waiting pod");
                for mirror in facts::mirrors(pod, table) {
                    self.context.metrics.rescued(&mirror.name, "replaced");
                    self.touch(&mirror);
                }
                let note = format!("deleted so that its ReplicaSet makes one that can start: {reason}");
                self.words.say(pod, &events::REPLACED, &note);
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => tracing::warn!(namespace, name, %error, "failed to replace a waiting pod"),
        }
    }

    /// Says once for each pod what can't be helped.
    fn tell(&self, pod: &Pod, report: RescueReport) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= MAX_TOLD {
                told.clear();
            }
            if !told.insert((pod.uid().unwrap_or_default(), report.clone())) {
                return;
            }
        }
        let (event, note) = match report {
            RescueReport::ImageVolumeStuck { reference } => {
                let note = format!(
                    "the image volume '{reference}' can't be re-pointed in a pod that exists; delete the pod, or set rescue.mode: PatchOrReplace"
                );
                (&events::STUCK, note)
            }
            RescueReport::EphemeralContainerStuck { name, reference } => {
                let note = format!(
                    "the ephemeral container '{name}' can't be re-pointed from '{reference}'; start another under a new name"
                );
                (&events::STUCK, note)
            }
            RescueReport::MissingPullSecret { name } => {
                let note = format!(
                    "the pod has no pull secret '{name}' for the registry it is re-pointed to, and can't be given one any more; delete the pod if the pull is denied"
                );
                (&events::PULL_SECRET_MISSING, note)
            }
        };
        self.words.say(pod, event, &note);
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), &pod.namespace().unwrap_or_default())
    }
}
