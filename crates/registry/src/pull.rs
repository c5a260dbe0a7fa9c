//! A credential for pods: short-lived, and made from what this client authenticates with.

use catamaran_core::policy::Provider;
use jiff::Timestamp;

use crate::client::Client;
use crate::credentials::{AZURE_TOKEN_USER, Credentials};
use crate::failure::Failure;
use crate::ladder;
use crate::secret::Secret;

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

impl Client {
    /// A credential that pods can pull with until it ends: for Azure the registry's refresh token, which is good for three
    /// hours (Azure/acr, docs/AAD-OAuth.md) and is taken by the null user of `docker login`.
    ///
    /// For an identity at Amazon it is the registry's password, which is good for twelve hours (`GetAuthorizationToken`).
    ///
    /// The registry is asked first, so that pods are never given what it refuses.
    pub async fn pull_credential(&self) -> Result<PullCredential, PullError> {
        #[cfg(feature = "aws")]
        if let Some(ecr) = &self.shared().session.apis.ecr {
            // Asked before it is taken: what is refused is replaced then.
            self.shared().session.check_credentials().await?;
            return Ok(ecr.password().await?);
        }
        let site = &self.shared().session.site;
        let token = match (&site.credentials, site.provider) {
            (Credentials::Basic { username, password }, Provider::Azure) if username == AZURE_TOKEN_USER => {
                password.clone()
            }
            (Credentials::Azure(_), _) => self.shared().session.identity_token().await?,
            #[cfg(feature = "aws")]
            (Credentials::Aws(_), _) => return Err(PullError::CannotMint("it is an identity for another registry")),
            (Credentials::Anonymous, _) => return Err(PullError::CannotMint("it is anonymous")),
            (Credentials::Basic { .. }, Provider::Azure) => {
                return Err(PullError::CannotMint(
                    "it is a password; only an identity or a refresh token of the registry has tokens that end",
                ));
            }
            (Credentials::Basic { .. }, _) => {
                return Err(PullError::CannotMint(
                    "it is a password, which never ends by itself; use it as an ordinary pull secret",
                ));
            }
        };
        let expires = ladder::end_of(token.expose()).ok_or(PullError::CannotMint(
            "it is a refresh token that does not say when it ends",
        ))?;
        self.shared().session.check_credentials().await?;
        Ok(PullCredential {
            username: AZURE_TOKEN_USER.to_owned(),
            password: token,
            expires,
        })
    }
}
