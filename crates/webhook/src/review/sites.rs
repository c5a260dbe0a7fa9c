//! Where a Pod names images, and which of them a request may change.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use crate::decode::{Container, OldPod, PodSpec, Request, Volume};

/// Which images a request may change.
pub(super) enum Scope<'a> {
    /// A new Pod: all of them.
    Create,
    /// An update: images of containers that it changes. Pull secrets and volumes are immutable by then.
    Update(&'a OldPod<'a>),
    /// An update of `pods/ephemeralcontainers`: images of those that it adds. The API server drops every other change.
    Ephemeral(&'a OldPod<'a>),
}

impl<'a> Scope<'a> {
    /// The scope of a request; `None` when it can't change an image. An update that doesn't say what it changes is one:
    /// to re-point a running container would restart it.
    pub(super) fn of(request: &'a Request<'a>) -> Option<Scope<'a>> {
        match (request.operation.as_str(), request.sub_resource.as_str()) {
            ("CREATE", "") => Some(Scope::Create),
            ("UPDATE", "") => request.old_object.as_ref().map(Scope::Update),
            ("UPDATE", "ephemeralcontainers") => request.old_object.as_ref().map(Scope::Ephemeral),
            _ => None,
        }
    }

    pub(super) fn may_add_secrets(&self) -> bool {
        matches!(self, Scope::Create)
    }

    pub(super) fn may_annotate(&self) -> bool {
        !matches!(self, Scope::Ephemeral(_))
    }

    /// The containers of one field before the request; `None` when the field is out of scope.
    fn before(&self, field: Field) -> Option<&[Container<'a>]> {
        match (self, field) {
            (Scope::Create, _) => Some(&[]),
            (Scope::Update(old), Field::Containers) => Some(&old.spec.containers.0),
            (Scope::Update(old), Field::InitContainers) => Some(&old.spec.init_containers.0),
            (Scope::Ephemeral(old), Field::EphemeralContainers) => Some(&old.spec.ephemeral_containers.0),
            (Scope::Update(_) | Scope::Ephemeral(_), _) => None,
        }
    }
}

/// The pull policy of what is on the node or can't run.
const NEVER: &str = "Never";
/// What stands before the names of volumes in annotations.
const VOLUME: &str = "volume/";

/// A field of a Pod's spec that names images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Containers,
    InitContainers,
    EphemeralContainers,
    Volumes,
}

/// One place where a Pod names an image. Its `Display` is the JSON Pointer of the reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    field: Field,
    index: usize,
    name: &'a str,
    pub(super) image: &'a str,
    /// Its pull policy is `Never`.
    pub(super) never: bool,
}

impl<'a> Site<'a> {
    /// The name it goes by in annotations: a volume may be called like a container.
    pub(super) fn note_name(&self) -> Cow<'a, str> {
        match self.field {
            Field::Volumes => Cow::Owned(format!("{VOLUME}{}", self.name)),
            _ => Cow::Borrowed(self.name),
        }
    }
}

impl fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.index;
        match self.field {
            Field::Containers => write!(f, "/spec/containers/{index}/image"),
            Field::InitContainers => write!(f, "/spec/initContainers/{index}/image"),
            Field::EphemeralContainers => write!(f, "/spec/ephemeralContainers/{index}/image"),
            Field::Volumes => write!(f, "/spec/volumes/{index}/image/reference"),
        }
    }
}

/// The images of a Pod that a request may change, in the order of the fields.
pub(super) fn of<'a>(spec: &'a PodSpec<'_>, scope: &'a Scope<'_>) -> Vec<Site<'a>> {
    let fields = [
        (Field::Containers, &spec.containers.0),
        (Field::InitContainers, &spec.init_containers.0),
        (Field::EphemeralContainers, &spec.ephemeral_containers.0),
    ];
    let mut sites = Vec::new();
    for (field, containers) in fields {
        if let Some(before) = scope.before(field) {
            sites.extend(changed(field, before, containers));
        }
    }
    if matches!(scope, Scope::Create) {
        sites.extend(volumes(&spec.volumes.0));
    }
    sites
}

/// The containers that had no such image before. Most stand where they stood.
fn changed<'a>(
    field: Field,
    before: &'a [Container<'_>],
    after: &'a [Container<'_>],
) -> impl Iterator<Item = Site<'a>> {
    let image = |container: &'a Container<'_>| (container.name.as_str(), container.image.as_str());
    let mut images_before = None;
    let mut stood = move |index: usize, container: (&'a str, &'a str)| {
        let all_before = || before.iter().map(image).collect::<HashSet<_>>();
        before.get(index).map(image) == Some(container)
            || (!before.is_empty() && images_before.get_or_insert_with(all_before).contains(&container))
    };
    let named = after
        .iter()
        .enumerate()
        .filter(|(_, container)| !container.image.as_str().is_empty());
    named
        .filter(move |(index, container)| !stood(*index, image(container)))
        .map(move |(index, container)| Site {
            field,
            index,
            name: container.name.as_str(),
            image: container.image.as_str(),
            never: container.pull_policy.as_str() == NEVER,
        })
}

/// The image volumes.
fn volumes<'a>(volumes: &'a [Volume<'_>]) -> impl Iterator<Item = Site<'a>> {
    let is_image = |(_, volume): &(usize, &Volume<'_>)| !volume.image.reference.as_str().is_empty();
    volumes.iter().enumerate().filter(is_image).map(|(index, volume)| Site {
        field: Field::Volumes,
        index,
        name: volume.name.as_str(),
        image: volume.image.reference.as_str(),
        never: volume.image.pull_policy.as_str() == NEVER,
    })
}
