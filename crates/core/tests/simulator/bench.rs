//! One leader, two registries and their weather: how soon and how often it flips.

use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::mirror::failover::{FlipReason, Reason};
use catamaran_core::mirror::{Observation, Subject};
use catamaran_core::policy::{MirrorId, MirrorPolicy, SidePolicy};
use catamaran_core::side::{Side, Sides};

use crate::clock::{HOUR, MINUTE, Ms, SECOND, at};
use crate::registry::{Registry, Weather};
use crate::world::{Flipped, Workload, World};

const REFUSED: Weather = Weather::Fails(Unavailable::ConnectionFailed);
const YEAR: Ms = 365 * 24 * HOUR;

/// The defaults of the resource.
pub fn policy() -> MirrorPolicy {
    let side = |registry: &str| SidePolicy {
        registry: registry.to_owned(),
        ..SidePolicy::default()
    };
    let id = MirrorId {
        name: "apps".into(),
        uid: "1".into(),
    };
    let sides = Sides {
        primary: side("primary.example"),
        fallback: side("fallback.example"),
    };
    MirrorPolicy::new(id, at(0), sides)
}

/// A side that answers after so many milliseconds, under this weather.
pub fn registry(latency: Ms, changes: Vec<(Ms, Weather)>) -> Registry {
    Registry::new("", latency).under(changes)
}

pub fn healthy(latency: Ms) -> Registry {
    registry(latency, Vec::new())
}

/// A world whose leader starts at 0, with images that are the same on both sides and one of them in use.
pub fn world(primary: Registry, fallback: Registry) -> World {
    world_under(policy(), primary, fallback)
}

pub fn world_under(policy: MirrorPolicy, primary: Registry, fallback: Registry) -> World {
    world_of(policy, primary, fallback, 1)
}

pub fn world_of(policy: MirrorPolicy, mut primary: Registry, mut fallback: Registry, replicas: usize) -> World {
    "primary.example".clone_into(&mut primary.host);
    "fallback.example".clone_into(&mut fallback.host);
    for registry in [&mut primary, &mut fallback] {
        for tag in 0..3 {
            registry.push(0, "app", &format!("t{tag}"), World::content(tag));
        }
    }
    let mut world = World::new(policy, vec![primary, fallback], replicas);
    let image = "primary.example/app:t0".to_owned();
    let workload = Workload {
        runs: image.clone(),
        image,
        started: true,
        template: true,
        since: 0,
    };
    world.workloads.insert(0, workload);
    world
}

/// Lets time pass until `end`; nothing may be broken on the way.
#[track_caller]
pub fn run(world: &mut World, end: Ms) {
    world.run(end);
    assert_eq!(world.checks.violation(), None);
}

/// Down from `from` to `to`.
pub fn outage(weather: Weather, from: Ms, to: Ms) -> Vec<(Ms, Weather)> {
    vec![(from, weather), (to, Weather::Up)]
}

pub fn reasons(flips: &[Flipped]) -> Vec<FlipReason> {
    flips.iter().map(|flip| flip.reason).collect()
}

pub fn active(world: &World) -> (Side, u64) {
    let standing = world
        .object
        .status
        .standing
        .clone()
        .expect("a leader writes what stands");
    (standing.active, standing.epoch)
}

pub fn observation(world: &World) -> Observation {
    let view = world.replicas[0].mirror.view().expect("there is a spec");
    let Some((_, Subject::Watched(seen))) = view.in_force else {
        unreachable!("no mirror here is ever suspended");
    };
    *seen
}

fn lossy(loss: f64, seed: u64, threshold: u32) -> World {
    let mut policy = policy();
    policy.health.failure_threshold = threshold;
    let side = |seed| healthy(60).lossy(loss, seed);
    world_under(policy, side(seed), side(seed + 1_000).offset(700))
}

/// Plays so long, without the stretches in which all is well.
fn skip_through(world: &mut World, length: Ms) {
    while world.now + world.skipped < length {
        let end = world.now + SECOND;
        run(world, end);
        world.skip_healthy_stretch();
    }
}

#[test]
fn one_lost_probe_in_a_thousand_flips_at_most_once_a_year() {
    let mut steady = lossy(0.001, 7, 3);
    skip_through(&mut steady, YEAR);
    assert!(steady.flips.len() <= 2, "{:?}", steady.flips);

    // A way that loses every third probe does flip it, so the simulation has teeth.
    let mut broken = lossy(0.33, 7, 3);
    skip_through(&mut broken, YEAR / 50);
    assert!(broken.flips.len() > 20, "{}", broken.flips.len());
}

