//! The challenges and pages of what people run: where each product sends for a token, with which names, and how it links.
//!
//! What each says is taken from its documentation and from reports of its users; none of them runs here.

use catamaran_core::policy::Provider;
use catamaran_registry::{Class, Client, Connection};
use catamaran_scripted_registry::{Auth, Fault, Recorded, Registry, What};
use url::Url;

use crate::{basic, limits};

const REPOSITORY: &str = "team/web";
const PASSWORD: &str = "canary-password-2b8c";
/// Nobody's token host: whatever is asked of it is a leak.
const EVIL: &str = "evil.test";

/// How a product wants to be asked.
#[derive(Clone, Copy)]
enum Wants {
    /// A token from this URL, under this name.
    Token(&'static str, Option<&'static str>),
    /// User name and password.
    Password,
    /// Nothing.
    Nothing,
}

/// `PORT` stands for the port that the registry listens on.
#[derive(Clone, Copy)]
struct Product {
    name: &'static str,
    /// As in references.
    registry: &'static str,
    /// Besides the registry's own, in `tokenHosts`.
    token_hosts: &'static [&'static str],
    /// `WWW-Authenticate`, a header each.
    challenges: &'static [&'static str],
    wants: Wants,
    /// `Link` behind the first of two pages; none where all tags come at once.
    link: Option<&'static str>,
}

