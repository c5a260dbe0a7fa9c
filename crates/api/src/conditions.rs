//! The words of a mirror's conditions, and how one is set.
//!
//! Conditions follow kstatus: `Ready` sums up and means *pods can get their images*, so it stays true through a failover;
//! `Stalled` is only for what an administrator must change in the spec or a Secret, never for an outage; `Reconciling` lasts until the
//! first observation of a generation is complete. `Stalled` and `Reconciling` are removed when they no longer hold.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::words::words;

pub mod reason;

words! {
    /// Every type of condition with what it means when it is true.
    TYPES:

    /// Pods can get their images. It stays true through a failover.
    READY = "Ready";
    /// The primary answers as a registry should.
    PRIMARY_AVAILABLE = "PrimaryAvailable";
    /// The fallback answers as a registry should.
    FALLBACK_AVAILABLE = "FallbackAvailable";
    /// Pods on several nodes can't pull from the active side, whatever probes find.
    PULLS_FAILING = "PullsFailing";
    /// Every verified tag has the same digest on both sides.
    IN_SYNC = "InSync";
    /// Pods are sent to the fallback.
    FAILED_OVER = "FailedOver";
    /// Proof pods could pull from the fallback on each node, with the credentials of each namespace. Absent while proof.mode is Off.
    FALLBACK_PROVEN = "FallbackProven";
    /// A side that is a pull-through cache lies where the cloud's rule caches the other side. Absent unless its provider is aws, with an
    /// identity.
    PULL_THROUGH_RULE = "PullThroughRule";
    /// The evidence that webhooks route by is stored in the cluster. Absent unless it is False.
    EVIDENCE_STORED = "EvidenceStored";
    /// Templates of workloads are read, so that the images they name count as in use. Absent unless it is False.
    WORKLOADS_READ = "WorkloadsRead";
    /// The current generation has not been observed completely. Absent when it has.
    RECONCILING = "Reconciling";
    /// An administrator must change the spec or a Secret. It never means an outage, and is absent when it does not hold.
    STALLED = "Stalled";
}

/// All that a mirror's conditions can say: a type, a status, and the reasons that go with the two.
///
/// The controller's tests reach each of them, and nothing else.
pub const VOCABULARY: &[(&str, Truth, &[&str])] = &[
    (
        READY,
        Truth::True,
        &[
            reason::SERVING_FROM_PRIMARY,
            reason::SERVING_FROM_FALLBACK,
            reason::SUSPENDED,
        ],
    ),
    (
        READY,
        Truth::False,
        &[
            reason::BOTH_UNAVAILABLE,
            reason::ACTIVE_UNAVAILABLE,
            reason::PULLS_FAILING,
            reason::NOT_YET_OBSERVED,
            reason::INVALID_SPEC,
        ],
    ),
    (READY, Truth::Unknown, &[reason::ACTIVE_UNKNOWN]),
    (PRIMARY_AVAILABLE, Truth::True, AVAILABLE),
    (PRIMARY_AVAILABLE, Truth::False, UNAVAILABLE),
    (PRIMARY_AVAILABLE, Truth::Unknown, AVAILABILITY_UNKNOWN),
    (FALLBACK_AVAILABLE, Truth::True, AVAILABLE),
    (FALLBACK_AVAILABLE, Truth::False, UNAVAILABLE),
    (FALLBACK_AVAILABLE, Truth::Unknown, AVAILABILITY_UNKNOWN),
    (PULLS_FAILING, Truth::True, PULLS_FAIL),
    (PULLS_FAILING, Truth::False, &[reason::NO_PULL_FAILURES]),
    (PULLS_FAILING, Truth::Unknown, &[reason::SUSPENDED]),
    (IN_SYNC, Truth::True, &[reason::TAGS_MATCH]),
    (
        IN_SYNC,
        Truth::False,
        &[reason::TAGS_DIFFER, reason::BROKEN, reason::UNTRUSTED],
    ),
    (
        IN_SYNC,
        Truth::Unknown,
        &[
            reason::VERIFYING,
            reason::PRIMARY_UNREACHABLE,
            reason::FALLBACK_UNREACHABLE,
            reason::RATE_LIMITED,
            reason::SUSPENDED,
        ],
    ),
    (
        FAILED_OVER,
        Truth::True,
        &[reason::PRIMARY_UNAVAILABLE, reason::PULLS_FAILING, reason::REQUESTED],
    ),
    (
        FAILED_OVER,
        Truth::False,
        &[
            reason::NEVER_FAILED_OVER,
            reason::PRIMARY_RECOVERED,
            reason::FALLBACK_UNAVAILABLE,
            reason::PULLS_FAILING,
            reason::REQUESTED,
        ],
    ),
    (FALLBACK_PROVEN, Truth::True, &[reason::PROVEN]),
    (
        FALLBACK_PROVEN,
        Truth::False,
        &[reason::PULLS_FAIL, reason::POD_REFUSED],
    ),
    (
        FALLBACK_PROVEN,
        Truth::Unknown,
        &[
            reason::NOT_PROVEN_YET,
            reason::PODS_NOT_RUN,
            reason::FORBIDDEN,
            reason::NOTHING_TO_PROVE,
        ],
    ),
    (PULL_THROUGH_RULE, Truth::True, &[reason::RULE_FITS]),
    (
        PULL_THROUGH_RULE,
        Truth::False,
        &[reason::PREFIX_DIFFERS, reason::NO_RULE],
    ),
    (PULL_THROUGH_RULE, Truth::Unknown, &[reason::RULE_UNKNOWN]),
    (EVIDENCE_STORED, Truth::False, &[reason::WRITE_FAILED]),
    (WORKLOADS_READ, Truth::False, &[reason::FORBIDDEN, reason::DISABLED]),
    (RECONCILING, Truth::True, &[reason::OBSERVING]),
    (
        STALLED,
        Truth::True,
        &[
            reason::INVALID_SPEC,
            reason::SECRET_NOT_FOUND,
            reason::SECRET_INVALID,
            reason::UNSUPPORTED_CREDENTIALS,
            reason::OVERLAPPING,
        ],
    ),
];

const PULLS_FAIL: &[&str] = &[
    reason::CONNECTION_FAILED,
    reason::TLS_ERROR,
    reason::DNS_FAILURE,
    reason::SERVER_ERROR,
];

const AVAILABLE: &[&str] = &[reason::REACHABLE];

const UNAVAILABLE: &[&str] = &[
    reason::CONNECTION_FAILED,
    reason::TLS_ERROR,
    reason::DNS_FAILURE,
    reason::TIMEOUT,
    reason::SERVER_ERROR,
    reason::UNAUTHORIZED,
    reason::FORBIDDEN,
    reason::NETWORK_DENIED,
    reason::RATE_LIMITED,
];

const AVAILABILITY_UNKNOWN: &[&str] = &[
    reason::PARTIALLY_REACHABLE,
    reason::UNAUTHORIZED,
    reason::FORBIDDEN,
    reason::NETWORK_DENIED,
    reason::RATE_LIMITED,
    reason::CANARY_NOT_FOUND,
    reason::CANARY_BLOCKED,
    reason::UNEXPECTED_ANSWER,
    reason::REFUSED_BY_OPERATOR,
    reason::CERTIFICATE_NOT_TRUSTED,
    reason::CREDENTIALS_UNAVAILABLE,
    reason::WAITING_FOR_AUTHORIZATION,
    reason::NOT_YET_OBSERVED,
    reason::SUSPENDED,
];

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

#[cfg(test)]
mod tests;
