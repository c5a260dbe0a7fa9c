//! What the user asked for, parsed: the validated form of a `RegistryMirror`'s spec.
//!
//! A [`MirrorPolicy`] exists only if it makes sense; `catamaran-api` builds it. Everything that decides takes it as it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::selector::Selector;
use crate::side::{Side, Sides};
use crate::tags::TagFilter;

mod glob;
mod health;
mod proof;
mod provider;
mod rewrite;

pub use self::glob::{ImageGlob, ImageGlobError};
pub use self::health::OnPullsFailing;
pub use self::proof::{ProofMode, ProofPolicy};
pub use self::provider::{Provider, ProviderFacts};
pub use self::rewrite::{
    ControllerOwnedPods, IMAGE_COMPARING_OPERATORS, MismatchedTags, OwnerKind, RewriteMode, RewritePolicy,
    UnverifiedTags,
};

/// Which mirror a thing belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorId {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`: tells a mirror from an earlier one of the same name.
    pub uid: Arc<str>,
}

impl fmt::Display for MirrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A validated mirror: two sides and how to treat them.
#[derive(Clone, Debug)]
pub struct MirrorPolicy {
    /// Which mirror.
    pub id: MirrorId,
    /// When the resource was created; of two mirrors that claim the same repository the older wins.
    pub created: Timestamp,
    /// No probes, no scans, no rewriting.
    pub suspended: bool,
    /// The two registries.
    pub sides: Sides<SidePolicy>,
    /// Which repositories are verified and rewritten.
    pub repositories: Repositories,
    /// Whose pods are rewritten.
    pub namespaces: Selector,
    /// How health is probed.
    pub health: HealthPolicy,
    /// When to flip.
    pub failover: FailoverPolicy,
    /// How tags are verified.
    pub parity: ParityPolicy,
    /// How references are rewritten.
    pub rewrite: RewritePolicy,
    /// What is done for pods that wait.
    pub rescue: RescueMode,
    /// What is done about tags that one side lacks.
    pub repair: RepairPolicy,
    /// How it is proven that nodes can pull from the fallback.
    pub proof: ProofPolicy,
}

impl MirrorPolicy {
    /// A mirror of whatever pods use, with the definition's defaults for all the rest.
    pub fn new(id: MirrorId, created: Timestamp, sides: Sides<SidePolicy>) -> MirrorPolicy {
        MirrorPolicy {
            id,
            created,
            suspended: false,
            sides,
            repositories: Repositories::InUse,
            namespaces: Selector::default(),
            health: HealthPolicy::default(),
            failover: FailoverPolicy::default(),
            parity: ParityPolicy::default(),
            rewrite: RewritePolicy::default(),
            rescue: RescueMode::default(),
            repair: RepairPolicy::default(),
            proof: ProofPolicy::default(),
        }
    }

    /// The same without its override, where that has ended; none where it has none, or it goes on.
    pub fn after_override(&self, now: Timestamp) -> Option<MirrorPolicy> {
        let active = self.failover.active_at(now);
        let ended = active != self.failover.active;
        ended.then(|| {
            let mut policy = self.clone();
            policy.failover.active = active;
            policy
        })
    }
}

/// One registry of a mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SidePolicy {
    /// `host[:port]` as written in references; Docker Hub is `docker.io`.
    pub registry: String,
    /// Path in front of every repository, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Whose protocol extensions and credentials apply.
    pub provider: Provider,
    /// This side only ever holds a subset of the other.
    pub pull_through_cache: bool,
    /// Tags that pods use and this cache lacks are pulled through it ahead of them.
    pub prewarm: bool,
    /// Name of the Secret with the operator's credentials, in the operator's namespace.
    pub credentials_secret: Option<String>,
    /// What the operator authenticates with where there is no such Secret.
    pub identity: IdentityPolicy,
    /// Hosts (`host[:port]`) besides the registry's own that may issue its tokens.
    pub token_hosts: Vec<String>,
    /// Name of the Secret with `ca.crt`, or `tls.crt` and `tls.key`, in the operator's namespace.
    pub ca_secret: Option<String>,
    /// Names of pull secrets that are appended to pods at admission.
    pub image_pull_secrets: Vec<String>,
    /// Those of `image_pull_secrets` that the operator makes and renews itself.
    pub minted_pull_secrets: Vec<String>,
    /// The most requests a minute for verification; absent: the provider's default.
    pub requests_per_minute: Option<u32>,
}

