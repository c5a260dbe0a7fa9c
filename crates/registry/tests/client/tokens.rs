//! Tokens: one for everyone, renewed when refused.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::Unavailable;
use catamaran_core::policy::Provider;
use catamaran_registry::{Budget, Class, Client, Stage};
use catamaran_scripted_registry::{Auth, Fault, What};
use tokio::task::JoinSet;

use crate::{AZURE, GENERIC, GITHUB, basic, client, limits, registry_with_image, unavailable};

#[tokio::test]
async fn many_requests_at_once_share_one_token() {
    let registry = registry_with_image().await;
    registry.set_latency(Duration::from_millis(20));
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        tasks.spawn(async move { client.resolve("krateo/web", "1.0").await });
    }
    assert!(tasks.join_all().await.into_iter().all(|found| found.is_ok()));
    assert_eq!(registry.count("/token"), 1);
}

#[tokio::test]
async fn many_requests_at_once_share_one_refusal() {
    let registry = registry_with_image().await;
    registry.fault(Fault::on("/token", What::status(503)));
    registry.set_latency(Duration::from_millis(100));
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        tasks.spawn(async move { client.resolve("krateo/web", "1.0").await });
    }
    for found in tasks.join_all().await {
        let failure = found.unwrap_err();
        assert_eq!(
            (failure.class, failure.stage),
            (unavailable(Unavailable::ServerError), Stage::Token)
        );
    }
    assert_eq!(registry.count("/token"), 1);
    registry.clear_faults();
    assert!(
        client.resolve("krateo/web", "1.0").await.is_ok(),
        "the next one asks again"
    );
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_everyone() {
    let registry = registry_with_image().await;
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    client.resolve("krateo/web", "1.0").await.unwrap();
    registry.revoke_tokens();
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        tasks.spawn(async move { client.resolve("krateo/web", "1.0").await });
    }
    assert!(tasks.join_all().await.into_iter().all(|found| found.is_ok()));
    assert_eq!(registry.count("/token"), 2);
}

#[tokio::test]
async fn a_registry_that_refuses_every_token_is_asked_few_times() {
    let registry = registry_with_image().await;
    let challenge = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io""#;
    registry.fault(Fault::on("/manifests/", What::challenge(challenge)));
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    let failure = client.resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!((failure.class, failure.stage), (Class::Unauthorized, Stage::Manifest));
    // The second token is shown again after a second, once in a minute.
    assert_eq!((registry.count("/manifests/"), registry.count("/token")), (3, 2));
    client.resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!(registry.count("/manifests/"), 5);
}

#[tokio::test]
async fn a_token_is_for_one_repository_and_what_the_provider_needs() {
    let registry = registry_with_image().await;
    registry.push("krateo/api", "1.0", "x");
    for (host, provider, scope) in [
        (
            AZURE,
            Provider::Azure,
            "repository%3Akrateo%2Fapi%3Apull%2Cmetadata_read",
        ),
        (GITHUB, Provider::GitHub, "repository%3Akrateo%2Fapi%3Apull"),
    ] {
        registry.forget_requests();
        let client = client(registry.connection(host, provider));
        client.resolve("krateo/api", "1.0").await.unwrap();
        client.resolve("krateo/web", "1.0").await.unwrap();
        let tokens: Vec<_> = registry
            .requests()
            .into_iter()
            .filter(|request| request.path.contains("token"))
            .collect();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens[0].query, format!("service={host}&scope={scope}"));
    }
}

#[tokio::test]
async fn an_azure_refresh_token_is_exchanged_by_post() {
    let registry = registry_with_image().await;
    registry.set_account(Some(("00000000-0000-0000-0000-000000000000", "refresh-me")));
    let mut connection = registry.connection(AZURE, Provider::Azure);
    connection.credentials = basic("00000000-0000-0000-0000-000000000000", "refresh-me");
    let client = client(connection);
    assert_eq!(client.list_tags("krateo/web").await.unwrap().len(), 1);
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| !request.query.contains("refresh-me"))
    );
}

#[tokio::test]
async fn each_refusal_of_the_token_endpoint_has_its_class() {
    let denied = What::error(403, "DENIED", "denied");
    let firewall = What::error(403, "DENIED", "client with IP '172.214.169.102' is not allowed access.");
    let github = What::error(429, "TOOMANYREQUESTS", "retry-after: 1.5ms, allowed: 44000/minute");
    let server_error = || unavailable(Unavailable::ServerError);
    let throttled = |wait| Class::Throttled { retry_after: wait };
    let cases = [
        (What::status(401), Class::Unauthorized),
        (denied, Class::Forbidden),
        (firewall, Class::NetworkDenied),
        (
            What::error(403, "", "You have exceeded a secondary rate limit"),
            throttled(None),
        ),
        (What::throttled(Some("7")), throttled(Some(Duration::from_secs(7)))),
        (What::throttled(Some("-7")), throttled(None)),
        (What::throttled(Some("999999")), throttled(Some(Duration::from_mins(5)))),
        (What::throttled(None), throttled(None)),
        (github, throttled(Some(Duration::from_micros(1500)))),
        (What::status(500), server_error()),
        (What::status(503), server_error()),
        (What::status(404), Class::Unexpected),
        (What::html(200), Class::Unexpected),
        (What::json("[]"), Class::Unexpected),
        (What::json("{}"), Class::Unexpected),
        (What::json(r#"{"token":"a\nb"}"#), Class::Unexpected),
        (What::redirect(302, "https://evil.test/token"), Class::Misrouted),
    ];
    for (what, class) in cases {
        let registry = registry_with_image().await;
        registry.fault(Fault::on("/token", what.clone()));
        let mut connection = registry.connection(GITHUB, Provider::GitHub);
        connection.credentials = basic("user", "hunter22");
        let failure = client(connection).resolve("krateo/web", "1.0").await.unwrap_err();
        assert_eq!(
            (failure.class.clone(), failure.stage),
            (class, Stage::Token),
            "{what:?}"
        );
        assert!(failure.message.starts_with("GET https://ghcr.io/token: "), "{failure}");
        assert!(!failure.message.contains("scope="), "{failure}");
    }
}

#[tokio::test]
async fn a_tokens_life_decides_when_it_is_renewed() {
    let registry = registry_with_image().await;
    registry.set_auth(Auth::Bearer {
        realm: None,
        expires_in: Some(-1),
    });
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    for _ in 0..5 {
        client.resolve("krateo/web", "1.0").await.unwrap();
    }
    assert_eq!(registry.count("/token"), 1, "no life is shorter than a minute");
}

#[tokio::test]
async fn too_many_requests_slows_everyone_who_shares_the_budget() {
    let registry = registry_with_image().await;
    let budget = Arc::new(Budget::per_minute(600));
    let client = Client::with_budget(
        registry.connection(GENERIC, Provider::Generic),
        limits(),
        budget.clone(),
    )
    .unwrap();
    client.resolve("krateo/web", "1.0").await.unwrap();
    registry.fault(Fault::on("/manifests/", What::throttled(None)).times(1));
    let failure = client.resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!(failure.class, Class::Throttled { retry_after: None });
    assert!((budget.rate() - 300.0).abs() < 1.0);
}
