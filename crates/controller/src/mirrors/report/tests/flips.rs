//! Flips, and what a failback waits for.

use super::*;

#[test]
fn dead_primary_is_left_and_announced_once() {
    let mut world = World::new();
    world.run(MINUTES);
    world.events.clear();
    world.probes(DOWN, UP).run(MINUTES);
    let reasons: Vec<&str> = world
        .events
        .iter()
        .map(|announcement| announcement.event.reason)
        .collect();
    assert_eq!(reasons, [events::SIDE_UNAVAILABLE.reason, events::FAILED_OVER.reason]);
    let status = world.status();
    assert_eq!((status.active, status.epoch), (Some(Side::Fallback), 2));
    world
        .expect(conditions::READY, "True", reason::SERVING_FROM_FALLBACK)
        .expect(conditions::FAILED_OVER, "True", reason::PRIMARY_UNAVAILABLE)
        .expect(conditions::STALLED, "", "");
}

#[test]
fn failback_waits_for_stability_and_happens() {
    let mut world = World::with(&json!({"failback": {"stableSeconds": 60}}));
    world.run(MINUTES).probes(DOWN, UP).run(MINUTES).probes(UP, UP).run(40);
    let waiting = world.message(conditions::READY);
    assert!(waiting.contains("must do so without a break until"), "{waiting}");
    world
        .run(MINUTES)
        .expect(conditions::FAILED_OVER, "False", reason::PRIMARY_RECOVERED)
        .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    assert_eq!(world.status().epoch, 3);
}

#[test]
fn failback_names_what_is_missing_on_primary() {
    let mut world = World::with(&json!({"failback": {"stableSeconds": 60}}));
    world.tag("2", &Observed::Absent, &digest("b")).uses("2");
    world.run(MINUTES).probes(DOWN, UP).run(MINUTES).probes(UP, UP).run(600);
    world.expect(conditions::READY, "True", reason::SERVING_FROM_FALLBACK);
    let message = world.message(conditions::READY);
    assert!(
        message.contains("1 reference in use holds the failback up"),
        "{message}"
    );
    let failback = world.status().failback.unwrap();
    let named: Vec<_> = failback.blocked_by.iter().map(|one| &*one.reference).collect();
    assert_eq!((failback.blocked, named), (1, vec!["2"]));
    world.tag("2", &digest("b"), &digest("b")).run(PASSES);
    world.expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    assert!(world.status().failback.is_none());
}

#[test]
fn dying_fallback_flips_back_with_its_own_reason() {
    let mut world = World::new();
    world.run(MINUTES).probes(DOWN, UP).run(MINUTES).probes(UP, UP).run(40);
    world.probes(UP, DOWN).run(MINUTES);
    world.expect(conditions::FAILED_OVER, "False", reason::FALLBACK_UNAVAILABLE);
}

#[test]
fn active_side_of_spec_is_followed() {
    let mut world = World::with(&json!({"active": "Fallback"}));
    world
        .run(MINUTES)
        .expect(conditions::FAILED_OVER, "True", reason::REQUESTED)
        .expect(conditions::READY, "True", reason::SERVING_FROM_FALLBACK);
}
