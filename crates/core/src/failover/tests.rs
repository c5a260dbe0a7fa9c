use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::health::{Probe, Unavailable};
use crate::policy::{MirrorId, SidePolicy};

const UP: Outcome = Outcome::Reachable;
const DOWN: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);
const DENIED: Outcome = Outcome::Unauthorized;

/// Seconds after an arbitrary instant, which reads 2026-01-01T00:00:00Z.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn policy() -> MirrorPolicy {
    let side = |registry: &str| SidePolicy {
        registry: registry.to_owned(),
        ..SidePolicy::default()
    };
    let id = MirrorId {
        name: "apps".into(),
        uid: "1".into(),
    };
    let sides = Sides {
        primary: side("a.example"),
        fallback: side("b.example"),
    };
    MirrorPolicy::new(id, at(0), sides)
}

/// Seconds, and what the probe that ended then found.
type Probes = [(i64, Outcome)];

/// A situation, with defaults for what a case does not care about.
struct Situation {
    policy: MirrorPolicy,
    primary: ProbeHistory,
    fallback: ProbeHistory,
    standing: Standing,
    pass: Option<CompletedPass>,
}

impl Situation {
    fn new(primary: &Probes, fallback: &Probes) -> Situation {
        Situation {
            policy: policy(),
            primary: history(primary),
            fallback: history(fallback),
            standing: Standing::default(),
            pass: None,
        }
    }

    fn on_fallback(mut self) -> Situation {
        self.standing = Standing {
            active: Side::Fallback,
            epoch: 2,
            last_flip: None,
            failovers: vec![at(0)],
        };
        self
    }

    fn decide(&self, now: i64) -> Decision {
        let probes = Sides {
            primary: &self.primary,
            fallback: &self.fallback,
        };
        let pass = self.pass.clone();
        decide(
            &Input {
                policy: &self.policy,
                probes,
                standing: &self.standing,
                pass,
            },
            at(now),
        )
    }
}

fn history(probes: &Probes) -> ProbeHistory {
    let mut history = ProbeHistory::new();
    for (seconds, outcome) in probes {
        let message = "GET https://a.example/v2/: connection refused".to_owned();
        history.record(
            Probe {
                at: at(*seconds),
                outcome: *outcome,
                message,
            },
            &policy().health,
        );
    }
    history
}

/// Reachable every two seconds from `from` to `to`.
fn up(from: i64, to: i64) -> Vec<(i64, Outcome)> {
    (from..=to).step_by(2).map(|second| (second, UP)).collect()
}

fn pass(begun: i64, in_use_in_sync: bool) -> CompletedPass {
    let detail = if in_use_in_sync {
        "12 of 12 tags in use found"
    } else {
        "1 of 12 tags in use is missing: web:7"
    };
    CompletedPass {
        begun: at(begun),
        in_use_in_sync,
        detail: detail.to_owned(),
    }
}

const DEAD: &Probes = &[(0, UP), (2, DOWN), (3, DOWN), (4, DOWN)];
const OVER: Reason = Reason::Flipped(FlipReason::PrimaryUnavailable);

/// Decides at second 4 on the primary, after probes of the primary and of the fallback.
fn check_failover(cases: &[(&str, &Probes, &Probes, Reason)]) {
    for (name, primary, fallback, reason) in cases {
        let decision = Situation::new(primary, fallback).decide(4);
        assert_eq!(decision.why.reason, *reason, "{name}: {}", decision.why.message);
        let (active, epoch, failovers) = match *reason {
            OVER => (Side::Fallback, 2, vec![at(4)]),
            _ => (Side::Primary, 1, vec![]),
        };
        assert_eq!((decision.active, decision.epoch), (active, epoch), "{name}");
        assert_eq!(decision.failovers, failovers, "{name}");
        assert_eq!(decision.flip.is_some(), epoch == 2, "{name}");
    }
}

#[test]
fn failing_over_takes_a_side_that_failed_often_enough_of_late() {
    let well = up(0, 4);
    check_failover(&[
        ("nothing seen", &[], &[], Reason::NotYetObserved),
        ("well", &[(4, UP)], &well, Reason::Steady),
        ("two failures", &[(3, DOWN), (4, DOWN)], &well, Reason::Failing),
        ("three failures", DEAD, &well, OVER),
        (
            "a 401 in between",
            &[(1, DOWN), (2, DENIED), (3, DOWN), (4, DOWN)],
            &well,
            OVER,
        ),
        (
            "a 401 at last",
            &[(1, DOWN), (2, DOWN), (3, DOWN), (4, DENIED)],
            &well,
            Reason::ActiveUnknown,
        ),
        (
            "old failures",
            &[(-3, DOWN), (-2, DOWN), (-1, DOWN)],
            &well,
            Reason::NotYetObserved,
        ),
    ]);
}

