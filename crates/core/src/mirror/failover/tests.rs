use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::endpoint::{Probe, Unavailable};
use crate::policy::{FailbackMode, MirrorId, SidePolicy};

mod pulls;

const UP: Outcome = Outcome::Reachable;
const DOWN: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);
const DENIED: Outcome = Outcome::Unauthorized;

const BOTH: Sides<bool> = Sides {
    primary: true,
    fallback: true,
};

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
    vantages: Sides<Vec<Vantage>>,
    serves: Sides<bool>,
    pulls: Sides<Option<PullOutage>>,
    is_proven: bool,
    check: Option<InUseCheck>,
}

impl Situation {
    fn new(primary: &Probes, fallback: &Probes) -> Situation {
        Situation {
            policy: policy(),
            primary: history(primary),
            fallback: history(fallback),
            standing: Standing::default(),
            vantages: Sides::default(),
            serves: BOTH,
            pulls: Sides::default(),
            is_proven: false,
            check: None,
        }
    }

    fn on_fallback(mut self) -> Situation {
        self.standing = Standing {
            active: Side::Fallback,
            epoch: 2,
            failovers: vec![at(0)],
            ..Standing::default()
        };
        self
    }

    fn decide(&self, now: i64) -> Decision {
        let probes = Sides {
            primary: &self.primary,
            fallback: &self.fallback,
        };
        let input = Input {
            policy: &self.policy,
            probes,
            vantages: Sides::from_fn(|side| &*self.vantages[side]),
            standing: &self.standing,
            serves: self.serves,
            pulls: self.pulls,
            is_proven: self.is_proven,
            check: self.check.clone(),
        };
        decide(&input, at(now))
    }

    fn reason(&self, now: i64) -> Reason {
        self.decide(now).why.reason
    }
}

fn history(probes: &Probes) -> ProbeHistory {
    history_under(&policy(), probes)
}

fn history_under(policy: &MirrorPolicy, probes: &Probes) -> ProbeHistory {
    let mut history = ProbeHistory::new();
    for (seconds, outcome) in probes {
        let message = "GET https://a.example/v2/: connection refused".to_owned();
        history.record(
            Probe {
                begun: at(*seconds),
                at: at(*seconds),
                outcome: *outcome,
                message: message.into(),
            },
            &policy.health,
        );
    }
    history
}

/// Reachable every two seconds from `from` to `to`.
fn up(from: i64, to: i64) -> Vec<(i64, Outcome)> {
    (from..=to).step_by(2).map(|second| (second, UP)).collect()
}

fn check(begun: i64, ended: i64, passed: bool) -> InUseCheck {
    let detail = if passed {
        "all 12 references in use are there"
    } else {
        "1 of 12 references in use hold it up, the first is 'web:7' (MissingOnPrimary)"
    };
    InUseCheck {
        begun: at(begun),
        ended: at(ended),
        passed,
        detail: detail.to_owned(),
    }
}

const DEAD: &Probes = &[(0, UP), (2, DOWN), (3, DOWN), (4, DOWN)];
const OVER: Reason = Reason::Flipped(FlipReason::PrimaryUnavailable);
const AWAY: Reason = Reason::Flipped(FlipReason::FallbackUnavailable);
const BACK: Reason = Reason::Flipped(FlipReason::PrimaryRecovered);

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
fn failover_needs_a_side_that_failed_often_enough_of_late() {
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
            &[(-5, DOWN), (-4, DOWN), (-3, DOWN)],
            &well,
            Reason::NotYetObserved,
        ),
    ]);
}

#[test]
fn failover_needs_a_target_that_answered_before_and_after() {
    check_failover(&[
        ("before and after", DEAD, &up(0, 4), OVER),
        ("before and at", DEAD, &[(0, UP), (3, UP)], OVER),
        ("only before", DEAD, &[(0, UP), (1, UP)], Reason::Confirming),
        ("with the last failure", DEAD, &[(0, UP), (4, UP)], OVER),
        (
            "it came back meanwhile",
            DEAD,
            &[(0, UP), (2, DOWN), (3, UP)],
            Reason::Confirming,
        ),
        ("only after", DEAD, &[(4, UP)], Reason::Confirming),
        ("it fails too", DEAD, &[(0, UP), (4, DOWN)], Reason::BothUnavailable),
        ("it denies", DEAD, &[(0, UP), (4, DENIED)], Reason::OtherUnknown),
        ("it was never asked", DEAD, &[], Reason::OtherUnknown),
        ("it went quiet", DEAD, &[(-3, UP)], Reason::OtherUnknown),
    ]);
}

