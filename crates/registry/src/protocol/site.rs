//! One registry: where it is, and whom it may send for tokens.

use http::{HeaderValue, Method};
use url::Url;

use crate::auth::credentials::Credentials;
use crate::connection::Connection;
use crate::wire::ask::Ask;
use crate::wire::failure::Stage;

/// One registry: where it is and how it wants to be talked to.
#[derive(Debug)]
pub(crate) struct Site {
    /// `https://host[:port]/`.
    pub(crate) base: Url,
    pub(crate) credentials: Credentials,
    /// Whether asking by tag may have the registry import an image.
    pub(crate) pull_through: bool,
    /// `https://host[:port]/` of everyone besides the registry who may issue its tokens.
    token_hosts: Vec<Url>,
}

impl Site {
    /// Reads `host[:port]`; `None` when the registry's name, or that of a token host, is anything else.
    pub(crate) fn new(connection: &Connection) -> Option<Site> {
        let token_hosts = connection
            .token_hosts
            .iter()
            .map(|host| origin(host))
            .collect::<Option<Vec<_>>>()?;
        let base = origin(api_host(&connection.registry))?;
        let mut site = Site {
            base,
            credentials: connection.credentials.clone(),
            pull_through: connection.pull_through,
            token_hosts,
        };
        if connection.registry == "docker.io" {
            site.token_hosts.extend(origin("auth.docker.io"));
        }
        Some(site)
    }

    /// The same registry with another credential.
    pub(crate) fn with(&self, credentials: Credentials) -> Site {
        Site {
            base: self.base.clone(),
            credentials,
            pull_through: self.pull_through,
            token_hosts: self.token_hosts.clone(),
        }
    }

    /// Whether a URL is on the registry itself: same scheme, host and port.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        same_origin(&self.base, url)
    }

    /// Whether a token endpoint is the registry's own, or on a host that the administrator listed.
    pub(crate) fn admits(&self, realm: &Url) -> bool {
        self.owns(realm) || self.token_hosts.iter().any(|host| same_origin(host, realm))
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
}

/// The token request of the distribution project: GET, with the credential as Basic when there is one.
pub(crate) fn token_ask(realm: &Url, service: Option<&str>, scope: Option<&str>, basic: Option<HeaderValue>) -> Ask {
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
    let mut ask = Ask::new(Method::GET, url, Stage::Token);
    ask.authorization = basic;
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