const PRODUCTS: [Product; 14] = [
    Product {
        name: "distribution with a token service",
        registry: "registry.test:PORT",
        token_hosts: &["auth.test"],
        challenges: &[
            r#"Bearer realm="https://auth.test/token",service="registry.test",scope="repository:team/web:pull""#,
        ],
        wants: Wants::Token("https://auth.test/token", Some("registry.test")),
        link: Some(r#"</v2/team/web/tags/list?last=1&n=1>; rel="next""#),
    },
    Product {
        name: "distribution with htpasswd",
        registry: "registry.test:PORT",
        token_hosts: &[],
        challenges: &[r#"Basic realm="Registry Realm""#],
        wants: Wants::Password,
        // It takes scheme and host from what a server in front of it sent.
        link: Some(r#"<http://registry.test:PORT/v2/team/web/tags/list?last=1&n=1>; rel="next""#),
    },
    Product {
        name: "distribution for everyone",
        registry: "registry.test:PORT",
        token_hosts: &[],
        challenges: &[],
        wants: Wants::Nothing,
        link: Some(r#"<https://registry.test/v2/team/web/tags/list?last=1&n=1>; rel="next""#),
    },
    Product {
        name: "Harbor",
        registry: "harbor.test",
        token_hosts: &[],
        challenges: &[r#"Bearer realm="https://harbor.test/service/token",service="harbor-registry""#],
        wants: Wants::Token("https://harbor.test/service/token", Some("harbor-registry")),
        link: Some(r#"</v2/team/web/tags/list?last=1&n=1>; rel="next""#),
    },
    Product {
        name: "GitLab, the registry on a host of its own",
        registry: "registry.gitlab.test",
        token_hosts: &["gitlab.test"],
        challenges: &[
            r#"Bearer realm="https://gitlab.test/jwt/auth",service="container_registry",scope="repository:team/web:pull",error="invalid_token""#,
        ],
        wants: Wants::Token("https://gitlab.test/jwt/auth", Some("container_registry")),
        link: Some(r#"<https://registry.gitlab.test/v2/team/web/tags/list?last=1&n=1>; rel="next""#),
    },
    Product {
        name: "GitLab, the registry on a port of its own",
        registry: "gitlab.test:PORT",
        token_hosts: &["gitlab.test"],
        challenges: &[r#"Bearer realm="https://gitlab.test/jwt/auth",service="container_registry""#],
        wants: Wants::Token("https://gitlab.test/jwt/auth", Some("container_registry")),
        link: Some(r#"<https://gitlab.test:PORT/v2/team/web/tags/list?last=1&n=1>; rel="next""#),
    },
    Product {
        name: "Quay",
        registry: "quay.test",
        token_hosts: &[],
        challenges: &[r#"Bearer realm="https://quay.test/v2/auth",service="quay.test""#],
        wants: Wants::Token("https://quay.test/v2/auth", Some("quay.test")),
        link: Some(r#"</v2/team/web/tags/list?n=1&last=1&next_page=gAAAAABn%3D%3D>; rel="next""#),
    },
    Product {
        name: "Artifactory",
        registry: "art.test",
        token_hosts: &[],
        challenges: &[r#"Bearer realm="https://art.test/artifactory/api/docker/local/v2/token",service="art.test""#],
        wants: Wants::Token(
            "https://art.test/artifactory/api/docker/local/v2/token",
            Some("art.test"),
        ),
        link: Some(r#"</v2/team/web/tags/list?n=1&last=1>;rel="next""#),
    },
    Product {
        name: "Artifactory without tokens",
        registry: "art.test:PORT",
        token_hosts: &[],
        challenges: &[r#"Basic realm="Artifactory Realm""#],
        wants: Wants::Password,
        link: None,
    },
    Product {
        name: "zot with htpasswd",
        registry: "zot.test",
        token_hosts: &[],
        challenges: &[r#"Basic realm="Authorization Required""#],
        wants: Wants::Password,
        link: Some(r#"</v2/team/web/tags/list?n=1&last=1>; rel="next""#),
    },
    Product {
        name: "Nexus without the Bearer realm",
        registry: "nexus.test:PORT",
        token_hosts: &[],
        challenges: &[r#"BASIC realm="Sonatype Nexus Repository Manager""#],
        wants: Wants::Password,
        link: None,
    },
    Product {
        name: "Nexus with the Bearer realm",
        registry: "nexus.test:PORT",
        token_hosts: &[],
        challenges: &[
            r#"Bearer realm="https://nexus.test:PORT/v2/token",service="https://nexus.test:PORT/v2/token""#,
            r#"Basic realm="Sonatype Nexus Repository Manager""#,
        ],
        wants: Wants::Token(
            "https://nexus.test:PORT/v2/token",
            Some("https://nexus.test:PORT/v2/token"),
        ),
        link: None,
    },
    Product {
        name: "Gitea",
        registry: "gitea.test",
        token_hosts: &[],
        challenges: &[r#"Bearer realm="https://gitea.test/v2/token",service="container_registry",scope="*""#],
        wants: Wants::Token("https://gitea.test/v2/token", Some("container_registry")),
        link: Some(r#"<?n=1&last=1>; rel="next""#),
    },
    Product {
        name: "one that names no service",
        registry: "docker.pkg.test",
        token_hosts: &[],
        challenges: &[r#"Bearer realm="https://docker.pkg.test/v2/token""#],
        wants: Wants::Token("https://docker.pkg.test/v2/token", None),
        link: Some(r#"</v2/team/web/tags/list?n=1&last=1>; rel="next""#),
    },
];

impl Product {
    fn at(mut self, port: u16) -> Product {
        let port = port.to_string();
        let with_port = |text: &str| -> &'static str { text.replace("PORT", &port).leak() };
        self.registry = with_port(self.registry);
        self.challenges = self
            .challenges
            .iter()
            .map(|challenge| with_port(challenge))
            .collect::<Vec<_>>()
            .leak();
        self.link = self.link.map(with_port);
        if let Wants::Token(realm, service) = self.wants {
            self.wants = Wants::Token(with_port(realm), service.map(with_port));
        }
        self
    }
}

fn host_of(registry: &str) -> &str {
    registry.split(':').next().unwrap()
}

/// The product, played by one listener under all of its names.
async fn play(product: &Product) -> (Product, Registry, Connection) {
    let registry = Registry::start().await.unwrap();
    let product = product.at(registry.address().port());
    registry.push(REPOSITORY, "1", "first");
    registry.push(REPOSITORY, "2", "second");
    registry.set_account(Some(("bot", PASSWORD)));
    registry.set_auth(match product.wants {
        Wants::Token(realm, _) => Auth::Bearer {
            realm: Some(realm.to_owned()),
            expires_in: None,
        },
        Wants::Password => Auth::Basic,
        Wants::Nothing => Auth::Open,
    });
    if let Some(link) = product.link {
        registry.set_page_size(1);
        registry.set_links(false);
        // The first page comes once without a credential and once with it, where one is wanted.
        let times = if product.challenges.is_empty() { 1 } else { 2 };
        registry.fault(Fault::on("/tags/list", headers(&product, Some(link))).times(times));
    }
    if !product.challenges.is_empty() {
        registry.fault(Fault::on("/v2/", headers(&product, None)));
    }
    let mut connection = registry.connection(product.registry, Provider::Generic);
    connection.credentials = basic("bot", PASSWORD);
    connection.token_hosts = product.token_hosts.iter().map(|host| (*host).to_owned()).collect();
    let names = product.token_hosts.iter().chain([&product.registry, &EVIL]);
    connection.resolve = names
        .map(|name| (host_of(name).to_owned(), registry.address()))
        .collect();
    (product, registry, connection)
}

/// The right answer with the product's own challenge, and perhaps its link.
fn headers(product: &Product, link: Option<&str>) -> What {
    let challenges = product.challenges.join(", ");
    let challenge = Some(("www-authenticate".to_owned(), challenges)).filter(|(_, value)| !value.is_empty());
    let link = link.map(|link| ("link".to_owned(), link.to_owned()));
    What::Headers(challenge.into_iter().chain(link).collect())
}

fn query(request: &Recorded, name: &str) -> Option<String> {
    let url = url_of(request);
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn url_of(request: &Recorded) -> Url {
    Url::parse(&format!("https://{}{}?{}", request.host, request.path, request.query)).unwrap()
}

#[tokio::test]
async fn each_product_is_read_page_by_page_with_the_credential_where_it_belongs() {
    for product in &PRODUCTS {
        let name = product.name;
        let (product, registry, connection) = play(product).await;
        let client = Client::new(connection, limits()).unwrap();
        let tags = client
            .list_tags(REPOSITORY)
            .await
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert_eq!(tags.len(), 2, "{name}");
        client
            .resolve_verified(REPOSITORY, "1")
            .await
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
        for request in registry.requests() {
            let secret = request
                .authorization
                .as_deref()
                .is_some_and(|value| value.starts_with("Basic "));
            let url = url_of(&request);
            match product.wants {
                Wants::Token(realm, service) if url.as_str().starts_with(realm) => {
                    assert!(secret, "{name}: {request:?}");
                    assert_eq!(query(&request, "service").as_deref(), service, "{name}");
                    assert_eq!(
                        query(&request, "scope").as_deref(),
                        Some("repository:team/web:pull"),
                        "{name}"
                    );
                }
                Wants::Password => assert_eq!(request.host, product.registry, "{name}"),
                _ => assert!(!secret && request.host == product.registry, "{name}: {request:?}"),
            }
        }
        if let Wants::Token(..) = product.wants {
            let asked = registry
                .requests()
                .iter()
                .filter(|request| query(request, "scope").is_some())
                .count();
            assert_eq!(asked, 1, "{name}: one token for all");
        }
    }
}

#[tokio::test]
async fn no_product_gets_a_credential_sent_to_a_token_host_that_is_not_listed() {
    for product in &PRODUCTS {
        let (product, registry, mut connection) = play(product).await;
        let (name, Wants::Token(realm, _)) = (product.name, product.wants) else {
            continue;
        };
        connection.token_hosts.clear();
        let own = realm.starts_with(&format!("https://{}/", product.registry));
        let client = Client::new(connection.clone(), limits()).unwrap();
        let listed = client.list_tags(REPOSITORY).await;
        assert_eq!(listed.is_ok(), own, "{name}: {listed:?}");
        if let Err(failure) = listed {
            assert_eq!(failure.class, Class::ForeignRealm, "{name}: {failure}");
            assert!(
                !registry
                    .requests()
                    .iter()
                    .any(|request| request.authorization.is_some()),
                "{name}"
            );
        }

        // The same product, with its token service taken over.
        registry.clear_faults();
        registry.forget_requests();
        let hostile = format!(r#"Bearer realm="https://{EVIL}/token",service="{}""#, product.registry);
        registry.fault(Fault::on("/v2/", What::challenge(&hostile)));
        let client = Client::new(connection, limits()).unwrap();
        let failure = client.resolve(REPOSITORY, "1").await.unwrap_err();
        assert_eq!(failure.class, Class::ForeignRealm, "{name}: {failure}");
        let leaked = registry
            .requests()
            .into_iter()
            .find(|request| request.host == EVIL || request.authorization.is_some());
        assert_eq!(leaked, None, "{name}");
    }
}
