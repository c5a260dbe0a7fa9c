//! A mirror's task between an API server that the test plays and two scripted registries.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use catamaran_api::mirror::RegistryMirror;
use catamaran_core::policy::MirrorId;
use catamaran_core::routing::RouteTable;
use catamaran_core::side::Sides;
use catamaran_registry::{Client, Limits};
use catamaran_scripted_registry::Registry;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::super::{MirrorTasks, Readings, run};
use super::*;
use crate::pods::{self, PodReports as _};
use crate::publish::news::{self, NewsSender};
use crate::publish::store::Sighting;
use crate::publish::{MirrorNews, MirrorObject};
use crate::testbed;

mod flips;
mod specs;

const HOSTS: Sides<&str> = Sides {
    primary: "kracr.azurecr.io",
    fallback: "ghcr.io",
};

/// What is waited for longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API server with one mirror.
#[derive(Default)]
struct Api {
    mirror: Value,
    version: u64,
    config_maps: BTreeMap<String, Value>,
    secrets: BTreeMap<String, Value>,
    /// The status that writes of `ConfigMap`s get.
    refuse: Option<u16>,
    /// So many lists of mirrors fail.
    fail_lists: u32,
    /// Whose leading ends while the next status is being written.
    ends: Option<watch::Sender<Leadership>>,
    events: Vec<Value>,
    /// Method and path of each request, and the status of its answer.
    requests: Vec<(String, u16)>,
}