#[test]
fn failover_waits_for_a_proof_where_the_user_requires_one() {
    let cases = [
        (false, false, OVER),
        (false, true, OVER),
        (true, false, Reason::OtherNotProven),
        (true, true, OVER),
    ];
    for (require, is_proven, reason) in cases {
        let mut situation = Situation::new(DEAD, &up(0, 4));
        situation.policy.failover.require_proof = require;
        situation.is_proven = is_proven;
        assert_eq!(situation.reason(4), reason, "required {require}, proven {is_proven}");
        // Only the fallback is proven; leaving it needs no proof.
        let mut situation = Situation::new(&up(0, 4), DEAD).on_fallback();
        situation.policy.failover.require_proof = require;
        assert_eq!(situation.reason(4), AWAY, "away, required {require}");
    }
}

#[test]
fn failover_needs_a_target_that_holds_something() {
    let side = |primary, fallback| Sides { primary, fallback };
    let cases = [
        ("both hold", BOTH, OVER),
        ("only the target holds", side(false, true), OVER),
        ("the target is empty", side(true, false), Reason::OtherEmpty),
        ("nothing is known", side(false, false), Reason::OtherEmpty),
    ];
    for (name, serves, reason) in cases {
        let situation = Situation {
            serves,
            ..Situation::new(DEAD, &up(0, 4))
        };
        assert_eq!(situation.reason(4), reason, "{name}");
        let situation = Situation {
            serves: side(serves.fallback, serves.primary),
            ..Situation::new(&up(0, 4), DEAD).on_fallback()
        };
        let away = if reason == OVER { AWAY } else { reason };
        assert_eq!(situation.reason(4), away, "{name}, the other way round");
    }
    // What the target holds matters only once it is known to answer.
    let confirming = Situation {
        serves: Sides::default(),
        ..Situation::new(DEAD, &[(0, UP), (1, UP)])
    };
    assert_eq!(confirming.reason(4), Reason::Confirming);
}

#[test]
fn missing_answer_is_asked_for() {
    type Wanted = Option<(Side, Timestamp)>;
    let (one, two) = ([(3, DOWN)], [(2, DOWN), (3, DOWN)]);
    let three = [(2, DOWN), (3, DOWN), (4, DOWN)];
    let before: &Probes = &[(0, UP), (1, UP)];
    let fallback = |seconds| Some((Side::Fallback, at(seconds)));
    let skewed = |seconds| Some((Side::Fallback, later(at(seconds), LONGEST_SKEW)));
    let cases: &[(&str, &Probes, &Probes, Wanted)] = &[
        ("well", &[(3, UP)], &up(0, 2), None),
        ("the first failure", &one, &up(0, 2), skewed(3)),
        ("the second", &two, before, skewed(2)),
        ("it answered too soon", &two, &[(0, UP), (2, UP)], skewed(2)),
        ("it has just answered", &two, &[(0, UP), (3, UP)], None),
        ("it does not answer", &two, &[(0, UP), (2, DOWN)], None),
        ("at the threshold", &three, before, skewed(2)),
        ("it came back", &three, &[(2, DOWN), (3, UP), (4, UP)], fallback(3 + 6)),
        ("it was not asked before", &three, &[(3, UP), (4, UP)], fallback(3 + 6)),
    ];
    for (name, primary, fallback, wanted) in cases {
        assert_eq!(Situation::new(primary, fallback).decide(4).probe_now, *wanted, "{name}");
    }
}

#[test]
fn failover_needs_other_replicas_to_agree() {
    let vantage = |seconds, fails| Vantage {
        node: "other".into(),
        at: at(seconds),
        fails,
        down: fails,
    };
    let cases: &[(&str, Vec<Vantage>, i64, Reason)] = &[
        ("there is none", vec![], 4, OVER),
        ("it fails there, too", vec![vantage(3, true)], 4, OVER),
        ("it failed there before", vec![vantage(1, true)], 4, OVER),
        (
            "it was reached since",
            vec![vantage(3, false)],
            4,
            Reason::PartiallyReachable,
        ),
        ("it was reached before", vec![vantage(1, false)], 4, Reason::Confirming),
        ("nothing was heard since", vec![vantage(1, false)], 5, OVER),
        (
            "one of two reaches it",
            vec![vantage(3, true), vantage(3, false)],
            5,
            Reason::PartiallyReachable,
        ),
        (
            "one of two is silent",
            vec![vantage(3, true), vantage(1, false)],
            4,
            Reason::Confirming,
        ),
    ];
    for (name, seen, now, reason) in cases {
        let mut situation = Situation::new(DEAD, &up(0, 4));
        situation.vantages.primary.clone_from(seen);
        let decision = situation.decide(*now);
        assert_eq!(decision.why.reason, *reason, "{name}: {}", decision.why.message);
        if *reason == Reason::Confirming {
            assert_eq!(decision.recheck_at, Some(at(2 + 2 + 1)), "{name}");
        }
        // What others see of the side that is not active is no matter.
        let mut situation = Situation::new(DEAD, &up(0, 4));
        situation.vantages.fallback.clone_from(seen);
        assert_eq!(situation.reason(*now), OVER, "{name}");
    }
}

