//! What a user writes about behaviour: health, failback, parity, rewriting, rescue and repair. Re-exported by [`crate::mirror`].

// Shown as plain text by `kubectl explain`: no Markdown.
#![allow(clippy::doc_markdown)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{
    BYTES_PER_SECOND, CONCURRENCY, DURATION, FAILURE_THRESHOLD, GRACE_RULES, HEALTH_RULES, INTERVAL_RULES, PATH_RULES,
    PERIOD_SECONDS, SETTLED_RULES, STABLE_SECONDS, SUCCESS_THRESHOLD, TAG, TIMEOUT_SECONDS, rules,
};

mod proof;
mod rewrite;

pub use self::proof::{Failover, Proof, ProofModeName};
pub use self::rewrite::{
    ControllerOwnedPodsName, MismatchedTagsName, OwnerKindName, Rewrite, RewriteModeName, UnverifiedTagsName,
};

/// How the two registries are probed.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules(HEALTH_RULES)))]
pub struct HealthCheck {
    /// Seconds between two probes while the registry is available, 1 to 3600; an eighth is added. Mirrors that reach a registry in the
    /// same way share its probes, and get the shortest of their periods. After a failure probes follow faster.
    #[schemars(range(min = *PERIOD_SECONDS.start(), max = *PERIOD_SECONDS.end()))]
    pub period_seconds: i32,

    /// The timeout of a probe in seconds, 1 to 60; at most periodSeconds x failureThreshold.
    #[schemars(range(min = *TIMEOUT_SECONDS.start(), max = *TIMEOUT_SECONDS.end()))]
    pub timeout_seconds: i32,

    /// Failures in a row that make a registry unavailable, 1 to 100. With 1, a single failed probe can cause a failover, also right after
    /// the operator has started.
    #[schemars(range(min = *FAILURE_THRESHOLD.start(), max = *FAILURE_THRESHOLD.end()))]
    pub failure_threshold: i32,

    /// Successes in a row that make it available again, 1 to 100.
    #[schemars(range(min = *SUCCESS_THRESHOLD.start(), max = *SUCCESS_THRESHOLD.end()))]
    pub success_threshold: i32,

    /// Which failures count: Unavailable (refused, reset, timed out, DNS or TLS failure, 5xx), Unauthorized (401), Forbidden (403),
    /// Throttled (429). Unavailable always counts, in a row. The others count once they are 80 percent of the probes of the last two
    /// minutes.
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub triggers: Vec<TriggerName>,

    /// What follows when at least three pods on two nodes can't pull from the active registry within a minute, because of the connection,
    /// DNS, TLS or server errors, whatever probes find. Failover: pods are sent to the other registry, if that is available. Report: the
    /// condition PullsFailing, an Event and a metric. On a cluster with one node, three pods on it are enough.
    pub on_pulls_failing: OnPullsFailingName,

    /// The image to probe with. Absent: the tag that came in sync last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            period_seconds: 2,
            timeout_seconds: 2,
            failure_threshold: 3,
            success_threshold: 3,
            triggers: vec![TriggerName::Unavailable],
            on_pulls_failing: OnPullsFailingName::Failover,
            canary: None,
        }
    }
}

/// A class of failure.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TriggerName {
    /// Refused, reset, timed out, DNS or TLS failure, 5xx.
    Unavailable,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 429.
    Throttled,
}

/// What follows when nodes can't pull from the active registry.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnPullsFailingName {
    /// Pods are sent to the other registry, if that is available.
    #[default]
    Failover,
    /// It is reported.
    Report,
}

/// The image that probes ask for.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The repository's name, as in repositories.
    #[schemars(length(min = 1, max = 255))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATH_RULES)))]
    pub repository: String,

    /// The tag.
    #[schemars(length(min = 1, max = 128), regex(pattern = TAG))]
    pub tag: String,
}

/// How the active side is chosen.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActiveSideName {
    /// By the operator.
    #[default]
    Auto,
    /// The primary, regardless of its health.
    Primary,
    /// The fallback, regardless of its health.
    Fallback,
}

/// When to go back to the primary after a failover.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failback {
    /// Automatic: as soon as the primary has been reachable for stableSeconds and has every tag and digest that pods use (onMismatch).
    /// Manual: only when active is set to Primary.
    pub mode: FailbackModeName,

    /// Seconds for which the primary must have been reachable without interruption, 60 to 86400. Each further failover within an hour
    /// doubles it, up to an hour.
    #[schemars(range(min = *STABLE_SECONDS.start(), max = *STABLE_SECONDS.end()))]
    pub stable_seconds: i32,

    /// Whether a failback waits for tags in use that the primary has with another digest than the fallback. Wait: it waits until both
    /// are the same; status.failback lists what it waits for. Proceed: it does not wait, and pods get the primary's digest afterwards.
    /// A tag or digest that the primary lacks is always waited for.
    pub on_mismatch: OnMismatchName,
}

