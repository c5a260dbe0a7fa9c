use std::sync::Arc;

use super::*;
use crate::digest::Digest;
use crate::endpoint::{Probe, Reading, Unavailable, UnknownReason};
use crate::mirror::fixtures::at;
use crate::routing::fixtures::apps;

const REFUSED: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);

/// Probes with the definition's defaults.
struct Bench {
    probes: Probes,
    policy: MirrorPolicy,
}

fn canary() -> Canary {
    Canary {
        repository: "web".to_owned(),
        tag: "1".to_owned(),
        digest: Digest::of(b"1"),
    }
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench {
            probes: Probes::default(),
            policy: apps(),
        };
        bench.watch(1, None);
        bench
    }

    /// The sides that are to be watched in another way now.
    fn watch(&mut self, generation: i64, canary: Option<&Canary>) -> Vec<Side> {
        let mut choice = CanaryChoice::default();
        if let Some(canary) = canary {
            choice.follow(canary);
        }
        let effects = self.probes.watch(&self.policy, generation, &choice);
        let sides = effects.into_iter().map(|effect| match effect {
            Effect::Watch { side, watch: Some(_) } => side,
            other => panic!("{other:?}"),
        });
        sides.collect()
    }

    fn end(&mut self, side: Side, outcome: Outcome, now: i64) -> Option<ProbeNews> {
        let generation = self.probes.side(side).watch.as_ref()?.0.generation;
        self.probes.ended(&answer(side, generation, outcome, now), &self.policy)
    }

    fn failures(&self, side: Side) -> u32 {
        self.probes.side(side).history().failures_in_row()
    }
}

fn answer(side: Side, generation: i64, outcome: Outcome, now: i64) -> Probed {
    let reading = Reading {
        probe: Probe {
            begun: at(now),
            at: at(now),
            outcome,
            message: format!("at {now}").into(),
        },
        target: None,
        client: Ok(()),
    };
    Probed {
        side,
        generation,
        reading: Arc::new(reading),
    }
}

#[test]
fn sides_are_watched_anew_when_spec_or_canary_changes() {
    let mut bench = Bench::new();
    assert_eq!(bench.watch(1, None), []);
    assert_eq!(bench.watch(1, Some(&canary())), Side::ALL);
    assert_eq!(bench.watch(1, Some(&canary())), []);
    assert_eq!(bench.watch(2, Some(&canary())), Side::ALL);
    let (watch, _) = bench.probes.side(Side::Fallback).watch.clone().unwrap();
    let path = bench.policy.path(Side::Fallback, "web").into_owned();
    let digest = Digest::of(b"1");
    assert_eq!(watch.targets, [Target { path, digest }]);
    let stopped = bench.probes.stop();
    let gone = |side| Effect::Watch { side, watch: None };
    assert_eq!(stopped, Side::ALL.map(gone));
    assert_eq!(bench.probes.stop(), []);
}

#[test]
fn answer_to_an_earlier_spec_changes_nothing() {
    let mut bench = Bench::new();
    let late = answer(Side::Primary, 1, REFUSED, 1);
    bench.watch(2, None);
    assert_eq!(bench.probes.ended(&late, &bench.policy), None);
    bench.probes.stop();
    assert_eq!(bench.probes.ended(&late, &bench.policy), None);
    assert_eq!(bench.failures(Side::Primary), 0);
}

#[test]
fn what_was_seen_by_an_earlier_spec_is_outdated() {
    let mut bench = Bench::new();
    bench.end(Side::Primary, Outcome::Reachable, 1);
    bench.end(Side::Fallback, Outcome::Throttled { retry_after: None }, 1);
    let outdated = |bench: &Bench| Side::ALL.map(|side| bench.probes.side(side).is_outdated(2));
    assert_eq!(
        outdated(&bench),
        [true, false],
        "a registry that throttles is not waited for"
    );
    bench.watch(2, None);
    bench.end(Side::Primary, Outcome::Reachable, 2);
    assert_eq!(outdated(&bench), [false, false]);
}

#[test]
fn wanted_probe_is_asked_for_once() {
    let mut bench = Bench::new();
    let side = Side::Fallback;
    let probe_now = |after| Some(Effect::ProbeNow { side, after });
    assert_eq!(bench.probes.want(side, at(3)), probe_now(at(3)));
    assert_eq!(bench.probes.want(side, at(3)), None);
    assert_eq!(bench.probes.want(side, at(4)), probe_now(at(4)));
    bench.probes.stop();
    assert_eq!(bench.probes.want(side, at(5)), None, "it is not watched");
}

#[test]
fn registries_keep_what_was_seen_when_sides_change_places() {
    let mut bench = Bench::new();
    bench.end(Side::Primary, REFUSED, 0);
    bench.probes.swap();
    assert_eq!((bench.failures(Side::Primary), bench.failures(Side::Fallback)), (0, 1));
    bench.probes.forget(Side::Fallback);
    assert_eq!(bench.failures(Side::Fallback), 0);
    assert_eq!(bench.probes.side(Side::Fallback).history().latest(), None);
}

#[test]
fn news_is_what_status_would_notice() {
    let up = Outcome::Reachable;
    // Outcomes of the primary, one after the other, and whether each is news.
    let cases = [
        (up, true),
        (up, false),
        (REFUSED, true),
        (REFUSED, true),
        (REFUSED, true),
        (REFUSED, true),
        (up, true),
        (up, false),
        (up, true),
        (up, false),
    ];
    let mut bench = Bench::new();
    for (now, (outcome, reported)) in (0..).zip(cases) {
        let news = ProbeNews { reported, canary: None };
        assert_eq!(bench.end(Side::Primary, outcome, now), Some(news), "probe {now}");
    }
}

#[test]
fn missing_client_is_a_problem_until_there_is_one() {
    let mut bench = Bench::new();
    let problem = ClientProblem {
        reason: "SecretNotFound",
        message: "the Secret does not exist".to_owned(),
    };
    let mut refused = answer(Side::Primary, 1, Outcome::CredentialsUnavailable, 0);
    Arc::make_mut(&mut refused.reading).client = Err(Some(problem.clone()));
    let news = bench.probes.ended(&refused, &bench.policy);
    assert!(news.is_some_and(|news| news.reported));
    let side = bench.probes.side(Side::Primary);
    assert_eq!((side.problem(), side.asked()), (Some(&problem), false));
    assert_eq!(
        side.availability(),
        Availability::Unknown(UnknownReason::CredentialsUnavailable)
    );
    bench.end(Side::Primary, Outcome::Reachable, 10);
    let side = bench.probes.side(Side::Primary);
    assert_eq!((side.problem(), side.asked()), (None, true));
}

#[test]
fn answer_names_the_canary_that_was_asked_for() {
    let mut bench = Bench::new();
    bench.watch(1, Some(&canary()));
    let targets = bench.probes.side(Side::Primary).watch.clone().unwrap().0.targets;
    let mut found = answer(Side::Primary, 1, Outcome::Reachable, 1);
    Arc::make_mut(&mut found.reading).target = targets.first().cloned();
    let news = bench.probes.ended(&found, &bench.policy).unwrap();
    assert_eq!(news.canary, Some(canary()));
    Arc::make_mut(&mut found.reading).target = Some(Target {
        path: "another/mirror".to_owned(),
        digest: Digest::of(b"2"),
    });
    assert_eq!(bench.probes.ended(&found, &bench.policy).unwrap().canary, None);
}
