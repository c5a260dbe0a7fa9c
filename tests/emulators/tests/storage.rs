//! Storage, in memory and behind a proxy: what pushing and pulling clients rely on.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use catamaran_emulators::store::{Part, Route};
use catamaran_emulators::{Answer, Answering, Clock, Memory, Options, Proxy, Request, Server, Service, Storage, Tls};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A distribution registry without authentication.
struct Open(Arc<Memory>);

impl Service for Open {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(async move {
            let Some(route) = Route::parse(&request.path) else {
                return Answer::status("other", 404);
            };
            if route.part != Part::Tags {
                return self.0.serve(request, &route).await;
            }
            match self.0.tags(&route.repository).await {
                None => Answer::status("tags", 404),
                Some(tags) => {
                    let names: Vec<_> = tags.into_iter().map(|tag| tag.name).collect();
                    Answer::json("tags", 200, &json!({"name": route.repository, "tags": names}))
                }
            }
        })
    }
}

fn request(method: Method, target: &str, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    Request {
        host: "registry.test".to_owned(),
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: map,
        body: body.into(),
        peer: ([127, 0, 0, 1], 1).into(),
    }
}

async fn ask(storage: &dyn Storage, request: Request) -> Answer {
    let route = Route::parse(&request.path).unwrap();
    storage.serve(&request, &route).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap().to_str().unwrap()
}

fn digest(content: &str) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Pushes a blob in two chunks and another in one request, and reads them back.
async fn push_and_pull(storage: &dyn Storage) {
    let content = "layer content";
    let right = digest(content);
    for (wanted, status) in [(digest("other"), 400), (right.clone(), 201)] {
        let begun = ask(storage, request(Method::POST, "/v2/a/blobs/uploads/", &[], "")).await;
        assert_eq!((begun.status, begun.kind), (202, "upload"));
        let place = header(&begun, "location").to_owned();
        assert!(place.starts_with("/v2/a/blobs/uploads/"), "{place}");
        for (chunk, range) in [(&content[..5], "0-4"), (&content[5..], "0-12")] {
            let sent = ask(storage, request(Method::PATCH, &place, &[], chunk.to_owned())).await;
            assert_eq!((sent.status, header(&sent, "range")), (202, range));
        }
        let put = format!("{place}?digest={wanted}");
        assert_eq!(ask(storage, request(Method::PUT, &put, &[], "")).await.status, status);
    }
    let single = digest("single");
    let post = format!("/v2/a/blobs/uploads/?digest={single}");
    assert_eq!(
        ask(storage, request(Method::POST, &post, &[], "single")).await.status,
        201
    );
    for (digest, body) in [(right, content), (single, "single")] {
        let found = ask(storage, request(Method::GET, &format!("/v2/a/blobs/{digest}"), &[], "")).await;
        assert_eq!((found.status, &found.body[..]), (200, body.as_bytes()));
    }
    let absent = format!("/v2/a/blobs/{}", digest("absent"));
    assert_eq!(ask(storage, request(Method::HEAD, &absent, &[], "")).await.status, 404);
}

#[tokio::test]
async fn memory_takes_uploads_and_checks_their_digests() {
    push_and_pull(&Memory::new(Clock::new())).await;
}

#[tokio::test]
async fn a_blob_is_there_only_where_it_was_pushed_or_mounted() {
    let memory = Memory::new(Clock::new());
    let (digest, size) = memory.put_blob("a", "content");
    let path = format!("/v2/b/blobs/{digest}");
    assert_eq!(ask(&memory, request(Method::GET, &path, &[], "")).await.status, 404);
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let mounted = ask(&memory, request(Method::POST, &mount, &[], "")).await;
    assert_eq!((mounted.status, mounted.kind), (201, "mount"));
    let whole = ask(&memory, request(Method::GET, &path, &[], "")).await;
    assert_eq!((whole.status, whole.body.len()), (200, size));
    let part = ask(&memory, request(Method::GET, &path, &[("range", "bytes=1-2")], "")).await;
    assert_eq!(
        (part.status, &part.body[..], header(&part, "content-range")),
        (206, &b"on"[..], "bytes 1-2/7")
    );
    let nowhere = format!("/v2/b/blobs/uploads/?mount={digest}&from=nowhere");
    assert_eq!(
        ask(&memory, request(Method::POST, &nowhere, &[], "")).await.status,
        202,
        "an upload instead"
    );
}

#[tokio::test]
async fn a_manifest_needs_its_blobs_and_children() {
    let memory = Memory::new(Clock::new());
    let media_type = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    memory.push("a", "1", "x");
    let (_, manifest) = memory.manifest("a", "1").unwrap();
    let elsewhere = ask(
        &memory,
        request(Method::PUT, "/v2/b/manifests/1", &media_type, manifest.clone()),
    )
    .await;
    assert_eq!(elsewhere.status, 404, "its blobs are not in b");
    let again = ask(
        &memory,
        request(Method::PUT, "/v2/a/manifests/2", &media_type, manifest.clone()),
    )
    .await;
    assert_eq!((again.status, again.kind), (201, "put-manifest"));
    let digest = header(&again, "docker-content-digest").to_owned();
    let index = json!({"schemaVersion": 2, "manifests": [{"digest": digest}]}).to_string();
    assert_eq!(
        ask(&memory, request(Method::PUT, "/v2/a/manifests/all", &[], index.clone()))
            .await
            .status,
        201
    );
    assert_eq!(
        ask(&memory, request(Method::PUT, "/v2/b/manifests/all", &[], index))
            .await
            .status,
        404
    );
    let wrong = "/v2/a/manifests/sha256:0000000000000000000000000000000000000000000000000000000000000000";
    assert_eq!(
        ask(&memory, request(Method::PUT, wrong, &media_type, manifest))
            .await
            .status,
        400
    );
    let names: Vec<_> = memory
        .tags("a")
        .await
        .unwrap()
        .into_iter()
        .map(|tag| tag.name)
        .collect();
    assert_eq!(names, ["1", "2", "all"]);
}

#[tokio::test]
async fn a_proxy_passes_everything_on_to_the_registry_behind_it() {
    let memory = Arc::new(Memory::new(Clock::new()));
    let digest = memory.push("a", "1", "x");
    let options = Options {
        tls: Some(Tls::Off),
        ..Options::default()
    };
    let behind = Server::start(Arc::new(Open(memory.clone())), options).await.unwrap();
    let base = format!("http://{}/", behind.address()).parse().unwrap();
    let proxy = Proxy::new(base, Clock::new()).unwrap();
    push_and_pull(&proxy).await;
    let tags = proxy.tags("a").await.unwrap();
    assert_eq!((tags.len(), tags[0].digest.as_str()), (1, digest.as_str()));
    assert_eq!(proxy.manifests("a"), 1);
    assert_eq!(proxy.tags("nothing").await, None);
    let head = ask(&proxy, request(Method::HEAD, "/v2/a/manifests/1", &[], "")).await;
    assert_eq!(
        (head.status, header(&head, "docker-content-digest")),
        (200, digest.as_str())
    );
    assert!(head.headers.contains_key("content-length") && head.body.is_empty());
    let get = ask(&proxy, request(Method::GET, "/v2/a/manifests/1", &[], "")).await;
    assert_eq!(Some(get.body), memory.manifest("a", "1").map(|(_, body)| body));
    drop(behind);
    assert_eq!(
        ask(&proxy, request(Method::GET, "/v2/a/manifests/1", &[], ""))
            .await
            .status,
        502
    );
}
