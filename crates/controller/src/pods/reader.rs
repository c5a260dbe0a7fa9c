//! The one reader of a Pod: from the API server's JSON to the facts that are kept.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use catamaran_core::pod::{Owner, deciding_owner};
use catamaran_core::rescue::{ContainerKind, ContainerState};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::record::{ContainerRecord, PodOwner, PodRecord, Stage, VolumeRecord};
use super::wire::{
    WireContainer, WireContainerStatus, WireMeta, WireOwner, WirePod, WireSpec, WireState, WireStatus, WireTemplate,
    WireVolume,
};

/// The longest reference that is kept; longer ones belong to no mirror.
const LONGEST_IMAGE: usize = 1024;

/// A Pod as the API server sends it, read as far as its facts go.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WirePod")]
pub(crate) struct PodObject {
    metadata: ObjectMeta,
    /// What is read of it.
    pub(crate) record: PodRecord,
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl From<WirePod> for PodObject {
    fn from(pod: WirePod) -> PodObject {
        let metadata = ObjectMeta {
            name: pod.metadata.name.as_deref().map(str::to_owned),
            namespace: pod.metadata.namespace.as_deref().map(str::to_owned),
            uid: pod.metadata.uid.as_deref().map(str::to_owned),
            resource_version: pod.metadata.resource_version.as_deref().map(str::to_owned),
            ..ObjectMeta::default()
        };
        PodObject {
            metadata,
            record: PodRecord::read(pod),
        }
    }
}

impl PodRecord {
    pub(super) fn read(pod: WirePod) -> PodRecord {
        let WirePod { metadata, spec, status } = pod;
        let spec = spec.unwrap_or_default();
        let status = status.unwrap_or_default();
        let notes = Notes {
            originals: names(metadata.annotations.original_images.as_deref()),
            rescued: names(metadata.annotations.rescued_images.as_deref()),
            epochs: names(metadata.annotations.rescued_epochs.as_deref()),
        };
        let stage = stage(&metadata, &spec, &status);
        let image_volumes = volumes(spec.volumes.as_deref().unwrap_or_default(), &notes);
        let statuses = [
            (ContainerKind::Init, status.init_container_statuses),
            (ContainerKind::App, status.container_statuses),
            (ContainerKind::Ephemeral, status.ephemeral_container_statuses),
        ];
        let containers = statuses.iter().flat_map(|(kind, statuses)| {
            let statuses = statuses
                .iter()
                .flatten()
                .map(|status| (&*status.name, status))
                .collect();
            let list = list(&spec, *kind).iter().enumerate();
            let read =
                |(index, container)| ContainerRecord::read(*kind, index, container, &statuses, &image_volumes, &notes);
            list.filter_map(read).collect::<Vec<_>>()
        });
        PodRecord {
            containers: containers.collect(),
            stage,
            scope: 0,
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            labels: metadata.labels.into(),
            owner: owner(&metadata.owner_references.unwrap_or_default()),
            node: spec.node_name.clone().unwrap_or_default(),
            is_static: metadata.annotations.is_static,
            has_annotations: metadata.annotations.exist,
            image_volumes,
            service_account: spec.service_account_name.unwrap_or_default(),
            pull_secrets: spec
                .image_pull_secrets
                .into_iter()
                .flatten()
                .filter_map(|secret| secret.name)
                .collect(),
        }
    }

