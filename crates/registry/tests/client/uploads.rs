//! How large blobs are sent to registries that want it their way.

use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::{Client, Copied, Copier};
use catamaran_scripted_registry::{Fault, Registry, What};
use http::Method;

use crate::answer;
use crate::copying::{FROM, TO, assert_identical, between, content, image, pair, push_manifest, settings, writes};

const PIECE: usize = 64 << 10;
const SIZE: usize = 3 * PIECE + 17;

/// An image with one large layer.
fn push(registry: &Registry, tag: &str, size: usize) -> Digest {
    let (digest, _) = push_manifest(registry, FROM, &content("config", 60), &[content(tag, size)], "");
    registry.tag(FROM, tag, &digest);
    digest
}

fn copier(from: &Registry, to: &Registry, target: Provider) -> Copier {
    let client = |registry: &Registry, host, provider| {
        Client::new(registry.connection(host, provider), crate::limits()).unwrap()
    };
    let source = client(from, "source.test", Provider::Generic);
    between(&source, &client(to, "target.test", target), settings())
}

/// Bytes of the requests of a method that carried some of the large layer.
fn lengths(registry: &Registry, method: &Method) -> Vec<usize> {
    let writes = writes(registry).into_iter();
    let uploads = writes.filter(|request| request.path.contains("/blobs/uploads/") && request.method == *method);
    uploads
        .map(|request| request.length)
        .filter(|length| *length > 100)
        .collect()
}

#[tokio::test]
async fn pieces_are_as_large_as_the_registry_says() {
    let (from, to) = pair().await;
    let digest = push(&from, "1.0", SIZE);
    let least = (2 * PIECE).to_string();
    let header = What::Headers(vec![("oci-chunk-min-length".to_owned(), least)]);
    to.fault(Fault::on("/blobs/uploads/", header).method(Method::POST));
    copier(&from, &to, Provider::Generic)
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    assert_eq!(lengths(&to, &Method::PATCH), [2 * PIECE, SIZE - 2 * PIECE]);
    assert_identical(&from, FROM, &to, TO, "1.0");
}

#[tokio::test]
async fn pieces_too_large_for_memory_are_one_streamed_request() {
    for least in ["1000000000000", "18446744073709551615"] {
        let (from, to) = pair().await;
        let digest = push(&from, "1.0", SIZE);
        let header = What::Headers(vec![("oci-chunk-min-length".to_owned(), least.to_owned())]);
        to.fault(Fault::on("/blobs/uploads/", header).method(Method::POST));
        copier(&from, &to, Provider::Generic)
            .copy(&image("1.0", &digest))
            .await
            .unwrap();
        assert_eq!(
            (lengths(&to, &Method::PATCH), lengths(&to, &Method::PUT)),
            (vec![], vec![SIZE])
        );
        assert_identical(&from, FROM, &to, TO, "1.0");
    }
}

#[tokio::test]
async fn registry_that_refuses_pieces_gets_each_blob_by_one_request() {
    let refusals = [
        (400, "BLOB_UPLOAD_INVALID"),
        (403, "DENIED"),
        (404, "BLOB_UPLOAD_UNKNOWN"),
        (405, "UNSUPPORTED"),
        (416, "RANGE_INVALID"),
        (501, "UNSUPPORTED"),
    ];
    for (status, code) in refusals {
        let (from, to) = pair().await;
        to.fault(Fault::on("/blobs/uploads/", What::error(status, code, "no pieces")).method(Method::PATCH));
        let copies = copier(&from, &to, Provider::Generic);
        for tag in ["1.0", "2.0"] {
            let digest = push(&from, tag, SIZE);
            let end = copies.copy(&image(tag, &digest)).await;
            assert_eq!(end, Ok(Copied::Written), "{status}");
            assert_identical(&from, FROM, &to, TO, tag);
        }
        assert_eq!(lengths(&to, &Method::PATCH).len(), 1, "{status}: it is not tried again");
        assert_eq!(lengths(&to, &Method::PUT), [SIZE, SIZE], "{status}");
        assert_eq!(to.uploads(), 0, "{status}: what was begun is given up");
    }
}

#[tokio::test]
async fn pieces_that_are_refused_at_the_end_are_made_larger() {
    // The answer of stores to parts below 5 MiB: of ECR, and of its public registry, which no provider is known for.
    let refused = || {
        What::error(
            405,
            "UNSUPPORTED",
            "All layer parts except the last part should be at least 5MB",
        )
    };
    let end = |id: &str| Fault::on(&format!("/blobs/uploads/{id}"), refused()).method(Method::PUT);
    let (from, to) = pair().await;
    let digest = push(&from, "1.0", SIZE);
    to.fault(end("2"));
    copier(&from, &to, Provider::Generic)
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    assert_eq!(lengths(&to, &Method::PATCH).last(), Some(&SIZE));
    assert_eq!(lengths(&to, &Method::PUT), [0; 0]);
    assert_identical(&from, FROM, &to, TO, "1.0");
    // Who takes no larger ones either gets the whole.
    let (from, to) = pair().await;
    let digest = push(&from, "1.0", SIZE);
    to.fault(end("2"));
    to.fault(end("3"));
    copier(&from, &to, Provider::Generic)
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    assert_eq!(lengths(&to, &Method::PUT), [SIZE]);
    assert_identical(&from, FROM, &to, TO, "1.0");
}

#[tokio::test]
async fn refusal_that_is_not_about_pieces_ends_the_copy() {
    for status in [401, 413, 429, 500, 503] {
        let (from, to) = pair().await;
        let digest = push(&from, "1.0", SIZE);
        to.fault(Fault::on("/blobs/uploads/", answer(status, &[], "")).method(Method::PATCH));
        let copied = copier(&from, &to, Provider::Generic).copy(&image("1.0", &digest)).await;
        assert!(copied.is_err(), "{status}");
        assert_eq!(lengths(&to, &Method::PUT), [0; 0], "{status}");
    }
}

#[tokio::test]
async fn upload_goes_on_at_our_scheme_and_port_whatever_its_location_says() {
    for location in [
        "http://target.test",
        "https://target.test:8443",
        "http://target.test:5000",
    ] {
        let (from, to) = pair().await;
        let digest = push(&from, "1.0", SIZE);
        let away = |id: u32| {
            What::Headers(vec![(
                "location".to_owned(),
                format!("{location}/v2/{TO}/blobs/uploads/{id}?state=0"),
            )])
        };
        for id in [1, 2] {
            to.fault(
                Fault::at(&format!("/v2/{TO}/blobs/uploads/"), away(id))
                    .method(Method::POST)
                    .times(1),
            );
        }
        let copied = copier(&from, &to, Provider::Generic).copy(&image("1.0", &digest)).await;
        assert_eq!(copied, Ok(Copied::Written), "{location}");
    }
    // Another host gets nothing.
    let (from, to) = pair().await;
    let digest = push(&from, "1.0", SIZE);
    let away = What::Headers(vec![("location".to_owned(), "https://evil.test/upload".to_owned())]);
    to.fault(Fault::on("/blobs/uploads/", away).method(Method::POST));
    let error = copier(&from, &to, Provider::Generic)
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another place"), "{error}");
}
