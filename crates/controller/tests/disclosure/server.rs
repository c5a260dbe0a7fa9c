//! An API server that hands out Secrets, keeps what is written, and may fail in ways that tempt to repeat a Secret.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catamaran_core::side::{Side, Sides};
use catamaran_scripted_registry::Registry;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::scenarios::{Refusal, Scenario};
use super::secrets;
use crate::testbed;

const OWN: &str = "/api/v1/namespaces/catamaran-system/secrets/";
const PODS: &str = "/api/v1/namespaces/apps/secrets";

/// What it holds and what it was sent.
pub(super) struct Server {
    secrets: BTreeMap<String, Value>,
    refuses: Option<Refusal>,
    /// The pod that waits for an image of the primary.
    pod: Value,
    changed: Arc<Notify>,
    /// The mirror's.
    spec: Value,
    statuses: Vec<Value>,
    events: Vec<Value>,
    /// The Secrets that were minted.
    pub(super) minted: Vec<Value>,
    /// Every write, without what minted Secrets hold.
    pub(super) writes: Vec<String>,
    /// What else came to light.
    pub(super) shown: Vec<String>,
}

pub(super) type Shared = Arc<Mutex<Server>>;

pub(super) fn lock(server: &Shared) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Told of every write.
pub(super) fn changed(server: &Shared) -> Arc<Notify> {
    Arc::clone(&lock(server).changed)
}

/// The last status that was written.
pub(super) fn status(server: &Shared) -> Option<Value> {
    lock(server).statuses.last().cloned()
}

/// Whether a pull secret was minted, or an Event says why it was not.
pub(super) fn minting_was_tried(server: &Shared) -> bool {
    let server = lock(server);
    let complained = server
        .events
        .iter()
        .any(|event| event["reason"] == "PullSecretNotMinted");
    complained || !server.minted.is_empty()
}

/// Whether the waiting pod was patched.
pub(super) fn rescue_was_tried(server: &Shared) -> bool {
    let server = lock(server);
    server
        .writes
        .iter()
        .any(|write| write.starts_with("PATCH") && write.contains("/pods/web"))
}

/// A pod that waits for an image of this registry.
fn waiting_pod(host: &str) -> Value {
    let image = format!("{host}/{}:1.0", secrets::path(Side::Primary));
    json!({
        "metadata": {"name": "web", "namespace": "apps", "uid": "pod", "resourceVersion": "1"},
        "spec": {"nodeName": "node", "containers": [{"name": "web", "image": image}]},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": [{"name": "web", "image": image, "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
    })
}

