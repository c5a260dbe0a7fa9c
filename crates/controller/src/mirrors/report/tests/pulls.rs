//! Pulls that fail on nodes.

use catamaran_core::pod::message::PullFailure;

use super::*;

fn reported() -> World {
    let mut world = World::with(&json!({"healthCheck": {"onPullsFailing": "Report"}}));
    world.run(MINUTES);
    world.events.clear();
    world.pulls_fail(Side::Primary, PullFailure::Connection);
    world
}

fn reasons(world: &World) -> Vec<&'static str> {
    world
        .events
        .iter()
        .map(|announcement| announcement.event.reason)
        .collect()
}

#[test]
fn failing_pulls_are_reported_without_a_flip() {
    let mut world = reported();
    world.run(5);
    world
        .expect(conditions::PULLS_FAILING, "True", reason::CONNECTION_FAILED)
        .expect(conditions::PRIMARY_AVAILABLE, "True", reason::REACHABLE)
        .expect(conditions::READY, "False", reason::PULLS_FAILING)
        .expect(conditions::STALLED, "", "");
    assert_eq!(
        world.message(conditions::PULLS_FAILING),
        "3 pods on 2 nodes can't pull from kracr.azurecr.io since 2026-11-01T12:03:00Z: the connection fails"
    );
    let ready = world.message(conditions::READY);
    assert!(
        ready.ends_with("healthCheck.onPullsFailing is Report, so pods stay with it"),
        "{ready}"
    );
    assert_eq!(reasons(&world), [events::PULLS_FAILING.reason]);
    assert_eq!(world.status().pods.unwrap().failing, 3);
}

#[test]
fn failing_pulls_write_once_and_end_once() {
    let mut world = reported();
    world.run(10);
    let writes = world.writes;
    world.run(5 * 60);
    assert_eq!(world.writes, writes, "nothing changes");
    world.run(2 * 60);
    world
        .expect(conditions::PULLS_FAILING, "False", reason::NO_PULL_FAILURES)
        .expect(conditions::READY, "True", reason::SERVING_FROM_PRIMARY);
    assert_eq!(
        reasons(&world),
        [events::PULLS_FAILING.reason, events::PULLS_WORK.reason]
    );
}

#[test]
fn failing_pulls_flip_and_say_so() {
    let mut world = World::new();
    world.tag("1", &digest("a"), &digest("a")).run(MINUTES);
    world.events.clear();
    world.pulls_fail(Side::Primary, PullFailure::ServerError).run(5);
    world
        .expect(conditions::FAILED_OVER, "True", reason::PULLS_FAILING)
        .expect(conditions::PULLS_FAILING, "False", reason::NO_PULL_FAILURES)
        .expect(conditions::PRIMARY_AVAILABLE, "True", reason::REACHABLE)
        .expect(conditions::READY, "True", reason::SERVING_FROM_FALLBACK);
    let status = world.status();
    assert_eq!((status.active, status.epoch), (Some(Side::Fallback), 2));
    assert_eq!(status.recent_failovers.len(), 1);
    assert_eq!(status.pods.unwrap().failing, 0, "none of them failed there");
    let expected = [
        events::FAILED_OVER.reason,
        events::PULLS_FAILING.reason,
        events::PULLS_WORK.reason,
    ];
    assert_eq!(reasons(&world), expected);
    let note = &world.events[0].note;
    assert!(note.contains("can't pull from the primary kracr.azurecr.io"), "{note}");
}

#[test]
fn pods_that_fail_where_a_flip_sent_them_are_counted() {
    let mut world = World::new();
    world.run(MINUTES).pulls_fail(Side::Primary, PullFailure::Dns).run(5);
    world.pulls_fail(Side::Fallback, PullFailure::Unauthorized).run(60);
    world
        .expect(conditions::PULLS_FAILING, "False", reason::NO_PULL_FAILURES)
        .expect(conditions::READY, "True", reason::SERVING_FROM_FALLBACK);
    assert_eq!(world.status().pods.unwrap().failing, 3);
    let writes = world.writes;
    world.run(60);
    assert_eq!(world.writes, writes);
}

#[test]
fn failing_pulls_without_a_place_to_go_are_not_ready() {
    let mut world = World::new();
    world.run(MINUTES).probes(UP, DOWN).run(MINUTES);
    world.pulls_fail(Side::Primary, PullFailure::Tls).run(5);
    world.expect(conditions::READY, "False", reason::PULLS_FAILING);
    let ready = world.message(conditions::READY);
    assert!(
        ready.contains("the TLS handshake fails; ghcr.io is no substitute: is unavailable"),
        "{ready}"
    );
}
