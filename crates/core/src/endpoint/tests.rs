use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::policy::Trigger;

const REFUSED: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);
const TIMED_OUT: Outcome = Outcome::Unavailable(Unavailable::Timeout);
const THROTTLED: Outcome = Outcome::Throttled { retry_after: None };

/// Milliseconds after an arbitrary instant.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
}

/// Milliseconds, and what the probe that ended then found.
type Probes = [(i64, Outcome)];

fn history_under(policy: &HealthPolicy, probes: &Probes) -> ProbeHistory {
    let mut history = ProbeHistory::new();
    for (ms, outcome) in probes {
        history.record(
            Probe {
                begun: at(*ms),
                at: at(*ms),
                outcome: *outcome,
                message: Arc::default(),
            },
            policy,
        );
    }
    history
}

fn history(probes: &Probes) -> ProbeHistory {
    history_under(&HealthPolicy::default(), probes)
}

/// Probes two seconds apart, from 0.
fn every_two_seconds(outcomes: &[Outcome]) -> Vec<(i64, Outcome)> {
    (0..).step_by(2000).zip(outcomes.iter().copied()).collect()
}

fn check_availability(cases: &[(&str, &[Outcome], Availability)]) {
    for (name, outcomes, expected) in cases {
        let known = history(&every_two_seconds(outcomes)).availability();
        assert_eq!(known, *expected, "{name}");
    }
}

#[test]
fn availability_has_hysteresis() {
    use Availability::{Available, Unknown};
    use Outcome::Reachable as Up;
    let down = Availability::Unavailable(Unavailable::ConnectionFailed);
    let unseen = Unknown(UnknownReason::NotYetObserved);
    check_availability(&[
        ("nothing seen", &[], unseen),
        ("one success", &[Up], Available),
        ("too few failures say nothing yet", &[REFUSED, REFUSED], unseen),
        ("nor take anything back", &[Up, REFUSED, REFUSED], Available),
        ("enough failures", &[Up, REFUSED, REFUSED, REFUSED], down),
        ("too few successes", &[REFUSED, REFUSED, REFUSED, Up, Up], down),
        ("enough successes", &[REFUSED, REFUSED, REFUSED, Up, Up, Up], Available),
    ]);
}

#[test]
fn availability_is_kept_until_unclear_answers_persist() {
    use Availability::{Available, Unknown};
    use Outcome::{CanaryNotFound as Lost, Reachable as Up, Unauthorized as No};
    let denied = Unknown(UnknownReason::Unauthorized);
    let limited = Unknown(UnknownReason::RateLimited);
    check_availability(&[
        ("a first 401 is all we know", &[No], denied),
        ("one 401", &[Up, No], Available),
        ("401 that persists", &[Up, No, No, No], denied),
        (
            "401 that persists after an outage",
            &[REFUSED, REFUSED, REFUSED, No, No, No],
            denied,
        ),
        ("a rate limit is believed at once", &[Up, THROTTLED], limited),
        ("a canary that is missing once", &[Up, Lost], Available),
    ]);
}

#[test]
fn history_is_unclear_after_as_many_unclear_probes_as_the_threshold() {
    use Outcome::{Reachable as Up, Unauthorized as No, UnexpectedAnswer as Odd};
    let cases: &[(&str, &[Outcome], bool)] = &[
        ("nothing seen", &[], false),
        ("one", &[Up, No], false),
        ("two", &[Up, No, No], false),
        ("three", &[Up, No, No, No], true),
        ("three kinds", &[Up, No, Odd, THROTTLED], true),
        ("a rate limit is no exception", &[Up, THROTTLED, THROTTLED], false),
        ("a success ends it", &[No, No, No, Up], false),
        ("so does a failure", &[No, No, No, REFUSED], false),
        ("and it begins anew", &[No, No, REFUSED, No], false),
    ];
    for (name, outcomes, unclear) in cases {
        let history = history(&every_two_seconds(outcomes));
        assert_eq!(history.is_unclear(&HealthPolicy::default()), *unclear, "{name}");
    }
}

