//! The policy and status in force, and the news, as mirrors are edited.

use catamaran_core::policy::ActiveSide;
use catamaran_core::side::Side;
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::*;
use crate::publish::news::{NewsReceiver, channel};
use crate::publish::testserver;

fn seen() -> (SeenMirrors, NewsReceiver) {
    let (sender, receiver) = channel();
    (SeenMirrors::new(sender), receiver)
}

fn parse(value: &Value) -> Mirror {
    serde_json::from_value(value.clone()).unwrap()
}

fn failed_over() -> Value {
    testserver::mirror("apps", "Fallback", 2)
}

fn apply(mirrors: &mut SeenMirrors, value: &Value) -> bool {
    mirrors.take(Event::Apply(parse(value)), Instant::now())
}

fn in_force(mirrors: &SeenMirrors) -> Option<(Arc<MirrorPolicy>, Side, u64)> {
    let (_, mirror) = mirrors.iter().next()?;
    let (policy, status) = mirror.in_force()?;
    Some((Arc::clone(policy), status.active, status.epoch))
}

fn news(receiver: &mut NewsReceiver) -> MirrorNews {
    receiver.next().now_or_never().unwrap()
}

/// An edit that the definition allows and the parser does not.
fn with_a_bad_pattern(mut mirror: Value) -> Value {
    mirror["metadata"]["generation"] = json!(2);
    mirror["spec"]["repositories"] = json!([{"name": "web", "tags": {"include": ["("]}}]);
    mirror
}

#[test]
fn policy_is_parsed_once_for_each_generation() {
    let (mut mirrors, _news) = seen();
    let mut mirror = failed_over();
    assert!(apply(&mut mirrors, &mirror));
    let (first, ..) = in_force(&mirrors).unwrap();
    mirror["status"]["pods"] = json!({"onFallback": 3, "rescued": 1});
    assert!(!apply(&mut mirrors, &mirror), "counters change no route");
    let (again, ..) = in_force(&mirrors).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    mirror["metadata"]["generation"] = json!(2);
    mirror["spec"]["fallback"]["prefix"] = json!("elsewhere");
    assert!(apply(&mut mirrors, &mirror));
    assert_eq!(in_force(&mirrors).unwrap().0.sides.fallback.prefix, "elsewhere");
}

#[test]
fn restored_generation_with_another_spec_is_parsed_again() {
    let (mut mirrors, _news) = seen();
    let mut mirror = failed_over();
    apply(&mut mirrors, &mirror);
    mirror["spec"]["fallback"]["prefix"] = json!("elsewhere");
    assert!(apply(&mut mirrors, &mirror));
    assert_eq!(in_force(&mirrors).unwrap().0.sides.fallback.prefix, "elsewhere");
}

#[test]
fn invalid_edit_keeps_the_last_valid_policy() {
    let (mut mirrors, mut receiver) = seen();
    apply(&mut mirrors, &failed_over());
    news(&mut receiver);
    let (valid, ..) = in_force(&mirrors).unwrap();
    assert!(!apply(&mut mirrors, &with_a_bad_pattern(failed_over())));
    let (policy, active, epoch) = in_force(&mirrors).unwrap();
    assert!(Arc::ptr_eq(&valid, &policy));
    assert_eq!((active, epoch), (Side::Fallback, 2));
    let MirrorNews::Applied { policy, last_valid, .. } = news(&mut receiver) else {
        panic!("another kind of news");
    };
    assert!(policy.is_err());
    let last_valid = last_valid.unwrap();
    assert_eq!(last_valid.generation, 1);
    assert!(Arc::ptr_eq(&valid, &last_valid.policy));
}

#[test]
fn flip_under_an_invalid_spec_is_followed() {
    let (mut mirrors, _news) = seen();
    apply(&mut mirrors, &failed_over());
    let mut mirror = with_a_bad_pattern(failed_over());
    mirror["status"] = json!({"active": "Primary", "epoch": 3});
    assert!(apply(&mut mirrors, &mirror));
    assert_eq!(
        in_force(&mirrors).map(|(_, active, epoch)| (active, epoch)),
        Some((Side::Primary, 3))
    );
}

#[test]
fn unreadable_mirror_keeps_the_last_valid_policy() {
    let (mut mirrors, mut receiver) = seen();
    apply(&mut mirrors, &failed_over());
    news(&mut receiver);
    let mut unreadable = failed_over();
    unreadable["spec"]["primary"] = json!("kracr.azurecr.io");
    assert!(!apply(&mut mirrors, &unreadable));
    assert_eq!(
        in_force(&mirrors).map(|(_, active, epoch)| (active, epoch)),
        Some((Side::Fallback, 2))
    );
    let MirrorNews::Unreadable { invalid, last_valid } = news(&mut receiver) else {
        panic!("another kind of news");
    };
    assert_eq!(invalid.metadata.name.as_deref(), Some("apps"));
    assert_eq!(last_valid.unwrap().generation, 1);
}

