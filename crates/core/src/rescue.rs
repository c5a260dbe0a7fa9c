//! What to do for a pod that waits for an image on the wrong side.
//!
//! A waiting container is re-pointed exactly to where the routing table sends its present image, and only if it can't be
//! expected to start where it is: that side is unavailable or known to lack the image, or the kubelet failed to pull it
//! there. A pull that works is left alone even where new pods are sent elsewhere, because a patch would restart the container
//! that it ends in.
//!
//! Measured on a real kubelet: patching the image of a waiting container starts a new pull at once, and nothing above the
//! pod reacts. A pull that hangs takes no notice of the patch until its own timeout; replacing the pod does not wait for
//! it.

mod pod;
mod pulls;
#[cfg(test)]
mod tests;
mod wanted;

use crate::pod::message::PullFailure;
use crate::pod::{Owner, image_reference};
use crate::policy::{MirrorId, RescueMode};
use crate::routing::{ImageRoute, KeepReason, PodRoutes, RewriteReason, RouteTable};
use crate::side::Side;

pub use pod::{
    ContainerKind, ContainerState, FailedImage, FailedPull, ImageVolume, Replacement, Repointed, WaitingContainer,
    WaitingPod,
};
pub use pulls::failed_pulls;
pub use wanted::{Wanted, wanted};

/// Whether pulls from a side of a mirror get no answer at all, rather than an error.
pub type Hangs<'a> = &'a dyn Fn(&MirrorId, Side) -> bool;

/// One thing to do for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RescueAction {
    /// Patch the image of one container, testing the old value first.
    Patch(ImagePatch),
    /// Delete the pod; its ReplicaSet makes another, which comes through the webhook. Stands alone.
    Replace {
        /// The mirror whose image the pod waits for.
        mirror: MirrorId,
        /// Why, for people.
        reason: String,
    },
    /// Report what can't be helped.
    Report(RescueReport),
}

/// A container's image that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImagePatch {
    /// In which list the container is.
    pub kind: ContainerKind,
    /// Its position in that list.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The image that is there.
    pub from: String,
    /// The image to put there.
    pub to: String,
    /// The mirror that both belong to.
    pub mirror: MirrorId,
    /// The mirror's epoch.
    pub epoch: u64,
    /// Why, for people.
    pub reason: String,
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
/// Applying the patches and planning again with the same table gives no patches. A container is moved at most once an epoch
/// away from a side that seems to work.
pub fn plan(pod: &WaitingPod<'_>, table: &RouteTable, hangs: Hangs<'_>) -> Vec<RescueAction> {
    if !pod.is_placed {
        return Vec::new();
    }
    let rescue = Rescue {
        pod,
        routes: table.pod(&pod.facts),
        hangs,
    };
    if let Some(replacement) = rescue.replacement() {
        return vec![replacement];
    }
    let mut actions = Vec::new();
    let mut reports = Vec::new();
    for container in &pod.containers {
        let Some(way_out) = rescue.way_out_of_container(container) else {
            continue;
        };
        if container.kind == ContainerKind::Ephemeral {
            let (name, reference) = (container.name.to_owned(), container.image.to_owned());
            reports.push(RescueReport::EphemeralContainerStuck { name, reference });
            continue;
        }
        reports.extend(rescue.missing_secrets(&way_out));
        actions.push(RescueAction::Patch(way_out.patch(container)));
    }
    let stuck = rescue.stuck_volumes().map(|(volume, _)| volume.reference.to_owned());
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
    hangs: Hangs<'a>,
}

/// Where an image is sent that can't be had where it is.
struct WayOut {
    /// The reference on the other side.
    image: String,
    mirror: MirrorId,
    epoch: u64,
    mode: RescueMode,
    /// The pull secrets of that side.
    secrets: Vec<String>,
    /// Pulls from the side that the image names get no answer at all.
    hangs: bool,
    /// What is wrong with that side, in words.
    reason: String,
}

/// One image of a pod that waits.
#[derive(Clone, Copy)]
struct AwaitedImage<'a> {
    image: &'a str,
    pull_policy_never: bool,
    /// How its pull failed, if it did.
    failure: Option<PullFailure>,
    repointed: Option<Repointed<'a>>,
}

