//! The words of a mirror's conditions, and how one is set.
//!
//! Conditions follow kstatus: `Ready` sums up and means *pods can get their images*, so it stays true through a failover;
//! `Stalled` is only for what a person must change in the spec or a Secret, never for an outage; `Reconciling` lasts until the
//! first observation of a generation is complete. `Stalled` and `Reconciling` are removed when they no longer hold.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Pods can get their images.
pub const READY: &str = "Ready";
/// The primary answers as a registry should.
pub const PRIMARY_AVAILABLE: &str = "PrimaryAvailable";
/// The fallback answers as a registry should.
pub const FALLBACK_AVAILABLE: &str = "FallbackAvailable";
/// Every verified tag has the same digest on both sides.
pub const IN_SYNC: &str = "InSync";
/// Pods are sent to the fallback.
pub const FAILED_OVER: &str = "FailedOver";
/// A side that is a pull-through cache lies where the cloud's rule caches the other side. Only for provider aws with an identity.
pub const PULL_THROUGH_RULE: &str = "PullThroughRule";
/// The current generation has not been observed completely.
pub const RECONCILING: &str = "Reconciling";
/// A person must change the spec or a Secret.
pub const STALLED: &str = "Stalled";

/// The reasons of conditions.
pub mod reason {
    /// `Ready` is true: the active primary is available.
    pub const SERVING_FROM_PRIMARY: &str = "ServingFromPrimary";
    /// `Ready` is true: the active fallback is available.
    pub const SERVING_FROM_FALLBACK: &str = "ServingFromFallback";
    /// `Ready` is false: neither side is available.
    pub const BOTH_UNAVAILABLE: &str = "BothUnavailable";
    /// `Ready` is false: the active side is unavailable, and `spec.active` keeps pods on it.
    pub const ACTIVE_UNAVAILABLE: &str = "ActiveUnavailable";
    /// `Ready` is false, availability unknown: nothing has been observed yet.
    pub const NOT_YET_OBSERVED: &str = "NotYetObserved";
    /// `Ready` is true and everything else unknown: `spec.suspend` is set, pods keep the images they have.
    pub const SUSPENDED: &str = "Suspended";

    /// A side is available.
    pub const REACHABLE: &str = "Reachable";
    /// A side is unavailable: its connection was refused or reset.
    pub const CONNECTION_FAILED: &str = "ConnectionFailed";
    /// A side is unavailable: its certificate or TLS handshake failed.
    pub const TLS_ERROR: &str = "TLSError";
    /// A side is unavailable: its name does not resolve.
    pub const DNS_FAILURE: &str = "DNSFailure";
    /// A side is unavailable: it did not answer in time.
    pub const TIMEOUT: &str = "Timeout";
    /// A side is unavailable: it answered with a server error (5xx), or its blobs can't be read.
    pub const SERVER_ERROR: &str = "ServerError";
    /// Availability is unknown: the credentials are not accepted (401).
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// Availability is unknown: the identity lacks a role (403).
    pub const FORBIDDEN: &str = "Forbidden";
    /// Availability is unknown: the registry's firewall refuses this network.
    pub const NETWORK_DENIED: &str = "NetworkDenied";
    /// Availability or parity is unknown: the registry throttles us.
    pub const RATE_LIMITED: &str = "RateLimited";
    /// Availability is unknown: the registry answers but does not have the image that is probed for.
    pub const CANARY_NOT_FOUND: &str = "CanaryNotFound";
    /// Availability is unknown: the credentials can't be read or exchanged.
    pub const CREDENTIALS_UNAVAILABLE: &str = "CredentialsUnavailable";
    /// Availability is unknown: the operator's identity has no role at the registry yet.
    pub const WAITING_FOR_AUTHORIZATION: &str = "WaitingForAuthorization";

    /// `InSync` is true.
    pub const TAGS_MATCH: &str = "TagsMatch";
    /// `InSync` is false: tags are missing on one side or differ.
    pub const TAGS_DIFFER: &str = "TagsDiffer";
    /// `InSync` is unknown: the first comparison is not complete.
    pub const VERIFYING: &str = "Verifying";
    /// `InSync` is unknown: the primary's tags can't be read.
    pub const PRIMARY_UNREACHABLE: &str = "PrimaryUnreachable";
    /// `InSync` is unknown: the fallback's tags can't be read.
    pub const FALLBACK_UNREACHABLE: &str = "FallbackUnreachable";

