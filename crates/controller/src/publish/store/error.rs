//! Why evidence is not written.

use std::fmt;
use std::time::Duration;

/// Evidence could not be written. Routing goes on with what is known; replicas that don't lead know less than the leader.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the evidence: {failure}{}", Detail(source.as_deref()))]
pub struct EvidenceWriteError {
    /// What kind of failure it is.
    pub failure: WriteFailure,
    /// How long to wait before the next attempt: 1 s, doubled with each failure in a row, at most 5 minutes.
    pub retry_after: Duration,
    /// What the API server said: for logs, because it changes from one attempt to the next.
    source: Option<Box<kube::Error>>,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteFailure {
    /// Others wrote in between; the next attempt lists again.
    Conflict,
    /// The API server refuses: rights, a quota, or the namespace is being deleted.
    Forbidden,
    /// The API server does not accept the object: an admission policy, or its size.
    Rejected,
    /// The API server does not answer, or fails.
    Unavailable,
    /// This replica has ceased to lead.
    NotLeading,
}

impl WriteFailure {
    /// A word that does not change, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            WriteFailure::Conflict => "Conflict",
            WriteFailure::Forbidden => "Forbidden",
            WriteFailure::Rejected => "Rejected",
            WriteFailure::Unavailable => "Unavailable",
            WriteFailure::NotLeading => "NotLeading",
        }
    }

    /// A sentence that does not change from one attempt to the next, for a condition: what is wrong and what to do.
    pub fn message(self) -> &'static str {
        match self {
            WriteFailure::Conflict => "the ConfigMaps with the evidence are being changed by others",
            WriteFailure::Forbidden => {
                "the API server refuses the ConfigMaps with the evidence (403 Forbidden); check the operator's Role and \
                 the quotas and admission policies of its namespace"
            }
            WriteFailure::Rejected => {
                "the API server rejects the ConfigMaps with the evidence as invalid; check the admission policies of the \
                 operator's namespace"
            }
            WriteFailure::Unavailable => "the API server fails to store the ConfigMaps with the evidence",
            WriteFailure::NotLeading => "another replica leads",
        }
    }

    fn of(error: &kube::Error) -> WriteFailure {
        match error {
            kube::Error::Api(status) => match status.code {
                // A precondition of a deletion that does not hold is a conflict, and so is an object that is gone.
                404 | 409 => WriteFailure::Conflict,
                401 | 403 => WriteFailure::Forbidden,
                408 | 429 => WriteFailure::Unavailable,
                400..500 => WriteFailure::Rejected,
                _ => WriteFailure::Unavailable,
            },
            _ => WriteFailure::Unavailable,
        }
    }
}

impl fmt::Display for WriteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl From<kube::Error> for EvidenceWriteError {
    fn from(error: kube::Error) -> Self {
        EvidenceWriteError {
            failure: WriteFailure::of(&error),
            retry_after: Duration::ZERO,
            source: Some(Box::new(error)),
        }
    }
}

impl EvidenceWriteError {
    pub(super) fn not_leading() -> EvidenceWriteError {
        EvidenceWriteError {
            failure: WriteFailure::NotLeading,
            retry_after: Duration::ZERO,
            source: None,
        }
    }

    pub(super) fn retry_after(self, retry_after: Duration) -> EvidenceWriteError {
        EvidenceWriteError { retry_after, ..self }
    }

    /// Whether it belongs in a condition: a conflict or a lost lease resolves itself.
    pub fn is_worth_a_condition(&self) -> bool {
        !matches!(self.failure, WriteFailure::Conflict | WriteFailure::NotLeading)
    }
}

struct Detail<'e>(Option<&'e kube::Error>);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}
