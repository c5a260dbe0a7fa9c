//! What a user writes: `RegistryMirror` and its spec.
//!
//! Defaults and rules stand in the schema, so that `kubectl get -o yaml` shows the former and the API server enforces the
//! latter. [`crate::policy`] checks everything again, because an object may be older than a rule.

// Shown as plain text by `kubectl explain`: no Markdown.
#![allow(clippy::doc_markdown)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{
    DNS_SUBDOMAIN, DURATION, FAILURE_THRESHOLD, GRACE_RULES, HEALTH_RULES, INTERVAL_RULES, MAX_PATTERN, MAX_PATTERNS,
    MAX_PREFIX, MAX_PULL_SECRETS, MAX_REGISTRY, MAX_REPOSITORIES, PATH_RULES, PATTERN_RULES, PERIOD_SECONDS,
    PREFIX_RULES, REGISTRY_RULES, SETTLED_RULES, SPEC_RULES, STABLE_SECONDS, SUCCESS_THRESHOLD, TAG, TIMEOUT_SECONDS,
    rules,
};
pub use crate::status::{
    CanaryStatus, Divergence, DivergenceState, LastFlip, ParityStatus, PodCounts, RegistryMirrorStatus,
};

/// Two registries that hold the same images, and how to move between them.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "catamaran.dev",
    version = "v1alpha1",
    kind = "RegistryMirror",
    plural = "registrymirrors",
    shortname = "regm",
    category = "catamaran",
    status = "RegistryMirrorStatus",
    derive = "PartialEq",
    doc = "A pair of container registries that hold the same images. Pods are sent to the active side; when it fails, \
           the operator makes the other side active and re-points the pods that wait for an image.",
    printcolumn = r#"{"name":"Primary","type":"string","jsonPath":".spec.primary.registry"}"#,
    printcolumn = r#"{"name":"Fallback","type":"string","jsonPath":".spec.fallback.registry"}"#,
    printcolumn = r#"{"name":"Active","type":"string","jsonPath":".status.active"}"#,
    printcolumn = r#"{"name":"In-Sync","type":"string","jsonPath":".status.conditions[?(@.type==\"InSync\")].status"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Tags","type":"integer","jsonPath":".status.parity.tags","priority":1}"#,
    printcolumn = r#"{"name":"Diverged","type":"integer","jsonPath":".status.parity.diverged","priority":1}"#,
    printcolumn = r#"{"name":"Checked","type":"date","jsonPath":".status.parity.checkedTime","priority":1}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(SPEC_RULES)))]
pub struct RegistryMirrorSpec {
    /// Stops everything for this mirror: no probes, no scans, no rewriting. Pods keep the images they have.
    #[serde(default)]
    pub suspend: bool,

    /// The registry that serves the cluster when all is well.
    pub primary: RegistrySide,

    /// The registry that serves the cluster when the primary can't.
    pub fallback: RegistrySide,

    /// The repositories of this mirror, at most 500. When absent, every repository below the prefixes belongs to it, and those that
    /// pods use are verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_REPOSITORIES))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub repositories: Option<Vec<Repository>>,

    /// Namespaces whose pods are rewritten, by their labels. Empty: all of them, except kube-system and the operator's own.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub namespace_selector: LabelSelector,

    /// How the two registries are probed.
    #[serde(default)]
    pub health_check: HealthCheck,

    /// Which side pods are sent to. Auto: the operator decides by the health of both. Primary or Fallback: that side, whatever its
    /// health, until this is set back to Auto.
    #[serde(default)]
    pub active: ActiveSide,

    /// When to go back to the primary after a failover.
    #[serde(default)]
    pub failback: Failback,

    /// How the tags of both sides are compared.
    #[serde(default)]
    pub parity: Parity,

    /// How image references of new pods are rewritten.
    #[serde(default)]
    pub rewrite: Rewrite,

    /// What is done for pods that wait for an image on the wrong side.
    #[serde(default)]
    pub rescue: Rescue,

    /// What is done about tags that only one side has.
    #[serde(default)]
    pub repair: Repair,
}

