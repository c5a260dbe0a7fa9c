//! An API server for tests: it keeps objects, serves lists and watches, guards writes by version, and can fail in the ways
//! that real ones do.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use catamaran_api::annotations;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::evidence::{Group, GroupPlace, Knowledge};
use futures::stream::{self, StreamExt as _};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use k8s_openapi::ByteString;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::{Layer as _, service_fn};

use super::Replica;
use super::freshness::{FreshnessLayer, WatchFreshness};
use super::store::{KEY, config_map_name};
use catamaran_lease::{self as lease, Leadership};

pub(crate) const MIRRORS: &str = "registrymirrors";
pub(crate) const CONFIG_MAPS: &str = "configmaps";
pub(crate) const NAMESPACES: &str = "namespaces";

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// A status, and which requests get it.
pub(crate) type Refusal = (u16, fn(&str) -> bool);

/// What the server holds, and how it fails.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub version: u64,
    pub objects: BTreeMap<(String, String), Value>,
    log: Vec<Change>,
    /// Watches of this collection are answered and deliver nothing.
    pub deaf: Option<&'static str>,
    /// A watch ends when this changes.
    pub connection: u64,
    /// Requests whose method, path and query (as `GET /path?query`) are meant get this status.
    pub refuse: Option<Refusal>,
    /// What others do after the next list.
    pub meanwhile: Option<fn(&mut State)>,
    /// Method, path and query of each request.
    pub requests: Vec<String>,
    /// Method and name of each write that was accepted.
    pub writes: Vec<String>,
}

#[derive(Clone)]
struct Change {
    version: u64,
    collection: String,
    event: Value,
}

impl State {
    /// Keeps an object, as any client's write would.
    pub fn put(&mut self, collection: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let before = self.objects.insert((collection.to_owned(), name), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log(collection, kind, &object);
        object
    }

    /// Changes an object.
    pub fn edit(&mut self, collection: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.objects[&(collection.to_owned(), name.to_owned())].clone();
        edit(&mut object);
        self.put(collection, object);
    }

    /// Removes an object.
    pub fn delete(&mut self, collection: &str, name: &str) -> Option<Value> {
        let mut object = self.objects.remove(&(collection.to_owned(), name.to_owned()))?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log(collection, "DELETED", &object);
        Some(object)
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(collection.to_owned(), name.to_owned()))
    }

    pub fn names(&self, collection: &str) -> Vec<&str> {
        let keys = self.objects.keys().filter(|(of, _)| of == collection);
        keys.map(|(_, name)| name.as_str()).collect()
    }

    /// Becomes what it was when `earlier` was taken; watches are not notified.
    pub fn restore(&mut self, earlier: State) {
        let requests = std::mem::take(&mut self.requests);
        *self = State { requests, ..earlier };
    }

    fn log(&mut self, collection: &str, kind: &str, object: &Value) {
        self.log.push(Change {
            version: self.version,
            collection: collection.to_owned(),
            event: json!({"type": kind, "object": object}),
        });
    }

    fn list(&mut self, collection: &str, query: &str) -> Value {
        let items = self.objects.iter().filter(|((of, name), object)| {
            let named = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
            of == collection && named.is_none_or(|named| named == name) && is_selected(query, object)
        });
        let items: Vec<Value> = items.map(|(_, object)| object.clone()).collect();
        let version = self.version.to_string();
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile(self);
        }
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
    }

    fn write(&mut self, method: &str, collection: &str, name: Option<&str>, body: &[u8]) -> (u16, Value) {
        let mut sent: Value = serde_json::from_slice(body).unwrap();
        let name = name
            .unwrap_or_else(|| sent["metadata"]["name"].as_str().unwrap())
            .to_owned();
        let there = self.get(collection, &name);
        let version = there.map(|object| object["metadata"]["resourceVersion"].clone());
        let asked = match method {
            "DELETE" => &sent["preconditions"]["resourceVersion"],
            _ => &sent["metadata"]["resourceVersion"],
        };
        let allowed = match method {
            "POST" => version.is_none(),
            _ => version.as_ref() == Some(asked),
        };
        if !allowed {
            return (409, failure(409));
        }
        self.writes.push(format!("{method} {name}"));
        if method == "DELETE" {
            return (200, self.delete(collection, &name).unwrap());
        }
        sent["metadata"]["name"] = json!(name);
        (200, self.put(collection, sent))
    }
}

/// Whether the labels of an object are as the selector of a query asks, if it has one.
fn is_selected(query: &str, object: &Value) -> bool {
    let Some(selector) = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")) else {
        return true;
    };
    let selector = selector.replace("%2F", "/");
    let label = |key: &str| &object["metadata"]["labels"][key];
    match (selector.strip_prefix("%21"), selector.split_once("%3D")) {
        (Some(key), _) => label(key).is_null(),
        (None, Some((key, value))) => label(key) == value,
        (None, None) => !label(&selector).is_null(),
    }
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "reason": "Failure", "message": "failure", "code": code})
}

/// The server; clones are the same one.
#[derive(Clone)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for ApiServer {
    fn default() -> Self {
        ApiServer {
            state: Arc::default(),
            changed: Arc::new(watch::channel(()).0),
        }
    }
}

