//! What a user writes: `RegistryMirror` and its spec.
//!
//! Defaults and rules are in the schema, so that `kubectl get -o yaml` shows the former and the API server enforces the
//! latter. [`crate::policy`] checks everything again, because an object may be older than a rule.

// Shown as plain text by `kubectl explain`: no Markdown.
#![allow(clippy::doc_markdown)]

use catamaran_core::policy::Provider;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::{
    DNS_SUBDOMAIN, ID, IDENTITY_RULES, MAX_ID, MAX_PATTERN, MAX_PATTERNS, MAX_PREFIX, MAX_PULL_SECRETS, MAX_REGISTRY,
    MAX_REPOSITORIES, MAX_RESOURCE_ID, MAX_TIME, MAX_TOKEN_HOSTS, PATH_RULES, PATTERN_RULES, PREFIX_RULES,
    REGISTRY_RULES, REQUESTS_PER_MINUTE, RESOURCE_ID, SIDE_RULES, SPEC_RULES, TOKEN_HOST_RULES, rules,
};
pub use crate::settings::{
    ActiveSideName, Canary, ControllerOwnedPodsName, Failback, FailbackModeName, Failover, HealthCheck,
    MismatchedTagsName, MissingTags, OnMismatchName, OnPullsFailingName, OwnerKindName, Parity, Proof, ProofModeName,
    Repair, RepairDirectionName, Rescue, RescueModeName, Rewrite, RewriteModeName, TriggerName, UnverifiedTagsName,
};
pub use crate::status::{
    CanaryStatus, Divergence, DivergenceState, FailbackBlocker, FailbackBlockerReason, FailbackStatus, FlawedContent,
    FlawedPart, LastFlip, ParityStatus, PlannedCopy, PodCounts, ProofFailure, ProofStatus, RegistryMirrorStatus,
    RepairStatus,
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
    printcolumn = r#"{"name":"Primary","description":"The registry of the primary","type":"string","jsonPath":".spec.primary.registry"}"#,
    printcolumn = r#"{"name":"Fallback","description":"The registry of the fallback","type":"string","jsonPath":".spec.fallback.registry"}"#,
    printcolumn = r#"{"name":"Active","description":"The side that pods are sent to","type":"string","jsonPath":".status.active"}"#,
    printcolumn = r#"{"name":"In-Sync","description":"Whether every verified tag has the same digest on both sides","type":"string","jsonPath":".status.conditions[?(@.type==\"InSync\")].status"}"#,
    printcolumn = r#"{"name":"Ready","description":"Whether pods can get their images","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Tags","description":"Tags compared","type":"integer","jsonPath":".status.parity.tags","priority":1}"#,
    printcolumn = r#"{"name":"Diverged","description":"Tags that are missing on one side or differ","type":"integer","jsonPath":".status.parity.diverged","priority":1}"#,
    printcolumn = r#"{"name":"Unchanged","description":"How long the result of the comparison has been this","type":"date","jsonPath":".status.parity.checkedTime","priority":1}"#,
    printcolumn = r#"{"name":"Status","description":"The message of Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","description":"The age of the object","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(SPEC_RULES)))]
pub struct RegistryMirrorSpec {
    /// Stops everything for this mirror: no probes, no comparisons, no rewriting. Pods keep the images they have.
    #[serde(default)]
    pub suspend: bool,

    /// The registry that serves the cluster in normal operation.
    pub primary: RegistrySide,

    /// The registry that serves the cluster while the primary is unavailable.
    pub fallback: RegistrySide,

    /// The repositories of this mirror, at most 500. When absent, every repository below the prefixes belongs to it, and those that
    /// pods use are verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_REPOSITORIES))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub repositories: Option<Vec<Repository>>,

    /// Namespaces whose pods are rewritten, by their labels. Empty: all namespaces. Pods of kube-system, of the operator's own namespace and
    /// of those in the chart's webhook.excludedNamespaces are never rewritten.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub namespace_selector: LabelSelector,

    /// How the two registries are probed.
    #[serde(default)]
    pub health_check: HealthCheck,

    /// Which side pods are sent to. Auto: the operator decides by the health of both. Primary or Fallback: an override; pods are sent to
    /// that side regardless of its health until this is set back to Auto.
    #[serde(default)]
    pub active: ActiveSideName,

    /// When the override by active ends, as 2026-12-01T04:00:00Z; from then on the operator decides as with Auto, and active need not be
    /// changed. Absent: the override lasts until active is set back. Without meaning while active is Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = MAX_TIME))]
    pub active_until: Option<Time>,

    /// When the operator sends pods to the fallback.
    #[serde(default)]
    pub failover: Failover,

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

    /// How it is proven, before an outage, that nodes can pull from the fallback.
    #[serde(default)]
    pub proof: Proof,
}

/// One of the two registries.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(SIDE_RULES)))]
pub struct RegistrySide {
    /// The registry's host as image references spell it, in lower case and with a port if they have one: ghcr.io,
    /// registry.example.com:5000, [2001:db8::1]:5000. No scheme, no path. Docker Hub is docker.io. References that spell the host
    /// differently (with :443, in upper case, or by a regional endpoint's name) do not belong to the mirror.
    #[schemars(length(min = 1, max = MAX_REGISTRY))]
    #[schemars(extend("x-kubernetes-validations" = rules(REGISTRY_RULES)))]
    pub registry: String,

    /// The path in front of every repository on this side, without slashes at its ends: the organization at ghcr.io, for example.
    #[serde(default)]
    #[schemars(length(max = MAX_PREFIX))]
    #[schemars(extend("x-kubernetes-validations" = rules(PREFIX_RULES)))]
    pub prefix: String,

    /// The registry's provider: generic, github, azure, aws or google. It selects the provider's token exchange and its faster APIs for listing
    /// tags. Credentials come from secretRef or identity. Without either, the operator's environment is used where it has credentials for
    /// this provider (azure: workload identity; aws and google: the identity of the pod or machine); otherwise requests are anonymous.
    #[serde(default)]
    pub provider: ProviderName,

    /// This side only holds what was pulled through it (an ECR pull-through cache, an ACR artifact cache). A tag that it lacks is then
    /// not a divergence.
    #[serde(default)]
    pub pull_through_cache: bool,

    /// After each comparison the operator pulls tags that pods use and the pull-through cache lacks through the cache, at most 20 at a
    /// time, so that it has them before an outage. Only with pullThroughCache.
    #[serde(default)]
    pub prewarm: bool,

    /// The Secret with the operator's own credentials for this registry, in the operator's namespace: of type
    /// kubernetes.io/dockerconfigjson, whose keys name the registry, or kubernetes.io/basic-auth, whose annotation
    /// catamaran.dev/registry-host names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,

    /// The identity that the operator has at this registry without a stored secret; for provider azure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<SideIdentity>,

    /// Hosts besides the registry's own that may issue its tokens, at most 4, spelled as registry is: gitlab.example.com for
    /// registry.example.com, for example. The credentials of secretRef are sent to them. Docker Hub's token host need not be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_TOKEN_HOSTS), inner(length(min = 1, max = MAX_REGISTRY)))]
    #[schemars(extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = rules(TOKEN_HOST_RULES)))]
    pub token_hosts: Vec<String>,

    /// The Secret with certificates for this registry, in the operator's namespace: a CA bundle to trust besides the usual CAs, as PEM in
    /// the key ca.crt; a client certificate and its key in tls.crt and tls.key; or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretName>,

    /// The most requests a minute that the verification of tags sends to this registry, 1 to 100000. All mirrors of a registry share
    /// one budget; of several values the smallest applies. Absent: a fifth of what the provider allows (azure 200, github 8000, google
    /// 12000), 200 for others. The answer 429 (too many requests) halves it for a while. Probes are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *REQUESTS_PER_MINUTE.start(), max = *REQUESTS_PER_MINUTE.end()))]
    pub requests_per_minute: Option<i32>,

    /// Pull secrets for pods, at most 8. Those of both sides are added to every pod of this mirror when it is created, because they can't
    /// be added later; they must exist in the pod's namespace, or be minted there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PULL_SECRETS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<PullSecret>,
}

/// A pull secret for pods.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,

    /// The operator creates this Secret and renews it before its token expires, in those namespaces of the chart's
    /// pullSecrets.namespaces that namespaceSelector selects. Only for provider azure or aws, whose tokens expire.
    #[serde(default)]
    pub mint: bool,
}

