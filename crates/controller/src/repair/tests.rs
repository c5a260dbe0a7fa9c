//! A round from the pass that finds what is missing to the look that finds it in sync, between two scripted registries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use catamaran_api::policy::policy;
use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_core::repair::Errand;
use catamaran_registry::copy::Count;
use catamaran_registry::{Budget, Client, CopyBudget, Limits};
use catamaran_scripted_registry::{Fault, Registry, What};
use http::Method;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::readings::Readings;
use crate::scanner::{Clients, Scan, scan_all};

const HOSTS: Sides<(&str, Provider)> = Sides {
    primary: ("kracr.azurecr.io", Provider::Azure),
    fallback: ("ghcr.io", Provider::GitHub),
};

struct World {
    registries: Sides<Registry>,
    policy: MirrorPolicy,
    memory: Arc<MirrorMemory>,
    clients: Clients,
    attempts: Attempts,
    metrics: Metrics,
    tally: Arc<Tally>,
}

impl World {
    async fn new(repair: serde_json::Value) -> World {
        let registries = Sides {
            primary: Registry::start().await.unwrap(),
            fallback: Registry::start().await.unwrap(),
        };
        let mirror: RegistryMirror = serde_json::from_value(json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": "apps", "uid": "u1"},
            "spec": {
                "primary": {"registry": HOSTS.primary.0, "provider": "azure"},
                "fallback": {"registry": HOSTS.fallback.0, "prefix": "devopskev", "provider": "github"},
                "repositories": [{"name": "web"}, {"name": "api"}],
                "parity": {"gracePeriod": "0s"},
                "repair": repair,
            },
        }))
        .unwrap();
        let policy = policy(&mirror).unwrap();
        let clients = Sides::from_fn(|side| {
            let (host, provider) = HOSTS[side];
            let client = Client::with_budget(registries[side].connection(host, provider), Limits::default(), plenty());
            client.map_err(|error| error.to_string())
        });
        World {
            registries,
            memory: Memories::default().of(&policy.id),
            policy,
            clients,
            attempts: Attempts::default(),
            metrics: Metrics::default(),
            tally: Arc::new(Tally::default()),
        }
    }

    /// Two passes, so that differences are confirmed.
    async fn passes(&self) {
        for _ in 0..2 {
            scan_all(
                Clock::start(),
                &self.policy,
                &self.memory,
                &self.clients,
                &Readings::default(),
                &BTreeMap::new(),
            )
            .await;
        }
    }

    fn plan(&self) -> Plan {
        let state = self.memory.state();
        let input = Input {
            policy: &self.policy,
            available: Sides {
                primary: true,
                fallback: true,
            },
            in_use: &state.in_use,
            attempts: &self.attempts,
        };
        plan(&input, state.ledger.diverged(), Clock::start().now())
    }

    async fn round(&mut self, errands: Vec<Errand>, go_on: &(dyn Fn() -> bool + Sync)) -> Done {
        let clients = &self.clients;
        let tally = &self.tally;
        let copiers = Sides::from_fn(|to| {
            let of = |side: Side| {
                let budget = CopyBudget {
                    reads: plenty(),
                    writes: plenty(),
                };
                Ok::<_, String>((clients[side].as_ref().map_err(Clone::clone)?, budget))
            };
            let settings = CopySettings {
                tally: Arc::clone(tally),
                ..CopySettings::default()
            };
            let copier = Copier::new(of(to.other())?, of(to)?, Arc::new(Placed::default()), settings);
            copier.map_err(|error| error.to_string())
        });
        let work = Work {
            clock: Clock::start(),
            policy: &self.policy,
            memory: &self.memory,
            metrics: &self.metrics,
            copiers,
            tally: Arc::clone(tally),
        };
        work.carry_out(errands, &mut self.attempts, go_on, &|| {}).await
    }

    /// Looks at what was asked for out of turn.
    async fn verify_wanted(&self) -> usize {
        let mut receiver = self.memory.take_wanted().unwrap();
        let mut wanted = BTreeMap::<String, BTreeSet<String>>::new();
        while let Ok(tag) = receiver.try_recv() {
            wanted.entry(tag.repository).or_default().insert(tag.tag);
        }
        self.memory.return_wanted(receiver);
        let count = wanted.values().map(BTreeSet::len).sum();
        for (repository, tags) in wanted {
            let scan = Scan {
                clock: Clock::start(),
                policy: &self.policy,
                memory: &self.memory,
                clients: &self.clients,
                repository: &repository,
                turns: Sides::default(),
            };
            scan.tags(tags).await;
        }
        count
    }

    fn told(&self) -> Progress {
        self.memory.state().repair.clone().unwrap_or_default()
    }
}