#[test]
fn failing_over_takes_a_side_that_answered_before_and_after_the_last_failure_but_one() {
    check_failover(&[
        ("before and after", DEAD, &up(0, 4), OVER),
        ("before and at", DEAD, &[(0, UP), (3, UP)], OVER),
        ("only before", DEAD, &up(0, 2), Reason::Confirming),
        ("only after", DEAD, &[(4, UP)], Reason::Confirming),
        ("it fails too", DEAD, &[(0, UP), (4, DOWN)], Reason::BothUnavailable),
        ("it denies", DEAD, &[(0, UP), (4, DENIED)], Reason::OtherUnknown),
        ("it was never asked", DEAD, &[], Reason::OtherUnknown),
        ("it went quiet", DEAD, &[(-2, UP)], Reason::OtherUnknown),
    ]);
}

#[test]
fn the_answer_that_is_missing_is_asked_for_once() {
    let two = [(2, DOWN), (3, DOWN)];
    let three = [(2, DOWN), (3, DOWN), (4, DOWN)];
    let cases: &[(&str, &Probes, &Probes, Option<Side>)] = &[
        ("well", &[(3, UP)], &up(0, 2), None),
        ("one failure is too early", &[(3, DOWN)], &up(0, 2), None),
        (
            "one failure before the threshold",
            &two,
            &up(0, 2),
            Some(Side::Fallback),
        ),
        ("it has just answered", &two, &[(0, UP), (3, UP)], None),
        ("it does not answer", &two, &[(0, UP), (2, DOWN)], None),
        ("at the threshold", &three, &up(0, 2), Some(Side::Fallback)),
        ("it came back too late", &three, &[(4, UP)], None),
    ];
    for (name, primary, fallback, side) in cases {
        assert_eq!(Situation::new(primary, fallback).decide(4).probe_now, *side, "{name}");
    }
}

#[test]
fn a_fallback_that_dies_is_left_for_a_primary_that_answers_even_when_failback_is_manual() {
    let mut dying = Situation::new(&[(0, UP), (2, UP), (4, UP)], &[(2, DOWN), (3, DOWN), (4, DOWN)]).on_fallback();
    dying.policy.failover.failback = FailbackMode::Manual;
    let decision = dying.decide(4);
    assert_eq!(decision.why.reason, Reason::Flipped(FlipReason::FallbackUnavailable));
    assert_eq!((decision.active, decision.epoch), (Side::Primary, 3));
    assert_eq!(
        decision.failovers,
        [at(0)],
        "going to the primary does not lengthen the next wait"
    );
}

#[test]
fn failing_back_takes_stability_and_a_pass_that_began_after_the_recovery() {
    let well = || Situation::new(&up(100, 500), &up(100, 500)).on_fallback();
    let flipped = Reason::Flipped(FlipReason::PrimaryRecovered);
    let cases: &[(&str, i64, Option<CompletedPass>, Reason)] = &[
        ("stable and verified", 500, Some(pass(150, true)), flipped),
        ("the pass began with the recovery", 500, Some(pass(100, true)), flipped),
        (
            "the pass began before it",
            500,
            Some(pass(99, true)),
            Reason::WaitingForParity,
        ),
        (
            "the pass found a tag missing",
            500,
            Some(pass(150, false)),
            Reason::WaitingForParity,
        ),
        ("no pass ended yet", 500, None, Reason::WaitingForParity),
        ("quiet since", 505, Some(pass(150, true)), Reason::NotYetObserved),
    ];
    for (name, now, pass, reason) in cases {
        let decision = Situation {
            pass: pass.clone(),
            ..well()
        }
        .decide(*now);
        assert_eq!(decision.why.reason, *reason, "{name}: {}", decision.why.message);
        assert_eq!(decision.active == Side::Primary, *reason == flipped, "{name}");
    }
    let early = Situation {
        pass: Some(pass(150, true)),
        ..Situation::new(&up(100, 398), &up(100, 398)).on_fallback()
    };
    let decision = early.decide(399);
    assert_eq!(decision.why.reason, Reason::WaitingForStability);
    assert_eq!(decision.recheck_at, Some(at(400)));
    assert_eq!(early.decide(400).why.reason, flipped, "at the very instant it said");
}

