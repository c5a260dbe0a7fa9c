//! What the operator reports: the status of a `RegistryMirror`.

// Shown as plain text by `kubectl explain`: no Markdown.
#![allow(clippy::doc_markdown)]

use catamaran_core::side::Side;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

mod proof;

pub use self::proof::{MAX_FAILING, ProofFailure, ProofStatus};

/// The value of `observedGeneration` before the operator has seen the object.
///
/// No generation has it, so that tools which judge by kstatus (Flux, Helm) never take a new object for a finished one.
pub const NEVER_OBSERVED: i64 = -1;

/// At most so many divergences are listed in the status; the counts are exact, the list is a sample.
pub const MAX_DIVERGENCES: usize = 20;

/// At most so many digests that are broken, and that are untrusted, are listed.
pub const MAX_FLAWED: usize = 10;

/// At most so many planned copies are listed.
pub const MAX_PLANNED: usize = 20;

/// At most so many blockers of a failback are listed; the count is exact, the list is a sample.
pub const MAX_BLOCKERS: usize = 10;

/// The state of the mirror as last observed.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryMirrorStatus {
    /// The generation of the spec that this status belongs to; -1 before the first. While a spec is invalid, the last valid one stays in
    /// force, as the condition Stalled says.
    pub observed_generation: i64,

    /// The side that pods are sent to: Primary or Fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_side")]
    pub active: Option<Side>,

    /// The registry that this is, with the side's prefix: it stays active when the sides change places in the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_registry: Option<String>,

    /// Counts the changes of the active side; it never decreases.
    pub epoch: i64,

    /// The last change of the active side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_flip: Option<LastFlip>,

    /// The operator's failovers within the last hour, newest last. Each makes the next failback wait longer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent_failovers: Vec<Time>,

    /// What the next failback waits for, while the fallback is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<FailbackStatus>,

    /// The mappings of repositories between the two registries of which one side has served an image, 16 hexadecimal digits each, at most
    /// 600. Images of other mappings are not rewritten yet. An edit that leaves a repository's paths as they are leaves its mapping here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observed_mappings: Vec<String>,

    /// The image that probes request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,

    /// The last complete comparison of the tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parity: Option<ParityStatus>,

    /// A sample of the tags that are missing on one side or differ, newest first, at most 20. The counts in parity are exact.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub divergences: Vec<Divergence>,

    /// A sample of the digests whose content is not all there, at most 10. The count in parity is exact.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<FlawedContent>,

    /// A sample of the digests under which a side serves a manifest that does not have it, at most 10. The count in parity is exact.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untrusted: Vec<FlawedContent>,

    /// The copying of missing tags, while repair is not off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairStatus>,

    /// Pods that this mirror affects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,

    /// What proof pods found, while proof.mode is Pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofStatus>,

    /// The value of the annotation catamaran.dev/reconcile-requested-at that was followed last: a comparison, and proof pods, that began
    /// after it have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// Ready, PrimaryAvailable, FallbackAvailable, PullsFailing, InSync and FailedOver; FallbackProven while proof.mode is Pull; PullThroughRule where there is one to compare with; EvidenceStored
    /// and WorkloadsRead while they are False; Reconciling and Stalled while they are True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for RegistryMirrorStatus {
    fn default() -> Self {
        RegistryMirrorStatus {
            observed_generation: NEVER_OBSERVED,
            active: None,
            active_registry: None,
            epoch: 0,
            last_flip: None,
            recent_failovers: Vec::new(),
            failback: None,
            observed_mappings: Vec::new(),
            canary: None,
            parity: None,
            divergences: Vec::new(),
            broken: Vec::new(),
            untrusted: Vec::new(),
            repair: None,
            pods: None,
            proof: None,
            last_handled_reconcile_at: None,
            conditions: Vec::new(),
        }
    }
}

/// A change of the active side.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFlip {
    /// When it was decided.
    pub time: Time,
    /// The side that was active: Primary or Fallback.
    #[schemars(schema_with = "side")]
    pub from: Side,
    /// The side that became active: Primary or Fallback.
    #[schemars(schema_with = "side")]
    pub to: Side,
    /// Why: PrimaryUnavailable, FallbackUnavailable, PullsFailing, PrimaryRecovered or Requested.
    pub reason: String,
}

/// What a failback waits for.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailbackStatus {
    /// Tags and digests in use that block the failback.
    pub blocked: i64,
    /// A sample of them, at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<FailbackBlocker>,
}

/// A tag or digest in use that blocks a failback.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailbackBlocker {
    /// The repository's name.
    pub repository: String,
    /// The tag, or the digest where pods name only that.
    pub reference: String,
    /// MissingOnPrimary, DigestMismatch, BrokenOnPrimary, UntrustedOnPrimary or NotRead.
    pub reason: FailbackBlockerReason,
    /// The digest on the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_digest: Option<String>,
    /// The digest on the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_digest: Option<String>,
}

