//! The providers, one folder each, and where they are registered.

use std::sync::Arc;

use catamaran_core::policy::{self, IdentityPolicy};

use crate::auth::credentials::Credentials;
use crate::auth::identity::{Identities, Surroundings};
use crate::auth::kind::{Presented, UnsupportedCredentials};
use crate::budget::{Budget, Budgets, CopyBudget};
use crate::protocol::Provider;
use crate::protocol::advice::Advice;
use crate::wire::error::ClientError;
#[cfg(test)]
use crate::{
    connection::Connection,
    protocol::site::Site,
    protocol::{Protocol, Setup},
    wire::dns::{self, Guard},
    wire::limits::Limits,
    wire::tls::Trust,
    wire::transport::Http,
};

pub mod aws;
pub mod azure;
mod generic;
pub mod github;
pub mod google;

/// What the machine is called by its firmware, on Linux; pods see it, too.
const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// Each provider, registered by the name that a spec has for it.
const REGISTERED: &[(policy::Provider, &dyn Provider)] = &[
    (policy::Provider::Generic, &generic::Generic),
    (policy::Provider::GitHub, &github::GitHub),
    (policy::Provider::Azure, &azure::Azure),
    (policy::Provider::Aws, &aws::Aws),
    (policy::Provider::Google, &google::Google),
];

/// The provider of this name.
pub(crate) fn of(name: policy::Provider) -> &'static dyn Provider {
    let registered = REGISTERED.iter().find(|(registered, _)| *registered == name);
    registered.map_or(&generic::Generic, |(_, provider)| *provider)
}

/// What people are told about a provider's registries when something fails.
pub fn advice(provider: policy::Provider) -> &'static dyn Advice {
    of(provider).advice()
}

impl Credentials {
    /// Whose registry a host is, by its name alone.
    pub fn provider_of(registry: &str) -> policy::Provider {
        let host = registry.to_ascii_lowercase();
        let host = host.strip_suffix(":443").unwrap_or(&host);
        let owner = REGISTERED.iter().find(|(_, provider)| provider.owns(host));
        owner.map_or_else(policy::Provider::default, |(name, _)| *name)
    }

    /// Whether the provider is known not to take this credential for images. The client does not refuse it by itself.
    pub fn unsupported_by(&self, provider: policy::Provider) -> Option<UnsupportedCredentials> {
        match self {
            Credentials::Basic { password, .. } => of(provider).unsupported(password.expose()),
            _ => None,
        }
    }

    /// What the credential is to a provider, by its shape.
    pub fn presented_to(&self, provider: policy::Provider) -> Presented {
        of(provider).presented(self)
    }
}

impl Identities {
    /// What a side without a Secret authenticates with at a registry (`host[:port]`): the same identity for everyone who asks for the
    /// same. Nothing is asked yet.
    ///
    /// # Errors
    /// For an identity that no registry of this name takes.
    pub fn credentials(
        &self,
        provider: policy::Provider,
        registry: &str,
        wanted: &IdentityPolicy,
    ) -> Result<Credentials, ClientError> {
        let identity = of(provider).identity(wanted, registry, self)?;
        Ok(identity.map_or(Credentials::Anonymous, Credentials::Identity))
    }
}

impl Surroundings {
    /// The variables of this process' environment that a provider reads.
    pub fn from_environment() -> Surroundings {
        let prefixes = || REGISTERED.iter().flat_map(|(_, provider)| provider.variables());
        let read = |name: &String| prefixes().any(|prefix| name.starts_with(prefix));
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(read)?;
            Some((name, value.into_string().ok()?))
        });
        Surroundings {
            variables: variables.collect(),
            machine: std::fs::read_to_string(PRODUCT_NAME).ok(),
            ..Surroundings::default()
        }
    }
}

impl Budget {
    /// What a registry of this provider gets when nobody says otherwise, requests a minute: a fifth of the known limits.
    pub fn default_for(provider: policy::Provider) -> u32 {
        of(provider).requests_per_minute()
    }
}

