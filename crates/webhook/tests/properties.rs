//! What holds for every Pod and every set of mirrors.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod support;

use std::sync::Arc;

use catamaran_core::policy::{MismatchedTags, RewriteMode, UnverifiedTags};
use catamaran_core::routing::evidence::{Knowledge, Presence};
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::side::{Side, Sides};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use support::{CREATE, again, answer, mirror, table_of};

fn image() -> impl Strategy<Value = Value> {
    let registry = select(vec![
        "kracr.azurecr.io",
        "ghcr.io/devopskev",
        "ghcr.io",
        "quay.io",
        "docker.io",
        "KRACR.azurecr.io",
        "",
    ]);
    let path = select(vec![
        "shop/web",
        "shop",
        "platform/exporter",
        "web",
        "shop//web",
        "shop/Web",
    ]);
    let suffix = select(vec![
        "",
        ":1",
        ":2",
        ":latest",
        "@sha256:9b2e1d7a4c6f80b35d1e92a7c4b8f0e6d3a5917c2b4e8f6071d9a3c5b7e2f4a8",
        ":1@sha256:00",
        ":",
    ]);
    prop_oneof![
        8 => (registry, path, suffix).prop_map(|(registry, path, suffix)| json!(format!("{registry}/{path}{suffix}"))),
        1 => any::<String>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-d]", 1 => "[a-z~/\"\\\\\\u{0}é]{0,6}"]
}

fn containers() -> impl Strategy<Value = Value> {
    let container = (name(), image(), select(vec!["Always", "Never", ""]))
        .prop_map(|(name, image, policy)| json!({"name": name, "image": image, "imagePullPolicy": policy, "env": []}));
    prop_oneof![4 => prop::collection::vec(container, 0..4).prop_map(Value::from), 1 => Just(Value::Null)]
}

fn volumes() -> impl Strategy<Value = Value> {
    let volume = (name(), image(), any::<bool>()).prop_map(|(name, image, is_image)| {
        if is_image {
            json!({"name": name, "image": {"reference": image}})
        } else {
            json!({"name": name, "emptyDir": {}})
        }
    });
    prop::collection::vec(volume, 0..3).prop_map(Value::from)
}

fn secrets() -> impl Strategy<Value = Value> {
    let name = select(vec!["acr-pull", "ghcr-pull", "own"]).prop_map(|name| json!({"name": name}));
    prop_oneof![
        Just(Value::Null),
        prop::collection::vec(name, 0..3).prop_map(Value::from)
    ]
}

fn annotations() -> impl Strategy<Value = Value> {
    let notes = prop_oneof![
        prop::collection::btree_map(name(), "[a-z./:]{0,20}", 0..3)
            .prop_map(|notes| serde_json::to_string(&notes).unwrap()),
        Just("{\"a\":\"kracr.azurecr.io/shop/web:1\",\"b\":\"ghcr.io/devopskev/web:2\"}".to_owned()),
        any::<String>(),
    ];
    let key = select(vec![
        "catamaran.dev/original-images",
        "catamaran.dev/reasons",
        "catamaran.dev/mirror",
        "team",
        "a/b~c",
    ]);
    let value = prop_oneof![
        notes,
        select(vec!["apps@3", "shop@1,apps@2", "@", ","]).prop_map(str::to_owned)
    ];
    prop_oneof![
        1 => Just(Value::Null),
        4 => prop::collection::btree_map(key, value, 0..4)
            .prop_map(|all| all.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect::<Map<_, _>>().into()),
    ]
}