impl Server {
    pub(super) fn start(scenario: &Scenario, registries: &Sides<Registry>) -> Shared {
        let broken = match scenario.refuses {
            Some(Refusal::Content(broken)) => Some(broken),
            _ => None,
        };
        let authorities = registries.as_ref().map(Registry::ca_pem);
        let secrets = scenario.kind.secrets(&authorities, broken).into_iter();
        let secrets = secrets.map(|(name, data)| {
            let host = scenario.kind.hosts().primary;
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": secrets::type_of(&data), "data": data,
                "metadata": {"name": name, "namespace": "catamaran-system", "resourceVersion": "1",
                             "annotations": {"catamaran.dev/registry-host": host}}});
            (name.to_owned(), secret)
        });
        Arc::new(Mutex::new(Server {
            secrets: secrets.collect(),
            refuses: scenario.refuses,
            pod: waiting_pod(scenario.kind.hosts().primary),
            changed: Arc::default(),
            spec: super::world::spec(scenario),
            statuses: Vec::new(),
            events: Vec::new(),
            minted: Vec::new(),
            writes: Vec::new(),
            shown: Vec::new(),
        }))
    }

    fn answer(&mut self, method: &str, uri: &http::Uri, body: &[u8]) -> (u16, Vec<u8>) {
        let path = uri.path();
        if method != "GET" {
            self.changed.notify_one();
        }
        if uri.query().is_some_and(|query| query.contains("watch=")) {
            // A watch that ends at once.
            return (200, Vec::new());
        }
        if let Some(name) = path.strip_prefix(OWN) {
            return self.own(name);
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        if path.starts_with(PODS) {
            return self.minting(method, sent);
        }
        let (code, answer) = match (method, path) {
            ("GET", "/api/v1/pods") => (
                200,
                json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"},
                       "items": [self.pod]}),
            ),
            ("GET", _) if path.ends_with("/configmaps") => (
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": []}),
            ),
            ("GET", _) => failure(404, "NotFound"),
            _ => {
                self.note(method, path, &sent);
                (200, self.as_stored(path, sent))
            }
        };
        (code, answer.to_string().into_bytes())
    }

    /// A write as it is answered: of a mirror's status nothing else is taken.
    fn as_stored(&self, path: &str, mut sent: Value) -> Value {
        if path.ends_with("/status") {
            sent["spec"] = self.spec.clone();
        }
        sent
    }

    fn note(&mut self, method: &str, path: &str, sent: &Value) {
        self.writes.push(format!("{method} {path} {sent}"));
        if path.ends_with("/status") {
            self.statuses.push(sent["status"].clone());
        }
        if path.ends_with("/events") {
            self.events.push(sent.clone());
        }
    }

    /// A Secret of the operator's own namespace.
    fn own(&self, name: &str) -> (u16, Vec<u8>) {
        let Some(secret) = self
            .secrets
            .get(name)
            .filter(|_| self.refuses != Some(Refusal::Missing))
        else {
            return plain(failure(404, "NotFound"));
        };
        match self.refuses {
            Some(Refusal::Forbidden) => plain(failure(403, "Forbidden")),
            Some(Refusal::Garbled) => (200, garbled(secret)),
            Some(Refusal::Binary) => (200, [&garbled(secret)[..], &[0xff, 0xfe]].concat()),
            _ => plain((200, secret.clone())),
        }
    }

    /// A Secret where pods live.
    fn minting(&mut self, method: &str, secret: Value) -> (u16, Vec<u8>) {
        if method == "GET" {
            return plain(failure(404, "NotFound"));
        }
        let mut without = secret.clone();
        without["data"] = Value::Null;
        self.note(method, PODS, &without);
        self.minted.push(secret.clone());
        match self.refuses {
            Some(Refusal::GarbledWrites) => (201, garbled(&secret)),
            _ => plain((201, secret)),
        }
    }

    /// The reasons that conditions and Events gave.
    pub(super) fn reasons(&self) -> Vec<String> {
        let conditions = self
            .statuses
            .iter()
            .filter_map(|status| status["conditions"].as_array());
        let all = conditions.flatten().chain(&self.events);
        all.filter_map(|told| Some(told["reason"].as_str()?.to_owned()))
            .collect()
    }

    pub(super) fn assert_only_the_minted_token_is_minted(&self) {
        for secret in &self.minted {
            let config = secret["data"][".dockerconfigjson"].as_str().unwrap();
            let config = String::from_utf8(BASE64_STANDARD.decode(config).unwrap()).unwrap();
            assert!(config.contains(&secrets::refresh()), "{config}");
            for form in secrets::never_minted().iter().flat_map(|secret| secrets::forms(secret)) {
                assert!(!config.contains(&form), "{form:?} was minted: {config}");
            }
        }
    }
}

fn plain((code, value): (u16, Value)) -> (u16, Vec<u8>) {
    (code, value.to_string().into_bytes())
}

/// The data as it is, where a map of bytes belongs.
fn garbled(secret: &Value) -> Vec<u8> {
    let values = secret["data"].as_object().into_iter().flatten();
    let decoded = values.map(|(_, value)| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap());
    let text = String::from_utf8(decoded.flatten().collect()).unwrap();
    let mut garbled = secret.clone();
    garbled["data"] = Value::from(text);
    garbled.to_string().into_bytes()
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "reason": reason, "message": reason, "code": code});
    (code, status)
}

/// A client of it.
pub(super) fn client(server: &Shared) -> kube::Client {
    let server = Arc::clone(server);
    testbed::api_server(move |method, uri, body| lock(&server).answer(method, uri, body))
}
