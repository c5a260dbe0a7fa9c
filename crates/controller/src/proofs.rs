//! Proof pods: made, watched and deleted, as a mirror's machine wants them.
//!
//! A pod pulls, and runs nothing: each image is a container whose command does not exist, so that the pull is all that succeeds. It has
//! the credentials of the pods that it stands for: their service account and pull secrets, and what our own webhook adds. That webhook
//! knows it by the user who makes it, as the API server has authenticated it, and by nothing that anybody could write on a pod.
//!
//! `pod` is what a proof pod looks like, `state` reads its status, `sweep` deletes what an operator has left behind.

mod pod;
mod state;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_core::mirror::proof::ProofPod;
use catamaran_core::mirror::proof::reading::{Cause, LIMIT, Outcome, PodState, Problem, read};
use catamaran_core::policy::MirrorId;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, ResourceExt as _};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use pod::Maker;
pub use sweep::run;

/// Proof pods of all mirrors at a time.
const AT_A_TIME: usize = 8;

/// How long the API server may take to admit a pod: each webhook on the way has 30 s at most.
const PATIENCE: Duration = Duration::from_mins(1);

/// Attempts to delete a pod, and the pause between them. What still stands then is swept up later.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Makes proof pods.
pub struct Proofs {
    maker: Maker,
    /// Where they may be made.
    namespaces: Arc<BTreeSet<String>>,
    slots: Semaphore,
    /// One at a time on each node, whatever the mirror.
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Proofs {
    /// Of a replica, whose name tells its own pods from those that another one has left behind.
    pub fn new(replica: &str, namespaces: impl IntoIterator<Item = String>, now: jiff::Timestamp) -> Proofs {
        Proofs {
            // A container that was started again has the same name, and none of these pods.
            maker: Maker::new(format!("{replica}@{}", now.as_second())),
            namespaces: Arc::new(namespaces.into_iter().collect()),
            slots: Semaphore::new(AT_A_TIME),
            nodes: Mutex::default(),
        }
    }

    /// Where they may be made.
    pub fn namespaces(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.namespaces)
    }

    /// Makes a pod, waits for what comes of it, and deletes it; none where it was cancelled.
    pub(crate) async fn prove(
        &self,
        context: &Context,
        mirror: &MirrorId,
        wanted: &ProofPod,
        cancelled: &CancellationToken,
    ) -> Option<Outcome> {
        let turn = async {
            let node = self.node(&wanted.node).await;
            let slot = self.slots.acquire().await;
            (node, slot)
        };
        let _turn = tokio::select! {
            biased;
            () = cancelled.cancelled() => return None,
            turn = turn => turn,
        };
        let api: Api<Pod> = Api::namespaced(context.client.clone(), &wanted.place.namespace);
        // Not cancelled: a pod that is made and not known could not be deleted.
        let made = match self.make(context, &api, mirror, wanted).await {
            Ok(made) => made,
            Err(problem) => return Some(Outcome::Whole(problem)),
        };
        let name = made.name_any();
        let outcome = tokio::select! {
            biased;
            () = cancelled.cancelled() => None,
            outcome = outcome(&api, &name) => Some(outcome),
        };
        delete(&api, &made).await;
        outcome
    }

    async fn node(&self, name: &str) -> OwnedMutexGuard<()> {
        let node = {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.retain(|_, node| Arc::strong_count(node) > 1);
            Arc::clone(nodes.entry(name.to_owned()).or_default())
        };
        node.lock_owned().await
    }

    async fn make(
        &self,
        context: &Context,
        api: &Api<Pod>,
        mirror: &MirrorId,
        wanted: &ProofPod,
    ) -> Result<Pod, Problem> {
        let pod = self.maker.pod(mirror, wanted);
        let params = PostParams::default();
        let created = tokio::time::timeout(PATIENCE, api.create(&params, &pod)).await;
        match created {
            Ok(Ok(pod)) => Ok(pod),
            Ok(Err(kube::Error::Api(status))) => Err(match status.code {
                403 if !may_create(context, &wanted.place.namespace).await => {
                    Problem::new(Cause::NotPermitted, &status.message)
                }
                // A policy may choose the code that it refuses with.
                400..=499 if ![401, 404, 408, 409, 429].contains(&status.code) => Problem::refused(&status.message),
                _ => Problem::new(Cause::NotStarted, &status.message),
            }),
            Ok(Err(error)) => Err(Problem::new(Cause::NotStarted, &error.to_string())),
            Err(_) => Err(Problem::new(
                Cause::NotStarted,
                &format!("the API server did not answer within {} s", PATIENCE.as_secs()),
            )),
        }
    }
}

/// Whether the operator's rights allow it, which the words of a refusal alone don't say. Where that can't be asked, a policy refused.
async fn may_create(context: &Context, namespace: &str) -> bool {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some("create".to_owned()),
                resource: Some("pods".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(context.client.clone());
    match api.create(&PostParams::default(), &review).await {
        Ok(answer) => answer.status.is_none_or(|status| status.allowed),
        Err(error) => {
            tracing::debug!(namespace, %error, "failed to ask for the operator's own rights");
            true
        }
    }
}

/// What comes of a pod, at the latest when its time is up.
async fn outcome(api: &Api<Pod>, name: &str) -> Outcome {
    let seen = watch_object(api.clone(), name).default_backoff();
    follow(std::pin::pin!(seen), LIMIT).await
}

async fn follow(mut seen: impl Stream<Item = watcher::Result<Option<Pod>>> + Unpin, limit: Duration) -> Outcome {
    let end = tokio::time::Instant::now() + limit;
    let mut latest = PodState::default();
    let mut was_there = false;
    while let Ok(next) = tokio::time::timeout_at(end, seen.next()).await {
        match next {
            Some(Ok(Some(pod))) => {
                was_there = true;
                latest = state::of(&pod);
                if let Some(outcome) = read(&latest, false) {
                    return outcome;
                }
            }
            // The first answer may be older than the pod.
            Some(Ok(None)) if was_there => {
                return Outcome::Whole(Problem::new(Cause::NotStarted, "the pod was deleted"));
            }
            Some(Ok(None)) => {}
            Some(Err(error)) => tracing::debug!(%error, "failed to watch a proof pod"),
            None => break,
        }
    }
    read(&latest, true).unwrap_or_else(|| Outcome::Whole(Problem::new(Cause::NotStarted, "the pod was not seen")))
}

async fn delete(api: &Api<Pod>, pod: &Pod) {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let name = pod.name_any();
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(PATIENCE, api.delete(&name, &params)).await {
            Ok(Ok(_)) => return,
            // It is gone, or another one has its name.
            Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => return,
            Ok(Err(error)) => tracing::warn!(pod = name, %error, "failed to delete a proof pod"),
            Err(_) => tracing::warn!(pod = name, "failed to delete a proof pod in time"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
