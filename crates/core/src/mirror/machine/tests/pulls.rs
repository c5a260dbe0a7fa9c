//! What pods report of their pulls.

use super::*;
use crate::mirror::Announcement;
use crate::mirror::pulls::{FailedAttempt, PodPulls};
use crate::pod::message::PullFailure;
use crate::policy::OnPullsFailing;

/// Pods on two nodes that can't pull from a side.
fn pods(side: Side, failure: PullFailure, numbers: std::ops::Range<u32>) -> Event {
    let pod = |number: u32| {
        let mut failed = Sides::default();
        failed[side] = Some(FailedAttempt { failure, is_new: true });
        PodPulls {
            pod: format!("pod-{number}").into(),
            node: format!("node-{}", number % 2).into(),
            failed,
        }
    };
    Event::Pulls(numbers.map(pod).collect())
}

/// What happens to a mirror.
type Change<'a> = &'a dyn Fn(&mut Bench);

fn three(side: Side) -> Event {
    pods(side, PullFailure::Connection, 0..3)
}

fn announced(effects: &[Effect]) -> Vec<&str> {
    let note = |effect| match effect {
        &Effect::Announce(Announcement::PullsFailAfterFlip(ref note)) => Some(note.as_str()),
        _ => None,
    };
    effects.iter().filter_map(note).collect()
}

#[test]
fn three_pods_flip_once() {
    let mut bench = ready();
    bench.feed(three(Side::Primary));
    bench.probes(1, UP, UP);
    let flip = bench.mirror.status.pending().and_then(|decision| decision.flip.clone());
    assert_eq!(flip.map(|flip| flip.reason), Some(FlipReason::PullsFailing));
    bench.settle();
    assert_eq!(bench.active(), (Side::Fallback, 2));
    bench.probes(5, UP, UP);
    bench.settle();
    assert_eq!(bench.active(), (Side::Fallback, 2));
    // What was reported of the primary says nothing in the new epoch.
    assert_eq!(bench.mirror.pulls.outages(at(bench.now)), Sides::default());
}

#[test]
fn pods_of_the_inactive_side_flip_nothing() {
    let mut bench = ready();
    bench.feed(three(Side::Fallback));
    bench.probes(5, UP, UP);
    bench.settle();
    assert_eq!(bench.active(), (Side::Primary, 1));
}

#[test]
fn reports_are_dropped_with_the_registry_and_the_lease() {
    let two = || pods(Side::Primary, PullFailure::Dns, 0..2);
    let third = || pods(Side::Primary, PullFailure::Dns, 2..3);
    let mut other = web();
    other.sides.primary.registry = "other.example".to_owned();
    let changes: [(&str, Change<'_>, bool); 3] = [
        ("nothing", &|_| {}, true),
        (
            "another registry",
            &|bench| {
                bench.spec(other.clone(), 2);
            },
            false,
        ),
        (
            "the lease",
            &|bench| {
                bench.feed(Event::Leading(false));
                bench.feed(Event::Prior(Evidence::default()));
                bench.feed(Event::Leading(true));
            },
            false,
        ),
    ];
    for (name, change, raised) in changes {
        let mut bench = ready();
        bench.feed(two());
        change(&mut bench);
        bench.feed(third());
        let outage = bench.mirror.pulls.outages(at(bench.now)).primary;
        assert_eq!(outage.is_some(), raised, "{name}");
    }
}

#[test]
fn reported_pulls_are_shown_and_not_acted_on() {
    let mut bench = ready();
    let mut policy = web();
    policy.health.on_pulls_failing = OnPullsFailing::Report;
    bench.spec(policy, 2);
    bench.feed(three(Side::Primary));
    bench.probes(3, UP, UP);
    bench.settle();
    assert_eq!(
        (bench.active(), bench.reason()),
        ((Side::Primary, 1), Some(Reason::PullsFailing))
    );
    let Some((_, Subject::Watched(seen))) = bench.mirror.view().unwrap().in_force else {
        panic!("it is watched");
    };
    let (side, failing) = seen.pulls.unwrap();
    assert_eq!((side, failing.pods, failing.nodes), (Side::Primary, 3, 2));
    assert_eq!(seen.pods_failing, 3);
    // The same spec again does not begin anew.
    bench.feed(Event::Time);
    assert!(!bench.write(), "nothing has changed");
}

#[test]
fn outcome_of_a_flip_is_announced_once() {
    let mut bench = failed_over();
    bench.feed(pods(Side::Fallback, PullFailure::Unauthorized, 0..2));
    let mut notes = Vec::new();
    for _ in 0..60 {
        bench.wait(1);
        let effects = bench.feed(Event::Time);
        notes.extend(announced(&effects).into_iter().map(str::to_owned));
    }
    notes.extend(announced(&bench.wanted).into_iter().map(str::to_owned));
    notes.dedup();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("2 pods can't pull from there: unauthorized (2)"),
        "{notes:?}"
    );
}

#[test]
fn suspended_mirror_keeps_no_reports() {
    let mut bench = ready();
    bench.feed(pods(Side::Primary, PullFailure::Dns, 0..2));
    let mut suspended = web();
    suspended.suspended = true;
    bench.spec(suspended, 2);
    bench.feed(three(Side::Primary));
    bench.spec(web(), 3);
    assert_eq!(bench.mirror.pulls.outages(at(bench.now)), Sides::default());
}