/// Why a tag or digest blocks a failback.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailbackBlockerReason {
    /// The primary does not have it.
    MissingOnPrimary,
    /// The primary has it with another digest than the fallback.
    DigestMismatch,
    /// A manifest, a config or a layer of it is missing on the primary.
    BrokenOnPrimary,
    /// What the primary serves for it does not have its digest.
    UntrustedOnPrimary,
    /// The primary was not read since it recovered.
    NotRead,
}

/// The image that probes request.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// The repository's name.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest of its manifest, the same on both sides.
    pub digest: String,
}

/// The result of comparing the tags of both sides. Every tag counts in exactly one of the states.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParityStatus {
    /// Since when the result of the comparison has been this. When the last comparison ended is the metric
    /// catamaran_parity_last_pass_timestamp_seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_time: Option<Time>,
    /// Repositories compared.
    pub repositories: i64,
    /// Tags compared.
    pub tags: i64,
    /// Tags with the same digest on both sides.
    pub in_sync: i64,
    /// Tags that only the fallback has.
    pub missing_on_primary: i64,
    /// Tags that only the primary has.
    pub missing_on_fallback: i64,
    /// Tags with different digests.
    pub mismatched: i64,
    /// Tags whose difference is younger than the grace period, or that were not read yet.
    pub pending: i64,
    /// Tags that the pull-through cache does not hold, which is not a divergence.
    pub not_cached: i64,
    /// Tags with the same digest on both sides that can't be pulled from one of them: a manifest, a config or a layer is missing. They
    /// are among those in sync.
    pub broken: i64,
    /// Tags of which a side serves a manifest that does not have its digest. No pod is sent there for them.
    pub untrusted: i64,
    /// Missing and mismatched tags together.
    pub diverged: i64,
    /// When the oldest digest in this result was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_check_time: Option<Time>,
    /// A hash over every tag and its state, 16 hexadecimal digits: it changes when, and only when, one of them does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// One tag that is missing on one side or differs.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Divergence {
    /// The repository's name.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// MissingOnPrimary, MissingOnFallback or Mismatched.
    pub state: DivergenceState,
    /// The digest on the primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_digest: Option<String>,
    /// The digest on the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_digest: Option<String>,
    /// When it was first seen.
    pub since: Time,
}

/// A digest whose content can't be used on a side.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlawedContent {
    /// The repository's name.
    pub repository: String,
    /// A tag that stands for it, or the digest itself where pods name only that.
    pub reference: String,
    /// The side where it can't be pulled: Primary or Fallback.
    #[schemars(schema_with = "side")]
    pub side: Side,
    /// What is wrong first: a Manifest, Config or Layer.
    pub part: FlawedPart,
    /// The digest of that part.
    pub digest: String,
    /// The platform that needs it, as os/architecture, where an index names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When it was first found.
    pub since: Time,
}

/// What a digest refers to.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlawedPart {
    /// A manifest: the digest's own, or one that an index names.
    Manifest,
    /// The config of an image.
    Config,
    /// A layer, or another blob.
    Layer,
}

/// How a tag diverges.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DivergenceState {
    /// Only the fallback has it.
    MissingOnPrimary,
    /// Only the primary has it.
    MissingOnFallback,
    /// The digests differ.
    Mismatched,
}

/// The copying of missing tags. A round follows each comparison that finds some.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepairStatus {
    /// When the last round that had something to do began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// Tags that this round copied.
    pub copied: i64,
    /// Tags whose last copy failed; they are retried with a backoff of up to six hours.
    pub failed: i64,
    /// Tags that are still to be copied, those that failed included.
    pub pending: i64,
    /// What happened, and how to fix a failure.
    pub message: String,
    /// With DryRun a sample of what would be copied, at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_copy: Vec<PlannedCopy>,
}

/// A tag that would be copied.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedCopy {
    /// The repository's name.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The side that lacks it: Primary or Fallback.
    #[schemars(schema_with = "side")]
    pub to: Side,
    /// The digest on the other side.
    pub digest: String,
}

/// Pods that the mirror affects.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCounts {
    /// Pods with an image on the fallback, as of the last comparison.
    pub on_fallback: i64,
    /// Pods re-pointed since the mirror was created.
    pub rescued: i64,
    /// Pods that wait because a pull from the active side failed since it became active, for whatever reason; at most 1024 are counted.
    pub failing: i64,
}

fn side(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": [Side::Primary.as_str(), Side::Fallback.as_str()] })
}

fn optional_side(generator: &mut SchemaGenerator) -> Schema {
    side(generator)
}
