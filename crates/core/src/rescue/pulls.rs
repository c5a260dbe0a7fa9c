//! What a waiting pod says of the registries that it pulls from.

use std::collections::BTreeMap;

use super::{ContainerState, FailedImage, FailedPull, WaitingContainer, WaitingPod};
use crate::pod::image_reference;
use crate::pod::message::FailedAttempt;
use crate::policy::MirrorId;
use crate::routing::RouteTable;
use crate::side::Sides;

/// The pulls of a waiting pod that failed, by the mirror and side that the images name. Of several from one side that one counts
/// which says most of the registry.
///
/// Only what the kubelet of its node wrote counts: a pod without a node reports nothing. A failure that names an image which the
/// container has no more is about another side.
pub fn failed_pulls(pod: &WaitingPod<'_>, table: &RouteTable) -> BTreeMap<MirrorId, Sides<Option<FailedAttempt>>> {
    let mut failed: BTreeMap<MirrorId, Sides<Option<FailedAttempt>>> = BTreeMap::new();
    if !pod.is_placed {
        return failed;
    }
    let routes = table.pod(&pod.facts);
    for container in &pod.containers {
        let Some((image, pull)) = failed_image(pod, container) else {
            continue;
        };
        let Some(reference) = image_reference(image) else {
            continue;
        };
        let Some(located) = routes.locate(&reference) else {
            continue;
        };
        let attempt = FailedAttempt {
            failure: pull.failure,
            is_new: !pull.backs_off,
        };
        let sides = failed.entry(located.route.policy.id.clone()).or_default();
        let weight = |attempt: FailedAttempt| (attempt.failure.outage().is_some(), attempt.is_new);
        let side = &mut sides[located.side];
        if side.is_none_or(|known| weight(known) < weight(attempt)) {
            *side = Some(attempt);
        }
    }
    failed
}

/// The image that a container waits for in vain, and how its pull failed.
fn failed_image<'p>(pod: &WaitingPod<'p>, container: &WaitingContainer<'p>) -> Option<(&'p str, FailedPull)> {
    let ContainerState::PullFailed(pull) = container.state else {
        return None;
    };
    let image = match pull.image {
        FailedImage::Own => container.image,
        // It may be the one that the container had before.
        FailedImage::Unnamed if container.repointed.is_none() => container.image,
        FailedImage::Volume(position) => pod.image_volumes.get(position)?.reference,
        FailedImage::Unnamed | FailedImage::Former => return None,
    };
    Some((image, pull))
}
