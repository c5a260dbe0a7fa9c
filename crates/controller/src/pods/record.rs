//! What is kept of a pod.

use std::mem::size_of;

use catamaran_core::mirror::in_use::{UsedImage, UsedImages};
use catamaran_core::pod::{Owner, PodFacts};
use catamaran_core::rescue::{
    ContainerKind, ContainerState, ImageVolume, Replacement, Repointed, WaitingContainer, WaitingPod,
};
use k8s_openapi::api::core::v1::ObjectReference;

use super::scope::Scope;

/// What is kept of a pod: at most 1 kB beside its images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodRecord {
    pub(super) uid: Box<str>,
    pub(super) resource_version: Box<str>,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    /// Its node; empty before it has one.
    pub(super) node: Box<str>,
    /// The scope that the record was kept by.
    pub(super) scope: u64,
    /// Its labels; of a kept pod those that the scope asks for.
    pub(super) labels: Box<[(Box<str>, Box<str>)]>,
    pub(super) owner: Option<PodOwner>,
    pub(super) is_static: bool,
    /// How far it has got.
    pub(super) stage: Stage,
    /// There is a map of annotations to which one can be added.
    pub(super) has_annotations: bool,
    pub(super) containers: Box<[ContainerRecord]>,
    pub(super) image_volumes: Box<[VolumeRecord]>,
    pub(super) pull_secrets: Box<[Box<str>]>,
    /// Its service account; empty: the default one.
    pub(super) service_account: Box<str>,
}

/// How far a pod has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no node, or a scheduling gate.
    #[default]
    Unplaced,
    /// It has a node.
    Placed,
    /// It is being deleted, or has succeeded or failed.
    Over,
}

/// The owner that decides about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodOwner {
    pub(super) api_version: Box<str>,
    pub(super) kind: Box<str>,
    pub(super) uid: Box<str>,
    pub(super) is_controller: bool,
}

/// What is kept of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerRecord {
    pub(super) kind: ContainerKind,
    pub(super) index: usize,
    pub(super) name: Box<str>,
    pub(super) image: Box<str>,
    /// The image before admission, or before it was re-pointed, as annotations have it.
    pub(super) original: Option<Box<str>>,
    /// The image before it was re-pointed, as the annotation has it.
    pub(super) rescued_from: Option<Box<str>>,
    /// The mirror and epoch in which it was, as the annotation has them.
    pub(super) rescued_in: Option<Box<str>>,
    pub(super) never: bool,
    pub(super) started_before: bool,
    pub(super) state: ContainerState,
}

/// What is kept of an image volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VolumeRecord {
    pub(super) image: Box<str>,
    pub(super) original: Option<Box<str>>,
    pub(super) never: bool,
}

impl PodRecord {
    /// The record as it is kept; none where no image of the pod belongs to a mirror.
    pub(super) fn keep(mut self, scope: &Scope) -> Option<PodRecord> {
        if self.stage == Stage::Over || !self.images().any(|image| scope.concerns(image)) {
            return None;
        }
        self.scope = scope.fingerprint();
        self.labels = self
            .labels
            .into_iter()
            .filter(|(key, _)| scope.asks_for_label(key))
            .collect();
        Some(self)
    }

    /// Whether the record has what decides about the pod in this scope.
    pub(super) fn is_of(&self, scope: &Scope) -> bool {
        self.scope == scope.fingerprint()
    }

    /// The references of all containers and image volumes.
    pub(super) fn images(&self) -> impl Iterator<Item = &str> {
        let containers = self.containers.iter().map(|container| &*container.image);
        containers.chain(self.image_volumes.iter().map(|volume| &*volume.image))
    }

    /// Bytes that the record takes.
    pub(super) fn weight(&self) -> usize {
        let containers = self.containers.iter().map(ContainerRecord::weight);
        let volumes = self.image_volumes.iter().map(|volume| {
            size_of::<VolumeRecord>() + volume.image.len() + volume.original.as_ref().map_or(0, |text| text.len())
        });
        let pair = size_of::<(Box<str>, Box<str>)>();
        let labels = self.labels.iter().map(|(key, value)| pair + key.len() + value.len());
        let secrets = self.pull_secrets.iter().map(|name| size_of::<Box<str>>() + name.len());
        let owner = self.owner.as_ref();
        let owner = owner.map_or(0, |owner| owner.api_version.len() + owner.kind.len() + owner.uid.len());
        let names = self.uid.len()
            + self.resource_version.len()
            + self.namespace.len()
            + self.name.len()
            + self.node.len()
            + self.service_account.len();
        let lists: usize = containers.chain(volumes).chain(labels).chain(secrets).sum();
        size_of::<PodRecord>() + lists + owner + names
    }

