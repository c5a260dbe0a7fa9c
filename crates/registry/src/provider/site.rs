//! One registry, as its provider has it: where it is, whom it may send for tokens, and what it means by a refusal.

use catamaran_core::policy::Provider;
use http::{Method, StatusCode};
use url::Url;

use crate::ask::{Access, Ask};
use crate::challenge::Challenge;
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::failure::{Class, Failure, Rung, one_line};
use crate::mask::Sent;
use crate::secret::{Secret, secret_header};

/// What a provider does its own way. The defaults are the distribution specification and the token flow of the
/// distribution project.
pub(crate) trait Protocol: std::fmt::Debug + Sync {
    /// What is known about authentication before the registry has said anything; saves a request per client.
    fn known_scheme(&self, _site: &Site) -> Scheme {
        Scheme::Unknown
    }

    /// Whether a token endpoint may be given the credential. It is https and has no user name already.
    fn admits(&self, site: &Site, realm: &Url) -> bool {
        site.owns(realm) || site.token_hosts.iter().any(|host| same_origin(host, realm))
    }

    /// The actions that reading a repository needs.
    fn actions(&self) -> &'static str {
        "pull"
    }

    /// How tags are listed.
    fn listing(&self) -> Listing {
        Listing::Distribution
    }

    /// The request that turns the credential into a token.
    ///
    /// `refresh_token`: what the registry gave for the identity, where the credential is one.
    fn token_ask(
        &self,
        site: &Site,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
        _refresh_token: Option<&Secret<String>>,
    ) -> Ask {
        basic_token_ask(site, realm, service, scope)
    }

    /// Where a cloud's token is exchanged for the registry's own, beside the admitted token endpoint.
    fn exchange_url(&self, _realm: &Url) -> Option<Url> {
        None
    }

    /// The request that does it.
    fn exchange_ask(&self, _realm: &Url, _service: Option<&str>, _token: &Secret<String>) -> Option<Ask> {
        None
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

    /// Says what a refusal means here and what would mend it.
    fn explain(&self, _site: &Site, _failure: &mut Failure, _context: &Context<'_>) {}
}

/// One registry: where it is and how it wants to be talked to.
#[derive(Debug)]
pub(crate) struct Site {
    /// `https://host[:port]/`.
    pub(crate) base: Url,
    protocol: &'static dyn Protocol,
    pub(crate) provider: Provider,
    pub(crate) credentials: Credentials,
    /// Whether asking by tag may have the registry import an image.
    pub(crate) pull_through: bool,
    /// `https://host[:port]/` of everyone besides the registry who may issue its tokens.
    token_hosts: Vec<Url>,
}

/// What is known about a request that was refused.
pub(crate) struct Context<'a> {
    /// The repository that it was about.
    pub(crate) repository: Option<&'a str>,
    /// The identity that asked, where the credential is one.
    pub(crate) identity: Option<&'a str>,
    /// Whether the registry is known to grant by repository.
    pub(crate) abac: bool,
    /// Whether the identity was ever let in there.
    pub(crate) proven: bool,
}

/// How requests are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// The registry has not been asked yet.
    Unknown,
    /// Not at all.
    Open,
    /// With the credential itself.
    Basic,
    /// With a token from an admitted endpoint.
    Bearer { realm: Url, service: Option<String> },
}

/// How the tags of a repository are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// `/v2/{name}/tags/list`: names only.
    Distribution,
    /// `/acr/v1/{name}/_tags`: names and digests.
    Azure,
}

impl Site {
    /// Reads `host[:port]`; `None` for anything else.
    pub(super) fn new(connection: &Connection, protocol: &'static dyn Protocol) -> Option<Site> {
        let token_hosts = connection
            .token_hosts
            .iter()
            .map(|host| origin(host))
            .collect::<Option<Vec<_>>>()?;
        let base = origin(api_host(&connection.registry))?;
        let mut site = Site {
            base,
            protocol,
            provider: connection.provider,
            credentials: connection.credentials.clone(),
            pull_through: connection.pull_through,
            token_hosts,
        };
        if connection.registry == "docker.io" {
            site.token_hosts.extend(origin("auth.docker.io"));
        }
        Some(site)
    }

