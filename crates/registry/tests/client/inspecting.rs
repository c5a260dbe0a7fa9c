//! What a digest refers to, after clean-ups: what is missing is named, and what could not be read is not taken for missing.

use catamaran_core::digest::Digest;
use catamaran_core::mirror::{FlawedPart, Part};
use catamaran_core::policy::Provider;
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::{Side, Sides};
use catamaran_registry::copy::{Found, check_manifest, inspect};
use catamaran_registry::{Class, Client, Copied, Image};
use catamaran_scripted_registry::{Fault, IMAGE_INDEX, IMAGE_MANIFEST, Registry, What};
use http::Method;
use serde_json::Value;

use crate::copying::{between, push_index, settings};
use crate::{AZURE, GITHUB, answer, limits};

const PATHS: Sides<&str> = Sides {
    primary: "teams/web",
    fallback: "devopskev/web",
};

/// The same index in two registries.
struct Pair {
    registries: Sides<Registry>,
    digest: Digest,
}

impl Pair {
    async fn new() -> Pair {
        let registries = Sides {
            primary: Registry::start().await.unwrap(),
            fallback: Registry::start().await.unwrap(),
        };
        let digests = Sides::from_fn(|side| push_index(&registries[side], PATHS[side], "1.0"));
        assert_eq!(digests.primary, digests.fallback);
        Pair {
            registries,
            digest: digests.primary,
        }
    }

    async fn inspect(&self) -> Found {
        self.inspect_digest(&self.digest).await
    }

    async fn inspect_digest(&self, digest: &Digest) -> Found {
        inspect(self.clients().as_ref().map(Some), PATHS, "1.0", digest).await
    }

    fn clients(&self) -> Sides<Client> {
        let client = |side: Side, host, provider| {
            Client::new(self.registries[side].connection(host, provider), limits()).unwrap()
        };
        Sides {
            primary: client(Side::Primary, AZURE, Provider::Azure),
            fallback: client(Side::Fallback, GITHUB, Provider::GitHub),
        }
    }

    /// Other bytes are served under a digest from now on.
    fn forge(&self, side: Side, digest: &Digest) {
        let path = format!("{}/manifests/{digest}", PATHS[side]);
        self.registries[side]
            .fault(Fault::on(&path, answer(200, &[("content-type", IMAGE_MANIFEST)], FORGED)).method(Method::GET));
    }

