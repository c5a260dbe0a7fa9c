//! What a provider is: the one seam between registries in general and those of one cloud.
//!
//! A provider's folder implements [`Provider`], what is known without asking anyone, and [`Protocol`], what one client of it does its
//! own way. The defaults of both are what any OCI registry does. [`advice`] is what people are told.

use std::sync::Arc;

use async_trait::async_trait;
use catamaran_core::policy::IdentityPolicy;
use http::{HeaderValue, StatusCode};
use url::Url;

use crate::auth::challenge::Challenge;
use crate::auth::credentials::Credentials;
use crate::auth::identity::{Identities, Identity};
use crate::auth::kind::{Presented, UnsupportedCredentials};
use crate::auth::pull::{PullCredential, PullError};
use crate::auth::scheme::Scheme;
use crate::budget::Budgets;
use crate::tags::{ListedTag, Lock, Resolved};
use crate::wire::ask::{Access, Ask};
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage, one_line};
use crate::wire::mask::Sent;
use crate::wire::reply::Reply;
use crate::wire::secret::secret_header;
use crate::wire::tls::{Progress, Trust};
use crate::wire::transport::Http;

pub mod advice;
pub(crate) mod listing;
pub(crate) mod site;

use advice::Advice;
use site::{Site, token_ask};

/// What is known of a provider without asking anyone. One folder of `providers` for each.
pub(crate) trait Provider: std::fmt::Debug + Sync {
    /// Whether a registry (`host` or `host:port` in lower case, without the port that https has anyway) is this provider's, by its
    /// name alone.
    fn owns(&self, _host: &str) -> bool {
        false
    }

    /// Requests a minute: a fifth of the known limits.
    fn requests_per_minute(&self) -> u32 {
        200
    }

    /// Requests that write, a minute.
    fn writes_per_minute(&self) -> u32 {
        200
    }

    /// How the content of a blob is sent.
    fn uploads(&self) -> Uploads {
        Uploads::InPieces { least: 0 }
    }

    /// What the variables of the environment begin with that say who we are to this provider.
    fn variables(&self) -> &'static [&'static str] {
        &[]
    }

    /// The identity that a side asks for; `None` where it is none, or the environment offers none.
    ///
    /// # Errors
    /// For an identity that a registry of this name does not take: anyone who is shown a token can use it elsewhere.
    fn identity(
        &self,
        wanted: &IdentityPolicy,
        registry: &str,
        _identities: &Identities,
    ) -> Result<Option<Identity>, ClientError> {
        match wanted {
            IdentityPolicy::Ambient | IdentityPolicy::Anonymous => Ok(None),
            IdentityPolicy::Workload { .. } | IdentityPolicy::Managed(_) => Err(ClientError::ForeignIdentity {
                registry: registry.to_owned(),
                wanted: "a registry that takes identities, which the provider of this one does not",
            }),
        }
    }

    /// What a credential is, by its shape.
    fn presented(&self, credentials: &Credentials) -> Presented {
        Presented::of(credentials)
    }

    /// Why this password is known not to be taken for images. The client does not refuse it by itself.
    fn unsupported(&self, _password: &str) -> Option<UnsupportedCredentials> {
        None
    }

    /// What people are told when something fails.
    fn advice(&self) -> &'static dyn Advice;

    /// The protocol of one client. Nothing is asked yet.
    ///
    /// # Errors
    /// For a credential that no registry of this name takes.
    fn connect(&self, setup: &Setup<'_>) -> Result<Arc<dyn Protocol>, ClientError>;
}

/// How the content of a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uploads {
    /// A large one by several requests.
    InPieces {
        /// Bytes that each of them but the last must have.
        least: usize,
    },
    /// By one request, whatever its size.
    AtOnce,
}

/// What a client is made of.
pub(crate) struct Setup<'s> {
    pub(crate) site: &'s Arc<Site>,
    /// What requests to the registry go by.
    pub(crate) http: &'s Http,
    pub(crate) budgets: &'s Budgets,
    pub(crate) trust: &'s Trust,
}

