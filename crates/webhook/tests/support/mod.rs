//! Mirrors, reviews and applied patches for the tests and the benchmark.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_core::evidence::{Evidence, Verdict};
use catamaran_core::policy::{MirrorId, MirrorPolicy, SidePolicy};
use catamaran_core::routes::{Route, RouteTable};
use catamaran_core::side::{Side, Sides};
use catamaran_webhook::metrics::{Outcome, Tally};
use catamaran_webhook::{Identity, review};
use serde_json::Value;

/// A new Pod of a ReplicaSet: an init container and two containers, 7.7 kB.
pub const CREATE: &str = include_str!("../fixtures/create.json");
/// An update of the image of one of its containers.
pub const UPDATE: &str = include_str!("../fixtures/update.json");
/// `kubectl debug` on it.
pub const EPHEMERAL: &str = include_str!("../fixtures/ephemeral.json");
/// A new Pod of an operator that compares images.
pub const CONTROLLER_OWNED: &str = include_str!("../fixtures/controller-owned.json");
/// A new Pod with an image volume, pull secrets and an image of nobody's mirror.
pub const IMAGE_VOLUME: &str = include_str!("../fixtures/image-volume.json");
/// A new Pod with `null` annotations and escapes everywhere.
pub const ESCAPES: &str = include_str!("../fixtures/escapes.json");

fn side(registry: &str, prefix: &str, secret: &str) -> SidePolicy {
    SidePolicy {
        registry: registry.to_owned(),
        prefix: prefix.to_owned(),
        image_pull_secrets: vec![secret.to_owned()],
        ..SidePolicy::default()
    }
}

/// A mirror of everything below `kracr.azurecr.io/PATH` and `ghcr.io/devopskev/PATH`.
pub fn mirror(name: &str, path: &str) -> MirrorPolicy {
    let fallback = format!("devopskev/{path}");
    let id = MirrorId {
        name: name.into(),
        uid: format!("uid-{name}").into(),
    };
    let sides = Sides {
        primary: side("kracr.azurecr.io", path, "acr-pull"),
        fallback: side("ghcr.io", fallback.trim_end_matches('/'), "ghcr-pull"),
    };
    MirrorPolicy::new(id, jiff::Timestamp::UNIX_EPOCH, sides)
}

/// What was verified of the repositories that the fixtures name.
pub fn evidence() -> Evidence {
    let mut builder = Evidence::builder();
    for (repository, tag) in [
        ("shop/web", "3f2a91c"),
        ("shop/web", "77aa012"),
        ("shop/assets", "9"),
        ("tools/debug", "2.1"),
    ] {
        builder.insert(repository, tag, Verdict::InSync);
    }
    builder.insert("shop/missing", "1", Verdict::MissingOnFallback);
    builder.insert("shop/mismatch", "1", Verdict::Mismatched);
    builder.build()
}

/// One mirror of everything, at epoch 7.
pub fn table(active: Side) -> RouteTable {
    table_of(vec![Route {
        policy: Arc::new(mirror("apps", "")),
        active,
        epoch: 7,
        evidence: Arc::new(evidence()),
    }])
}

/// These mirrors, without namespace labels.
pub fn table_of(routes: Vec<Route>) -> RouteTable {
    RouteTable::new(routes, Arc::new(BTreeMap::new()))
}

/// The operator itself.
pub fn own() -> Identity {
    Identity {
        namespace: "catamaran".to_owned(),
        username: "system:serviceaccount:catamaran:catamaran".to_owned(),
    }
}

/// A review's answer, taken apart and applied.
#[derive(Debug)]
pub struct Answered {
    pub outcome: Outcome,
    pub images: Tally,
    /// The whole answer.
    pub answer: Value,
    /// Its patch; empty without one.
    pub patch: json_patch::Patch,
    /// The object, patched.
    pub object: Value,
}

impl Answered {
    /// A string in the patched object.
    pub fn at(&self, pointer: &str) -> Option<&str> {
        self.object.pointer(pointer).and_then(Value::as_str)
    }

    /// One of Catamaran's annotations.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.at(&format!("/metadata/annotations/catamaran.dev~1{name}"))
    }

    /// One of them that holds JSON.
    pub fn notes(&self, name: &str) -> Value {
        self.annotation(name)
            .map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    }

    /// The warning, or nothing.
    pub fn warning(&self) -> &str {
        self.answer
            .pointer("/response/warnings/0")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// Reviews a body; checks what must hold for every answer, whatever the body.
pub fn answer(body: &[u8], table: Option<&RouteTable>) -> Answered {
    let reviewed = review(body, table, &own());
    let answer: Value = serde_json::from_slice(&reviewed.response).unwrap();
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(
        answer.pointer("/response/allowed"),
        Some(&Value::Bool(true)),
        "{answer}"
    );
    let patch = answer
        .pointer("/response/patch")
        .map_or_else(json_patch::Patch::default, |patch| {
            assert_eq!(answer.pointer("/response/patchType"), Some(&"JSONPatch".into()));
            let text = STANDARD.decode(patch.as_str().unwrap()).unwrap();
            serde_json::from_slice(&text).unwrap()
        });
    // Depth and numbers that a review bears are more than a `Value` does; such an object stays null.
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut object = body.pointer("/request/object").cloned().unwrap_or_default();
    if !object.is_null() {
        json_patch::patch(&mut object, &patch).unwrap();
    }
    Answered {
        outcome: reviewed.outcome,
        images: reviewed.images,
        answer,
        patch,
        object,
    }
}

/// The same review of an object that has been patched.
pub fn again(body: &str, object: &Value) -> String {
    let mut body: Value = serde_json::from_str(body).unwrap();
    *body.pointer_mut("/request/object").unwrap() = object.clone();
    body.to_string()
}

/// A fixture with the value at a pointer into its object replaced; into the request for pointers that begin with `//`.
pub fn with(body: &str, changes: &[(&str, Value)]) -> String {
    let mut body: Value = serde_json::from_str(body).unwrap();
    for (pointer, value) in changes {
        let pointer = match pointer.strip_prefix("//") {
            Some(rest) => format!("/request/{rest}"),
            None => format!("/request/object{pointer}"),
        };
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match body.pointer_mut(parent).unwrap() {
            Value::Object(fields) => {
                fields.insert(key.replace("~1", "/"), value.clone());
            }
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
            other => panic!("nothing can be set in {other}"),
        }
    }
    body.to_string()
}
