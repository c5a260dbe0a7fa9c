//! Why an image stays where it is, in words.

use catamaran_core::pod::Exclusion;
use catamaran_core::routing::KeepReason;

/// The cause, as a clause.
pub fn cause(reason: KeepReason) -> &'static str {
    match reason {
        KeepReason::NotObservedYet => "neither side has served an image of this repository under this mapping yet",
        KeepReason::NamespaceUnknown => "the labels of its namespace are not known",
        KeepReason::PullPolicyNever => "imagePullPolicy is Never",
        KeepReason::NotSelected => "the mirror's tags do not select this tag",
        KeepReason::ExcludedImage => "one of the mirror's rewrite.excludeImages matches it",
        KeepReason::MissingOnActive => "the active side does not have it",
        KeepReason::BrokenOnActive => "a manifest, a config or a layer of it is missing on the active side",
        KeepReason::UntrustedOnActive => "the active side serves content that does not have its digest",
        KeepReason::DigestMismatch => "the sides have different digests for the tag",
        KeepReason::Unverified => "it was not verified, and rewrite.unverifiedTags is Keep",
        KeepReason::NotCached => "the active side is a pull-through cache that does not hold it",
        KeepReason::NoCounterpart => {
            "its name on the other side is no valid reference, or belongs to another mirror or repository"
        }
        KeepReason::Excluded(exclusion) => exclusion_cause(exclusion),
    }
}

fn exclusion_cause(exclusion: Exclusion) -> &'static str {
    match exclusion {
        Exclusion::StaticPod => "the pod is static: its kubelet runs it from a file",
        Exclusion::Namespace => "its namespace is kube-system, the operator's own or one of webhook.excludedNamespaces",
        Exclusion::PodLabel => "the pod is labelled catamaran.dev/rewrite: disabled",
        Exclusion::NamespaceLabel => "its namespace is labelled catamaran.dev/rewrite: disabled",
        Exclusion::PodSelector => "one of the mirror's rewrite.excludePods selects the pod",
        Exclusion::ControllerOwned => {
            "the pod's owner may compare images, and neither rewrite.controllerOwnedPods nor rewrite.ownerKinds allows it"
        }
    }
}
