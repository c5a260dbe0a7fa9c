//! A pod that is not running in full, as far as rescue looks at it.

use crate::pod::PodFacts;
use crate::pod::message::{PullFailure, failed_image, same_image};

/// A pod that is not running in full.
#[derive(Clone, Debug, Default)]
pub struct WaitingPod<'a> {
    /// What decides whether it is rewritten at all.
    pub facts: PodFacts<'a>,
    /// A node was assigned to it and no gate holds it back. Any other pod waits for no image, whatever its phase says.
    pub is_placed: bool,
    /// The owner that decides is the pod's controller, which makes another pod when this one is deleted.
    pub is_controlled: bool,
    /// All containers of all kinds.
    pub containers: Vec<WaitingContainer<'a>>,
    /// Its image volumes.
    pub image_volumes: Vec<ImageVolume<'a>>,
    /// The names of its pull secrets.
    pub pull_secrets: Vec<&'a str>,
    /// Whether it may be replaced, as far as earlier attempts say.
    pub replacement: Replacement,
}

/// Whether a pod may be replaced, as far as earlier attempts say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replacement {
    /// Nothing is known against it.
    #[default]
    Possible,
    /// Its owner's pods were replaced a short while ago, and the new ones wait as well: another one would not be rewritten
    /// either.
    ReplacedOfLate,
    /// The API server refused to delete it.
    Refused,
}

/// A volume that is an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageVolume<'a> {
    /// Its reference.
    pub reference: &'a str,
    /// Its `pullPolicy` is `Never`.
    pub pull_policy_never: bool,
}

/// One container of a waiting pod.
#[derive(Clone, Copy, Debug)]
pub struct WaitingContainer<'a> {
    /// In which list of the pod's spec it is.
    pub kind: ContainerKind,
    /// Its position in that list.
    pub index: usize,
    /// Its name.
    pub name: &'a str,
    /// Its image in the pod's spec.
    pub image: &'a str,
    /// Its `imagePullPolicy` is `Never`.
    pub pull_policy_never: bool,
    /// What the kubelet says of it.
    pub state: ContainerState,
    /// It ran before: its status has a last state, a restart or a start.
    pub started_before: bool,
    /// The mirror and epoch in which it was re-pointed last.
    pub repointed: Option<Repointed<'a>>,
}

/// When a container was re-pointed: the active side changes with the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repointed<'a> {
    /// The mirror's name.
    pub mirror: &'a str,
    /// The mirror's epoch.
    pub epoch: u64,
}

/// The lists of containers in a pod's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerKind {
    /// `initContainers`
    Init,
    /// `containers`
    App,
    /// `ephemeralContainers`, whose images can't be patched.
    Ephemeral,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// There is no status yet.
    NotStarted,
    /// The kubelet prepares it: its image, or an image volume, may be on its way.
    Creating,
    /// A pull failed.
    PullFailed(FailedPull),
    /// It waits for something that comes after a pull that went well: `CrashLoopBackOff`, `CreateContainerError`, ...
    Held,
    /// It runs: a patch would restart it.
    Running,
    /// It has ended.
    Terminated,
}

/// A pull that failed, as the kubelet tells it in a container's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedPull {
    /// What was pulled.
    pub image: FailedImage,
    /// How it failed.
    pub failure: PullFailure,
    /// The kubelet waits before the next attempt: the last one may have failed minutes ago.
    pub backs_off: bool,
}

/// Which image a pull failed for. The status of a container tells of the image volumes that it mounts in the same way as of
/// its own image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedImage {
    /// The container's own.
    Own,
    /// The image volume at this position.
    Volume(usize),
    /// None that the pod has: one that the container had before it was re-pointed.
    Former,
    /// The message names none.
    Unnamed,
}

impl ContainerState {
    /// Reads the state `waiting` of a container's status: its reason and message, the container's image, and the references
    /// of the pod's image volumes.
    pub fn waiting<'v>(
        reason: &str,
        message: &str,
        own_image: &str,
        image_volumes: impl IntoIterator<Item = &'v str>,
    ) -> ContainerState {
        let Some(failure) = PullFailure::of(reason, message) else {
            return match reason {
                "" | "ContainerCreating" | "PodInitializing" => ContainerState::Creating,
                _ => ContainerState::Held,
            };
        };
        let image = match failed_image(message) {
            None => FailedImage::Unnamed,
            Some(named) if same_image(own_image, &named) => FailedImage::Own,
            Some(named) => {
                let position = image_volumes.into_iter().position(|volume| same_image(volume, &named));
                position.map_or(FailedImage::Former, FailedImage::Volume)
            }
        };
        ContainerState::PullFailed(FailedPull {
            image,
            failure,
            backs_off: reason == "ImagePullBackOff",
        })
    }

    /// How the pull of the container's own image failed, if it did.
    pub(super) fn own_failure(self) -> Option<PullFailure> {
        match self {
            ContainerState::PullFailed(FailedPull {
                image: FailedImage::Own | FailedImage::Unnamed,
                failure,
                ..
            }) => Some(failure),
            _ => None,
        }
    }

    /// Whether the container can't have its own image yet.
    ///
    /// An image whose signature the node refuses was there to be looked at: the other side's copy must not be a way around
    /// the node's policy.
    pub(super) fn awaits_own_image(self) -> bool {
        match self {
            ContainerState::NotStarted | ContainerState::Creating => true,
            ContainerState::PullFailed(failed) => match failed.image {
                FailedImage::Own | FailedImage::Unnamed => failed.failure != PullFailure::SignatureInvalid,
                FailedImage::Former => true,
                FailedImage::Volume(_) => false,
            },
            ContainerState::Held | ContainerState::Running | ContainerState::Terminated => false,
        }
    }
}

impl WaitingContainer<'_> {
    /// Whether it runs, ran, or got as far as to be started.
    pub(super) fn has_started(&self) -> bool {
        self.started_before || matches!(self.state, ContainerState::Running | ContainerState::Terminated)
    }
}

impl WaitingPod<'_> {
    /// Whether some container runs or ran: then all image volumes are on the node.
    pub(super) fn has_started(&self) -> bool {
        self.containers.iter().any(WaitingContainer::has_started)
    }

    /// Whether the kubelet told of an image that failed, so that it is known what the pod waits for.
    pub(super) fn names_failure(&self) -> bool {
        let names = |container: &WaitingContainer<'_>| match container.state {
            ContainerState::PullFailed(failed) => failed.image != FailedImage::Former,
            _ => false,
        };
        self.containers.iter().any(names)
    }

    /// How the pull of the image volume at this position failed, if it did.
    pub(super) fn volume_failure(&self, position: usize) -> Option<PullFailure> {
        self.containers.iter().find_map(|container| match container.state {
            ContainerState::PullFailed(failed) if failed.image == FailedImage::Volume(position) => Some(failed.failure),
            _ => None,
        })
    }

    /// The containers of a pod that never started whose pull may have begun: the first init container or, without any,
    /// those of `containers`, which the kubelet takes one after the other from one reading of the pod.
    pub(super) fn pulling(&self) -> impl Iterator<Item = &WaitingContainer<'_>> {
        let of = |kind| self.containers.iter().filter(move |container| container.kind == kind);
        let init = of(ContainerKind::Init).min_by_key(|container| container.index);
        let apps = of(ContainerKind::App).filter(move |_| init.is_none());
        init.into_iter().chain(apps).filter(|container| {
            matches!(
                container.state,
                ContainerState::Creating | ContainerState::PullFailed(_)
            )
        })
    }
}