    /// Whether some container that ran, or of a pod that runs, waits for an image; the kubelet has said so.
    pub(super) fn waits_for_image(&self) -> bool {
        let failed = |container: &ContainerRecord| matches!(container.state, ContainerState::PullFailed(_));
        self.containers.iter().any(failed)
    }

    /// The UID of the object that controls the pod.
    pub(super) fn controller_uid(&self) -> Option<&str> {
        let owner = self.owner.as_ref().filter(|owner| owner.is_controller)?;
        Some(&owner.uid)
    }

    /// The pod's labels in the form that [`PodRecord::facts`] takes.
    pub(super) fn labels(&self) -> Vec<(&str, &str)> {
        self.labels.iter().map(|(key, value)| (&**key, &**value)).collect()
    }

    /// What decides whether the pod is rewritten; `labels` are its own.
    pub(super) fn facts<'a>(&'a self, labels: &'a [(&'a str, &'a str)]) -> PodFacts<'a> {
        PodFacts {
            namespace: &self.namespace,
            labels,
            owner: self.owner.as_ref().map(|owner| Owner {
                api_version: &owner.api_version,
                kind: &owner.kind,
            }),
            is_static: self.is_static,
        }
    }

    /// The pod as rescue looks at it; `labels` are its own.
    pub(super) fn waiting<'a>(&'a self, labels: &'a [(&'a str, &'a str)], replacement: Replacement) -> WaitingPod<'a> {
        let volumes = self.image_volumes.iter().map(|volume| ImageVolume {
            reference: &volume.image,
            pull_policy_never: volume.never,
        });
        WaitingPod {
            facts: self.facts(labels),
            is_placed: self.stage == Stage::Placed,
            is_controlled: self.owner.as_ref().is_some_and(|owner| owner.is_controller),
            containers: self.containers.iter().map(ContainerRecord::waiting).collect(),
            image_volumes: volumes.collect(),
            pull_secrets: self.pull_secrets.iter().map(|name| &**name).collect(),
            replacement,
        }
    }

    /// The images that the pod uses; `labels` are its own.
    pub(super) fn used<'a>(&'a self, labels: &'a [(&'a str, &'a str)]) -> UsedImages<'a> {
        let containers = self.containers.iter().map(|container| UsedImage {
            image: &container.image,
            original: container.original.as_deref(),
            pull_policy_never: container.never,
            started: container.has_started(),
        });
        let started = self.containers.iter().any(ContainerRecord::has_started);
        let volumes = self.image_volumes.iter().map(|volume| UsedImage {
            image: &volume.image,
            original: volume.original.as_deref(),
            pull_policy_never: volume.never,
            started,
        });
        UsedImages {
            facts: self.facts(labels),
            is_template: false,
            service_account: &self.service_account,
            pull_secrets: self.pull_secrets.iter().map(|name| &**name).collect(),
            images: containers.chain(volumes).collect(),
        }
    }

    /// The pod as Events refer to it.
    pub(super) fn object_reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.name.to_string()),
            namespace: Some(self.namespace.to_string()),
            uid: Some(self.uid.to_string()),
            resource_version: Some(self.resource_version.to_string()),
            field_path: None,
        }
    }
}

impl ContainerRecord {
    fn waiting(&self) -> WaitingContainer<'_> {
        WaitingContainer {
            kind: self.kind,
            index: self.index,
            name: &self.name,
            image: &self.image,
            pull_policy_never: self.never,
            state: self.state,
            started_before: self.started_before,
            repointed: self.rescued_in.as_deref().and_then(|noted| {
                let (mirror, epoch) = noted.rsplit_once('@')?;
                let epoch = epoch.parse().ok()?;
                Some(Repointed { mirror, epoch })
            }),
        }
    }

    /// Whether the kubelet got as far as to start it.
    fn has_started(&self) -> bool {
        self.started_before || matches!(self.state, ContainerState::Running | ContainerState::Terminated)
    }

    fn weight(&self) -> usize {
        let notes = [&self.original, &self.rescued_from, &self.rescued_in];
        let notes: usize = notes.into_iter().flatten().map(|note| note.len()).sum();
        size_of::<ContainerRecord>() + self.name.len() + self.image.len() + notes
    }
}
