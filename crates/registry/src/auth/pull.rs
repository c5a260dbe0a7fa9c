//! A credential for pods.

use jiff::Timestamp;

use crate::wire::failure::Failure;
use crate::wire::secret::Secret;

/// What pods can pull with for a while. It has the rights of the identity that it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullCredential {
    /// The user name that goes with it.
    pub username: String,
    /// The token.
    pub password: Secret<String>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Why there is no credential for pods. No message holds anything of a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// What we have is no token with an end; a password is not spread over a cluster.
    #[error("this side's credential can't mint: {0}")]
    CannotMint(&'static str),
    /// The registry did not go along.
    #[error("failed to mint a pull credential: {0}")]
    Refused(#[from] Failure),
}