impl SidePolicy {
    /// What of this says how its registry is reached: sides for which it is the same share a client and are probed as one.
    #[must_use]
    pub fn endpoint(&self) -> SidePolicy {
        SidePolicy {
            prefix: String::new(),
            prewarm: false,
            image_pull_secrets: Vec::new(),
            minted_pull_secrets: Vec::new(),
            requests_per_minute: None,
            ..self.clone()
        }
    }

    /// Whether a GET of a manifest counts as a pull, of which there are few: at Docker Hub it does, and HEAD does not.
    pub fn counts_pulls(&self) -> bool {
        matches!(
            self.registry.as_str(),
            "docker.io" | "index.docker.io" | "registry-1.docker.io"
        )
    }
}

/// An identity that a cloud vouches for, without a stored secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityPolicy {
    /// What the operator's environment offers for the side's provider; none where it offers none.
    #[default]
    Ambient,
    /// None, whatever the environment offers.
    Anonymous,
    /// The service account's token, exchanged for one of an identity that trusts it.
    Workload {
        /// The client id; absent: the environment's.
        client_id: Option<String>,
        /// The tenant; absent: the environment's.
        tenant_id: Option<String>,
    },
    /// An identity of the machine that the operator runs on.
    Managed(ManagedIdentity),
}

/// Which identity of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ManagedIdentity {
    /// The machine's own.
    System,
    /// One that is assigned to it, by client id.
    Client(String),
    /// The same, by object (principal) id.
    Object(String),
    /// The same, by resource id.
    Resource(String),
}

/// Which repositories belong to a mirror.
#[derive(Clone, Debug)]
pub enum Repositories {
    /// Every repository below the prefixes; verified as far as pods use them.
    InUse,
    /// Exactly these.
    Listed(Vec<RepositoryRule>),
}

/// One listed repository.
#[derive(Clone, Debug)]
pub struct RepositoryRule {
    /// The name it goes by in status and evidence.
    pub name: String,
    /// The full path on each side, prefix included.
    pub paths: Sides<String>,
    /// Which of its tags are verified.
    pub tags: TagFilter,
}

/// How a side's health is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Time between the beginnings of two probes while all is well, an eighth less than it is; at least 1 s. Mirrors that share a
    /// registry's probes get the shortest of theirs.
    pub period: Duration,
    /// Time limit of one probe.
    pub timeout: Duration,
    /// Failures in a row that make a side unavailable; at least 1.
    pub failure_threshold: u32,
    /// Successes in a row that make it available again; at least 1.
    pub success_threshold: u32,
    /// Failure classes that count towards `failure_threshold`; `Unavailable` always does.
    pub triggers: Vec<Trigger>,
    /// What follows when nodes can't pull from the active side.
    pub on_pulls_failing: OnPullsFailing,
    /// The manifest to probe with, as `(repository name, tag)`; absent: the newest in-sync tag.
    pub canary: Option<(String, String)>,
}

impl Default for HealthPolicy {
    fn default() -> HealthPolicy {
        HealthPolicy {
            period: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            failure_threshold: 3,
            success_threshold: 3,
            triggers: vec![Trigger::Unavailable],
            on_pulls_failing: OnPullsFailing::Failover,
            canary: None,
        }
    }
}

/// A class of probe failure that may count towards a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Refused, reset, timed out, DNS or TLS failure, 5xx, dead blob host.
    Unavailable,
    /// 401: the credential is not accepted.
    Unauthorized,
    /// 403: the identity lacks a role, or the registry's firewall refuses this network.
    Forbidden,
    /// 429: the registry limits the rate of requests.
    Throttled,
}

