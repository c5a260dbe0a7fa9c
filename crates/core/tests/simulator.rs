//! Months of outages, flapping and loss, played through the real histories, schedule and decisions.

use catamaran_core::failover::{Flip, FlipReason, Reason};
use catamaran_core::health::{Outcome, Unavailable};
use catamaran_core::side::{Side, Sides};

#[path = "simulator/invariants.rs"]
mod invariants;
#[path = "simulator/world.rs"]
mod world;

use world::{HOUR, MINUTE, Ms, Registry, SECOND, Weather, World, at, ms};

const REFUSED: Weather = Weather::Fails(Unavailable::ConnectionFailed);
const YEAR: Ms = 365 * 24 * HOUR;

/// Down from `from` to `to`.
fn outage(weather: Weather, from: Ms, to: Ms) -> Vec<(Ms, Weather)> {
    vec![(from, weather), (to, Weather::Up)]
}

fn healthy(latency: Ms) -> Registry {
    Registry::new(Vec::new(), latency)
}

fn reasons(flips: &[Flip]) -> Vec<FlipReason> {
    flips.iter().map(|flip| flip.reason).collect()
}

fn lossy_world(loss: f64, seed: u64) -> World {
    let registry = |seed| healthy(60).lossy(loss, seed);
    World::new(
        Sides {
            primary: registry(seed),
            fallback: registry(seed + 1_000),
        },
        700,
    )
}

#[test]
fn one_lost_probe_in_a_thousand_flips_at_most_once_a_year() {
    const YEARS: u16 = 3;
    let mut world = lossy_world(0.001, 7);
    world.skip = true;
    world.run(Ms::from(YEARS) * YEAR);
    let failovers = world.flips.iter().filter(|flip| flip.to == Side::Fallback).count();
    assert!(failovers <= usize::from(YEARS), "{:?}", world.flips);

    // The same loss does flip an operator that believes a single probe, so the simulation has teeth.
    let mut credulous = lossy_world(0.001, 7);
    credulous.skip = true;
    credulous.policy.health.failure_threshold = 1;
    credulous.run(YEAR / 50);
    assert!(credulous.flips.len() > 50, "{}", credulous.flips.len());
}

#[test]
fn leaving_out_healthy_stretches_changes_no_flip() {
    let play = |skip| {
        let mut world = lossy_world(0.08, 11);
        world.policy.failover.stable = std::time::Duration::from_mins(1);
        world.skip = skip;
        world.run(12 * HOUR);
        world.flips
    };
    let flips = play(false);
    assert!(flips.len() >= 4, "{flips:?}");
    assert_eq!(play(true), flips);
}

/// Up and down for half a period each, for an hour, then up.
fn flapping(period: Ms, weather: Weather) -> Vec<(Ms, Weather)> {
    let begin = 10 * SECOND;
    let mut changes = Vec::new();
    let mut from = begin;
    while from < begin + HOUR {
        changes.extend(outage(weather, from, from + period / 2));
        from += period;
    }
    changes
}

#[test]
fn a_flapping_primary_causes_at_most_four_flips_with_any_period() {
    for period in 1..=120 {
        // An answer that takes next to no time makes probes and flapping beat slowly: the worst case for failback.
        let latency = match period % 4 {
            0 => 1,
            1 => 2,
            2 => 5,
            _ => 60,
        };
        let weather = if period % 3 == 0 { Weather::BlackHole } else { REFUSED };
        let primary = Registry::new(flapping(period * SECOND, weather), latency);
        let mut world = World::new(
            Sides {
                primary,
                fallback: healthy(latency),
            },
            400,
        );
        world.run(HOUR + 10 * SECOND);
        assert!(world.flips.len() <= 4, "period {period} s: {:?}", world.flips);
        if period >= 12 {
            // Anything that lasts twice as long as detection is seen.
            let first = world.flips.first().map(|flip| flip.reason);
            assert_eq!(first, Some(FlipReason::PrimaryUnavailable), "period {period} s");
        }
    }
}

#[test]
fn a_primary_that_beats_with_the_probes_causes_at_most_four_flips() {
    // Periods near the round of a probe, where every probe of many minutes meets the same half.
    for period in (900..=6_400).step_by(100) {
        for latency in [1, 3] {
            let primary = Registry::new(flapping(period, REFUSED), latency);
            let mut world = World::new(
                Sides {
                    primary,
                    fallback: healthy(latency),
                },
                400,
            );
            world.run(HOUR + 10 * SECOND);
            assert!(
                world.flips.len() <= 4,
                "period {period} ms, latency {latency} ms: {:?}",
                world.flips
            );
        }
    }
}