impl Api {
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let (code, value) = self.route(method, path, sent);
        self.requests.push((format!("{method} {path}"), code));
        (code, value)
    }

    fn route(&mut self, method: &str, path: &str, sent: Value) -> (u16, Value) {
        let name = path.rsplit('/').next().unwrap().to_owned();
        match method {
            "PUT" if path.ends_with("/status") => self.put_status(&sent),
            "GET" if path.ends_with("/registrymirrors") => self.list_mirrors(),
            // The chart's role lets mirrors be listed, not read one by one.
            "GET" if path.contains("/registrymirrors/") => failure(403, "Forbidden"),
            "GET" if path.ends_with("/configmaps") => (200, self.list_config_maps()),
            "GET" if path.ends_with("/pods") => (200, list("PodList", &[])),
            "GET" if path.contains("/secrets/") => match self.secrets.get(&name) {
                Some(secret) => (200, secret.clone()),
                None => failure(404, "NotFound"),
            },
            "POST" if path.ends_with("/configmaps") => {
                let name = sent["metadata"]["name"].as_str().unwrap().to_owned();
                self.put_config_map(name, sent)
            }
            "POST" if path.ends_with("/events") => {
                self.events.push(sent.clone());
                (201, sent)
            }
            "PATCH" if path.contains("/configmaps/") => self.put_config_map(name, sent),
            _ => (200, sent),
        }
    }

    fn list_mirrors(&mut self) -> (u16, Value) {
        if self.fail_lists > 0 {
            self.fail_lists -= 1;
            return failure(500, "InternalError");
        }
        (200, list("RegistryMirrorList", std::slice::from_ref(&self.mirror)))
    }

    fn put_status(&mut self, sent: &Value) -> (u16, Value) {
        if let Some(leadership) = self.ends.take() {
            leadership.send_replace(Leadership::NONE);
        }
        if sent["metadata"]["resourceVersion"] != self.mirror["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        self.mirror["status"] = sent["status"].clone();
        self.touch();
        (200, self.mirror.clone())
    }

    fn put_config_map(&mut self, name: String, mut sent: Value) -> (u16, Value) {
        if let Some(code) = self.refuse {
            return failure(code, "Forbidden");
        }
        self.version += 1;
        sent["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.config_maps.insert(name, sent.clone());
        (201, sent)
    }

    fn list_config_maps(&self) -> Value {
        let metadata = |one: &Value| json!({"metadata": one["metadata"]});
        let items: Vec<Value> = self.config_maps.values().map(metadata).collect();
        list("PartialObjectMetadataList", &items)
    }

    /// The mirror is another version now.
    fn touch(&mut self) {
        self.version += 1;
        self.mirror["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    fn condition(&self, kind: &str) -> Value {
        let conditions = self.mirror["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.find(|one| one["type"] == kind).cloned().unwrap_or_default()
    }

    fn count(&self, request: &str, code: u16) -> usize {
        let of = |(made, answered): &&(String, u16)| made.contains(request) && *answered == code;
        self.requests.iter().filter(of).count()
    }
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "reason": reason, "message": "exceeded quota", "code": code});
    (code, status)
}

/// A replica whose one mirror has a tag that is the same on both sides.
struct Bed {
    api: Arc<Mutex<Api>>,
    changed: Arc<Notify>,
    registries: Sides<Registry>,
    context: Arc<MirrorsContext>,
    tasks: Arc<MirrorTasks>,
    news: NewsSender,
    leadership: watch::Sender<Leadership>,
    _work: JoinSet<()>,
}

impl Bed {
    async fn start(leads: bool) -> Bed {
        Bed::with(leads, |_| {}).await
    }

    /// `prepare` changes what the API server begins with.
    async fn with(leads: bool, prepare: impl FnOnce(&mut Api)) -> Bed {
        let registries = Sides {
            primary: Registry::start().await.unwrap(),
            fallback: Registry::start().await.unwrap(),
        };
        registries.primary.push("web", "1.0", "same");
        registries.fallback.push("devopskev/web", "1.0", "same");
        let (api, changed) = (Arc::new(Mutex::new(Api::default())), Arc::new(Notify::new()));
        {
            let mut api = api.lock().unwrap();
            api.mirror = mirror();
            api.touch();
            prepare(&mut api);
        }
        let (shared, notify) = (Arc::clone(&api), Arc::clone(&changed));
        let client = testbed::api_server(move |method, uri, body| {
            let (code, value) = shared.lock().unwrap().answer(method, uri.path(), body);
            notify.notify_one();
            (code, value.to_string().into_bytes())
        });
        let (publish, leadership) = lease::channel();
        if leads {
            lead(&publish);
        }
        let table = testbed::lasting(watch::channel(Arc::default()));
        let mut context = testbed::context(client.clone(), table, leadership);
        context.connections.pinned = Side::ALL
            .map(|side| (HOSTS[side].to_owned(), registries[side].address()))
            .into();
        let (census, census_task) = pods::census(client, in_route(&api), false, Arc::default());
        let context = Arc::new(MirrorsContext {
            shared: Arc::new(context),
            endpoints: Arc::default(),
            readings: Readings::default(),
            census,
            proofs: Arc::new(crate::proofs::Proofs::new("replica", [], jiff::Timestamp::UNIX_EPOCH)),
        });
        let (tasks, (news, receiver)) = (Arc::<MirrorTasks>::default(), news::channel());
        let mut work = JoinSet::new();
        work.spawn(census_task.run());
        work.spawn(Arc::clone(&context.flips).run());
        let stop = CancellationToken::new();
        work.spawn(run(Arc::clone(&context), Arc::clone(&tasks), receiver, stop));
        let bed = Bed {
            api,
            changed,
            registries,
            context,
            tasks,
            news,
            leadership: publish,
            _work: work,
        };
        bed.seat();
        bed.apply();
        bed
    }

    /// Clients of both registries, unless the mirror names a Secret.
    fn seat(&self) {
        let policy = self.policy();
        for side in Side::ALL {
            if policy.sides[side].ca_secret.is_some() {
                continue;
            }
            let connection = self.registries[side].connection(HOSTS[side], policy.sides[side].provider);
            let client = Client::new(connection, Limits::default()).unwrap();
            self.context.connections.seat(&policy, side, client);
        }
    }

    fn api(&self) -> MutexGuard<'_, Api> {
        self.api.lock().unwrap()
    }

    fn object(&self) -> RegistryMirror {
        serde_json::from_value(self.api().mirror.clone()).unwrap()
    }

    fn policy(&self) -> Arc<MirrorPolicy> {
        Arc::new(catamaran_api::policy::policy(&self.object()).unwrap())
    }

    /// The watch shows the mirror as it is now.
    fn apply(&self) {
        self.apply_with(None);
    }

    /// The same, with a flip that is stored apart.
    fn apply_with(&self, flip: Option<Arc<Standing>>) {
        let (object, policy) = (self.object(), self.policy());
        let mirror = Arc::new(MirrorObject::of(&object).unwrap());
        let generation = mirror.generation;
        let valid = ValidPolicy {
            policy: Arc::clone(&policy),
            generation,
        };
        let news = MirrorNews::Applied {
            mirror,
            policy: Ok(policy),
            last_valid: Some(valid),
            flip,
        };
        self.news.exists(&uid(), news);
    }

    /// A user changes the spec.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        {
            let mut api = self.api();
            edit(&mut api.mirror["spec"]);
            let generation = api.mirror["metadata"]["generation"].as_i64().unwrap() + 1;
            api.mirror["metadata"]["generation"] = json!(generation);
            api.touch();
        }
        self.apply();
    }

    /// Waits for something at the API server.
    async fn until(&self, what: &'static str, is_so: impl Fn(&Api) -> bool) {
        let waiting = async {
            while !is_so(&self.api()) {
                self.changed.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let api = self.api();
            panic!("{what}: never: {:#} after {:?}", api.mirror["status"], api.requests);
        }
    }

    /// Waits until both sides were probed since the last call.
    async fn probed(&self) {
        let waiting = async {
            while Side::ALL
                .iter()
                .any(|side| self.registries[*side].requests().is_empty())
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        for side in Side::ALL {
            self.registries[side].forget_requests();
        }
    }

    async fn until_in_sync(&self) {
        self.until("in sync", |api| api.condition("InSync")["status"] == "True")
            .await;
    }
}

/// For an hour.
fn lead(leadership: &watch::Sender<Leadership>) {
    let hour = tokio::time::Instant::now() + Duration::from_hours(1);
    leadership.send_replace(Leadership::until(hour));
}

fn uid() -> Arc<str> {
    "u1".into()
}

fn id() -> MirrorId {
    MirrorId {
        name: "apps".into(),
        uid: uid(),
    }
}

/// The route table that the census reads by.
fn in_route(api: &Mutex<Api>) -> watch::Receiver<Arc<RouteTable>> {
    let mirror = serde_json::from_value(api.lock().unwrap().mirror.clone()).unwrap();
    let route = catamaran_core::routing::Route {
        policy: Arc::new(catamaran_api::policy::policy(&mirror).unwrap()),
        active: Side::Primary,
        epoch: 1,
        evidence: Arc::default(),
        observed: Arc::default(),
        unavailable: Sides::default(),
    };
    let table = RouteTable::new(vec![route], Arc::default(), Arc::default());
    testbed::lasting(watch::channel(Arc::new(table)))
}

fn mirror() -> Value {
    json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": {"registry": HOSTS.primary},
            "fallback": {"registry": HOSTS.fallback, "prefix": "devopskev"},
            "repositories": [{"name": "web"}],
            "parity": {"gracePeriod": "0s"},
        },
    })
}

