//! Google Artifact Registry (Google Cloud documentation, "Artifact Registry"): tokens from the registry's own `/v2/token`, tags with
//! digests by Google's extension of `tags/list`, uploads by one request, identities of the metadata server and of workload identity
//! federation.

use std::sync::Arc;

use async_trait::async_trait;
use catamaran_core::policy::IdentityPolicy;
use http::HeaderValue;
use url::Url;

use crate::auth::credentials::Credentials;
use crate::auth::identity::{Identities, Identity, TokenSource};
use crate::auth::kind::{CredentialKind, Presented};
use crate::auth::scheme::Scheme;
use crate::protocol::advice::Advice;
use crate::protocol::site::{Site, token_ask};
use crate::protocol::{Protocol, Provider, Requests, Setup, Uploads, basic_header, listing};
use crate::tags::ListedTag;
use crate::wire::ask::Ask;
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::secret::Secret;
use crate::wire::tls::Progress;

mod advice;
mod federation;
mod identity;
mod metadata;
mod tags;

use identity::GoogleIdentity;

/// The user name that stands for "the password is an access token".
const TOKEN_USER: &str = "oauth2accesstoken";
/// User names that stand for "the password is the key of a service account", as JSON or as its Base64.
const KEY_USERS: [&str; 2] = ["_json_key", "_json_key_base64"];

/// An identity that Google vouches for, without a stored secret.
pub const IDENTITY: CredentialKind = CredentialKind::new("googleIdentity", "an identity at Google");
/// An access token, as `gcloud auth print-access-token` gives it.
pub const ACCESS_TOKEN: CredentialKind = CredentialKind {
    name: "googleAccessToken",
    words: "an access token",
    warning: Some("an access token expires within an hour: use an identity, or the key of a service account"),
};
/// The key of a service account.
pub const SERVICE_ACCOUNT_KEY: CredentialKind =
    CredentialKind::new("googleServiceAccountKey", "the key of a service account");

/// An identity whose access tokens come from this source. Messages call it `name`.
pub fn identity(name: impl Into<String>, source: Arc<dyn TokenSource>) -> Identity {
    Identity::new(GoogleIdentity::new(name, source))
}

#[derive(Debug)]
pub(crate) struct Google;

impl Provider for Google {
    fn owns(&self, host: &str) -> bool {
        is_googles(host)
    }

    /// A fifth of 60,000 for a project and region ("Artifact Registry: Quotas and limits").
    fn requests_per_minute(&self) -> u32 {
        12_000
    }

    /// A fifth of 18,000.
    fn writes_per_minute(&self) -> u32 {
        3_600
    }

    /// "You must use monolithic uploads" ("Artifact Registry: Docker API").
    fn uploads(&self) -> Uploads {
        Uploads::AtOnce
    }

    fn variables(&self) -> &'static [&'static str] {
        &["GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"]
    }

    fn identity(
        &self,
        wanted: &IdentityPolicy,
        registry: &str,
        identities: &Identities,
    ) -> Result<Option<Identity>, ClientError> {
        identity::identity(wanted, registry, identities)
    }

    fn presented(&self, credentials: &Credentials) -> Presented {
        let presented = Presented::of(credentials);
        match credentials {
            Credentials::Basic { username, .. } if username == TOKEN_USER => Presented {
                kind: ACCESS_TOKEN,
                ..presented
            },
            Credentials::Basic { username, .. } if KEY_USERS.contains(&username.as_str()) => Presented {
                kind: SERVICE_ACCOUNT_KEY,
                ..presented
            },
            Credentials::Identity(_) => Presented {
                kind: IDENTITY,
                ..presented
            },
            _ => presented,
        }
    }

    fn advice(&self) -> &'static dyn Advice {
        &advice::GoogleAdvice
    }

    fn connect(&self, setup: &Setup<'_>) -> Result<Arc<dyn Protocol>, ClientError> {
        let identity = setup.site.credentials.identity();
        let identity = identity.and_then(Identity::of::<GoogleIdentity>);
        match &identity {
            None => setup.refuse_identity()?,
            Some(_) if !is_googles(&setup.site.host()) => return Err(foreign(&setup.site.host())),
            Some(_) => {}
        }
        Ok(Arc::new(GoogleProtocol { identity }))
    }
}

