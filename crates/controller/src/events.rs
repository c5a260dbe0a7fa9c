//! Every Event that the operator publishes: docs/reference/events.md is made of these words.
//!
//! Events are few: something turned, or a person should know. They follow the write that they tell of, and a lost one is not
//! worth repeating it for, because status says the same.

// Shown as plain text in docs/reference: the names of kinds are words there.
#![allow(clippy::doc_markdown)]

use std::cmp::Ordering;

use catamaran_api::mirror::RegistryMirror;
use catamaran_core::policy::MirrorId;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType};

/// The name under which this operator writes Events and fields.
pub(crate) const CONTROLLER: &str = "catamaran";

/// The longest note that the API takes is 1,024 bytes; characters may have several, but ours are names and words.
const MAX_NOTE: usize = 1000;

/// A mirror as what an Event is about.
pub(crate) fn regarding(mirror: &MirrorId) -> ObjectReference {
    ObjectReference {
        api_version: Some(RegistryMirror::api_version(&()).into_owned()),
        kind: Some(RegistryMirror::kind(&()).into_owned()),
        name: Some(mirror.name.to_string()),
        uid: Some(mirror.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// One kind of Event.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its reason; no two have the same.
    pub reason: &'static str,
    /// Normal or Warning.
    pub severity: EventType,
    /// The kind of object that it is about.
    pub about: &'static str,
    /// What was done.
    pub action: &'static str,
    /// When it is published, for people.
    pub when: &'static str,
}

impl Kind {
    /// An Event of this kind.
    pub fn event(&self, note: &str) -> Event {
        Event {
            type_: self.severity,
            reason: self.reason.to_owned(),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            action: self.action.to_owned(),
            secondary: None,
        }
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.reason.cmp(other.reason)
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Defines the kinds, and lists them.
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident = $severity:ident $reason:literal of $about:literal by $action:literal;)+) => {
        $($(#[doc = $doc])+ pub static $name: Kind = Kind {
            reason: $reason,
            severity: EventType::$severity,
            about: $about,
            action: $action,
            when: concat!($($doc),+),
        };)+

        /// All of them.
        pub static ALL: &[&Kind] = &[$(&$name),+];
    };
}

events! {
    /// Pods are sent to the fallback from now on.
    FAILED_OVER = Warning "FailedOver" of "RegistryMirror" by "Flip";
    /// Pods are sent to the primary again.
    FAILED_BACK = Normal "FailedBack" of "RegistryMirror" by "Flip";
    /// A side has failed as often as its threshold says.
    SIDE_UNAVAILABLE = Warning "RegistryUnavailable" of "RegistryMirror" by "Probe";
    /// A side that was unavailable answers again.
    SIDE_AVAILABLE = Normal "RegistryAvailable" of "RegistryMirror" by "Probe";
    /// Pods on several nodes can't pull from the active side, whatever probes find; the message says how many, and how pulls fail.
    PULLS_FAILING = Warning "PullsFailing" of "RegistryMirror" by "Watch";
    /// Pulls that failed on nodes are over: fewer pods wait, or pods are sent to the other side.
    PULLS_WORK = Normal "NoPullFailures" of "RegistryMirror" by "Watch";
    /// Pods can't pull from the side that they are sent to since a flip; once for each flip, with their number and why.
    PULLS_FAIL_AFTER_FLIP = Warning "PullsFailAfterFlip" of "RegistryMirror" by "Flip";
    /// Tags are missing on one side or differ, beyond the grace period.
    TAGS_DIFFER = Warning "TagsDiffer" of "RegistryMirror" by "Verify";
    /// Content of tags that both sides have is missing on one of them, so that they can't be pulled from there; with an example.
    BROKEN = Warning "Broken" of "RegistryMirror" by "Verify";
    /// A side serves manifests that don't have the digest they were asked for by; with an example.
    UNTRUSTED = Warning "Untrusted" of "RegistryMirror" by "Verify";
    /// All verified tags are the same again.
    TAGS_MATCH = Normal "TagsMatch" of "RegistryMirror" by "Verify";
    /// Proof pods can't pull from the fallback, or policies refuse them; the message says where and why.
    FALLBACK_NOT_PROVEN = Warning "FallbackNotProven" of "RegistryMirror" by "Prove";
    /// Proof pods can pull from the fallback again, on each node and for each namespace.
    FALLBACK_PROVEN = Normal "FallbackProven" of "RegistryMirror" by "Prove";
    /// The paths of a pull-through cache are not where the cloud caches the other side; the message says which prefix to set.
    PULL_THROUGH_RULE = Warning "PullThroughRule" of "RegistryMirror" by "Verify";
    /// What was verified can't be stored, so the webhooks of other replicas don't know it; the message says why.
    EVIDENCE_NOT_STORED = Warning "EvidenceNotStored" of "RegistryMirror" by "Verify";
    /// A person must change the spec or a Secret; the message says what.
    STALLED = Warning "Stalled" of "RegistryMirror" by "Validate";

    /// Missing tags were copied; once for each round.
    TAGS_COPIED = Normal "TagsCopied" of "RegistryMirror" by "Copy";
    /// A missing tag could not be copied; once for each round, with the tag and what to do.
    COPY_FAILED = Warning "CopyFailed" of "RegistryMirror" by "Copy";
    /// Tags would be copied, were it not a dry run; once for each plan.
    COPY_PLANNED = Normal "CopyPlanned" of "RegistryMirror" by "Copy";

    /// A pull secret is not minted, because the chart's values don't allow its name: add it to pullSecrets.names.
    PULL_SECRET_NOT_ALLOWED = Warning "PullSecretNotAllowed" of "RegistryMirror" by "MintPullSecret";
    /// A pull secret is minted for another mirror, which is older: choose another name.
    PULL_SECRET_TAKEN = Warning "PullSecretTaken" of "RegistryMirror" by "MintPullSecret";
    /// A Secret that the operator did not make stands where one is to be minted, and is left alone: remove it, or choose another name.
    PULL_SECRET_FOREIGN = Warning "PullSecretForeign" of "RegistryMirror" by "MintPullSecret";
    /// A pull secret can't be minted; the message says why: a password can't be minted from, the registry refuses, a right is missing.
    PULL_SECRET_NOT_MINTED = Warning "PullSecretNotMinted" of "RegistryMirror" by "MintPullSecret";

    /// A waiting container was re-pointed to the other side.
    RESCUED = Normal "ImageRescued" of "Pod" by "Rescue";
    /// The pod was deleted so that its ReplicaSet makes one that can start; only with rescue.mode PatchOrReplace.
    REPLACED = Normal "PodReplaced" of "Pod" by "Rescue";
    /// A waiting container was not re-pointed, because the API server, an admission webhook or a policy refused it or set the
    /// image back; the message says what the API server answered. Once until the pod or its route changes.
    NOT_RESCUED = Warning "ImageNotRescued" of "Pod" by "Rescue";
    /// Nothing can be done to the pod itself: an image volume or an ephemeral container waits, which the API does not let us change.
    STUCK = Warning "ImageStuck" of "Pod" by "Rescue";
    /// The pod was re-pointed and lacks the other side's pull secret, which a pod can't be given later; once for each pod.
    PULL_SECRET_MISSING = Warning "PullSecretMissing" of "Pod" by "Rescue";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_events_have_one_reason_and_their_notes_fit() {
        let mut reasons: Vec<&str> = ALL.iter().map(|kind| kind.reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), ALL.len());
        let event = RESCUED.event(&"x".repeat(5000));
        assert_eq!(event.note.map(|note| note.len()), Some(MAX_NOTE));
    }
}