#[tokio::test]
async fn flip_is_written_while_evidence_is_refused() {
    let bed = Bed::with(true, |api| api.refuse = Some(403)).await;
    let refused = |api: &Api| api.condition("EvidenceStored")["status"] == "False";
    bed.until("the refusal is reported", refused).await;
    bed.edit(|spec| spec["active"] = json!("Fallback"));
    let flipped = |api: &Api| api.mirror["status"]["active"] == "Fallback" && api.mirror["status"]["epoch"] == 2;
    bed.until("the flip", flipped).await;
    assert!(bed.api().config_maps.is_empty());
}

#[tokio::test]
async fn conflict_reads_the_mirror_anew_and_writes_again() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    {
        let mut api = bed.api();
        api.mirror["metadata"]["labels"] = json!({"team": "a"});
        api.touch();
    }
    bed.tasks.rescued(&id(), 1);
    bed.until("the count", |api| api.mirror["status"]["pods"]["rescued"] == 1)
        .await;
    let api = bed.api();
    assert_eq!(api.count("/registrymirrors/apps/status", 409), 1);
    assert_eq!(api.mirror["metadata"]["labels"]["team"], "a");
}

#[tokio::test]
async fn mirror_that_goes_back_is_read_anew() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    let epoch = bed.api().mirror["status"]["epoch"].clone();
    {
        // The API server was restored from a backup, and is not all there yet.
        let mut api = bed.api();
        api.mirror["metadata"]["resourceVersion"] = json!("0");
        api.mirror["status"] = json!({"active": "Fallback", "epoch": epoch});
        api.fail_lists = 1;
    }
    bed.apply();
    bed.until("a later epoch", |api| {
        api.mirror["status"]["epoch"].as_u64() > epoch.as_u64() && api.mirror["status"]["active"] == "Primary"
    })
    .await;
    let api = bed.api();
    let listed = |code| api.count("GET /apis/catamaran.dev/v1alpha1/registrymirrors", code);
    assert_eq!((listed(500), listed(200), listed(403)), (1, 1, 0));
}

