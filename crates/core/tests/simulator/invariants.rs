//! What must hold of every decision, whatever the weather, judged from a log of probes and not by the code under test.

use std::collections::BTreeMap;
use std::time::Duration;

use catamaran_core::failover::{Decision, Flip, FlipReason};
use catamaran_core::health::{Outcome, Unavailable};
use catamaran_core::policy::{FailbackMode, Tiller, Trigger};
use catamaran_core::side::{Side, Sides};
use proptest::prelude::*;

use crate::world::{MINUTE, Registry, SECOND, Seen, Weather, World, at, millis, ms};

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        6 => Just(Weather::Up),
        3 => Just(Weather::Fails(Unavailable::ConnectionFailed)),
        2 => Just(Weather::BlackHole),
        1 => Just(Weather::Says(Outcome::Unauthorized)),
        1 => Just(Weather::Says(Outcome::NetworkDenied)),
        1 => Just(Weather::Says(Outcome::CanaryNotFound)),
        1 => prop::option::of(0u64..400).prop_map(|told| Weather::Says(Outcome::Throttled {
            retry_after: told.map(Duration::from_secs),
        })),
    ]
}

fn registry() -> impl Strategy<Value = Registry> {
    let stretches = prop::collection::vec((200..4 * MINUTE, weather()), 0..12);
    (
        stretches,
        1..900i64,
        prop_oneof![Just(0.0), Just(0.02), Just(0.3)],
        any::<u64>(),
    )
        .prop_map(|(stretches, latency, loss, seed)| {
            let mut from = 0;
            let mut changes = Vec::new();
            for (length, weather) in stretches {
                changes.push((from, weather));
                from += length;
            }
            changes.push((from, Weather::Up));
            Registry::new(changes, latency).lossy(loss, seed)
        })
}

/// What a person or the cluster does to the operator.
#[derive(Clone, Debug)]
enum Disturbance {
    Restart,
    Steer(Tiller),
    Failback(FailbackMode),
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    prop_oneof![
        Just(Disturbance::Restart),
        Just(Disturbance::Steer(Tiller::Auto)),
        Just(Disturbance::Steer(Tiller::Fixed(Side::Primary))),
        Just(Disturbance::Steer(Tiller::Fixed(Side::Fallback))),
        Just(Disturbance::Failback(FailbackMode::Manual)),
        Just(Disturbance::Failback(FailbackMode::Automatic)),
    ]
}

prop_compose! {
    fn any_world()(
        primary in registry(),
        fallback in registry(),
        offset in 0..3_000i64,
        period in 1..6u64,
        timeout in 1..4u64,
        failures in 1..5u32,
        successes in 1..5u32,
        stable in 60..200u64,
        triggers in prop::sample::subsequence(vec![Trigger::Unauthorized, Trigger::Forbidden], 0..=2),
    ) -> World {
        let mut world = World::new(Sides { primary, fallback }, offset);
        world.policy.health.period = Duration::from_secs(period);
        world.policy.health.timeout = Duration::from_secs(timeout);
        world.policy.health.failure_threshold = failures;
        world.policy.health.success_threshold = successes;
        world.policy.health.triggers = triggers;
        world.policy.failover.stable = Duration::from_secs(stable);
        world.policy.parity.interval = Duration::from_secs(45);
        world.log = Some(Vec::new());
        world
    }
}

fn probes_of(world: &World, side: Side) -> impl Iterator<Item = &Seen> {
    world.log.iter().flatten().rev().filter(move |seen| seen.side == side)
}

fn counts(world: &World, outcome: &Outcome) -> bool {
    let triggers = &world.policy.health.triggers;
    match outcome {
        Outcome::Unavailable(_) => true,
        Outcome::Unauthorized => triggers.contains(&Trigger::Unauthorized),
        Outcome::Forbidden | Outcome::NetworkDenied => triggers.contains(&Trigger::Forbidden),
        _ => false,
    }
}

fn fresh(world: &World, seen: &Seen) -> bool {
    let health = &world.policy.health;
    world.now - seen.end <= 2 * millis(health.period.max(health.timeout))
}

