//! The rules that the API server enforces on a spec: patterns, and CEL with a message for people.
//!
//! Every string and list that a CEL rule reads is bounded in the schema, because the API server refuses a definition whose
//! rules could cost too much. Backslashes are doubled where CEL reads them inside a quoted string.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};

/// A CEL expression that must hold, and what the API server answers when it does not.
pub(crate) type Rule = (&'static str, &'static str);

/// Durations as Flux and Go write them; kept as written.
pub(crate) const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";

/// A DNS-1123 subdomain, as names of Secrets are.
pub(crate) const DNS_SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A tag, as in the OCI distribution specification.
pub(crate) const TAG: &str = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$";

/// An API group; empty for the core group.
pub(crate) const API_GROUP: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$";

/// A kind, as APIs write it.
pub(crate) const KIND: &str = r"^[A-Z][A-Za-z0-9]*$";

/// Characters of a mirror's name.
pub(crate) const MAX_NAME: usize = 63;
/// Repositories of a mirror.
pub(crate) const MAX_REPOSITORIES: usize = 500;
/// Characters of a registry: a host name of 253, a colon and a port.
pub(crate) const MAX_REGISTRY: usize = 259;
/// Characters of a prefix; with a name it must fit into the 255 of a path.
pub(crate) const MAX_PREFIX: usize = 200;
/// Token hosts of a side.
pub(crate) const MAX_TOKEN_HOSTS: usize = 4;
/// Pull secrets of a side.
pub(crate) const MAX_PULL_SECRETS: usize = 8;
/// Characters of an identity's ids: GUIDs, and names of tenants.
pub(crate) const MAX_ID: usize = 128;
/// The longest time, with nanoseconds and a zone.
pub(crate) const MAX_TIME: usize = 40;
/// Characters of an Azure resource id.
pub(crate) const MAX_RESOURCE_ID: usize = 512;
/// Ids are GUIDs; a tenant may also be a domain.
pub(crate) const ID: &str = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$";
/// A user-assigned identity.
pub(crate) const RESOURCE_ID: &str = r"^/subscriptions/[^/\s]+/[Rr]esource[Gg]roups/[^/\s]+/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/\s]+$";
/// Regular expressions of a list.
pub(crate) const MAX_PATTERNS: usize = 16;
/// Characters of a regular expression.
pub(crate) const MAX_PATTERN: usize = 128;

/// Kinds of owners.
pub(crate) const MAX_OWNER_KINDS: usize = 32;
/// Patterns for images.
pub(crate) const MAX_EXCLUDED_IMAGES: usize = 32;
/// Characters of a pattern for images.
pub(crate) const MAX_IMAGE_PATTERN: usize = 255;
/// Selectors of pods.
pub(crate) const MAX_EXCLUDED_PODS: usize = 16;
/// Labels, and requirements, of a selector.
pub(crate) const MAX_EXPRESSIONS: usize = 16;
/// Values of a requirement.
pub(crate) const MAX_VALUES: usize = 32;
/// Characters of a label's name: a DNS subdomain of 253, a slash and 63.
pub(crate) const MAX_LABEL_KEY: usize = 317;
/// Characters of a label's value.
pub(crate) const MAX_LABEL_VALUE: usize = 63;

pub(crate) const PERIOD_SECONDS: RangeInclusive<i32> = 1..=3600;
pub(crate) const TIMEOUT_SECONDS: RangeInclusive<i32> = 1..=60;
pub(crate) const FAILURE_THRESHOLD: RangeInclusive<i32> = 1..=100;
pub(crate) const SUCCESS_THRESHOLD: RangeInclusive<i32> = 1..=100;
pub(crate) const REQUESTS_PER_MINUTE: RangeInclusive<i32> = 1..=100_000;
pub(crate) const STABLE_SECONDS: RangeInclusive<i32> = 60..=86_400;
pub(crate) const CONCURRENCY: RangeInclusive<i32> = 1..=8;
/// From one piece of the network to more than any registry gives.
pub(crate) const BYTES_PER_SECOND: RangeInclusive<i64> = 65_536..=100_000_000_000;

/// The same as [`INTERVAL_RULES`].
pub(crate) const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);
/// The same as [`GRACE_RULES`].
pub(crate) const GRACE_PERIOD: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);
/// The same as [`PROOF_INTERVAL_RULES`].
pub(crate) const PROOF_INTERVAL: RangeInclusive<Duration> = Duration::from_mins(10)..=Duration::from_hours(168);
/// The same as [`SETTLED_RULES`].
pub(crate) const SETTLED_INTERVAL: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(168);

pub(crate) const NAME_RULE: Rule = (
    "size(self.metadata.name) <= 63",
    "metadata.name must have at most 63 characters",
);

pub(crate) const SPEC_RULES: &[Rule] = &[
    (
        "self.primary.registry != self.fallback.registry || self.primary.prefix != self.fallback.prefix",
        "primary and fallback must differ in registry or prefix",
    ),
    (
        "!self.failover.requireProof || self.proof.mode == 'Pull'",
        "failover.requireProof needs proof.mode Pull: without it nothing is ever proven",
    ),
    (
        "!self.primary.pullThroughCache || !self.fallback.pullThroughCache",
        "pullThroughCache may be true on one side only: two subsets can't be compared",
    ),
    (
        "self.repair.missingTags == 'Off' || !(self.repair.direction == 'ToFallback' && self.fallback.pullThroughCache || \
         self.repair.direction == 'ToPrimary' && self.primary.pullThroughCache)",
        "repair.direction names a pull-through cache, which is never written",
    ),
    (
        "!has(self.healthCheck.canary) || !has(self.repositories) || \
         self.repositories.exists(r, r.name == self.healthCheck.canary.repository)",
        "healthCheck.canary.repository must be the name of an entry in repositories",
    ),
    (
        "!has(self.primary.imagePullSecrets) || !has(self.fallback.imagePullSecrets) || \
         !self.primary.imagePullSecrets.exists(p, self.fallback.imagePullSecrets.exists(f, \
         p.name == f.name && (p.mint || f.mint)))",
        "a pull secret that is minted for one side must have another name than those of the other side",
    ),
];