#[test]
fn a_fallback_that_stumbles_does_not_stand_in_the_way_of_going_back() {
    let back = Situation::new(&up(100, 500), &[(498, UP), (500, DOWN)]).on_fallback();
    let ready = Situation {
        pass: Some(pass(150, true)),
        ..back
    };
    assert_eq!(
        ready.decide(500).why.reason,
        Reason::Flipped(FlipReason::PrimaryRecovered)
    );
}

#[test]
fn a_failback_needs_the_success_threshold_too() {
    let mut rare = Situation::new(&[(100, UP), (400, UP)], &up(100, 400)).on_fallback();
    rare.policy.health.period = Duration::from_mins(5);
    rare.primary = ProbeHistory::new();
    for second in [100, 400] {
        rare.primary.record(
            Probe {
                at: at(second),
                outcome: UP,
                message: String::new(),
            },
            &rare.policy.health,
        );
    }
    rare.pass = Some(pass(150, true));
    assert_eq!(rare.decide(400).why.reason, Reason::WaitingForStability);
    rare.primary.record(
        Probe {
            at: at(700),
            outcome: UP,
            message: String::new(),
        },
        &rare.policy.health,
    );
    assert_eq!(
        rare.decide(700).why.reason,
        Reason::Flipped(FlipReason::PrimaryRecovered)
    );
}

#[test]
fn the_wait_doubles_with_each_failover_within_the_hour_up_to_an_hour() {
    let minutes = Duration::from_mins;
    let cases = [
        (5, 0, 5),
        (5, 1, 5),
        (5, 2, 10),
        (5, 3, 20),
        (5, 4, 40),
        (5, 5, 60),
        (5, 100, 60),
        (1, 2, 2),
        (90, 1, 90),
        (90, 9, 90),
    ];
    for (stable, failovers, wait) in cases {
        assert_eq!(
            stable_wait(minutes(stable), failovers),
            minutes(wait),
            "{stable} min after {failovers}"
        );
    }
}

#[test]
fn failovers_are_forgotten_after_an_hour() {
    let mut situation = Situation::new(&up(7000, 7300), &up(7000, 7300)).on_fallback();
    situation.standing.failovers = vec![at(3000), at(3700), at(3701), at(7290)];
    let decision = situation.decide(7300);
    assert_eq!(decision.failovers, [at(3701), at(7290)]);
    assert_eq!(decision.recheck_at, Some(at(7000 + 600)));
    assert_eq!(
        decision.why.message,
        "serving from the fallback; the primary a.example has been reachable without a break since \
         2026-01-01T01:56:40Z (5 min), and must be for 10 min after 2 failovers within an hour: waiting until \
         2026-01-01T02:06:40Z"
    );
}

#[test]
fn manual_failback_waits_for_a_person() {
    let mut manual = Situation::new(&up(100, 500), &up(100, 500)).on_fallback();
    manual.policy.failover.failback = FailbackMode::Manual;
    manual.pass = Some(pass(150, true));
    let decision = manual.decide(500);
    assert_eq!(
        (decision.why.reason, decision.active),
        (Reason::ManualFailback, Side::Fallback)
    );
}

#[test]
fn a_hand_on_the_tiller_flips_at_once_and_once() {
    let mut steered = Situation::new(&up(0, 4), &[(4, DOWN)]);
    steered.policy.failover.active = Tiller::Fixed(Side::Fallback);
    let decision = steered.decide(4);
    assert_eq!(decision.why.reason, Reason::Flipped(FlipReason::Requested));
    assert_eq!((decision.active, decision.epoch), (Side::Fallback, 2));
    assert_eq!(decision.failovers, [], "a person's choice is no failover");

    steered.standing = steered.standing.after(&decision);
    let held = steered.decide(4);
    assert_eq!((held.why.reason, held.epoch, held.flip), (Reason::Overridden, 2, None));

    steered.fallback = history(&[(2, DOWN), (3, DOWN), (4, DOWN)]);
    assert_eq!(
        steered.decide(4).why.reason,
        Reason::Overridden,
        "even when the chosen side is down"
    );

    // Letting go resumes from where it stands, under the rules for that.
    steered.policy.failover.active = Tiller::Auto;
    assert_eq!(
        steered.decide(4).why.reason,
        Reason::Flipped(FlipReason::FallbackUnavailable)
    );
    steered.fallback = history(&up(0, 4));
    let resumed = steered.decide(4);
    assert_eq!(
        (resumed.why.reason, resumed.active),
        (Reason::WaitingForStability, Side::Fallback)
    );
}

