//! Why what was decided is not written.

use crate::context::Context;

/// Why what was decided could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The evidence was not written; the status was left alone, so that it never promises more than the webhook knows.
    #[error("failed to write the evidence: {0}")]
    Evidence(#[source] Box<kube::Error>),
    /// The status was not written.
    #[error("failed to write the status: {0}")]
    Status(#[source] Box<kube::Error>),
    /// Nothing more was written: between the decision and the write this replica has ceased to lead.
    #[error("failed to write what was decided: the lease has run out meanwhile")]
    NotLeading,
}

impl ApplyError {
    /// Whether somebody else wrote, or began to lead, in between.
    pub fn is_conflict(&self) -> bool {
        match self {
            ApplyError::Evidence(error) | ApplyError::Status(error) => {
                matches!(&**error, kube::Error::Api(status) if status.code == 409)
            }
            ApplyError::NotLeading => true,
        }
    }

    /// A closed set of words, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            _ if self.is_conflict() => "conflict",
            ApplyError::Evidence(_) => "evidence",
            ApplyError::Status(_) | ApplyError::NotLeading => "status",
        }
    }
}

/// Asked right before each write: a process that was frozen since it decided must not write late.
pub(crate) fn still_leading(context: &Context) -> Result<(), ApplyError> {
    if context.leads() {
        Ok(())
    } else {
        Err(ApplyError::NotLeading)
    }
}
