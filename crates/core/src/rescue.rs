//! What to do for a pod that waits for an image on the wrong side: design.md section 5 as code.
//!
//! Measured on a real kubelet: patching the image of a waiting container starts a new pull at once, and nothing above the
//! pod reacts. A pull that hangs takes no notice of the patch until its own time-out; replacing the pod does not wait for
//! it.

mod message;

#[cfg(test)]
mod tests;

use crate::evidence::Verdict;
use crate::health::{Availability, Unavailable};
use crate::policy::{MirrorId, RescueMode, Tiller};
use crate::reference::Reference;
use crate::routes::{Located, PodFacts, PodRoutes, RouteTable, judge};
use crate::side::{Side, Sides};

/// How the two sides of a mirror are; none while nothing is known of it.
pub type SideHealth<'a> = &'a dyn Fn(&MirrorId) -> Option<Sides<Availability>>;

/// A pod that is not running in full, as far as rescue looks at it.
#[derive(Clone, Debug, Default)]
pub struct WaitingPod<'a> {
    /// What decides whether it is rewritten at all.
    pub facts: PodFacts<'a>,
    /// All containers of all kinds.
    pub containers: Vec<WaitingContainer<'a>>,
    /// The references of its image volumes.
    pub image_volumes: Vec<&'a str>,
    /// The names of its pull secrets.
    pub pull_secrets: Vec<&'a str>,
    /// Its controller is a ReplicaSet, which replaces it when it is deleted.
    pub owner_is_replica_set: bool,
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
    pub state: ContainerState<'a>,
    /// It ran before: its status has a last state, a restart or a start.
    pub started_before: bool,
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
pub enum ContainerState<'a> {
    /// There is no status yet.
    NotStarted,
    /// The kubelet has not started it.
    Waiting {
        /// `ContainerCreating`, `ErrImagePull`, ...
        reason: &'a str,
        /// The kubelet's words; may be empty.
        message: &'a str,
    },
    /// It runs: a patch would restart it.
    Running,
    /// It has ended.
    Terminated,
}

/// One thing to do for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RescueAction {
    /// Patch the image of one container, testing the old value first.
    Patch {
        /// In which list the container is.
        kind: ContainerKind,
        /// Its position in that list.
        index: usize,
        /// Its name.
        name: String,
        /// The image that is there.
        from: String,
        /// The image to put there.
        to: String,
        /// The mirror that both belong to.
        mirror: MirrorId,
    },
    /// Delete the pod; its ReplicaSet makes another, which comes through the webhook. Stands alone.
    Replace {
        /// For people.
        reason: String,
    },
    /// Tell people what can't be helped.
    Report(RescueReport),
}

/// What rescue can't help.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RescueReport {
    /// An image volume's reference can't be changed in a pod.
    ImageVolumeStuck {
        /// The reference.
        reference: String,
    },
    /// An ephemeral container's image can't be changed; another one under a new name helps.
    EphemeralContainerStuck {
        /// The container's name.
        name: String,
        /// Its image.
        reference: String,
    },
    /// The pod lacks a pull secret of the side it is sent to, and pods can't be given one.
    MissingPullSecret {
        /// The secret's name.
        name: String,
    },
}

/// Plans what to do for a pod: either one replacement, or patches in the order of the containers and then reports.
///
/// Applying the patches and planning again with the same health gives no patches.
pub fn plan(pod: &WaitingPod<'_>, table: &RouteTable, health: SideHealth<'_>) -> Vec<RescueAction> {
    let rescue = Rescue {
        pod,
        routes: table.pod(&pod.facts),
        health,
    };
    if let Some(reason) = rescue.replacement() {
        return vec![RescueAction::Replace { reason }];
    }
    if rescue.awaits_flip() {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let mut reports = Vec::new();
    for container in pod
        .containers
        .iter()
        .filter(|container| rescue.awaits_own_image(container))
    {
        let Some(escape) = rescue.escape(container.image) else {
            continue;
        };
        if container.kind == ContainerKind::Ephemeral {
            let (name, reference) = (container.name.to_owned(), container.image.to_owned());
            reports.push(RescueReport::EphemeralContainerStuck { name, reference });
            continue;
        }
        reports.extend(rescue.missing_secrets(&escape));
        actions.push(RescueAction::Patch {
            kind: container.kind,
            index: container.index,
            name: container.name.to_owned(),
            from: container.image.to_owned(),
            to: escape.image,
            mirror: escape.mirror,
        });
    }
    let stuck = rescue.stuck_volumes().map(|(volume, _)| volume.to_owned());
    reports.extend(stuck.map(|reference| RescueReport::ImageVolumeStuck { reference }));
    reports.sort();
    reports.dedup();
    actions.extend(reports.into_iter().map(RescueAction::Report));
    actions
}

/// One pod under consideration.
struct Rescue<'a> {
    pod: &'a WaitingPod<'a>,
    routes: PodRoutes<'a>,
    health: SideHealth<'a>,
}