#[test]
fn failover_needs_failures_for_long_enough() {
    let brief = |ms: i64| {
        let begun = later(at(4), Duration::from_millis(u64::try_from(ms).unwrap()));
        let mut situation = Situation::new(&[(0, UP), (4, DOWN), (4, DOWN)], &[(0, UP), (4, UP)]);
        let answer = later(at(4), LONGEST_SKEW);
        let answer = Probe {
            begun: answer,
            at: answer,
            outcome: UP,
            message: "".into(),
        };
        situation.fallback.record(answer, &situation.policy.health);
        let last = Probe {
            begun,
            at: begun,
            outcome: DOWN,
            message: "".into(),
        };
        situation.primary.record(last, &situation.policy.health);
        situation.decide(5)
    };
    let early = brief(699);
    let confirmed = later(at(4), CONFIRMATION);
    assert_eq!(early.why.reason, Reason::Confirming);
    assert_eq!(early.probe_now, Some((Side::Primary, confirmed)));
    assert_eq!(brief(700).why.reason, OVER);
}

/// Of two that come back together, the one that is a little later has not failed alone.
#[test]
fn failover_waits_after_the_target_itself_has_failed() {
    let failing: Vec<(i64, Outcome)> = [(0, UP)]
        .into_iter()
        .chain((2..=12).map(|second| (second, DOWN)))
        .collect();
    let target: Vec<(i64, Outcome)> = [(0, UP), (2, DOWN), (3, DOWN)]
        .into_iter()
        .chain((5..=12).map(|second| (second, UP)))
        .collect();
    let until = |second: i64| {
        let seen = |probes: &[(i64, Outcome)]| -> Vec<(i64, Outcome)> {
            probes.iter().copied().filter(|(at, _)| *at <= second).collect()
        };
        Situation::new(&seen(&failing), &seen(&target)).reason(second)
    };
    assert_eq!(until(10), Reason::Confirming);
    assert_eq!(until(11), OVER);
}

#[test]
fn dead_fallback_is_left_even_when_failback_is_manual() {
    let mut dying = Situation::new(&[(0, UP), (2, UP), (4, UP)], &[(2, DOWN), (3, DOWN), (4, DOWN)]).on_fallback();
    dying.policy.failover.failback = FailbackMode::Manual;
    let decision = dying.decide(4);
    assert_eq!(decision.why.reason, AWAY);
    assert_eq!((decision.active, decision.epoch), (Side::Primary, 3));
    assert_eq!(decision.failovers, [at(0), at(4)], "it counts as a failover");
}

#[test]
fn failovers_in_both_directions_are_damped_from_the_third_on() {
    // How long the target has been reachable, failovers within the hour, and whether that is enough.
    let cases = [
        ("the first", 4, 0, true),
        ("the second", 4, 1, true),
        ("the third, too early", 598, 2, false),
        ("the third", 600, 2, true),
        ("the fourth, too early", 1_198, 3, false),
        ("the fourth", 1_200, 3, true),
        ("the tenth, too early", 3_598, 9, false),
        ("the tenth", 3_600, 9, true),
    ];
    for (name, reachable, failovers, flips) in cases {
        let target = up(4 - reachable, 4);
        let failovers: Vec<Timestamp> = (0..failovers).map(|minutes| at(-60 * minutes)).collect();
        let mut over = Situation::new(DEAD, &target);
        over.standing.failovers.clone_from(&failovers);
        let mut away = Situation::new(&target, DEAD).on_fallback();
        away.standing.failovers.clone_from(&failovers);
        for (situation, flipped) in [(over, OVER), (away, AWAY)] {
            let decision = situation.decide(4);
            let expected = if flips { flipped } else { Reason::OtherUnstable };
            assert_eq!(decision.why.reason, expected, "{name}: {}", decision.why.message);
            let recheck =
                (!flips).then(|| later(at(4 - reachable), stable_wait(Duration::from_mins(5), failovers.len())));
            assert_eq!(decision.recheck_at, recheck, "{name}");
        }
    }
}

