//! What we authenticate with, as far as it shows, and what a token is good for. Nothing of either leaves this file.

use http::HeaderValue;
use jiff::Timestamp;
use serde::Deserialize;

use crate::credentials::{AZURE_TOKEN_USER, Credentials, GitHubToken};
use crate::failure::one_line;
use crate::jwt;

/// What kind of credential it is, by its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// None.
    Anonymous,
    /// A user name and a password or token.
    Password,
    /// A refresh token of an Azure registry, as `az acr login` leaves it.
    AzureRefreshToken,
    /// An identity that Azure vouches for, without a stored secret.
    AzureIdentity,
    /// The identity of this machine or pod at Amazon, without a stored secret.
    AwsIdentity,
    /// A classic personal access token of GitHub (`ghp_`).
    GitHubClassic,
    /// A fine-grained personal access token of GitHub (`github_pat_`), which packages do not take.
    GitHubFineGrained,
    /// A token of a GitHub App or of an Actions job (`ghs_`, `ghu_`, `ghr_`).
    GitHubApp,
}

impl CredentialKind {
    /// The kind in one word, for documents.
    pub fn as_str(self) -> &'static str {
        match self {
            CredentialKind::Anonymous => "anonymous",
            CredentialKind::Password => "password",
            CredentialKind::AzureRefreshToken => "azureRefreshToken",
            CredentialKind::AzureIdentity => "azureIdentity",
            CredentialKind::AwsIdentity => "awsIdentity",
            CredentialKind::GitHubClassic => "githubClassicToken",
            CredentialKind::GitHubFineGrained => "githubFineGrainedToken",
            CredentialKind::GitHubApp => "githubAppToken",
        }
    }
}

/// Who we are to the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// With what kind of credential.
    pub kind: CredentialKind,
    /// Under which user name, where there is one that says something.
    pub username: Option<String>,
    /// When the credential ends, where it can be read.
    pub expires: Option<Timestamp>,
    /// The registry gives rights by repository (Azure's ABAC mode), as far as the credential tells.
    pub by_repository: bool,
}

/// What a token is good for, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The actions on the repository, such as `pull` and `metadata_read`.
    pub actions: Vec<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<i64>,
    #[serde(default)]
    access: Vec<Access>,
    /// Only refresh tokens of Azure registries in ABAC mode have it.
    aad_identity: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Access {
    #[serde(default)]
    actions: Vec<String>,
}

pub(super) fn identity(credentials: &Credentials) -> Identity {
    let anonymous = Identity {
        kind: CredentialKind::Anonymous,
        username: None,
        expires: None,
        by_repository: false,
    };
    match credentials {
        Credentials::Anonymous => anonymous,
        Credentials::Azure(identity) => Identity {
            kind: CredentialKind::AzureIdentity,
            username: Some(one_line(identity.name())),
            ..anonymous
        },
        #[cfg(feature = "aws")]
        Credentials::Aws(_) => Identity {
            kind: CredentialKind::AwsIdentity,
            ..anonymous
        },
        Credentials::Basic { username, password } if username == AZURE_TOKEN_USER => {
            let claims = claims(password.expose());
            Identity {
                kind: CredentialKind::AzureRefreshToken,
                expires: claims.as_ref().and_then(Claims::end),
                by_repository: claims.is_some_and(|claims| claims.aad_identity.is_some()),
                ..anonymous
            }
        }
        Credentials::Basic { username, password } => Identity {
            kind: kind_of(password.expose()),
            username: Some(one_line(username)),
            ..anonymous
        },
    }
}

fn kind_of(password: &str) -> CredentialKind {
    match GitHubToken::of(password) {
        Some(GitHubToken::Classic) => CredentialKind::GitHubClassic,
        Some(GitHubToken::FineGrained) => CredentialKind::GitHubFineGrained,
        Some(GitHubToken::App) => CredentialKind::GitHubApp,
        None => CredentialKind::Password,
    }
}

/// Reads the token in a header, if it is one that can be read.
pub(super) fn granted(header: &HeaderValue) -> Option<Granted> {
    let claims = claims(header.to_str().ok()?.strip_prefix("Bearer ")?)?;
    Some(Granted {
        expires: claims.end(),
        actions: claims
            .access
            .into_iter()
            .flat_map(|access| access.actions)
            .take(16)
            .map(|action| one_line(&action))
            .collect(),
    })
}

impl Claims {
    fn end(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.exp?).ok()
    }
}

/// The claims of a JSON Web Token. They are not verified: they are only shown.
fn claims(token: &str) -> Option<Claims> {
    serde_json::from_slice(&jwt::payload(token)?).ok()
}

/// When a JSON Web Token ends.
pub(crate) fn end_of(token: &str) -> Option<Timestamp> {
    claims(token)?.end()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;
    use crate::secret::Secret;

    fn token(claims: &str) -> String {
        format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    fn of(username: &str, password: &str) -> Identity {
        identity(&Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        })
    }

    #[test]
    fn a_credential_is_known_by_its_shape() {
        let cases = [
            ("ghp_x", CredentialKind::GitHubClassic),
            ("github_pat_x", CredentialKind::GitHubFineGrained),
            ("ghs_x", CredentialKind::GitHubApp),
            ("ghu_x", CredentialKind::GitHubApp),
            ("ghr_x", CredentialKind::GitHubApp),
            ("hunter2", CredentialKind::Password),
        ];
        for (password, kind) in cases {
            let identity = of("bot", password);
            assert_eq!((identity.kind, identity.username.as_deref()), (kind, Some("bot")));
            assert!(!format!("{identity:?}").contains(password));
        }
        assert_eq!(identity(&Credentials::Anonymous).kind, CredentialKind::Anonymous);
    }

    #[test]
    fn a_refresh_token_tells_its_end_and_whether_rights_are_by_repository() {
        let plain = of(AZURE_TOKEN_USER, &token(r#"{"exp":1700000000}"#));
        assert_eq!(plain.kind, CredentialKind::AzureRefreshToken);
        assert_eq!(plain.expires, Timestamp::from_second(1_700_000_000).ok());
        assert!(!plain.by_repository);
        assert!(of(AZURE_TOKEN_USER, &token(r#"{"aad_identity":"x"}"#)).by_repository);
        let opaque = of(AZURE_TOKEN_USER, "opaque");
        assert_eq!((opaque.expires, opaque.by_repository), (None, false));
    }

    #[test]
    fn what_a_token_is_good_for_is_read_where_it_can_be() {
        let claims =
            r#"{"exp":1700000000,"access":[{"type":"repository","name":"web","actions":["pull","metadata_read"]}]}"#;
        let header = |token: &str| HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        let read = granted(&header(&token(claims))).unwrap();
        assert_eq!(read.actions, ["pull", "metadata_read"]);
        assert_eq!(read.expires, Timestamp::from_second(1_700_000_000).ok());
        for other in ["opaque", "a.b.c", "a.!!.c"] {
            assert_eq!(granted(&header(other)), None, "{other}");
        }
    }
}
