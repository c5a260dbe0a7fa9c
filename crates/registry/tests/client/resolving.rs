//! Tags and digests to manifests.

use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::{Class, Stage};
use catamaran_scripted_registry::{Auth, Fault, IMAGE_INDEX, Registry, What};
use http::Method;

use crate::{AZURE, GENERIC, GITHUB, client, generic, registry_with_image};

#[tokio::test]
async fn a_tag_resolves_to_its_digest_under_every_provider() {
    for (host, provider) in [
        (AZURE, Provider::Azure),
        (GITHUB, Provider::GitHub),
        (GENERIC, Provider::Generic),
        (GENERIC, Provider::Aws),
    ] {
        let registry = registry_with_image().await;
        let digest = registry.push("krateo/web", "2.0", "second");
        let found = client(registry.connection(host, provider))
            .resolve("krateo/web", "2.0")
            .await
            .unwrap();
        assert_eq!((found.digest, found.verified), (digest, false), "{provider:?}");
    }
}

#[tokio::test]
async fn known_providers_need_no_request_to_learn_their_challenge() {
    for (host, provider) in [(AZURE, Provider::Azure), (GITHUB, Provider::GitHub)] {
        let registry = registry_with_image().await;
        client(registry.connection(host, provider))
            .resolve("krateo/web", "1.0")
            .await
            .unwrap();
        let paths: Vec<_> = registry.requests().into_iter().map(|request| request.path).collect();
        assert_eq!(paths.len(), 2, "{paths:?}");
    }
}

#[tokio::test]
async fn an_open_registry_and_one_with_basic_are_understood() {
    let registry = registry_with_image().await;
    registry.set_auth(Auth::Open);
    assert!(generic(&registry).resolve("krateo/web", "1.0").await.is_ok());

    registry.set_auth(Auth::Basic);
    registry.set_account(Some(("user", "pass")));
    let failure = generic(&registry).resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!(failure.class, Class::Unauthorized);
    let mut connection = registry.connection(GENERIC, Provider::Generic);
    connection.credentials = crate::basic("user", "pass");
    assert!(client(connection).resolve("krateo/web", "1.0").await.is_ok());
}

#[tokio::test]
async fn an_index_is_accepted_like_a_manifest() {
    let registry = registry_with_image().await;
    let digest = registry.put_manifest(
        "krateo/web",
        Some("multi"),
        IMAGE_INDEX,
        r#"{"schemaVersion":2,"manifests":[]}"#,
    );
    let client = generic(&registry);
    assert_eq!(client.resolve("krateo/web", "multi").await.unwrap().digest, digest);
    let manifest = client.fetch_manifest("krateo/web", &digest.to_string()).await.unwrap();
    assert_eq!(
        (manifest.media_type.as_deref(), manifest.digest),
        (Some(IMAGE_INDEX), digest)
    );
}

#[tokio::test]
async fn without_a_digest_in_the_answer_the_content_is_hashed() {
    let registry = registry_with_image().await;
    let digest = registry.push("krateo/web", "1.0", "first");
    registry.fault(Fault::on("/manifests/", What::digest("")));
    let found = generic(&registry).resolve("krateo/web", "1.0").await.unwrap();
    assert_eq!((found.digest, found.verified), (digest, true));
}

#[tokio::test]
async fn a_registry_that_knows_no_head_is_asked_with_get() {
    let registry = registry_with_image().await;
    registry.fault(Fault::on("/manifests/", What::status(405)).method(Method::HEAD));
    assert!(generic(&registry).resolve("krateo/web", "1.0").await.unwrap().verified);
}

#[tokio::test]
async fn absent_is_only_what_the_registry_itself_says_is_absent() {
    let registry = registry_with_image().await;
    let client = generic(&registry);
    for (repository, code) in [("krateo/web", "MANIFEST_UNKNOWN"), ("krateo/none", "NAME_UNKNOWN")] {
        let failure = client.resolve(repository, "9.9").await.unwrap_err();
        assert!(failure.is_absent(), "{failure:?}");
        assert_eq!((failure.code.as_deref(), failure.status), (Some(code), Some(404)));
        let listed = client.list_tags("krateo/none").await.unwrap_err();
        assert!(listed.is_absent());
    }
    let others = [
        What::status(404),
        What::html(404),
        What::error(404, "UNSUPPORTED", "?"),
        What::error(
            404,
            "MANIFEST_UNKNOWN",
            "OCI index found, but Accept header does not support OCI indexes",
        ),
    ];
    for what in others {
        registry.clear_faults();
        registry.fault(Fault::on("/manifests/", what.clone()));
        let failure = client.resolve("krateo/web", "1.0").await.unwrap_err();
        assert_eq!(failure.class, Class::NotFound, "{what:?}");
        assert!(!failure.is_absent());
    }
}