/// When and how the active side changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// Whether the operator decides or a person has.
    pub active: ActiveSide,
    /// When what a person has decided ends; none: never.
    pub active_until: Option<Timestamp>,
    /// Whether to go back to the primary without being told.
    pub failback: FailbackMode,
    /// How long the primary must have been reachable without a break; at least 60 s.
    pub stable: Duration,
    /// Whether failback waits for references in use that the primary lacks or has with another digest.
    pub on_mismatch: OnMismatch,
    /// Whether a failover by the operator needs pulls from the fallback to be proven.
    pub require_proof: bool,
}

impl Default for FailoverPolicy {
    fn default() -> FailoverPolicy {
        FailoverPolicy {
            active: ActiveSide::Auto,
            active_until: None,
            failback: FailbackMode::Automatic,
            stable: Duration::from_mins(5),
            on_mismatch: OnMismatch::Wait,
            require_proof: false,
        }
    }
}

impl FailoverPolicy {
    /// Who decides at this time: the operator again once an override has ended.
    pub fn active_at(&self, now: Timestamp) -> ActiveSide {
        match self.active_until {
            Some(end) if end <= now => ActiveSide::Auto,
            _ => self.active,
        }
    }
}

/// Who decides which side is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActiveSide {
    /// The operator.
    #[default]
    Auto,
    /// A person chose this side.
    Fixed(Side),
}

/// Whether failback happens without a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailbackMode {
    /// As soon as it is safe.
    #[default]
    Automatic,
    /// Only when a person sets `spec.active: Primary`.
    Manual,
}

/// Whether failback waits for references in use that are not the same on the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMismatch {
    /// It waits until the primary has each of them with the fallback's digest.
    #[default]
    Wait,
    /// It happens all the same.
    Proceed,
}

/// How tags are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParityPolicy {
    /// Time between the starts of two passes; at least 10 s.
    pub interval: Duration,
    /// How long a difference may last before it is called a divergence.
    pub grace: Duration,
    /// The longest time between two reads of a settled tag whose side lists no digests.
    pub settled: Duration,
}

impl Default for ParityPolicy {
    fn default() -> ParityPolicy {
        ParityPolicy {
            interval: Duration::from_mins(5),
            grace: Duration::from_mins(2),
            settled: Duration::from_hours(24),
        }
    }
}

/// What is done for pods that wait for an image on the wrong side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RescueMode {
    /// Patch the pod's image.
    #[default]
    Patch,
    /// Patch it; delete pods of `ReplicaSet`s that never started and hang on a dead side.
    PatchOrReplace,
    /// Nothing.
    Off,
}

/// What is done about tags that one side lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairPolicy {
    /// Whether they are copied.
    pub mode: RepairMode,
    /// Which sides are written.
    pub direction: RepairDirection,
    /// Whether signatures, attestations and other referrers come along.
    pub referrers: bool,
    /// Tags copied at a time; at least 1.
    pub concurrency: usize,
    /// Bytes of blobs a second over all copies of the mirror; absent: as fast as it goes.
    pub max_bytes_per_second: Option<u64>,
}

impl Default for RepairPolicy {
    fn default() -> RepairPolicy {
        RepairPolicy {
            mode: RepairMode::Off,
            direction: RepairDirection::Both,
            referrers: false,
            concurrency: 2,
            max_bytes_per_second: None,
        }
    }
}

/// Whether missing tags are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepairMode {
    /// They are reported, as every divergence.
    #[default]
    Off,
    /// It is told what would be copied.
    DryRun,
    /// They are copied.
    Copy,
}

/// Which sides a repair may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepairDirection {
    /// Whichever lacks a tag.
    #[default]
    Both,
    /// The fallback only.
    ToFallback,
    /// The primary only.
    ToPrimary,
}

impl RepairDirection {
    /// Whether this side may be written.
    pub fn writes(self, side: Side) -> bool {
        match self {
            RepairDirection::Both => true,
            RepairDirection::ToFallback => side == Side::Fallback,
            RepairDirection::ToPrimary => side == Side::Primary,
        }
    }
}
