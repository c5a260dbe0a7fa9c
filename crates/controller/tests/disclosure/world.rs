//! One mirror's world: its registries, its API server, and an operator that lives in it for a while.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::evidence::{Evidence, Group, GroupPlace, Knowledge};
use catamaran_core::routing::{Route, RouteTable};
use catamaran_core::side::{Side, Sides};
use catamaran_scripted_registry::{Clients, Fault, Registry};
use http::{HeaderMap, HeaderValue};
use prometheus_client::registry::Registry as Exposition;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::scenarios::{Scenario, Trouble, Until};
use super::secrets::{self, HMAC, Kind};
use super::server::{self, Server, Shared};
use crate::context::Context;
use crate::mirrors::{self, MirrorTasks, MirrorsContext, Readings};
use crate::notifications::{Answer, Inbox, Keys, Sender};
use crate::pods::{self, PodsContext};
use crate::publish::news::{self, NewsSender};
use crate::publish::{MirrorNews, MirrorObject, Snapshot, ValidPolicy};
use crate::pull_secrets::{self, Settings};
use crate::testbed;

/// A scenario that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(3);

/// One mirror with its registries, its API server, and an operator of its own.
pub(super) struct World {
    scenario: Scenario,
    registries: Sides<Registry>,
    pub(super) server: Shared,
    context: Arc<Context>,
    tasks: Arc<MirrorTasks>,
    mirror: Arc<RegistryMirror>,
    policy: Arc<MirrorPolicy>,
}

impl World {
    pub(super) async fn new(scenario: Scenario) -> World {
        let clients = match scenario.kind {
            Kind::Certificate => Clients::Required,
            _ => Clients::Anyone,
        };
        let registries = Sides {
            primary: Registry::start_for(clients, &secrets::client_authority())
                .await
                .unwrap(),
            fallback: Registry::start().await.unwrap(),
        };
        let hosts = scenario.kind.hosts();
        for side in Side::ALL {
            let path = secrets::path(side);
            registries[side].push(path, "1.0", "same");
            registries[side].push(path, "2.0", side.as_str());
        }
        registries.primary.push(secrets::path(Side::Primary), "3.0", "new");
        misbehave(&registries, scenario.trouble.as_ref());
        let mirror = mirror(&scenario);
        let policy = Arc::new(policy(&mirror).unwrap());
        let server = Server::start(&scenario, &registries);
        let client = server::client(&server);
        let mut context = testbed::replica(client, view(&policy).table, true);
        context.connections.pinned = Side::ALL
            .map(|side| (hosts[side].to_owned(), registries[side].address()))
            .into_iter()
            .chain(["api.github.com", "evil.test"].map(|host| (host.to_owned(), registries.fallback.address())))
            .collect();
        World {
            scenario,
            registries,
            server,
            context: Arc::new(context),
            tasks: Arc::default(),
            mirror: Arc::new(mirror),
            policy,
        }
    }

    /// Lives until what is waited for has happened, with everything that a leader runs.
    pub(super) async fn live(self) -> World {
        let stop = CancellationToken::new();
        let (_keep, seen) = tokio::sync::watch::channel(view(&self.policy));
        let mut work = JoinSet::new();
        let news = self.start(&mut work, &stop);
        let settings = Settings {
            namespaces: ["apps".to_owned()].into(),
            names: ["minted".to_owned()].into(),
        };
        work.spawn(pull_secrets::run(
            Arc::clone(&self.context),
            settings,
            seen,
            stop.clone(),
        ));
        let name = &self.scenario.name;
        let watched = tokio::time::timeout(PATIENCE, async {
            while !self.over() {
                server::changed(&self.server).notified().await;
            }
        });
        let watched = watched.await;
        assert!(
            watched.is_ok(),
            "{name}: nothing more happens: {:?} {:?}",
            server::status(&self.server),
            server::lock(&self.server).writes
        );
        self.hint();
        let shown = self.shown();
        server::lock(&self.server).shown.push(shown);
        stop.cancel();
        drop(news);
        work.shutdown().await;
        self
    }

    /// Runs the mirror's task and what watches pods.
    fn start(&self, work: &mut JoinSet<()>, stop: &CancellationToken) -> NewsSender {
        let context = &self.context;
        let (census, task) = pods::census(context.client.clone(), context.table.clone(), false, Arc::default());
        work.spawn(task.run());
        let mirrors = MirrorsContext {
            shared: Arc::clone(context),
            endpoints: Arc::default(),
            readings: Readings::default(),
            census,
            proofs: Arc::new(crate::proofs::Proofs::new("replica", [], jiff::Timestamp::UNIX_EPOCH)),
        };
        let (news, receiver) = news::channel();
        let tasks = Arc::clone(&self.tasks);
        work.spawn(mirrors::run(Arc::new(mirrors), tasks, receiver, stop.clone()));
        let pods = PodsContext {
            client: context.client.clone(),
            table: context.table.clone(),
            restarts: tokio::sync::watch::channel(0).1,
            leadership: context.leadership.clone(),
            recorder: context.recorder.clone(),
            metrics: Arc::clone(&context.metrics),
            reviews: Arc::clone(&context.reviews),
            reports: Arc::clone(&self.tasks) as _,
        };
        work.spawn(pods::run(pods, stop.clone()));
        let valid = ValidPolicy {
            policy: Arc::clone(&self.policy),
            generation: 1,
        };
        let applied = MirrorNews::Applied {
            mirror: Arc::new(MirrorObject::of(&self.mirror).unwrap()),
            policy: Ok(Arc::clone(&self.policy)),
            last_valid: Some(valid),
            flip: None,
        };
        news.exists(&self.policy.id.uid, applied);
        news
    }

