//! Where a Pod names images, and which of them a request may change.

use std::borrow::Cow;
use std::fmt;

use crate::decode::{Container, OldPod, PodSpec, Request};

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
}

impl<'a> Site<'a> {
    /// The name it goes by in annotations: a volume may be called like a container.
    pub(super) fn note_name(&self) -> Cow<'a, str> {
        match self.field {
            Field::Volumes => Cow::Owned(format!("{VOLUME}{}", self.name)),
            _ => Cow::Borrowed(self.name),
        }
    }

    /// Whether both go by the same name there.
    pub(super) fn shares_note_with(&self, other: &Site<'_>) -> bool {
        match (self.field == Field::Volumes, other.field == Field::Volumes) {
            (true, false) => other.name.strip_prefix(VOLUME) == Some(self.name),
            (false, true) => self.name.strip_prefix(VOLUME) == Some(other.name),
            _ => self.name == other.name,
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
pub(super) fn of<'a>(spec: &'a PodSpec<'_>, scope: &Scope<'_>) -> impl Iterator<Item = Site<'a>> {
    let fields = [
        (Field::Containers, &spec.containers),
        (Field::InitContainers, &spec.init_containers),
        (Field::EphemeralContainers, &spec.ephemeral_containers),
    ];
    let containers = fields.into_iter().flat_map(move |(field, containers)| {
        let before = scope.before(field);
        let after = before.map_or(&[][..], |_| &containers.0);
        let changed =
            move |index: usize, container: &Container<'_>| !stood(before.unwrap_or_default(), index, container);
        after
            .iter()
            .enumerate()
            .filter(move |(index, container)| changed(*index, container))
            .map(move |(index, container)| Site {
                field,
                index,
                name: container.name.as_str(),
                image: container.image.as_str(),
            })
    });
    let volumes = if matches!(scope, Scope::Create) {
        &spec.volumes.0[..]
    } else {
        &[]
    };
    let volumes = volumes.iter().enumerate().map(|(index, volume)| Site {
        field: Field::Volumes,
        index,
        name: volume.name.as_str(),
        image: volume.image.reference.as_str(),
    });
    containers.chain(volumes).filter(|site| !site.image.is_empty())
}

/// Whether a container had this image before. Most stand where they stood.
fn stood(before: &[Container<'_>], index: usize, container: &Container<'_>) -> bool {
    let same = |old: &Container<'_>| old.name == container.name && old.image == container.image;
    before.get(index).is_some_and(same) || before.iter().any(same)
}
