//! Why a tag was not copied.

use catamaran_core::digest::Digest;

use crate::wire::failure::{Class, Failure};

/// Why a tag was not copied. What had arrived by then stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The source's tag is not what it was.
    #[error("the source's tag {}; the next comparison takes it up", moved(found.as_ref()))]
    Moved {
        /// What it stands for now; `None` when it is gone.
        found: Option<Digest>,
    },
    /// The target has the tag with another digest. Nothing was written.
    #[error(
        "the target has the tag with another digest, {found}: it is not overwritten; delete the wrong one of the two"
    )]
    Mismatched {
        /// What it stands for on the target.
        found: Digest,
    },
    /// The target does not let anyone write this (Azure: `REGISTRY_DISALLOWED_OPERATION`).
    #[error("the target's repository or tag is locked; unlock it (az acr repository update --write-enabled true): {0}")]
    Locked(Failure),
    /// The credential may not write the target.
    #[error("the credential may not write the target; give it the right to push: {0}")]
    Denied(Failure),
    /// Content and digest, or content and size, do not belong together.
    #[error("the content is damaged: {0}")]
    Corrupt(String),
    /// Content of a kind that is not copied.
    #[error("it can't be copied: {0}")]
    Unsupported(String),
    /// The source failed.
    #[error("failed to read the source: {0}")]
    Source(Failure),
    /// The target failed.
    #[error("failed to write the target: {0}")]
    Target(Failure),
}

fn moved(found: Option<&Digest>) -> String {
    found.map_or_else(|| "is gone".to_owned(), |digest| format!("has moved to {digest}"))
}

impl CopyError {
    /// The kind in a word of a closed set, for metrics and status.
    pub fn reason(&self) -> &'static str {
        match self {
            CopyError::Moved { .. } => "Moved",
            CopyError::Mismatched { .. } => "Mismatched",
            CopyError::Locked(_) => "Locked",
            CopyError::Denied(_) => "Denied",
            CopyError::Corrupt(_) => "Corrupt",
            CopyError::Unsupported(_) => "Unsupported",
            CopyError::Source(failure) | CopyError::Target(failure) if is_throttled(failure) => "Throttled",
            CopyError::Source(_) => "Source",
            CopyError::Target(_) => "Target",
        }
    }

    pub(super) fn source(failure: Failure) -> CopyError {
        match failure.class {
            Class::LyingDigest | Class::UntrustedContent => CopyError::Corrupt(failure.message),
            Class::TooLarge => CopyError::Unsupported(failure.message),
            _ => CopyError::Source(failure),
        }
    }

    pub(super) fn target(failure: Failure) -> CopyError {
        let code = failure.code.as_deref();
        match failure.class {
            _ if failure.status == Some(405) && code == Some("REGISTRY_DISALLOWED_OPERATION") => {
                CopyError::Locked(failure)
            }
            Class::Unauthorized | Class::Forbidden => CopyError::Denied(failure),
            Class::LyingDigest | Class::UntrustedContent => CopyError::Corrupt(failure.message),
            _ => CopyError::Target(failure),
        }
    }
}

fn is_throttled(failure: &Failure) -> bool {
    matches!(failure.class, Class::Throttled { .. })
}
