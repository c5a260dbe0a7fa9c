//! The words for what a probe found and what that makes of its side.

use std::time::Duration;

use crate::policy::{HealthPolicy, Trigger};

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Every stage answered, with the right digest.
    Reachable,
    /// The registry can't serve anyone.
    Unavailable(Unavailable),
    /// 401: the credential is not accepted.
    Unauthorized,
    /// 403: the identity lacks a role.
    Forbidden,
    /// 403 by the registry's firewall (Azure's `DENIED`): this network may not enter.
    NetworkDenied,
    /// 429, or GitHub's 403 for its secondary limit.
    Throttled {
        /// What Retry-After said, if anything.
        retry_after: Option<Duration>,
    },
    /// The registry works, but the manifest we probe with is not there.
    CanaryNotFound,
    /// The registry works, but does not serve the manifest we probe with as it is: a policy or a lock forbids it, or its content
    /// is not what its digest says.
    CanaryBlocked,
    /// An answer that is neither a success nor a server error, and that is not understood.
    UnexpectedAnswer,
    /// The registry leads to a place that the operator refuses to ask: plain HTTP, an address on this machine, a token endpoint
    /// that is not admitted, redirects without end.
    RefusedByOperator,
    /// A certificate whose CA the operator does not trust; nodes may.
    CertificateNotTrusted,
    /// The operator's own credential can't be read or minted, so nothing was asked.
    CredentialsUnavailable,
    /// The operator's identity was never let in: its role is missing, or was granted moments ago.
    WaitingForAuthorization,
}

/// How a registry fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The name does not resolve.
    DnsFailure,
    /// Refused, reset or unreachable.
    ConnectionFailed,
    /// The handshake failed, or the certificate has expired or is not valid for the name.
    TlsError,
    /// No answer within the time limit.
    Timeout,
    /// 5xx, from the registry, its token service or its blob host.
    ServerError,
    /// 401 where `healthCheck.triggers` counts it. This and the next three are never a probe's own outcome, only a side's
    /// availability.
    Unauthorized,
    /// 403 where `healthCheck.triggers` counts it.
    Forbidden,
    /// 403 by the registry's firewall, likewise.
    NetworkDenied,
    /// 429 where `healthCheck.triggers` counts it.
    RateLimited,
}

impl Unavailable {
    /// The condition reason: `DNSFailure`, `ConnectionFailed`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Unavailable::DnsFailure => "DNSFailure",
            Unavailable::ConnectionFailed => "ConnectionFailed",
            Unavailable::TlsError => "TLSError",
            Unavailable::Timeout => "Timeout",
            Unavailable::ServerError => "ServerError",
            Unavailable::Unauthorized => UnknownReason::Unauthorized.as_str(),
            Unavailable::Forbidden => UnknownReason::Forbidden.as_str(),
            Unavailable::NetworkDenied => UnknownReason::NetworkDenied.as_str(),
            Unavailable::RateLimited => UnknownReason::RateLimited.as_str(),
        }
    }
}

/// Whether a side serves, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Availability {
    /// It answers.
    Available,
    /// It failed at least `failureThreshold` times in a row and has not answered `successThreshold` times in a row since.
    Unavailable(Unavailable),
    /// Nothing can be said; never a reason to flip.
    Unknown(UnknownReason),
}

impl Availability {
    /// The condition reason: `Reachable`, `Timeout`, `Unauthorized`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Availability::Available => "Reachable",
            Availability::Unavailable(kind) => kind.as_str(),
            Availability::Unknown(reason) => reason.as_str(),
        }
    }
}

/// Why nothing can be said about a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownReason {
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 403 by the registry's firewall.
    NetworkDenied,
    /// 429.
    RateLimited,
    /// 404 for the manifest we probe with.
    CanaryNotFound,
    /// The manifest we probe with is there and not served.
    CanaryBlocked,
    /// An answer that is not understood.
    UnexpectedAnswer,
    /// The operator refuses to go where the registry leads.
    RefusedByOperator,
    /// The operator does not trust the certificate's CA.
    CertificateNotTrusted,
    /// The operator's credential can't be read or minted.
    CredentialsUnavailable,
    /// The operator's identity has no role yet.
    WaitingForAuthorization,
    /// No probe ended yet, or none of late.
    NotYetObserved,
}

