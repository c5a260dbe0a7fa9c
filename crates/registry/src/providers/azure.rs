//! Azure Container Registry (Azure/acr, docs/AAD-OAuth.md): tokens from the registry's own `/oauth2`, tags with digests and locks,
//! identities of Microsoft Entra ID.

use std::sync::Arc;

use async_trait::async_trait;
use catamaran_core::policy::IdentityPolicy;
use http::Method;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::auth::credentials::{Credentials, TOKEN_USER};
use crate::auth::identity::{Identities, Identity, TokenSource};
use crate::auth::jwt::Claims;
use crate::auth::kind::{CredentialKind, Presented};
use crate::auth::pull::{PullCredential, PullError};
use crate::auth::scheme::Scheme;
use crate::protocol::advice::Advice;
use crate::protocol::site::{Site, token_ask};
use crate::protocol::{Protocol, Provider, Requests, Setup, basic_header, listing};
use crate::tags::{ListedTag, Lock};
use crate::wire::ask::Ask;
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::secret::Secret;
use crate::wire::tls::Progress;

mod advice;
mod entra;
mod exchange;
mod tags;

use entra::EntraIdentity;
use exchange::Exchange;

/// A refresh token of a registry, as `az acr login` leaves it.
pub const REFRESH_TOKEN: CredentialKind = CredentialKind::new("azureRefreshToken", "a refresh token of the registry");
/// An identity that Azure vouches for, without a stored secret.
pub const IDENTITY: CredentialKind = CredentialKind::new("azureIdentity", "an identity of Azure's");

/// An identity whose tokens of Microsoft Entra ID come from this source. Messages call it `name`.
pub fn identity(name: impl Into<String>, source: Arc<dyn TokenSource>) -> Identity {
    Identity::new(EntraIdentity::new(name, source))
}

#[derive(Debug)]
pub(crate) struct Azure;

impl Provider for Azure {
    fn owns(&self, host: &str) -> bool {
        entra::is_azures(host)
    }

    /// What its smallest tier takes (100) with some to spare.
    fn writes_per_minute(&self) -> u32 {
        60
    }

    fn variables(&self) -> &'static [&'static str] {
        &["AZURE_"]
    }

    fn identity(
        &self,
        wanted: &IdentityPolicy,
        registry: &str,
        identities: &Identities,
    ) -> Result<Option<Identity>, ClientError> {
        entra::identity(wanted, registry, identities)
    }

    fn presented(&self, credentials: &Credentials) -> Presented {
        match credentials {
            Credentials::Basic { username, password } if username == TOKEN_USER => {
                let claims = Claims::of(password.expose()).unwrap_or_default();
                Presented {
                    expires: claims.end(),
                    by_repository: claims.is_abac(),
                    ..Presented::new(REFRESH_TOKEN, None)
                }
            }
            Credentials::Identity(identity) => Presented::new(IDENTITY, Some(identity.name())),
            other => Presented::of(other),
        }
    }

    fn advice(&self) -> &'static dyn Advice {
        &advice::AzureAdvice
    }

    fn connect(&self, setup: &Setup<'_>) -> Result<Arc<dyn Protocol>, ClientError> {
        let exchange = Exchange::new(setup.site, setup.http);
        if exchange.is_none() {
            setup.refuse_identity()?;
        }
        Ok(Arc::new(AzureProtocol { exchange }))
    }
}

struct AzureProtocol {
    /// Where the credential is an identity.
    exchange: Option<Exchange>,
}

#[async_trait]
impl Protocol for AzureProtocol {
    /// A regional endpoint is asked first: what it calls itself as a service is its own to say.
    fn known_scheme(&self, site: &Site) -> Scheme {
        if global_name(&site.host()).is_some() {
            return Scheme::Unknown;
        }
        Scheme::Bearer {
            realm: site.url("/oauth2/token"),
            service: Some(site.host()),
            also: Vec::new(),
        }
    }

    fn admits(&self, site: &Site, realm: &Url) -> bool {
        let global = global_name(&site.host());
        let own = site.owns(realm)
            || (realm.port().is_none() && global.is_some_and(|global| realm.host_str() == Some(&global)));
        own && realm.path().starts_with("/oauth2/")
    }

