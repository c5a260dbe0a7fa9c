//! What the webhook counts: plain atomics over closed enums, for the binary to register with its exporter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catamaran_core::pod::Exclusion;
use catamaran_core::routing::{KeepReason, RewriteReason};
use catamaran_listener::Counts;

/// Defines a closed enum with the labels it is exported under.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The label it is exported under.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

labels! {
    /// How a review ended. Every one of them allowed the request.
    Outcome {
        /// The answer carries a patch.
        Patched = "patched",
        /// A Pod with nothing to change.
        Unchanged = "unchanged",
        /// Not a creation of a Pod, nor an update of its images: nothing was looked at.
        NotApplicable = "not_applicable",
        /// A request of this operator's own, or in an excluded namespace.
        Exempt = "exempt",
        /// The view of the mirrors was too old to act on.
        Stale = "stale",
        /// The body is no review that could be read.
        Unreadable = "unreadable",
        /// A Pod with more containers, volumes or labels than are read.
        TooLong = "too_long",
        /// A large review that could not be had in time, because of others.
        Overloaded = "overloaded",
        /// A review of a version or an object of a kind that this webhook doesn't know.
        Unsupported = "unsupported",
        /// A bug: the review ended in a panic.
        Panicked = "panicked",
    }
}

labels! {
    /// What was decided about one image.
    ImageOutcome {
        /// Already on the active side.
        OnActive = "on_active",
        /// Re-pointed: the active side has it.
        Rewritten = "rewritten",
        /// Re-pointed without having been verified.
        RewrittenUnverified = "rewritten_unverified",
        /// Re-pointed to the side that is not active, because only that side has it.
        RewrittenOnlyOnOther = "rewritten_only_on_other",
        /// Re-pointed to other content under the same tag, because the side that it names is unavailable.
        RewrittenMismatched = "rewritten_mismatched",
        /// Left by a mirror in audit mode; else as `rewritten`.
        AuditedRewritten = "audited_rewritten",
        /// Left by a mirror in audit mode; else as `rewritten_unverified`.
        AuditedUnverified = "audited_unverified",
        /// Left by a mirror in audit mode; else as `rewritten_only_on_other`.
        AuditedOnlyOnOther = "audited_only_on_other",
        /// Left by a mirror in audit mode; else as `rewritten_mismatched`.
        AuditedMismatched = "audited_mismatched",
        /// Left: its mapping was never observed.
        KeptNotObservedYet = "kept_not_observed_yet",
        /// Left: the labels of its namespace are not known yet.
        KeptNamespaceUnknown = "kept_namespace_unknown",
        /// Left: its pull policy is `Never`.
        KeptPullPolicyNever = "kept_pull_policy_never",
        /// Left: the mirror does not select its tag.
        KeptNotSelected = "kept_not_selected",
        /// Left: the active side is known to lack the tag.
        KeptMissingOnActive = "kept_missing_on_active",
        /// Left: a manifest, a config or a layer of it is missing on the active side.
        KeptBrokenOnActive = "kept_broken_on_active",
        /// Left: what the active side serves for it does not have its digest.
        KeptUntrustedOnActive = "kept_untrusted_on_active",
        /// Left: the two sides hold different content under the tag.
        KeptDigestMismatch = "kept_digest_mismatch",
        /// Left: never verified, and the mirror says to keep such tags.
        KeptUnverified = "kept_unverified",
        /// Left: the active side is a pull-through cache that digests don't fill.
        KeptNotCached = "kept_not_cached",
        /// Left: it has no valid and unambiguous name on the active side.
        KeptNoCounterpart = "kept_no_counterpart",
        /// Left: the mirror excludes the image.
        ExcludedImage = "excluded_image",
        /// Left: the mirror excludes pods with such labels.
        ExcludedByPodSelector = "excluded_by_pod_selector",
        /// Left: the namespace is excluded.
        ExcludedNamespace = "excluded_namespace",
        /// Left: the kubelet's copy of a static pod.
        ExcludedStaticPod = "excluded_static_pod",
        /// Left: the pod's label says so.
        ExcludedByPodLabel = "excluded_by_pod_label",
        /// Left: the namespace's label says so.
        ExcludedByNamespaceLabel = "excluded_by_namespace_label",
        /// Left: the pod's owner may compare images.
        ExcludedControllerOwned = "excluded_controller_owned",
    }
}

impl ImageOutcome {
    /// What a mirror in audit mode would have done for this reason.
    pub(crate) fn audited(reason: RewriteReason) -> ImageOutcome {
        match reason {
            RewriteReason::Rewritten => ImageOutcome::AuditedRewritten,
            RewriteReason::Unverified => ImageOutcome::AuditedUnverified,
            RewriteReason::OnlyOnOther => ImageOutcome::AuditedOnlyOnOther,
            RewriteReason::Mismatched => ImageOutcome::AuditedMismatched,
        }
    }
}

impl From<RewriteReason> for ImageOutcome {
    fn from(reason: RewriteReason) -> Self {
        match reason {
            RewriteReason::Rewritten => ImageOutcome::Rewritten,
            RewriteReason::Unverified => ImageOutcome::RewrittenUnverified,
            RewriteReason::OnlyOnOther => ImageOutcome::RewrittenOnlyOnOther,
            RewriteReason::Mismatched => ImageOutcome::RewrittenMismatched,
        }
    }
}