    /// The pod that would be made of a template in this namespace, for an owner of this kind.
    pub(super) fn of_template(namespace: Option<Box<str>>, owner: Owner<'_>, template: WireTemplate) -> PodRecord {
        let owner = WireOwner {
            api_version: owner.api_version.into(),
            kind: owner.kind.into(),
            uid: Box::default(),
            controller: Some(true),
        };
        PodRecord::read(WirePod {
            metadata: WireMeta {
                namespace,
                labels: template.metadata.labels,
                owner_references: Some(vec![owner]),
                ..WireMeta::default()
            },
            spec: template.spec,
            status: None,
        })
    }
}

impl ContainerRecord {
    fn read(
        kind: ContainerKind,
        index: usize,
        container: &WireContainer,
        statuses: &HashMap<&str, &WireContainerStatus>,
        volumes: &[VolumeRecord],
        notes: &Notes,
    ) -> Option<ContainerRecord> {
        let image = image(container.image.as_deref())?;
        let status = statuses.get(&*container.name);
        let ended = |state: &Option<WireState>| state.as_ref().is_some_and(|state| state.terminated.is_some());
        let volumes = volumes.iter().map(|volume| &*volume.image);
        let own = |texts: &BTreeMap<Box<str>, Box<str>>| texts.get(&container.name).cloned();
        Some(ContainerRecord {
            kind,
            index,
            name: container.name.clone(),
            state: status.map_or(ContainerState::NotStarted, |status| state(status, &image, volumes)),
            image,
            // What admission saw comes before what rescue saw.
            original: own(&notes.originals).or_else(|| own(&notes.rescued)),
            rescued_from: own(&notes.rescued),
            rescued_in: own(&notes.epochs),
            never: container.image_pull_policy.as_deref() == Some("Never"),
            started_before: status.is_some_and(|status| status.restart_count > 0 || ended(&status.last_state)),
        })
    }
}

/// What annotations say of containers and volumes, by name.
struct Notes {
    originals: BTreeMap<Box<str>, Box<str>>,
    rescued: BTreeMap<Box<str>, Box<str>>,
    epochs: BTreeMap<Box<str>, Box<str>>,
}

/// A JSON object of strings; empty for what is none.
fn names(text: Option<&str>) -> BTreeMap<Box<str>, Box<str>> {
    let mut names: BTreeMap<Box<str>, Box<str>> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    names.retain(|_, value| value.len() <= LONGEST_IMAGE);
    names
}

fn stage(metadata: &WireMeta, spec: &WireSpec, status: &WireStatus) -> Stage {
    let is_finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if is_finished || metadata.deletion_timestamp.is_some() {
        return Stage::Over;
    }
    let mut conditions = status.conditions.iter().flatten();
    let is_gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let is_unscheduled = conditions.any(|it| &*it.kind == "PodScheduled" && &*it.status == "False");
    let has_node = spec.node_name.as_deref().is_some_and(|node| !node.is_empty());
    if has_node && !is_gated && !is_unscheduled {
        Stage::Placed
    } else {
        Stage::Unplaced
    }
}

fn image(image: Option<&str>) -> Option<Box<str>> {
    image.filter(|image| image.len() <= LONGEST_IMAGE).map(Box::from)
}

fn volumes(volumes: &[WireVolume], notes: &Notes) -> Box<[VolumeRecord]> {
    let volumes = volumes.iter().filter_map(|volume| {
        let source = volume.image.as_ref()?;
        Some(VolumeRecord {
            image: image(source.reference.as_deref())?,
            original: notes.originals.get(&*format!("volume/{}", volume.name)).cloned(),
            never: source.pull_policy.as_deref() == Some("Never"),
        })
    });
    volumes.collect()
}

fn list(spec: &WireSpec, kind: ContainerKind) -> &[WireContainer] {
    let list = match kind {
        ContainerKind::Init => &spec.init_containers,
        ContainerKind::App => &spec.containers,
        ContainerKind::Ephemeral => &spec.ephemeral_containers,
    };
    list.as_deref().unwrap_or_default()
}

/// The owner that decides, by the rule that admission goes by.
fn owner(owners: &[WireOwner]) -> Option<PodOwner> {
    let decides = deciding_owner(owners.iter().map(|owner| {
        let (api_version, kind) = (&*owner.api_version, &*owner.kind);
        (Owner { api_version, kind }, owner.controller == Some(true))
    }))?;
    let is_it = |owner: &&WireOwner| *owner.api_version == *decides.api_version && *owner.kind == *decides.kind;
    let owner = owners
        .iter()
        .filter(is_it)
        .max_by_key(|owner| owner.controller == Some(true))?;
    Some(PodOwner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        uid: owner.uid.clone(),
        is_controller: owner.controller == Some(true),
    })
}

fn state<'v>(status: &WireContainerStatus, image: &str, volumes: impl Iterator<Item = &'v str>) -> ContainerState {
    let Some(state) = &status.state else {
        return ContainerState::NotStarted;
    };
    if state.running.is_some() {
        return ContainerState::Running;
    }
    if state.terminated.is_some() {
        return ContainerState::Terminated;
    }
    state.waiting.as_ref().map_or(ContainerState::NotStarted, |waiting| {
        let (reason, message) = (waiting.reason.as_deref(), waiting.message.as_deref());
        ContainerState::waiting(reason.unwrap_or_default(), message.unwrap_or_default(), image, volumes)
    })
}

#[cfg(test)]
mod tests;