/// One of the two registries.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySide {
    /// The registry's host as image references spell it, in lower case and with a port if they have one: ghcr.io,
    /// registry.example.com:5000, [2001:db8::1]:5000. No scheme, no path. Docker Hub is docker.io.
    #[schemars(length(min = 1, max = MAX_REGISTRY))]
    #[schemars(extend("x-kubernetes-validations" = rules(REGISTRY_RULES)))]
    pub registry: String,

    /// The path in front of every repository on this side, without slashes at its ends: the organisation at ghcr.io, for example.
    #[serde(default)]
    #[schemars(length(max = MAX_PREFIX))]
    #[schemars(extend("x-kubernetes-validations" = rules(PREFIX_RULES)))]
    pub prefix: String,

    /// Whose registry this is: generic, github, azure or aws. It selects the provider's token exchange and its faster ways to list
    /// tags. Credentials come from secretRef; without one, the registry is used anonymously.
    #[serde(default)]
    pub provider: ProviderName,

    /// This side only ever holds what was pulled through it (an ECR pull-through cache, an ACR artifact cache). A tag that it lacks
    /// is then no divergence.
    #[serde(default)]
    pub pull_through_cache: bool,

    /// The Secret with the operator's own credentials for this registry, in the operator's namespace: of type
    /// kubernetes.io/dockerconfigjson or kubernetes.io/basic-auth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,

    /// The Secret with additional certificate authorities for this registry, as PEM in the key ca.crt, in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretName>,

    /// Pull secrets for pods, at most 8. Those of both sides are added to every pod of this mirror, because a pod can't get one
    /// later; they must exist in the pod's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PULL_SECRETS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<SecretName>,
}

/// The name of a Secret.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
}

/// Whose registry a side is.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderName {
    /// Any registry that speaks the OCI distribution protocol.
    #[default]
    Generic,
    /// GitHub Container Registry.
    GitHub,
    /// Azure Container Registry.
    Azure,
    /// Amazon Elastic Container Registry.
    Aws,
}

/// One repository of the mirror.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// The repository's name: the path below the prefix of each side, unless primary or fallback say otherwise. Status, metrics and
    /// commands call it by this name.
    #[schemars(length(min = 1, max = 255))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATH_RULES)))]
    pub name: String,

    /// The full path on the primary, when it is not its prefix and the name. The prefix is not put in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATH_RULES)))]
    pub primary: Option<String>,

    /// The full path on the fallback, when it is not its prefix and the name. The prefix is not put in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATH_RULES)))]
    pub fallback: Option<String>,

    /// Which tags are verified.
    #[serde(default)]
    pub tags: TagRules,
}

/// Which tags of a repository are verified.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagRules {
    /// Regular expressions, at most 16 of at most 128 characters; a tag that matches one of them is verified. Anchor them with ^ and $
    /// to match whole tags. Empty: every tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PATTERNS), inner(length(min = 1, max = MAX_PATTERN)))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATTERN_RULES)))]
    pub include: Vec<String>,

    /// Regular expressions, at most 16 of at most 128 characters; a tag that matches one of them is not verified, even if it is
    /// included. The tags that attach signatures to images (sha256- and 64 digits) are always left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PATTERNS), inner(length(min = 1, max = MAX_PATTERN)))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATTERN_RULES)))]
    pub exclude: Vec<String>,
}

/// How the two registries are probed.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules(HEALTH_RULES)))]
pub struct HealthCheck {
    /// Seconds from one probe to the next, 1 to 3600.
    #[schemars(range(min = *PERIOD_SECONDS.start(), max = *PERIOD_SECONDS.end()))]
    pub period_seconds: i32,

    /// Seconds after which a probe has failed, 1 to 60.
    #[schemars(range(min = *TIMEOUT_SECONDS.start(), max = *TIMEOUT_SECONDS.end()))]
    pub timeout_seconds: i32,

    /// Failures in a row that make a registry unavailable, 1 to 100.
    #[schemars(range(min = *FAILURE_THRESHOLD.start(), max = *FAILURE_THRESHOLD.end()))]
    pub failure_threshold: i32,