    fn over(&self) -> bool {
        let Some(status) = server::status(&self.server) else {
            return false;
        };
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let unobserved = |condition: &serde_json::Value| {
            condition["type"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("Available"))
                && condition["reason"] == "NotYetObserved"
        };
        let probed = !conditions.iter().any(unobserved);
        let reached = match self.scenario.until {
            Until::Probed => true,
            Until::Passed => !status["parity"].is_null(),
            Until::FailedOver => server::lock(&self.server)
                .reasons()
                .iter()
                .any(|reason| reason == "FailedOver"),
            Until::Copied => ["copied", "failed"]
                .iter()
                .any(|count| status["repair"][count].as_i64().is_some_and(|count| count > 0)),
        };
        let minted = !self.scenario.kind.mints() || server::minting_was_tried(&self.server);
        probed && reached && minted && server::rescue_was_tried(&self.server)
    }

    /// A notification from a holder of the key, and one from somebody else.
    fn hint(&self) {
        let keys = Keys::read(HMAC).unwrap();
        let inbox = Inbox::default();
        let carried = |secret: &str| {
            let value = HeaderValue::from_str(secret).unwrap();
            HeaderMap::from_iter([(http::HeaderName::from_static("x-catamaran-secret"), value)])
        };
        let body = json!({"action": "push", "target": {"repository": "web", "tag": "1.0"}, "request": {"host": "kracr.azurecr.io"}});
        let answers = [carried(HMAC), carried(&HMAC.to_uppercase())].map(|headers| {
            inbox.take(
                &self.context,
                &self.tasks,
                &keys,
                Sender::Azure,
                &headers,
                body.to_string().as_bytes(),
            )
        });
        assert!(
            answers[0] != Answer::Refused && answers[1] == Answer::Refused,
            "{answers:?}"
        );
        server::lock(&self.server).shown.push(format!("{keys:?} {answers:?}"));
    }

    /// Everything that could come into a message, as a panic would show it.
    pub(super) fn shown(&self) -> String {
        let mut shown = format!("{:?} {:#?}", self.tasks, self.mirror);
        write!(shown, "{:?}", self.policy).unwrap();
        shown
    }

    pub(super) fn metrics(&self) -> String {
        let mut registry = Exposition::with_prefix("catamaran");
        self.context.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// What each registry was sent as a credential: passwords, and tokens that it had issued.
    pub(super) fn sent(&self) -> BTreeSet<String> {
        let requests = Side::ALL.into_iter().flat_map(|side| self.registries[side].requests());
        let values = requests.filter_map(|request| request.authorization);
        values
            .filter_map(|value| Some(value.split_once(' ')?.1.to_owned()))
            .collect()
    }
}

/// Where the line is cut, only the primary's is: then the mirror fails over.
fn misbehave(registries: &Sides<Registry>, trouble: Option<&Trouble>) {
    match trouble {
        None => {}
        Some(Trouble::Fault(path, what)) => Side::ALL
            .iter()
            .for_each(|side| registries[*side].fault(Fault::on(path, what.clone()))),
        Some(Trouble::Wire(wire)) => registries.primary.set_wire(*wire),
        Some(Trouble::Certificate(certificate)) => registries.primary.set_certificate(*certificate),
    }
}

/// Its spec, as the API server has it.
pub(super) fn spec(scenario: &Scenario) -> serde_json::Value {
    serde_json::to_value(mirror(scenario).spec).unwrap()
}

fn mirror(scenario: &Scenario) -> RegistryMirror {
    let (hosts, kind) = (scenario.kind.hosts(), scenario.kind);
    let mirror = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": scenario.name, "uid": "uid", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "primary": {"registry": hosts.primary, "provider": kind.provider(), "secretRef": {"name": "primary"},
                "certSecretRef": {"name": "primary-ca"},
                "imagePullSecrets": [{"name": "minted", "mint": kind.mints()}]},
            "fallback": {"registry": hosts.fallback, "provider": "github", "prefix": "devopskev",
                "secretRef": {"name": "fallback"}, "certSecretRef": {"name": "fallback-ca"}},
            "repositories": [{"name": "web"}],
            "healthCheck": {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 1, "successThreshold": 1},
            "parity": {"gracePeriod": "0s", "interval": "10s"},
            "repair": {"missingTags": "Copy"},
        },
    });
    serde_json::from_value(mirror).unwrap()
}

/// What the replica sees: the mirror, failed over, and the namespace that pods live in.
fn view(policy: &Arc<MirrorPolicy>) -> Snapshot {
    let key = policy.key("web", None, "1.0");
    let mut group = Group::builder(GroupPlace { bits: 0, index: 0 });
    group.tag(key, Knowledge::IN_SYNC, None);
    let evidence = Evidence::default().with(Arc::new(group.build()));
    let route = Route {
        policy: Arc::clone(policy),
        active: Side::Fallback,
        epoch: 2,
        evidence: Arc::new(evidence),
        observed: Arc::new(policy.mappings()),
        unavailable: Sides::default(),
    };
    let namespaces = HashMap::from([("apps".to_owned(), BTreeMap::new())]);
    let namespaces = Arc::new(namespaces.into_iter().collect());
    Snapshot {
        table: Arc::new(RouteTable::new(vec![route], namespaces, Arc::default())),
        mirrors: Arc::new(HashMap::from([("uid".to_owned(), policy.id.name.to_string())])),
        complete: true,
    }
}