/// An identity that a cloud issues tokens for.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(IDENTITY_RULES)))]
pub struct SideIdentity {
    /// Workload: the operator's service account token is exchanged for a token of an identity that trusts it. Managed: the identity of the
    /// machine that the operator runs on. Anonymous: none, also where the environment has one.
    pub kind: IdentityKind,

    /// The client ID of the application or user-assigned identity. Absent, with Workload: the one that the operator's service account
    /// is annotated with; with Managed: the machine's own identity, unless objectID or resourceID names another.
    #[serde(default, rename = "clientID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ID), regex(pattern = ID))]
    pub client_id: Option<String>,

    /// The tenant of the identity; with Workload. Absent: the one that the operator's service account is annotated with.
    #[serde(default, rename = "tenantID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ID), regex(pattern = ID))]
    pub tenant_id: Option<String>,

    /// The object (principal) ID of a user-assigned identity; with Managed.
    #[serde(default, rename = "objectID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ID), regex(pattern = ID))]
    pub object_id: Option<String>,

    /// The resource ID of a user-assigned identity; with Managed.
    #[serde(default, rename = "resourceID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RESOURCE_ID), regex(pattern = RESOURCE_ID))]
    pub resource_id: Option<String>,
}

/// Where an identity comes from.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityKind {
    /// The operator's service account.
    #[default]
    Workload,
    /// The machine.
    Managed,
    /// Nowhere: there is none.
    Anonymous,
}

