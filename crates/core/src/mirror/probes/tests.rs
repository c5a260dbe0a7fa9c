use std::time::Duration;

use super::*;
use crate::endpoint::{Unavailable, UnknownReason};
use crate::mirror::fixtures::{at, foreign};
use crate::routing::fixtures::apps;

const REFUSED: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);

/// Probes with the definition's defaults, and the requests of those under way.
struct Bench {
    probes: Probes,
    requests: Requests,
    policy: MirrorPolicy,
    asked: Sides<Option<RequestId>>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            probes: Probes::default(),
            requests: Requests::default(),
            policy: apps(),
            asked: Sides::default(),
        }
    }

    /// The sides whose probes begin now.
    fn begin(&mut self, generation: i64, now: i64) -> Vec<Side> {
        let canary = CanaryChoice::default();
        let effects = self
            .probes
            .begin_due(&self.policy, generation, &canary, &mut self.requests, at(now));
        let begun = effects.into_iter().map(|effect| match effect {
            Effect::Probe { request, side, .. } => (request, side),
            other => panic!("{other:?}"),
        });
        let begun: Vec<_> = begun.collect();
        for (request, side) in &begun {
            self.asked[*side] = Some(*request);
        }
        begun.into_iter().map(|(_, side)| side).collect()
    }

    fn answer(&self, side: Side, outcome: Outcome, now: i64) -> Probed {
        Probed {
            request: self.asked[side].unwrap_or_else(foreign),
            side,
            probe: Probe {
                at: at(now),
                outcome,
                message: format!("at {now}"),
            },
            canary: None,
            client: Ok(()),
        }
    }

    fn end(&mut self, side: Side, outcome: Outcome, now: i64) -> Option<ProbeNews> {
        let answer = self.answer(side, outcome, now);
        self.probes.ended(&answer, &self.policy)
    }

    fn failures(&self, side: Side) -> u32 {
        self.probes.side(side).history().failures_in_row()
    }
}

#[test]
fn probes_begin_at_once_and_then_on_schedule() {
    let mut bench = Bench::new();
    assert_eq!(bench.begin(1, 0), Side::ALL);
    assert_eq!(bench.begin(1, 1), [], "they are under way");
    bench.end(Side::Primary, Outcome::Reachable, 1);
    bench.end(Side::Fallback, Outcome::Reachable, 2);
    assert_eq!(bench.begin(1, 2), []);
    assert_eq!(bench.probes.wake_at(&bench.policy, 1, at(2)), at(3));
    assert_eq!(bench.begin(1, 3), [Side::Primary]);
    assert_eq!(bench.begin(1, 4), [Side::Fallback]);
}

#[test]
fn answer_to_no_probe_under_way_changes_nothing() {
    let mut bench = Bench::new();
    bench.begin(1, 0);
    assert!(bench.end(Side::Primary, REFUSED, 1).is_some());
    assert_eq!(bench.end(Side::Primary, REFUSED, 1), None, "it came twice");
    assert_eq!(bench.failures(Side::Primary), 1);
    bench.asked = Sides::default();
    assert_eq!(bench.end(Side::Fallback, REFUSED, 1), None, "nobody asked");
    assert_eq!(bench.failures(Side::Fallback), 0);
    assert_eq!(bench.begin(1, 2), [Side::Primary], "the other is still under way");
}

#[test]
fn probe_that_does_not_end_is_begun_again() {
    let mut bench = Bench::new();
    bench.begin(1, 0);
    bench.end(Side::Fallback, Outcome::Reachable, 1);
    let lost = bench.answer(Side::Primary, REFUSED, 61);
    let patience = 60 + 2;
    assert!(!bench.begin(1, patience - 1).contains(&Side::Primary));
    assert!(bench.begin(1, patience).contains(&Side::Primary));
    assert_eq!(bench.probes.ended(&lost, &bench.policy), None, "it comes too late");
    assert!(bench.end(Side::Primary, Outcome::Reachable, patience).is_some());
}

#[test]
fn clock_that_is_set_back_does_not_silence_probes() {
    let mut bench = Bench::new();
    bench.begin(1, 10_000);
    assert_eq!(bench.begin(1, 0), Side::ALL, "those under way are lost");
    bench.end(Side::Primary, Outcome::Reachable, 10_000);
    assert_eq!(
        bench.begin(1, 0),
        [Side::Primary],
        "what was seen lies ahead of the clock"
    );
}

#[test]
fn new_spec_is_probed_at_once_unless_the_registry_is_busy() {
    let mut bench = Bench::new();
    bench.begin(1, 0);
    bench.end(Side::Primary, Outcome::Reachable, 1);
    bench.end(Side::Fallback, Outcome::Throttled { retry_after: None }, 1);
    let outdated = |bench: &Bench| Sides::from_fn(|side| bench.probes.side(side).is_outdated(2));
    assert_eq!(
        outdated(&bench),
        Sides {
            primary: true,
            fallback: false
        }
    );
    assert_eq!(bench.begin(2, 1), [Side::Primary]);
    bench.end(Side::Primary, Outcome::Reachable, 2);
    assert_eq!(outdated(&bench), Sides::default());
    // One that was begun by the spec before does not count for the new one.
    assert_eq!(bench.begin(2, 5), Side::ALL);
    bench.end(Side::Primary, Outcome::Reachable, 6);
    assert!(bench.probes.side(Side::Primary).is_outdated(3));
}