fn plenty() -> Arc<Budget> {
    Arc::new(Budget::per_minute(6_000_000))
}

fn errand(tag: &str) -> Errand {
    Errand {
        repository: "web".to_owned(),
        tag: tag.to_owned(),
        to: Side::Fallback,
        digest: Digest::of(tag.as_bytes()),
    }
}

#[tokio::test]
async fn what_a_pass_finds_missing_is_copied_both_ways_and_in_sync_at_the_next_look() {
    let mut world = World::new(json!({"missingTags": "Copy", "concurrency": 4})).await;
    let both = world.registries.primary.push("web", "1.0", "same");
    world.registries.fallback.push("devopskev/web", "1.0", "same");
    let new = world.registries.primary.push("web", "1.1", "new");
    let late = world.registries.fallback.push("devopskev/api", "2.0", "late");
    world.registries.primary.push("web", "odd", "ours");
    let theirs = world.registries.fallback.push("devopskev/web", "odd", "theirs");
    world.passes().await;
    let plan = world.plan();
    assert_eq!(plan.errands.len(), 2);

    let done = world.round(plan.errands, &|| true).await;
    assert_eq!((done.copied, done.failed), (2, 0));
    assert!(done.copied_note().unwrap().contains("web:1.1 to Fallback"));
    assert_eq!(done.failed_note(), None);
    assert_eq!(done.bytes, world.tally.get(Count::Bytes));
    let digest = |side: Side, repository: &str, tag: &str| {
        let manifest = world.registries[side].manifest(repository, tag);
        manifest.map(|(_, body)| Digest::of(&body))
    };
    assert_eq!(digest(Side::Fallback, "devopskev/web", "1.1"), Some(new));
    assert_eq!(digest(Side::Primary, "api", "2.0"), Some(late));
    assert_eq!(digest(Side::Fallback, "devopskev/web", "1.0"), Some(both));
    assert_eq!(
        digest(Side::Fallback, "devopskev/web", "odd"),
        Some(theirs),
        "what differs stays"
    );

    assert_eq!(world.verify_wanted().await, 2);
    let summary = world.memory.state().ledger.summary();
    assert_eq!((summary.in_sync, summary.mismatched, summary.tags), (3, 1, 4));
    assert_eq!(world.told().message(), "copied 2 tags");
    assert_eq!(world.plan().errands, []);
}

#[tokio::test]
async fn a_failure_is_told_with_its_tag_and_tried_again_later() {
    let mut world = World::new(json!({"missingTags": "Copy"})).await;
    world.registries.primary.push("web", "1.0", "first");
    let locked = What::error(405, "REGISTRY_DISALLOWED_OPERATION", "the operation is disallowed");
    world
        .registries
        .fallback
        .fault(Fault::on("/manifests/1.0", locked).method(Method::PUT));
    world.passes().await;
    let plan = world.plan();
    let done = world.round(plan.errands.clone(), &|| true).await;
    assert_eq!((done.copied, done.failed), (0, 1));
    let note = done.failed_note().unwrap();
    assert!(
        note.starts_with("failed to copy web:1.0 to Fallback: ") && note.contains("locked"),
        "{note}"
    );
    assert_eq!(world.told().failed, 1);
    assert_eq!((world.plan().errands.len(), world.plan().later), (0, 1), "not at once");
    // Once it is unlocked and the pause is over, only the tag is missing.
    world.registries.fallback.clear_faults();
    world.registries.fallback.forget_requests();
    let done = world.round(plan.errands, &|| true).await;
    assert_eq!((done.copied, world.attempts.len()), (1, 0));
    assert_eq!(world.told().failure, None);
    let writes = world.registries.fallback.requests();
    let writes = writes
        .iter()
        .filter(|request| !matches!(request.method, Method::GET | Method::HEAD));
    assert_eq!(writes.filter(|request| request.path != "/token").count(), 1);
}

