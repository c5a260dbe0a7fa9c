//! An API server as far as the operator's publisher and its evidence store need one. It works on a runtime of its own, so that what
//! it costs can be told from what they cost; between the two lies a channel and no network.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use catamaran_controller::publish::{FreshnessLayer, WatchFreshness};
use futures::stream::StreamExt as _;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Layer as _, service_fn};

pub const MIRRORS: &str = "registrymirrors";
pub const CONFIG_MAPS: &str = "configmaps";
pub const NAMESPACES: &str = "namespaces";

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// One ConfigMap that was written: bytes of its group, and of the whole request.
#[derive(Clone, Copy, Debug)]
pub struct WrittenConfigMap {
    pub group: usize,
    pub request: usize,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<(String, String), Stored>,
    /// Version, collection and line of each change.
    log: Vec<(u64, String, Bytes)>,
    watches: Vec<(String, UnboundedSender<Bytes>)>,
    written: Vec<WrittenConfigMap>,
}

struct Stored {
    version: u64,
    bytes: Bytes,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    runtime: Handle,
}

impl ApiServer {
    pub fn new(runtime: Handle) -> ApiServer {
        ApiServer {
            state: Arc::default(),
            runtime,
        }
    }

    /// Access for one replica.
    pub fn client(&self, freshness: &WatchFreshness) -> kube::Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let runtime = server.runtime.clone();
                let answer = runtime.spawn(async move { server.answer(request).await });
                Ok::<_, Infallible>(answer.await.expect("the server answers"))
            }
        });
        kube::Client::new(FreshnessLayer(freshness.clone()).layer(service), "catamaran-system")
    }

    /// Keeps an object.
    pub fn put(&self, collection: &str, object: Value) {
        self.state().put(collection, object);
    }

    /// The `ConfigMaps` that were written since this was last asked.
    pub fn take_written(&self) -> Vec<WrittenConfigMap> {
        std::mem::take(&mut self.state().written)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("a request's body is in memory");
        let query = parts.uri.query().unwrap_or_default();
        let (collection, name) = of_path(parts.uri.path());
        if query.contains("watch=true") {
            return response(200, self.state().watch(collection, query));
        }
        match parts.method.as_str() {
            "GET" => response(200, whole(self.state().list(collection, query))),
            "DELETE" => {
                let name = name.unwrap_or_default();
                self.state().delete(collection, name);
                response(200, whole(Bytes::from_static(SUCCESS.as_bytes())))
            }
            _ => match self.state().write(collection, name, &body) {
                Some(object) => response(200, whole(object)),
                None => response(409, whole(Bytes::from_static(CONFLICT.as_bytes()))),
            },
        }
    }
}

const SUCCESS: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":200}"#;
const CONFLICT: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"Conflict","message":"conflict","code":409}"#;

impl State {
    fn put(&mut self, collection: &str, mut object: Value) -> Bytes {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let stored = Stored {
            version: self.version,
            bytes: object.to_string().into(),
        };
        let bytes = stored.bytes.clone();
        let before = self.objects.insert((collection.to_owned(), name), stored);
        self.tell(collection, if before.is_some() { "MODIFIED" } else { "ADDED" }, &bytes);
        bytes
    }

    fn delete(&mut self, collection: &str, name: &str) {
        if let Some(object) = self.objects.remove(&(collection.to_owned(), name.to_owned())) {
            self.version += 1;
            self.tell(collection, "DELETED", &object.bytes);
        }
    }

    fn tell(&mut self, collection: &str, kind: &str, object: &[u8]) {
        let line = [format!(r#"{{"type":"{kind}","object":"#).as_bytes(), object, b"}\n"].concat();
        let line = Bytes::from(line);
        self.watches
            .retain(|(of, watch)| of != collection || watch.send(line.clone()).is_ok());
        self.log.push((self.version, collection.to_owned(), line));
    }

    fn watch(&mut self, collection: &str, query: &str) -> Answer {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then(|| value.parse::<u64>().unwrap_or_default()))
        };
        let (sender, receiver): (UnboundedSender<Bytes>, UnboundedReceiver<Bytes>) = unbounded_channel();
        let after = parameter("resourceVersion").unwrap_or_default();
        let missed = self
            .log
            .iter()
            .filter(|(version, of, _)| of == collection && *version > after);
        missed.for_each(|(_, _, line)| drop(sender.send(line.clone())));
        self.watches.push((collection.to_owned(), sender));
        let seconds = Duration::from_secs(parameter("timeoutSeconds").unwrap_or(25));
        let lines = UnboundedReceiverStream::new(receiver).take_until(tokio::time::sleep(seconds));
        StreamBody::new(lines.map(|line| Ok::<_, Infallible>(Frame::data(line)))).boxed_unsync()
    }

    /// Every object of a collection, or those that a name selects; label selectors select all.
    fn list(&self, collection: &str, query: &str) -> Bytes {
        let mut text = format!(
            r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{}"}},"items":["#,
            self.version
        )
        .into_bytes();
        let mirror = query.split_once("evidence%3D").map(|(_, rest)| rest.split('&').next());
        let of_mirror = |name: &str| match mirror {
            Some(Some(mirror)) => name.starts_with(&format!("catamaran-evidence-{mirror}-")),
            _ => true,
        };
        let objects = self
            .objects
            .iter()
            .filter(|((of, name), _)| of == collection && of_mirror(name));
        for (index, (_, object)) in objects.enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&object.bytes);
        }
        text.extend_from_slice(b"]}");
        text.into()
    }

    /// None if it was changed meanwhile.
    fn write(&mut self, collection: &str, name: Option<&str>, body: &[u8]) -> Option<Bytes> {
        let object: Value = serde_json::from_slice(body).expect("an object is JSON");
        let name = name.or(object["metadata"]["name"].as_str())?.to_owned();
        let there = self.objects.get(&(collection.to_owned(), name));
        let there = there.map(|object| object.version.to_string());
        if there.as_deref() != object["metadata"]["resourceVersion"].as_str() {
            return None;
        }
        let data = object["binaryData"].as_object().into_iter().flatten();
        let encoded: usize = data.filter_map(|(_, value)| value.as_str()).map(str::len).sum();
        self.written.push(WrittenConfigMap {
            group: encoded / 4 * 3,
            request: body.len(),
        });
        Some(self.put(collection, object))
    }
}

fn of_path(path: &str) -> (&str, Option<&str>) {
    let (rest, last) = path.rsplit_once('/').unwrap_or_default();
    if [MIRRORS, CONFIG_MAPS, NAMESPACES].contains(&last) {
        return (last, None);
    }
    (rest.rsplit('/').next().unwrap_or_default(), Some(last))
}

fn whole(bytes: Bytes) -> Answer {
    Full::new(bytes).boxed_unsync()
}

fn response(code: u16, body: Answer) -> Response<Answer> {
    let response = Response::builder().status(code).body(body);
    response.expect("the status is one")
}