    /// Listing needs `metadata_read` (scope-map tokens, ABAC); with `pull` alone it is refused.
    fn actions(&self) -> &'static str {
        "pull,metadata_read"
    }

    async fn token_ask(
        &self,
        site: &Site,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Ask, Failure> {
        if let Some(exchange) = &self.exchange {
            let token = exchange.refresh_token(realm, service).await?;
            return Ok(refresh_ask(realm, service, scope, &token.token));
        }
        Ok(match &site.credentials {
            Credentials::Basic { username, password } if username == TOKEN_USER => {
                refresh_ask(realm, service, scope, password)
            }
            _ => token_ask(realm, service, scope, basic_header(site)),
        })
    }

    /// A refresh token that is refused is replaced once, unless it is new.
    fn renews(&self, refused: &Ask) -> bool {
        let exchange = self.exchange.as_ref();
        exchange.is_some_and(|exchange| refused.form.as_ref().is_some_and(|form| exchange.distrust(form)))
    }

    fn explain(&self, site: &Site, failure: &mut Failure, repository: Option<&str>) {
        match &self.exchange {
            Some(exchange) => exchange.explain_refusal(failure, repository),
            None => explain(site, failure, &Context::without_identity(repository)),
        }
    }

    fn let_in(&self, repository: &str) {
        if let Some(exchange) = &self.exchange {
            exchange.membership.prove(repository);
        }
    }

    async fn identify(&self, scheme: &Scheme, progress: &Progress) -> Result<(), Failure> {
        if let (Some(exchange), Scheme::Bearer { realm, service, .. }) = (&self.exchange, scheme)
            && !exchange.is_ready()
        {
            progress.ask(exchange.name(), Stage::Identity);
            exchange.cloud_token().await?;
            progress.ask(&exchange::describe(realm), Stage::Exchange);
            exchange.refresh_token(realm, service.as_deref()).await?;
        }
        Ok(())
    }

    async fn tags(&self, registry: &dyn Requests, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        listing::tags(registry, repository, &tags::LISTING).await
    }

    async fn lock_of(&self, registry: &dyn Requests, repository: &str, tag: &str) -> Result<Option<Lock>, Failure> {
        tags::lock_of(registry, repository, tag).await
    }

    fn mints(&self, site: &Site) -> Result<(), PullError> {
        let why = match (&self.exchange, &site.credentials) {
            (Some(_), _) => return Ok(()),
            (None, Credentials::Basic { username, password }) if username == TOKEN_USER => {
                return ends(password).map(|_| ());
            }
            (None, Credentials::Basic { .. }) => {
                "it is a password; only an identity or a refresh token of the registry has tokens that end"
            }
            (None, Credentials::Anonymous) => "it is anonymous",
            (None, Credentials::Identity(_)) => "it is an identity for another registry",
        };
        Err(PullError::CannotMint(why))
    }

    /// The registry's refresh token, which is good for three hours (Azure/acr, docs/AAD-OAuth.md) and is taken by the null user of
    /// `docker login`.
    async fn pull_credential(&self, site: &Site) -> Result<PullCredential, PullError> {
        self.mints(site)?;
        let token = match (&self.exchange, &site.credentials, self.known_scheme(site)) {
            (Some(exchange), _, Scheme::Bearer { realm, service, .. }) => {
                exchange.refresh_token(&realm, service.as_deref()).await?.token
            }
            (None, Credentials::Basic { password, .. }, _) => password.clone(),
            _ => {
                let message = format!("{}: there is no identity to get a token for", site.base);
                return Err(Failure::new(Stage::Exchange, Class::CredentialsUnavailable, message).into());
            }
        };
        Ok(PullCredential {
            username: TOKEN_USER.to_owned(),
            expires: ends(&token)?,
            password: token,
        })
    }
}

/// When a refresh token ends.
fn ends(token: &Secret<String>) -> Result<jiff::Timestamp, PullError> {
    let ends = Claims::of(token.expose()).and_then(|claims| claims.end());
    ends.ok_or(PullError::CannotMint(
        "it is a refresh token that does not say when it ends",
    ))
}

/// What is known about a request that was refused.
struct Context<'a> {
    /// The repository that it was about.
    repository: Option<&'a str>,
    /// The identity that asked, where the credential is one.
    identity: Option<&'a str>,
    /// Whether the registry is known to grant by repository.
    abac: bool,
    /// Whether the identity was ever let in there.
    proven: bool,
}

