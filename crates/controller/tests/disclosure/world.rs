//! One mirror's world: its registries, its API server, and an operator that lives in it for a while.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routes::{Route, RouteTable};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::Budgets;
use catamaran_scripted_registry::{Clients, Fault, Registry};
use http::{HeaderMap, HeaderValue};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use prometheus_client::registry::Registry as Exposition;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::scenarios::{Scenario, Trouble, Until};
use super::secrets::{self, HMAC, Kind};
use super::server::{self, Server, Shared};
use crate::assess::assess;
use crate::connections::Connections;
use crate::context::Context;
use crate::feed::View;
use crate::notifications::{Answer, Inbox, Keys, Sender};
use crate::pull_secrets::{self, Settings};
use crate::reconcile::reconcile;
use crate::rescue::Rescuer;
use crate::testbed;

/// A scenario that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(3);

/// One mirror with its registries, its API server, and an operator of its own.
pub(super) struct World {
    scenario: Scenario,
    registries: Sides<Registry>,
    pub(super) server: Shared,
    context: Arc<Context>,
    triggers: mpsc::UnboundedReceiver<kube::runtime::reflector::ObjectRef<crate::context::Mirror>>,
    mirror: RegistryMirror,
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
        let (sender, triggers) = mpsc::unbounded_channel();
        let client = server::client(&server);
        let mut context = testbed::replica(client.clone(), view(&policy).table, true);
        let replica = Arc::get_mut(&mut context).unwrap();
        replica.triggers = sender;
        replica.connections = Connections::new(client, "catamaran-system", Arc::new(Budgets::new()));
        replica.connections.pinned = Side::ALL
            .map(|side| (hosts[side].to_owned(), registries[side].address()))
            .into_iter()
            .chain(["api.github.com", "evil.test"].map(|host| (host.to_owned(), registries.fallback.address())))
            .collect();
        World {
            scenario,
            registries,
            server,
            context,
            triggers,
            mirror,
            policy,
        }
    }

    /// Lives until what is waited for has happened, with everything that a leader runs; what it showed besides its log.
    pub(super) async fn live(mut self) -> World {
        let (view, stop) = (view(&self.policy), CancellationToken::new());
        let (_keep, seen) = tokio::sync::watch::channel(view);
        let settings = Settings {
            namespaces: ["apps".to_owned()].into(),
            names: ["minted".to_owned()].into(),
        };
        let minting = tokio::spawn(pull_secrets::run(
            Arc::clone(&self.context),
            settings,
            seen,
            stop.clone(),
        ));
        self.reconcile().await;
        let name = self.scenario.name.clone();
        let watched = tokio::time::timeout(PATIENCE, async {
            while !self.over() {
                let changed = server::changed(&self.server);
                tokio::select! {
                    _ = self.triggers.recv() => self.reconcile().await,
                    () = changed.notified() => {}
                }
            }
        });
        assert!(
            watched.await.is_ok(),
            "{name}: nothing more happens: {:?}",
            self.shown()
        );
        self.reconcile().await;
        self.hint();
        self.rescue().await;
        stop.cancel();
        self.context.crews.stop("uid");
        minting.await.unwrap();
        self
    }

    fn over(&self) -> bool {
        let memory = self.context.memories.of(&self.policy.id);
        let state = memory.state();
        let probed = Side::ALL.iter().all(|side| state.probes[*side].latest().is_some());
        let passed = match self.scenario.until {
            Until::Probed => true,
            Until::Passed => state.pass.is_some(),
            Until::FailedOver => server::lock(&self.server)
                .reasons()
                .iter()
                .any(|reason| reason == "FailedOver"),
            Until::Copied => state
                .repair
                .as_ref()
                .is_some_and(|repair| repair.copied + repair.failed > 0),
        };
        drop(state);
        probed && passed && (!self.scenario.kind.mints() || server::minting_was_tried(&self.server))
    }

    async fn reconcile(&mut self) {
        if let Some(status) = server::status(&self.server) {
            self.mirror.status = serde_json::from_value(status).unwrap();
        }
        let mirror = Arc::new(DeserializeGuard(Ok(self.mirror.clone())));
        let done = reconcile(mirror, Arc::clone(&self.context)).await;
        server::lock(&self.server).shown.push(format!("{done:?}"));
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

    /// A pod that waits for an image of the primary.
    async fn rescue(&self) {
        let image = format!(
            "{}/{}:1.0",
            self.scenario.kind.hosts().primary,
            secrets::path(Side::Primary)
        );
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "apps", "uid": "pod", "resourceVersion": "1"},
            "spec": {"containers": [{"name": "web", "image": image}]},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "web", "image": image, "imageID": "",
                "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
        }))
        .unwrap();
        let (rescuer, publisher) = Rescuer::new(&self.context);
        rescuer.rescue(&pod).await;
        drop(rescuer);
        publisher.publish(&self.context.recorder).await;
    }

    /// Everything that could come into a message, as a panic would show it.
    pub(super) fn shown(&self) -> String {
        let memory = self.context.memories.of(&self.policy.id);
        let mut shown = format!("{memory:?} {memory:#?} {:?}", self.policy);
        write!(
            shown,
            "{:?}",
            assess(&self.mirror, &self.context, self.context.clock.now())
        )
        .unwrap();
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
fn view(policy: &Arc<MirrorPolicy>) -> View {
    let route = Route {
        policy: Arc::clone(policy),
        active: Side::Fallback,
        epoch: 2,
        evidence: Arc::default(),
    };
    let namespaces = HashMap::from([("apps".to_owned(), BTreeMap::new())]);
    View {
        table: Arc::new(RouteTable::new(vec![route], Arc::new(namespaces.into_iter().collect()))),
        mirrors: Arc::new(HashMap::from([("uid".to_owned(), policy.id.name.to_string())])),
        complete: true,
    }
}
