//! A cluster in memory for tests: pods behind an API server that patches, deletes, lists and watches as a real one does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::mirror::pulls::PodPulls;
use catamaran_core::policy::{MirrorId, MirrorPolicy};
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::side::{Side, Sides};
use kube::client::Body;
use kube::runtime::events::{Recorder, Reporter};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::service_fn;

use super::{PodReports, PodsContext};
use catamaran_lease::{self as lease, Leadership};

/// What an admission policy says of a change: the object as it is admitted, or a status.
pub(super) type Admission = dyn Fn(&Value) -> Result<Value, Value> + Send + Sync;

/// What is answered in place of the collection: a status, by the path and the query of a request.
pub(super) type Trouble = dyn Fn(&str, &str) -> Option<Value> + Send + Sync;

/// A cluster in memory.
#[derive(Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    /// By path of the collection and `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// Changes of pods by version, for watches.
    log: Vec<(u64, Value)>,
    /// `METHOD path` of each request.
    requests: Vec<String>,
    /// The notes of Events on pods, as `pod reason note`.
    events: Vec<String>,
    admission: Option<Arc<Admission>>,
    trouble: Option<Arc<Trouble>>,
}

/// The path of all pods.
pub(super) const PODS: &str = "/api/v1/pods";

/// What the API server answers when the test of a JSON Patch fails.
fn failed_test() -> Value {
    status(422, "the server rejected our request due to an error in our request")
}

/// A status with nothing about the object.
pub(super) fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "details": {}})
}

