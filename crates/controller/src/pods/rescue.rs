//! Carries out what the core plans for pods that wait for an image: patches, replacements, and Events where nothing helps.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_core::policy::MirrorId;
use catamaran_core::rescue::{ImagePatch, RescueAction, RescueReport, plan, wanted};
use catamaran_core::side::Side;
use futures::stream::{self, StreamExt as _};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::{Refusal, refusal};
use super::memory::Memory;
use super::pace::Pace;
use super::patch::{describe, json_patch, set_back};
use super::reader::PodObject;
use super::record::PodRecord;
use super::refusals::Attempt;
use super::scope::ScopedTable;
use super::waiting::Waiting;
use super::words::{PodEvents, Publisher, channel};
use super::{FIELD_MANAGER, PodsContext};
use crate::events;

/// How often a pod that changes under our hands is looked at again at once.
const LOOKS: usize = 3;

/// How often suspects are read again that were not for a while.
const REFRESH: Duration = Duration::from_secs(5);

/// Suspects read at a time.
const READ_AT_A_TIME: usize = 4;

/// Rescues pods at a bounded pace.
pub(crate) struct Rescuer<'c> {
    context: &'c PodsContext,
    waiting: &'c Mutex<Waiting>,
    table: watch::Receiver<ScopedTable>,
    pace: Pace,
    memory: Mutex<Memory>,
    events: PodEvents,
}

/// What there is to do for a pod now.
enum Step {
    Nothing,
    Patch(Vec<ImagePatch>),
    Replace { mirror: MirrorId, reason: String },
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// There is nothing more to do.
    Done,
    /// The pod has changed meanwhile.
    Changed,
    /// There is another way to try.
    OtherWay,
}

impl<'c> Rescuer<'c> {
    /// A rescuer of these pods that has done nothing yet, and what publishes the Events that it has for pods.
    pub(crate) fn new(
        context: &'c PodsContext,
        waiting: &'c Mutex<Waiting>,
        table: watch::Receiver<ScopedTable>,
    ) -> (Rescuer<'c>, Publisher) {
        let (events, publisher) = channel();
        let rescuer = Rescuer {
            context,
            waiting,
            table,
            pace: Pace::new(),
            memory: Mutex::new(Memory::new()),
            events,
        };
        (rescuer, publisher)
    }

    /// Does for one pod what can be done now. Whatever was read of it by then, what is written applies to that very version
    /// only.
    pub(crate) async fn rescue(&self, uid: &str) {
        tokio::task::coop::consume_budget().await;
        for _ in 0..LOOKS {
            let Some(pod) = self.pod(uid) else { return };
            if matches!(self.step(&pod), Step::Nothing) {
                return;
            }
            self.pace.wait().await;
            // It may have started while it waited for its time.
            let Some(pod) = self.pod(uid) else { return };
            let step = self.step(&pod);
            let is_outdated = !pod.is_of(&self.table.borrow().scope);
            if !self.context.leads() {
                return;
            }
            if is_outdated {
                self.look_again(&pod).await;
                continue;
            }
            match self.carry_out(&pod, &step).await {
                Outcome::Done => return,
                Outcome::OtherWay => {}
                Outcome::Changed => {
                    let was_read = self.look_again(&pod).await;
                    self.explain(&pod, &step, was_read);
                }
            }
        }
    }

    /// Reads suspects again, for as long as this replica leads: no watch tells what has become of them.
    pub(crate) async fn refresh(&self) {
        loop {
            tokio::time::sleep(REFRESH).await;
            let outdated = self.waiting().outdated_suspects(Instant::now());
            let reads = stream::iter(outdated).map(|pod| async move { self.look_again(&pod).await });
            reads.buffer_unordered(READ_AT_A_TIME).count().await;
        }
    }

    /// Reports how many pods were rescued since the last call.
    pub(crate) fn report(&self) {
        let rescued = std::mem::take(&mut self.memory().rescued);
        for (mirror, pods) in rescued {
            self.context.reports.rescued(&mirror, pods);
        }
    }

    fn pod(&self, uid: &str) -> Option<Arc<PodRecord>> {
        self.waiting().get(uid)
    }

