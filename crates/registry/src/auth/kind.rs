//! What a credential is, as far as it shows.

use jiff::Timestamp;

use crate::auth::credentials::Credentials;
use crate::wire::failure::one_line;

/// What kind of credential it is, by its shape. Providers have kinds of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialKind {
    /// The kind in one word, for documents.
    pub name: &'static str,
    /// What it is, for people: `a classic personal access token`.
    pub words: &'static str,
    /// Why it is not one to pull with.
    pub warning: Option<&'static str>,
}

impl CredentialKind {
    /// None.
    pub const ANONYMOUS: CredentialKind = CredentialKind::new("anonymous", "none");
    /// A user name and a password or token.
    pub const PASSWORD: CredentialKind = CredentialKind::new("password", "a user name and a password or token");
    /// An identity that a cloud vouches for, at a registry of another.
    pub const FOREIGN_IDENTITY: CredentialKind = CredentialKind::new("identity", "an identity at another cloud");

    pub(crate) const fn new(name: &'static str, words: &'static str) -> CredentialKind {
        CredentialKind {
            name,
            words,
            warning: None,
        }
    }
}

/// Who we are to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// With what kind of credential.
    pub kind: CredentialKind,
    /// Under which user name, where there is one that says something.
    pub username: Option<String>,
    /// When the credential ends, where it can be read.
    pub expires: Option<Timestamp>,
    /// The registry gives rights by repository (Azure's ABAC mode), as far as the credential tells.
    pub by_repository: bool,
}

impl Presented {
    /// A credential of which no more is known.
    pub(crate) fn new(kind: CredentialKind, username: Option<&str>) -> Presented {
        Presented {
            kind,
            username: username.map(one_line),
            expires: None,
            by_repository: false,
        }
    }

    /// What any provider sees in a credential.
    pub(crate) fn of(credentials: &Credentials) -> Presented {
        match credentials {
            Credentials::Anonymous => Presented::new(CredentialKind::ANONYMOUS, None),
            Credentials::Basic { username, .. } => Presented::new(CredentialKind::PASSWORD, Some(username)),
            Credentials::Identity(identity) => Presented::new(CredentialKind::FOREIGN_IDENTITY, Some(identity.name())),
        }
    }
}

/// A credential that its provider does not take for images, known by its shape. Says why, and what to do; holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnsupportedCredentials(pub(crate) &'static str);
