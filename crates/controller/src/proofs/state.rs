//! What of a pod's status counts.

use catamaran_core::mirror::proof::reading::{ContainerState, PodState};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::pod::name;

/// Reads a proof pod. Containers that an injector has added are none of its images.
pub(super) fn of(pod: &Pod) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    let failed = status.phase.as_deref() == Some("Failed");
    let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let statuses = status.container_statuses.unwrap_or_default();
    let own = (0..containers).map(name).filter(|name| has(pod, name));
    PodState {
        is_taken: status.start_time.is_some(),
        failed: failed.then(|| (status.reason.unwrap_or_default(), status.message.unwrap_or_default())),
        containers: own
            .map(|name| {
                let status = statuses.iter().find(|status| status.name == name);
                status.map(container).unwrap_or_default()
            })
            .collect(),
    }
}

fn has(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| spec.containers.iter().any(|container| container.name == name))
}

fn container(status: &ContainerStatus) -> ContainerState {
    let Some(state) = &status.state else {
        return ContainerState::Creating;
    };
    if let Some(waiting) = &state.waiting {
        return ContainerState::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: waiting.message.clone().unwrap_or_default(),
        };
    }
    let is_unknown = |reason: Option<&str>| reason == Some("ContainerStatusUnknown");
    match &state.terminated {
        // Of a container that the kubelet never made, or no longer knows.
        Some(ended) if is_unknown(ended.reason.as_deref()) => ContainerState::Creating,
        Some(_) => ContainerState::Started,
        None if state.running.is_some() => ContainerState::Started,
        None => ContainerState::Creating,
    }
}
