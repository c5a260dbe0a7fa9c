//! The objects of a cluster with a mirror, and what its API server answers.

use std::collections::BTreeMap;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::routing::evidence::{Group, GroupPlace, Knowledge, Presence};
use catamaran_core::side::Sides;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::apiserver::{Answer, Asked, list, not_found};

pub const MIRRORS: &str = "/apis/catamaran.dev/v1alpha1/registrymirrors";
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/catamaran-system/configmaps";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/catamaran-system/deployments";
pub const NAMESPACES: &str = "/api/v1/namespaces";

pub const IN_SYNC: Knowledge = Knowledge::IN_SYNC;

/// A tag that only the primary has.
pub fn only_primary() -> Knowledge {
    Knowledge {
        presence: Sides {
            primary: Presence::Present,
            fallback: Presence::Absent,
        },
        ..Knowledge::NOTHING
    }
}

/// A tag with different digests.
pub fn differs() -> Knowledge {
    Knowledge {
        same: false,
        ..Knowledge::IN_SYNC
    }
}

/// `kracr.azurecr.io/NAME` and `ghcr.io/devopskev/NAME`, with this side active.
pub fn mirror(name: &str, active: &str) -> Value {
    let mut mirror = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "5",
            "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io", "imagePullSecrets": [{"name": "acr-pull"}]},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev", "imagePullSecrets": [{"name": "ghcr-pull"}]},
            "repositories": [{"name": "web"}, {"name": "api"}],
        },
    });
    let policy = policy(&decoded(&mirror)).unwrap();
    let observed: Vec<String> = policy.mappings().iter().map(ToString::to_string).collect();
    mirror["status"] = json!({
        "observedGeneration": 1, "active": active, "epoch": 3, "observedMappings": observed,
        "lastFlip": {"time": "2026-11-20T10:00:00Z", "from": "Primary", "to": "Fallback", "reason": "PrimaryUnavailable"},
        "conditions": [condition("PrimaryAvailable", if active == "Primary" { "True" } else { "False" })],
    });
    mirror
}

pub fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "X", "message": "as it is", "observedGeneration": 1,
           "lastTransitionTime": "2026-11-20T09:59:00Z"})
}

fn decoded(mirror: &Value) -> RegistryMirror {
    serde_json::from_value(mirror.clone()).unwrap()
}

/// The ConfigMap with what is known of these repositories and tags.
pub fn evidence(mirror: &Value, records: &[(&str, &str, Knowledge)]) -> Value {
    let mirror = decoded(mirror);
    let policy = policy(&mirror).unwrap();
    let mut group = Group::builder(GroupPlace::default());
    for (repository, reference, known) in records {
        let location = policy.sides.primary.path(repository).into_owned();
        let reference_text = format!("kracr.azurecr.io/{location}:x");
        let parsed = catamaran_core::reference::Reference::parse(&reference_text).unwrap();
        let rule = policy.locate(&parsed).unwrap().rule;
        group.tag(policy.key(repository, rule, reference), *known, None);
    }
    let name = mirror.metadata.name.unwrap();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": format!("catamaran-evidence-{name}-0x0"), "namespace": "catamaran-system",
            "labels": {"catamaran.dev/evidence": name},
            "ownerReferences": [{"apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror", "name": name,
                "uid": mirror.metadata.uid, "controller": true}],
            "managedFields": [{"manager": "catamaran", "operation": "Apply", "time": "2026-11-20T09:58:00Z"}],
            "creationTimestamp": "2026-11-01T00:00:00Z",
        },
        "binaryData": {"evidence": serde_json::to_value(ByteString(group.build().encode())).unwrap()},
    })
}

pub fn operator(excluded: &[&str]) -> Value {
    let arguments: Vec<String> = excluded
        .iter()
        .map(|name| format!("--excluded-namespace={name}"))
        .collect();
    json!({"metadata": {"name": "catamaran", "namespace": "catamaran-system"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "catamaran", "args": arguments}]}}}})
}

pub fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"nodeName": "a", "containers": [{"name": "app", "image": image}]}})
}

/// Objects by their path; collections are lists of those below them, or what is set for their own path.
#[derive(Clone, Default)]
pub struct World {
    objects: BTreeMap<String, Value>,
    answers: BTreeMap<String, Answer>,
}

impl World {
    /// A cluster with the namespace `shop`, an operator, and a mirror whose primary is active.
    pub fn new(mirror: &Value, records: &[(&str, &str, Knowledge)]) -> World {
        let mut world = World::default();
        world.put(MIRRORS, mirror);
        world.put(CONFIG_MAPS, &evidence(mirror, records));
        world.put(DEPLOYMENTS, &operator(&["excluded"]));
        world.put(NAMESPACES, &namespace("shop", &json!({"team": "a"})));
        world
    }

    pub fn put(&mut self, collection: &str, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        self.objects.insert(format!("{collection}/{name}"), object.clone());
    }

    /// Answers every request for this path so.
    pub fn answer(&mut self, path: &str, answer: Answer) {
        self.answers.insert(path.to_owned(), answer);
    }

    pub fn get(&self, asked: &Asked) -> Answer {
        if let Some(answer) = self.answers.get(&asked.path) {
            return answer.clone();
        }
        if let Some(object) = self.objects.get(&asked.path) {
            return (200, object.clone());
        }
        let below = format!("{}/", asked.path);
        let items = self
            .objects
            .iter()
            .filter(|(path, _)| path.strip_prefix(&below).is_some_and(|name| !name.contains('/')));
        let items: Vec<Value> = items
            .map(|(_, object)| object.clone())
            .filter(|it| labelled(it, &asked.query))
            .collect();
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        let is_object = self.objects.keys().any(|path| {
            path.rsplit_once('/')
                .is_some_and(|(collection, _)| asked.path.rsplit_once('/').is_some_and(|(of, _)| of == collection))
        });
        if items.is_empty() && is_object {
            return not_found(name);
        }
        list(&items)
    }
}

/// Whether an object has the label that a query asks for as `name` or `name=value`.
fn labelled(object: &Value, query: &str) -> bool {
    let Some(selector) = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")) else {
        return true;
    };
    let selector = selector.replace("%3D", "=").replace("%2F", "/");
    let labels = &object["metadata"]["labels"];
    match selector.split_once('=') {
        Some((name, value)) => labels.get(name).is_none_or(|label| label == value),
        None => labels.get(&selector).is_some(),
    }
}
