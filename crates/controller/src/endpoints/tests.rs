#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use catamaran_api::mirror::RegistryMirror;
use catamaran_core::endpoint::{Outcome, Target};
use catamaran_core::side::Side;
use catamaran_lease as lease;
use catamaran_registry::{Client, Limits};
use catamaran_scripted_registry::Registry;
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::testbed;

const PATIENCE: Duration = Duration::from_secs(30);

fn policy(uid: &str, extra: &serde_json::Value) -> Arc<MirrorPolicy> {
    let mut mirror = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": uid, "uid": uid, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io"},
            "fallback": {"registry": "ghcr.io", "prefix": uid},
            "repositories": [{"name": "web"}],
        },
    });
    let spec = mirror["spec"].as_object_mut().unwrap();
    spec.extend(extra.as_object().unwrap().clone());
    let mirror: RegistryMirror = serde_json::from_value(mirror).unwrap();
    Arc::new(catamaran_api::policy::policy(&mirror).unwrap())
}

struct Bed {
    context: Arc<Context>,
    registry: Registry,
    endpoints: Endpoints,
    digest: catamaran_core::digest::Digest,
}

impl Bed {
    async fn new() -> Bed {
        let registry = Registry::start().await.unwrap();
        let digest = registry.push("web", "1.0", "same");
        let client = testbed::api_server(|_, _, _| (404, Vec::new()));
        let (_, leadership) = lease::channel();
        let table = testbed::lasting(watch::channel(Arc::default()));
        let mut context = testbed::context(client, table, leadership);
        context.connections.pinned = vec![("kracr.azurecr.io".to_owned(), registry.address())];
        Bed {
            context: Arc::new(context),
            registry,
            endpoints: Endpoints::default(),
            digest,
        }
    }

    fn watch(&self, policy: &Arc<MirrorPolicy>, before: Option<Subscription>) -> (Subscription, mpsc::Receiver<Event>) {
        let connection = self
            .registry
            .connection("kracr.azurecr.io", policy.sides.primary.provider);
        let client = Client::new(connection, Limits::default()).unwrap();
        self.context.connections.seat(policy, Side::Primary, client);
        let (readings, received) = mpsc::channel(READINGS);
        let target = Target {
            path: "web".to_owned(),
            digest: self.digest.clone(),
        };
        let wish = Wish {
            policy: Arc::clone(policy),
            watcher: Watcher {
                mirror: Arc::clone(&policy.id.uid),
                side: Side::Primary,
            },
            watch: Watch {
                generation: 1,
                period: policy.health.period,
                threshold: 3,
                targets: vec![target],
            },
            readings,
        };
        (self.endpoints.watch(&self.context, wish, before), received)
    }

    fn observers(&self) -> usize {
        self.endpoints.all().len()
    }
}

async fn outcome(readings: &mut mpsc::Receiver<Event>) -> Outcome {
    loop {
        let event = tokio::time::timeout(PATIENCE, readings.next()).await.unwrap().unwrap();
        if let Event::Probed(probed) = event {
            return probed.reading.probe.outcome;
        }
    }
}

#[tokio::test]
async fn mirrors_of_one_registry_share_its_probes() {
    let bed = Bed::new().await;
    let mirrors: Vec<_> = (0..50).map(|uid| policy(&uid.to_string(), &json!({}))).collect();
    let mut watched: Vec<_> = mirrors.iter().map(|policy| bed.watch(policy, None)).collect();
    assert_eq!(bed.observers(), 1);
    for _ in 0..2 {
        for (_, readings) in &mut watched {
            assert_eq!(outcome(readings).await, Outcome::Reachable);
        }
    }
    let requests = bed.registry.requests().len();
    assert!(requests <= 20, "{requests} requests for 50 mirrors");
}

#[tokio::test]
async fn sides_that_reach_a_registry_in_other_ways_share_nothing() {
    let bed = Bed::new().await;
    let alone =
        json!({"primary": {"registry": "kracr.azurecr.io", "provider": "azure", "identity": {"kind": "Anonymous"}}});
    let patient = json!({"healthCheck": {"timeoutSeconds": 5}});
    let kinds = [json!({}), alone, patient];
    let watched: Vec<_> = kinds.iter().map(|extra| bed.watch(&policy("a", extra), None)).collect();
    assert_eq!(bed.observers(), kinds.len());
    drop(watched);
}

#[tokio::test]
async fn observer_ends_with_its_last_subscription() {
    let bed = Bed::new().await;
    let (one, mut readings) = bed.watch(&policy("a", &json!({})), None);
    let (other, _kept) = bed.watch(&policy("b", &json!({})), None);
    outcome(&mut readings).await;
    drop(one);
    let (other, mut readings) = {
        let (again, readings) = bed.watch(&policy("b", &json!({})), Some(other));
        (again, readings)
    };
    assert_eq!(outcome(&mut readings).await, Outcome::Reachable);
    drop(other);
    let ended = async {
        while bed.observers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    bed.registry.forget_requests();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(bed.registry.requests().is_empty());
}

#[tokio::test]
async fn missing_client_is_told_with_its_reason() {
    let bed = Bed::new().await;
    let policy = policy(
        "a",
        &json!({"primary": {"registry": "kracr.azurecr.io", "certSecretRef": {"name": "ca"}}}),
    );
    let (subscription, mut readings) = bed.watch(&policy, None);
    bed.context.connections.retain(|_| false);
    subscription.probe_now(bed.context.clock.now());
    let mut seen = outcome(&mut readings).await;
    while seen == Outcome::Reachable {
        seen = outcome(&mut readings).await;
    }
    assert_eq!(seen, Outcome::CredentialsUnavailable);
}
