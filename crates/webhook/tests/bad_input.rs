//! Whatever arrives is allowed.

mod support;

use std::fmt::Write as _;

use catamaran_core::side::Side;
use catamaran_webhook::metrics::Outcome;
use serde_json::{Value, json};
use support::{CREATE, answer, table, with};

/// A body, what its review ends in, and the uid of the answer.
type Case = (&'static str, Vec<u8>, Outcome, &'static str);

const UID: &str = "0df28fbd-5f5f-11e8-bc74-36e6bb280816";

fn unreadable() -> Vec<Case> {
    let broken = |name, body: Vec<u8>, uid| (name, body, Outcome::Unreadable, uid);
    let deep = "[".repeat(10_000);
    let mut not_utf8 = CREATE
        .replace("kracr.azurecr.io/shop/web", "kracr.azurecr.io/sh?p/web")
        .into_bytes();
    let at = not_utf8.windows(4).position(|window| window == b"sh?p").unwrap();
    not_utf8[at + 2] = 0xff;
    vec![
        broken("empty", Vec::new(), ""),
        broken("not JSON", b"hello".to_vec(), ""),
        broken("null", b"null".to_vec(), ""),
        broken("a list", b"[]".to_vec(), ""),
        broken("an empty object", b"{}".to_vec(), ""),
        broken("a null request", br#"{"request":null}"#.to_vec(), ""),
        broken("a request that is a number", br#"{"request":1}"#.to_vec(), ""),
        broken(
            "cut off after the uid",
            CREATE.as_bytes()[..CREATE.len() / 2].to_vec(),
            UID,
        ),
        broken("trailing bytes", format!("{CREATE}x").into_bytes(), UID),
        broken(
            "an open list of depth 10,000",
            CREATE
                .replace("\"affinity\":{", &format!("\"affinity\":{deep}{{"))
                .into_bytes(),
            UID,
        ),
        broken("invalid UTF-8 in an image", not_utf8, UID),
        broken(
            "a lone surrogate in an image",
            CREATE.replace("shop/web:", "shop\\ud800web:").into_bytes(),
            UID,
        ),
        broken(
            "an image that is a number",
            with(CREATE, &[("/spec/containers/0/image", json!(7))]).into_bytes(),
            UID,
        ),
        broken(
            "containers that are an object",
            with(CREATE, &[("/spec/containers", json!({}))]).into_bytes(),
            UID,
        ),
        broken(
            "more containers than etcd could hold",
            with(CREATE, &[("/spec/containers", json!(vec![json!({}); 20_000]))]).into_bytes(),
            UID,
        ),
        broken(
            "labels that are numbers",
            with(CREATE, &[("/metadata/labels", json!({"a": 1}))]).into_bytes(),
            UID,
        ),
        broken(
            "a creation without an object",
            with(CREATE, &[("//object", Value::Null)]).into_bytes(),
            UID,
        ),
        broken(
            "a uid beyond any number",
            br#"{"request":{"uid":1e999999}}"#.to_vec(),
            "",
        ),
    ]
}

fn unsupported() -> Vec<Case> {
    let other = |name, body: String, uid| (name, body.into_bytes(), Outcome::Unsupported, uid);
    vec![
        other(
            "v1beta1",
            CREATE.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1"),
            UID,
        ),
        other("v2", CREATE.replace("admission.k8s.io/v1", "admission.k8s.io/v2"), UID),
        other(
            "no version",
            CREATE.replace("\"apiVersion\":\"admission.k8s.io/v1\",", ""),
            UID,
        ),
        other(
            "another kind of review",
            CREATE.replacen("AdmissionReview", "ConversionReview", 1),
            UID,
        ),
        other(
            "a Deployment",
            with(
                CREATE,
                &[(
                    "//kind",
                    json!({"group": "apps", "version": "v1", "kind": "Deployment"}),
                )],
            ),
            UID,
        ),
        other(
            "a Pod of another version",
            with(CREATE, &[("//kind/version", "v2".into())]),
            UID,
        ),
        other("no kind", with(CREATE, &[("//kind", Value::Null)]), UID),
        other(
            "another resource",
            with(CREATE, &[("//resource/resource", "services".into())]),
            UID,
        ),
    ]
}

#[test]
fn what_cannot_be_read_is_allowed_with_a_warning() {
    for (name, body, outcome, uid) in unreadable().into_iter().chain(unsupported()) {
        let answered = answer(&body, Some(&table(Side::Fallback)));
        assert_eq!(answered.outcome, outcome, "{name}");
        assert_eq!(answered.answer["response"]["uid"], uid, "{name}");
        assert_eq!(answered.patch.0, [], "{name}");
        let warning = answered.warning();
        assert!(
            warning.starts_with("catamaran left the") && warning.len() <= 120,
            "{name}: {warning}"
        );
    }
}

#[test]
fn an_answer_is_of_the_version_that_was_asked_in() {
    for (asked, answered_in) in [("v1", "v1"), ("v1beta1", "v1beta1"), ("v2", "v1")] {
        let body = CREATE.replace("admission.k8s.io/v1", &format!("admission.k8s.io/{asked}"));
        for body in [body.as_bytes(), &body.as_bytes()[..3000]] {
            let answered = answer(body, Some(&table(Side::Fallback)));
            assert_eq!(answered.answer["apiVersion"], format!("admission.k8s.io/{answered_in}"));
        }
    }
}

#[test]
fn what_is_odd_but_harmless_is_reviewed_like_any_other() {
    let mut deep = String::new();
    write!(
        deep,
        "\"affinity\":{}{},\"x\":{{",
        "[".repeat(10_000),
        "]".repeat(10_000)
    )
    .unwrap();
    let cases = [
        ("a value of depth 10,000", CREATE.replace("\"affinity\":{", &deep)),
        (
            "a lone surrogate where nobody looks",
            CREATE.replace("\"dnsPolicy\":\"", "\"dnsPolicy\":\"\\udfff"),
        ),
        (
            "a number beyond any",
            CREATE.replace("\"priority\":0", "\"priority\":-1e999999999"),
        ),
        (
            "unknown fields",
            CREATE.replace("\"dnsPolicy\"", "\"a\":[{\"b\":null}],\"dnsPolicy\""),
        ),
        (
            "of two equal keys the later",
            CREATE.replace(
                "\"name\":\"web\",\"image\":",
                "\"name\":\"web\",\"image\":\"x\",\"image\":",
            ),
        ),
        (
            "the same field twice, escaped once",
            CREATE.replace(
                "\"name\":\"web\",\"image\":",
                "\"name\":\"web\",\"im\\u0061ge\":\"x\",\"image\":",
            ),
        ),
        ("dryRun null", with(CREATE, &[("//dryRun", Value::Null)])),
        (
            "an old object that is null",
            with(CREATE, &[("//oldObject", Value::Null)]),
        ),
        (
            "null lists",
            with(
                CREATE,
                &[
                    ("/spec/ephemeralContainers", Value::Null),
                    ("/spec/volumes", Value::Null),
                    ("/spec/imagePullSecrets", Value::Null),
                ],
            ),
        ),
        ("no metadata", with(CREATE, &[("/metadata", Value::Null)])),
        ("white space around", format!(" \n\t{CREATE}\r\n ")),
        (
            "a container of the same name",
            with(CREATE, &[("/spec/initContainers/0/name", "web".into())]),
        ),
        (
            "a container without an image",
            with(CREATE, &[("/spec/containers/1/image", Value::Null)]),
        ),
        (
            "a container with an empty image",
            with(CREATE, &[("/spec/containers/1/image", "".into())]),
        ),
        (
            "an image that is no reference",
            with(CREATE, &[("/spec/containers/1/image", "../..:é\u{0}".into())]),
        ),
    ];
    for (name, body) in cases {
        let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
        assert_eq!(answered.outcome, Outcome::Patched, "{name}: {}", answered.warning());
        let first = serde_json::to_value(&answered.patch).unwrap()[0].clone();
        let expected =
            json!({"op": "replace", "path": "/spec/containers/0/image", "value": "ghcr.io/devopskev/shop/web:3f2a91c"});
        assert_eq!(first, expected, "{name}");
    }
}

#[test]
fn pods_without_containers_and_with_a_thousand_are_reviewed() {
    let none = with(
        CREATE,
        &[("/spec/containers", json!([])), ("/spec/initContainers", Value::Null)],
    );
    assert_eq!(
        answer(none.as_bytes(), Some(&table(Side::Fallback))).outcome,
        Outcome::Unchanged
    );
    let container =
        |index: usize| json!({"name": format!("c{index}"), "image": format!("kracr.azurecr.io/shop/c{index}:1")});
    let many = with(CREATE, &[("/spec/containers", (0..1000).map(container).collect())]);
    let answered = answer(many.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/containers/999/image"),
        Some("ghcr.io/devopskev/shop/c999:1")
    );
}