    fn step(&self, pod: &PodRecord) -> Step {
        let now = Instant::now();
        let table = Arc::clone(&self.table.borrow().table);
        let labels = pod.labels();
        let mut memory = self.memory();
        let mut waiting = pod.waiting(&labels, memory.replacement(pod, now));
        let unnoted = memory.unnoted(&pod.uid);
        for container in &mut waiting.containers {
            container.repointed = container.repointed.or_else(|| unnoted.get(container.name));
        }
        for wanted in wanted(&waiting, &table) {
            memory.wants.add(&pod.namespace, wanted, now);
        }
        for ((mirror, is_urgent), references) in memory.wants.take() {
            self.context.reports.wanted(&mirror, references, is_urgent);
        }
        let hangs = |mirror: &MirrorId, side: Side| self.context.reports.hangs(mirror, side);
        let mut patches = Vec::new();
        for action in plan(&waiting, &table, &hangs) {
            match action {
                RescueAction::Patch(patch) => patches.push(patch),
                RescueAction::Replace { mirror, reason } => return Step::Replace { mirror, reason },
                RescueAction::Report(report) if memory.is_first(&pod.uid, &report) => self.tell(pod, report),
                RescueAction::Report(_) => {}
            }
        }
        if patches.is_empty() || memory.refusals.hold_back(&pod.uid, Attempt::patches(&patches), now) {
            return Step::Nothing;
        }
        Step::Patch(patches)
    }

    async fn carry_out(&self, pod: &PodRecord, step: &Step) -> Outcome {
        match step {
            Step::Nothing => Outcome::Done,
            Step::Patch(patches) => self.patch(pod, patches).await,
            Step::Replace { mirror, reason } => self.replace(pod, mirror, reason).await,
        }
    }

    /// A patch that can't be applied is answered like one that came too late. If the pod has not changed, it was not that.
    fn explain(&self, before: &PodRecord, step: &Step, was_read: bool) {
        let now = self.pod(&before.uid);
        let is_same = now.is_some_and(|now| now.resource_version == before.resource_version);
        if let Step::Patch(patches) = step
            && was_read
            && is_same
        {
            let refusal = Refusal::Refused("the patch does not apply".to_owned());
            self.refused(before, Attempt::patches(patches), &refusal, patches);
        }
    }

    async fn patch(&self, pod: &PodRecord, patches: &[ImagePatch]) -> Outcome {
        let mut written = self.send(pod, json_patch(pod, patches, true)).await;
        if let Err(Refusal::Annotations(_)) = written {
            // The pod can do without the note.
            written = self.send(pod, json_patch(pod, patches, false)).await;
            if written.is_ok() {
                self.memory().note_repointed(&pod.uid, patches);
            }
        }
        let after = match written {
            Ok(after) => after.record,
            Err(refusal) => return self.refused(pod, Attempt::patches(patches), &refusal, patches),
        };
        let back = set_back(&after, patches);
        if !back.is_empty() {
            self.set_back(pod, patches, &back);
            self.keep(&pod.uid, Some(after));
            return Outcome::Done;
        }
        tracing::info!(
            namespace = %pod.namespace, name = %pod.name, containers = patches.len(), "re-pointed a waiting pod"
        );
        self.memory().refusals.clear(&pod.uid);
        self.count_all(patches, "patched");
        self.events.add(pod, &events::RESCUED, &describe(patches));
        self.keep(&pod.uid, Some(after));
        Outcome::Done
    }