impl<'a> Rescue<'a> {
    /// The way out for an image: the table sends it to the other side, and it can't be expected where it is.
    fn way_out(&self, awaited: AwaitedImage<'_>) -> Option<WayOut> {
        let ImageRoute::Rewritten { route, image, reason } =
            self.routes.image(awaited.image, awaited.pull_policy_never)
        else {
            return None;
        };
        let policy = &route.policy;
        if policy.rescue == RescueMode::Off {
            return None;
        }
        let reference = image_reference(awaited.image)?;
        let located = self.routes.locate(&reference)?;
        let side = located.side;
        let registry = &policy.sides[side].registry;
        let reason = if route.unavailable[side] {
            format!("{registry} is unavailable")
        } else if reason == RewriteReason::OnlyOnOther || located.lacks(&reference) {
            let repository = reference.repository();
            format!("{registry} does not have {repository}{}", reference.suffix())
        } else {
            // The kubelet's word against a side that seems to work: once an epoch, so that a pod which can be pulled from
            // neither side does not go back and forth.
            let was_repointed = |at: Repointed<'_>| at.mirror == &*policy.id.name && at.epoch == route.epoch;
            awaited.failure?;
            if awaited.repointed.is_some_and(was_repointed) {
                return None;
            }
            format!("the image can't be pulled from {registry}")
        };
        Some(WayOut {
            image,
            mirror: policy.id.clone(),
            epoch: route.epoch,
            mode: policy.rescue,
            secrets: policy.sides[side.other()].image_pull_secrets.clone(),
            hangs: (self.hangs)(&policy.id, side),
            reason,
        })
    }

    fn way_out_of_container(&self, container: &WaitingContainer<'_>) -> Option<WayOut> {
        if !container.state.awaits_own_image() {
            return None;
        }
        self.way_out(AwaitedImage {
            image: container.image,
            pull_policy_never: container.pull_policy_never,
            failure: container.state.own_failure(),
            repointed: container.repointed,
        })
    }

    /// Image volumes that have a way out which the pod can't take.
    ///
    /// The kubelet pulls all image volumes before it pulls the image of a container that mounts them: once it tells what
    /// failed, the others are there or don't matter yet.
    fn stuck_volumes(&self) -> impl Iterator<Item = (ImageVolume<'a>, WayOut)> {
        let pod = self.pod;
        let waits = |container: &WaitingContainer<'_>| container.state.awaits_own_image();
        let may_be_pulled = !pod.has_started() && !pod.names_failure() && pod.containers.iter().any(waits);
        let volumes = pod.image_volumes.iter().copied().enumerate();
        volumes.filter_map(move |(position, volume)| {
            let failure = pod.volume_failure(position);
            let is_refused = failure == Some(PullFailure::SignatureInvalid);
            if is_refused || failure.is_none() && !may_be_pulled {
                return None;
            }
            let way_out = self.way_out(AwaitedImage {
                image: volume.reference,
                pull_policy_never: volume.pull_policy_never,
                failure,
                repointed: None,
            })?;
            Some((volume, way_out))
        })
    }

    /// The replacement of the pod, where patches don't help: it never started, its `ReplicaSet` would send another one to
    /// the side that works, and either its pull hangs or what it waits for can't be patched.
    ///
    /// A new pod has the present image or, where that was rewritten before, the one that its template names on the other side:
    /// both end where the table sends the present one.
    fn replacement(&self) -> Option<RescueAction> {
        let pod = self.pod;
        let replica_set = |owner: &Owner<'_>| owner.api_group() == "apps" && owner.kind == "ReplicaSet";
        let is_replaced = pod.is_controlled && pod.facts.owner.as_ref().is_some_and(replica_set);
        if !is_replaced || pod.has_started() || pod.replacement != Replacement::Possible {
            return None;
        }
        let hanging = pod
            .pulling()
            .filter_map(|container| self.way_out_of_container(container));
        let hanging = hanging.filter(|way_out| way_out.hangs);
        let stuck = self.stuck_volumes().map(|(_, way_out)| way_out);
        let mut helped = hanging.chain(stuck);
        let WayOut { mirror, reason, .. } = helped.find(|way_out| way_out.mode == RescueMode::PatchOrReplace)?;
        Some(RescueAction::Replace { mirror, reason })
    }

    fn missing_secrets(&self, way_out: &WayOut) -> impl Iterator<Item = RescueReport> {
        let missing = |name: &&String| !self.pod.pull_secrets.contains(&name.as_str());
        way_out
            .secrets
            .iter()
            .filter(missing)
            .map(|name| RescueReport::MissingPullSecret { name: name.clone() })
    }
}

impl WayOut {
    fn patch(self, container: &WaitingContainer<'_>) -> ImagePatch {
        ImagePatch {
            kind: container.kind,
            index: container.index,
            name: container.name.to_owned(),
            from: container.image.to_owned(),
            to: self.image,
            mirror: self.mirror,
            epoch: self.epoch,
            reason: self.reason,
        }
    }
}

/// Whether the mirror of this image of the pod would move it, were it known to be on both sides.
pub(crate) fn is_movable(pod: &PodRoutes<'_>, image: &ImageRoute<'_>, pull_policy_never: bool) -> bool {
    let may_move = |route| !pull_policy_never && pod.exclusion_from(route).is_none();
    let is_left_alone = matches!(
        image,
        ImageRoute::Kept {
            reason: KeepReason::ExcludedImage | KeepReason::NotSelected | KeepReason::NoCounterpart,
            ..
        }
    );
    image.route().is_some_and(may_move) && !is_left_alone
}
