//! What should be read from the registries because pods wait for it.

use super::{WaitingPod, is_movable};
use crate::pod::image_reference;
use crate::pod::message::PullFailure;
use crate::policy::MirrorId;
use crate::routing::RouteTable;
use crate::routing::evidence::Presence;
use crate::side::Side;

/// A reference that a pod waits for and that is not known well enough.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The mirror that it belongs to.
    pub mirror: MirrorId,
    /// The repository's name in status and evidence.
    pub repository: String,
    /// The tag or digest.
    pub reference: String,
    /// A kubelet was told that it does not exist, against what is known: a pod waits for the answer.
    pub is_urgent: bool,
}

/// The references of a waiting pod that should be read from both sides: those of which a side is not known, and those that
/// a registry denied to the kubelet. What its mirror would never move is not among them.
pub fn wanted(pod: &WaitingPod<'_>, table: &RouteTable) -> Vec<Wanted> {
    let routes = table.pod(&pod.facts);
    let mut wanted = Vec::new();
    let mut want = |image: &str, never: bool, failure: Option<PullFailure>| {
        let route = routes.image(image, never);
        let Some(reference) = image_reference(image) else {
            return;
        };
        let Some(located) = routes.locate(&reference).filter(|_| is_movable(&routes, &route, never)) else {
            return;
        };
        let (tag, digest) = located.knowledge(&reference);
        let presence = digest.or(tag).unwrap_or_default().presence;
        let is_unknown = Side::ALL.iter().any(|side| presence[*side] == Presence::Unknown);
        let is_settled = presence[located.side] == Presence::Absent && !is_unknown;
        let is_urgent = failure == Some(PullFailure::NotFound) && !is_settled;
        let Some(name) = reference.digest().or(reference.effective_tag()) else {
            return;
        };
        if is_urgent || is_unknown {
            wanted.push(Wanted {
                mirror: located.route.policy.id.clone(),
                repository: located.repository.to_owned(),
                reference: name.to_owned(),
                is_urgent,
            });
        }
    };
    let containers = pod.containers.iter();
    for container in containers.filter(|container| container.state.awaits_own_image()) {
        want(
            container.image,
            container.pull_policy_never,
            container.state.own_failure(),
        );
    }
    for (position, volume) in pod.image_volumes.iter().enumerate() {
        let failure = pod.volume_failure(position);
        if failure.is_some() || !pod.has_started() {
            want(volume.reference, volume.pull_policy_never, failure);
        }
    }
    wanted.sort();
    wanted.dedup();
    wanted
}