#[test]
fn a_restarted_leader_does_not_flip_on_its_first_reading() {
    let first = Situation::new(&[(0, UP)], &[(0, DOWN)]).on_fallback().decide(0);
    assert_eq!((first.active, first.why.reason), (Side::Fallback, Reason::Failing));
    let first = Situation::new(&[(0, DOWN)], &[(0, UP)]).decide(0);
    assert_eq!((first.active, first.why.reason), (Side::Primary, Reason::Failing));
}

#[test]
fn a_threshold_of_one_still_asks_the_other_side_afterwards() {
    let mut hasty = Situation::new(&[(2, UP), (4, DOWN)], &up(0, 2));
    hasty.policy.health.failure_threshold = 1;
    let decision = hasty.decide(4);
    assert_eq!(
        (decision.why.reason, decision.probe_now),
        (Reason::Confirming, Some(Side::Fallback))
    );
    hasty.fallback = history(&up(0, 4));
    assert_eq!(
        hasty.decide(4).why.reason,
        Reason::Flipped(FlipReason::PrimaryUnavailable)
    );
}

#[test]
fn messages_name_the_side_the_count_the_instant_and_the_cause() {
    let dead = [(2, DOWN), (3, DOWN), (4, DOWN)];
    let said = |situation: &Situation, now| situation.decide(now).why.message;
    assert_eq!(
        said(&Situation::new(&dead, &up(0, 4)), 4),
        "the primary a.example failed 3 probes in a row since 2026-01-01T00:00:02Z: GET https://a.example/v2/: \
         connection refused; the fallback b.example is reachable since 2026-01-01T00:00:00Z"
    );
    assert_eq!(
        said(&Situation::new(&dead[..1], &up(0, 2)), 2),
        "the primary a.example failed 1 probe since 2026-01-01T00:00:02Z: GET https://a.example/v2/: connection \
         refused; acting at 3"
    );
    assert_eq!(
        said(&Situation::new(&dead, &[]), 4),
        "the primary a.example failed 3 probes in a row since 2026-01-01T00:00:02Z: GET https://a.example/v2/: \
         connection refused; the fallback b.example has not been probed yet, so it is no place to go"
    );
    assert_eq!(
        said(&Situation::new(&[(0, UP)], &[]), 100),
        "the primary a.example was last probed at 2026-01-01T00:00:00Z (1 min 40 s ago)"
    );
    assert_eq!(
        said(&Situation::new(&[(0, DENIED)], &[]), 0),
        "the primary a.example answers with Unauthorized, which does not say whether it works: GET \
         https://a.example/v2/: connection refused"
    );
    let back = Situation {
        pass: Some(pass(150, false)),
        ..Situation::new(&up(100, 500), &up(100, 500)).on_fallback()
    };
    assert_eq!(
        said(&back, 500),
        "serving from the fallback; the primary a.example has been reachable without a break since \
         2026-01-01T00:01:40Z (6 min 40 s); the pass begun at 2026-01-01T00:02:30Z found: 1 of 12 tags in use is \
         missing: web:7"
    );
    let early = Situation {
        pass: Some(pass(50, true)),
        ..back
    };
    assert!(
        said(&early, 500)
            .ends_with("; waiting for a full pass begun after that; the last one began at 2026-01-01T00:00:50Z")
    );
    let mut held = Situation::new(&up(0, 4), &up(0, 4));
    held.policy.failover.active = Tiller::Fixed(Side::Primary);
    assert_eq!(
        said(&held, 4),
        "spec.active is Primary, so nothing flips by itself: the primary a.example is reachable since \
         2026-01-01T00:00:00Z"
    );
}

#[test]
fn flip_reasons_are_read_back_from_status() {
    for reason in [
        FlipReason::PrimaryUnavailable,
        FlipReason::FallbackUnavailable,
        FlipReason::PrimaryRecovered,
        FlipReason::Requested,
    ] {
        assert_eq!(reason.as_str().parse(), Ok(reason));
    }
    let error = "Whim".parse::<FlipReason>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read the reason of a flip: \"Whim\" is not one"
    );
}
