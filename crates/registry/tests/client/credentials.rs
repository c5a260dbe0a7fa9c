//! No credential goes anywhere it does not belong: asserted on the wire, for every host and every message.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catamaran_core::policy::Provider;
use catamaran_registry::{Class, Client, Keyring, ProbeTarget};
use catamaran_scripted_registry::{Auth, Fault, Recorded, Registry, What};

use crate::{AZURE, GENERIC, GITHUB, basic, client, registry_with_image};

const PASSWORD: &str = "canary-password-7f3a";
/// Everyone but the registry; all of them pinned to listeners that record.
const OTHERS: [&str; 3] = ["evil.test", "blobs.test", "kracr.azurecr.io.evil.test"];

fn with_password(registry: &Registry, host: &str, provider: Provider, other: &Registry) -> Client {
    let mut connection = registry.connection(host, provider);
    connection.credentials = basic("user", PASSWORD);
    let own = String::from_utf8(connection.extra_ca.take().unwrap()).unwrap();
    connection.extra_ca = Some((own + &String::from_utf8(other.ca_pem()).unwrap()).into_bytes());
    connection
        .resolve
        .extend(OTHERS.map(|name| (name.to_owned(), other.address())));
    client(connection)
}

fn carries(request: &Recorded) -> bool {
    let encoded = BASE64_STANDARD.encode(format!("user:{PASSWORD}"));
    request.authorization.is_some()
        || [&request.path, &request.query, &request.body]
            .iter()
            .any(|part| part.contains(PASSWORD) || part.contains(&encoded))
}

#[tokio::test]
async fn a_foreign_token_endpoint_gets_nothing_and_is_not_even_asked() {
    let realms = [
        "https://evil.test/token",
        "https://evil.test/oauth2/token",
        "https://kracr.azurecr.io.evil.test/oauth2/token",
        "http://kracr.azurecr.io/oauth2/token",
        "https://kracr.azurecr.io@evil.test/oauth2/token",
        "https://user@kracr.azurecr.io/oauth2/token",
        "https://kracr.azurecr.io:8443/oauth2/token",
        "https://127.0.0.1/oauth2/token",
        "https://169.254.169.254/oauth2/token",
        "//evil.test/token",
    ];
    for (host, provider) in [
        (AZURE, Provider::Azure),
        (GITHUB, Provider::GitHub),
        (GENERIC, Provider::Generic),
    ] {
        for realm in realms {
            let (registry, other) = (registry_with_image().await, registry_with_image().await);
            registry.set_auth(Auth::Bearer {
                realm: Some(realm.to_owned()),
                expires_in: None,
            });
            let client = with_password(&registry, host, provider, &other);
            let digest = registry.push("krateo/web", "1.0", "first");
            let target = ProbeTarget {
                canary: Some(("krateo/web".to_owned(), digest)),
                blob: false,
                fresh_token: true,
            };
            let report = client.probe(&target, std::time::Duration::from_secs(2)).await;
            assert_eq!(
                report.outcome,
                catamaran_core::endpoint::Outcome::RefusedByOperator,
                "{realm} {report:?}"
            );
            assert_eq!(other.requests(), [], "{realm}");

            // In the middle of things too: the token that was good is refused, and the new challenge is hostile.
            registry.fault(Fault::on(
                "/manifests/",
                What::challenge(&format!("Bearer realm=\"{realm}\"")),
            ));
            let failure = client.resolve("krateo/web", "1.0").await.unwrap_err();
            assert_eq!(failure.class, Class::ForeignRealm, "{realm} {failure}");
            assert_eq!(other.requests(), [], "{realm}");
        }
    }
}

#[tokio::test]
async fn a_listed_token_host_gets_the_credential() {
    let (registry, other) = (registry_with_image().await, Registry::start().await.unwrap());
    registry.set_auth(Auth::Bearer {
        realm: Some("https://evil.test/token".to_owned()),
        expires_in: None,
    });
    let mut connection = registry.connection(GENERIC, Provider::Generic);
    connection.credentials = basic("user", PASSWORD);
    connection.token_hosts = vec!["evil.test".to_owned()];
    connection.extra_ca = Some([registry.ca_pem(), other.ca_pem()].concat());
    connection.resolve.push(("evil.test".to_owned(), other.address()));
    // The tokens of the other are none of this registry's: all that counts here is who was asked.
    let failure = client(connection).resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!(failure.class, Class::Unauthorized);
    assert_eq!(other.requests().iter().filter(|request| carries(request)).count(), 1);
}