    /// Successes in a row that make it available again, 1 to 100.
    #[schemars(range(min = *SUCCESS_THRESHOLD.start(), max = *SUCCESS_THRESHOLD.end()))]
    pub success_threshold: i32,

    /// Which failures count: Unavailable (refused, reset, timed out, DNS or TLS failure, 5xx), Unauthorized (401), Forbidden (403).
    /// Unavailable always does.
    #[schemars(length(max = 3))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub triggers: Vec<TriggerName>,

    /// The image to probe with. When absent, the tag that last came in sync.
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

/// Who decides which side is active.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActiveSide {
    /// The operator.
    #[default]
    Auto,
    /// The primary, whatever its health.
    Primary,
    /// The fallback, whatever its health.
    Fallback,
}

/// When to go back to the primary after a failover.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failback {
    /// Automatic: as soon as the primary has been reachable for stableSeconds and has every tag that running pods use. Manual: when
    /// a person sets active to Primary.
    pub mode: FailbackModeName,

    /// Seconds for which the primary must have been reachable without a break, 60 to 86400. Each further failover within an hour
    /// doubles it, up to an hour.
    #[schemars(range(min = *STABLE_SECONDS.start(), max = *STABLE_SECONDS.end()))]
    pub stable_seconds: i32,
}

impl Default for Failback {
    fn default() -> Self {
        Failback {
            mode: FailbackModeName::Automatic,
            stable_seconds: 300,
        }
    }
}

/// Whether failback needs a person.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailbackModeName {
    /// As soon as it is safe.
    #[default]
    Automatic,
    /// Only when a person says so.
    Manual,
}

/// How the tags of both sides are compared.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Parity {
    /// Time from one comparison of all tags to the next, 10s to 24h.
    #[schemars(length(max = 32), regex(pattern = DURATION))]
    #[schemars(extend("x-kubernetes-validations" = rules(INTERVAL_RULES)))]
    pub interval: String,

    /// How long a difference may last before it counts as a divergence, at most 1h: pushes to two registries are never one step.
    #[schemars(length(max = 32), regex(pattern = DURATION))]
    #[schemars(extend("x-kubernetes-validations" = rules(GRACE_RULES)))]
    pub grace_period: String,

    /// The longest time between two reads of a tag that was equal twice, where a registry can't list digests, 10s to 168h. Such
    /// tags are read in turn; all others in every comparison.
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

/// How image references of new pods are rewritten.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rewrite {
    /// What happens to a tag that was not compared yet. Rewrite: it is rewritten, and compared at once. Keep: it stays as it is.
    pub unverified_tags: UnverifiedTagsName,

    /// What happens to pods of other owners than ReplicaSets, StatefulSets, DaemonSets, Jobs and ReplicationControllers. Keep: they
    /// stay as they are, because such an owner may compare images and recreate the pod for ever. Rewrite: they are rewritten.
    pub controller_owned_pods: ControllerOwnedPodsName,
}

/// What happens to a tag that was not compared yet.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnverifiedTagsName {
    /// It is rewritten.
    #[default]
    Rewrite,
    /// It stays.
    Keep,
}

/// What happens to pods of custom controllers.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerOwnedPodsName {
    /// They stay as they are.
    #[default]
    Keep,
    /// They are rewritten.
    Rewrite,
}

/// What is done for pods that wait for an image on the wrong side.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rescue {
    /// Patch: the image of the waiting container is patched. PatchOrReplace: besides, pods of ReplicaSets that never started and hang
    /// on a dead registry are deleted, which the operator must be granted. "Off", in quotes, because YAML takes the bare word for
    /// false: nothing.
    pub mode: RescueModeName,
}

/// What is done for a pod that waits.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RescueModeName {
    /// Its image is patched.
    #[default]
    Patch,
    /// Its image is patched, or it is deleted when that is quicker.
    PatchOrReplace,
    /// Nothing.
    Off,
}

/// What is done about tags that only one side has.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Repair {
    /// "Off", in quotes, because YAML takes the bare word for false: missing tags are reported, never copied.
    pub missing_tags: MissingTags,
}

/// What is done about a missing tag.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingTags {
    /// It is reported.
    #[default]
    Off,
}