fn check_failover(world: &World, flip: &Flip) {
    let dead = probes_of(world, flip.from)
        .next()
        .expect("a failover without a probe of the active side");
    assert!(
        fresh(world, dead) && counts(world, &dead.outcome),
        "the active side did not just fail: {dead:?}"
    );
    let run = probes_of(world, flip.from).take_while(|seen| seen.outcome != Outcome::Reachable);
    let failures = run.filter(|seen| counts(world, &seen.outcome)).count();
    assert!(
        failures >= world.policy.health.failure_threshold as usize,
        "only {failures} failures in a row"
    );
    let alive = probes_of(world, flip.to)
        .next()
        .expect("a failover to a side that was never probed");
    assert!(
        fresh(world, alive) && alive.outcome == Outcome::Reachable,
        "the other side does not answer: {alive:?}"
    );
    assert_eq!(world.policy.failover.active, Tiller::Auto);
}

fn check_failback(world: &World, flip: &Flip) {
    let failover = &world.policy.failover;
    assert_eq!(
        (failover.active, failover.failback),
        (Tiller::Auto, FailbackMode::Automatic)
    );
    assert_eq!((flip.from, flip.to), (Side::Fallback, Side::Primary));
    let run: Vec<&Seen> = probes_of(world, Side::Primary)
        .take_while(|s| s.outcome == Outcome::Reachable)
        .collect();
    assert!(
        run.len() >= world.policy.health.success_threshold as usize,
        "{} successes in a row",
        run.len()
    );
    let since = run.last().expect("a failback without an answer of the primary").end;
    let hour = 60 * MINUTE;
    let failovers = world
        .flips
        .iter()
        .filter(|flip| flip.reason == FlipReason::PrimaryUnavailable && world.now - ms(flip.at) < hour)
        .count();
    let doubled = millis(failover.stable) << failovers.saturating_sub(1).min(10);
    assert!(
        world.now - since >= doubled.min(hour),
        "stable for {} ms after {failovers}",
        world.now - since
    );
    let pass = world.pass.as_ref().expect("a failback without a pass");
    assert!(
        pass.begun >= at(since) && pass.in_use_in_sync,
        "{pass:?} with a primary back since {since}"
    );
}

fn check(world: &World, decision: &Decision) {
    let standing = &world.standing;
    assert_eq!(decision.epoch, standing.epoch + u64::from(decision.flip.is_some()));
    assert_eq!(decision.active == standing.active, decision.flip.is_none());
    assert!(!decision.why.message.is_empty());
    assert!(decision.recheck_at.is_none_or(|recheck| recheck > at(world.now)));
    let Some(flip) = &decision.flip else { return };
    assert_eq!((flip.from, flip.to), (standing.active, decision.active));
    match flip.reason {
        FlipReason::Requested => assert_eq!(world.policy.failover.active, Tiller::Fixed(flip.to)),
        FlipReason::PrimaryRecovered => check_failback(world, flip),
        FlipReason::PrimaryUnavailable | FlipReason::FallbackUnavailable => check_failover(world, flip),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_flip_happens_without_its_preconditions_and_the_epoch_never_falls(
        mut world in any_world(),
        disturbances in prop::collection::vec((5 * SECOND..3 * MINUTE, disturbance()), 0..8),
    ) {
        let mut active_by_epoch = BTreeMap::from([(1, Side::Primary)]);
        let mut last = 1;
        let mut judge = |world: &World, decision: &Decision| {
            check(world, decision);
            assert!(decision.epoch >= last, "the epoch fell from {last} to {}", decision.epoch);
            last = decision.epoch;
            assert_eq!(*active_by_epoch.entry(last).or_insert(decision.active), decision.active);
        };
        for (length, disturbance) in disturbances {
            world.run_checked(world.now + length, &mut judge);
            match disturbance {
                Disturbance::Restart => world.restart(),
                Disturbance::Steer(tiller) => world.policy.failover.active = tiller,
                Disturbance::Failback(mode) => world.policy.failover.failback = mode,
            }
        }
        world.run_checked(world.now + 12 * MINUTE, &mut judge);
    }
}