#[test]
fn skipping_healthy_stretches_changes_no_failover() {
    let failovers = |world: &World, shift: &dyn Fn(usize) -> Ms| -> Vec<Ms> {
        let all = world.flips.iter().enumerate();
        let over = all.filter(|(_, flip)| flip.reason == FlipReason::PrimaryUnavailable);
        over.map(|(index, flip)| flip.at + shift(index)).collect()
    };
    let bursts = || {
        let side = |seed| healthy(60).lossy(0.000_3, seed).bursts(8);
        world(side(11), side(12).offset(700))
    };
    let mut slow = bursts();
    run(&mut slow, 24 * HOUR);
    let mut quick = bursts();
    let mut shifts = Vec::new();
    while quick.now + quick.skipped < 24 * HOUR {
        let end = quick.now + SECOND;
        run(&mut quick, end);
        while shifts.len() < quick.flips.len() {
            shifts.push(quick.skipped);
        }
        quick.skip_healthy_stretch();
    }
    let slow = failovers(&slow, &|_| 0);
    assert!(slow.len() >= 2, "{slow:?}");
    assert!(quick.skipped > HOUR, "{} ms were left out", quick.skipped);
    assert_eq!(failovers(&quick, &|index| shifts[index]), slow);
}

/// Up and down for half a period each, for an hour, then up.
fn flapping(period: Ms, weather: Weather, begin: Ms) -> Vec<(Ms, Weather)> {
    let mut changes = Vec::new();
    let mut from = begin;
    while from < begin + HOUR {
        changes.extend(outage(weather, from, from + period / 2));
        from += period;
    }
    changes
}

/// An answer that takes next to no time makes probes and flapping beat slowly: the worst case for failback.
fn latency_for(period: Ms) -> Ms {
    match period % 4 {
        0 => 1,
        1 => 2,
        2 => 5,
        _ => 60,
    }
}

#[test]
fn flapping_primary_causes_at_most_four_flips_an_hour() {
    for period in 1..=120 {
        let latency = latency_for(period);
        let weather = if period % 3 == 0 { Weather::BlackHole } else { REFUSED };
        let primary = registry(latency, flapping(period * SECOND, weather, 10 * SECOND));
        let mut world = world(primary, healthy(latency).offset(400));
        run(&mut world, HOUR + 10 * SECOND);
        assert!(world.flips.len() <= 4, "period {period} s: {:?}", world.flips);
        if period >= 12 {
            // Anything that lasts twice as long as detection is seen.
            let first = world.flips.first().map(|flip| flip.reason);
            assert_eq!(first, Some(FlipReason::PrimaryUnavailable), "period {period} s");
        }
    }
}

#[test]
fn both_sides_flapping_cause_at_most_four_flips_an_hour() {
    for period in 1..=120 {
        let latency = latency_for(period);
        for shift in [0, period * SECOND / 2, period * SECOND / 4] {
            let primary = registry(latency, flapping(period * SECOND, REFUSED, 10 * SECOND));
            let fallback = registry(latency, flapping(period * SECOND, REFUSED, 10 * SECOND + shift));
            let mut world = world(primary, fallback.offset(400));
            run(&mut world, HOUR + 10 * SECOND);
            assert!(
                world.flips.len() <= 4,
                "period {period} s, shifted by {shift} ms: {:?}",
                world.flips
            );
        }
    }
}

#[test]
fn primary_that_beats_with_the_probes_causes_at_most_four_flips() {
    // Periods near the round of a probe, where every probe of many minutes meets the same half.
    for period in (900..=6_400).step_by(200) {
        for latency in [1, 3] {
            let primary = registry(latency, flapping(period, REFUSED, 10 * SECOND));
            let mut world = world(primary, healthy(latency).offset(400));
            run(&mut world, HOUR + 10 * SECOND);
            let flips = &world.flips;
            assert!(flips.len() <= 4, "period {period} ms, latency {latency} ms: {flips:?}");
        }
    }
}

#[test]
fn primary_up_just_long_enough_is_returned_to_ever_more_rarely() {
    // Up for seven minutes, down for one: each time long enough for a failback after five.
    let begin = 10 * SECOND;
    let changes =
        (0..30).flat_map(|round| outage(REFUSED, begin + round * 8 * MINUTE, begin + (round * 8 + 1) * MINUTE));
    let mut world = world(registry(50, changes.collect()), healthy(50).offset(400));
    run(&mut world, 4 * HOUR);
    // Thirty outages would make sixty flips.
    assert!((4..=16).contains(&world.flips.len()), "{:?}", world.flips);
}