/// A Pod, with or without each part.
fn pod() -> impl Strategy<Value = Value> {
    let owner = select(vec![
        json!(null),
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet"}]),
        json!([{"kind": "Cluster", "controller": true}]),
    ]);
    let label = select(vec![
        json!(null),
        json!({"app": "web"}),
        json!({"catamaran.dev/rewrite": "disabled"}),
    ]);
    let metadata = (annotations(), owner, label).prop_map(|(annotations, owners, labels)| {
        json!({"name": "p", "annotations": annotations, "ownerReferences": owners, "labels": labels})
    });
    let metadata = prop_oneof![8 => metadata, 1 => Just(Value::Null)];
    (metadata, containers(), containers(), containers(), volumes(), secrets(), any::<u8>()).prop_map(
        |(metadata, containers, init, ephemeral, volumes, secrets, present)| {
            let mut pod = json!({
                "metadata": metadata,
                "spec": {"containers": containers, "initContainers": init, "ephemeralContainers": ephemeral, "volumes": volumes,
                    "imagePullSecrets": secrets, "nodeName": "n"},
                "status": {"phase": "Pending"},
            });
            let fields = ["metadata", "spec", "containers", "initContainers", "ephemeralContainers", "volumes", "imagePullSecrets"];
            // One of eight Pods lacks one of its fields.
            if let Some(field) = fields.get(usize::from(present) % 64) {
                for object in [&["spec"][..], &[]] {
                    let object = object.iter().try_fold(&mut pod, |object, key| object.get_mut(key));
                    if let Some(Value::Object(fields)) = object {
                        fields.remove(*field);
                    }
                }
            }
            pod
        },
    )
}

fn knowledge() -> impl Strategy<Value = Knowledge> {
    let presence = || select(vec![Presence::Unknown, Presence::Present, Presence::Absent]);
    (presence(), presence(), any::<bool>()).prop_map(|(primary, fallback, same)| {
        let mut knowledge = Knowledge::NOTHING;
        knowledge.presence.primary = primary;
        knowledge.presence.fallback = fallback;
        knowledge.same = same && knowledge.is_on_both();
        knowledge
    })
}

/// The settings and the state of one mirror.
#[derive(Clone, Debug)]
struct AnyMirror {
    path: &'static str,
    active: Side,
    flags: [bool; 6],
    epoch: u64,
    records: Vec<(&'static str, &'static str, Knowledge)>,
}

fn any_mirror() -> impl Strategy<Value = AnyMirror> {
    let record = (
        select(vec!["shop/web", "web", "exporter"]),
        select(vec!["1", "2", "latest", support::EXPORTER_DIGEST]),
        knowledge(),
    );
    let records = prop::collection::vec(record, 0..6);
    let path = select(vec!["", "shop", "platform"]);
    let active = select(Side::ALL.to_vec());
    (path, active, any::<[bool; 6]>(), 1..9_u64, records).prop_map(|(path, active, flags, epoch, records)| AnyMirror {
        path,
        active,
        flags,
        epoch,
        records,
    })
}

impl AnyMirror {
    fn route(&self, name: &str) -> Route {
        let [strict, audit, unobserved, swaps, primary, fallback] = self.flags;
        let mut policy = mirror(name, self.path);
        if strict {
            policy.rewrite.unverified = UnverifiedTags::Keep;
        }
        if audit && primary {
            policy.rewrite.mode = RewriteMode::Audit;
        }
        if swaps {
            policy.rewrite.mismatched = MismatchedTags::WhenUnavailable;
        }
        let records = self.records.iter();
        let known =
            records.map(|(repository, reference, knowledge)| (policy.key(repository, None, reference), *knowledge));
        let evidence = Arc::new(known.collect());
        let mut route = Route {
            epoch: self.epoch,
            evidence,
            unavailable: Sides { primary, fallback },
            ..support::route(policy, self.active)
        };
        if unobserved && fallback {
            route.observed = Arc::default();
        }
        route
    }
}

fn mirrors() -> impl Strategy<Value = RouteTable> {
    let names = ["apps", "shop", "web", "all"];
    prop::collection::vec(any_mirror(), 0..4).prop_map(move |mirrors| {
        let routes = mirrors.iter().zip(names).map(|(mirror, name)| mirror.route(name));
        table_of(routes.collect())
    })
}

/// Takes out of a Pod everything that a review may change.
fn without_what_may_change(mut pod: Value) -> Value {
    if let Some(Value::Object(annotations)) = pod.pointer_mut("/metadata/annotations") {
        annotations.retain(|key, _| !key.starts_with("catamaran.dev/"));
    }
    // An added object and an absent one are the same once emptied.
    if let Some(Value::Object(metadata)) = pod.get_mut("metadata") {
        metadata.retain(|key, value| key != "annotations" || value.as_object().is_some_and(|all| !all.is_empty()));
    }
    if pod["metadata"].as_object().is_none_or(Map::is_empty) {
        pod["metadata"] = Value::Null;
    }
    let Some(Value::Object(spec)) = pod.get_mut("spec") else {
        return pod;
    };
    spec.remove("imagePullSecrets");
    for (field, pointer) in [
        ("containers", "/image"),
        ("initContainers", "/image"),
        ("ephemeralContainers", "/image"),
        ("volumes", "/image/reference"),
    ] {
        let Some(Value::Array(items)) = spec.get_mut(field) else {
            continue;
        };
        for image in items.iter_mut().filter_map(|item| item.pointer_mut(pointer)) {
            *image = Value::Null;
        }
    }
    pod
}