#[test]
fn wanted_probe_begins_at_once_and_only_once() {
    let mut bench = Bench::new();
    bench.begin(1, 0);
    bench.probes.want(Side::Fallback);
    assert_eq!(bench.begin(1, 0), [], "the one under way will do");
    bench.end(Side::Fallback, Outcome::Reachable, 0);
    assert_eq!(bench.begin(1, 0), []);
    bench.probes.want(Side::Fallback);
    assert_eq!(bench.begin(1, 0), [Side::Fallback]);
    bench.end(Side::Fallback, Outcome::Reachable, 0);
    assert_eq!(bench.begin(1, 1), []);
}

#[test]
fn registries_keep_what_was_seen_when_sides_change_places() {
    let mut bench = Bench::new();
    bench.begin(1, 0);
    bench.end(Side::Primary, REFUSED, 0);
    let under_way = bench.answer(Side::Fallback, REFUSED, 1);
    bench.probes.swap();
    assert_eq!((bench.failures(Side::Primary), bench.failures(Side::Fallback)), (0, 1));
    assert_eq!(
        bench.probes.ended(&under_way, &bench.policy),
        None,
        "it names the place of before"
    );
    assert!(bench.begin(2, 1).contains(&Side::Primary), "it is asked anew");
    bench.probes.forget(Side::Fallback);
    assert_eq!(bench.failures(Side::Fallback), 0);
    assert_eq!(bench.probes.side(Side::Fallback).history().latest(), None);
}

#[test]
fn news_is_what_status_would_notice() {
    let news = |reported| ProbeNews {
        reported,
        generation: 1,
    };
    let (none, reported) = (news(false), news(true));
    // Outcomes of the primary, one after the other, and the news of each.
    let up = Outcome::Reachable;
    let cases = [
        (up, reported),
        (up, none),
        (REFUSED, reported),
        (REFUSED, reported),
        (REFUSED, reported),
        (REFUSED, reported),
        (up, reported),
        (up, none),
        (up, reported),
        (up, none),
    ];
    let mut bench = Bench::new();
    let mut now = 0;
    for (index, (outcome, news)) in cases.into_iter().enumerate() {
        while !bench.begin(1, now).contains(&Side::Primary) {
            now += 1;
        }
        assert_eq!(bench.end(Side::Primary, outcome, now), Some(news), "probe {index}");
    }
}

#[test]
fn missing_client_is_a_problem_until_there_is_one() {
    let mut bench = Bench::new();
    bench.begin(1, 0);
    let problem = ClientProblem {
        reason: "SecretNotFound",
        message: "the Secret does not exist".to_owned(),
    };
    let refused = Probed {
        client: Err(Some(problem.clone())),
        ..bench.answer(Side::Primary, Outcome::CredentialsUnavailable, 0)
    };
    assert!(
        bench
            .probes
            .ended(&refused, &bench.policy)
            .is_some_and(|news| news.reported)
    );
    let side = bench.probes.side(Side::Primary);
    assert_eq!((side.problem(), side.asked()), (Some(&problem), false));
    assert_eq!(
        side.availability(),
        Availability::Unknown(UnknownReason::CredentialsUnavailable)
    );
    bench.begin(1, 10);
    bench.end(Side::Primary, Outcome::Reachable, 10);
    let side = bench.probes.side(Side::Primary);
    assert_eq!((side.problem(), side.asked()), (None, true));
}

#[test]
fn probes_ask_for_the_canary_and_now_and_then_for_a_blob() {
    let mut bench = Bench::new();
    bench.policy.health.period = Duration::from_secs(1);
    let mut canary = CanaryChoice::default();
    let chosen = crate::mirror::parity::Canary {
        repository: "web".to_owned(),
        tag: "1".to_owned(),
        digest: crate::digest::Digest::of(b"1"),
    };
    canary.follow(&chosen);
    let mut blobs = Vec::new();
    for now in 0..6 {
        let effects = bench
            .probes
            .begin_due(&bench.policy, 1, &canary, &mut bench.requests, at(now));
        for effect in effects {
            let Effect::Probe {
                request,
                side,
                canary,
                blob,
            } = effect
            else {
                panic!("{effect:?}");
            };
            assert_eq!(canary.as_ref(), Some(&chosen));
            bench.asked[side] = Some(request);
            if side == Side::Primary {
                blobs.push(blob);
            }
        }
        for side in Side::ALL {
            bench.end(side, Outcome::Reachable, now);
        }
    }
    assert_eq!(blobs, [true, false, false, false, false, true]);
}