impl Budgets {
    /// The budget of a registry (`host[:port]`); made with the provider's default when there is none.
    pub fn for_registry(&self, registry: &str, provider: policy::Provider) -> Arc<Budget> {
        self.reads_of(registry, of(provider).requests_per_minute())
    }

    /// The same for someone who has a wish, or none, for the limit (requests per minute) until [`Budgets::retain`] lets go
    /// of it. Of several wishes the smallest counts; without any, the provider's default.
    pub fn wish(
        &self,
        registry: &str,
        provider: policy::Provider,
        who: &Arc<str>,
        per_minute: Option<u32>,
    ) -> Arc<Budget> {
        self.wished(registry, of(provider).requests_per_minute(), who, per_minute)
    }

    /// What copying may ask of a registry, apart from everything else: however much there is to copy, scans never wait for it.
    pub fn for_copies(&self, registry: &str, provider: policy::Provider) -> CopyBudget {
        let provider = of(provider);
        self.copies_of(registry, provider.requests_per_minute(), provider.writes_per_minute())
    }
}

/// A registry and its protocol, for tests that ask nobody.
#[cfg(test)]
pub(crate) fn connected(connection: &Connection) -> Option<(Arc<Site>, Arc<dyn Protocol>)> {
    let site = Arc::new(Site::new(connection)?);
    let trust = Trust::new(None, None).unwrap();
    let guard = Arc::new(Guard::new(connection.addresses(), &site.base, dns::system));
    let setup = Setup {
        site: &site,
        http: &Http::new(guard, &trust, Limits::default()).unwrap(),
        budgets: &Budgets::new(),
        trust: &trust,
    };
    let protocol = of(connection.provider).connect(&setup).unwrap();
    Some((site, protocol))
}

#[cfg(test)]
mod tests {
    use policy::Provider;

    use super::*;
    use crate::auth::challenge::Challenge;
    use crate::auth::scheme::Scheme;
    use crate::protocol::site::token_ask;
    use crate::wire::ask::Access;
    use crate::wire::failure::Class;
    use crate::wire::mask::Sent;
    use crate::wire::secret::Secret;

    type Connected = (Arc<Site>, Arc<dyn Protocol>);

    fn named(registry: &str, provider: Provider) -> Connected {
        let connection = Connection {
            registry: registry.to_owned(),
            provider,
            ..Connection::default()
        };
        connected(&connection).unwrap()
    }

