//! Copying between two registries: what is sent, what never is, and what a copy that was cut short leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::copy::{Count, Pace, Placed, Tally};
use catamaran_registry::{
    Budget, Client, Copied, Copier, CopyBudget, CopyError, CopyLimits, CopySettings, Credentials, Image,
};
use catamaran_scripted_registry::{Auth, Fault, IMAGE_INDEX, IMAGE_MANIFEST, Recorded, Registry, What};
use http::Method;
use tokio::task::JoinSet;

use crate::{AZURE, GITHUB, basic, limits};

pub(crate) const FROM: &str = "teams/web";
pub(crate) const TO: &str = "devopskev/web";
const PIECE: usize = 64 << 10;

fn plenty() -> CopyBudget {
    CopyBudget {
        reads: Arc::new(Budget::per_minute(6_000_000)),
        writes: Arc::new(Budget::per_minute(6_000_000)),
    }
}

pub(crate) fn settings() -> CopySettings {
    CopySettings {
        limits: CopyLimits {
            piece_bytes: PIECE,
            request: Duration::from_secs(20),
            ..CopyLimits::default()
        },
        ..CopySettings::default()
    }
}

fn client_of(registry: &Registry, host: &str, provider: Provider) -> Client {
    Client::new(registry.connection(host, provider), limits()).unwrap()
}

/// From Azure to GitHub.
pub(crate) fn copier(source: &Registry, target: &Registry, settings: CopySettings) -> Copier {
    between(
        &client_of(source, AZURE, Provider::Azure),
        &client_of(target, GITHUB, Provider::GitHub),
        settings,
    )
}

pub(crate) fn between(source: &Client, target: &Client, settings: CopySettings) -> Copier {
    Copier::new(
        (source, plenty()),
        (target, plenty()),
        Arc::new(Placed::default()),
        settings,
    )
    .unwrap()
}

pub(crate) fn image(tag: &str, digest: &Digest) -> Image {
    Image {
        from: FROM.to_owned(),
        to: TO.to_owned(),
        tag: tag.to_owned(),
        digest: digest.clone(),
    }
}

pub(crate) async fn pair() -> (Registry, Registry) {
    (Registry::start().await.unwrap(), Registry::start().await.unwrap())
}

/// Content that differs by name and has no short description.
pub(crate) fn content(name: &str, bytes: usize) -> Bytes {
    let mut content = Vec::with_capacity(bytes + 64);
    let mut n = 0u32;
    while content.len() < bytes {
        content.extend_from_slice(Digest::of(format!("{name} {n}").as_bytes()).to_string().as_bytes());
        n += 1;
    }
    content.truncate(bytes);
    content.into()
}

pub(crate) fn descriptor(digest: &Digest, size: usize, rest: &str) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}{rest}}}"#)
}

pub(crate) fn push_manifest(
    registry: &Registry,
    repository: &str,
    config: &Bytes,
    layers: &[Bytes],
    rest: &str,
) -> (Digest, usize) {
    let blob = |body: &Bytes| descriptor(&registry.put_blob(body.clone()), body.len(), "");
    let layers: Vec<_> = layers.iter().map(blob).collect();
    // The space at the end is part of the content: a client that writes JSON anew loses it.
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE_MANIFEST}","config":{},"layers":[{}]{rest}}} "#,
        blob(config),
        layers.join(",")
    );
    let size = body.len();
    (registry.put_manifest(repository, None, IMAGE_MANIFEST, body), size)
}

/// The path of the layer that all platforms share, and which takes several pieces.
fn base() -> String {
    format!("/blobs/{}", Digest::of(&content("base", 3 * PIECE)))
}