#[test]
fn run_of_failures_takes_in_counted_ones_only() {
    use Outcome::{
        CanaryBlocked, CanaryNotFound, CertificateNotTrusted, CredentialsUnavailable, Forbidden, NetworkDenied,
        Reachable, RefusedByOperator, Unauthorized, UnexpectedAnswer, WaitingForAuthorization,
    };
    let cases: &[(&str, &[Outcome], u32, u32)] = &[
        ("refused", &[REFUSED, REFUSED], 2, 0),
        ("a success ends the run", &[REFUSED, REFUSED, Reachable], 0, 1),
        (
            "401 in the middle of an outage",
            &[REFUSED, Unauthorized, REFUSED],
            2,
            0,
        ),
        ("401 alone", &[Unauthorized, Unauthorized, Unauthorized], 0, 0),
        (
            "each of the others",
            &[
                Forbidden,
                NetworkDenied,
                THROTTLED,
                CanaryNotFound,
                CanaryBlocked,
                UnexpectedAnswer,
                RefusedByOperator,
                CertificateNotTrusted,
                CredentialsUnavailable,
                WaitingForAuthorization,
            ],
            0,
            0,
        ),
        (
            "they end a run of successes",
            &[Reachable, Reachable, CanaryNotFound, Reachable],
            0,
            1,
        ),
    ];
    for (name, outcomes, failures, successes) in cases {
        let history = history(&every_two_seconds(outcomes));
        assert_eq!(
            (history.failures_in_row(), history.successes_in_row()),
            (*failures, *successes),
            "{name}"
        );
    }
}

#[test]
fn what_the_user_lists_as_trigger_counts() {
    let cases = [
        (Trigger::Unauthorized, Outcome::Unauthorized, true),
        (Trigger::Unauthorized, Outcome::Forbidden, false),
        (Trigger::Forbidden, Outcome::Forbidden, true),
        (Trigger::Forbidden, Outcome::NetworkDenied, true),
        (Trigger::Forbidden, Outcome::Unauthorized, false),
        (Trigger::Forbidden, Outcome::CanaryNotFound, false),
        (Trigger::Forbidden, Outcome::CanaryBlocked, false),
        (Trigger::Forbidden, Outcome::RefusedByOperator, false),
        (Trigger::Unauthorized, Outcome::UnexpectedAnswer, false),
        (Trigger::Throttled, Outcome::Unauthorized, false),
    ];
    for (trigger, outcome, counts) in cases {
        let policy = HealthPolicy {
            triggers: vec![trigger],
            ..HealthPolicy::default()
        };
        let history = history_under(&policy, &every_two_seconds(&[outcome; 62]));
        assert_eq!(
            outcome.counts_as_failure(&policy),
            counts,
            "{outcome:?} with {trigger:?}"
        );
        let availability = history.availability();
        let down = matches!(availability, Availability::Unavailable(_));
        assert_eq!(down, counts, "{outcome:?} with {trigger:?}");
        assert_eq!(
            availability.as_str(),
            outcome.as_str(),
            "one word, whether it counts or not"
        );
    }
    let bare = HealthPolicy {
        triggers: Vec::new(),
        ..HealthPolicy::default()
    };
    assert!(REFUSED.counts_as_failure(&bare), "Unavailable always counts");
}

#[test]
fn failures_far_apart_are_not_a_run() {
    let denied = Outcome::Unauthorized;
    let apart = history(&[
        (0, REFUSED),
        (2000, denied),
        (4000, denied),
        (6000, denied),
        (8001, REFUSED),
    ]);
    assert_eq!(apart.failures_in_row(), 1);
    assert_eq!(apart.failing_since(), Some(at(8001)));
    assert_eq!(apart.first_failure_begun(), apart.last_failure_begun());
    let asleep = history(&[(0, REFUSED), (750, REFUSED), (3_600_000, REFUSED)]);
    assert_eq!(asleep.failures_in_row(), 1);
}

#[test]
fn reachable_since_breaks_with_anything_else_and_with_silence() {
    use Outcome::{Reachable, Unauthorized};
    let cases: &[(&str, &Probes, Option<i64>)] = &[
        ("never", &[], None),
        ("since the first", &[(0, Reachable), (2000, Reachable)], Some(0)),
        ("a failure", &[(0, Reachable), (2000, REFUSED)], None),
        (
            "after a failure",
            &[(0, Reachable), (2000, REFUSED), (2750, Reachable), (4750, Reachable)],
            Some(2750),
        ),
        (
            "a 401",
            &[(0, Reachable), (2000, Unauthorized), (4000, Reachable)],
            Some(4000),
        ),
        (
            "a rate limit",
            &[(0, Reachable), (2000, THROTTLED), (6000, Reachable)],
            Some(6000),
        ),
        (
            "three periods are no silence",
            &[(0, Reachable), (6000, Reachable)],
            Some(0),
        ),
        (
            "more than three periods are",
            &[(0, Reachable), (6001, Reachable)],
            Some(6001),
        ),
        (
            "a clock that was set back",
            &[(60_000, Reachable), (0, Reachable)],
            Some(0),
        ),
    ];
    for (name, probes, since) in cases {
        assert_eq!(history(probes).reachable_since(), since.map(at), "{name}");
    }
}

