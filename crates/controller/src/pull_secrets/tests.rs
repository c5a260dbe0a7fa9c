//! Rounds against an API server that holds Secrets, and a registry that issues tokens.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use catamaran_api::annotations;
use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::Route;
use catamaran_core::side::Sides;
use catamaran_registry::{Client, Credentials, Limits};
use catamaran_scripted_registry::{Fault, Registry, What};
use serde_json::{Value, json};

use super::*;
use crate::testbed;

/// Secrets by path, and every request that was made.
#[derive(Default)]
struct Server {
    secrets: BTreeMap<String, Value>,
    requests: Vec<String>,
    events: Vec<Value>,
    version: u64,
}

type Shared = Arc<Mutex<Server>>;

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "reason": reason, "message": reason, "code": code});
    (code, status)
}

impl Server {
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        if path.contains("/events") {
            let event: Value = serde_json::from_slice(body).unwrap_or_default();
            self.events.push(event.clone());
            return (201, event);
        }
        self.requests.push(format!("{method} {path}"));
        match method {
            "GET" => match self.secrets.get(path) {
                Some(secret) => (200, secret.clone()),
                None => failure(404, "NotFound"),
            },
            "POST" => {
                let secret: Value = serde_json::from_slice(body).unwrap();
                let path = format!("{path}/{}", secret["metadata"]["name"].as_str().unwrap());
                if self.secrets.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                self.keep(path, secret)
            }
            "PUT" => {
                let secret: Value = serde_json::from_slice(body).unwrap();
                let version = |secret: &Value| secret["metadata"]["resourceVersion"].clone();
                if self.secrets.get(path).map(version) != Some(version(&secret)) {
                    return failure(409, "Conflict");
                }
                self.keep(path.to_owned(), secret)
            }
            "DELETE" => {
                let options: Value = serde_json::from_slice(body).unwrap();
                assert!(options["preconditions"]["uid"].is_string(), "{options}");
                match self.secrets.remove(path) {
                    Some(secret) => (200, secret),
                    None => failure(404, "NotFound"),
                }
            }
            other => panic!("{other}"),
        }
    }

    fn keep(&mut self, path: String, mut secret: Value) -> (u16, Value) {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = json!(self.version.to_string());
        secret["metadata"]["uid"] = json!(path);
        self.secrets.insert(path, secret.clone());
        (201, secret)
    }

    fn take_writes(&mut self) -> Vec<String> {
        let writes = std::mem::take(&mut self.requests).into_iter();
        writes.filter(|request| !request.starts_with("GET")).collect()
    }

    fn reasons(&self) -> Vec<&str> {
        let reasons = self.events.iter().map(|event| event["reason"].as_str().unwrap());
        reasons.collect()
    }
}

fn api_server(server: &Shared) -> kube::Client {
    let server = Arc::clone(server);
    testbed::api_server(move |method, uri, body| {
        let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, value) = server.answer(method, uri.path(), body);
        (code, serde_json::to_vec(&value).unwrap())
    })
}

fn mirror(secret: &Value) -> Arc<MirrorPolicy> {
    let mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "images", "uid": "uid-images"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io", "provider": "azure", "imagePullSecrets": [secret]},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
        },
    }))
    .unwrap();
    Arc::new(policy(&mirror).unwrap())
}

fn view(policy: &Arc<MirrorPolicy>) -> Snapshot {
    let route = Route {
        policy: Arc::clone(policy),
        active: Side::Primary,
        epoch: 1,
        evidence: Arc::default(),
        observed: Arc::default(),
        unavailable: Sides::default(),
    };
    let namespaces = ["a", "b", "unlisted"].map(|name| (name.to_owned(), BTreeMap::new()));
    let namespaces = Arc::new(namespaces.into_iter().collect());
    Snapshot {
        table: Arc::new(RouteTable::new(vec![route], namespaces, Arc::default())),
        mirrors: Arc::new(HashMap::from([("uid-images".to_owned(), "images".to_owned())])),
        complete: true,
    }
}

struct Bed {
    server: Shared,
    registry: Registry,
    keeper: Keeper,
    view: Snapshot,
    policy: Arc<MirrorPolicy>,
}

const PATH: &str = "/api/v1/namespaces/a/secrets/acr-pull";

impl Bed {
    async fn start() -> Bed {
        let policy = mirror(&json!({"name": "acr-pull", "mint": true}));
        let server = Shared::default();
        let view = view(&policy);
        let context = testbed::replica(api_server(&server), Arc::clone(&view.table), true);
        let keeper = Keeper {
            context: Arc::new(context),
            settings: Settings {
                namespaces: ["a", "b"].map(str::to_owned).into(),
                names: ["acr-pull".to_owned()].into(),
            },
            failed: HashMap::new(),
            complaints: Complaints::default(),
            last: None,
        };
        let registry = Registry::start().await.unwrap();
        let bed = Bed {
            server,
            registry,
            keeper,
            view,
            policy,
        };
        bed.renew(180);
        bed
    }

    /// Gives the operator a refresh token that ends in so many minutes.
    fn renew(&self, minutes: i64) {
        let exp = self.keeper.context.clock.now().as_second() + minutes * 60;
        let token = format!(
            "e30.{}.sig",
            BASE64_URL_SAFE_NO_PAD.encode(json!({"exp": exp}).to_string())
        );
        let mut connection = self
            .registry
            .connection("kracr.azurecr.io", catamaran_core::policy::Provider::Azure);
        connection.credentials = Credentials::Basic {
            username: "00000000-0000-0000-0000-000000000000".to_owned(),
            password: token.into(),
        };
        let client = Client::new(connection, Limits::default()).unwrap();
        self.keeper
            .context
            .connections
            .seat(&self.policy, Side::Primary, client);
    }