impl<'a> Context<'a> {
    fn without_identity(repository: Option<&'a str>) -> Context<'a> {
        Context {
            repository,
            identity: None,
            abac: false,
            proven: true,
        }
    }
}

/// Says what a refusal means here and what would fix it.
fn explain(site: &Site, failure: &mut Failure, context: &Context<'_>) {
    match failure.class {
        Class::Unexpected if failure.status == Some(400) && unreadable_credential(site, failure) => {
            failure.class = Class::CredentialsUnavailable;
        }
        Class::Unauthorized | Class::Forbidden => refused(site, failure, context),
        _ => {}
    }
}

/// The registry of a regional endpoint, `name.region.geo.azurecr.io`.
fn global_name(host: &str) -> Option<String> {
    let (front, cloud) = host.split_once(".geo.azurecr.")?;
    let (name, region) = front.split_once('.')?;
    let plain = !name.is_empty() && !region.is_empty() && !region.contains('.') && !cloud.contains([':', '.']);
    plain.then(|| format!("{name}.azurecr.{cloud}"))
}

/// Whether a "bad request" is about the credential: nothing else in these requests is not ours.
fn unreadable_credential(site: &Site, failure: &Failure) -> bool {
    failure.stage == Stage::Exchange || (failure.stage == Stage::Token && site.credentials != Credentials::Anonymous)
}

/// Whether a refused exchange is about the token itself and not about rights: the words of .NET's token validation, and of
/// Microsoft Entra ID.
fn calls_the_token_bad(message: &str) -> bool {
    ["IDX", "AADSTS", "invalid_token", "expired", "malformed"]
        .iter()
        .any(|word| message.contains(word))
}

fn refused(site: &Site, failure: &mut Failure, context: &Context<'_>) {
    let advice = match (context.identity, &site.credentials) {
        (Some(name), _) if failure.stage == Stage::Exchange && calls_the_token_bad(&failure.message) => {
            failure.class = Class::CredentialsUnavailable;
            format!("the token of {name} is not one that this registry accepts: check its tenant and the clock")
        }
        (Some(name), _) => {
            if context.proven {
                format!("{name} is no longer let in: {}", roles(context))
            } else {
                failure.class = Class::WaitingForAuthorization;
                format!(
                    "{name} has no right to it yet; a new role takes up to 10 minutes to arrive: {}",
                    roles(context)
                )
            }
        }
        (None, Credentials::Anonymous) => {
            "without a credential only registries with anonymous pull can be read: give it one".to_owned()
        }
        (None, Credentials::Basic { .. }) if failure.stage == Stage::Token => {
            "the user name or password is not accepted; new passwords and tokens take about a minute to arrive"
                .to_owned()
        }
        (None, _) => format!(
            "{}; a token with a scope map needs content/read and metadata/read on the repository",
            roles(context)
        ),
    };
    failure.message.push_str(": ");
    failure.message.push_str(&advice);
}

fn roles(context: &Context<'_>) -> String {
    let of = context
        .repository
        .map(|repository| format!(" for '{repository}'"))
        .unwrap_or_default();
    if context.abac {
        return format!(
            "this registry grants by repository (ABAC), where AcrPull means nothing: it needs the role \
             'Container Registry Repository Reader'{of}"
        );
    }
    format!(
        "it needs the role 'AcrPull', or where the registry grants by repository (ABAC) 'Container Registry Repository Reader'{of}"
    )
}

/// Refresh tokens are exchanged by a form: as a Basic password they can't list.
fn refresh_ask(realm: &Url, service: Option<&str>, scope: Option<&str>, refresh_token: &Secret<String>) -> Ask {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    form.append_pair("refresh_token", refresh_token.expose());
    let mut ask = Ask::new(Method::POST, realm.clone(), Stage::Token);
    ask.form = Some(Secret::new(form.finish()));
    ask
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;
    use crate::connection::Connection;

    fn site(registry: &str, credentials: Credentials) -> Site {
        let connection = Connection {
            registry: registry.to_owned(),
            credentials,
            ..Connection::default()
        };
        Site::new(&connection).unwrap()
    }

    const PLAIN: AzureProtocol = AzureProtocol { exchange: None };

    fn user(username: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        }
    }