#[test]
fn a_history_that_went_quiet_says_nothing() {
    let policy = HealthPolicy::default();
    let history = history(&[(0, Outcome::Reachable)]);
    assert!(history.fresh(&policy, at(6000)).is_some());
    assert!(history.fresh(&policy, at(6001)).is_none());
    assert!(history.fresh(&policy, at(-6001)).is_none(), "the clock was set back");
    let patient = HealthPolicy {
        timeout: Duration::from_secs(6),
        ..policy
    };
    assert!(
        history.fresh(&patient, at(18_000)).is_some(),
        "one timeout after the other is no silence"
    );
}

#[test]
fn history_is_experienced_after_its_second_probe() {
    let experienced = |probes: &Probes| history(probes).is_experienced();
    assert!(!experienced(&[]));
    assert!(!experienced(&[(0, REFUSED)]));
    assert!(experienced(&[(0, REFUSED), (750, REFUSED)]));
    assert!(experienced(&[(0, Outcome::Unauthorized), (2000, REFUSED)]));
}

#[test]
fn answers_within_a_run_are_remembered_with_their_times() {
    use Outcome::Reachable as Up;
    let run = history(&[(0, Up), (2000, Up), (4000, Up)]);
    let since = |history: &ProbeHistory, ms| history.answered_since(at(ms));
    assert_eq!(since(&run, 1), Some(at(2000)));
    assert_eq!(since(&run, 4000), Some(at(4000)));
    assert_eq!(since(&run, 4001), None);
    let broken = history(&[(0, Up), (2000, REFUSED), (4000, Up)]);
    assert_eq!(since(&broken, 0), Some(at(4000)), "a break ends the run");
    let long = history(&every_two_seconds(&[Up; 100]));
    assert!(since(&long, 0) > Some(at(150_000)), "only the last ones are kept");
}

#[test]
fn every_outcome_has_a_stable_name() {
    let cases = [
        (Outcome::Reachable, "Reachable"),
        (Outcome::Unavailable(Unavailable::DnsFailure), "DNSFailure"),
        (Outcome::Unavailable(Unavailable::ConnectionFailed), "ConnectionFailed"),
        (Outcome::Unavailable(Unavailable::TlsError), "TLSError"),
        (Outcome::Unavailable(Unavailable::Timeout), "Timeout"),
        (Outcome::Unavailable(Unavailable::ServerError), "ServerError"),
        (Outcome::Unauthorized, "Unauthorized"),
        (Outcome::Forbidden, "Forbidden"),
        (Outcome::NetworkDenied, "NetworkDenied"),
        (THROTTLED, "RateLimited"),
        (Outcome::CanaryNotFound, "CanaryNotFound"),
        (Outcome::CanaryBlocked, "CanaryBlocked"),
        (Outcome::UnexpectedAnswer, "UnexpectedAnswer"),
        (Outcome::RefusedByOperator, "RefusedByOperator"),
        (Outcome::CertificateNotTrusted, "CertificateNotTrusted"),
        (Outcome::CredentialsUnavailable, "CredentialsUnavailable"),
        (Outcome::WaitingForAuthorization, "WaitingForAuthorization"),
    ];
    for (outcome, name) in cases {
        assert_eq!(outcome.as_str(), name);
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Reachable),
        Just(REFUSED),
        Just(TIMED_OUT),
        Just(Outcome::Unauthorized),
        Just(Outcome::CanaryNotFound),
        prop::option::of(any::<u64>()).prop_map(|told| Outcome::Throttled {
            retry_after: told.map(Duration::from_secs)
        }),
    ]
}

proptest! {
    #[test]
    fn runs_of_failures_and_successes_exclude_each_other(
        probes in prop::collection::vec((-20_000..400_000i64, any_outcome()), 1..60),
    ) {
        let mut history = ProbeHistory::new();
        let mut ms = 0;
        for (step, outcome) in probes {
            ms += step;
            history.record(Probe { begun: at(ms), at: at(ms), outcome, message: Arc::default() }, &HealthPolicy::default());
            prop_assert!(history.failures_in_row() == 0 || history.successes_in_row() == 0);
            prop_assert_eq!(history.reachable_since().is_some(), outcome == Outcome::Reachable);
            prop_assert_eq!(history.reachable_since().is_some(), history.successes_in_row() > 0);
            prop_assert_eq!(history.failing_since().is_some(), history.failures_in_row() > 0);
            prop_assert_eq!(history.first_failure_begun().is_some(), history.failures_in_row() > 0);
            prop_assert_eq!(history.answered_since(Timestamp::MIN).is_some(), history.successes_in_row() > 0);
        }
    }
}