#[tokio::test]
async fn a_registry_that_refuses_everything_is_left_alone_for_the_round() {
    let mut world = World::new(json!({"missingTags": "Copy", "concurrency": 1})).await;
    for n in 0..40 {
        world.registries.primary.push("web", &n.to_string(), &n.to_string());
    }
    world.registries.fallback.push("devopskev/api", "only", "there");
    let denied = What::error(403, "DENIED", "permission_denied: write_package");
    world
        .registries
        .fallback
        .fault(Fault::on("/blobs/uploads/", denied).method(Method::POST));
    world.passes().await;
    let plan = world.plan();
    assert_eq!(plan.errands.len(), 41);
    let done = world.round(plan.errands, &|| true).await;
    assert_eq!((done.copied, done.failed), (1, 8), "the other direction goes on");
    assert!(done.failed_note().unwrap().contains("give it the right to push"));
}

#[tokio::test]
async fn nothing_new_is_begun_once_the_round_is_told_to_stop() {
    let mut world = World::new(json!({"missingTags": "Copy", "concurrency": 1})).await;
    for n in 0..10 {
        world.registries.primary.push("web", &n.to_string(), &n.to_string());
    }
    world.passes().await;
    let plan = world.plan();
    let asked = AtomicUsize::new(0);
    let done = world
        .round(plan.errands, &|| asked.fetch_add(1, Ordering::Relaxed) < 3)
        .await;
    assert_eq!(done.copied, 3);
}

#[test]
fn each_state_of_affairs_has_its_sentence() {
    let now = Clock::start().now();
    let plan = Plan {
        errands: vec![errand("1.0"), errand("1.1")],
        later: 1,
        left: 0,
    };
    let mut round = Progress::begun(&plan, 0, now);
    assert_eq!(round.message(), "copied 0 tags, 3 to go");
    round.succeeded(0);
    round.failed(1, "web:1.1 to Fallback: locked");
    assert_eq!(
        round.message(),
        "copied 1 tag, 2 to go; 1 failed, the last: web:1.1 to Fallback: locked"
    );
    let planned = Progress::planned(
        &Plan {
            left: 2,
            ..plan.clone()
        },
        now,
    );
    assert_eq!(
        planned.planned_note(),
        "would copy 3 tags; set repair.missingTags to Copy to do so; 2 tags left alone, because the side that lacks them is \
         not written: web:1.0 to Fallback, web:1.1 to Fallback and 1 more"
    );
    assert!(planned.plans_the_same(&Progress {
        begun: None,
        ..planned.clone()
    }));
    assert!(!planned.plans_the_same(&Progress::planned(&plan, now)));
}

#[test]
fn an_idle_pass_keeps_what_the_last_round_did_and_counts_anew() {
    let nothing = Plan::default();
    let before = Progress {
        copied: 3,
        pending: 1,
        failed: 1,
        failure: Some("why".to_owned()),
        ..Progress::default()
    };
    let waiting = Plan {
        later: 1,
        ..Plan::default()
    };
    assert_eq!(Progress::idle(Some(&before), &waiting, 1, false), before);
    let after = Progress::idle(Some(&before), &nothing, 0, false);
    assert_eq!(after.message(), "copied 3 tags");
    assert_eq!(Progress::idle(None, &nothing, 0, false).message(), "nothing to copy");
    let dry = Progress::idle(Some(&before), &nothing, 0, true);
    assert_eq!(dry.message(), "nothing to copy");
    assert_eq!(
        Progress::idle(Some(&after), &nothing, 0, false),
        after,
        "said once, it is not said again"
    );
}