#[test]
fn mirror_that_was_never_valid_has_no_route() {
    let (mut mirrors, _news) = seen();
    apply(&mut mirrors, &with_a_bad_pattern(failed_over()));
    assert!(in_force(&mirrors).is_none());
}

#[test]
fn deleted_mirror_loses_its_route_at_once() {
    for (case, events) in [
        ("deleted", vec![Event::Delete(parse(&failed_over()))]),
        ("missing in a list", vec![Event::Init, Event::InitDone]),
    ] {
        let (mut mirrors, mut receiver) = seen();
        apply(&mut mirrors, &failed_over());
        let relevant = events.into_iter().map(|event| mirrors.take(event, Instant::now()));
        assert!(relevant.fold(false, |all, one| all | one), "{case}");
        assert!(in_force(&mirrors).is_none(), "{case}");
        assert!(
            matches!(news(&mut receiver), MirrorNews::Deleted { uid } if &*uid == "uid-apps"),
            "{case}"
        );
        assert!(mirrors.delivered().is_empty(), "{case}");
    }
}

#[test]
fn end_of_list_follows_its_mirrors() {
    let (mut mirrors, mut receiver) = seen();
    for event in [Event::Init, Event::InitApply(parse(&failed_over())), Event::InitDone] {
        mirrors.take(event, Instant::now());
    }
    assert!(mirrors.listed());
    assert!(matches!(news(&mut receiver), MirrorNews::Applied { .. }));
    assert!(matches!(news(&mut receiver), MirrorNews::Listed { uids } if uids.len() == 1));
}

#[test]
fn lower_epoch_waits_for_a_consistent_read() {
    let (mut mirrors, _news) = seen();
    apply(&mut mirrors, &failed_over());
    let restored = testserver::mirror("apps", "Primary", 1);
    assert!(!apply(&mut mirrors, &restored));
    assert!(mirrors.in_doubt());
    assert_eq!(in_force(&mirrors).map(|(_, active, _)| active), Some(Side::Fallback));
    let Ok(read) = parse(&restored).0 else {
        panic!("not readable");
    };
    let read = RouteStatus::of(&read);
    assert!(mirrors.settle(|_, status| status.confirm(&read)));
    assert_eq!(in_force(&mirrors).map(|(_, active, _)| active), Some(Side::Primary));
    assert!(!mirrors.in_doubt());
}

#[test]
fn status_conditions_and_mappings_reach_the_route() {
    let mut mirror = failed_over();
    mirror["status"]["conditions"] = json!([
        {"type": "PrimaryAvailable", "status": "False", "reason": "Refused", "message": "",
         "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "FallbackAvailable", "status": "Unknown", "reason": "Throttled", "message": "",
         "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]);
    mirror["status"]["observedMappings"] = json!(["0123456789abcdef", "not a mapping"]);
    let Ok(mirror) = parse(&mirror).0 else {
        panic!("not readable");
    };
    let status = RouteStatus::of(&mirror);
    assert!(status.unavailable.primary);
    assert!(!status.unavailable.fallback);
    assert_eq!(status.observed.len(), 1);
}

#[test]
fn override_that_has_ended_leaves_the_route_once() {
    let (mut mirrors, _news) = seen();
    let mut mirror = failed_over();
    mirror["spec"]["active"] = json!("Fallback");
    mirror["spec"]["activeUntil"] = json!("2026-12-01T04:00:00Z");
    apply(&mut mirrors, &mirror);
    let active = |mirrors: &SeenMirrors| in_force(mirrors).unwrap().0.failover.active;
    let at = |time: &str| time.parse().unwrap();
    assert!(!mirrors.end_overrides(at("2026-12-01T03:59:59Z")));
    assert_eq!(active(&mirrors), ActiveSide::Fixed(Side::Fallback));
    assert!(mirrors.end_overrides(at("2026-12-01T04:00:00Z")));
    assert!(
        !mirrors.end_overrides(at("2026-12-01T04:00:01Z")),
        "it has ended already"
    );
    assert_eq!(active(&mirrors), ActiveSide::Auto);
    mirror["status"]["epoch"] = json!(3);
    assert!(apply(&mut mirrors, &mirror));
    assert_eq!(active(&mirrors), ActiveSide::Auto, "a status does not bring it back");
    mirror["metadata"]["generation"] = json!(2);
    mirror["spec"]["activeUntil"] = json!("2026-12-01T05:00:00Z");
    apply(&mut mirrors, &mirror);
    assert_eq!(active(&mirrors), ActiveSide::Fixed(Side::Fallback));
}
