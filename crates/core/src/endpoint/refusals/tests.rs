use super::*;
use crate::endpoint::{Availability, LONGEST_BACKOFF, Outcome, Probe, ProbeHistory, backoff, later};
use crate::policy::{HealthPolicy, Trigger};

const UP: Outcome = Outcome::Reachable;
const THROTTLED: Outcome = Outcome::Throttled { retry_after: None };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn policy() -> HealthPolicy {
    HealthPolicy {
        triggers: vec![
            Trigger::Unavailable,
            Trigger::Unauthorized,
            Trigger::Forbidden,
            Trigger::Throttled,
        ],
        ..HealthPolicy::default()
    }
}

fn record(history: &mut ProbeHistory, at: Timestamp, outcome: Outcome) {
    let message = String::new();
    let begun = at;
    history.record(
        Probe {
            begun,
            at,
            outcome,
            message: message.into(),
        },
        &policy(),
    );
}

/// When a side is probed next, about as an endpoint does it.
fn next_probe(history: &ProbeHistory, now: Timestamp) -> Timestamp {
    let policy = policy();
    let pause = match history.latest().map(|probe| probe.outcome) {
        Some(Outcome::Throttled { retry_after }) => backoff(policy.period, history.throttled, retry_after),
        _ => policy.period,
    };
    later(now, pause)
}

/// Probes a side whenever a probe is due; when it is found to refuse for long enough, as seconds since the first probe.
fn lasts_after(answers: impl Fn(i64) -> Outcome, until: i64) -> Option<i64> {
    let mut history = ProbeHistory::new();
    let mut now = at(0);
    while now <= at(until) {
        record(&mut history, now, answers(now.as_second() - at(0).as_second()));
        if history.has_failed(&policy()) {
            assert!(matches!(history.availability(), Availability::Unavailable(_)));
            return Some(now.as_second() - at(0).as_second());
        }
        now = next_probe(&history, now);
    }
    None
}

#[test]
fn refusals_count_by_their_share_of_two_minutes() {
    for refusal in [Outcome::Unauthorized, Outcome::Forbidden, Outcome::NetworkDenied] {
        // From the beginning, and after an hour in which all was well.
        assert_eq!(lasts_after(|_| refusal, 600), Some(60), "{refusal:?}");
        let later = lasts_after(|second| if second < 3_600 { UP } else { refusal }, 7_200).unwrap();
        assert!((3_690..3_700).contains(&later), "{refusal:?} at {later}");
    }
}

#[test]
fn refusals_now_and_then_do_not_count() {
    let every = |length: i64, refused: i64| {
        move |second: i64| {
            if second % length < refused {
                Outcome::Unauthorized
            } else {
                UP
            }
        }
    };
    assert_eq!(lasts_after(every(20, 14), 3_600), None, "seven in ten");
    assert!(lasts_after(every(20, 18), 3_600).is_some(), "nine in ten");
    assert_eq!(lasts_after(every(300, 60), 3_600), None, "a minute in five");
    let alternating = |second: i64| {
        if second % 4 < 2 {
            Outcome::Unauthorized
        } else {
            Outcome::Forbidden
        }
    };
    assert_eq!(lasts_after(alternating, 3_600), None, "two causes");
}

#[test]
fn throttling_counts_although_probes_become_rare() {
    let found = lasts_after(|_| THROTTLED, 3_600).unwrap();
    assert!((60..=130).contains(&found), "{found}");
    let after_an_hour = lasts_after(|second| if second < 3_600 { UP } else { THROTTLED }, 7_200).unwrap();
    assert!((3_720..3_740).contains(&after_an_hour), "{after_an_hour}");
    // The registry asks for fewer requests than five in two minutes.
    let told = Outcome::Throttled {
        retry_after: Some(Duration::from_mins(5)),
    };
    assert_eq!(lasts_after(|_| told, 3_600), Some(600));
    assert_eq!(lasts_after(|second| if second < 300 { told } else { UP }, 3_600), None);
}

#[test]
fn throttled_side_is_not_stale_during_its_backoff() {
    let mut history = ProbeHistory::new();
    let told = Outcome::Throttled {
        retry_after: Some(LONGEST_BACKOFF),
    };
    record(&mut history, at(0), told);
    let next = next_probe(&history, at(0));
    assert!(history.fresh(&policy(), next).is_some());
    assert!(history.fresh(&policy(), later(next, Duration::from_secs(7))).is_none());
}

#[test]
fn refusals_end_with_successes() {
    let mut history = ProbeHistory::new();
    for second in (0..130).step_by(2) {
        record(&mut history, at(second), Outcome::Unauthorized);
    }
    assert!(history.has_failed(&policy()));
    assert_eq!(history.last_failure_begun(), Some(at(128)));
    for (second, up) in [(130, false), (132, false), (134, true)] {
        record(&mut history, at(second), UP);
        assert!(!history.has_failed(&policy()));
        assert_eq!(history.availability() == Availability::Available, up);
    }
}

#[test]
fn refusals_do_not_end_a_run_of_outages() {
    let refused = Outcome::Unavailable(Unavailable::ConnectionFailed);
    let mut history = ProbeHistory::new();
    for (second, outcome) in [(0, refused), (1, Outcome::Unauthorized), (2, refused), (3, refused)] {
        record(&mut history, at(second), outcome);
    }
    assert!(history.has_failed(&policy()));
    assert_eq!(
        history.availability(),
        Availability::Unavailable(Unavailable::ConnectionFailed)
    );
}

#[test]
fn readings_are_bounded() {
    let mut refusals = Refusals::default();
    for millisecond in 0..5_000 {
        let at = Timestamp::from_millisecond(millisecond).unwrap();
        refusals.record(at, Some(Unavailable::Unauthorized));
    }
    assert_eq!(refusals.readings.len(), MOST);
}