impl ApiServer {
    /// Looks at or changes what it holds.
    pub fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let result = act(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    /// A replica of this server's cluster, which leads for an hour or not, and what ends its term.
    pub fn replica(&self, leads: bool, freshness: &WatchFreshness) -> (Replica, watch::Sender<Leadership>) {
        let (publish, leadership) = lease::channel();
        if leads {
            publish.send_replace(Leadership::until(Instant::now() + Duration::from_hours(1)));
        }
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let replica = Replica {
            client: kube::Client::new(FreshnessLayer(freshness.clone()).layer(service), "catamaran-system"),
            namespace: "catamaran-system".to_owned(),
            identity: "catamaran-0".to_owned(),
            leadership,
        };
        (replica, publish)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        let query = parts.uri.query().unwrap_or_default();
        let line = format!("{method} {path}?{query}");
        let refusal = {
            let mut state = self.lock();
            state.requests.push(line.clone());
            let refused = state.refuse.filter(|(_, is_meant)| is_meant(&line));
            refused.map(|(code, _)| code)
        };
        if let Some(code) = refusal {
            return response(code, whole(&failure(code)));
        }
        let (collection, name) = of_path(path);
        if query.contains("watch=true") {
            return response(200, self.watch(collection, query));
        }
        let (code, value) = match method {
            "GET" => (200, self.with(|state| state.list(collection, query))),
            _ => self.with(|state| state.write(method, collection, name, &body)),
        };
        response(code, whole(&value))
    }

    fn watch(&self, collection: &str, query: &str) -> Answer {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then(|| value.parse::<u64>().unwrap()))
        };
        let seconds = Duration::from_secs(parameter("timeoutSeconds").unwrap());
        let watching = Watching {
            server: self.clone(),
            changed: self.changed.subscribe(),
            connection: self.lock().connection,
            collection: collection.to_owned(),
            query: query.to_owned(),
            after: parameter("resourceVersion").unwrap(),
            until: Instant::now() + seconds,
        };
        let lines = stream::unfold(watching, |mut watching| async move {
            let line = watching.next().await?;
            Some((line, watching))
        });
        let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(line)));
        StreamBody::new(frames).boxed_unsync()
    }
}

struct Watching {
    server: ApiServer,
    changed: watch::Receiver<()>,
    connection: u64,
    collection: String,
    query: String,
    after: u64,
    until: Instant,
}

impl Watching {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changed.borrow_and_update();
            let found = {
                let state = self.server.lock();
                let is_next = |change: &&Change| change.collection == self.collection && change.version > self.after;
                if state.connection != self.connection {
                    return None;
                }
                let deaf = state.deaf == Some(self.collection.as_str());
                state.log.iter().filter(|_| !deaf).find(is_next).cloned()
            };
            if let Some(change) = found {
                self.after = change.version;
                if !is_selected(&self.query, &change.event["object"]) {
                    continue;
                }
                return Some(Bytes::from(format!("{}\n", change.event)));
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = sleep_until(self.until) => return None,
            }
        }
    }
}

fn of_path(path: &str) -> (&str, Option<&str>) {
    let mut parts = path.rsplit('/');
    let last = parts.next().unwrap();
    if [MIRRORS, CONFIG_MAPS, NAMESPACES].contains(&last) {
        return (last, None);
    }
    (parts.next().unwrap(), Some(last))
}

fn whole(value: &Value) -> Answer {
    Full::new(Bytes::from(serde_json::to_vec(value).unwrap())).boxed_unsync()
}

fn response(code: u16, body: Answer) -> Response<Answer> {
    Response::builder().status(code).body(body).unwrap()
}

/// A mirror that has failed over to its fallback `epoch` times less one.
pub(crate) fn mirror(name: &str, active: &str, epoch: u64) -> Value {
    json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1,
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io", "prefix": name},
            "fallback": {"registry": "ghcr.io", "prefix": name},
        },
        "status": {"active": active, "epoch": epoch},
    })
}

/// A namespace with a label.
pub(crate) fn namespace(name: &str, team: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}})
}

/// The policy of [`mirror`].
pub(crate) fn policy_of(name: &str) -> MirrorPolicy {
    let mirror = serde_json::from_value(mirror(name, "Primary", 1)).unwrap();
    catamaran_api::policy::policy(&mirror).unwrap()
}

/// A group of a mirror with one tag of the repository `web`, which both sides have; another tag for another `seed`.
pub(crate) fn group(mirror: &str, place: GroupPlace, seed: u32) -> Group {
    let policy = policy_of(mirror);
    let keys = (seed * 1_000_000..).map(|number| policy.key("web", None, &format!("v{number}")));
    let mut keys = keys.filter(|key| GroupPlace::of(*key, place.bits) == place);
    let mut group = Group::builder(place);
    group.tag(keys.next().unwrap(), Knowledge::IN_SYNC, None);
    group.build()
}

/// The place of one of 2^bits groups.
pub(crate) fn place(bits: u8, index: u16) -> GroupPlace {
    GroupPlace { bits, index }
}

/// The ConfigMap of a group, as another process has written it.
pub(crate) fn config_map(mirror: &str, group: &Group) -> Value {
    let owner = json!({"apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror", "name": mirror,
                       "uid": format!("uid-{mirror}"), "controller": true});
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": config_map_name(mirror, group.place()), "labels": {annotations::EVIDENCE: mirror},
                     "annotations": {annotations::REVISION: format!("{:016x}", group.revision())},
                     "ownerReferences": [owner]},
        "binaryData": {KEY: ByteString(group.encode())},
    })
}
