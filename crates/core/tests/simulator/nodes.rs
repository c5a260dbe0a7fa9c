//! What only nodes see: pulls that fail while every probe passes, and pulls that fail for reasons that are nobody's outage.

use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::mirror::failover::{FlipReason, Reason};
use catamaran_core::pod::message::PullFailure;
use catamaran_core::policy::{ActiveSide, OnPullsFailing, Trigger};
use catamaran_core::side::Side;

use crate::bench::{active, healthy, observation, outage, policy, reasons, registry, run, world, world_under};
use crate::clock::{HOUR, MINUTE, Ms, SECOND};
use crate::registry::Weather;
use crate::world::{Flipped, World};

const PRIMARY: &str = "primary.example";
const FALLBACK: &str = "fallback.example";

/// Both registries are well, and pods are created on so many nodes, one every so often.
fn nodes(count: usize, every: Ms) -> World {
    let mut world = world(healthy(40), healthy(60).offset(300));
    world.start_pods(count, every);
    world
}

/// Pulls by these nodes fail from `from` to `to`.
fn fails(world: &mut World, nodes: &[usize], host: &'static str, failure: PullFailure, (from, to): (Ms, Ms)) {
    for node in nodes {
        let changes = &mut world.kubelets.nodes[*node].changes;
        changes.extend([(from, host, Some(failure)), (to, host, None)]);
        changes.sort_by_key(|(at, ..)| *at);
    }
}

/// The most flips within any hour.
fn most_an_hour(flips: &[Flipped]) -> usize {
    let within = |first: &Flipped| {
        let hour = first.at..first.at + HOUR;
        flips.iter().filter(|flip| hour.contains(&flip.at)).count()
    };
    flips.iter().map(within).max().unwrap_or_default()
}

#[test]
fn blob_storage_dead_for_kubelets_flips_while_probes_pass() {
    for failure in [
        PullFailure::Connection,
        PullFailure::ServerError,
        PullFailure::Tls,
        PullFailure::Dns,
    ] {
        let mut world = nodes(3, 2 * SECOND);
        fails(&mut world, &[0, 1, 2], PRIMARY, failure, (MINUTE, 6 * MINUTE));
        run(&mut world, 30 * MINUTE);
        let expected = [FlipReason::PullsFailing, FlipReason::PrimaryRecovered];
        assert_eq!(reasons(&world.flips), expected, "{failure:?}");
        let [over, back] = [0, 1].map(|index| world.flips[index].at);
        assert!(
            (MINUTE..MINUTE + 10 * SECOND).contains(&over),
            "{failure:?}: over at {over}"
        );
        assert!(back >= over + 10 * MINUTE, "twice the stable time: {back}");
    }
}

#[test]
fn kubelets_flip_a_mirror_whose_probes_say_nothing() {
    let denied = registry(40, vec![(0, Weather::Says(Outcome::Unauthorized))]);
    let mut world = world(denied, healthy(60).offset(300));
    world.start_pods(2, 2 * SECOND);
    fails(&mut world, &[0, 1], PRIMARY, PullFailure::Dns, (MINUTE, HOUR));
    run(&mut world, 10 * MINUTE);
    assert_eq!(reasons(&world.flips), [FlipReason::PullsFailing]);
}

#[test]
fn pulls_that_fail_from_the_fallback_flip_back() {
    let mut world = world(
        registry(40, outage(Weather::BlackHole, MINUTE, 2 * MINUTE)),
        healthy(60).offset(300),
    );
    world.start_pods(2, 2 * SECOND);
    fails(
        &mut world,
        &[0, 1],
        FALLBACK,
        PullFailure::Connection,
        (3 * MINUTE, HOUR),
    );
    run(&mut world, 5 * MINUTE);
    let expected = [FlipReason::PrimaryUnavailable, FlipReason::PullsFailing];
    assert_eq!(reasons(&world.flips), expected);
    assert_eq!(active(&world), (Side::Primary, 3));
}

#[test]
fn pull_failures_that_are_no_outage_flip_nothing() {
    // Expired credentials of the nodes, throttling of the nodes, images that are not there, a policy that refuses signatures.
    for failure in [
        PullFailure::Unauthorized,
        PullFailure::Throttled,
        PullFailure::NotFound,
        PullFailure::SignatureInvalid,
        PullFailure::Other,
    ] {
        let mut world = nodes(3, 2 * SECOND);
        fails(&mut world, &[0, 1, 2], PRIMARY, failure, (MINUTE, HOUR));
        run(&mut world, HOUR);
        assert_eq!(world.flips, [], "{failure:?}");
        assert_eq!(observation(&world).pulls, None, "{failure:?}");
        assert!(observation(&world).pods_failing > 10, "{failure:?} is shown");
    }
}

#[test]
fn triggers_are_about_probes_and_not_about_kubelets() {
    let mut policy = policy();
    policy.health.triggers = vec![Trigger::Unavailable, Trigger::Unauthorized, Trigger::Throttled];
    let mut world = world_under(policy, healthy(40), healthy(60).offset(300));
    world.start_pods(3, 2 * SECOND);
    fails(&mut world, &[0, 1, 2], PRIMARY, PullFailure::Throttled, (MINUTE, HOUR));
    run(&mut world, HOUR);
    assert_eq!(world.flips, []);
}