impl Setup<'_> {
    /// A client for hosts other than the registry's.
    pub(crate) fn other_http(&self) -> Result<Http, ClientError> {
        Http::new(
            self.http.guard.clone(),
            &self.trust.without_identity(),
            self.http.limits.clone(),
        )
    }

    /// Refuses an identity at a registry that is not its cloud's.
    pub(crate) fn refuse_identity(&self) -> Result<(), ClientError> {
        match self.site.credentials {
            Credentials::Identity(_) => Err(ClientError::ForeignIdentity {
                registry: self.site.host(),
                wanted: "a registry of the cloud that the identity is from, with that provider",
            }),
            _ => Ok(()),
        }
    }
}

/// Authenticated requests to one registry, for what a provider asks beyond the specification.
#[async_trait]
pub(crate) trait Requests: Sync {
    /// The registry.
    fn site(&self) -> &Site;

    /// What requests go by.
    fn http(&self) -> &Http;

    /// One request about a repository. The answer is a success.
    async fn get(&self, ask: Ask, repository: &str) -> Result<Reply, Failure>;
}

/// What the client of a provider does its own way. The defaults are the distribution specification and the token flow of the
/// distribution project.
#[async_trait]
pub(crate) trait Protocol: Send + Sync {
    /// What is known about authentication before the registry has said anything; saves a request per client.
    fn known_scheme(&self, _site: &Site) -> Scheme {
        Scheme::Unknown
    }

    /// Whether a token endpoint may be given the credential. It is https and has no user name already.
    fn admits(&self, site: &Site, realm: &Url) -> bool {
        site.admits(realm)
    }

    /// The actions that reading a repository needs.
    fn actions(&self) -> &'static str {
        "pull"
    }

    /// Whether the credential, or what it is exchanged for, can stand in `Authorization: Basic`.
    fn has_basic(&self, site: &Site) -> bool {
        matches!(site.credentials, Credentials::Basic { .. })
    }

    /// The credential itself as a header; one that stands for an identity is fetched.
    async fn basic(&self, site: &Site) -> Result<Option<HeaderValue>, Failure> {
        Ok(basic_header(site))
    }

    /// Forgets what [`Protocol::basic`] gave for an identity and the registry refused. Whether another can be had.
    fn forget(&self, _refused: &HeaderValue) -> bool {
        false
    }

    /// The same after a 403, which some registries answer to what has expired. At most once in a while: most of them are about rights.
    fn forget_denied(&self, _refused: &HeaderValue) -> bool {
        false
    }

    /// The request that turns the credential into a token. What it needs of an identity is fetched.
    async fn token_ask(
        &self,
        site: &Site,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Ask, Failure> {
        Ok(token_ask(realm, service, scope, basic_header(site)))
    }

    /// What such a request carried for an identity was refused with 401. Whether the request is worth making again.
    fn renews(&self, _refused: &Ask) -> bool {
        false
    }

    /// When a token was refused in words that may mean two things: the request without the credential whose answer tells them
    /// apart.
    fn anonymous_retry(
        &self,
        _site: &Site,
        _failure: &mut Failure,
        _realm: &Url,
        _service: Option<&str>,
        _scope: Option<&str>,
    ) -> Option<Ask> {
        None
    }

    /// What the refusal meant, by the status of the answer to that request.
    fn retried_anonymously(&self, _failure: &mut Failure, _status: StatusCode) {}

    /// Says what a refusal of the registry means here and what would fix it. `repository`: what the request was about.
    fn explain(&self, _site: &Site, _failure: &mut Failure, _repository: Option<&str>) {}

    /// The credential was let in to a repository.
    fn let_in(&self, _repository: &str) {}

    /// Has what the identity service and the registry give for an identity, unless that is there already. For probes: `progress` is
    /// told what is waited for.
    async fn identify(&self, _scheme: &Scheme, _progress: &Progress) -> Result<(), Failure> {
        Ok(())
    }

    /// All tags of a repository, sorted by name, each once; with digests where the provider lists them.
    async fn tags(&self, registry: &dyn Requests, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        listing::tags(registry, repository, &listing::DISTRIBUTION).await
    }

    /// What a tag stands for, where the provider tells without having a cache import it.
    async fn without_pull(&self, _repository: &str, _tag: &str) -> Result<Option<Resolved>, Failure> {
        Ok(None)
    }

    /// What is locked about a tag; `None` when nothing is, or the provider has no locks.
    async fn lock_of(&self, _registry: &dyn Requests, _repository: &str, _tag: &str) -> Result<Option<Lock>, Failure> {
        Ok(None)
    }

    /// The path under which the registry caches an upstream registry; empty for its root, `None` without a rule for all of the
    /// upstream.
    async fn cache_prefix(&self, upstream: &str) -> Result<Option<String>, Failure> {
        let message = format!("failed to look for the rule of {upstream:?}: that takes an identity at Amazon");
        Err(Failure::new(Stage::Tags, Class::CredentialsUnavailable, message))
    }

    /// Whether pods can be given a credential that ends. Asks nobody.
    fn mints(&self, site: &Site) -> Result<(), PullError> {
        cannot_mint(site)
    }

    /// The credential for pods; [`Protocol::mints`] said yes, and the registry has accepted our own.
    async fn pull_credential(&self, site: &Site) -> Result<PullCredential, PullError> {
        cannot_mint(site)
    }
}