#[test]
fn a_primary_that_is_up_just_long_enough_is_returned_to_ever_more_rarely() {
    // Up for seven minutes, down for one: each time long enough for a failback after five.
    let begin = 10 * SECOND;
    let changes =
        (0..30).flat_map(|round| outage(REFUSED, begin + round * 8 * MINUTE, begin + (round * 8 + 1) * MINUTE));
    let mut world = World::new(
        Sides {
            primary: Registry::new(changes.collect(), 50),
            fallback: healthy(50),
        },
        400,
    );
    world.run(4 * HOUR);
    // Thirty outages would make sixty flips.
    assert!((4..=16).contains(&world.flips.len()), "{:?}", world.flips);
}

#[test]
fn a_flapping_fallback_causes_no_flip_while_the_primary_serves_and_one_while_it_serves_itself() {
    for period in (1..=120).step_by(7) {
        let fallback = || Registry::new(flapping(period * SECOND, REFUSED), 40);
        let mut idle = World::new(
            Sides {
                primary: healthy(40),
                fallback: fallback(),
            },
            400,
        );
        idle.run(HOUR + 10 * SECOND);
        assert_eq!(idle.flips, [], "period {period} s");

        let mut serving = World::new(
            Sides {
                primary: healthy(40),
                fallback: fallback(),
            },
            400,
        );
        serving.standing.active = Side::Fallback;
        serving.standing.epoch = 2;
        serving.run(HOUR + 10 * SECOND);
        assert_eq!(serving.flips.len(), 1, "period {period} s: {:?}", serving.flips);
        assert_eq!(serving.standing.active, Side::Primary, "period {period} s");
    }
}

#[test]
fn losing_our_own_network_flips_nothing_in_any_phase() {
    for weather in [REFUSED, Weather::BlackHole] {
        for phase in (0..2_100).step_by(50) {
            for (offset, skew) in [(0, 0), (350, 0), (700, 500), (1_050, -500), (1_400, 300), (1_900, 0)] {
                for length in [2 * SECOND, 9 * SECOND + 130, 61 * SECOND] {
                    let from = 20 * SECOND + phase;
                    let registry = |skew| Registry::new(outage(weather, from + skew, from + length + skew), 45);
                    let mut world = World::new(
                        Sides {
                            primary: registry(0),
                            fallback: registry(skew),
                        },
                        offset,
                    );
                    world.run(from + length + 30 * SECOND);
                    let case = format!("{weather:?} at {from} for {length}, offset {offset}, skew {skew}");
                    assert_eq!(world.flips, [], "{case}");
                }
            }
        }
    }
}