    #[tokio::test]
    async fn refresh_token_is_posted_and_never_put_into_the_url() {
        let site = site("kracr.azurecr.io", user(TOKEN_USER, "refresh&me"));
        let realm = site.url("/oauth2/token");
        let asking = PLAIN.token_ask(&site, &realm, Some("kracr.azurecr.io"), Some("repository:a:pull"));
        let ask = asking.await.unwrap();
        assert_eq!((ask.method, ask.url, ask.authorization), (Method::POST, realm, None));
        let form = ask.form.unwrap().expose().clone();
        assert_eq!(
            form,
            "grant_type=refresh_token&service=kracr.azurecr.io&scope=repository%3Aa%3Apull&refresh_token=refresh%26me"
        );
    }

    #[test]
    fn refresh_token_says_its_end_and_whether_rights_are_by_repository() {
        let of = |claims: &str| {
            let token = format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims));
            Azure.presented(&user(TOKEN_USER, &token))
        };
        let plain = of(r#"{"exp":1700000000}"#);
        assert_eq!(plain.kind, REFRESH_TOKEN);
        assert_eq!(plain.expires, jiff::Timestamp::from_second(1_700_000_000).ok());
        assert!(!plain.by_repository);
        assert!(of(r#"{"aad_identity":"x"}"#).by_repository);
        let opaque = Azure.presented(&user(TOKEN_USER, "opaque"));
        assert_eq!(
            (opaque.kind, opaque.expires, opaque.by_repository),
            (REFRESH_TOKEN, None, false)
        );
        assert_eq!(Azure.presented(&user("app", "x")).kind, CredentialKind::PASSWORD);
    }

    #[test]
    fn a_regional_endpoint_belongs_to_its_registry() {
        let regional = site("kracr.westeurope.geo.azurecr.io", Credentials::Anonymous);
        assert_eq!(PLAIN.known_scheme(&regional), Scheme::Unknown);
        let cases = [
            ("https://kracr.westeurope.geo.azurecr.io/oauth2/token", true),
            ("https://kracr.azurecr.io/oauth2/token", true),
            ("https://kracr.azurecr.io:444/oauth2/token", false),
            ("https://other.azurecr.io/oauth2/token", false),
            ("https://westeurope.geo.azurecr.io/oauth2/token", false),
            ("https://kracr.azurecr.cn/oauth2/token", false),
        ];
        for (realm, admitted) in cases {
            assert_eq!(
                PLAIN.admits(&regional, &Url::parse(realm).unwrap()),
                admitted,
                "{realm}"
            );
        }
        for host in [
            "kracr.azurecr.io",
            "a.b.c.geo.azurecr.io",
            ".r.geo.azurecr.io",
            "kracr.r.geo.azurecr.io.evil.test",
        ] {
            assert_eq!(global_name(host), None, "{host}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn each_refusal_says_what_to_grant() {
        let context = |identity, abac, proven| Context {
            repository: Some("web"),
            identity,
            abac,
            proven,
        };
        let name = Some("managed identity 1");
        let both = ["'AcrPull'", "'Container Registry Repository Reader' for 'web'"];
        let waiting = Class::WaitingForAuthorization;
        let anonymous = || Credentials::Anonymous;
        let account = || user("app", "hunter22");
        let cases: [(Credentials, Context<'_>, Stage, Class, &[&str]); 7] = [
            (
                anonymous(),
                context(name, false, false),
                Stage::Exchange,
                waiting.clone(),
                &both,
            ),
            (
                anonymous(),
                context(name, false, false),
                Stage::Tags,
                waiting.clone(),
                &both,
            ),
            (
                anonymous(),
                context(name, true, false),
                Stage::Manifest,
                waiting,
                &["AcrPull means nothing", both[1]],
            ),
            (
                anonymous(),
                context(name, false, true),
                Stage::Manifest,
                Class::Unauthorized,
                &["no longer", both[0]],
            ),
            (
                account(),
                context(None, false, true),
                Stage::Tags,
                Class::Unauthorized,
                &["metadata/read", both[0]],
            ),
            (
                account(),
                context(None, false, true),
                Stage::Token,
                Class::Unauthorized,
                &["password is not accepted"],
            ),
            (
                anonymous(),
                context(None, false, true),
                Stage::Token,
                Class::Unauthorized,
                &["anonymous pull"],
            ),
        ];
        for (credentials, context, stage, class, words) in cases {
            let site = site("kracr.azurecr.io", credentials);
            let mut failure = Failure::new(stage, Class::Unauthorized, "401".to_owned());
            explain(&site, &mut failure, &context);
            assert_eq!(failure.class, class, "{failure}");
            for word in words {
                assert!(failure.message.contains(word), "{failure} lacks {word}");
            }
        }
    }
}