#[tokio::test]
async fn lost_evidence_is_written_again() {
    let bed = Bed::start(true).await;
    bed.until("evidence", |api| !api.config_maps.is_empty()).await;
    bed.until_in_sync().await;
    let names: Vec<String> = std::mem::take(&mut bed.api().config_maps).into_keys().collect();
    for name in &names {
        assert!(bed.context.store.is_lost(&Sighting::deleted(&uid(), name)), "{name}");
    }
    bed.news.evidence_lost(&uid());
    bed.until("evidence again", |api| {
        names.iter().all(|name| api.config_maps.contains_key(name))
    })
    .await;
}

#[tokio::test]
async fn secret_that_disappears_changes_no_count() {
    let bed = Bed::with(true, |api| {
        api.mirror["spec"]["primary"]["certSecretRef"] = json!({"name": "ca"});
    });
    let bed = bed.await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "resourceVersion": "1"},
        "stringData": {}, "data": {"ca.crt": k8s_openapi::ByteString(bed.registries.primary.ca_pem())},
    });
    bed.api().secrets.insert("ca".to_owned(), secret);
    bed.context.connections.retain(|_| false);
    bed.seat();
    bed.edit(|spec| spec["parity"]["interval"] = json!("11m"));
    bed.until_in_sync().await;
    let counts = |api: &Api| {
        let parity = &api.mirror["status"]["parity"];
        ["tags", "inSync", "missingOnPrimary", "diverged"].map(|count| parity[count].as_i64().unwrap_or_default())
    };
    assert_eq!(counts(&bed.api()), [1, 1, 0, 0]);
    bed.api().secrets.clear();
    bed.context.connections.retain(|_| false);
    bed.seat();
    bed.edit(|spec| spec["parity"]["interval"] = json!("12m"));
    let unread = |api: &Api| api.condition("InSync")["reason"] == "PrimaryUnreachable";
    bed.until("the pass that can't read", unread).await;
    assert_eq!(counts(&bed.api()), [1, 1, 0, 0]);
    assert_eq!(bed.api().condition("FailedOver")["status"], "False");
}

#[tokio::test]
async fn deleted_mirror_ends_its_task() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    let task = bed.tasks.tasks().get(&uid()).unwrap().task.clone();
    bed.news.deleted(&uid());
    let ended = async {
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert!(bed.tasks.tasks().is_empty());
}

#[tokio::test]
async fn follower_probes_and_writes_nothing() {
    let bed = Bed::start(false).await;
    bed.probed().await;
    bed.tasks.rescued(&id(), 1);
    // A changed spec is probed at once, and a leader would write that the active side is another one before that.
    bed.edit(|spec| spec["active"] = json!("Fallback"));
    bed.probed().await;
    let requests = &bed.api().requests;
    let mut reads = requests.iter().map(|(request, _)| request.starts_with("GET"));
    assert!(reads.all(|read| read), "{requests:?}");
}

#[tokio::test]
async fn lease_lost_in_mid_write_ends_writes_until_it_is_regained() {
    let bed = Bed::start(true).await;
    bed.until_in_sync().await;
    bed.api().ends = Some(bed.leadership.clone());
    bed.tasks.rescued(&id(), 1);
    let counted = |api: &Api| api.mirror["status"]["pods"]["rescued"] == 1;
    bed.until("the write that had begun", counted).await;
    bed.api().requests.clear();
    bed.probed().await;
    bed.edit(|spec| spec["active"] = json!("Fallback"));
    bed.probed().await;
    {
        let requests = &bed.api().requests;
        let mut reads = requests.iter().map(|(request, _)| request.starts_with("GET"));
        assert!(reads.all(|read| read), "{requests:?}");
    }
    lead(&bed.leadership);
    bed.until("the flip", |api| api.mirror["status"]["active"] == "Fallback")
        .await;
    let status = &bed.api().mirror["status"];
    assert_eq!((&status["epoch"], &status["pods"]["rescued"]), (&json!(2), &json!(1)));
}
