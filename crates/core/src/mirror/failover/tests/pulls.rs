use super::*;
use crate::mirror::pulls::Failing;
use crate::policy::OnPullsFailing;

const FLIP: Reason = Reason::Flipped(FlipReason::PullsFailing);

/// Pulls that fail since second 1, the last but one at second 3.
const fn pulls_failing(pivot: Timestamp, since: Timestamp) -> PullOutage {
    PullOutage {
        failing: Failing {
            since,
            kind: Unavailable::ConnectionFailed,
            pods: 3,
            nodes: 2,
        },
        pivot,
        is_new: true,
    }
}

fn outage() -> PullOutage {
    pulls_failing(at(3), at(1))
}

/// Probes find nothing wrong with either side, and pulls from the active one fail.
fn failing() -> Situation {
    let mut situation = Situation::new(&up(0, 4), &up(0, 4));
    situation.pulls.primary = Some(outage());
    situation
}

fn failing_on_fallback() -> Situation {
    let mut situation = failing().on_fallback();
    situation.pulls = Sides {
        primary: None,
        fallback: Some(outage()),
    };
    situation
}

/// The latest flip was for this reason, so many seconds after the beginning.
fn flipped(mut situation: Situation, from: Side, second: i64) -> Situation {
    situation.standing.last_flip = Some(Flip {
        at: at(second),
        from,
        to: from.other(),
        reason: FlipReason::PullsFailing,
    });
    situation
}

#[test]
fn failing_pulls_flip_while_probes_pass_or_say_nothing() {
    let decision = failing().decide(4);
    assert_eq!(
        (decision.why.reason, decision.active, decision.epoch),
        (FLIP, Side::Fallback, 2)
    );
    assert_eq!(decision.failovers, [at(4)], "it counts as a failover");
    assert_eq!(
        decision.why.message,
        "at least 3 pods on 2 nodes can't pull from the primary a.example since 2026-01-01T00:00:01Z: ConnectionFailed; \
         the fallback b.example is reachable since 2026-01-01T00:00:00Z"
    );
    let unclear = [(0, DENIED), (2, DENIED), (4, DENIED)];
    for primary in [&unclear[..], &[]] {
        let situation = Situation {
            primary: history(primary),
            ..failing()
        };
        assert_eq!(situation.reason(4), FLIP, "{primary:?}");
    }
    let dying = Situation {
        primary: history(&[(2, DOWN), (4, DOWN)]),
        ..failing()
    };
    assert_eq!(dying.reason(4), Reason::Failing, "probes are about to say it");
}

#[test]
fn failing_pulls_flip_back_from_the_fallback() {
    let decision = failing_on_fallback().decide(4);
    assert_eq!(
        (decision.why.reason, decision.active, decision.epoch),
        (FLIP, Side::Primary, 3)
    );
    let mut manual = failing_on_fallback();
    manual.policy.failover.failback = FailbackMode::Manual;
    assert_eq!(manual.reason(4), FLIP, "as a fallback that is down");
}

#[test]
fn failing_pulls_need_a_target_like_any_failover() {
    let with = |fallback: &Probes| Situation {
        fallback: history(fallback),
        ..failing()
    };
    let cases: [(&str, Situation, Reason); 7] = [
        ("it was never asked", with(&[]), Reason::OtherUnknown),
        ("it fails, too", with(&[(0, UP), (4, DOWN)]), Reason::BothUnavailable),
        ("it came back too late", with(&[(4, UP)]), Reason::Confirming),
        ("it was asked before", with(&[(0, UP), (2, UP)]), Reason::Confirming),
        ("it denies", with(&[(0, UP), (4, DENIED)]), Reason::OtherUnknown),
        (
            "it is empty",
            Situation {
                serves: Sides::default(),
                ..failing()
            },
            Reason::OtherEmpty,
        ),
        (
            "pulls from it fail, too",
            Situation {
                pulls: Sides::from_fn(|_| Some(outage())),
                ..failing()
            },
            Reason::BothUnavailable,
        ),
    ];
    for (name, situation, reason) in cases {
        let decision = situation.decide(4);
        assert_eq!(decision.why.reason, reason, "{name}");
        assert!(
            decision.why.message.contains("can't pull from"),
            "{name}: {}",
            decision.why.message
        );
    }
    let asked = with(&[(0, UP), (2, UP)]).decide(4);
    assert_eq!(
        asked.probe_now.map(|(side, _)| side),
        Some(Side::Fallback),
        "its answer is asked for at once"
    );
}

#[test]
fn failing_pulls_are_only_reported_where_nothing_else_is_wanted() {
    let mut situation = failing();
    situation.policy.health.on_pulls_failing = OnPullsFailing::Report;
    let decision = situation.decide(4);
    assert_eq!((decision.why.reason, decision.flip), (Reason::PullsFailing, None));
    let mut situation = failing();
    situation.policy.failover.active = ActiveSide::Fixed(Side::Primary);
    assert_eq!(situation.reason(4), Reason::Overridden);
    let mut situation = failing();
    if let Some(outage) = &mut situation.pulls.primary {
        outage.is_new = false;
    }
    assert_eq!(
        situation.reason(4),
        Reason::PullsFailing,
        "they wait for the next attempt"
    );
}

#[test]
fn third_failover_within_the_hour_is_not_for_failing_pulls() {
    let mut situation = failing();
    situation.standing.failovers = vec![at(-3_000), at(-600)];
    let decision = situation.decide(4);
    assert_eq!(decision.why.reason, Reason::OtherUnstable);
    assert_eq!(decision.recheck_at, Some(at(600)), "an hour after the first of the two");
    situation.standing.failovers = vec![at(-3_600), at(-600)];
    assert_eq!(situation.reason(4), FLIP);
}

#[test]
fn side_that_pulls_failed_from_is_left_for_twice_the_stable_time() {
    // Back at once, because pulls from the fallback fail as well.
    let bounced = |second: i64| {
        let mut situation = flipped(failing_on_fallback(), Side::Primary, 0);
        situation.primary = history(&up(0, second));
        situation.fallback = history(&up(0, second));
        situation.pulls.fallback = Some(pulls_failing(at(second - 1), at(1)));
        situation.decide(second)
    };
    let early = bounced(598);
    assert_eq!(
        (early.why.reason, early.recheck_at),
        (Reason::OtherUnstable, Some(at(600)))
    );
    assert_eq!(bounced(600).why.reason, FLIP);
}

#[test]
fn failback_after_failing_pulls_waits_twice_as_long() {
    let back = |second: i64| {
        // Probes of the primary never failed.
        let mut situation = flipped(
            Situation::new(&up(-4_000, second), &up(0, second)).on_fallback(),
            Side::Primary,
            0,
        );
        situation.check = Some(check(second - 2, second - 1, true));
        situation
    };
    let early = back(598).decide(598);
    assert_eq!(
        (early.why.reason, early.recheck_at),
        (Reason::WaitingForStability, Some(at(600)))
    );
    assert!(
        early.why.message.contains("for 10 min after the flip"),
        "{}",
        early.why.message
    );
    assert_eq!(back(600).reason(600), BACK);
    let mut failing = back(600);
    failing.pulls.primary = Some(pulls_failing(at(599), at(500)));
    assert_eq!(
        failing.reason(600),
        Reason::WaitingForRecovery,
        "pods that name the primary say so"
    );
}