/// A way out for one image.
struct Escape {
    /// The reference on the other side.
    image: String,
    mirror: MirrorId,
    mode: RescueMode,
    /// The pull secrets of that side.
    secrets: Vec<String>,
    /// A new pod with the old image would be sent there as well.
    is_active: bool,
    /// The operator decides which side is active, and will leave the dead one.
    may_flip: bool,
    /// Pulls from the dead side get no answer at all, rather than an error.
    hangs: bool,
    /// The dead side, in words.
    because: String,
}

impl Rescue<'_> {
    /// The way out for an image: it is on a side that is down or known to lack it, and may go to the other side, which
    /// is active or available.
    fn escape(&self, image: &str) -> Option<Escape> {
        let reference = Reference::parse(image).ok()?;
        let located = self.routes.locate(&reference)?;
        let Located {
            route,
            side,
            repository,
            ..
        } = located;
        let to = side.other();
        let policy = &route.policy;
        if policy.rescue == RescueMode::Off || self.routes.exclusion_from(route).is_some() {
            return None;
        }
        let health = (self.health)(&policy.id);
        let down = health.and_then(|health| match health[side] {
            Availability::Unavailable(why) => Some(why),
            _ => None,
        });
        let registry = &policy.sides[side].registry;
        let because = match down {
            Some(why) => format!("{registry} is unavailable: {}", why.as_str()),
            None if lacks(&located, &reference, side) => format!("{registry} lacks {repository}{}", reference.suffix()),
            None => return None,
        };
        let other = health.map(|health| health[to]);
        let usable = match other {
            Some(Availability::Available) => true,
            Some(Availability::Unavailable(_)) => false,
            Some(Availability::Unknown(_)) | None => route.active == to,
        };
        if !usable || judge(route, to, repository, &reference).is_err() {
            return None;
        }
        Some(Escape {
            image: self.routes.counterpart(&reference, &located)?,
            mirror: policy.id.clone(),
            mode: policy.rescue,
            secrets: policy.sides[to].image_pull_secrets.clone(),
            is_active: route.active == to,
            may_flip: policy.failover.active == Tiller::Auto,
            hangs: down == Some(Unavailable::Timeout),
            because,
        })
    }

    /// Whether this container waits for an image, its own.
    fn awaits_own_image(&self, container: &WaitingContainer<'_>) -> bool {
        let names_volume = |named| {
            self.pod
                .image_volumes
                .iter()
                .any(|volume| message::same_image(volume, named))
        };
        let waits_for_another = container
            .state
            .named_image()
            .is_some_and(|named| !message::same_image(container.image, named) && names_volume(named));
        !container.pull_policy_never && container.state.awaits_image() && !waits_for_another
    }

    /// Image volumes that have a way out which the pod can't take.
    fn stuck_volumes(&self) -> impl Iterator<Item = (&str, Escape)> {
        let containers = &self.pod.containers;
        // The kubelet pulls all image volumes before it starts the first container.
        let fresh = !containers.iter().any(WaitingContainer::has_started);
        let waiting = fresh && containers.iter().any(|container| container.state.awaits_image());
        self.pod.image_volumes.iter().copied().filter_map(move |volume| {
            let mut named = containers.iter().filter_map(|container| container.state.named_image());
            let stuck = waiting || named.any(|named| message::same_image(volume, named));
            Some((volume, self.escape(volume).filter(|_| stuck)?))
        })
    }

    /// Why the pod should be replaced rather than patched: it never started, its `ReplicaSet` would send another one to
    /// the side that works, and either its pull hangs or what it waits for can't be patched.
    fn replacement(&self) -> Option<String> {
        let mut ways_out = self.replaceable();
        ways_out.find(|escape| escape.is_active).map(|escape| escape.because)
    }

    /// Whether the pod can be replaced as soon as the flip is there that is due: a patch before it would leave the pod
    /// with the pull that hangs.
    fn awaits_flip(&self) -> bool {
        self.replaceable().any(|escape| !escape.is_active && escape.may_flip)
    }

    /// The ways out that a replacement would take.
    fn replaceable(&self) -> impl Iterator<Item = Escape> {
        let never_started = !self.pod.containers.iter().any(WaitingContainer::has_started);
        let replaceable = self.pod.owner_is_replica_set && never_started;
        let pulls = self.pulling().filter(|container| self.awaits_own_image(container));
        let hanging = pulls
            .filter_map(|container| self.escape(container.image))
            .filter(|escape| escape.hangs);
        let stuck = self.stuck_volumes().map(|(_, escape)| escape);
        let ways_out = hanging.chain(stuck);
        ways_out.filter(move |escape| replaceable && escape.mode == RescueMode::PatchOrReplace)
    }

    /// The containers of a pod that never started whose pull may have begun: the first init container or, without any,
    /// those of `containers`, which the kubelet takes one after the other from one reading of the pod.
    fn pulling(&self) -> impl Iterator<Item = &WaitingContainer<'_>> {
        let of = |kind| {
            self.pod
                .containers
                .iter()
                .filter(move |container| container.kind == kind)
        };
        let init = of(ContainerKind::Init).min_by_key(|container| container.index);
        let apps = of(ContainerKind::App).filter(move |_| init.is_none());
        init.into_iter()
            .chain(apps)
            .filter(|container| matches!(container.state, ContainerState::Waiting { .. }))
    }

    fn missing_secrets(&self, escape: &Escape) -> impl Iterator<Item = RescueReport> {
        let missing = |name: &&String| !self.pod.pull_secrets.contains(&name.as_str());
        escape
            .secrets
            .iter()
            .filter(missing)
            .map(|name| RescueReport::MissingPullSecret { name: name.clone() })
    }
}