    async fn round(&mut self) -> Vec<String> {
        self.keeper.last = None;
        self.keeper.round(&self.view).await;
        self.server().take_writes()
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    fn note(&self, path: &str, annotation: &str, value: &str) {
        self.server().secrets.get_mut(path).unwrap()["metadata"]["annotations"][annotation] = json!(value);
    }
}

#[tokio::test]
async fn a_secret_is_minted_into_each_namespace_with_one_token_and_then_left_alone() {
    let mut bed = Bed::start().await;
    let both = ["POST /api/v1/namespaces/a/secrets", "POST /api/v1/namespaces/b/secrets"];
    assert_eq!(bed.round().await, both);
    assert_eq!(bed.registry.count("/oauth2/token"), 1);
    let secret = bed.server().secrets[PATH].clone();
    assert_eq!(secret["metadata"]["labels"][annotations::MANAGED_BY], "catamaran");
    assert_eq!(secret["metadata"]["labels"][annotations::MIRROR], "images");
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "uid-images");
    assert_eq!(bed.round().await, [""; 0]);
    assert_eq!(bed.server().reasons(), [""; 0]);
}

#[tokio::test]
async fn it_is_renewed_at_half_its_life_when_there_is_a_longer_token() {
    let mut bed = Bed::start().await;
    bed.round().await;
    let long_ago = (bed.keeper.context.clock.now() - Duration::from_hours(4)).to_string();
    bed.note(PATH, annotations::MINTED, &long_ago);
    // The same token again wins nothing.
    assert_eq!(bed.round().await, [""; 0]);
    bed.renew(200);
    assert_eq!(bed.round().await, [format!("PUT {PATH}")]);
    assert_eq!(bed.round().await, [""; 0]);
}

#[tokio::test]
async fn somebody_elses_secret_is_never_touched_and_told_once() {
    let mut bed = Bed::start().await;
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acr-pull", "namespace": "a"},
                         "type": "kubernetes.io/dockerconfigjson"});
    bed.server().secrets.insert(PATH.to_owned(), foreign.clone());
    assert_eq!(bed.round().await, ["POST /api/v1/namespaces/b/secrets"]);
    assert_eq!(bed.round().await, [""; 0]);
    assert_eq!(bed.server().secrets[PATH], foreign);
    assert_eq!(bed.server().reasons(), ["PullSecretForeign"]);
    // A mirror that asks no more does not take it away either.
    bed.view = view(&mirror(&json!({"name": "acr-pull"})));
    assert_eq!(bed.round().await, ["DELETE /api/v1/namespaces/b/secrets/acr-pull"]);
    assert_eq!(bed.server().secrets[PATH], foreign);
}

#[tokio::test]
async fn a_mirror_that_is_gone_leaves_nothing_and_one_that_is_suspended_everything() {
    let mut bed = Bed::start().await;
    bed.round().await;
    // Suspended mirrors are in no route table, but they exist.
    let namespaces = Arc::new(bed.view.table.namespaces().clone());
    bed.view.table = Arc::new(RouteTable::new(Vec::new(), namespaces, Arc::default()));
    assert_eq!(bed.round().await, [""; 0]);
    bed.view.mirrors = Arc::default();
    let both = [
        "DELETE /api/v1/namespaces/a/secrets/acr-pull",
        "DELETE /api/v1/namespaces/b/secrets/acr-pull",
    ];
    assert_eq!(bed.round().await, both);
    assert_eq!(bed.server().secrets, BTreeMap::new());
}

#[tokio::test]
async fn a_side_that_can_not_mint_is_told_once_and_not_asked_at_every_change() {
    let mut bed = Bed::start().await;
    bed.registry.fault(Fault::on("/oauth2/token", What::status(401)));
    for _ in 0..3 {
        assert_eq!(bed.round().await, [""; 0]);
    }
    assert_eq!(bed.registry.count("/oauth2/token"), 1);
    // One for each namespace.
    assert_eq!(bed.server().reasons(), ["PullSecretNotMinted"; 2]);
    let events = bed.server().events.clone();
    assert!(
        events[0]["note"]
            .as_str()
            .unwrap()
            .contains("failed to mint pull secret 'a/acr-pull'"),
        "{events:#?}"
    );
    assert_eq!(events[0]["regarding"]["name"], "images");
}

#[tokio::test]
async fn a_token_that_has_ended_is_not_given_to_pods() {
    let mut bed = Bed::start().await;
    bed.renew(-1);
    assert_eq!(bed.round().await, [""; 0]);
    let note = bed.server().events[0]["note"].as_str().unwrap().to_owned();
    assert!(note.contains("the operator's own token has ended"), "{note}");
}

#[tokio::test]
async fn only_the_listed_names_in_the_listed_namespaces_are_ever_asked_for() {
    let mut bed = Bed::start().await;
    bed.keeper.round(&bed.view).await;
    let asked = bed.server().requests.clone();
    let allowed =
        |request: &&String| !request.contains("/namespaces/a/secrets") && !request.contains("/namespaces/b/secrets");
    assert_eq!(asked.iter().find(allowed), None, "{asked:?}");
    assert!(
        asked
            .iter()
            .filter(|request| request.starts_with("GET"))
            .all(|request| request.ends_with("/acr-pull"))
    );
    // A change of something else within the minute reads nothing.
    bed.server().requests.clear();
    bed.keeper.round(&bed.view).await;
    assert_eq!(bed.server().requests, [""; 0]);
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let mut bed = Bed::start().await;
    let follower = testbed::replica(api_server(&bed.server), Arc::clone(&bed.view.table), false);
    bed.keeper.context = Arc::new(follower);
    assert_eq!(bed.round().await, [""; 0]);
}