#[tokio::test]
async fn blob_hosts_get_no_credential_through_any_number_of_redirects() {
    let (registry, other) = (registry_with_image().await, registry_with_image().await);
    registry.set_blob_host(Some("blobs.test"));
    other.fault(Fault::on("/storage/", What::redirect(307, "https://evil.test/storage/again")).times(1));
    other.fault(Fault::on("/storage/again", What::redirect(302, "https://evil.test/storage/last")).times(1));
    other.fault(Fault::on("/storage/last", What::json("{}")));
    let client = with_password(&registry, AZURE, Provider::Azure, &other);
    let digest = registry.push("krateo/web", "1.0", "first");
    let target = ProbeTarget {
        canary: Some(("krateo/web".to_owned(), digest)),
        blob: true,
        fresh_token: true,
    };
    let report = client.probe(&target, std::time::Duration::from_secs(2)).await;
    assert_eq!(
        report.outcome,
        catamaran_core::endpoint::Outcome::Reachable,
        "{report:?}"
    );
    assert_eq!(other.requests().len(), 3);
    assert!(!other.requests().iter().any(carries));
    assert!(!report.message.contains("sig="), "{report:?}");
}

#[tokio::test]
async fn redirects_of_anything_but_blobs_are_followed_by_nobody() {
    for path in ["/manifests/", "/tags/list", "/token", "/v2/"] {
        for status in [301, 302, 303, 307, 308] {
            let (registry, other) = (registry_with_image().await, registry_with_image().await);
            registry.fault(Fault::on(
                path,
                What::redirect(status, "https://evil.test/-/v2/packages"),
            ));
            let client = with_password(&registry, GITHUB, Provider::GitHub, &other);
            let failure = client.resolve("krateo/web", "1.0").await.err();
            let listed = client.list_tags("krateo/web").await.err();
            let classes: Vec<_> = failure.into_iter().chain(listed).map(|failure| failure.class).collect();
            assert!(
                !classes.is_empty() && classes.iter().all(|class| *class == Class::Misrouted),
                "{path} {classes:?}"
            );
            assert_eq!(other.requests(), [], "{path}");
        }
    }
}

#[tokio::test]
async fn no_message_repeats_a_credential_that_a_registry_echoes() {
    let registry = registry_with_image().await;
    let encoded = BASE64_STANDARD.encode(format!("user:{PASSWORD}"));
    let echo = format!("bad credentials {PASSWORD}, you sent Basic {encoded}");
    registry.fault(Fault::on("/token", What::error(401, "UNAUTHORIZED", &echo)));
    let other = Registry::start().await.unwrap();
    let client = with_password(&registry, GITHUB, Provider::GitHub, &other);
    let failure = client.resolve("krateo/web", "1.0").await.unwrap_err();
    let shown = format!("{failure} {failure:?} {client:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains(&encoded), "{shown}");
}

#[tokio::test]
async fn each_path_is_asked_for_with_the_credential_that_is_for_it() {
    let registry = registry_with_image().await;
    registry.push("g/p1/web", "1.0", "one");
    let digest = registry.push("g/p2/web", "1.0", "two");
    let config = br#"{"auths":{"registry.test/g/p1":{"username":"one","password":"1"},"registry.test/g/p2":{"username":"two","password":"2"}}}"#;
    let keyring = Keyring::from_docker_config_json(config, GENERIC).unwrap();
    let mut connection = registry.connection(GENERIC, Provider::Generic);
    (connection.credentials, connection.below) = (keyring.credentials, keyring.below);
    let client = client(connection);
    client.resolve("g/p1/web", "1.0").await.unwrap();
    client.list_tags("g/p2/web").await.unwrap();
    client.resolve("krateo/web", "1.0").await.unwrap();
    let asked = |registry: &Registry| {
        let tokens = registry
            .requests()
            .into_iter()
            .filter(|request| request.path == "/token");
        let sent = tokens.map(|request| {
            let basic = request.authorization?;
            let decoded = BASE64_STANDARD.decode(basic.strip_prefix("Basic ")?).ok()?;
            String::from_utf8(decoded).ok()
        });
        sent.collect::<Vec<_>>()
    };
    let (one, two) = (Some("one:1".to_owned()), Some("two:2".to_owned()));
    assert_eq!(asked(&registry), [one, two.clone(), None]);
    // So do probes.
    registry.forget_requests();
    let target = ProbeTarget {
        canary: Some(("g/p2/web".to_owned(), digest)),
        blob: true,
        fresh_token: true,
    };
    let report = client.probe(&target, std::time::Duration::from_secs(20)).await;
    assert_eq!(
        report.outcome,
        catamaran_core::endpoint::Outcome::Reachable,
        "{report:?}"
    );
    assert_eq!(asked(&registry), [two]);
}