impl Default for Failback {
    fn default() -> Self {
        Failback {
            mode: FailbackModeName::Automatic,
            stable_seconds: 300,
            on_mismatch: OnMismatchName::Wait,
        }
    }
}

/// Whether failback is automatic.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailbackModeName {
    /// As soon as it is safe.
    #[default]
    Automatic,
    /// Only when active is set to Primary.
    Manual,
}

/// Whether a failback waits for tags in use that differ between the sides.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnMismatchName {
    /// It waits until they are the same.
    #[default]
    Wait,
    /// It does not wait.
    Proceed,
}

/// How the tags of both sides are compared.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Parity {
    /// Time from one comparison of all tags to the next, 10s to 24h.
    #[schemars(length(max = 32), regex(pattern = DURATION))]
    #[schemars(extend("x-kubernetes-validations" = rules(INTERVAL_RULES)))]
    pub interval: String,

    /// How long a difference may last before it counts as a divergence, at most 1h, because images reach two registries one after the
    /// other. It delays reports and repair. Images are never rewritten to a tag that is known to be missing.
    #[schemars(length(max = 32), regex(pattern = DURATION))]
    #[schemars(extend("x-kubernetes-validations" = rules(GRACE_RULES)))]
    pub grace_period: String,

    /// The longest time between two reads of a tag that was equal twice, where a registry can't list digests, 10s to 168h. Such
    /// tags are read in rotation; all others in every comparison.
    #[schemars(length(max = 32), regex(pattern = DURATION))]
    #[schemars(extend("x-kubernetes-validations" = rules(SETTLED_RULES)))]
    pub settled_interval: String,
}

impl Default for Parity {
    fn default() -> Self {
        Parity {
            interval: "5m".to_owned(),
            grace_period: "2m".to_owned(),
            settled_interval: "24h".to_owned(),
        }
    }
}

/// What is done for pods that wait for an image on the wrong side.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rescue {
    /// Patch: the image of the waiting container is patched. PatchOrReplace: in addition, pods of ReplicaSets that never started and wait
    /// for an unavailable registry are deleted; the operator needs permission to delete pods. "Off", in quotes, because YAML reads the bare
    /// word as false: nothing.
    pub mode: RescueModeName,
}

/// What is done for a pod that waits.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueModeName {
    /// Its image is patched.
    #[default]
    Patch,
    /// Its image is patched, or it is deleted.
    PatchOrReplace,
    /// Nothing.
    Off,
}

/// What is done about tags that only one side has.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Repair {
    /// "Off", in quotes, because YAML reads the bare word as false: missing tags are reported, never copied. DryRun: status and
    /// Events say what would be copied. Copy: a tag that one side is confirmed to lack is copied there from the other side, with
    /// its manifests and layers. A tag that differs is never overwritten, and nothing is ever deleted. A tag that was deleted on one
    /// side only is copied back. The credentials of a side that is written need permission to push.
    pub missing_tags: MissingTags,

    /// Which sides are written: Both, ToFallback or ToPrimary. A pull-through cache is never written.
    pub direction: RepairDirectionName,

    /// Whether signatures, attestations and other artifacts that refer to an image are copied with it: those of the referrers API, and the
    /// tags sha256-<digest> with .sig, .att and .sbom. Attestations within an image index are always copied.
    pub referrers: bool,

    /// Tags copied at a time, 1 to 8. Each needs 4 MiB of memory, and up to 10 MiB where a registry wants larger pieces.
    #[schemars(range(min = *CONCURRENCY.start(), max = *CONCURRENCY.end()))]
    pub concurrency: i32,

    /// The most bytes that are read in a second, over all copies of this mirror, 65536 to 100000000000. Absent: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *BYTES_PER_SECOND.start(), max = *BYTES_PER_SECOND.end()))]
    pub max_bytes_per_second: Option<i64>,
}

impl Default for Repair {
    fn default() -> Self {
        Repair {
            missing_tags: MissingTags::Off,
            direction: RepairDirectionName::Both,
            referrers: false,
            concurrency: 2,
            max_bytes_per_second: None,
        }
    }
}

/// What is done about a missing tag.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingTags {
    /// It is reported.
    #[default]
    Off,
    /// What would be copied is reported.
    DryRun,
    /// It is copied.
    Copy,
}

/// Which sides are written.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairDirectionName {
    /// The side that lacks a tag.
    #[default]
    Both,
    /// The fallback only.
    ToFallback,
    /// The primary only.
    ToPrimary,
}
