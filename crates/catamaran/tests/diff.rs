//! `catamaran diff` against two registries on loopback, over TLS.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as its own lines do"
)]

use std::path::{Path, PathBuf};

use catamaran_core::digest::Digest;
use catamaran_scripted_registry::{Auth, Fault, IMAGE_INDEX, Registry, What};
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;

use support::{Ran, catamaran};

/// Two registries, and a home directory with their authorities' certificates.
struct Harness {
    primary: Registry,
    fallback: Registry,
    home: TempDir,
}

impl Harness {
    async fn start() -> Harness {
        let (primary, fallback) = (Registry::start().await.unwrap(), Registry::start().await.unwrap());
        let home = TempDir::new().unwrap();
        std::fs::write(
            home.path().join("ca.pem"),
            [primary.ca_pem(), fallback.ca_pem()].concat(),
        )
        .unwrap();
        Harness {
            primary,
            fallback,
            home,
        }
    }

    /// Both registries with these tags, all the same.
    async fn with(tags: &[&str]) -> Harness {
        let harness = Harness::start().await;
        for tag in tags {
            harness.primary.push("web", tag, tag);
            harness.fallback.push("kev/web", tag, tag);
        }
        harness
    }

    async fn diff(&self, more: &[&str]) -> Ran {
        self.diff_of("", more).await
    }

