use std::collections::BTreeSet;

use catamaran_core::mirror::failover::{Flip, FlipReason};
use catamaran_core::side::Side;
use catamaran_lease::Leadership;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::publish::freshness::WatchFreshness;
use crate::publish::testserver::{ApiServer, CONFIG_MAPS};

fn standing(epoch: u64) -> Arc<Standing> {
    let at = Timestamp::from_second(1_767_225_600).unwrap();
    let flip = Flip {
        at,
        from: Side::Primary,
        to: Side::Fallback,
        reason: FlipReason::PrimaryUnavailable,
    };
    Arc::new(Standing {
        active: Side::Fallback,
        registry: Some("ghcr.io/devopskev".to_owned()),
        epoch,
        last_flip: Some(flip),
        failovers: vec![at],
    })
}

/// A store at work, and what keeps it leading.
struct Running {
    server: ApiServer,
    store: Arc<FlipStore>,
    _term: watch::Sender<Leadership>,
    _work: tokio::task::JoinSet<()>,
}

fn running(leads: bool) -> Running {
    let server = ApiServer::default();
    let (replica, term) = server.replica(leads, &WatchFreshness::default());
    let store = Arc::new(FlipStore::new(&replica));
    let mut work = tokio::task::JoinSet::new();
    work.spawn(Arc::clone(&store).run());
    Running {
        server,
        store,
        _term: term,
        _work: work,
    }
}

impl Running {
    async fn store(&self, uid: &str, epoch: u64) -> Result<(), FlipWriteError> {
        self.store.store(&uid.into(), standing(epoch)).await
    }

    /// The epoch of each flip that is stored.
    fn there(&self) -> Value {
        let config_map = self.server.with(|state| state.get(CONFIG_MAPS, NAME).cloned());
        let content = config_map.map_or(String::new(), |there| there["data"][KEY].as_str().unwrap().to_owned());
        let mut flips: Value = serde_json::from_str(&content).unwrap_or_default();
        for flip in flips.as_object_mut().into_iter().flat_map(|flips| flips.values_mut()) {
            *flip = flip["epoch"].clone();
        }
        flips
    }

    fn writes(&self) -> Vec<String> {
        self.server.with(|state| std::mem::take(&mut state.writes))
    }
}

fn another(epochs: &[(&str, u64)]) -> Value {
    let flips = epochs
        .iter()
        .map(|(uid, epoch)| (Arc::from(*uid), standing(*epoch)))
        .collect();
    json!({"metadata": {"name": NAME, "labels": {annotations::FLIPS: ""}}, "data": {KEY: entry::encode(&flips)}})
}

#[tokio::test(start_paused = true)]
async fn flips_of_many_mirrors_are_one_write() {
    let running = running(true);
    let uids: Vec<String> = (0..1_000).map(|number| format!("uid-{number}")).collect();
    let stored = futures::future::join_all(uids.iter().map(|uid| running.store(uid, 2))).await;
    assert!(stored.iter().all(Result::is_ok));
    assert_eq!(running.writes(), ["POST catamaran-flips"]);
    assert_eq!(running.there().as_object().unwrap().len(), 1_000);
    // Further ones are added to what is there.
    running.store("later", 7).await.unwrap();
    assert_eq!(running.writes(), ["PATCH catamaran-flips"]);
    assert_eq!(
        (&running.there()["uid-7"], &running.there()["later"]),
        (&json!(2), &json!(7))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_read_back_is_what_was_stored() {
    let flips = Flips::from([("a".into(), standing(2)), ("b".into(), Arc::new(Standing::default()))]);
    let config_map = serde_json::from_value(another(&[])).map(|config_map: ConfigMap| ConfigMap {
        data: Some(BTreeMap::from([(KEY.to_owned(), entry::encode(&flips))])),
        ..config_map
    });
    assert_eq!(There::of(&config_map.unwrap()).flips, Arc::new(flips));
    // The names of the status, for people who look.
    let text = entry::encode(&Flips::from([("a".into(), standing(2))]));
    let expected = json!({"a": {
        "active": "Fallback", "activeRegistry": "ghcr.io/devopskev", "epoch": 2,
        "lastFlip": {"time": "2026-01-01T00:00:00Z", "from": "Primary", "to": "Fallback", "reason": "PrimaryUnavailable"},
        "recentFailovers": ["2026-01-01T00:00:00Z"],
    }});
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
}

#[test]
fn damaged_flips_are_none() {
    for content in [
        "",
        "[]",
        "{\"a\": {}}",
        "{\"a\": {\"active\": \"Sideways\", \"epoch\": 2}}",
    ] {
        let mut config_map = another(&[]);
        config_map["data"][KEY] = json!(content);
        let there = There::of(&serde_json::from_value(config_map).unwrap());
        assert!(there.flips.is_empty(), "{content}");
    }
}

#[tokio::test(start_paused = true)]
async fn flips_that_others_have_stored_stay() {
    let running = running(true);
    running.server.with(|state| {
        state.put(CONFIG_MAPS, another(&[("a", 5), ("b", 2)]));
    });
    let (a, b, c) = tokio::join!(running.store("a", 5), running.store("b", 3), running.store("c", 1));
    assert!(matches!(a, Err(FlipWriteError::Conflict(there)) if there.epoch == 5));
    assert!(b.is_ok() && c.is_ok());
    assert_eq!(running.there(), json!({"a": 5, "b": 3, "c": 1}));
}

#[tokio::test(start_paused = true)]
async fn only_a_leader_stores_flips() {
    let running = running(false);
    assert!(matches!(running.store("a", 2).await, Err(FlipWriteError::NotLeading)));
    assert!(running.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn flips_that_can_not_be_stored_together_are_refused() {
    let running = running(true);
    running
        .server
        .with(|state| state.refuse = Some((403, |line| line.contains("configmaps"))));
    assert!(matches!(running.store("a", 2).await, Err(FlipWriteError::Refused(_))));
    running.server.with(|state| state.refuse = None);
    running.store("a", 2).await.unwrap();
    // Of more than a ConfigMap holds, the further ones go elsewhere, and those that are there stay.
    let uids: Vec<String> = (0..5_000).map(|number| format!("uid-{number}")).collect();
    let stored = futures::future::join_all(uids.iter().map(|uid| running.store(uid, 2))).await;
    assert!(
        stored
            .iter()
            .all(|stored| matches!(stored, Err(FlipWriteError::Refused(_))))
    );
    assert_eq!(running.there(), json!({"a": 2}));
}

#[tokio::test(start_paused = true)]
async fn config_map_goes_once_every_status_says_its_flip() {
    let running = running(true);
    running.store("a", 2).await.unwrap();
    running.store.said();
    running.store.said();
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(running.there(), Value::Null);
    assert_eq!(running.writes(), ["POST catamaran-flips", "DELETE catamaran-flips"]);
    // Another one was stored since every status had said its own.
    running.store("a", 3).await.unwrap();
    running.store.said();
    running.server.with(|state| {
        state.put(CONFIG_MAPS, another(&[("b", 2)]));
    });
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(running.there(), json!({"b": 2}));
    let names: BTreeSet<String> = running.writes().into_iter().collect();
    assert_eq!(names, BTreeSet::from(["POST catamaran-flips".to_owned()]));
}
