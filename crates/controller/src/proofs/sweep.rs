//! Deletes what an operator has left behind that ended while its pods ran.

use std::sync::Arc;
use std::time::Duration;

use catamaran_api::annotations::{PROOF, WRITTEN_BY};
use catamaran_api::mirror::RegistryMirror;
use catamaran_core::mirror::proof::reading::LIMIT;
use catamaran_lease as lease;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Resource as _, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use super::{Proofs, delete};
use crate::context::Context;

/// How often a leader looks.
const PERIOD: Duration = Duration::from_mins(5);

/// A pod that stands for so long is not waited for by anyone.
const OLDEST: Duration = LIMIT.saturating_add(Duration::from_mins(5));

/// Sweeps until `shutdown`: at once when this replica begins to lead, and from time to time.
pub async fn run(context: Arc<Context>, proofs: Arc<Proofs>, shutdown: CancellationToken) {
    let leadership = context.leadership.clone();
    lease::in_each_term(leadership, &shutdown, || lead(&context, &proofs)).await;
}

async fn lead(context: &Context, proofs: &Proofs) {
    loop {
        for namespace in &*proofs.namespaces {
            sweep(context, proofs, namespace).await;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn sweep(context: &Context, proofs: &Proofs, namespace: &str) {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let params = ListParams::default().labels(PROOF);
    let pods = match api.list(&params).await {
        Ok(pods) => pods.items,
        Err(error) => {
            tracing::warn!(namespace, %error, "failed to look for proof pods that were left behind");
            return;
        }
    };
    let now = context.clock.now();
    for pod in pods.iter().filter(|pod| is_left(pod, &proofs.maker.identity, now)) {
        tracing::info!(
            namespace,
            pod = pod.name_any(),
            "deleting a proof pod that was left behind"
        );
        delete(&api, pod).await;
    }
}

/// Whether nobody waits for this pod. Anybody can write a label: it must also belong to a mirror.
pub(super) fn is_left(pod: &Pod, identity: &str, now: Timestamp) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| owner.controller == Some(true));
    let (group, kind) = (RegistryMirror::group(&()), RegistryMirror::kind(&()));
    let is_ours = owners.any(|owner| owner.api_version.starts_with(&format!("{group}/")) && owner.kind == kind);
    let is_own = pod.annotations().get(WRITTEN_BY).is_some_and(|by| by == identity);
    let created = pod.creation_timestamp().map(|created| created.0);
    let age = created.map(|created| now.duration_since(created).unsigned_abs());
    is_ours && (!is_own || age.is_some_and(|age| age > OLDEST))
}