impl dyn Protocol + '_ {
    /// What several challenges make of the registry: the first that can be answered counts, and what others of the same token endpoint
    /// name besides. Where no token endpoint is admitted, the credential itself may still be what the registry takes.
    pub(crate) fn admit_one_of(
        &self,
        site: &Site,
        offered: Vec<Challenge>,
        sent: &Sent,
    ) -> Result<Option<Scheme>, Failure> {
        let mut admitted: Option<Scheme> = None;
        let mut refused = None;
        for challenge in offered {
            match (self.admit(site, challenge, sent), &mut admitted) {
                (Ok(scheme), Some(first)) => first.add(&scheme),
                (Ok(Scheme::Basic), None) if refused.is_some() && !self.has_basic(site) => {}
                (Ok(scheme), None) => admitted = Some(scheme),
                (Err(failure), _) => refused = refused.or(Some(failure)),
            }
        }
        match (admitted, refused) {
            (None, Some(failure)) => Err(failure),
            (admitted, _) => Ok(admitted),
        }
    }

    /// What a challenge makes of the registry. A token endpoint must be admitted: credentials go nowhere else.
    ///
    /// Azure: the registry's own `/oauth2/...`; GitHub: the registry's own `/token`; others: the registry's own host and
    /// port, or a host that the administrator listed. Always https, never with a user name in the URL. `sent`: what the request
    /// that was answered so carried.
    pub(crate) fn admit(&self, site: &Site, challenge: Challenge, sent: &Sent) -> Result<Scheme, Failure> {
        let Challenge::Bearer { realm, service, pulls } = challenge else {
            return Ok(Scheme::Basic);
        };
        let url = Url::parse(&realm).ok().filter(|url| {
            let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
            url.scheme() == "https" && plain && self.admits(site, url)
        });
        let Some(realm) = url else {
            let message = format!(
                "GET {}v2/: the challenge names the token endpoint {:?}, which is not admitted for this registry",
                site.base,
                one_line(&sent.hide(&realm))
            );
            return Err(Failure::new(Stage::Challenge, Class::ForeignRealm, message));
        };
        Ok(Scheme::Bearer {
            realm,
            service,
            also: pulls,
        })
    }

    /// The scope that reading a repository needs.
    pub(crate) fn scope(&self, repository: &str) -> String {
        format!("repository:{repository}:{}", self.actions())
    }

    /// The scope that a request needs; several are separated by spaces.
    pub(crate) fn scope_for(&self, repository: &str, access: &Access) -> String {
        let read = |repository: &str| self.scope(repository);
        let write = || {
            let actions = self.actions().replacen("pull", "pull,push", 1);
            format!("repository:{repository}:{actions}")
        };
        match access {
            Access::Read => read(repository),
            Access::Write => write(),
            Access::Mount { from } => format!("{} {}", write(), read(from)),
        }
    }
}

/// Why a credential is not passed on to pods.
pub(crate) fn cannot_mint<T>(site: &Site) -> Result<T, PullError> {
    Err(PullError::CannotMint(match site.credentials {
        Credentials::Anonymous => "it is anonymous",
        Credentials::Basic { .. } => "it is a password, which never ends by itself; use it as an ordinary pull secret",
        Credentials::Identity(_) => "it is an identity for another registry",
    }))
}

/// A stored user name and password as a header.
pub(crate) fn basic_header(site: &Site) -> Option<HeaderValue> {
    site.credentials
        .basic()
        .and_then(|basic| secret_header("Basic", basic.expose()))
}