    /// Whether a URL is on the registry itself: same scheme, host and port.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        same_origin(&self.base, url)
    }

    /// A URL of the registry; `path` must consist of checked parts.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// `host` or `host:port`: what registries that issue their own tokens call themselves as a service.
    pub(crate) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// What is known about authentication before the registry has said anything.
    pub(crate) fn scheme(&self) -> Scheme {
        self.protocol.known_scheme(self)
    }

    /// What a challenge makes of it. A token endpoint must be admitted: credentials go nowhere else.
    ///
    /// Azure: the registry's own `/oauth2/...`; GitHub: the registry's own `/token`; others: the registry's own host and
    /// port, or a host that the administrator listed. Always https, never with a user name in the URL. `sent`: what the request
    /// that was answered so carried.
    pub(crate) fn admit(&self, challenge: Challenge, sent: &Sent) -> Result<Scheme, Failure> {
        let Challenge::Bearer { realm, service } = challenge else {
            return Ok(Scheme::Basic);
        };
        let url = Url::parse(&realm).ok().filter(|url| {
            let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
            url.scheme() == "https" && plain && self.protocol.admits(self, url)
        });
        let Some(realm) = url else {
            let message = format!(
                "GET {}v2/: the challenge names the token endpoint {:?}, which is not admitted for this registry",
                self.base,
                one_line(&sent.hide(&realm))
            );
            return Err(Failure::new(Rung::Challenge, Class::ForeignRealm, message));
        };
        Ok(Scheme::Bearer { realm, service })
    }

    /// The scope that reading a repository needs.
    pub(crate) fn scope(&self, repository: &str) -> String {
        format!("repository:{repository}:{}", self.protocol.actions())
    }

    /// The scope that a request needs; several are separated by spaces.
    pub(crate) fn scope_for(&self, repository: &str, access: &Access) -> String {
        let read = |repository: &str| self.scope(repository);
        let write = || {
            let actions = self.protocol.actions().replacen("pull", "pull,push", 1);
            format!("repository:{repository}:{actions}")
        };
        match access {
            Access::Read => read(repository),
            Access::Write => write(),
            Access::Mount { from } => format!("{} {}", write(), read(from)),
        }
    }

    /// How this registry lists tags.
    pub(crate) fn listing(&self) -> Listing {
        self.protocol.listing()
    }

    /// The request that turns the credential into a token.
    pub(crate) fn token_ask(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
        refresh_token: Option<&Secret<String>>,
    ) -> Ask {
        self.protocol.token_ask(self, realm, service, scope, refresh_token)
    }

    /// Where a cloud's token is exchanged; `None` where the registry takes none.
    pub(crate) fn exchange_url(&self, realm: &Url) -> Option<Url> {
        self.protocol.exchange_url(realm)
    }

    /// The request that turns a cloud's token into the registry's own.
    pub(crate) fn exchange_ask(&self, realm: &Url, service: Option<&str>, token: &Secret<String>) -> Option<Ask> {
        self.protocol.exchange_ask(realm, service, token)
    }

    /// When a token was refused in words that may mean two things: the request whose answer tells them apart.
    pub(crate) fn anonymous_retry(
        &self,
        failure: &mut Failure,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Option<Ask> {
        self.protocol.anonymous_retry(self, failure, realm, service, scope)
    }

    /// What the refusal meant, by the status of that answer.
    pub(crate) fn retried_anonymously(&self, failure: &mut Failure, status: StatusCode) {
        self.protocol.retried_anonymously(failure, status);
    }

    /// Says what a refusal means here and what would mend it.
    pub(crate) fn explain(&self, failure: &mut Failure, context: &Context<'_>) {
        self.protocol.explain(self, failure, context);
    }
}

/// The token request of the distribution project: GET, with the credential as Basic when there is one.
pub(super) fn basic_token_ask(site: &Site, realm: &Url, service: Option<&str>, scope: Option<&str>) -> Ask {
    let mut url = realm.clone();
    if service.is_some() || scope.is_some() {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        // Each scope in a parameter of its own (token specification of the distribution project).
        for scope in scope.into_iter().flat_map(|scope| scope.split(' ')) {
            query.append_pair("scope", scope);
        }
    }
    let mut ask = Ask::new(Method::GET, url, Rung::Token);
    ask.authorization = site
        .credentials
        .basic()
        .and_then(|basic| secret_header("Basic", basic.expose()));
    ask
}

fn api_host(registry: &str) -> &str {
    if registry == "docker.io" {
        "registry-1.docker.io"
    } else {
        registry
    }
}

fn origin(host: &str) -> Option<Url> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let url = Url::parse(&format!("https://{host}/")).ok()?;
    (url.path() == "/" && url.host_str().is_some_and(|host| !host.is_empty())).then_some(url)
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}
