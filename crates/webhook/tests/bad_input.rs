//! Whatever arrives is allowed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod support;

use std::fmt::Write as _;

use catamaran_core::side::Side;
use catamaran_webhook::metrics::Outcome;
use serde_json::{Value, json};
use support::{CREATE, answer, table, with};

/// A body, what its review ends in, and the uid of the answer.
type Case = (&'static str, Vec<u8>, Outcome, &'static str);

const UID: &str = "0df28fbd-5f5f-11e8-bc74-36e6bb280816";

fn broken(name: &'static str, body: impl Into<Vec<u8>>, uid: &'static str) -> Case {
    (name, body.into(), Outcome::Unreadable, uid)
}

/// No review at all, or the end of one.
fn unreadable() -> Vec<Case> {
    vec![
        broken("empty", "", ""),
        broken("not JSON", "hello", ""),
        broken("null", "null", ""),
        broken("a list", "[]", ""),
        broken("an empty object", "{}", ""),
        broken("a null request", r#"{"request":null}"#, ""),
        broken("a request that is a number", r#"{"request":1}"#, ""),
        broken("a uid beyond any number", r#"{"request":{"uid":1e999999}}"#, ""),
        broken("cut off after the uid", &CREATE[..CREATE.len() / 2], UID),
        broken("trailing bytes", format!("{CREATE}x"), UID),
        broken(
            "a creation without an object",
            with(CREATE, &[("//object", Value::Null)]),
            UID,
        ),
    ]
}

/// Reviews with something in them that can't be.
fn damaged() -> Vec<Case> {
    let open_list = format!("\"affinity\":{}{{", "[".repeat(10_000));
    let mut not_utf8 = CREATE.replace("shop/web:", "sh?p/web:").into_bytes();
    let at = not_utf8.windows(4).position(|window| window == b"sh?p").unwrap();
    not_utf8[at + 2] = 0xff;
    let surrogate = CREATE.replace("shop/web:", "shop\\ud800web:");
    let set = |pointer: &str, value: Value| with(CREATE, &[(pointer, value)]);
    vec![
        broken(
            "an open list of depth 10,000",
            CREATE.replace("\"affinity\":{", &open_list),
            UID,
        ),
        broken("invalid UTF-8 in an image", not_utf8, UID),
        broken("a lone surrogate in an image", surrogate, UID),
        broken(
            "an image that is a number",
            set("/spec/containers/0/image", json!(7)),
            UID,
        ),
        broken("containers that are an object", set("/spec/containers", json!({})), UID),
        (
            "5,000 containers",
            set("/spec/containers", json!(vec![json!({}); 5_000])).into(),
            Outcome::TooLong,
            UID,
        ),
        (
            "5,000 volumes",
            set("/spec/volumes", json!(vec![json!({}); 5_000])).into(),
            Outcome::TooLong,
            UID,
        ),
        (
            "257 labels",
            set("/metadata/labels", many_labels()).into(),
            Outcome::TooLong,
            UID,
        ),
        broken("labels that are numbers", set("/metadata/labels", json!({"a": 1})), UID),
        broken(
            "containers nested as deep as they go",
            set("/spec/containers", nested(120)),
            UID,
        ),
    ]
}

fn many_labels() -> Value {
    let labels = (0..257).map(|number| (number.to_string(), json!("")));
    Value::Object(labels.collect())
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!([]), |inner, _| json!([inner]))
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
    for (name, body, outcome, uid) in [unreadable(), damaged(), unsupported()].concat() {
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

fn odd_texts() -> Vec<(&'static str, String)> {
    let mut deep = String::new();
    write!(
        deep,
        "\"affinity\":{}{},\"x\":{{",
        "[".repeat(10_000),
        "]".repeat(10_000)
    )
    .unwrap();
    let image = "\"name\":\"web\",\"image\":";
    let replace = |from: &str, to: &str| {
        assert!(CREATE.contains(from), "{from}");
        CREATE.replace(from, to)
    };
    vec![
        ("a value of depth 10,000", replace("\"affinity\":{", &deep)),
        (
            "a lone surrogate where nobody looks",
            replace("\"dnsPolicy\":\"", "\"dnsPolicy\":\"\\udfff"),
        ),
        (
            "a number beyond any",
            replace("\"priority\":0", "\"priority\":-1e999999999"),
        ),
        (
            "unknown fields",
            replace("\"dnsPolicy\"", "\"a\":[{\"b\":null}],\"dnsPolicy\""),
        ),
        (
            "of two equal keys the later",
            replace(image, &format!("{image}\"x\",\"image\":")),
        ),
        (
            "an escaped key",
            replace(image, "\"name\":\"web\",\"im\\u0061ge\":\"x\",\"image\":"),
        ),
        ("white space around", format!(" \n\t{CREATE}\r\n ")),
    ]
}

fn odd_values() -> Vec<(&'static str, String)> {
    let set = |changes: &[(&str, Value)]| with(CREATE, changes);
    let null = Value::Null;
    vec![
        ("dryRun null", set(&[("//dryRun", null.clone())])),
        ("an old object that is null", set(&[("//oldObject", null.clone())])),
        (
            "null ephemeral containers",
            set(&[("/spec/ephemeralContainers", null.clone())]),
        ),
        ("null volumes", set(&[("/spec/volumes", null.clone())])),
        ("null secrets", set(&[("/spec/imagePullSecrets", null.clone())])),
        ("null metadata", set(&[("/metadata", null.clone())])),
        (
            "containers of one name",
            set(&[("/spec/initContainers/0/name", "web".into())]),
        ),
        (
            "a container without an image",
            set(&[("/spec/containers/1/image", null)]),
        ),
        (
            "a container with an empty image",
            set(&[("/spec/containers/1/image", "".into())]),
        ),
        (
            "an image that is no reference",
            set(&[("/spec/containers/1/image", "../..:é\u{0}".into())]),
        ),
    ]
}

#[test]
fn what_is_odd_but_harmless_is_reviewed_like_any_other() {
    let image = "ghcr.io/devopskev/shop/web:3f2a91c";
    let expected = json!({"op": "replace", "path": "/spec/containers/0/image", "value": image});
    for (name, body) in [odd_texts(), odd_values()].concat() {
        let answered = answer(body.as_bytes(), Some(&table(Side::Fallback)));
        assert_eq!(answered.outcome, Outcome::Patched, "{name}: {}", answered.warning());
        assert_eq!(serde_json::to_value(&answered.patch).unwrap()[0], expected, "{name}");
    }
}

#[test]
fn pods_without_containers_and_with_the_most_are_reviewed() {
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
    let many = with(CREATE, &[("/spec/containers", (0..256).map(container).collect())]);
    let answered = answer(many.as_bytes(), Some(&table(Side::Fallback)));
    assert_eq!(
        answered.at("/spec/containers/255/image"),
        Some("ghcr.io/devopskev/shop/c255:1")
    );
}
