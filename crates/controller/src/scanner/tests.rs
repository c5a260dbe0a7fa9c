use catamaran_api::mirror::RegistryMirror;
use catamaran_core::policy::Provider;
use catamaran_registry::{Budget, Client, Limits};
use catamaran_scripted_registry::Registry;
use serde_json::json;

use super::*;
use crate::memory::Memories;

const TAGS: usize = 60;

/// Two registries with the same tags, and a mirror of them.
struct World {
    registries: Sides<Registry>,
    clients: Clients,
    policy: MirrorPolicy,
    memory: Arc<MirrorMemory>,
    readings: Readings,
}

impl World {
    async fn start() -> World {
        let registries = Sides {
            primary: Registry::start().await.unwrap(),
            fallback: Registry::start().await.unwrap(),
        };
        let hosts = Sides {
            primary: "one.test",
            fallback: "two.test",
        };
        let clients = Sides::from_fn(|side| {
            let connection = registries[side].connection(hosts[side], Provider::Generic);
            let budget = Arc::new(Budget::per_minute(1_000_000));
            Ok(Client::with_budget(connection, Limits::default(), budget).unwrap())
        });
        let mirror: RegistryMirror = serde_json::from_value(json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": "m", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "primary": {"registry": hosts.primary}, "fallback": {"registry": hosts.fallback},
                "repositories": [{"name": "web"}],
            },
        }))
        .unwrap();
        let policy = catamaran_api::policy::policy(&mirror).unwrap();
        let memory = Memories::default().of(&policy.id);
        let world = World {
            registries,
            clients,
            policy,
            memory,
            readings: Readings::default(),
        };
        for tag in 0..TAGS {
            world.push(Side::Primary, tag, "same");
            world.push(Side::Fallback, tag, "same");
        }
        world
    }

    fn push(&self, side: Side, tag: usize, content: &str) {
        self.registries[side].push("web", &format!("v{tag}"), &format!("{content} {tag}"));
    }

    /// One pass; the requests of both sides.
    async fn pass(&self) -> usize {
        for side in Side::ALL {
            self.registries[side].forget_requests();
        }
        let unreadable = scan_all(
            Clock::start(),
            &self.policy,
            &self.memory,
            &self.clients,
            &self.readings,
            &BTreeMap::new(),
        )
        .await;
        assert!(
            unreadable.primary.is_none() && unreadable.fallback.is_none(),
            "{unreadable:?}"
        );
        Side::ALL
            .into_iter()
            .map(|side| self.registries[side].count("/v2/web/"))
            .sum()
    }
}

#[tokio::test]
async fn settled_tags_are_not_read_again_in_every_pass() {
    let world = World::start().await;
    assert_eq!(
        world.pass().await,
        2 + 2 + 2 * TAGS,
        "a challenge, a listing and every digest"
    );
    assert_eq!(world.memory.state().ledger.summary().in_sync, TAGS);
    assert_eq!(world.pass().await, 2 + 2 * TAGS, "seen twice, a tag is settled");
    let unchanged = world.pass().await;
    assert!(unchanged <= 2 + 2 * TAGS / 20, "{unchanged} requests for nothing new");
}

#[tokio::test]
async fn a_new_tag_is_read_in_the_next_pass_and_a_deleted_one_is_told() {
    let world = World::start().await;
    world.pass().await;
    world.pass().await;
    world.push(Side::Primary, TAGS, "same");
    world.registries.fallback.untag("web", "v7");
    world.pass().await;
    let verdict = |tag: &str| world.memory.state().ledger.verdict("web", tag);
    assert_eq!(verdict(&format!("v{TAGS}")), Some(Verdict::Pending));
    assert_eq!(verdict("v7"), Some(Verdict::Pending));
    assert_eq!(verdict("v8"), Some(Verdict::InSync));
}

#[tokio::test]
async fn two_mirrors_of_the_same_repositories_scan_once() {
    let world = World::start().await;
    let mut other = world.policy.clone();
    other.id.uid = "other".into();
    let memory = Memories::default().of(&other.id);
    world.readings.claim(&world.policy);
    world.readings.claim(&other);
    assert_eq!(world.pass().await, 2 + 2 + 2 * TAGS);
    for side in Side::ALL {
        world.registries[side].forget_requests();
    }
    let in_use = BTreeMap::new();
    scan_all(
        Clock::start(),
        &other,
        &memory,
        &world.clients,
        &world.readings,
        &in_use,
    )
    .await;
    let requests = Side::ALL.map(|side| world.registries[side].count("/v2/"));
    assert_eq!(requests, [0, 0], "the second mirror asked again");
    assert_eq!(memory.state().ledger.summary().in_sync, TAGS);
    assert_eq!(world.pass().await, 2 + 2 * TAGS, "its own next look is a new reading");
}