impl Cluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Adds or replaces an object of the collection at `path`.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.state().put(path, object);
    }

    /// Adds or replaces a pod.
    pub(super) fn put_pod(&self, pod: Value) {
        self.put(PODS, pod);
    }

    /// Removes a pod.
    pub(super) fn remove_pod(&self, key: &str) {
        self.state().remove(key);
    }

    /// A pod, by `namespace/name`.
    pub(super) fn pod(&self, key: &str) -> Option<Value> {
        self.state().objects.get(PODS)?.get(key).cloned()
    }

    /// The image of a pod's first container.
    pub(super) fn image(&self, key: &str) -> String {
        let image = self.pod(key).unwrap()["spec"]["containers"][0]["image"].clone();
        image.as_str().unwrap().to_owned()
    }

    /// Has every patch admitted by this.
    pub(super) fn admit(&self, admission: impl Fn(&Value) -> Result<Value, Value> + Send + Sync + 'static) {
        self.state().admission = Some(Arc::new(admission));
    }

    /// Has requests answered by this, where it has an answer.
    pub(super) fn trouble(&self, trouble: impl Fn(&str, &str) -> Option<Value> + Send + Sync + 'static) {
        self.state().trouble = Some(Arc::new(trouble));
    }

    /// The requests since the last call that begin with `prefix`.
    pub(super) fn requests(&self, prefix: &str) -> Vec<String> {
        let requests = std::mem::take(&mut self.state().requests);
        requests
            .into_iter()
            .filter(|request| request.starts_with(prefix))
            .collect()
    }

    /// The Events since the last call, as `pod reason note`.
    pub(super) fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.state().events)
    }

    /// A client of it.
    pub(super) fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, answer) = cluster.state().answer(parts.method.as_str(), &parts.uri, &body);
                let answer = http::Response::builder().status(code).body(Body::from(answer)).unwrap();
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        kube::Client::new(service, "catamaran-system")
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = format!("{}/{}", text("namespace"), text("name"));
        let before = self
            .objects
            .entry(path.to_owned())
            .or_default()
            .insert(key, object.clone());
        if path == PODS {
            let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
            self.log.push((self.version, json!({"type": kind, "object": object})));
        }
        object
    }

    fn remove(&mut self, key: &str) {
        self.version += 1;
        let mut gone = self.objects.get_mut(PODS).and_then(|pods| pods.remove(key)).unwrap();
        gone["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log
            .push((self.version, json!({"type": "DELETED", "object": gone})));
    }

    fn answer(&mut self, method: &str, uri: &http::Uri, body: &[u8]) -> (u16, Vec<u8>) {
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        self.requests.push(format!("{method} {path}?{query}"));
        if let Some(answer) = self.trouble.clone().and_then(|trouble| trouble(path, query)) {
            return (code(&answer), answer.to_string().into_bytes());
        }
        if path.ends_with("/events") && method == "POST" {
            return self.event(body);
        }
        if query.contains("watch=true") {
            return (200, self.watch(path, query));
        }
        let parts: Vec<&str> = path.split('/').collect();
        let answer = match (method, parts.as_slice()) {
            ("GET", ["", "api", "v1", "namespaces", namespace, "pods", name]) => {
                self.get(&format!("{namespace}/{name}"))
            }
            ("PATCH", ["", "api", "v1", "namespaces", namespace, "pods", name]) => {
                self.patch(&format!("{namespace}/{name}"), body)
            }
            ("DELETE", ["", "api", "v1", "namespaces", namespace, "pods", name]) => {
                self.delete(&format!("{namespace}/{name}"), body)
            }
            ("GET", _) => self.list(path, query),
            _ => status(405, "not allowed"),
        };
        (code(&answer), answer.to_string().into_bytes())
    }

    fn get(&self, key: &str) -> Value {
        let pod = self.objects.get(PODS).and_then(|pods| pods.get(key));
        pod.cloned().unwrap_or_else(|| status(404, "not found"))
    }

    fn patch(&mut self, key: &str, body: &[u8]) -> Value {
        let mut pod = self.get(key);
        if code(&pod) == 404 {
            return pod;
        }
        let patch: json_patch::Patch = serde_json::from_slice(body).unwrap();
        if json_patch::patch(&mut pod, &patch).is_err() {
            return failed_test();
        }
        let admission = self.admission.clone();
        match admission.map_or_else(|| Ok(pod.clone()), |admission| admission(&pod)) {
            Ok(admitted) => self.put(PODS, admitted),
            Err(status) => status,
        }
    }

    fn delete(&mut self, key: &str, body: &[u8]) -> Value {
        let pod = self.get(key);
        if code(&pod) == 404 {
            return pod;
        }
        let options: Value = serde_json::from_slice(body).unwrap();
        let wanted = &options["preconditions"];
        let differs = |field: &str| !wanted[field].is_null() && wanted[field] != pod["metadata"][field];
        if differs("uid") || differs("resourceVersion") {
            return status(409, "the precondition failed");
        }
        if let Some(Err(status)) = self
            .admission
            .clone()
            .map(|admission| admission(&json!({"deleted": key})))
        {
            return status;
        }
        self.remove(key);
        pod
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let none = BTreeMap::new();
        let objects = self.objects.get(path).unwrap_or(&none);
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value.parse::<usize>().ok())
        };
        let is_pending = |pod: &&Value| !query.contains("Pending") || pod["status"]["phase"] == "Pending";
        let selected: Vec<&Value> = objects.values().filter(is_pending).collect();
        let begin = parameter("continue").unwrap_or_default();
        let end = (begin + parameter("limit").unwrap_or(usize::MAX / 2)).min(selected.len());
        let more = if end < selected.len() {
            end.to_string()
        } else {
            String::new()
        };
        let metadata = json!({"resourceVersion": self.version.to_string(), "continue": more});
        json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": selected[begin..end]})
    }

    /// What happened since a version; the watch then ends.
    fn watch(&self, path: &str, query: &str) -> Vec<u8> {
        if path != PODS {
            return Vec::new();
        }
        let (_, since) = query.split_once("resourceVersion=").unwrap();
        let since: u64 = since.split('&').next().unwrap().parse().unwrap();
        let mut lines = String::new();
        for (_, event) in self.log.iter().filter(|(version, _)| *version > since) {
            lines.push_str(&event.to_string());
            lines.push('\n');
        }
        lines.into_bytes()
    }

    fn event(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let event: Value = serde_json::from_slice(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (pod, reason) = (text(&event["regarding"]["name"]), text(&event["reason"]));
        self.events.push(format!("{pod} {reason} {}", text(&event["note"])));
        (201, body.to_vec())
    }
}

/// The code of a status; 200 for what is none.
fn code(answer: &Value) -> u16 {
    let code = answer["code"].as_u64().filter(|_| answer["kind"] == "Status");
    code.map_or(200, |code| u16::try_from(code).unwrap())
}

