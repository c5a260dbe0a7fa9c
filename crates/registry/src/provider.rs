//! The one seam for providers: how a credential becomes a token, and how a repository is listed.
//!
//! Everything that differs between Azure, GitHub, Amazon and the rest stands behind [`site::Protocol`], one file for each; its
//! defaults are what any OCI registry does.

use catamaran_core::policy::Provider;

use crate::connection::Connection;

pub(crate) mod apis;
pub(crate) mod aws;
mod azure;
mod github;
pub(crate) mod site;

use self::site::{Protocol, Site};

/// Any registry that keeps to the specification.
#[derive(Debug)]
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

/// The registry of a connection; `None` when its name, or that of a token host, is not `host[:port]`.
pub(crate) fn site(connection: &Connection) -> Option<Site> {
    Site::new(connection, protocol(connection.provider))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Access;
    use crate::challenge::Challenge;
    use crate::credentials::Credentials;
    use crate::failure::Class;
    use crate::mask::Sent;
    use crate::provider::site::Scheme;
    use crate::secret::Secret;

    fn named(registry: &str, provider: Provider) -> Site {
        site(&Connection {
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
            site(&Connection {
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
        let site = site(&connection).unwrap();
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
        ];
        for (provider, scope) in cases {
            assert_eq!(named("r.test", provider).scope("a/b"), scope);
        }
    }

    #[test]
    fn writing_and_mounting_ask_for_more() {
        let azure = named("r.test", Provider::Azure);
        assert_eq!(
            azure.scope_for("a/b", &Access::Write),
            "repository:a/b:pull,push,metadata_read"
        );
        let generic = named("r.test", Provider::Generic);
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
            site(&connection).unwrap()
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