/// An index of three platforms, each with an attestation, as buildx makes it.
pub(crate) fn push_index(registry: &Registry, repository: &str, tag: &str) -> Digest {
    let base = content("base", 3 * PIECE);
    let mut manifests = Vec::new();
    for platform in ["amd64", "arm64", "riscv64"] {
        let config = content(&format!("config {platform}"), 400);
        let layers = [
            base.clone(),
            content(&format!("layer {platform}"), 2 * PIECE + 17),
            content(&format!("small {platform}"), 900),
        ];
        let (digest, size) = push_manifest(registry, repository, &config, &layers, "");
        manifests.push(descriptor(
            &digest,
            size,
            &format!(r#","platform":{{"architecture":"{platform}","os":"linux"}}"#),
        ));
        let attestation = content(&format!("provenance {platform}"), 1200);
        let config = content(&format!("attestation config {platform}"), 150);
        let (digest, size) = push_manifest(registry, repository, &config, &[attestation], "");
        manifests.push(descriptor(
            &digest,
            size,
            r#","platform":{"architecture":"unknown","os":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#,
        ));
    }
    let body = format!(
        "{{\n  \"schemaVersion\":2,\"mediaType\":\"{IMAGE_INDEX}\",\"manifests\":[{}]}}",
        manifests.join(",")
    );
    registry.put_manifest(repository, Some(tag), IMAGE_INDEX, body)
}

/// Everything that a manifest leads to is on both, to the byte.
pub(crate) fn assert_identical(source: &Registry, from: &str, target: &Registry, to: &str, reference: &str) {
    let expected = source.manifest(from, reference).unwrap();
    let found = target.manifest(to, reference).unwrap();
    assert_eq!(found, expected, "{reference}");
    let parsed: serde_json::Value = serde_json::from_slice(&expected.1).unwrap();
    let digests = |key: &str| {
        let listed = parsed[key].as_array().cloned().unwrap_or_default();
        listed
            .into_iter()
            .map(|one| one["digest"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for child in digests("manifests") {
        assert_identical(source, from, target, to, &child);
    }
    let config = parsed["config"]["digest"].as_str().map(str::to_owned);
    for blob in digests("layers").into_iter().chain(config) {
        let digest = blob.parse().unwrap();
        assert_eq!(target.blob(to, &digest), source.blob(from, &digest), "{blob}");
        assert!(target.blob(to, &digest).is_some());
    }
}

pub(crate) fn writes(registry: &Registry) -> Vec<Recorded> {
    let mut requests = registry.requests();
    requests
        .retain(|request| !matches!(request.method, Method::GET | Method::HEAD) && !request.path.ends_with("/token"));
    requests
}

fn sent_bytes(registry: &Registry) -> usize {
    let uploads = writes(registry)
        .into_iter()
        .filter(|request| request.path.contains("/blobs/uploads/"));
    uploads.map(|request| request.length).sum()
}

/// How often each blob was sent to its end.
fn ended(registry: &Registry) -> BTreeMap<String, usize> {
    let mut ended = BTreeMap::new();
    for request in writes(registry) {
        if request.method == Method::PUT && request.path.contains("/blobs/uploads/") {
            let digest = request.query.rsplit_once("digest=").unwrap().1.replace("%3A", ":");
            *ended.entry(digest).or_default() += 1;
        }
    }
    ended
}

#[tokio::test]
async fn an_index_with_attestations_arrives_byte_for_byte_in_both_directions() {
    for (source_host, source, target_host, target) in [
        (AZURE, Provider::Azure, GITHUB, Provider::GitHub),
        (GITHUB, Provider::GitHub, AZURE, Provider::Azure),
    ] {
        let (from, to) = pair().await;
        let digest = push_index(&from, FROM, "1.0");
        let copier = between(
            &client_of(&from, source_host, source),
            &client_of(&to, target_host, target),
            settings(),
        );
        assert_eq!(copier.copy(&image("1.0", &digest)).await, Ok(Copied::Written));
        assert_identical(&from, FROM, &to, TO, "1.0");
        assert!(ended(&to).values().all(|times| *times == 1));
        // The tag is the last that is written.
        let last = writes(&to).pop().unwrap();
        assert_eq!(
            (last.method, last.path),
            (Method::PUT, format!("/v2/{TO}/manifests/1.0"))
        );
        let largest = writes(&to).into_iter().map(|request| request.length).max();
        assert_eq!(largest, Some(PIECE), "layers go out in pieces");
        assert_eq!(writes(&from), [], "the source is only read");
        assert_eq!(copier.copy(&image("1.0", &digest)).await, Ok(Copied::AlreadyThere));
        assert_eq!(to.uploads(), 0);
    }
}

#[tokio::test]
async fn a_copy_killed_at_ten_points_resumes_and_sends_nothing_twice_but_the_blob_in_flight() {
    let (from, to) = pair().await;
    let digest = push_index(&from, FROM, "1.0");
    let image = image("1.0", &digest);
    let mut kills = 0;
    // Points that are spread over the whole copy, about 90 requests at each side.
    for point in [1, 7, 16, 11, 23, 4, 13, 9, 19, 14] {
        let begun = to.count("");
        // A process that was killed knows nothing of what it did.
        let copier = copier(&from, &to, settings());
        // On one thread with the registries: it looks between any two steps, however busy the machine is.
        let killed = async {
            while to.count("") < begun + point {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = copier.copy(&image) => assert!(done.is_ok(), "{done:?}"),
            () = killed => kills += 1,
        }
    }
    assert_eq!(kills, 10, "every copy was cut short");
    let _ = copier(&from, &to, settings()).copy(&image).await.unwrap();
    assert_identical(&from, FROM, &to, TO, "1.0");
    for (blob, times) in ended(&to) {
        assert_eq!(times, 1, "{blob}");
    }
    let manifests = writes(&to)
        .into_iter()
        .filter(|request| request.path.contains("/manifests/"));
    let mut paths: Vec<_> = manifests.map(|request| request.path).collect();
    let count = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), count, "each manifest was sent once");
    let all: usize = ended(&to)
        .keys()
        .map(|blob| to.blob(TO, &blob.parse().unwrap()).unwrap().len())
        .sum();
    let largest = 3 * PIECE;
    assert!(
        sent_bytes(&to) <= all + kills * largest,
        "{} of {all} bytes",
        sent_bytes(&to)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tags_send_each_layer_once() {
    let (from, to) = pair().await;
    let layers: Vec<_> = (0..5).map(|n| content(&format!("shared {n}"), 5000)).collect();
    let tally = Arc::new(Tally::default());
    let copier = copier(
        &from,
        &to,
        CopySettings {
            tally: tally.clone(),
            ..settings()
        },
    );
    let mut images = Vec::new();
    for n in 0..1000 {
        // In four repositories, whose layers are the same.
        let (source, target) = (format!("teams/app{}", n % 4), format!("devopskev/app{}", n % 4));
        let config = content(&format!("config {n}"), 200);
        let (digest, _) = push_manifest(&from, &source, &config, &layers, "");
        from.tag(&source, &format!("v{n}"), &digest);
        images.push(Image {
            from: source,
            to: target,
            tag: format!("v{n}"),
            digest,
        });
    }
    let (mut running, mut left) = (JoinSet::new(), images.clone().into_iter());
    loop {
        while running.len() < 8
            && let Some(image) = left.next()
        {
            let copier = copier.clone();
            running.spawn(async move { copier.copy(&image).await });
        }
        let Some(done) = running.join_next().await else { break };
        assert_eq!(done.unwrap(), Ok(Copied::Written));
    }
    let sent = ended(&to);
    assert_eq!(sent.len(), 1005, "a thousand configs and five layers");
    assert!(sent.values().all(|times| *times == 1), "each once");
    assert_eq!(tally.get(Count::BlobsSent), 1005);
    assert_eq!(
        tally.get(Count::BlobsMounted),
        15,
        "five layers in three more repositories"
    );
    assert_eq!(tally.get(Count::Bytes), 1000 * 200 + 5 * 5000);
    assert_eq!(sent_bytes(&to), 1000 * 200 + 5 * 5000);
    for image in &images[..8] {
        assert_identical(&from, &image.from, &to, &image.to, &image.tag);
    }
}

#[tokio::test]
async fn a_tag_with_another_digest_is_never_overwritten_even_when_it_appears_late() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "ours");
    let theirs = to.push(TO, "1.0", "theirs");
    let error = copier(&from, &to, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert_eq!(error, CopyError::Mismatched { found: theirs.clone() });
    assert_eq!(writes(&to), []);

    // Somebody pushes while the layers are under way: the first look finds nothing, the last one does.
    to.fault(
        Fault::on("/manifests/1.0", What::error(404, "MANIFEST_UNKNOWN", "unknown"))
            .method(Method::HEAD)
            .times(1),
    );
    let error = copier(&from, &to, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert_eq!(error, CopyError::Mismatched { found: theirs.clone() });
    assert!(ended(&to).len() > 1, "the layers were sent");
    assert_eq!(Digest::of(&to.manifest(TO, "1.0").unwrap().1), theirs);
    assert_eq!(
        writes(&to)
            .iter()
            .filter(|request| request.path.contains("/manifests/"))
            .count(),
        0
    );
}

#[tokio::test]
async fn a_source_that_moved_is_not_copied() {
    let (from, to) = pair().await;
    let digest = from.push(FROM, "1.0", "first");
    let moved = from.push(FROM, "1.0", "second");
    let copier = copier(&from, &to, settings());
    let error = copier.copy(&image("1.0", &digest)).await.unwrap_err();
    assert_eq!(error, CopyError::Moved { found: Some(moved) });
    from.untag(FROM, "1.0");
    let error = copier.copy(&image("1.0", &digest)).await.unwrap_err();
    assert_eq!(error, CopyError::Moved { found: None });
    assert_eq!(writes(&to), []);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn each_way_to_fail_has_its_reason_writes_no_tag_and_leaves_no_upload() {
    type Break = fn(&Registry, &Registry);
    let cases: [(&str, &str, Break); 13] = [
        ("locked", "Locked", |_, to| {
            to.fault(
                Fault::on(
                    "/manifests/1.0",
                    What::error(405, "REGISTRY_DISALLOWED_OPERATION", "disallowed"),
                )
                .method(Method::PUT),
            );
        }),
        ("locked repository", "Locked", |_, to| {
            to.fault(
                Fault::on(
                    "/blobs/uploads/",
                    What::error(405, "REGISTRY_DISALLOWED_OPERATION", "disallowed"),
                )
                .method(Method::POST),
            );
        }),
        ("may not push", "Denied", |_, to| {
            to.fault(
                Fault::on(
                    "/blobs/uploads/",
                    What::error(403, "DENIED", "permission_denied: write_package"),
                )
                .method(Method::POST),
            );
        }),
        ("no token for it", "Denied", |_, to| {
            to.set_account(Some(("bot", "hush")));
        }),
        ("throttled", "Throttled", |_, to| {
            to.fault(Fault::on("/blobs/uploads/", What::throttled(Some("0"))).method(Method::PATCH));
        }),
        ("lying manifest", "Corrupt", |from, _| {
            let other = format!("sha256:{}", "0".repeat(64));
            from.fault(
                Fault::on("/manifests/sha256:", What::digest(&other))
                    .method(Method::GET)
                    .times(1),
            );
        }),
        ("lying blobs", "Corrupt", |from, _| {
            from.fault(Fault::on("/blobs/", What::json(&"x".repeat(400))));
        }),
        ("lying large blobs", "Corrupt", |from, _| {
            from.fault(Fault::on(&base(), What::json(&"x".repeat(3 * PIECE))));
        }),
        ("truncated blobs", "Source", |from, _| {
            from.fault(Fault::on(&base(), What::Truncated));
        }),
        ("blobs that never end", "Corrupt", |from, _| {
            from.fault(Fault::on(&base(), What::Announced(1 << 40)));
        }),
        ("blobs gone", "Source", |from, _| {
            from.fault(Fault::on("/blobs/", What::error(404, "BLOB_UNKNOWN", "unknown")));
        }),
        ("pieces refused", "Target", |_, to| {
            to.fault(Fault::on("/blobs/uploads/", What::status(500)).method(Method::PATCH));
        }),
        ("upload elsewhere", "Target", |_, to| {
            let away = What::Headers(vec![("location".to_owned(), "https://evil.test/upload".to_owned())]);
            to.fault(Fault::on("/blobs/uploads/", away).method(Method::PATCH));
        }),
    ];
    for (name, reason, fault) in cases {
        let (from, to) = pair().await;
        let digest = push_index(&from, FROM, "1.0");
        fault(&from, &to);
        let copier = copier(&from, &to, settings());
        let error = copier.copy(&image("1.0", &digest)).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{name}: {error}");
        assert!(!error.to_string().contains("sig="), "{name}: {error}");
        assert!(to.manifest(TO, "1.0").is_none(), "{name}");
        assert_eq!(to.uploads(), 0, "{name}: an upload was left behind");
        assert!(to.requests().iter().all(|request| request.host == GITHUB), "{name}");
    }
}

#[tokio::test]
async fn a_manifest_that_announces_a_monstrous_layer_is_not_begun() {
    let (from, to) = pair().await;
    let config = from.put_blob("{}");
    let layer = from.put_blob("layer");
    let body = format!(
        r#"{{"config":{},"layers":[{}]}}"#,
        descriptor(&config, 2, ""),
        descriptor(&layer, 1 << 50, "")
    );
    let digest = from.put_manifest(FROM, Some("1.0"), IMAGE_MANIFEST, body);
    let error = copier(&from, &to, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Unsupported");
    assert_eq!(to.uploads(), 0);
}

#[tokio::test]
async fn a_target_that_cannot_mount_gets_the_blob_in_the_upload_it_began_or_has_it_cancelled() {
    let (from, to) = pair().await;
    to.set_mounts(false);
    let layer = content("shared", 2 * PIECE);
    let push = |repository: &str, name: &str| {
        let (digest, _) = push_manifest(&from, repository, &content(name, 50), std::slice::from_ref(&layer), "");
        from.tag(repository, "1.0", &digest);
        Image {
            from: repository.to_owned(),
            to: repository.to_owned(),
            tag: "1.0".to_owned(),
            digest,
        }
    };
    let (one, two, three) = (push("one", "a"), push("two", "b"), push("three", "c"));
    let copier = copier(&from, &to, settings());
    copier.copy(&one).await.unwrap();
    let posts = |registry: &Registry| {
        writes(registry)
            .iter()
            .filter(|request| request.method == Method::POST)
            .count()
    };
    let before = posts(&to);
    copier.copy(&two).await.unwrap();
    assert_eq!(
        posts(&to) - before,
        2,
        "one upload for the config, and for the layer the one that came of mounting"
    );
    assert!(writes(&to).iter().any(|request| request.query.contains("from=one")));
    assert_eq!(to.uploads(), 0);

    // The source fails while that upload is open.
    let path = format!("/blobs/{}", Digest::of(&layer));
    from.fault(Fault::on(&path, What::Truncated).method(Method::GET));
    copier.copy(&three).await.unwrap_err();
    let cancelled = writes(&to)
        .iter()
        .filter(|request| request.method == Method::DELETE)
        .count();
    assert!(cancelled > 0);
    assert_eq!(to.uploads(), 0);
}

#[tokio::test]
async fn no_location_is_needed_for_a_manifest_and_blob_storage_gets_no_credential() {
    let (from, to) = pair().await;
    to.set_locations(false);
    from.set_blob_host(Some("storage.test"));
    let mut connection = from.connection(AZURE, Provider::Azure);
    connection.resolve.push(("storage.test".to_owned(), from.address()));
    from.set_account(Some(("bot", "hush")));
    connection.credentials = basic("bot", "hush");
    let digest = push_index(&from, FROM, "1.0");
    let source = Client::new(connection, limits()).unwrap();
    let target = client_of(&to, GITHUB, Provider::GitHub);
    between(&source, &target, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    assert_identical(&from, FROM, &to, TO, "1.0");
    let to_storage: Vec<_> = from
        .requests()
        .into_iter()
        .filter(|request| request.host == "storage.test")
        .collect();
    assert!(to_storage.len() > 10 && to_storage.iter().all(|request| request.authorization.is_none()));
}

#[tokio::test]
async fn writing_asks_for_the_right_to_push_and_survives_a_token_that_ends() {
    let (from, to) = pair().await;
    let digest = push_index(&from, FROM, "1.0");
    let target = client_of(&to, AZURE, Provider::Azure);
    let source = client_of(&from, GITHUB, Provider::GitHub);
    to.set_account(None);
    let copier = between(&source, &target, settings());
    // Refused once in the middle of everything.
    to.fault(
        Fault::on(
            "/blobs/uploads/",
            What::challenge("Bearer realm=\"https://kracr.azurecr.io/oauth2/token\""),
        )
        .method(Method::PATCH)
        .times(1),
    );
    copier.copy(&image("1.0", &digest)).await.unwrap();
    assert_identical(&from, FROM, &to, TO, "1.0");
    let scopes: Vec<_> = to
        .requests()
        .into_iter()
        .filter(|request| request.path == "/oauth2/token")
        .map(|request| request.query)
        .collect();
    assert!(
        scopes.iter().any(|query| query.contains("pull%2Cpush%2Cmetadata_read")),
        "{scopes:?}"
    );
    let reading = scopes.iter().filter(|query| !query.contains("push"));
    assert_eq!(reading.count(), 0, "one token for reading and writing the target");
    let source_scopes = from.requests().into_iter().filter(|request| request.path == "/token");
    assert!(
        source_scopes
            .map(|request| request.query)
            .all(|query| !query.contains("push"))
    );
}

#[tokio::test]
async fn a_registry_with_basic_or_no_authentication_is_written_too() {
    for (auth, credentials) in [
        (Auth::Open, Credentials::Anonymous),
        (Auth::Basic, basic("bot", "hush")),
    ] {
        let (from, to) = pair().await;
        to.set_auth(auth);
        to.set_account(Some(("bot", "hush")));
        let digest = from.push(FROM, "1.0", "first");
        let mut connection = to.connection("registry.test", Provider::Generic);
        connection.credentials = credentials;
        let target = Client::new(connection, limits()).unwrap();
        let source = client_of(&from, AZURE, Provider::Azure);
        between(&source, &target, settings())
            .copy(&image("1.0", &digest))
            .await
            .unwrap();
        assert_identical(&from, FROM, &to, TO, "1.0");
    }
}

/// A signature by the referrers API or its tag, and cosign's tags.
fn sign(registry: &Registry, digest: &Digest, size: usize) -> Digest {
    let subject = format!(
        r#","artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","subject":{{"mediaType":"{IMAGE_INDEX}","digest":"{digest}","size":{size}}}"#
    );
    let (signature, _) = push_manifest(registry, FROM, &content("{}", 2), &[content("bundle", 700)], &subject);
    let (cosign, _) = push_manifest(
        registry,
        FROM,
        &content("cosign config", 60),
        &[content("payload", 300)],
        "",
    );
    registry.tag(FROM, &format!("{}.sig", digest.to_string().replace(':', "-")), &cosign);
    signature
}

#[tokio::test]
async fn signatures_come_along_when_selected_whichever_way_each_side_lists_them() {
    for (source_api, target_api) in [(true, true), (true, false), (false, true), (false, false)] {
        let (from, to) = pair().await;
        from.set_referrers(source_api);
        to.set_referrers(target_api);
        let digest = push_index(&from, FROM, "1.0");
        let size = from.manifest(FROM, "1.0").unwrap().1.len();
        let signature = sign(&from, &digest, size);
        let fallback = digest.to_string().replace(':', "-");
        if !source_api {
            let index = format!(
                r#"{{"schemaVersion":2,"mediaType":"{IMAGE_INDEX}","manifests":[{}]}}"#,
                descriptor(
                    &signature,
                    from.manifest(FROM, &signature.to_string()).unwrap().1.len(),
                    ""
                )
            );
            from.put_manifest(FROM, Some(&fallback), IMAGE_INDEX, index);
        }
        copier(
            &from,
            &to,
            CopySettings {
                referrers: true,
                ..settings()
            },
        )
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
        let name = format!("source with API: {source_api}, target: {target_api}");
        assert_identical(&from, FROM, &to, TO, "1.0");
        assert_identical(&from, FROM, &to, TO, &signature.to_string());
        assert_identical(&from, FROM, &to, TO, &format!("{fallback}.sig"));
        assert_eq!(to.manifest(TO, &fallback).is_some(), !target_api, "{name}");
        let last = writes(&to).pop().unwrap();
        assert!(
            last.path.ends_with("/manifests/1.0"),
            "{name}: signatures come before the tag"
        );
    }
}

#[tokio::test]
async fn signatures_stay_where_they_are_unless_selected_and_others_are_kept() {
    let (from, to) = pair().await;
    let digest = push_index(&from, FROM, "1.0");
    let signature = sign(&from, &digest, 1);
    copier(&from, &to, settings())
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    assert!(to.manifest(TO, &signature.to_string()).is_none());

    let (from, to) = pair().await;
    let digest = push_index(&from, FROM, "1.0");
    sign(&from, &digest, 1);
    let tag = format!("{}.sig", digest.to_string().replace(':', "-"));
    let theirs = to.push(TO, &tag, "theirs");
    let copied = copier(
        &from,
        &to,
        CopySettings {
            referrers: true,
            ..settings()
        },
    )
    .copy(&image("1.0", &digest))
    .await;
    assert_eq!(copied, Ok(Copied::Written));
    assert_eq!(Digest::of(&to.manifest(TO, &tag).unwrap().1), theirs);
}

#[tokio::test]
async fn the_pace_holds_over_all_blobs() {
    let (from, to) = pair().await;
    let digest = push_index(&from, FROM, "1.0");
    // About 600 kB.
    let pace = Arc::new(Pace::bytes_per_second(600_000));
    let start = Instant::now();
    copier(&from, &to, CopySettings { pace, ..settings() })
        .copy(&image("1.0", &digest))
        .await
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_large_layer_of_another_repository_is_mounted_though_nobody_copied_it_there() {
    let (from, to) = pair().await;
    let digest = push_index(&from, FROM, "1.0");
    let tally = Arc::new(Tally::default());
    let first = copier(&from, &to, settings());
    let elsewhere = Image {
        to: "devopskev/base".to_owned(),
        ..image("1.0", &digest)
    };
    first.copy(&elsewhere).await.unwrap();
    to.forget_requests();
    let siblings = ["devopskev/none", TO, "devopskev/base"].map(str::to_owned).to_vec();
    let settings = CopySettings {
        siblings,
        tally: tally.clone(),
        ..settings()
    };
    // A process that knows nothing of the first copy.
    copier(&from, &to, settings).copy(&image("1.0", &digest)).await.unwrap();
    assert_identical(&from, FROM, &to, TO, "1.0");
    assert_eq!(
        tally.get(Count::BlobsMounted),
        4,
        "the base and a large layer of each platform"
    );
    assert!(sent_bytes(&to) < PIECE);
}

#[tokio::test]
async fn a_source_that_goes_silent_holds_a_tag_no_longer_than_its_limit() {
    let (from, to) = pair().await;
    let digest = push_index(&from, FROM, "1.0");
    from.fault(Fault::on(&base(), What::Hang));
    let limits = CopyLimits {
        tag: Duration::from_secs(2),
        ..settings().limits
    };
    let error = copier(&from, &to, CopySettings { limits, ..settings() })
        .copy(&image("1.0", &digest))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Source");
    assert!(error.to_string().contains("within 2 s"), "{error}");
}