    /// What comes of something that waits for nobody.
    fn now<T>(future: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("it waits"),
        }
    }

    fn admits((site, protocol): &Connected, realm: &str) -> bool {
        let challenge = Challenge::Bearer {
            realm: realm.to_owned(),
            service: None,
            pulls: Vec::new(),
        };
        protocol.admit(site, challenge, &Sent::default()).is_ok()
    }

    #[test]
    fn every_provider_is_registered_once_under_its_own_name() {
        let registered: Vec<_> = REGISTERED.iter().map(|(name, _)| *name).collect();
        assert_eq!(registered, Provider::ALL);
        for name in Provider::ALL {
            let shown = format!("{:?}", of(name));
            assert!(shown.eq_ignore_ascii_case(name.facts().name), "{shown}");
        }
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
        let azure = named("kracr.azurecr.io", Provider::Azure);
        let github = named("ghcr.io", Provider::GitHub);
        let generic = named("registry.test:5000", Provider::Generic);
        let google = named("us-docker.pkg.dev", Provider::Google);
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
            (&google, "https://us-docker.pkg.dev/v2/token", true),
            (&google, "https://us-docker.pkg.dev/token", false),
            (&google, "https://eu-docker.pkg.dev/v2/token", false),
            (&generic, "https://registry.test:5000/auth", true),
            (&generic, "https://registry.test/auth", false),
            (&generic, "https://auth.registry.test:5000/auth", false),
            (&generic, "https://test/auth", false),
            (&generic, "http://registry.test:5000/auth", false),
            (&generic, "file:///etc/passwd", false),
        ];
        for (connected, realm, admitted) in cases {
            assert_eq!(admits(connected, realm), admitted, "{realm} for {}", connected.0.base);
        }
    }

    #[test]
    fn a_listed_token_host_is_admitted_exactly() {
        let connection = Connection {
            registry: "registry.test".to_owned(),
            token_hosts: vec!["auth.test".to_owned()],
            ..Connection::default()
        };
        let site = connected(&connection).unwrap();
        assert!(admits(&site, "https://auth.test/token"));
        assert!(!admits(&site, "https://x.auth.test/token"));
        assert!(!admits(&site, "https://auth.test:8443/token"));
    }

    #[test]
    fn docker_hub_has_its_own_token_host() {
        let hub = named("docker.io", Provider::Generic);
        assert!(admits(&hub, "https://auth.docker.io/token"));
        assert!(!admits(
            &named("registry.test", Provider::Generic),
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
            (Provider::Google, "repository:a/b:pull"),
        ];
        for (provider, scope) in cases {
            assert_eq!(named("r.test", provider).1.scope("a/b"), scope);
        }
    }

    #[test]
    fn writing_and_mounting_ask_for_more() {
        let (_, azure) = named("r.test", Provider::Azure);
        assert_eq!(
            azure.scope_for("a/b", &Access::Write),
            "repository:a/b:pull,push,metadata_read"
        );
        let (site, generic) = named("r.test", Provider::Generic);
        assert_eq!(generic.scope_for("a/b", &Access::Write), "repository:a/b:pull,push");
        let mount = generic.scope_for("a/b", &Access::Mount { from: "c".to_owned() });
        assert_eq!(mount, "repository:a/b:pull,push repository:c:pull");
        let realm = site.url("/token");
        let ask = token_ask(&realm, None, Some(&mount), None);
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
            (provider, connected(&connection).unwrap())
        });
        let property = |realm: String| {
            for (provider, (site, protocol)) in &sites {
                let challenge = Challenge::Bearer {
                    realm: realm.clone(),
                    service: Some(realm.clone()),
                    pulls: Vec::new(),
                };
                match protocol.admit(site, challenge, &Sent::default()) {
                    Ok(Scheme::Bearer { realm, service, .. }) => {
                        let asking = protocol.token_ask(site, &realm, service.as_deref(), Some("repository:x:pull"));
                        // Without an identity nothing is fetched for it.
                        let ask = now(asking).unwrap();
                        let own = site.owns(&ask.url);
                        let listed = ask.url.host_str() == Some("tokens.test") && *provider == Provider::Generic;
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

    #[test]
    fn a_provider_is_known_by_its_host() {
        let cases = [
            ("ghcr.io", Provider::GitHub),
            ("GHCR.io", Provider::GitHub),
            ("ghcr.io:443", Provider::GitHub),
            ("ghcr.io:8443", Provider::Generic),
            ("kracr.azurecr.io", Provider::Azure),
            ("kracr-h5dx.azurecr.cn", Provider::Azure),
            ("azurecr.io.example", Provider::Generic),
            ("notghcr.io", Provider::Generic),
            ("docker.io", Provider::Generic),
            ("127.0.0.1:5000", Provider::Generic),
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", Provider::Aws),
            ("123456789012.dkr-ecr.eu-central-1.on.aws", Provider::Aws),
            ("dkr.ecr.eu-central-1.amazonaws.com", Provider::Generic),
            (
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.test",
                Provider::Generic,
            ),
            ("public.ecr.aws", Provider::Generic),
            ("europe-west4-docker.pkg.dev", Provider::Google),
            ("eu.gcr.io:443", Provider::Google),
            ("k8s.gcr.io", Provider::Generic),
        ];
        for (registry, expected) in cases {
            assert_eq!(Credentials::provider_of(registry), expected, "{registry}");
        }
    }
}