#[test]
fn flapping_fallback_causes_no_flip_while_the_primary_serves() {
    for period in (1..=120).step_by(7) {
        let flaps = flapping(period * SECOND, REFUSED, 10 * SECOND);
        let mut world = world(healthy(40), registry(40, flaps).offset(400));
        run(&mut world, HOUR + 10 * SECOND);
        assert_eq!(world.flips, [], "period {period} s");
    }
}

#[test]
fn flapping_fallback_that_serves_is_left_once() {
    for period in (12..=120).step_by(7) {
        let primary = registry(40, outage(REFUSED, 10 * SECOND, 40 * SECOND));
        let flaps = flapping(period * SECOND, REFUSED, 45 * SECOND);
        let mut world = world(primary, registry(40, flaps).offset(400));
        run(&mut world, HOUR);
        let expected = [FlipReason::PrimaryUnavailable, FlipReason::FallbackUnavailable];
        assert_eq!(reasons(&world.flips), expected, "period {period} s");
    }
}

#[test]
fn losing_our_own_network_flips_nothing_in_any_phase() {
    for weather in [REFUSED, Weather::BlackHole] {
        for phase in (0..2_100).step_by(150) {
            for (offset, skew) in [(0, 0), (350, 0), (700, 500), (1_050, -500), (1_400, 300), (1_900, 0)] {
                for length in [1_200, 1_700, 2_000, 2_300, 3_000, 9_130, 61 * SECOND] {
                    let from = 20 * SECOND + phase;
                    let side = |skew| registry(45, outage(weather, from + skew, from + length + skew));
                    let mut world = world(side(0), side(skew).offset(offset));
                    run(&mut world, from + length + 30 * SECOND);
                    let case = format!("{weather:?} at {from} for {length}, offset {offset}, skew {skew}");
                    assert_eq!(world.flips, [], "{case}");
                }
            }
        }
    }
}

#[test]
fn real_outages_of_ghcr_cause_one_failover_and_one_failback() {
    for minutes in [35, 49, 94, 116] {
        for (weather, loss) in [
            (Weather::BlackHole, 0.0),
            (Weather::Fails(Unavailable::ServerError), 0.001),
        ] {
            let (from, to) = (10 * MINUTE + 1_234, (10 + minutes) * MINUTE);
            let side = |changes, seed| registry(80, changes).lossy(loss, seed);
            let mut world = world(side(outage(weather, from, to), 3), side(Vec::new(), 4).offset(900));
            run(&mut world, to + HOUR);
            let expected = [FlipReason::PrimaryUnavailable, FlipReason::PrimaryRecovered];
            assert_eq!(reasons(&world.flips), expected, "{minutes} min of {weather:?}");
            let [over, back] = [0, 1].map(|index| world.flips[index].at);
            assert!(
                (from..from + 10 * SECOND).contains(&over),
                "{minutes} min of {weather:?}: over at {over}"
            );
            assert!(
                (to + 5 * MINUTE..to + 30 * MINUTE).contains(&back),
                "{minutes} min of {weather:?}: back at {back}"
            );
        }
    }
}

#[test]
fn refusing_registry_is_left_within_four_seconds_black_hole_ten() {
    let cases = [
        (REFUSED, 4 * SECOND),
        (Weather::Fails(Unavailable::ServerError), 4 * SECOND),
        (Weather::Fails(Unavailable::TlsError), 4 * SECOND),
        (Weather::BlackHole, 10 * SECOND),
    ];
    for (weather, bar) in cases {
        for phase in (0..2_400).step_by(40) {
            for offset in [0, 333, 777, 1_234, 1_999] {
                for latency in [5, 120, 400] {
                    let from = 20 * SECOND + phase;
                    let primary = registry(latency.min(120), vec![(from, weather)]);
                    let mut world = world(primary, healthy(latency).offset(offset));
                    run(&mut world, from + bar);
                    let case = format!("{weather:?} at {from}, offset {offset}, latency {latency}");
                    assert_eq!(reasons(&world.flips), [FlipReason::PrimaryUnavailable], "{case}");
                }
            }
        }
    }
}

#[test]
fn dead_fallback_is_left_without_a_stable_wait() {
    let primary = registry(50, outage(REFUSED, 20 * SECOND, 60 * SECOND));
    let fallback = registry(50, vec![(80 * SECOND, REFUSED)]);
    let mut world = world(primary, fallback.offset(600));
    run(&mut world, 10 * MINUTE);
    assert_eq!(
        reasons(&world.flips),
        [FlipReason::PrimaryUnavailable, FlipReason::FallbackUnavailable]
    );
    assert!(world.flips[1].at <= 84 * SECOND, "{:?}", world.flips);
    assert_eq!(active(&world), (Side::Primary, 3));
}