    fn json(&self, digest: &Digest) -> Value {
        let (_, body) = self
            .registries
            .primary
            .manifest(PATHS.primary, &digest.to_string())
            .unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// The manifest that the index names for a platform.
    fn child(&self, architecture: &str) -> Digest {
        let index = self.json(&self.digest);
        let children = index["manifests"].as_array().unwrap();
        let child = children
            .iter()
            .find(|child| child["platform"]["architecture"] == architecture);
        digest_of(child.unwrap())
    }
}

fn digest_of(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

/// A manifest of somebody else.
const FORGED: &str = r#"{"schemaVersion":2,"config":{"digest":"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","size":5},"layers":[]}"#;

fn missing(part: Part, digest: &Digest, platform: Option<&str>) -> FlawedPart {
    FlawedPart {
        flaw: Flaw::Broken,
        part,
        digest: digest.clone(),
        platform: platform.map(str::to_owned),
    }
}

fn check(found: &Found, side: Side, expected: &FlawedPart, what: &str) {
    assert_eq!(found[side].as_ref().unwrap().as_ref(), Some(expected), "{what}");
    assert_eq!(
        found[side.other()].as_ref().unwrap().as_ref(),
        None,
        "{what}: the other side is whole"
    );
}

#[tokio::test]
async fn content_that_is_all_there_lacks_nothing() {
    let pair = Pair::new().await;
    let found = pair.inspect().await;
    for side in Side::ALL {
        assert!(matches!(found[side], Ok(None)), "{:?}", found[side]);
        let requests = pair.registries[side].requests();
        let unsafe_ones = requests
            .iter()
            .filter(|one| !matches!(one.method, Method::GET | Method::HEAD));
        // Tokens are asked for by POST at Azure.
        assert!(unsafe_ones.into_iter().all(|one| one.path.contains("oauth2")));
    }
}

#[tokio::test]
async fn each_part_that_a_clean_up_took_is_named_on_its_side() {
    for side in Side::ALL {
        for architecture in ["amd64", "riscv64"] {
            let pair = Pair::new().await;
            let platform = format!("linux/{architecture}");
            let child = pair.child(architecture);
            let image = pair.json(&child);
            pair.registries[side].clean_up(PATHS[side], &child);
            let expected = missing(Part::Manifest, &child, Some(&platform));
            check(&pair.inspect().await, side, &expected, "a platform's manifest");

            let parts = [
                (Part::Config, digest_of(&image["config"])),
                (Part::Layer, digest_of(&image["layers"][1])),
            ];
            for (part, digest) in parts {
                let pair = Pair::new().await;
                pair.registries[side].clean_up(PATHS[side], &digest);
                let expected = missing(part, &digest, Some(&platform));
                check(&pair.inspect().await, side, &expected, part.as_str());
            }
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_completed_from_the_other_side_and_no_tag_is_written() {
    let (amd64, layer) = {
        let pair = Pair::new().await;
        let child = pair.child("amd64");
        (child.clone(), digest_of(&pair.json(&child)["layers"][1]))
    };
    for side in Side::ALL {
        let pair = Pair::new().await;
        let target = &pair.registries[side];
        for gone in [&amd64, &layer, &pair.child("unknown")] {
            target.clean_up(PATHS[side], gone);
        }
        let client = |side: Side| {
            let (host, provider) = match side {
                Side::Primary => (AZURE, Provider::Azure),
                Side::Fallback => (GITHUB, Provider::GitHub),
            };
            Client::new(pair.registries[side].connection(host, provider), limits()).unwrap()
        };
        let copier = between(&client(side.other()), &client(side), settings());
        let image = Image {
            from: PATHS[side.other()].to_owned(),
            to: PATHS[side].to_owned(),
            tag: "1.0".to_owned(),
            digest: pair.digest.clone(),
        };
        target.forget_requests();
        let _ = copier.complete(&image).await.unwrap();
        let found = pair.inspect().await;
        assert!(matches!(found[side], Ok(None)), "{:?}", found[side]);
        let puts = target.requests().into_iter().filter(|one| one.method == Method::PUT);
        let manifests: Vec<_> = puts
            .map(|one| one.path)
            .filter(|path| path.contains("/manifests/"))
            .collect();
        assert_eq!(manifests.len(), 2, "{manifests:?}");
        assert!(manifests.iter().all(|path| path.contains("sha256:")), "{manifests:?}");
    }
}

#[tokio::test]
async fn copy_restores_what_is_missing_below_a_manifest_that_is_there() {
    let pair = Pair::new().await;
    let (source, target) = (&pair.registries.primary, &pair.registries.fallback);
    source.tag(PATHS.primary, "1.0.1", &pair.digest);
    let child = pair.child("arm64");
    let layer = digest_of(&pair.json(&pair.child("amd64"))["layers"][2]);
    for gone in [&child, &layer] {
        target.clean_up(PATHS.fallback, gone);
    }
    let client =
        |registry: &Registry, host, provider| Client::new(registry.connection(host, provider), limits()).unwrap();
    let copier = between(
        &client(source, AZURE, Provider::Azure),
        &client(target, GITHUB, Provider::GitHub),
        settings(),
    );
    let image = Image {
        from: PATHS.primary.to_owned(),
        to: PATHS.fallback.to_owned(),
        tag: "1.0.1".to_owned(),
        digest: pair.digest.clone(),
    };
    assert_eq!(copier.copy(&image).await, Ok(Copied::Written));
    let found = pair.inspect().await;
    assert!(matches!(found.fallback, Ok(None)), "{:?}", found.fallback);
}

#[tokio::test]
async fn lists_that_are_null_are_empty() {
    let pair = Pair::new().await;
    let config = Digest::of(b"config");
    let bodies = [
        (IMAGE_INDEX, r#"{"schemaVersion":2,"manifests":null}"#.to_owned()),
        (
            IMAGE_MANIFEST,
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":6}},"layers":null}}"#),
        ),
    ];
    for (media_type, body) in bodies {
        let digests =
            Sides::from_fn(|side| pair.registries[side].put_manifest(PATHS[side], None, media_type, body.clone()));
        pair.registries.primary.put_blob("config");
        pair.registries.fallback.put_blob("config");
        let found = pair.inspect_digest(&digests.primary).await;
        assert!(
            Side::ALL.iter().all(|side| matches!(found[*side], Ok(None))),
            "{body}: {found:?}"
        );
    }
}

#[tokio::test]
async fn attestation_counts_with_its_manifest_only() {
    let pair = Pair::new().await;
    let child = pair.child("unknown");
    let layer = digest_of(&pair.json(&child)["layers"][0]);
    pair.registries.fallback.clean_up(PATHS.fallback, &layer);
    let found = pair.inspect().await;
    assert!(
        matches!(found.fallback, Ok(None)),
        "no node pulls that: {:?}",
        found.fallback
    );
    pair.registries.fallback.clean_up(PATHS.fallback, &child);
    let expected = missing(Part::Manifest, &child, Some("unknown/unknown"));
    check(&pair.inspect().await, Side::Fallback, &expected, "its manifest");
}

#[tokio::test]
async fn single_image_without_an_index_is_inspected() {
    let pair = Pair::new().await;
    let child = pair.child("arm64");
    let layer = digest_of(&pair.json(&child)["layers"][0]);
    pair.registries.primary.clean_up(PATHS.primary, &layer);
    let found = pair.inspect_digest(&child).await;
    check(&found, Side::Primary, &missing(Part::Layer, &layer, None), "a layer");
}

#[tokio::test]
async fn both_sides_may_lack_something() {
    let pair = Pair::new().await;
    let (amd64, arm64) = (pair.child("amd64"), pair.child("arm64"));
    pair.registries.primary.clean_up(PATHS.primary, &amd64);
    pair.registries.fallback.clean_up(PATHS.fallback, &arm64);
    let found = pair.inspect().await;
    let expected = Sides {
        primary: missing(Part::Manifest, &amd64, Some("linux/amd64")),
        fallback: missing(Part::Manifest, &arm64, Some("linux/arm64")),
    };
    for side in Side::ALL {
        assert_eq!(found[side].as_ref().unwrap().as_ref(), Some(&expected[side]));
    }
}

#[tokio::test]
async fn what_could_not_be_read_is_not_missing() {
    let cases = [
        ("throttled", answer(429, &[("retry-after", "1")], "")),
        ("an error", answer(503, &[], "")),
        (
            "a proxy's 404",
            answer(404, &[("content-type", "text/html")], "<html>not here</html>"),
        ),
        ("refused", answer(403, &[], "")),
    ];
    for (what, says) in cases {
        for part in ["/manifests/", "/blobs/"] {
            let pair = Pair::new().await;
            let registry = &pair.registries.fallback;
            registry.fault(Fault::on(part, says.clone()));
            let found = pair.inspect().await;
            assert!(found.fallback.is_err(), "{what} for {part}: {:?}", found.fallback);
            assert!(
                matches!(found.primary, Ok(None)),
                "{what} for {part}: {:?}",
                found.primary
            );
        }
    }
}

fn untrusted(digest: &Digest, platform: Option<&str>) -> FlawedPart {
    FlawedPart {
        flaw: Flaw::Untrusted,
        ..missing(Part::Manifest, digest, platform)
    }
}

#[tokio::test]
async fn manifest_served_with_other_bytes_is_untrusted_on_its_side() {
    for side in Side::ALL {
        let pair = Pair::new().await;
        pair.forge(side, &pair.digest);
        check(&pair.inspect().await, side, &untrusted(&pair.digest, None), "an index");
        let pair = Pair::new().await;
        let child = pair.child("arm64");
        pair.forge(side, &child);
        let expected = untrusted(&child, Some("linux/arm64"));
        check(&pair.inspect().await, side, &expected, "a platform's manifest");
    }
}

#[tokio::test]
async fn one_side_is_inspected_alone() {
    let pair = Pair::new().await;
    let child = pair.child("arm64");
    for side in Side::ALL {
        pair.registries[side].clean_up(PATHS[side], &child);
    }
    let clients = pair.clients();
    let one = Sides {
        primary: None,
        fallback: Some(&clients.fallback),
    };
    let found = inspect(one, PATHS, "1.0", &pair.digest).await;
    let expected = missing(Part::Manifest, &child, Some("linux/arm64"));
    assert_eq!(found.fallback, Ok(Some(expected)));
    assert_eq!(found.primary, Ok(None));
    assert_eq!(pair.registries.primary.requests().len(), 0);
}

#[tokio::test]
async fn manifest_is_hashed_without_looking_further() {
    let pair = Pair::new().await;
    pair.registries.fallback.clean_up(PATHS.fallback, &pair.child("arm64"));
    let clients = pair.clients();
    let check = async || check_manifest(&clients.fallback, PATHS.fallback, "1.0", &pair.digest).await;
    assert_eq!(check().await, Ok(None));
    assert_eq!(pair.registries.fallback.count("/manifests/"), 1);
    pair.forge(Side::Fallback, &pair.digest);
    assert_eq!(check().await, Ok(Some(untrusted(&pair.digest, None))));
}

#[tokio::test]
async fn sha512_digest_is_hashed_with_its_own_algorithm() {
    let pair = Pair::new().await;
    let digest: Digest = "sha512:ee26b0dd4af7e749aa1a8ee3c10ae9923f618980772e473f8819a5d4940e0db27ac185f8a0e1d5f84f88bc887fd67b143732c304cc5fa9ad8e6f57f50028a8ff"
        .parse()
        .unwrap();
    assert!(digest.matches(b"test"));
    let registry = &pair.registries.fallback;
    let path = format!("/manifests/{digest}");
    let body = FORGED.to_owned();
    let clients = pair.clients();
    let check = async || check_manifest(&clients.fallback, PATHS.fallback, "1.0", &digest).await;
    registry.fault(Fault::on(
        &path,
        answer(200, &[("content-type", IMAGE_MANIFEST)], &body),
    ));
    assert_eq!(check().await, Ok(Some(untrusted(&digest, None))));
}

#[tokio::test]
async fn content_that_is_cut_off_or_no_manifest_says_nothing() {
    for body in [
        "",
        "{",
        &FORGED[..FORGED.len() - 1],
        "{}",
        r#"{"errors":[]}"#,
        "[]",
        "<html>",
    ] {
        let pair = Pair::new().await;
        let path = format!("/manifests/{}", pair.digest);
        let says = answer(200, &[("content-type", IMAGE_INDEX)], body);
        pair.registries
            .fallback
            .fault(Fault::on(&path, says).method(Method::GET));
        let found = pair.inspect().await;
        assert!(found.fallback.is_err(), "{body}: {:?}", found.fallback);
        assert!(matches!(found.primary, Ok(None)), "{body}: {:?}", found.primary);
    }
}

#[tokio::test]
async fn digest_that_a_tag_claims_and_that_is_not_there_is_missing() {
    let pair = Pair::new().await;
    let path = format!("{}/manifests/{}", PATHS.fallback, pair.digest);
    let gone = What::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    pair.registries.fallback.fault(Fault::on(&path, gone));
    // A proxy goes on answering for the tag.
    let expected = missing(Part::Manifest, &pair.digest, None);
    check(&pair.inspect().await, Side::Fallback, &expected, "its manifest");
    // Somebody else's word for the same is none.
    pair.registries.fallback.clear_faults();
    pair.registries.fallback.fault(Fault::on(&path, What::html(404)));
    assert!(pair.inspect().await.fallback.is_err());
}

#[tokio::test]
async fn digest_that_a_side_does_not_have_says_nothing_of_its_content() {
    let pair = Pair::new().await;
    pair.registries.primary.clean_up(PATHS.primary, &pair.digest);
    let found = pair.inspect().await;
    assert_eq!(found.primary.as_ref().unwrap_err().class, Class::Absent);
    assert!(matches!(found.fallback, Ok(None)), "{:?}", found.fallback);
}

#[tokio::test]
async fn odd_content_is_bounded_and_says_nothing() {
    let pair = Pair::new().await;
    let many: Vec<_> = (0..200)
        .map(|n| format!(r#"{{"digest":"{}","size":1}}"#, Digest::of(format!("{n}").as_bytes())))
        .collect();
    let odd = [
        (IMAGE_INDEX, r#"{"manifests":[]}"#.to_owned()),
        (IMAGE_INDEX, "{}".to_owned()),
        (
            IMAGE_MANIFEST,
            r#"{"config":{"digest":"sha256:00","size":1}}"#.to_owned(),
        ),
        (IMAGE_MANIFEST, r#"{"fsLayers":[{"blobSum":"sha256:00"}]}"#.to_owned()),
        ("application/json", "[]".to_owned()),
    ];
    for (media_type, body) in odd {
        let digests =
            Sides::from_fn(|side| pair.registries[side].put_manifest(PATHS[side], None, media_type, body.clone()));
        let found = pair.inspect_digest(&digests.primary).await;
        assert!(
            Side::ALL.iter().all(|side| !matches!(found[*side], Ok(Some(_)))),
            "{body}: {found:?}"
        );
    }
    let body = format!(r#"{{"manifests":[{}]}}"#, many.join(","));
    let digests =
        Sides::from_fn(|side| pair.registries[side].put_manifest(PATHS[side], None, IMAGE_INDEX, body.clone()));
    let found = pair.inspect_digest(&digests.primary).await;
    for side in Side::ALL {
        let lacks = found[side].as_ref().unwrap().as_ref().unwrap();
        assert_eq!((lacks.part, &lacks.digest), (Part::Manifest, &Digest::of(b"0")));
    }
}
