//! The routes and the evidence of objects that were read once.

use catamaran_core::policy::ActiveSide;
use catamaran_core::side::Side;
use serde_json::json;

use super::*;
use crate::publish::testserver;
use crate::publish::testserver::{group, place};

fn config_map(index: u16) -> ConfigMap {
    serde_json::from_value(testserver::config_map("apps", &group("apps", place(1, index), 0))).unwrap()
}

#[test]
fn route_is_what_the_status_says_and_a_bad_spec_has_none() {
    let mirror = testserver::mirror("apps", "Fallback", 7);
    let now = "2026-12-01T04:00:00Z".parse().unwrap();
    let route = |mirror: &serde_json::Value| {
        super::route(&serde_json::from_value(mirror.clone()).unwrap(), &Arc::default(), now)
    };
    let found = route(&mirror).unwrap();
    assert_eq!((found.active, found.epoch), (Side::Fallback, 7));
    let mut pinned = mirror.clone();
    pinned["spec"]["active"] = json!("Fallback");
    pinned["spec"]["activeUntil"] = json!("2026-12-01T04:00:01Z");
    let override_of = |mirror: &serde_json::Value| route(mirror).unwrap().policy.failover.active;
    assert_eq!(override_of(&pinned), ActiveSide::Fixed(Side::Fallback));
    pinned["spec"]["activeUntil"] = json!("2026-12-01T04:00:00Z");
    assert_eq!(override_of(&pinned), ActiveSide::Auto);
    let mut bad = mirror;
    bad["spec"]["primary"]["registry"] = json!("https://kracr.azurecr.io/");
    assert!(route(&bad).is_err());
}

#[test]
fn flip_that_no_status_says_yet_is_in_force() {
    let mirror = serde_json::from_value(testserver::mirror("apps", "Primary", 1)).unwrap();
    let now = "2026-12-01T04:00:00Z".parse().unwrap();
    let mut routes = [super::route(&mirror, &Arc::default(), now).unwrap()];
    let stored = |epoch: u64| -> ConfigMap {
        let flips =
            json!({"uid-apps": {"active": "Fallback", "epoch": epoch}, "uid-gone": {"active": "Primary", "epoch": 9}});
        serde_json::from_value(json!({"data": {"flips": flips.to_string()}})).unwrap()
    };
    flip(&mut routes, &stored(1));
    assert_eq!(
        (routes[0].active, routes[0].epoch),
        (Side::Primary, 1),
        "the status is as late"
    );
    flip(&mut routes, &stored(2));
    assert_eq!((routes[0].active, routes[0].epoch), (Side::Fallback, 2));
    flip(&mut routes, &ConfigMap::default());
    assert_eq!(routes[0].epoch, 2);
}

#[test]
fn evidence_says_when_each_group_was_written_and_which_are_missing() {
    let mut first = config_map(0);
    first.metadata.managed_fields = serde_json::from_value(json!([
        {"manager": "kubectl", "operation": "Update", "time": "2026-11-20T12:00:00Z"},
        {"manager": CONTROLLER, "operation": "Apply", "time": "2026-11-20T10:00:00Z"},
    ]))
    .unwrap();
    let found = evidence([&first]).remove("uid-apps").unwrap();
    assert_eq!(found.groups, (1, 2));
    assert_eq!(found.written[&place(1, 0)].to_string(), "2026-11-20T10:00:00Z");
    let found = evidence([&first, &config_map(1)]).remove("uid-apps").unwrap();
    assert_eq!((found.groups, found.evidence.groups().len()), ((2, 2), 2));
}

#[test]
fn damaged_config_map_is_named_and_proves_nothing() {
    let mut damaged = config_map(0);
    damaged
        .binary_data
        .as_mut()
        .unwrap()
        .values_mut()
        .for_each(|bytes| bytes.0.truncate(20));
    let found = evidence([&damaged, &config_map(1)]).remove("uid-apps").unwrap();
    assert_eq!((found.damaged.len(), found.groups), (1, (1, 2)));
    assert!(
        found.damaged[0].starts_with("catamaran-evidence-apps-1x0: "),
        "{:?}",
        found.damaged
    );
    let foreign = ConfigMap::default();
    assert!(evidence([&foreign]).is_empty());
}