    /// Compares with `suffix` behind both repositories.
    async fn diff_of(&self, suffix: &str, more: &[&str]) -> Ran {
        let mut arguments = vec![
            "diff".to_owned(),
            format!("{}/web{suffix}", self.primary.address()),
            format!("{}/kev/web{suffix}", self.fallback.address()),
            "--ca-file".to_owned(),
            self.file("ca.pem").display().to_string(),
        ];
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let home = self.home.path().to_owned();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            catamaran(&home, &arguments)
        })
        .await
        .unwrap()
    }

    async fn document(&self) -> (i32, Value) {
        let ran = self.diff(&["-o", "json"]).await;
        let read = serde_json::from_str(&ran.out);
        (ran.code, read.unwrap_or_else(|error| panic!("{error}: {ran:?}")))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// It could not tell: exit code 2, nothing on standard output, and this on standard error.
fn assert_could_not_tell(ran: &Ran, why: &str) {
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(ran.out, "", "{ran:?}");
    assert!(
        ran.err.starts_with("error: ") && ran.err.contains(why),
        "{why}: {ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_repositories_end_with_0_and_are_quiet_on_pipes() {
    let harness = Harness::with(&["1", "2", "latest"]).await;
    let ran = harness.diff(&[]).await;
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "3 tags: 3 the same\n", "")
    );
    assert_eq!(harness.primary.count("/manifests/"), 3);
    assert_eq!(harness.fallback.count("/manifests/"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_listed_by_tag_and_end_with_1() {
    let harness = Harness::with(&["same"]).await;
    harness.primary.push("web", "moved", "new");
    harness.fallback.push("kev/web", "moved", "old");
    harness.primary.push("web", "forgotten", "x");
    harness.fallback.push("kev/web", "older", "y");
    let ran = harness.diff(&[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let words: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["TAG", "STATE", "PRIMARY", "FALLBACK"]);
    assert_eq!(words[1][..2], ["forgotten", "MissingOnFallback"]);
    assert_eq!((words[1][2].len(), words[1][3]), ("sha256:".len() + 12, "-"));
    assert_eq!(words[2][..2], ["moved", "Mismatched"]);
    assert_ne!(words[2][2], words[2][3]);
    assert_eq!(words[3][..3], ["older", "MissingOnPrimary", "-"]);
    let last = "4 tags: 1 the same, 1 missing on the primary, 1 missing on the fallback, 1 with different digests";
    assert_eq!(ran.out.lines().last(), Some(last));
    assert!(!ran.out.contains('\u{1b}'), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_hold_whole_digests_and_counts() {
    let harness = Harness::with(&["same"]).await;
    let digest = harness.primary.push("web", "1234567", "x");
    let (code, document) = harness.document().await;
    let expected = json!({
        "primary": format!("{}/web", harness.primary.address()),
        "fallback": format!("{}/kev/web", harness.fallback.address()),
        "tags": 2, "same": 1, "missingOnPrimary": 0, "missingOnFallback": 1, "mismatched": 0,
        "differences": [{
            "tag": "1234567", "state": "MissingOnFallback",
            "primaryDigest": digest.to_string(), "fallbackDigest": null,
        }],
    });
    assert_eq!((code, &document), (1, &expected));
    let yaml = harness.diff(&["-o", "yaml"]).await;
    assert_eq!(yaml.code, 1);
    let read: Value = serde_saphyr::from_str(&yaml.out).unwrap();
    assert_eq!(read, expected, "tags that look like numbers stay texts:\n{}", yaml.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_missing_is_found_by_looking_deep() {
    let harness = Harness::with(&["whole", "broken"]).await;
    harness
        .primary
        .tag("web", "alias", &harness.primary.push("web", "broken", "broken"));
    harness.fallback.tag(
        "kev/web",
        "alias",
        &harness.fallback.push("kev/web", "broken", "broken"),
    );
    let ran = harness.diff(&["--deep"]).await;
    let all = "3 tags: 3 the same, all of it can be pulled from both sides\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, all, ""));
    let (_, body) = harness.primary.manifest("web", "broken").unwrap();
    let manifest: Value = serde_json::from_slice(&body).unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    harness.fallback.clean_up("kev/web", &layer);
    assert_eq!(harness.diff(&[]).await.code, 0, "the digests are the same");
    let ran = harness.diff(&["--deep"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let lines: Vec<&str> = ran.out.lines().collect();
    let short: String = layer.to_string().chars().take("sha256:".len() + 12).collect();
    for (line, tag) in [(lines[1], "alias"), (lines[2], "broken")] {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [tag, "Broken", "whole", "no", "layer", &short], "{ran:?}");
    }
    assert_eq!(lines[4], "3 tags: 3 the same, 2 broken: content is missing");
    let ran = harness.diff(&["--deep", "-o", "json", "--include", "^broken$"]).await;
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let expected = json!([{
        "tag": "broken", "side": "Fallback", "part": "Layer", "digest": layer.to_string(), "platform": null,
    }]);
    assert_eq!((ran.code, &document["broken"]), (1, &expected));
    // What can't be read is not said to be whole, nor broken.
    harness.fallback.fault(Fault::on("/blobs/", What::html(404)));
    assert_could_not_tell(&harness.diff(&["--deep"]).await, "failed to inspect the tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_without_its_digest_is_found_by_looking_deep() {
    let harness = Harness::with(&["same", "sound"]).await;
    harness.primary.push("web", "differs", "one");
    let other = harness.fallback.push("kev/web", "differs", "other");
    let same = harness.primary.push("web", "same", "same");
    let (media_type, forged) = harness.primary.manifest("web", "sound").unwrap();
    for digest in [&same, &other] {
        let path = format!("/manifests/{digest}");
        let says = What::Answer {
            status: 200,
            headers: vec![("content-type".to_owned(), media_type.clone())],
            body: String::from_utf8(forged.to_vec()).unwrap(),
        };
        harness.fallback.fault(Fault::on(&path, says));
    }
    let ran = harness.diff(&["--deep"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let short = |digest: &Digest| {
        digest
            .to_string()
            .chars()
            .take("sha256:".len() + 12)
            .collect::<String>()
    };
    let line = |tag: &str, state: &str| -> Vec<String> {
        let found = ran.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut found = found.filter(|words| words[..2] == [tag, state]);
        let words = found.next().unwrap_or_else(|| panic!("no {state} {tag}: {ran:?}"));
        words[2..].iter().map(|word| (*word).to_owned()).collect()
    };
    for (tag, digest) in [("same", &same), ("differs", &other)] {
        let expected = ["whole", "other", "content", "as", "manifest", &short(digest)];
        assert_eq!(line(tag, "Untrusted"), expected, "{ran:?}");
    }
    let sum = "3 tags: 2 the same, 1 with different digests, 2 untrusted: content does not have its digest";
    assert_eq!(ran.out.lines().last(), Some(sum));
    let ran = harness.diff(&["--deep", "-o", "json", "--include", "^same$"]).await;
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let expected = json!([{
        "tag": "same", "side": "Fallback", "part": "Manifest", "digest": same.to_string(), "platform": null,
    }]);
    assert_eq!((ran.code, &document["untrusted"]), (1, &expected));
    assert_eq!(document["broken"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_differ_are_explained_by_looking_deep() {
    let harness = Harness::with(&["same"]).await;
    harness.primary.push("web", "layers", "one");
    harness.fallback.push("kev/web", "layers", "other");
    let image = harness.primary.push("web", "image", "x");
    harness.fallback.push("kev/web", "x", "x");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{image}","size":1,"platform":{{"os":"linux","architecture":"arm64"}}}}]}}"#
    );
    let index = harness.fallback.put_manifest("kev/web", None, IMAGE_INDEX, index);
    harness.fallback.tag("kev/web", "image", &index);
    let ran = harness.diff(&["--deep", "--include", "^(same|layers|image)$"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].ends_with("DIFFERENCE"), "{ran:?}");
    let single = "an index on the fallback, a single image on the primary, which is its linux/arm64";
    assert!(lines[1].starts_with("image") && lines[1].ends_with(single), "{ran:?}");
    assert!(
        lines[2].starts_with("layers") && lines[2].ends_with("other layers"),
        "{ran:?}"
    );
    let ran = harness.diff(&["--deep", "-o", "json", "--include", "^layers$"]).await;
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let difference = &document["differences"][0];
    assert_eq!(
        (&difference["difference"], &difference["explanation"]),
        (&json!("Layers"), &json!("other layers"))
    );
    // Without that nobody reads manifests.
    let ran = harness.diff(&["--include", "^layers$"]).await;
    assert!(!ran.out.contains("DIFFERENCE"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_selected_tags_are_read() {
    let harness = Harness::with(&["1.0", "1.1", "dev"]).await;
    harness.primary.push("web", "dev-2", "x");
    harness
        .primary
        .push("web", &format!("sha256-{}.sig", "a".repeat(64)), "a signature");
    let ran = harness.diff(&["--include", r"^1\.", "--exclude", "^1.1$"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "1 tag: 1 the same\n"));
    assert_eq!(harness.primary.count("/manifests/"), 1);
    let ran = harness.diff(&["--exclude", "^dev"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "2 tags: 2 the same\n"),
        "referrers' tags never count"
    );
    assert_could_not_tell(&harness.diff(&["--include", "^2"]).await, "there is no tag to compare");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tag_is_compared_without_listing() {
    let harness = Harness::with(&["1"]).await;
    harness.primary.push("web", "2", "x");
    harness.primary.push("web", "3", "x");
    harness.fallback.push("kev/web", "3", "y");
    let ran = harness.diff_of(":1", &[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "1 tag: 1 the same\n"));
    let ran = harness.diff_of(":2", &[]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.ends_with("1 tag: 0 the same, 1 missing on the fallback\n"),
        "{ran:?}"
    );
    let ran = harness.diff_of(":3", &[]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.ends_with("1 tag: 0 the same, 1 with different digests\n"),
        "{ran:?}"
    );
    assert_eq!(
        harness.primary.count("/tags/list") + harness.fallback.count("/tags/list"),
        0
    );
    assert_could_not_tell(&harness.diff_of(":4", &[]).await, "neither side has the tag '4'");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_one_side_lacks_counts_as_empty() {
    let harness = Harness::with(&["1", "2"]).await;
    harness.fallback.delete_repository("kev/web");
    let ran = harness.diff(&[]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.ends_with("2 tags: 0 the same, 2 missing on the fallback\n"),
        "{ran:?}"
    );
    assert!(
        ran.err.starts_with("note: ") && ran.err.contains("/kev/web' does not exist"),
        "{ran:?}"
    );
    assert_eq!(harness.diff(&["--quiet"]).await.err, "");
    let ran = harness.diff_of(":1", &[]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the repository of '"), "{ran:?}");
    harness.primary.delete_repository("web");
    assert_could_not_tell(&harness.diff(&[]).await, "neither repository exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_vanishes_while_it_is_read_is_missing() {
    let harness = Harness::with(&["1", "2"]).await;
    let gone = What::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
    harness.fallback.fault(Fault::on("/manifests/2", gone));
    let (code, document) = harness.document().await;
    assert_eq!(
        (code, &document["missingOnFallback"], &document["tags"]),
        (1, &json!(1), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_request_that_fails_for_good_means_could_not_tell() {
    let cases = [
        (
            "/tags/list",
            What::status(503),
            "/v2/kev/web/tags/list",
            "503 Service Unavailable",
        ),
        (
            "/manifests/2",
            What::status(500),
            "/v2/kev/web/manifests/2",
            "500 Internal Server Error",
        ),
        (
            "/manifests/2",
            What::html(404),
            "/v2/kev/web/manifests/2",
            "404 Not Found",
        ),
        (
            "/manifests/2",
            What::error(403, "DENIED", "no"),
            "/v2/kev/web/manifests/2",
            "403 Forbidden",
        ),
        (
            "/token",
            What::error(401, "UNAUTHORIZED", "no"),
            "/token",
            "no credentials were given for 127.0.0.1",
        ),
        (
            "/tags/list",
            What::Close,
            "/v2/kev/web/tags/list",
            "GET https://127.0.0.1",
        ),
    ];
    for (path, what, request, cause) in cases {
        let harness = Harness::with(&["1", "2", "3"]).await;
        harness.primary.push("web", "4", "differs");
        let case = format!("{path} {what:?}");
        harness.fallback.fault(Fault::on(path, what));
        let ran = harness.diff(&[]).await;
        assert_could_not_tell(&ran, cause);
        assert!(ran.err.contains(request), "{case}: {ran:?}");
        assert!(ran.err.starts_with("error: failed to compare '"), "{case}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_both_sides_is_said_at_once() {
    let harness = Harness::with(&["1"]).await;
    for registry in [&harness.primary, &harness.fallback] {
        registry.fault(Fault::on("/tags/list", What::error(403, "DENIED", "no")));
    }
    let ran = harness.diff(&[]).await;
    assert_could_not_tell(&ran, "/v2/web/tags/list");
    assert_could_not_tell(&ran, "/v2/kev/web/tags/list");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_itself_is_waited_for() {
    let harness = Harness::with(&["1", "2", "3"]).await;
    harness
        .primary
        .fault(Fault::on("/manifests/1", What::status(502)).times(1));
    harness
        .fallback
        .fault(Fault::on("/manifests/2", What::throttled(Some("1"))).times(1));
    let ran = harness.diff(&[]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "3 tags: 3 the same\n"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_docker_configuration() {
    let harness = Harness::with(&["1"]).await;
    harness.fallback.set_account(Some(("kev", "s3cret")));
    // kev:s3cret and kev:wrong
    let entry = |auth: &str| json!({"auths": {harness.fallback.address().to_string(): {"auth": auth}}}).to_string();
    harness.write("elsewhere.json", &entry("a2V2OnMzY3JldA=="));
    let elsewhere = harness.file("elsewhere.json").display().to_string();

    assert_could_not_tell(&harness.diff(&[]).await, "no credentials were given for 127.0.0.1");
    assert_eq!(harness.diff(&["--docker-config", &elsewhere]).await.code, 0);
    harness.write(".docker/config.json", &entry("a2V2Ondyb25n"));
    let refused = harness.diff(&[]).await;
    assert_could_not_tell(&refused, "401 Unauthorized");
    assert!(
        !refused.err.contains("wrong") && !refused.err.contains("no credentials"),
        "{refused:?}"
    );
    harness.write(".docker/config.json", &entry("a2V2OnMzY3JldA=="));
    assert_eq!(harness.diff(&[]).await.code, 0);
    let to_primary = harness.primary.requests();
    assert!(
        to_primary.iter().all(|request| request
            .authorization
            .as_ref()
            .is_none_or(|sent| sent.starts_with("Bearer "))),
        "the fallback's credentials stay with the fallback"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_out_of_reach_are_named() {
    let harness = Harness::with(&["1"]).await;
    let helper = json!({"credHelpers": {harness.fallback.address().to_string(): "desktop"}}).to_string();
    harness.write(".docker/config.json", &helper);
    assert_could_not_tell(&harness.diff(&[]).await, "docker-credential-desktop");
    assert_could_not_tell(
        &harness.diff(&["--docker-config", "/nowhere/config.json"]).await,
        "/nowhere/config.json",
    );
    assert_eq!(
        harness.primary.connections() + harness.fallback.connections(),
        0,
        "nothing was asked before"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn token_hosts_are_admitted_by_name_only() {
    let harness = Harness::with(&["1"]).await;
    let host = harness.primary.address().to_string();
    let realm = Some(format!("https://{host}/token"));
    harness.fallback.set_auth(Auth::Bearer {
        realm,
        expires_in: None,
    });
    let ran = harness.diff(&[]).await;
    assert_could_not_tell(&ran, "is not admitted");
    assert_could_not_tell(&ran, "--token-host");
    let admitted = harness.diff(&["--token-host", &host]).await;
    // The token is the primary's, so the fallback refuses it; but it was fetched there.
    assert_could_not_tell(&admitted, "401 Unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_not_trusted() {
    let harness = Harness::with(&["1"]).await;
    std::fs::write(harness.file("ca.pem"), harness.primary.ca_pem()).unwrap();
    assert_could_not_tell(
        &harness.diff(&[]).await,
        &format!("https://{}", harness.fallback.address()),
    );
    std::fs::write(harness.file("ca.pem"), "no certificate").unwrap();
    assert_could_not_tell(&harness.diff(&[]).await, "failed to load the trusted certificates");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_listings_are_read_to_their_end_within_the_bounds_asked_for() {
    let tags: Vec<String> = (0..60).map(|number| format!("v{number:02}")).collect();
    let harness = Harness::with(&tags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    harness.primary.set_page_size(7);
    harness.fallback.untag("kev/web", "v59");
    let ran = harness.diff(&["--parallel", "1", "--per-minute", "60000"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.ends_with("60 tags: 59 the same, 1 missing on the fallback\n"),
        "{ran:?}"
    );
    assert_eq!(
        harness.primary.count("/tags/list"),
        10,
        "nine pages, and the first asked for again with a token"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_repository_twice_is_the_same_and_noted() {
    let harness = Harness::with(&["1"]).await;
    let repository = format!("{}/web", harness.primary.address());
    let (home, ca) = (
        harness.home.path().to_owned(),
        harness.file("ca.pem").display().to_string(),
    );
    let ran =
        tokio::task::spawn_blocking(move || catamaran(&home, &["diff", &repository, &repository, "--ca-file", &ca]));
    let ran = ran.await.unwrap();
    assert_eq!((ran.code, ran.out.as_str()), (0, "1 tag: 1 the same\n"));
    assert_eq!(ran.err, "note: both sides are the same repository\n");
}