    async fn send(&self, pod: &PodRecord, patch: json_patch::Patch) -> Result<PodObject, Refusal> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let written = self.api(pod).patch(&pod.name, &params, &Patch::Json::<()>(patch)).await;
        written.map_err(|error| refusal(&error))
    }

    /// Deals with a patch that the API server did not take.
    fn refused(&self, pod: &PodRecord, attempt: Attempt, refusal: &Refusal, patches: &[ImagePatch]) -> Outcome {
        let now = Instant::now();
        let (is_news, words) = match refusal {
            Refusal::Gone | Refusal::Changed => return Outcome::Changed,
            Refusal::Annotations(words) | Refusal::Refused(words) => {
                (self.memory().refusals.refused(&pod.uid, attempt, now), words)
            }
            Refusal::Failed(words) => (self.memory().refusals.failed(&pod.uid, attempt, now), words),
        };
        self.count_all(patches, "failed");
        let (namespace, name) = (&*pod.namespace, &*pod.name);
        if is_news {
            tracing::warn!(namespace, name, error = words, "failed to re-point a waiting pod");
            let changes = patches
                .iter()
                .map(|patch| format!("'{}' to '{}'", patch.name, patch.to));
            let changes = changes.collect::<Vec<_>>().join(", ");
            let note = format!("failed to re-point {changes}; the API server answers: {words}");
            self.events.add(pod, &events::NOT_RESCUED, &note);
        } else {
            tracing::debug!(namespace, name, error = words, "failed to re-point a waiting pod again");
        }
        Outcome::Done
    }

    /// Deals with a patch that was taken and undone in one go.
    fn set_back(&self, pod: &PodRecord, patches: &[ImagePatch], back: &[&ImagePatch]) {
        let is_news = self
            .memory()
            .refusals
            .refused(&pod.uid, Attempt::patches(patches), Instant::now());
        self.count_all(patches, "failed");
        if is_news {
            let names = back.iter().map(|patch| format!("'{}'", patch.name));
            let names = names.collect::<Vec<_>>().join(", ");
            tracing::warn!(namespace = %pod.namespace, name = %pod.name, "the image of a re-pointed pod was set back");
            let note = format!("failed to re-point {names}: another admission webhook or policy set the image back");
            self.events.add(pod, &events::NOT_RESCUED, &note);
        }
    }

    async fn replace(&self, pod: &PodRecord, mirror: &MirrorId, reason: &str) -> Outcome {
        let only_this = Preconditions {
            uid: Some(pod.uid.to_string()),
            resource_version: Some(pod.resource_version.to_string()),
        };
        let params = DeleteParams {
            preconditions: Some(only_this),
            ..DeleteParams::default()
        };
        let (namespace, name) = (&*pod.namespace, &*pod.name);
        let Err(error) = self.api(pod).delete(name, &params).await else {
            tracing::info!(namespace, name, reason, "replaced a waiting pod");
            self.memory().note_replaced(pod, Instant::now());
            self.count(mirror, "replaced");
            let note = format!("deleted so that its ReplicaSet creates one that can start: {reason}");
            self.events.add(pod, &events::REPLACED, &note);
            self.waiting().remove(&pod.uid);
            return Outcome::Done;
        };
        let (Refusal::Annotations(words) | Refusal::Refused(words) | Refusal::Failed(words)) = refusal(&error) else {
            return Outcome::Changed;
        };
        tracing::warn!(namespace, name, error = words, "failed to replace a waiting pod");
        self.count(mirror, "failed");
        // What can't be deleted can still be patched.
        if self.memory().note_undeletable(&pod.uid) {
            let note = format!("failed to delete the pod, so its image is re-pointed; the API server answers: {words}");
            self.events.add(pod, &events::NOT_RESCUED, &note);
        }
        Outcome::OtherWay
    }

    /// Reads a pod again; whether that was possible.
    async fn look_again(&self, pod: &PodRecord) -> bool {
        match self.api(pod).get_opt(&pod.name).await {
            Ok(found) => self.keep(&pod.uid, found.map(|found| found.record)),
            Err(error) => {
                let (namespace, name) = (&*pod.namespace, &*pod.name);
                tracing::debug!(namespace, name, %error, "failed to read a waiting pod");
                return false;
            }
        }
        true
    }

    /// Takes what was read of a pod.
    fn keep(&self, uid: &str, found: Option<PodRecord>) {
        let scope = Arc::clone(&self.table.borrow().scope);
        let found = found
            .filter(|found| *found.uid == *uid)
            .and_then(|found| found.keep(&scope));
        let mut waiting = self.waiting();
        match found {
            Some(found) => waiting.update(found, Instant::now()),
            None => waiting.remove(uid),
        }
    }

    fn count_all(&self, patches: &[ImagePatch], kind: &'static str) {
        let mirrors: HashSet<&MirrorId> = patches.iter().map(|patch| &patch.mirror).collect();
        for mirror in mirrors {
            self.count(mirror, kind);
        }
    }

    fn count(&self, mirror: &MirrorId, kind: &'static str) {
        self.context.metrics.rescued(&mirror.name, kind);
        if kind != "failed" {
            *self.memory().rescued.entry(mirror.clone()).or_default() += 1;
        }
    }

    fn tell(&self, pod: &PodRecord, report: RescueReport) {
        let (event, note) = match report {
            RescueReport::ImageVolumeStuck { reference } => (
                &events::STUCK,
                format!(
                    "the image volume '{reference}' can't be re-pointed in a pod that exists; delete the pod, or set rescue.mode: PatchOrReplace"
                ),
            ),
            RescueReport::EphemeralContainerStuck { name, reference } => (
                &events::STUCK,
                format!(
                    "the ephemeral container '{name}' can't be re-pointed from '{reference}'; start another under a new name"
                ),
            ),
            RescueReport::MissingPullSecret { name } => (
                &events::PULL_SECRET_MISSING,
                format!(
                    "the pod has no pull secret '{name}' for the registry it is re-pointed to, and can't be given one any more; delete the pod if the pull is denied"
                ),
            ),
        };
        self.events.add(pod, event, &note);
    }

    fn api(&self, pod: &PodRecord) -> Api<PodObject> {
        Api::namespaced(self.context.client.clone(), &pod.namespace)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