#[test]
fn failback_needs_stability_and_a_check_after_the_recovery() {
    let well = || Situation::new(&up(100, 500), &up(100, 500)).on_fallback();
    let cases: &[(&str, i64, Option<InUseCheck>, Reason)] = &[
        ("stable and checked", 500, Some(check(450, 460, true)), BACK),
        (
            "the check began with the recovery",
            500,
            Some(check(100, 460, true)),
            BACK,
        ),
        (
            "it began before",
            500,
            Some(check(99, 460, true)),
            Reason::WaitingForParity,
        ),
        ("it is a minute old", 500, Some(check(430, 440, true)), BACK),
        (
            "it is older",
            500,
            Some(check(429, 439, true)),
            Reason::WaitingForParity,
        ),
        (
            "it found something missing",
            500,
            Some(check(450, 460, false)),
            Reason::WaitingForParity,
        ),
        ("none was made", 500, None, Reason::WaitingForParity),
        ("quiet since", 507, Some(check(450, 460, true)), Reason::NotYetObserved),
    ];
    for (name, now, check, reason) in cases {
        let decision = Situation {
            check: check.clone(),
            ..well()
        }
        .decide(*now);
        assert_eq!(decision.why.reason, *reason, "{name}: {}", decision.why.message);
        assert_eq!(decision.active == Side::Primary, *reason == BACK, "{name}");
        if *now == 500 {
            assert_eq!(decision.check_now, *reason == Reason::WaitingForParity, "{name}");
        }
    }
    let early = Situation {
        check: Some(check(350, 398, true)),
        ..Situation::new(&up(100, 398), &up(100, 398)).on_fallback()
    };
    let decision = early.decide(399);
    assert_eq!(decision.why.reason, Reason::WaitingForStability);
    assert!(!decision.check_now, "nothing is read before it can matter");
    assert_eq!(decision.recheck_at, Some(at(400)));
    assert_eq!(early.reason(400), BACK, "at the very instant it said");
}

#[test]
fn failback_goes_on_while_the_fallback_stumbles() {
    let back = Situation::new(&up(100, 500), &[(498, UP), (500, DOWN)]).on_fallback();
    let decision = back.decide(500);
    assert_eq!((decision.why.reason, decision.check_now), (Reason::Failing, true));
    let ready = Situation {
        check: Some(check(450, 460, true)),
        ..back
    };
    assert_eq!(ready.reason(500), BACK);
}

#[test]
fn failback_needs_the_success_threshold_too() {
    let mut rare = Situation::new(&[], &up(100, 400)).on_fallback();
    rare.policy.health.period = Duration::from_mins(5);
    rare.primary = history_under(&rare.policy, &[(100, UP), (400, UP)]);
    rare.check = Some(check(150, 400, true));
    assert_eq!(rare.reason(400), Reason::WaitingForStability);
    rare.primary = history_under(&rare.policy, &[(100, UP), (400, UP), (700, UP)]);
    rare.check = Some(check(690, 700, true));
    assert_eq!(rare.reason(700), BACK);
}

#[test]
fn stable_wait_doubles_with_each_failover_up_to_an_hour() {
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
    manual.check = Some(check(450, 460, true));
    let decision = manual.decide(500);
    assert_eq!(
        (decision.why.reason, decision.active, decision.check_now),
        (Reason::ManualFailback, Side::Fallback, false)
    );
}

#[test]
fn override_flips_at_once_and_once() {
    let mut steered = Situation::new(&up(0, 4), &[(4, DOWN)]);
    steered.policy.failover.active = ActiveSide::Fixed(Side::Fallback);
    steered.serves = Sides::default();
    let decision = steered.decide(4);
    assert_eq!(decision.why.reason, Reason::Flipped(FlipReason::Requested));
    assert_eq!((decision.active, decision.epoch), (Side::Fallback, 2));
    assert_eq!(decision.failovers, [], "a person's choice is no failover");

    steered.standing = Standing {
        active: decision.active,
        epoch: decision.epoch,
        failovers: decision.failovers,
        last_flip: decision.flip,
        registry: None,
    };
    let held = steered.decide(4);
    assert_eq!((held.why.reason, held.epoch, held.flip), (Reason::Overridden, 2, None));

    steered.serves = BOTH;
    steered.fallback = history(&[(2, DOWN), (3, DOWN), (4, DOWN)]);
    assert_eq!(
        steered.reason(4),
        Reason::Overridden,
        "even when the chosen side is down"
    );

    // Letting go resumes from where it stands, under the rules for that.
    steered.policy.failover.active = ActiveSide::Auto;
    assert_eq!(steered.reason(4), AWAY);
    steered.fallback = history(&up(0, 4));
    let resumed = steered.decide(4);
    assert_eq!(
        (resumed.why.reason, resumed.active),
        (Reason::WaitingForStability, Side::Fallback)
    );
}

