//! What a challenge may add to what tokens are asked for, and where.

use catamaran_core::policy::Provider;
use catamaran_registry::Class;
use catamaran_scripted_registry::{Auth, Fault, Registry, What};

use crate::{GENERIC, answer, basic, client, generic, registry_with_image};

/// The scopes of each token that was asked for.
fn scopes(registry: &Registry) -> Vec<Vec<String>> {
    let asked = registry
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("/token"));
    let scopes = |query: String| {
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
        let scopes = pairs.filter(|(name, _)| name == "scope").map(|(_, value)| value);
        scopes.collect::<Vec<_>>()
    };
    asked.map(|request| scopes(request.query)).collect()
}

fn challenged(scope: &str) -> What {
    What::challenge(&format!(
        "Bearer realm=\"https://{GENERIC}/token\",service=\"s\",scope=\"{scope}\""
    ))
}

#[tokio::test]
async fn repository_that_the_registry_calls_otherwise_is_read_by_its_challenge() {
    let registry = registry_with_image().await;
    registry.set_scope_prefix("test/");
    let client = generic(&registry);
    client.resolve("krateo/web", "1.0").await.unwrap();
    assert_eq!(client.list_tags("krateo/web").await.unwrap().len(), 1);
    let both = ["repository:krateo/web:pull", "repository:test/krateo/web:pull"];
    assert_eq!(scopes(&registry), [both], "one token for all of it");
    // What was learnt holds when the token has ended, and a renewed one is asked for with it.
    registry.revoke_tokens();
    client.resolve("krateo/web", "1.0").await.unwrap();
    assert_eq!(scopes(&registry), [both, both]);
}

#[tokio::test]
async fn scope_of_one_repository_is_not_asked_for_another() {
    let registry = registry_with_image().await;
    registry.push("krateo/api", "1.0", "x");
    registry.set_scope_prefix("test/");
    let client = generic(&registry);
    client.resolve("krateo/web", "1.0").await.unwrap();
    registry.set_scope_prefix("");
    registry.forget_requests();
    client.resolve("krateo/api", "1.0").await.unwrap();
    assert_eq!(scopes(&registry), [["repository:krateo/api:pull"]]);
}

#[tokio::test]
async fn several_scopes_of_one_challenge_are_asked_for_to_pull_only() {
    let registry = registry_with_image().await;
    let wide = "repository:krateo/web:pull,push,delete repository:library/base:push,pull registry:catalog:* \
                repository:other/secret:push";
    registry.fault(Fault::on("/manifests/", challenged(wide)).times(1));
    generic(&registry).resolve("krateo/web", "1.0").await.unwrap();
    let asked = ["repository:krateo/web:pull", "repository:library/base:pull"];
    assert_eq!(scopes(&registry), [asked]);
}

#[tokio::test]
async fn repeated_challenges_are_searched_for_one_that_is_admitted() {
    let registry = registry_with_image().await;
    let foreign = r#"Bearer realm="https://evil.test/token",service="s",scope="repository:x/y:pull""#;
    let own = format!("Bearer realm=\"https://{GENERIC}/token\",service=\"s\",scope=\"repository:test/web:pull\"");
    let headers = [("www-authenticate", foreign), ("www-authenticate", own.as_str())];
    registry.fault(Fault::on("/manifests/", answer(401, &headers, "")).times(1));
    let mut connection = registry.connection(GENERIC, Provider::Generic);
    connection.credentials = basic("user", "hunter22");
    client(connection).resolve("krateo/web", "1.0").await.unwrap();
    let asked = ["repository:krateo/web:pull", "repository:test/web:pull"];
    assert_eq!(scopes(&registry), [asked]);
}

#[tokio::test]
async fn registry_that_offers_basic_besides_a_foreign_realm_gets_the_password_itself() {
    let registry = registry_with_image().await;
    registry.set_auth(Auth::Basic);
    registry.set_account(Some(("user", "hunter22")));
    let foreign = r#"Bearer realm="https://evil.test/token""#;
    let headers = [("www-authenticate", foreign), ("www-authenticate", "Basic realm=\"x\"")];
    registry.fault(Fault::on("/v2/", answer(401, &headers, "")).times(1));
    let mut connection = registry.connection(GENERIC, Provider::Generic);
    connection.credentials = basic("user", "hunter22");
    client(connection.clone()).resolve("krateo/web", "1.0").await.unwrap();
    // Without a password there is nothing to show, and the realm is what is wrong.
    registry.fault(Fault::on("/v2/", answer(401, &headers, "")).times(1));
    connection.credentials = catamaran_registry::Credentials::Anonymous;
    let failure = client(connection).resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!(failure.class, Class::ForeignRealm, "{failure}");
}

#[tokio::test]
async fn each_repository_may_have_a_token_endpoint_of_its_own() {
    let registry = registry_with_image().await;
    registry.push("krateo/api", "1.0", "x");
    registry.set_own_realms(true);
    let client = generic(&registry);
    for _ in 0..2 {
        client.resolve("krateo/web", "1.0").await.unwrap();
        client.resolve("krateo/api", "1.0").await.unwrap();
        registry.revoke_tokens();
    }
    // The first token for the second repository is refused by the endpoint of the first; after that each goes to its own.
    let asked = |repository: &str| registry.count(&format!("/tokens/{repository}"));
    assert_eq!((asked("krateo/web"), asked("krateo/api")), (3, 2));
}

#[tokio::test]
async fn endpoint_that_refuses_is_told_from_one_of_another_repository_once() {
    let registry = registry_with_image().await;
    registry.push("krateo/api", "1.0", "x");
    let client = generic(&registry);
    client.resolve("krateo/web", "1.0").await.unwrap();
    registry.fault(Fault::on("/token", What::error(403, "DENIED", "denied")));
    registry.forget_requests();
    for _ in 0..2 {
        let failure = client.resolve("krateo/api", "1.0").await.unwrap_err();
        assert_eq!(failure.class, Class::Forbidden, "{failure}");
    }
    assert_eq!((registry.count("/manifests/"), registry.count("/token")), (1, 2));
}
