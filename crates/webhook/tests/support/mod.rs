//! Mirrors, reviews and applied patches for the tests and the benchmark.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_core::policy::{MirrorId, MirrorPolicy, SidePolicy};
use catamaran_core::routing::evidence::{Evidence, Knowledge, Presence};
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::side::{Side, Sides};
use catamaran_webhook::metrics::{Outcome, Tally};
use catamaran_webhook::review;
use serde_json::{Value, json};

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

/// The digest in [`CREATE`].
pub const EXPORTER_DIGEST: &str = "sha256:9b2e1d7a4c6f80b35d1e92a7c4b8f0e6d3a5917c2b4e8f6071d9a3c5b7e2f4a8";

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

/// A route of this mirror at epoch 7, whose mappings were all observed.
pub fn route(policy: MirrorPolicy, active: Side) -> Route {
    let evidence = Arc::new(evidence(&policy));
    let observed = Arc::new(policy.mappings());
    Route {
        policy: Arc::new(policy),
        active,
        epoch: 7,
        evidence,
        observed,
        unavailable: Sides::default(),
    }
}

/// What is known of the repositories that the fixtures name.
pub fn evidence(policy: &MirrorPolicy) -> Evidence {
    let in_sync = Knowledge::IN_SYNC;
    let differs = Knowledge { same: false, ..in_sync };
    let only_on = |side: Side| {
        let mut only = differs;
        only.presence[side.other()] = Presence::Absent;
        only
    };
    let records = [
        ("shop/web", "3f2a91c", in_sync),
        ("shop/web", "77aa012", in_sync),
        ("shop/assets", "9", in_sync),
        ("tools/debug", "2.1", in_sync),
        ("platform/exporter", EXPORTER_DIGEST, in_sync),
        ("shop/missing", "1", only_on(Side::Primary)),
        ("shop/extra", "1", only_on(Side::Fallback)),
        ("shop/mismatch", "1", differs),
    ];
    let prefix = &policy.sides.primary.prefix;
    let below = |path: &'static str| match prefix.as_str() {
        "" => Some(path),
        prefix => path.strip_prefix(prefix)?.strip_prefix('/'),
    };
    let known = records
        .iter()
        .filter_map(|(path, reference, knowledge)| Some((policy.key(below(path)?, None, reference), *knowledge)));
    known.collect()
}

/// One mirror of everything, at epoch 7.
pub fn table(active: Side) -> RouteTable {
    table_of(vec![route(mirror("apps", ""), active)])
}

/// These mirrors, without namespace labels, and with the operator's own namespace excluded.
pub fn table_of(routes: Vec<Route>) -> RouteTable {
    let excluded = BTreeSet::from(["catamaran".to_owned()]);
    RouteTable::new(routes, Arc::default(), Arc::new(excluded))
}

/// The operator's own user.
pub const OWN_USER: &str = "system:serviceaccount:catamaran:catamaran";

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
    let reviewed = review(body, table, OWN_USER);
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

/// A review with so many containers and init containers, filled up to `bytes` with environment variables.
pub fn sized(containers: usize, init: usize, bytes: usize) -> String {
    let with_variables = |each: usize| {
        let container = |kind: &str, index: usize| {
            let variable = |number: usize| {
                let value = format!("value {number} of a \"setting\" that someone needs, {kind}");
                json!({"name": format!("SETTING_{number}"), "value": value})
            };
            let environment: Vec<_> = (0..each).map(variable).collect();
            let image = format!("kracr.azurecr.io/shop/{kind}-{index}:3f2a91c");
            json!({"name": format!("{kind}-{index}"), "image": image, "env": environment})
        };
        let all = |kind: &str, count: usize| (0..count).map(|index| container(kind, index)).collect();
        let lists = [
            ("/spec/containers", all("app", containers)),
            ("/spec/initContainers", all("init", init)),
        ];
        with(CREATE, &lists)
    };
    let (none, hundred) = (with_variables(0).len(), with_variables(100).len());
    with_variables((bytes - none) * 100 / (hundred - none))
}