impl UnknownReason {
    /// The condition reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            UnknownReason::Unauthorized => "Unauthorized",
            UnknownReason::Forbidden => "Forbidden",
            UnknownReason::NetworkDenied => "NetworkDenied",
            UnknownReason::RateLimited => "RateLimited",
            UnknownReason::CanaryNotFound => "CanaryNotFound",
            UnknownReason::CanaryBlocked => "CanaryBlocked",
            UnknownReason::UnexpectedAnswer => "UnexpectedAnswer",
            UnknownReason::RefusedByOperator => "RefusedByOperator",
            UnknownReason::CertificateNotTrusted => "CertificateNotTrusted",
            UnknownReason::CredentialsUnavailable => "CredentialsUnavailable",
            UnknownReason::WaitingForAuthorization => "WaitingForAuthorization",
            UnknownReason::NotYetObserved => "NotYetObserved",
        }
    }
}

/// What an outcome does to the runs of failures and successes.
pub(super) enum Class {
    Success,
    Failure(Unavailable),
    /// The registry refuses, and `healthCheck.triggers` counts that: a failure once it lasts.
    Refusal(Unavailable, UnknownReason),
    Unclear(UnknownReason),
}

impl Outcome {
    /// The reason that stands for this outcome in metrics and messages.
    pub fn as_str(&self) -> &'static str {
        match self.unknown_reason() {
            Some(reason) => reason.as_str(),
            None => match self {
                Outcome::Unavailable(kind) => kind.as_str(),
                _ => "Reachable",
            },
        }
    }

    /// Whether this counts under `policy`: towards `failureThreshold`, or as a refusal towards a share of all readings.
    pub fn counts_as_failure(&self, policy: &HealthPolicy) -> bool {
        matches!(self.class(policy), Class::Failure(_) | Class::Refusal(..))
    }

    fn unknown_reason(&self) -> Option<UnknownReason> {
        match self {
            Outcome::Reachable | Outcome::Unavailable(_) => None,
            Outcome::Unauthorized => Some(UnknownReason::Unauthorized),
            Outcome::Forbidden => Some(UnknownReason::Forbidden),
            Outcome::NetworkDenied => Some(UnknownReason::NetworkDenied),
            Outcome::Throttled { .. } => Some(UnknownReason::RateLimited),
            Outcome::CanaryNotFound => Some(UnknownReason::CanaryNotFound),
            Outcome::CanaryBlocked => Some(UnknownReason::CanaryBlocked),
            Outcome::UnexpectedAnswer => Some(UnknownReason::UnexpectedAnswer),
            Outcome::RefusedByOperator => Some(UnknownReason::RefusedByOperator),
            Outcome::CertificateNotTrusted => Some(UnknownReason::CertificateNotTrusted),
            Outcome::CredentialsUnavailable => Some(UnknownReason::CredentialsUnavailable),
            Outcome::WaitingForAuthorization => Some(UnknownReason::WaitingForAuthorization),
        }
    }

    pub(super) fn class(&self, policy: &HealthPolicy) -> Class {
        let (trigger, kind) = match self {
            Outcome::Reachable => return Class::Success,
            Outcome::Unavailable(kind) => return Class::Failure(*kind),
            Outcome::Unauthorized => (Trigger::Unauthorized, Unavailable::Unauthorized),
            Outcome::Forbidden => (Trigger::Forbidden, Unavailable::Forbidden),
            Outcome::NetworkDenied => (Trigger::Forbidden, Unavailable::NetworkDenied),
            Outcome::Throttled { .. } => (Trigger::Throttled, Unavailable::RateLimited),
            Outcome::CanaryNotFound
            | Outcome::CanaryBlocked
            | Outcome::UnexpectedAnswer
            | Outcome::RefusedByOperator
            | Outcome::CertificateNotTrusted
            | Outcome::CredentialsUnavailable
            | Outcome::WaitingForAuthorization => return self.unclear(),
        };
        match self.unknown_reason() {
            Some(reason) if policy.triggers.contains(&trigger) => Class::Refusal(kind, reason),
            _ => self.unclear(),
        }
    }

    fn unclear(&self) -> Class {
        Class::Unclear(self.unknown_reason().unwrap_or(UnknownReason::NotYetObserved))
    }
}
