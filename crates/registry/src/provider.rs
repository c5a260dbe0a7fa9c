//! The one seam for providers: how a credential becomes a token, and how a repository is listed.
//!
//! Everything that differs between Azure, GitHub, Amazon and the rest stands behind [`Protocol`], one file for each; its
//! defaults are what any OCI registry does.

use std::sync::Arc;

use catamaran_core::policy::Provider;
use http::{HeaderValue, Method};
use url::Url;

use crate::budget::Budgets;
use crate::challenge::Challenge;
use crate::client::ClientError;
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::failure::{Class, Failure, Rung, one_line};
use crate::mask::Sent;
use crate::secret::Secret;
use crate::tls::Trust;
use crate::transport::{Ask, Http};

pub(crate) mod aws;
mod azure;
pub(crate) mod github;

/// What a provider does its own way. The defaults are the distribution specification and the token flow of the
/// distribution project.
pub(crate) trait Protocol: Sync {
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

    /// Says what a refusal means here and what would mend it.
    fn explain(&self, _site: &Site, _failure: &mut Failure, _context: &Context<'_>) {}
}

/// Any registry that keeps to the specification.
struct Generic;

impl Protocol for Generic {}

fn protocol(provider: Provider) -> &'static dyn Protocol {
    match provider {
        Provider::Generic => &Generic,
        Provider::GitHub => &github::GitHub,
        Provider::Azure => &azure::Azure,
        Provider::Aws => &aws::Aws,
    }
}

/// One registry: where it is and how it wants to be talked to.
#[derive(Debug)]
pub(crate) struct Site {
    /// `https://host[:port]/`.
    pub(crate) base: Url,
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

/// Interfaces that a provider has besides the registry, each with a budget of its own.
#[derive(Clone, Default)]
pub(crate) struct Apis {
    /// GitHub's list of package versions, which tells digests.
    pub(crate) versions: Option<Arc<github::Versions>>,
    /// The interface of an account at Amazon, as the identity of this machine or pod.
    #[cfg(feature = "aws")]
    pub(crate) ecr: Option<Arc<aws::Ecr>>,
}

impl Apis {
    /// `http` makes a client for hosts other than the registry's.
    #[cfg_attr(
        not(feature = "aws"),
        expect(clippy::unnecessary_wraps, reason = "with Amazon's it can fail")
    )]
    pub(crate) fn new(
        site: &Site,
        budgets: &Budgets,
        #[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "only Amazon's has one"))] trust: &Trust,
        #[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "only Amazon's has one"))]
        http: impl FnOnce() -> Result<Http, ClientError>,
    ) -> Result<Apis, ClientError> {
        Ok(Apis {
            versions: github::Versions::new(site, budgets).map(Arc::new),
            #[cfg(feature = "aws")]
            ecr: match &site.credentials {
                Credentials::Aws(identity) => {
                    let place = aws::Place::of(&site.host())
                        .ok_or_else(|| ClientError::NotAmazons { registry: site.host() })?;
                    Some(Arc::new(aws::Ecr::new(place, identity, http()?, trust, budgets)?))
                }
                _ => None,
            },
        })
    }
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