#[test]
fn answers_that_say_nothing_about_the_registry_never_flip() {
    let outcomes = [
        Outcome::Unauthorized,
        Outcome::Forbidden,
        Outcome::NetworkDenied,
        Outcome::Throttled { retry_after: None },
        Outcome::CanaryNotFound,
        Outcome::CanaryBlocked,
        Outcome::UnexpectedAnswer,
        Outcome::RefusedByOperator,
        Outcome::CertificateNotTrusted,
        Outcome::CredentialsUnavailable,
        Outcome::WaitingForAuthorization,
    ];
    for outcome in outcomes {
        let primary = registry(50, vec![(20 * SECOND, Weather::Says(outcome))]);
        let mut world = world(primary, healthy(50).offset(600));
        run(&mut world, HOUR);
        assert_eq!(world.flips, [], "{outcome:?}");
    }
}

#[test]
fn lost_probes_do_not_add_up_over_days_of_refused_credentials() {
    let denied = registry(60, vec![(0, Weather::Says(Outcome::Unauthorized))]).lossy(0.01, 5);
    let mut world = world(denied, healthy(60).offset(700));
    run(&mut world, 24 * HOUR);
    assert_eq!(world.flips, []);
}

#[test]
fn restart_at_any_moment_keeps_the_active_side_and_the_epoch() {
    let (from, to) = (MINUTE, 11 * MINUTE);
    let begin = || {
        let primary = registry(70, outage(REFUSED, from, to));
        world(primary, healthy(70).offset(800))
    };
    let mut moments = Vec::new();
    let mut moment = 1_000;
    while moment < to + 8 * MINUTE {
        moments.push(moment);
        // Finely around the flips, coarsely between them.
        let near = [from, to, to + 5 * MINUTE]
            .iter()
            .any(|at| (at - 2 * SECOND..at + 10 * SECOND).contains(&moment));
        moment += if near { 430 } else { 13_330 };
    }
    for (index, moment) in moments.into_iter().enumerate() {
        let mut world = begin();
        run(&mut world, moment);
        let kept = active(&world);
        world.restart(0);
        run(&mut world, moment + 6_400);
        assert!(world.replicas[0].leading, "restarted at {moment}");
        assert_eq!(active(&world), kept, "restarted at {moment}");
        if index % 12 == 0 {
            run(&mut world, to + 40 * MINUTE);
            let expected = if moment < to {
                (Side::Primary, 3)
            } else {
                (Side::Primary, kept.1.max(3))
            };
            assert_eq!(active(&world), expected, "restarted at {moment}: {:?}", world.flips);
        }
    }
}

#[test]
fn both_sides_down_stay_and_say_so() {
    let down = |from| registry(50, vec![(from, REFUSED)]);
    let mut world = world(down(20 * SECOND), down(10 * SECOND).offset(600));
    run(&mut world, 10 * MINUTE);
    assert_eq!(world.flips, []);
    assert_eq!(observation(&world).decision.why.reason, Reason::BothUnavailable);
}

#[test]
fn outage_with_ever_new_texts_is_written_at_most_ten_times() {
    // Every probe and every read fails with a text of its own.
    for weather in [REFUSED, Weather::BlackHole, Weather::Fails(Unavailable::TlsError)] {
        for down in Side::ALL {
            let changes = |side: Side| {
                let outage = outage(weather, 5 * MINUTE, 35 * MINUTE);
                if side == down { outage } else { Vec::new() }
            };
            let side = |side: Side| registry(60, changes(side));
            let mut world = world(side(Side::Primary), side(Side::Fallback).offset(300));
            run(&mut world, 5 * MINUTE);
            let before = (world.writes, world.announcements);
            run(&mut world, 35 * MINUTE);
            let writes = world.writes - before.0;
            assert!((1..=10).contains(&writes), "{weather:?} of {down}: {writes} writes");
            assert_eq!(world.announcements, before.1);
        }
    }
}

#[test]
fn mirror_at_rest_writes_nothing() {
    let mut world = world(healthy(40), healthy(60).offset(300));
    // One tag differs for good.
    let now = 0;
    world.registries[1].push(now, "app", "t2", World::content(77));
    run(&mut world, 15 * MINUTE);
    let before = (world.writes, world.stores, world.announcements);
    run(&mut world, 3 * HOUR);
    assert_eq!((world.writes, world.stores, world.announcements), before);
}