    /// `FailedOver`: the sides never changed.
    pub const NEVER_FAILED_OVER: &str = "NeverFailedOver";
    /// `FailedOver`: the primary failed.
    pub const PRIMARY_UNAVAILABLE: &str = "PrimaryUnavailable";
    /// `FailedOver`: the fallback failed while it was active.
    pub const FALLBACK_UNAVAILABLE: &str = "FallbackUnavailable";
    /// `FailedOver`: the primary is back.
    pub const PRIMARY_RECOVERED: &str = "PrimaryRecovered";
    /// `FailedOver`: `spec.active` says so.
    pub const REQUESTED: &str = "Requested";

    /// `Reconciling`: the current generation is being observed for the first time.
    pub const OBSERVING: &str = "Observing";

    /// `Stalled` is true, `Ready` false: the spec makes no sense; the message names the field.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// `Stalled`: a Secret that the spec names does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// `Stalled`: a Secret that the spec names is of the wrong type or lacks a key.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// `Stalled`: the provider does not take a credential of this kind; the message says which to create.
    pub const UNSUPPORTED_CREDENTIALS: &str = "UnsupportedCredentials";
    /// `PullThroughRule` is true: the mirror's paths are those of the cloud's rule.
    pub const RULE_FITS: &str = "RuleFits";
    /// `PullThroughRule` is false: the cloud caches the other side elsewhere.
    pub const PREFIX_DIFFERS: &str = "PrefixDiffers";
    /// `PullThroughRule` is false: the cloud does not cache the other side.
    pub const NO_RULE: &str = "NoRule";
    /// `PullThroughRule` is unknown: the cloud's rules could not be read.
    pub const RULE_UNKNOWN: &str = "RuleUnknown";
    /// `Stalled`: an older mirror claims the same repositories.
    pub const OVERLAPPING: &str = "Overlapping";
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It can't be told.
    Unknown,
}

impl Truth {
    /// `True`, `False` or `Unknown`, as in the resource.
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Truth::True } else { Truth::False }
    }
}

/// What one condition says, apart from time and generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The condition's type, such as [`READY`].
    pub kind: &'static str,
    /// Its status.
    pub status: Truth,
    /// Its reason, one of [`reason`].
    pub reason: &'static str,
    /// Its message, for people.
    pub message: String,
}

impl Statement {
    /// A statement with all its parts.
    pub fn new(kind: &'static str, status: Truth, reason: &'static str, message: impl Into<String>) -> Self {
        Statement {
            kind,
            status,
            reason,
            message: message.into(),
        }
    }
}

/// Sets one condition, in place if there is one of its type, else at the end.
///
/// `lastTransitionTime` becomes `now` only if the status changes. Returns whether anything changed at all.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    statement: Statement,
    observed_generation: i64,
    now: Timestamp,
) -> bool {
    let mut condition = Condition {
        type_: statement.kind.to_owned(),
        status: statement.status.as_str().to_owned(),
        reason: statement.reason.to_owned(),
        message: statement.message,
        observed_generation: Some(observed_generation),
        last_transition_time: Time(now),
    };
    let Some(present) = conditions.iter_mut().find(|present| present.type_ == condition.type_) else {
        conditions.push(condition);
        return true;
    };
    if present.status == condition.status {
        condition.last_transition_time = present.last_transition_time.clone();
    }
    let changed = *present != condition;
    *present = condition;
    changed
}

/// Removes the condition of a type. Returns whether there was one.
pub fn remove_condition(conditions: &mut Vec<Condition>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.len() != before
}

/// The condition of a type.
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether two lists say the same, whatever their order and the times of their transitions.
pub fn equal_ignoring_time(left: &[Condition], right: &[Condition]) -> bool {
    left.len() == right.len()
        && left.iter().all(|condition| {
            find_condition(right, &condition.type_).is_some_and(|other| {
                let mut other = other.clone();
                other.last_transition_time = condition.last_transition_time.clone();
                other == *condition
            })
        })
}

#[cfg(test)]
mod tests;