#[tokio::test]
async fn a_lying_digest_is_found_by_the_sample() {
    let registry = registry_with_image().await;
    let other = Digest::of(b"other").to_string();
    registry.fault(Fault::on("/manifests/", What::digest(&other)));
    let client = generic(&registry);
    assert_eq!(
        client.resolve("krateo/web", "1.0").await.unwrap().digest.to_string(),
        other,
        "its word is taken"
    );
    let failure = client.resolve_verified("krateo/web", "1.0").await.unwrap_err();
    assert_eq!((failure.class, failure.stage), (Class::LyingDigest, Stage::Manifest));
}

#[tokio::test]
async fn who_asks_for_a_digest_is_not_given_another() {
    let registry = registry_with_image().await;
    let digest = registry.push("krateo/web", "1.0", "first").to_string();
    let other = Digest::of(b"other").to_string();
    registry.fault(Fault::on("/manifests/", What::digest(&other)));
    assert_eq!(
        generic(&registry)
            .resolve("krateo/web", &digest)
            .await
            .unwrap_err()
            .class,
        Class::LyingDigest
    );

    registry.clear_faults();
    registry.fault(Fault::on("/manifests/", What::json("{}")));
    let failure = generic(&registry)
        .fetch_manifest("krateo/web", &digest)
        .await
        .unwrap_err();
    assert_eq!(failure.class, Class::LyingDigest);
}

#[tokio::test]
async fn a_malformed_digest_is_a_broken_answer_and_not_an_absent_digest() {
    let registry = registry_with_image().await;
    for value in ["sha256:zz", "md5:00", "latest"] {
        registry.clear_faults();
        registry.fault(Fault::on("/manifests/", What::digest(value)));
        let failure = generic(&registry).resolve("krateo/web", "1.0").await.unwrap_err();
        assert_eq!(failure.class, Class::Unexpected, "{value}");
    }
}

#[tokio::test]
async fn sha512_is_a_digest_too() {
    let registry = registry_with_image().await;
    let sha512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
    registry.fault(Fault::on("/manifests/", What::digest(sha512)));
    assert_eq!(
        generic(&registry)
            .resolve("krateo/web", "1.0")
            .await
            .unwrap()
            .digest
            .to_string(),
        sha512
    );
    assert_eq!(
        generic(&registry)
            .resolve_verified("krateo/web", "1.0")
            .await
            .unwrap_err()
            .class,
        Class::LyingDigest
    );
}

#[tokio::test]
async fn a_digest_of_another_algorithm_than_asked_for_is_settled_by_the_content() {
    let registry = registry_with_image().await;
    let digest = registry.push("krateo/web", "1.0", "first");
    let empty = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
    registry.fault(Fault::on("/manifests/", What::digest(empty)).method(Method::HEAD));
    let found = generic(&registry)
        .resolve("krateo/web", &digest.to_string())
        .await
        .unwrap();
    assert_eq!((found.digest, found.verified), (digest, true));
}

#[tokio::test]
async fn what_is_no_repository_or_reference_is_never_asked_for() {
    let registry = Registry::start().await.unwrap();
    let client = generic(&registry);
    for (repository, reference) in [
        ("../x", "1"),
        ("a?b", "1"),
        ("a", "../x"),
        ("a", "1?n=1"),
        ("a", "sha256:00"),
        ("", "1"),
    ] {
        let failure = client.resolve(repository, reference).await.unwrap_err();
        assert_eq!(failure.class, Class::BadReference, "{repository} {reference}");
    }
    assert_eq!(client.list_tags("a/../b").await.unwrap_err().class, Class::BadReference);
    assert_eq!(registry.requests(), []);
}