fn secret_names(pod: &Value) -> Vec<&str> {
    let secrets = pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    secrets
        .into_iter()
        .flatten()
        .filter_map(|secret| secret["name"].as_str())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// The patch applies (`answer` does), touches only images, pull secrets and our annotations, and is a fixpoint.
    #[test]
    fn a_patch_applies_stays_within_bounds_and_is_empty_the_second_time(pod in pod(), table in mirrors()) {
        let body = again(CREATE, &pod);
        let first = answer(body.as_bytes(), Some(&table));
        prop_assert_eq!(without_what_may_change(first.object.clone()), without_what_may_change(pod.clone()));
        let (before, after) = (secret_names(&pod), secret_names(&first.object));
        prop_assert_eq!(&after[..before.len()], &before[..], "present secrets stay where they are");
        let second = answer(again(CREATE, &first.object).as_bytes(), Some(&table));
        prop_assert_eq!(&second.patch.0[..], &[], "a second pass over {}", first.object);
    }

    /// What is rewritten keeps its tag and digest.
    #[test]
    fn tags_and_digests_survive(pod in pod(), table in mirrors()) {
        let answered = answer(again(CREATE, &pod).as_bytes(), Some(&table));
        let images = |pod: &Value| -> Vec<String> {
            let containers = pod.pointer("/spec/containers").and_then(Value::as_array).cloned().unwrap_or_default();
            containers.iter().map(|container| container["image"].as_str().unwrap_or_default().to_owned()).collect()
        };
        for (before, after) in images(&pod).into_iter().zip(images(&answered.object)) {
            if before != after {
                let suffix = |image: &str| {
                    let path = image.rfind('/').map_or(0, |slash| slash + 1);
                    let at = image[path..].find([':', '@']).map_or(image.len(), |suffix| path + suffix);
                    image[at..].to_owned()
                };
                prop_assert_eq!(suffix(&before), suffix(&after), "{} became {}", before, after);
            }
        }
    }

    /// Any bytes at all are answered, and so is a review with any bytes changed.
    #[test]
    fn any_bytes_are_allowed(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..7000_usize) {
        let table = support::table(Side::Fallback);
        catamaran_webhook::review(&bytes, Some(&table), support::OWN_USER);
        let mut body = CREATE.as_bytes().to_vec();
        body.splice(at..at + bytes.len().min(8), bytes.iter().copied());
        let reviewed = catamaran_webhook::review(&body, Some(&table), support::OWN_USER);
        let answer: Value = serde_json::from_slice(&reviewed.response).unwrap();
        prop_assert_eq!(answer.pointer("/response/allowed"), Some(&Value::Bool(true)));
    }
}

#[test]
fn fuzzed_reviews_are_allowed_with_a_patch_that_stays_within_bounds() {
    let samples = [
        CREATE,
        support::UPDATE,
        support::EPHEMERAL,
        support::CONTROLLER_OWNED,
        support::IMAGE_VOLUME,
        support::ESCAPES,
    ];
    let table = support::table(Side::Fallback);
    let property = |body: Vec<u8>| {
        let answered = answer(&body, Some(&table));
        let size = answered.answer.to_string().len();
        prop_assert!(size <= 2 * body.len() + 4096, "{} bytes for {}", size, body.len());
        prop_assert!(!answered.warning().contains(['\r', '\n']), "{:?}", answered.warning());
        for operation in &answered.patch.0 {
            let path = operation.path().to_string();
            let may = path.ends_with("/image")
                || path.ends_with("/image/reference")
                || path.starts_with("/spec/imagePullSecrets")
                || path.starts_with("/metadata/annotations");
            prop_assert!(may, "{}", path);
        }
        Ok(())
    };
    catamaran_fuzz::run(file!(), "reviews", &catamaran_fuzz::mutated(&samples), property);
}