#[test]
fn single_node_of_many_that_is_cut_off_flips_nothing() {
    let mut world = nodes(4, SECOND);
    fails(&mut world, &[2], PRIMARY, PullFailure::Connection, (MINUTE, HOUR));
    run(&mut world, HOUR);
    assert_eq!(world.flips, []);
}

#[test]
fn single_node_that_is_the_cluster_flips() {
    let mut world = nodes(1, 5 * SECOND);
    fails(&mut world, &[0], PRIMARY, PullFailure::Dns, (3 * MINUTE, HOUR));
    run(&mut world, 6 * MINUTE);
    assert_eq!(reasons(&world.flips), [FlipReason::PullsFailing]);
}

#[test]
fn two_pods_that_fail_for_ever_flip_nothing() {
    let mut world = nodes(2, HOUR);
    fails(&mut world, &[0, 1], PRIMARY, PullFailure::Connection, (0, HOUR));
    world.create_pod();
    world.create_pod();
    run(&mut world, 50 * MINUTE);
    assert_eq!(world.flips, []);
}

#[test]
fn nodes_that_reach_neither_side_cause_at_most_four_flips_an_hour() {
    let mut world = nodes(3, 2 * SECOND);
    for host in [PRIMARY, FALLBACK] {
        fails(
            &mut world,
            &[0, 1, 2],
            host,
            PullFailure::Connection,
            (MINUTE, 5 * HOUR),
        );
    }
    run(&mut world, 5 * HOUR);
    assert!(!world.flips.is_empty());
    assert!(most_an_hour(&world.flips) <= 4, "{:?}", world.flips);
}

#[test]
fn pulls_failing_in_any_rhythm_cause_at_most_four_flips_an_hour() {
    for (length, stable) in [
        (20, 300),
        (60, 60),
        (90, 300),
        (240, 60),
        (600, 60),
        (700, 300),
        (1_300, 300),
    ] {
        for shared in [false, true] {
            let mut policy = policy();
            policy.failover.stable = std::time::Duration::from_secs(stable);
            let mut world = world_under(policy, healthy(40), healthy(60).offset(300));
            world.start_pods(3, 3 * SECOND);
            let mut from = MINUTE;
            while from < 4 * HOUR {
                let end = from + length * SECOND;
                let host = if shared && (from / SECOND) % 2 == 0 {
                    FALLBACK
                } else {
                    PRIMARY
                };
                fails(&mut world, &[0, 1, 2], host, PullFailure::ServerError, (from, end));
                from = end + length * SECOND + if shared { SECOND } else { 0 };
            }
            run(&mut world, 4 * HOUR);
            let flips = &world.flips;
            assert!(
                most_an_hour(flips) <= 4,
                "{length} s, stable {stable} s, {shared}: {flips:?}"
            );
        }
    }
}

#[test]
fn failing_pulls_are_only_reported_where_the_user_says_so() {
    let mut reports = policy();
    reports.health.on_pulls_failing = OnPullsFailing::Report;
    let mut pinned = policy();
    pinned.failover.active = ActiveSide::Fixed(Side::Primary);
    for (policy, reason) in [(reports, Reason::PullsFailing), (pinned, Reason::Overridden)] {
        let mut world = world_under(policy, healthy(40), healthy(60).offset(300));
        world.start_pods(3, 2 * SECOND);
        fails(&mut world, &[0, 1, 2], PRIMARY, PullFailure::Connection, (MINUTE, HOUR));
        run(&mut world, 10 * MINUTE);
        assert_eq!(world.flips, []);
        let seen = observation(&world);
        assert_eq!(seen.decision.why.reason, reason);
        let (side, failing) = seen.pulls.expect("pulls fail");
        assert_eq!((side, failing.kind), (Side::Primary, Unavailable::ConnectionFailed));
    }
}

#[test]
fn failing_pulls_without_a_place_to_go_write_seldom() {
    let mut policy = policy();
    policy.health.on_pulls_failing = OnPullsFailing::Report;
    let mut world = world_under(policy, healthy(40), healthy(60).offset(300));
    world.start_pods(3, 2 * SECOND);
    fails(
        &mut world,
        &[0, 1, 2],
        PRIMARY,
        PullFailure::Connection,
        (MINUTE, 3 * HOUR),
    );
    run(&mut world, 10 * MINUTE);
    let before = world.writes;
    run(&mut world, 70 * MINUTE);
    let writes = world.writes - before;
    assert!(
        writes <= 60 * 4,
        "{writes} writes in an hour in which a pod fails every two seconds"
    );
}

#[test]
fn restart_while_pulls_fail_keeps_what_was_decided() {
    for moment in (MINUTE..4 * MINUTE).step_by(7_300) {
        let mut world = nodes(3, 2 * SECOND);
        fails(
            &mut world,
            &[0, 1, 2],
            PRIMARY,
            PullFailure::Connection,
            (MINUTE, 30 * MINUTE),
        );
        run(&mut world, moment);
        world.restart(0);
        run(&mut world, 8 * MINUTE);
        assert_eq!(
            reasons(&world.flips),
            [FlipReason::PullsFailing],
            "restarted at {moment}"
        );
        assert_eq!(active(&world), (Side::Fallback, 2));
    }
}
