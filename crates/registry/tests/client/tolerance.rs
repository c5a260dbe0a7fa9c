//! Small oddities of registries that cost a moment and no answer.

use catamaran_core::policy::Provider;
use catamaran_registry::{Class, Copied};
use catamaran_scripted_registry::{Fault, What};
use http::Method;

use crate::copying::{FROM, TO, assert_identical, copier, image, pair, settings, writes};
use crate::{GITHUB, answer, client, generic, registry_with_image};

#[tokio::test]
async fn blob_is_looked_for_by_its_first_byte_where_head_is_refused() {
    for status in [400, 405, 501] {
        let (from, to) = pair().await;
        let digest = from.push(FROM, "1.0", "first");
        to.fault(Fault::on("/blobs/sha256:", What::status(status)).method(Method::HEAD));
        let first = copier(&from, &to, settings()).copy(&image("1.0", &digest)).await;
        assert_eq!(first, Ok(Copied::Written), "{status}");
        to.untag(TO, "1.0");
        to.forget_requests();
        copier(&from, &to, settings())
            .copy(&image("1.0", &digest))
            .await
            .unwrap();
        assert_eq!(writes(&to).len(), 1, "{status}: only the tag is written again");
        assert_identical(&from, FROM, &to, TO, "1.0");
    }
}

#[tokio::test]
async fn tag_that_is_not_readable_at_once_is_waited_for() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    let unknown = || What::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    // Two looks before the tag is written, and two after that, each by HEAD and GET.
    to.fault(Fault::on("/manifests/1.0", unknown()).method(Method::GET).times(2));
    to.fault(Fault::on("/manifests/1.0", unknown()).method(Method::HEAD).times(3));
    let copied = copier(&from, &to, settings()).copy(&image("1.0", &digest)).await;
    assert_eq!(copied, Ok(Copied::Written));
}

#[tokio::test]
async fn new_token_that_is_refused_for_a_moment_is_shown_again() {
    let registry = registry_with_image().await;
    let refusal = What::challenge(r#"Bearer realm="https://ghcr.io/token",service="ghcr.io""#);
    registry.fault(Fault::on("/manifests/", refusal).times(2));
    let client = client(registry.connection(GITHUB, Provider::GitHub));
    client.resolve("krateo/web", "1.0").await.unwrap();
    assert_eq!((registry.count("/manifests/"), registry.count("/token")), (3, 2));
}

#[tokio::test]
async fn token_that_is_good_for_too_little_is_not_fetched_again_at_once() {
    let registry = registry_with_image().await;
    let challenge = r#"Bearer realm="https://registry.test/token",service="registry.test",error="insufficient_scope""#;
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"type":"repository","name":"krateo/web","action":"pull"},{"type":"repository","name":"krateo/web","action":"metadata_read"}]}]}"#;
    registry.fault(Fault::on(
        "/tags/list",
        answer(401, &[("www-authenticate", challenge)], body),
    ));
    let client = generic(&registry);
    client.resolve("krateo/web", "1.0").await.unwrap();
    for _ in 0..3 {
        let failure = client.list_tags("krateo/web").await.unwrap_err();
        assert_eq!(failure.class, Class::Unauthorized);
        assert!(
            failure.message.contains("lacks pull, metadata_read on krateo/web"),
            "{failure}"
        );
    }
    assert_eq!((registry.count("/tags/list"), registry.count("/token")), (3, 1));
}

#[tokio::test]
async fn connection_that_is_gone_is_replaced_once_for_what_only_reads() {
    let registry = registry_with_image().await;
    let client = generic(&registry);
    client.resolve("krateo/web", "1.0").await.unwrap();
    for what in [What::Close, What::Reset] {
        registry.fault(Fault::on("/manifests/", what).times(1));
        client.resolve("krateo/web", "1.0").await.unwrap();
    }
    registry.forget_requests();
    registry.fault(Fault::on("/manifests/", What::Close));
    client.resolve("krateo/web", "1.0").await.unwrap_err();
    assert_eq!(registry.count("/manifests/"), 2, "no more than once");
    // What writes is not repeated: it may have arrived.
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    to.fault(Fault::on("/blobs/uploads/", What::Close).method(Method::POST));
    copier(&from, &to, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert_eq!(writes(&to).len(), 1);
}