/// The name of a Secret.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
}

/// The provider of a registry.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderName {
    /// Any registry with the OCI distribution API.
    #[default]
    Generic,
    /// GitHub Container Registry.
    GitHub,
    /// Azure Container Registry.
    Azure,
    /// Amazon Elastic Container Registry.
    Aws,
    /// Google Artifact Registry.
    Google,
}

impl From<ProviderName> for Provider {
    fn from(name: ProviderName) -> Provider {
        match name {
            ProviderName::Generic => Provider::Generic,
            ProviderName::GitHub => Provider::GitHub,
            ProviderName::Azure => Provider::Azure,
            ProviderName::Aws => Provider::Aws,
            ProviderName::Google => Provider::Google,
        }
    }
}

/// One repository of the mirror.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// The repository's name: the path below the prefix of each side, unless primary or fallback names another. Status, metrics and
    /// commands use this name.
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
    /// Regular expressions, at most 16 of at most 128 characters; a tag that matches one of them is verified and rewritten. Anchor them with ^ and $
    /// to match whole tags. Empty: every tag. The different expressions of a mirror may take 1 MiB of memory together, which is enough for
    /// hundreds; equal ones count once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PATTERNS), inner(length(min = 1, max = MAX_PATTERN)))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATTERN_RULES)))]
    pub include: Vec<String>,

    /// Regular expressions, at most 16 of at most 128 characters; a tag that matches one of them is not verified and not rewritten, even if
    /// it is included. Tags that attach signatures to images (sha256- and 64 digits) are always excluded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_PATTERNS), inner(length(min = 1, max = MAX_PATTERN)))]
    #[schemars(extend("x-kubernetes-validations" = rules(PATTERN_RULES)))]
    pub exclude: Vec<String>,
}