impl WaitingContainer<'_> {
    fn has_started(&self) -> bool {
        self.started_before || matches!(self.state, ContainerState::Running | ContainerState::Terminated)
    }
}

impl<'a> ContainerState<'a> {
    /// Whether the container can't have its image yet. The kubelet's other reasons for waiting (`CrashLoopBackOff`,
    /// `CreateContainerError`, ...) come after a pull that went well.
    fn awaits_image(self) -> bool {
        match self {
            ContainerState::NotStarted => true,
            ContainerState::Waiting { reason, .. } => {
                matches!(reason, "" | "ContainerCreating" | "PodInitializing") || is_pull_failure(reason)
            }
            ContainerState::Running | ContainerState::Terminated => false,
        }
    }

    /// The image whose pull failed, which need not be the container's own: failures of image volumes are told the same
    /// way.
    fn named_image(self) -> Option<&'a str> {
        match self {
            ContainerState::Waiting { reason, message } if is_pull_failure(reason) => message::named_image(message),
            _ => None,
        }
    }
}

fn is_pull_failure(reason: &str) -> bool {
    matches!(reason, "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable")
}

/// Whether the evidence says that the side a reference names does not have it.
fn lacks(located: &Located<'_, '_>, reference: &Reference<'_>, side: Side) -> bool {
    let lookup = |key| located.route.evidence.lookup(located.repository, key);
    let (digest, tag) = (
        reference.digest().and_then(lookup),
        reference.effective_tag().and_then(lookup),
    );
    digest != Some(Verdict::InSync) && [digest, tag].contains(&Some(Verdict::missing_on(side)))
}