/// Whether a registry is one of Google's, by its name ("Artifact Registry: Repository names", and the domains of Container
/// Registry that it serves).
fn is_googles(registry: &str) -> bool {
    let host = registry.strip_suffix(":443").unwrap_or(registry);
    let location = |location: &str| {
        !location.is_empty()
            && location
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    host.strip_suffix("-docker.pkg.dev").is_some_and(location)
        || ["gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"].contains(&host)
}

/// A token of Google's is good at everything that the identity may use, so nobody else is shown one.
fn foreign(registry: &str) -> ClientError {
    ClientError::ForeignIdentity {
        registry: registry.to_owned(),
        wanted: "LOCATION-docker.pkg.dev, or gcr.io and its regions",
    }
}

struct GoogleProtocol {
    identity: Option<Arc<GoogleIdentity>>,
}

impl GoogleProtocol {
    async fn authorization(&self, site: &Site) -> Result<Option<HeaderValue>, Failure> {
        match &self.identity {
            Some(identity) => Ok(header(&identity.tokens.token().await?)),
            None => Ok(basic_header(site)),
        }
    }

    /// Whether a header carried the present token of the identity; then another one is fetched next.
    fn distrust(&self, refused: &HeaderValue) -> bool {
        let Some(identity) = &self.identity else { return false };
        match identity.tokens.current() {
            Some(token) if header(&token).as_ref() == Some(refused) => identity.tokens.distrust(&token),
            // It was replaced already, or has expired meanwhile.
            _ => true,
        }
    }
}

/// An access token as the password of its user ("Artifact Registry: Configure authentication for Docker").
fn header(token: &Secret<String>) -> Option<HeaderValue> {
    let credentials = Credentials::Basic {
        username: TOKEN_USER.to_owned(),
        password: token.clone(),
    };
    crate::wire::secret::secret_header("Basic", credentials.basic()?.expose())
}

#[async_trait]
impl Protocol for GoogleProtocol {
    /// `/v2/` itself names no service; requests for a repository do, and it is the host.
    fn known_scheme(&self, site: &Site) -> Scheme {
        Scheme::Bearer {
            realm: site.url("/v2/token"),
            service: Some(site.host()),
            also: Vec::new(),
        }
    }

    fn admits(&self, site: &Site, realm: &Url) -> bool {
        site.owns(realm) && realm.path() == "/v2/token"
    }

    fn has_basic(&self, site: &Site) -> bool {
        site.credentials != Credentials::Anonymous
    }

    async fn basic(&self, site: &Site) -> Result<Option<HeaderValue>, Failure> {
        self.authorization(site).await
    }

    fn forget(&self, refused: &HeaderValue) -> bool {
        self.distrust(refused)
    }

    async fn token_ask(
        &self,
        site: &Site,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Ask, Failure> {
        let authorization = self.authorization(site).await?;
        Ok(token_ask(realm, service, scope, authorization))
    }

    fn renews(&self, refused: &Ask) -> bool {
        refused
            .authorization
            .as_ref()
            .is_some_and(|header| self.distrust(header))
    }

    fn explain(&self, site: &Site, failure: &mut Failure, repository: Option<&str>) {
        if !matches!(failure.class, Class::Unauthorized | Class::Forbidden) {
            return;
        }
        let of = repository
            .map(|repository| format!(" for '{repository}'"))
            .unwrap_or_default();
        let advice = match (&self.identity, &site.credentials) {
            (Some(identity), _) => format!(
                "{} needs the role 'roles/artifactregistry.reader'{of}; a new role takes a few minutes to arrive",
                identity.tokens.name()
            ),
            (None, Credentials::Anonymous) => {
                "without a credential only repositories that allUsers may read can be read: give it one".to_owned()
            }
            (None, _) => format!(
                "the credential is not accepted, or lacks the role 'roles/artifactregistry.reader'{of}; access tokens expire \
                 within an hour"
            ),
        };
        failure.message.push_str(": ");
        failure.message.push_str(&advice);
    }

    async fn identify(&self, _scheme: &Scheme, progress: &Progress) -> Result<(), Failure> {
        if let Some(identity) = &self.identity
            && identity.tokens.current().is_none()
        {
            progress.ask(identity.tokens.name(), Stage::Identity);
            identity.tokens.token().await?;
        }
        Ok(())
    }

    async fn tags(&self, registry: &dyn Requests, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        listing::tags(registry, repository, &tags::LISTING).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(username: &str) -> Credentials {
        Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new("canary-password".to_owned()),
        }
    }

    #[test]
    fn registry_of_googles_is_known_by_its_name() {
        let cases = [
            ("europe-west4-docker.pkg.dev", true),
            ("us-docker.pkg.dev:443", true),
            ("gcr.io", true),
            ("eu.gcr.io", true),
            ("us-docker.pkg.dev:8443", false),
            ("-docker.pkg.dev", false),
            ("evil.us-docker.pkg.dev", false),
            ("us-docker.pkg.dev.evil.test", false),
            ("us-python.pkg.dev", false),
            ("k8s.gcr.io", false),
            ("evilgcr.io", false),
        ];
        for (registry, expected) in cases {
            assert_eq!(is_googles(registry), expected, "{registry}");
        }
    }

    #[test]
    fn credential_is_known_by_its_user_name() {
        let cases = [
            ("oauth2accesstoken", ACCESS_TOKEN),
            ("_json_key", SERVICE_ACCOUNT_KEY),
            ("_json_key_base64", SERVICE_ACCOUNT_KEY),
            ("bot", CredentialKind::PASSWORD),
        ];
        for (username, kind) in cases {
            let presented = Google.presented(&user(username));
            assert_eq!(presented.kind, kind, "{username}");
            assert!(!format!("{presented:?}").contains("canary"));
        }
    }
}