#[test]
fn the_outages_that_ghcr_really_had_cause_one_failover_and_one_failback() {
    for minutes in [35, 49, 94, 116] {
        for (weather, loss) in [
            (Weather::BlackHole, 0.0),
            (Weather::Fails(Unavailable::ServerError), 0.001),
        ] {
            let (from, to) = (10 * MINUTE + 1_234, (10 + minutes) * MINUTE);
            let registry = |changes, seed| Registry::new(changes, 80).lossy(loss, seed);
            let primary = registry(outage(weather, from, to), 3);
            let mut world = World::new(
                Sides {
                    primary,
                    fallback: registry(Vec::new(), 4),
                },
                900,
            );
            world.run(to + HOUR);
            let expected = [FlipReason::PrimaryUnavailable, FlipReason::PrimaryRecovered];
            assert_eq!(reasons(&world.flips), expected, "{minutes} min of {weather:?}");
            let [over, back] = [0, 1].map(|index| ms(world.flips[index].at));
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
fn a_registry_that_refuses_is_left_within_four_seconds_and_a_black_hole_within_ten() {
    let cases = [
        (REFUSED, 4 * SECOND),
        (Weather::Fails(Unavailable::ServerError), 4 * SECOND),
        (Weather::Fails(Unavailable::TlsError), 4 * SECOND),
        (Weather::BlackHole, 10 * SECOND),
    ];
    for (weather, bar) in cases {
        for phase in (0..2_400).step_by(20) {
            for offset in [0, 333, 777, 1_234, 1_999] {
                for latency in [5, 120, 400] {
                    let from = 20 * SECOND + phase;
                    let primary = Registry::new(vec![(from, weather)], latency.min(120));
                    let mut world = World::new(
                        Sides {
                            primary,
                            fallback: healthy(latency),
                        },
                        offset,
                    );
                    world.run(from + bar);
                    let case = format!("{weather:?} at {from}, offset {offset}, latency {latency}");
                    assert_eq!(reasons(&world.flips), [FlipReason::PrimaryUnavailable], "{case}");
                }
            }
        }
    }
}

#[test]
fn a_fallback_that_dies_while_it_serves_is_left_for_a_primary_that_answers_without_a_stable_wait() {
    let primary = Registry::new(outage(REFUSED, 20 * SECOND, 60 * SECOND), 50);
    let fallback = Registry::new(vec![(80 * SECOND, REFUSED)], 50);
    let mut world = World::new(Sides { primary, fallback }, 600);
    world.run(10 * MINUTE);
    assert_eq!(
        reasons(&world.flips),
        [FlipReason::PrimaryUnavailable, FlipReason::FallbackUnavailable]
    );
    assert!(world.flips[1].at <= at(84 * SECOND), "{:?}", world.flips);
    assert_eq!((world.standing.active, world.standing.epoch), (Side::Primary, 3));
}

#[test]
fn answers_that_say_nothing_about_the_registry_never_flip() {
    let outcomes = [
        Outcome::Unauthorized,
        Outcome::Forbidden,
        Outcome::NetworkDenied,
        Outcome::Throttled { retry_after: None },
        Outcome::CanaryNotFound,
        Outcome::CredentialsUnavailable,
        Outcome::WaitingForAuthorization,
    ];
    for outcome in outcomes {
        let primary = Registry::new(vec![(20 * SECOND, Weather::Says(outcome))], 50);
        let mut world = World::new(
            Sides {
                primary,
                fallback: healthy(50),
            },
            600,
        );
        world.run(HOUR);
        assert_eq!(world.flips, [], "{outcome:?}");
    }
}

#[test]
fn lost_probes_do_not_add_up_over_days_of_refused_credentials() {
    let denied = |seed| Registry::new(vec![(0, Weather::Says(Outcome::Unauthorized))], 60).lossy(0.001, seed);
    let mut world = World::new(
        Sides {
            primary: denied(5),
            fallback: healthy(60),
        },
        700,
    );
    world.run(4 * 24 * HOUR);
    assert_eq!(world.flips, []);
}

#[test]
fn a_restart_at_any_moment_keeps_the_active_side_and_the_epoch() {
    let (from, to) = (MINUTE, 36 * MINUTE);
    let primary = Registry::new(outage(REFUSED, from, to), 70);
    let mut world = World::new(
        Sides {
            primary,
            fallback: healthy(70),
        },
        800,
    );
    let mut moment = 0;
    while moment < to + 15 * MINUTE {
        // Finely around the flips, coarsely between them.
        let near = [from, to, to + 5 * MINUTE]
            .iter()
            .any(|at| (at - 5 * SECOND..at + 15 * SECOND).contains(&moment));
        moment += if near { 130 } else { 5_330 };
        world.run(moment);
        let mut restarted = world.clone();
        restarted.restart();
        let kept = (world.standing.active, world.standing.epoch);
        let mut decisions = 0;
        restarted.run_checked(moment + 1_400, &mut |world, decision| {
            decisions += 1;
            assert_eq!(
                (decision.active, decision.epoch),
                kept,
                "restarted at {moment}, at {}",
                world.now
            );
        });
        assert!(decisions >= 2, "restarted at {moment}");
        if !near && moment % 8 == 0 {
            restarted.run(to + 40 * MINUTE);
            assert_eq!(
                restarted.standing.epoch, 3,
                "restarted at {moment}: {:?}",
                restarted.flips
            );
            assert_eq!(restarted.standing.active, Side::Primary, "restarted at {moment}");
        }
    }
}

#[test]
fn both_sides_down_stays_and_says_so() {
    let down = |from| Registry::new(vec![(from, REFUSED)], 50);
    let mut world = World::new(
        Sides {
            primary: down(20 * SECOND),
            fallback: down(10 * SECOND),
        },
        600,
    );
    let mut last = None;
    world.run_checked(10 * MINUTE, &mut |_, decision| last = Some(decision.why.reason));
    assert_eq!(world.flips, []);
    assert_eq!(last, Some(Reason::BothUnavailable));
}