/// What a request wants to do with its repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read it.
    #[default]
    Read,
    /// Write it.
    Write,
    /// Write it with a blob of another repository of the same registry.
    Mount {
        /// The other repository.
        from: String,
    },
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
    pub(crate) fn new(connection: &Connection) -> Option<Site> {
        let token_hosts = connection
            .token_hosts
            .iter()
            .map(|host| origin(host))
            .collect::<Option<Vec<_>>>()?;
        let base = origin(api_host(&connection.registry))?;
        let mut site = Site {
            base,
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

    fn protocol(&self) -> &'static dyn Protocol {
        protocol(self.provider)
    }

    /// What is known about authentication before the registry has said anything.
    pub(crate) fn scheme(&self) -> Scheme {
        self.protocol().known_scheme(self)
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
            url.scheme() == "https" && plain && self.protocol().admits(self, url)
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
        format!("repository:{repository}:{}", self.protocol().actions())
    }

    /// The scope that a request needs; several are separated by spaces.
    pub(crate) fn scope_for(&self, repository: &str, access: &Access) -> String {
        let read = |repository: &str| self.scope(repository);
        let write = || {
            let actions = self.protocol().actions().replacen("pull", "pull,push", 1);
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
        self.protocol().listing()
    }

    /// The request that turns the credential into a token.
    pub(crate) fn token_ask(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
        refresh_token: Option<&Secret<String>>,
    ) -> Ask {
        self.protocol().token_ask(self, realm, service, scope, refresh_token)
    }

    /// Where a cloud's token is exchanged; `None` where the registry takes none.
    pub(crate) fn exchange_url(&self, realm: &Url) -> Option<Url> {
        self.protocol().exchange_url(realm)
    }

    /// The request that turns a cloud's token into the registry's own.
    pub(crate) fn exchange_ask(&self, realm: &Url, service: Option<&str>, token: &Secret<String>) -> Option<Ask> {
        Some(azure::exchange_ask(self.exchange_url(realm)?, service, token))
    }

    /// Says what a refusal means here and what would mend it.
    pub(crate) fn explain(&self, failure: &mut Failure, context: &Context<'_>) {
        self.protocol().explain(self, failure, context);
    }
}

/// The token request of the distribution project: GET, with the credential as Basic when there is one.
fn basic_token_ask(site: &Site, realm: &Url, service: Option<&str>, scope: Option<&str>) -> Ask {
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

/// The value of an `Authorization` header, marked so that nothing prints it; `None` when the text can't stand in one.
pub(crate) fn secret_header(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn site(registry: &str, provider: Provider) -> Site {
        Site::new(&Connection {
            registry: registry.to_owned(),
            provider,
            ..Connection::default()
        })
        .unwrap()
    }

    fn admits(site: &Site, realm: &str) -> bool {
        let challenge = Challenge::Bearer {
            realm: realm.to_owned(),
            service: None,
        };
        site.admit(challenge, &Sent::default()).is_ok()
    }

    #[test]
    fn only_host_and_port_are_a_registry() {
        let new = |registry: &str| {
            Site::new(&Connection {
                registry: registry.to_owned(),
                ..Connection::default()
            })
        };
        for good in ["ghcr.io", "localhost:5000", "10.0.0.1:5000", "[::1]:5000", "GHCR.IO"] {
            assert!(new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "https://ghcr.io",
            "ghcr.io/x",
            "u@ghcr.io",
            "ghcr.io?x",
            "ghcr.io#x",
            "a b",
            "ghcr.io:x",
            "ghçr.io",
            "a%2fb",
        ] {
            assert!(new(bad).is_none(), "{bad}");
        }
        assert_eq!(new("docker.io").unwrap().base.as_str(), "https://registry-1.docker.io/");
    }

    #[test]
    fn token_endpoints_are_pinned_per_provider() {
        let azure = site("kracr.azurecr.io", Provider::Azure);
        let github = site("ghcr.io", Provider::GitHub);
        let generic = site("registry.test:5000", Provider::Generic);
        let cases = [
            (&azure, "https://kracr.azurecr.io/oauth2/token", true),
            (&azure, "https://kracr.azurecr.io:443/oauth2/token", true),
            (&azure, "https://KRACR.azurecr.io/oauth2/token", true),
            (&azure, "https://kracr.azurecr.io/token", false),
            (&azure, "https://kracr.azurecr.io/oauth2/../token", false),
            (&azure, "https://other.azurecr.io/oauth2/token", false),
            (&azure, "https://kracr.azurecr.io.evil.com/oauth2/token", false),
            (&azure, "https://kracr.azurecr.io:444/oauth2/token", false),
            (&azure, "http://kracr.azurecr.io/oauth2/token", false),
            (&azure, "https://kracr.azurecr.io@evil.com/oauth2/token", false),
            (&azure, "https://user:pass@kracr.azurecr.io/oauth2/token", false),
            (&azure, "https://evil.com/https://kracr.azurecr.io/oauth2/token", false),
            (&azure, "https://169.254.169.254/oauth2/token", false),
            (&azure, "https://kracr.azurecr.i\u{f6}/oauth2/token", false),
            (&azure, "/oauth2/token", false),
            (&azure, "kracr.azurecr.io/oauth2/token", false),
            (&github, "https://ghcr.io/token", true),
            (&github, "https://ghcr.io/token/x", false),
            (&github, "https://github.com/token", false),
            (&github, "https://ghcr.io./token", false),
            (&generic, "https://registry.test:5000/auth", true),
            (&generic, "https://registry.test/auth", false),
            (&generic, "https://auth.registry.test:5000/auth", false),
            (&generic, "https://test/auth", false),
            (&generic, "http://registry.test:5000/auth", false),
            (&generic, "file:///etc/passwd", false),
        ];
        for (site, realm, admitted) in cases {
            assert_eq!(admits(site, realm), admitted, "{realm} for {}", site.base);
        }
    }

    #[test]
    fn a_listed_token_host_is_admitted_exactly() {
        let connection = Connection {
            registry: "registry.test".to_owned(),
            token_hosts: vec!["auth.test".to_owned()],
            ..Connection::default()
        };
        let site = Site::new(&connection).unwrap();
        assert!(admits(&site, "https://auth.test/token"));
        assert!(!admits(&site, "https://x.auth.test/token"));
        assert!(!admits(&site, "https://auth.test:8443/token"));
    }

    #[test]
    fn docker_hub_has_its_own_token_host() {
        let hub = site("docker.io", Provider::Generic);
        assert!(admits(&hub, "https://auth.docker.io/token"));
        assert!(!admits(
            &site("registry.test", Provider::Generic),
            "https://auth.docker.io/token"
        ));
    }

    #[test]
    fn each_provider_asks_for_its_own_scope() {
        let cases = [
            (Provider::Azure, "repository:a/b:pull,metadata_read"),
            (Provider::GitHub, "repository:a/b:pull"),
            (Provider::Generic, "repository:a/b:pull"),
            (Provider::Aws, "repository:a/b:pull"),
        ];
        for (provider, scope) in cases {
            assert_eq!(site("r.test", provider).scope("a/b"), scope);
        }
    }

    #[test]
    fn writing_and_mounting_ask_for_more() {
        let azure = site("r.test", Provider::Azure);
        assert_eq!(
            azure.scope_for("a/b", &Access::Write),
            "repository:a/b:pull,push,metadata_read"
        );
        let generic = site("r.test", Provider::Generic);
        assert_eq!(generic.scope_for("a/b", &Access::Write), "repository:a/b:pull,push");
        let mount = generic.scope_for("a/b", &Access::Mount { from: "c".to_owned() });
        assert_eq!(mount, "repository:a/b:pull,push repository:c:pull");
        let realm = generic.url("/token");
        let ask = generic.token_ask(&realm, None, Some(&mount), None);
        let scopes: Vec<_> = ask.url.query_pairs().map(|(_, value)| value.into_owned()).collect();
        assert_eq!(scopes, ["repository:a/b:pull,push", "repository:c:pull"]);
    }

    #[test]
    fn fuzzed_realms_get_no_credential_unless_they_are_admitted_hosts() {
        use proptest::prelude::*;

        let samples = [
            "https://kracr.azurecr.io/oauth2/token",
            "https://ghcr.io/token",
            "https://registry.test:5443/service/token?account=x",
            "https://tokens.test/jwt/auth",
            "https://ghcr.io@evil.test/token",
            "https://ghcr.io.evil.test/token",
            "http://ghcr.io/token",
        ];
        let sites = [
            ("kracr.azurecr.io", Provider::Azure),
            ("ghcr.io", Provider::GitHub),
            ("registry.test:5443", Provider::Generic),
        ];
        let sites = sites.map(|(registry, provider)| {
            let connection = Connection {
                registry: registry.to_owned(),
                provider,
                credentials: Credentials::Basic {
                    username: "user".to_owned(),
                    password: Secret::new("canary-password".to_owned()),
                },
                token_hosts: vec!["tokens.test".to_owned()],
                ..Connection::default()
            };
            Site::new(&connection).unwrap()
        });
        let property = |realm: String| {
            for site in &sites {
                let challenge = Challenge::Bearer {
                    realm: realm.clone(),
                    service: Some(realm.clone()),
                };
                match site.admit(challenge, &Sent::default()) {
                    Ok(Scheme::Bearer { realm, service }) => {
                        let ask = site.token_ask(&realm, service.as_deref(), Some("repository:x:pull"), None);
                        let own = site.owns(&ask.url);
                        let listed = ask.url.host_str() == Some("tokens.test") && site.provider == Provider::Generic;
                        prop_assert!(ask.url.scheme() == "https" && (own || listed), "{}", ask.url);
                        prop_assert!(
                            ask.url.username().is_empty() && ask.url.password().is_none(),
                            "{}",
                            ask.url
                        );
                        prop_assert!(!ask.url.as_str().contains("canary"));
                    }
                    Ok(other) => prop_assert!(false, "{:?}", other),
                    Err(failure) => {
                        prop_assert_eq!(&failure.class, &Class::ForeignRealm);
                        prop_assert!(failure.message.len() < 2000, "{}", failure.message);
                        prop_assert!(!failure.message.chars().any(char::is_control), "{:?}", failure.message);
                    }
                }
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "realms", &catamaran_fuzz::mutated_text(&samples), property);
    }
}