pub(crate) const REGISTRY_RULES: &[Rule] = &[
    (
        "self.matches('^([a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\\\\[[0-9a-f:]+\\\\])\
         (:[0-9]{1,5})?$')",
        "registry must be host or host:port in lower case: no scheme, path or credentials",
    ),
    (
        "self.contains('.') || self.contains(':') || self == 'localhost'",
        "registry must have a dot or a port; otherwise image references read it as a Docker Hub user",
    ),
];

/// There is one way to authenticate at a registry.
pub(crate) const SIDE_RULES: &[Rule] = &[
    (
        "!has(self.identity) || self.provider == 'azure'",
        "identity is for provider azure; other registries take secretRef",
    ),
    (
        "!has(self.identity) || !has(self.secretRef)",
        "secretRef and identity exclude each other",
    ),
    (
        "!has(self.imagePullSecrets) || !self.imagePullSecrets.exists(s, s.mint) || self.provider in ['azure', 'aws']",
        "imagePullSecrets may only be minted for provider azure or aws, whose tokens expire",
    ),
    (
        "!self.prewarm || self.pullThroughCache",
        "prewarm is for a side with pullThroughCache: only a cache fills when it is pulled from",
    ),
];

pub(crate) const IDENTITY_RULES: &[Rule] = &[
    (
        "self.kind == 'Managed' || (!has(self.objectID) && !has(self.resourceID))",
        "objectID and resourceID are for kind Managed",
    ),
    (
        "self.kind == 'Workload' || !has(self.tenantID)",
        "tenantID is for kind Workload",
    ),
    (
        "self.kind != 'Anonymous' || !has(self.clientID)",
        "clientID is for the kinds Workload and Managed",
    ),
    (
        "(has(self.clientID) ? 1 : 0) + (has(self.objectID) ? 1 : 0) + (has(self.resourceID) ? 1 : 0) <= 1",
        "clientID, objectID and resourceID exclude each other",
    ),
];
/// Each as a registry is written.
pub(crate) const TOKEN_HOST_RULES: &[Rule] = &[(
    "self.all(h, h.matches('^([a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\\\\[[0-9a-f:]+\\\\])\
     (:[0-9]{1,5})?$') && (h.contains('.') || h.contains(':') || h == 'localhost'))",
    "tokenHosts must each be host or host:port in lower case, with a dot or a port: no scheme, path or credentials",
)];

/// The path grammar of the OCI distribution specification.
pub(crate) const PATH_RULES: &[Rule] = &[(
    "self.matches('^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$')",
    "must be a repository path: lower case, no slash at its ends, no registry, no tag",
)];

pub(crate) const PREFIX_RULES: &[Rule] = &[(
    "self == '' || self.matches('^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$')",
    "prefix must be empty or a repository path: lower case, no slash at its ends, no registry",
)];

/// Evaluation fails, and with it validation, when an element is no regular expression.
pub(crate) const PATTERN_RULES: &[Rule] = &[(
    "self.all(p, ''.matches(p) ? true : true)",
    "must be valid regular expressions",
)];

/// A regular expression is told from a pattern by the characters that images do not have.
pub(crate) const IMAGE_RULES: &[Rule] = &[(
    "self.all(i, i.matches('^[A-Za-z0-9._/:@*?-]*$'))",
    "excludeImages takes patterns of letters, digits, '.', '_', '-', '/', ':', '@' and the wildcards '*' and '?', not regular \
     expressions",
)];

pub(crate) const POD_SELECTOR_RULES: &[Rule] = &[
    (
        "has(self.matchLabels) && size(self.matchLabels) > 0 || has(self.matchExpressions) && size(self.matchExpressions) > 0",
        "an empty selector selects every pod: set rewrite.mode to Audit instead, or suspend",
    ),
    (
        "!has(self.matchExpressions) || self.matchExpressions.all(e, \
         (e.operator in ['In', 'NotIn']) == (has(e.values) && size(e.values) > 0))",
        "matchExpressions must have values with In and NotIn, and none with Exists and DoesNotExist",
    ),
];

pub(crate) const HEALTH_RULES: &[Rule] = &[(
    "self.timeoutSeconds <= self.periodSeconds * self.failureThreshold",
    "timeoutSeconds must not exceed periodSeconds x failureThreshold",
)];

pub(crate) const INTERVAL_RULES: &[Rule] = &[(
    "duration(self) >= duration('10s') && duration(self) <= duration('24h')",
    "interval must be between 10s and 24h",
)];

pub(crate) const GRACE_RULES: &[Rule] = &[("duration(self) <= duration('1h')", "gracePeriod must be at most 1h")];

pub(crate) const PROOF_INTERVAL_RULES: &[Rule] = &[(
    "duration(self) >= duration('10m') && duration(self) <= duration('168h')",
    "interval must be between 10m and 168h",
)];

pub(crate) const SETTLED_RULES: &[Rule] = &[(
    "duration(self) >= duration('10s') && duration(self) <= duration('168h')",
    "settledInterval must be between 10s and 168h",
)];

/// The value of `x-kubernetes-validations`.
pub(crate) fn rules(rules: &[Rule]) -> Value {
    rules
        .iter()
        .map(|(rule, message)| json!({ "rule": rule, "message": message }))
        .collect()
}