impl From<KeepReason> for ImageOutcome {
    fn from(reason: KeepReason) -> Self {
        match reason {
            KeepReason::NotObservedYet => ImageOutcome::KeptNotObservedYet,
            KeepReason::NamespaceUnknown => ImageOutcome::KeptNamespaceUnknown,
            KeepReason::PullPolicyNever => ImageOutcome::KeptPullPolicyNever,
            KeepReason::NotSelected => ImageOutcome::KeptNotSelected,
            KeepReason::ExcludedImage => ImageOutcome::ExcludedImage,
            KeepReason::Excluded(Exclusion::PodSelector) => ImageOutcome::ExcludedByPodSelector,
            KeepReason::Excluded(Exclusion::Namespace) => ImageOutcome::ExcludedNamespace,
            KeepReason::MissingOnActive => ImageOutcome::KeptMissingOnActive,
            KeepReason::BrokenOnActive => ImageOutcome::KeptBrokenOnActive,
            KeepReason::UntrustedOnActive => ImageOutcome::KeptUntrustedOnActive,
            KeepReason::DigestMismatch => ImageOutcome::KeptDigestMismatch,
            KeepReason::Unverified => ImageOutcome::KeptUnverified,
            KeepReason::NotCached => ImageOutcome::KeptNotCached,
            KeepReason::NoCounterpart => ImageOutcome::KeptNoCounterpart,
            KeepReason::Excluded(Exclusion::StaticPod) => ImageOutcome::ExcludedStaticPod,
            KeepReason::Excluded(Exclusion::PodLabel) => ImageOutcome::ExcludedByPodLabel,
            KeepReason::Excluded(Exclusion::NamespaceLabel) => ImageOutcome::ExcludedByNamespaceLabel,
            KeepReason::Excluded(Exclusion::ControllerOwned) => ImageOutcome::ExcludedControllerOwned,
        }
    }
}

labels! {
    /// Why a request ended without a review.
    Refusal {
        /// A path other than the webhook's (404).
        NotFound = "not_found",
        /// A method other than POST (405).
        MethodNotAllowed = "method_not_allowed",
        /// A compressed body (415).
        EncodedBody = "encoded_body",
        /// A body beyond the limit (413).
        BodyTooLarge = "body_too_large",
        /// A body that took too long to arrive (408).
        BodyTimeout = "body_timeout",
        /// A body that ended early (400).
        BodyBroken = "body_broken",
    }
}

/// Upper bounds of the duration histogram's buckets, in seconds; above the last one lies one more bucket.
pub const DURATION_BUCKETS: [f64; 11] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.025, 0.1, 0.5,
];

/// Counts how long reviews took, from the whole body in memory to the answer.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; DURATION_BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

/// A reading of [`Durations`].
#[derive(Clone, Debug, PartialEq)]
pub struct DurationsSnapshot {
    /// How many reviews fell into each bucket; not cumulative. The last bucket has no upper bound.
    pub buckets: [u64; DURATION_BUCKETS.len() + 1],
    /// All durations together, in seconds.
    pub sum: f64,
}

impl Durations {
    fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = DURATION_BUCKETS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(
            u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// What has been recorded so far.
    pub fn snapshot(&self) -> DurationsSnapshot {
        DurationsSnapshot {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// Everything the webhook counts. Counters only grow.
#[derive(Debug, Default)]
pub struct Metrics {
    reviews: [AtomicU64; Outcome::ALL.len()],
    images: [AtomicU64; ImageOutcome::ALL.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
    durations: Durations,
    listener: Arc<Counts>,
}

impl Metrics {
    /// Reviews that ended so.
    pub fn reviews(&self, outcome: Outcome) -> u64 {
        self.reviews[outcome as usize].load(Ordering::Relaxed)
    }

    /// Images that were decided on so.
    pub fn images(&self, outcome: ImageOutcome) -> u64 {
        self.images[outcome as usize].load(Ordering::Relaxed)
    }

    /// Connections and requests that ended so.
    pub fn refusals(&self, refusal: Refusal) -> u64 {
        self.refusals[refusal as usize].load(Ordering::Relaxed)
    }

    /// How long reviews took.
    pub fn durations(&self) -> &Durations {
        &self.durations
    }

    /// What its listener counts.
    pub fn listener(&self) -> Arc<Counts> {
        Arc::clone(&self.listener)
    }

    pub(crate) fn reviewed(&self, outcome: Outcome, images: &Tally, took: Duration) {
        self.reviews[outcome as usize].fetch_add(1, Ordering::Relaxed);
        for (counter, count) in self.images.iter().zip(&images.0) {
            if *count > 0 {
                counter.fetch_add(u64::from(*count), Ordering::Relaxed);
            }
        }
        self.durations.record(took);
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// How often each [`ImageOutcome`] occurred in one review.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally([u32; ImageOutcome::ALL.len()]);

impl Tally {
    /// How often it occurred.
    pub fn count(&self, outcome: ImageOutcome) -> u32 {
        self.0[outcome as usize]
    }

    pub(crate) fn add(&mut self, outcome: ImageOutcome) {
        self.0[outcome as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let durations = Durations::default();
        for microseconds in [1, 25, 26, 1_000, 600_000] {
            durations.record(Duration::from_micros(microseconds));
        }
        let snapshot = durations.snapshot();
        assert_eq!(snapshot.buckets, [2, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!((snapshot.sum - 0.601_052).abs() < 1e-9, "{}", snapshot.sum);
    }

    #[test]
    fn labels_are_distinct() {
        let mut outcomes: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        outcomes.sort_unstable();
        outcomes.dedup();
        assert_eq!(outcomes.len(), Outcome::ALL.len());
    }
}