#[test]
fn restarted_leader_does_not_flip_on_its_first_reading() {
    let first = Situation::new(&[(0, UP)], &[(0, DOWN)]).on_fallback().decide(0);
    assert_eq!((first.active, first.why.reason), (Side::Fallback, Reason::Failing));
    let first = Situation::new(&[(0, DOWN)], &[(0, UP)]).decide(0);
    assert_eq!((first.active, first.why.reason), (Side::Primary, Reason::Failing));

    // Not even where one failure is enough, and the other side answers before and after it.
    let mut hasty = Situation::new(&[], &[]);
    hasty.policy.health.failure_threshold = 1;
    hasty.primary = history_under(&hasty.policy, &[(4, DOWN)]);
    hasty.fallback = history_under(&hasty.policy, &up(0, 4));
    assert_eq!(hasty.reason(4), Reason::Failing);
    hasty.primary = history_under(&hasty.policy, &[(3, DOWN), (4, DOWN)]);
    assert_eq!(hasty.reason(4), OVER);
}

#[test]
fn threshold_of_one_still_asks_the_other_side_afterwards() {
    let mut hasty = Situation::new(&[(2, UP), (4, DOWN)], &up(0, 2));
    hasty.policy.health.failure_threshold = 1;
    let decision = hasty.decide(4);
    assert_eq!(
        (decision.why.reason, decision.probe_now),
        (Reason::Confirming, Some((Side::Fallback, later(at(4), LONGEST_SKEW))))
    );
    hasty.fallback = history(&[(0, UP), (2, UP), (5, UP)]);
    let decision = hasty.decide(5);
    assert_eq!(decision.probe_now, Some((Side::Primary, at(5))));
    hasty.primary = history_under(&hasty.policy, &[(2, UP), (4, DOWN), (5, DOWN)]);
    assert_eq!(hasty.reason(5), OVER);
}

#[test]
fn failover_messages_name_side_count_instant_and_cause() {
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
         connection refused; the fallback b.example has not been probed yet, so failing over is not safe"
    );
    let empty = Situation {
        serves: Sides::default(),
        ..Situation::new(&dead, &up(0, 4))
    };
    assert!(said(&empty, 4).ends_with(
        "the fallback b.example is reachable since 2026-01-01T00:00:00Z and holds nothing that is in use, so failing \
             over would not help"
    ));
    let mut unstable = Situation::new(&dead, &up(0, 4));
    unstable.standing.failovers = vec![at(-120), at(-60)];
    assert!(said(&unstable, 4).ends_with(
        "is reachable since 2026-01-01T00:00:00Z; both sides have failed in turn, so it must be reachable for longer first"
    ));
}

#[test]
fn messages_of_other_decisions_name_what_is_known() {
    let said = |situation: &Situation, now| situation.decide(now).why.message;
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
        check: Some(check(450, 460, false)),
        ..Situation::new(&up(100, 500), &up(100, 500)).on_fallback()
    };
    assert_eq!(
        said(&back, 500),
        "serving from the fallback; the primary a.example has been reachable without a break since \
         2026-01-01T00:01:40Z (6 min 40 s); the check at 2026-01-01T00:07:30Z found: 1 of 12 references in use hold it up, \
         the first is 'web:7' (MissingOnPrimary)"
    );
    let early = Situation {
        check: Some(check(50, 60, true)),
        ..back
    };
    assert!(said(&early, 500).ends_with("; everything in use is being looked for on the primary"));
    let mut held = Situation::new(&up(0, 4), &up(0, 4));
    held.policy.failover.active = ActiveSide::Fixed(Side::Primary);
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

#[test]
fn override_ends_at_its_time_and_the_operator_decides_again() {
    let mut held = Situation::new(&[(0, UP), (2, UP)], &[(0, UP), (2, UP)]);
    held.policy.failover.active = ActiveSide::Fixed(Side::Primary);
    held.policy.failover.active_until = Some(at(60));
    let decision = held.decide(3);
    assert_eq!(
        (decision.why.reason, decision.recheck_at),
        (Reason::Overridden, Some(at(60)))
    );
    assert!(
        decision.why.message.contains("until 2026-01-01T00:01:00Z"),
        "{}",
        decision.why.message
    );
    held.primary = history(&[(56, UP), (58, UP), (60, UP)]);
    assert_eq!(held.reason(59), Reason::Overridden);
    assert_eq!(held.reason(60), Reason::Steady);
}
