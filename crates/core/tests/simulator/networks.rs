//! The networks of the replicas' nodes: which registries one of them is cut off from, and what must not follow from that.

use catamaran_core::endpoint::Outcome;
use catamaran_core::mirror::failover::FlipReason;

use crate::bench::{healthy, policy, reasons, run, world_of};
use crate::clock::{HOUR, MINUTE, Ms, millis};
use crate::registry::Weather;
use crate::world::World;

/// Long enough for what one replica sees to reach another one, and to be asked for before that.
const EXCHANGED: Ms = 100;

/// How long a replica was connected, and knew of the others, before anybody may rely on what it says.
const SETTLED: Ms = 20_000;

/// Which replicas were cut off from which registries, and when that changed.
#[derive(Clone, Debug, Default)]
pub struct Networks(Vec<Change>);

#[derive(Clone, Debug)]
struct Change {
    at: Ms,
    replica: usize,
    host: String,
    is_cut: bool,
}

impl Networks {
    pub fn cut(&mut self, at: Ms, replica: usize, host: &str, is_cut: bool) {
        self.0.push(Change {
            at,
            replica,
            host: host.to_owned(),
            is_cut,
        });
    }

    /// All cuts end.
    pub fn repair(&mut self, at: Ms) {
        let cut: Vec<(usize, String)> = self
            .0
            .iter()
            .map(|change| (change.replica, change.host.clone()))
            .collect();
        for (replica, host) in cut {
            self.cut(at, replica, &host, false);
        }
    }

    fn of<'a>(&'a self, replica: usize, host: &'a str) -> impl DoubleEndedIterator<Item = &'a Change> {
        self.0
            .iter()
            .filter(move |change| (change.replica, change.host.as_str()) == (replica, host))
    }

    /// Whether a replica can't reach a registry now.
    pub fn is_cut(&self, replica: usize, host: &str) -> bool {
        self.of(replica, host).next_back().is_some_and(|change| change.is_cut)
    }

    fn is_connected_since(&self, replica: usize, host: &str, from: Ms) -> bool {
        !self.is_cut(replica, host)
            && self.of(replica, host).all(|change| !change.is_cut || change.at < from)
            && self.of(replica, host).next_back().is_none_or(|change| change.at < from)
    }
}

impl World {
    /// No flip away from a registry that works and that another live replica has reached since the first failure here.
    pub fn check_agreement(&mut self, replica: usize, host: &str, name: &str, first: Ms) {
        let from = first - SETTLED;
        let registry = self.registry(host);
        let worked = registry
            .changes
            .iter()
            .all(|(at, weather)| *weather == Weather::Up || *at < from)
            && registry.weather(from) == Weather::Up
            && registry.broken.is_empty();
        if !worked || self.disturbed_since(replica, from) {
            return;
        }
        let reached = (0..self.replicas.len()).find(|other| {
            *other != replica
                && !self.disturbed_since(*other, from)
                && self.networks.is_connected_since(*other, host, from)
                && self.has_reached(*other, name, first)
        });
        if let Some(other) = reached {
            let message = format!("replica {replica} leaves {name}, which replica {other} has reached since {first}");
            self.fail("I8", message);
        }
    }

    /// Whether a replica was not itself: paused, new, asked to watch something else, or with another clock.
    fn disturbed_since(&self, replica: usize, from: Ms) -> bool {
        let one = &self.replicas[replica];
        one.paused || one.woken > from || one.clocks_set > from || self.checks.edits.iter().any(|(_, at, _)| *at > from)
    }

    /// Whether what it has found for itself since then, with the others told of it, is that a registry answers.
    fn has_reached(&self, replica: usize, name: &str, first: Ms) -> bool {
        let timeout = self.replicas[replica]
            .policy()
            .map_or(0, |policy| millis(policy.health.timeout));
        let told = |seen: &&crate::world::ProbeSeen| seen.told + EXCHANGED <= self.now;
        let decisive =
            |seen: &&crate::world::ProbeSeen| matches!(seen.outcome, Outcome::Reachable | Outcome::Unavailable(_));
        let latest = self.probes_of(replica, name).filter(told).find(decisive);
        latest.is_some_and(|seen| {
            let began = seen.told - (seen.by_clock - seen.begun).clamp(0, timeout);
            seen.outcome == Outcome::Reachable && began >= first + EXCHANGED
        })
    }
}

/// Both registries work; these replicas are cut off from the primary after a minute.
fn cut_off(replicas: usize, cut: &[usize]) -> World {
    let mut world = world_of(policy(), healthy(40), healthy(60).offset(300), replicas);
    run(&mut world, MINUTE);
    for replica in cut {
        world.networks.cut(MINUTE, *replica, "primary.example", true);
    }
    run(&mut world, HOUR);
    world
}

#[test]
fn registry_that_some_replicas_reach_is_kept() {
    for (replicas, cut) in [(2, &[0][..]), (2, &[1]), (3, &[0, 1]), (4, &[0, 2]), (4, &[0, 1, 3])] {
        let world = cut_off(replicas, cut);
        assert_eq!(world.flips, [], "{cut:?} of {replicas} are cut off");
    }
}

#[test]
fn registry_that_no_replica_reaches_is_left() {
    for replicas in 1..=4 {
        let all: Vec<usize> = (0..replicas).collect();
        let world = cut_off(replicas, &all);
        assert_eq!(reasons(&world.flips), [FlipReason::PrimaryUnavailable], "{replicas}");
    }
}

/// The last replica that reached it is cut off later, or gone.
#[test]
fn registry_is_left_once_the_last_replica_loses_it() {
    let mut world = cut_off(2, &[0]);
    let now = world.now;
    world.networks.cut(now, 1, "primary.example", true);
    run(&mut world, now + 10 * MINUTE);
    assert_eq!(reasons(&world.flips), [FlipReason::PrimaryUnavailable]);
    let took = world.flips[0].at - now;
    assert!(took <= 10_000, "left after {took} ms");

    let mut world = cut_off(2, &[0]);
    let now = world.now;
    world.pause(1, HOUR);
    run(&mut world, now + 10 * MINUTE);
    assert_eq!(reasons(&world.flips), [FlipReason::PrimaryUnavailable]);
    let took = world.flips[0].at - now;
    assert!(took <= 40_000, "left after {took} ms");
}
