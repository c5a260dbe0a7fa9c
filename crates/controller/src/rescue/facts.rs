//! A Kubernetes Pod in the core's words.

use std::collections::HashMap;

use catamaran_api::annotations;
use catamaran_core::policy::MirrorId;
use catamaran_core::reference::Reference;
use catamaran_core::rescue::{ContainerKind, ContainerState, WaitingContainer, WaitingPod};
use catamaran_core::routes::{Owner, PodFacts, RouteTable};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

/// The annotation by which the kubelet marks the mirror pods of static pods.
const STATIC_POD: &str = "kubernetes.io/config.mirror";

/// Whether some container of a pod waits for an image; the kubelet has said so.
pub fn waits_for_an_image(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut statuses = lists.into_iter().flatten().flatten();
    statuses.any(|status| {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        matches!(
            reason,
            Some("ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable")
        )
    })
}

/// The UID of the object that controls a pod.
pub fn owner(pod: &Pod) -> Option<&str> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    owners
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.as_str())
}

/// The pod as the plan looks at it.
pub fn waiting_pod(pod: &Pod) -> Option<WaitingPod<'_>> {
    let spec = pod.spec.as_ref()?;
    let owner = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    let label = |key: &str| pod.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let facts = PodFacts {
        namespace: pod.metadata.namespace.as_deref().unwrap_or_default(),
        rewrite_label: label(annotations::REWRITE),
        owner_kind: owner.map(|owner| Owner {
            api_version: &owner.api_version,
            kind: &owner.kind,
        }),
        is_static: pod
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|noted| noted.contains_key(STATIC_POD)),
    };
    let volumes = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    let secrets = spec
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|secret| secret.name.as_str());
    Some(WaitingPod {
        facts,
        containers: containers(spec, pod.status.as_ref()),
        image_volumes: volumes.collect(),
        pull_secrets: secrets.collect(),
        owner_is_replica_set: facts.owner_kind.is_some_and(|owner| owner.kind == "ReplicaSet"),
    })
}

/// The containers of all three lists, with what the kubelet says of each.
fn containers<'a>(spec: &'a PodSpec, status: Option<&'a PodStatus>) -> Vec<WaitingContainer<'a>> {
    let told = |list: fn(&PodStatus) -> Option<&Vec<ContainerStatus>>| told(status.and_then(list));
    let inits = told(|status| status.init_container_statuses.as_ref());
    let apps = told(|status| status.container_statuses.as_ref());
    let ephemerals = told(|status| status.ephemeral_container_statuses.as_ref());
    let of_list = |kind, list: &'a [Container], statuses: &Statuses<'a>| -> Vec<WaitingContainer<'a>> {
        let place = |(index, container): (usize, &'a Container)| {
            let place = Place {
                kind,
                index,
                name: &container.name,
            };
            waiting(
                place,
                container.image.as_deref(),
                container.image_pull_policy.as_deref(),
                statuses,
            )
        };
        list.iter().enumerate().filter_map(place).collect()
    };
    let mut all = of_list(
        ContainerKind::Init,
        spec.init_containers.as_deref().unwrap_or_default(),
        &inits,
    );
    all.extend(of_list(ContainerKind::App, &spec.containers, &apps));
    all.extend(
        spec.ephemeral_containers
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, container)| {
                let place = Place {
                    kind: ContainerKind::Ephemeral,
                    index,
                    name: &container.name,
                };
                waiting(
                    place,
                    container.image.as_deref(),
                    container.image_pull_policy.as_deref(),
                    &ephemerals,
                )
            }),
    );
    all
}

type Statuses<'a> = HashMap<&'a str, &'a ContainerStatus>;

fn told(statuses: Option<&Vec<ContainerStatus>>) -> Statuses<'_> {
    statuses
        .into_iter()
        .flatten()
        .map(|status| (status.name.as_str(), status))
        .collect()
}

/// Where a container stands in a pod's spec.
#[derive(Clone, Copy)]
struct Place<'a> {
    kind: ContainerKind,
    index: usize,
    name: &'a str,
}

fn waiting<'a>(
    place: Place<'a>,
    image: Option<&'a str>,
    pull_policy: Option<&str>,
    statuses: &Statuses<'a>,
) -> Option<WaitingContainer<'a>> {
    let status = statuses.get(place.name).copied();
    let started_before = status.is_some_and(|status| {
        status.restart_count > 0 || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
    });
    Some(WaitingContainer {
        kind: place.kind,
        index: place.index,
        name: place.name,
        image: image?,
        pull_policy_never: pull_policy == Some("Never"),
        state: state(status),
        started_before,
    })
}

fn state(status: Option<&ContainerStatus>) -> ContainerState<'_> {
    let Some(state) = status.and_then(|status| status.state.as_ref()) else {
        return ContainerState::NotStarted;
    };
    if state.running.is_some() {
        return ContainerState::Running;
    }
    if state.terminated.is_some() {
        return ContainerState::Terminated;
    }
    state
        .waiting
        .as_ref()
        .map_or(ContainerState::NotStarted, |waiting| ContainerState::Waiting {
            reason: waiting.reason.as_deref().unwrap_or_default(),
            message: waiting.message.as_deref().unwrap_or_default(),
        })
}

/// The mirrors that a pod's images belong to.
pub fn mirrors(pod: &Pod, table: &RouteTable) -> Vec<MirrorId> {
    let mut mirrors: Vec<MirrorId> = Vec::new();
    for (_, image) in crate::in_use::images(pod) {
        let Ok(reference) = Reference::parse(&image) else {
            continue;
        };
        for route in table.routes() {
            if route.policy.locate(&reference).is_some() && !mirrors.contains(&route.policy.id) {
                mirrors.push(route.policy.id.clone());
            }
        }
    }
    mirrors
}