/// What mirrors are told, noted; pulls hang where a test says so.
#[derive(Default)]
pub(super) struct Reports {
    pub(super) wanted: Mutex<Vec<String>>,
    pub(super) rescued: Mutex<u64>,
    /// Pods with what failed of each side.
    pub(super) pulls: Mutex<Vec<String>>,
    /// The mirror is not told.
    pub(super) deaf: Mutex<bool>,
    pub(super) hanging: Mutex<Option<Side>>,
}

impl PodReports for Reports {
    fn wanted(&self, _: &MirrorId, references: Vec<(String, String)>, urgent: bool) {
        let mark = if urgent { "!" } else { "" };
        let words = references
            .into_iter()
            .map(|(repository, name)| format!("{repository}:{name}{mark}"));
        self.wanted.lock().unwrap().extend(words);
    }

    fn pulls(&self, _: &MirrorId, pods: &[PodPulls]) -> bool {
        if *self.deaf.lock().unwrap() {
            return false;
        }
        let words = pods.iter().map(|pulls| {
            let failed = |side: Side| match pulls.failed[side] {
                Some(attempt) if attempt.is_new => format!("{:?}", attempt.failure),
                Some(attempt) => format!("({:?})", attempt.failure),
                None => "-".to_owned(),
            };
            let (primary, fallback) = (failed(Side::Primary), failed(Side::Fallback));
            format!("{} on {}: {primary} {fallback}", pulls.pod, pulls.node)
        });
        self.pulls.lock().unwrap().extend(words);
        true
    }

    fn rescued(&self, _: &MirrorId, pods: u64) {
        *self.rescued.lock().unwrap() += pods;
    }

    fn hangs(&self, _: &MirrorId, side: Side) -> bool {
        *self.hanging.lock().unwrap() == Some(side)
    }
}

/// The mirror `apps`: `kracr.azurecr.io/NAME` and `ghcr.io/devopskev/NAME`.
pub(super) fn apps(rescue: &str) -> Arc<MirrorPolicy> {
    let mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "m1"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io"},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
            "rescue": {"mode": rescue},
        },
    }))
    .unwrap();
    Arc::new(policy(&mirror).unwrap())
}

/// A table of one mirror whose `active` side is available, and the other is not.
pub(super) fn table(policy: &Arc<MirrorPolicy>, active: Side) -> Arc<RouteTable> {
    let route = Route {
        policy: Arc::clone(policy),
        active,
        epoch: 2,
        evidence: Arc::default(),
        observed: Arc::new(policy.mappings()),
        unavailable: Sides::from_fn(|side| side != active),
    };
    let excluded = ["catamaran-system", "legacy"].map(str::to_owned).into();
    Arc::new(RouteTable::new(vec![route], Arc::default(), Arc::new(excluded)))
}

/// A leader of this cluster, with what publishes its table and what its mirrors are told.
pub(super) fn leader(
    cluster: &Cluster,
    table: Arc<RouteTable>,
) -> (PodsContext, watch::Sender<Arc<RouteTable>>, Arc<Reports>) {
    let (publish, leadership) = lease::channel();
    let hour = tokio::time::Instant::now() + Duration::from_hours(1);
    publish.send_replace(Leadership::until(hour));
    let (tables, table) = watch::channel(table);
    let reports = Arc::new(Reports::default());
    let reporter = Reporter {
        controller: "catamaran".to_owned(),
        instance: None,
    };
    let context = PodsContext {
        client: cluster.client(),
        table,
        restarts: watch::channel(0).1,
        leadership,
        recorder: Recorder::new(cluster.client(), reporter),
        metrics: Arc::default(),
        reviews: Arc::new(crate::reviews::Reviews::new("catamaran-0", || 0)),
        reports: Arc::clone(&reports) as Arc<dyn PodReports>,
    };
    (context, tables, reports)
}

/// A pod of a ReplicaSet on a node whose container waits for an image of the primary.
pub(super) fn waiting_pod(namespace: &str, name: &str) -> Value {
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"kracr.azurecr.io/web:1\""});
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": format!("{namespace}-rs"),
        "controller": true});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "ownerReferences": [owner]},
        "spec": {"nodeName": "node-1", "containers": [{"name": "web", "image": "kracr.azurecr.io/web:1"}]},
        "status": {"phase": "Pending", "containerStatuses": [
            {"name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": waiting}},
        ]},
    })
}
