//! How old the pass may be that a failback builds on.

use super::*;

/// A leader that has failed over, with an hour between passes, and whose primary must be stable for so long.
fn away(stable: Duration) -> (Bench, MirrorPolicy) {
    let mut policy = web();
    policy.parity.interval = Duration::from_hours(1);
    policy.failover.stable = stable;
    let mut bench = Bench::leading(policy.clone());
    bench.pass(&["1"], &[("1", "xx")]);
    bench.settle();
    bench.probes(3, UP, UP);
    bench.settle();
    while bench.active().0 == Side::Primary {
        bench.probes(1, DOWN, UP);
        bench.settle();
    }
    bench.wanted.clear();
    (bench, policy)
}

/// Waits until nothing but the proof is missing.
fn until_stable(bench: &mut Bench) {
    while bench.reason() != Some(Reason::WaitingForParity) {
        bench.probes(1, UP, UP);
        bench.settle();
    }
}

/// Answers what is in use; whether it was asked for by a pass, which then lists.
fn is_pass(bench: &mut Bench) -> bool {
    let effects = bench.in_use(&["1"]);
    effects.iter().any(|effect| matches!(effect, Effect::List { .. }))
}

#[test]
fn failback_waits_for_a_pass_that_began_after_the_recovery() {
    let (mut bench, _) = away(Duration::from_mins(1));
    until_stable(&mut bench);
    assert!(is_pass(&mut bench), "the last pass was before the outage");
    bench.list(&[("1", "xx")], Sides::default());
    bench.settle();
    let age = bench.wanted.iter().find_map(|effect| match effect {
        Effect::ReadInUse { oldest, .. } => Some(*oldest),
        _ => None,
    });
    assert_eq!(age, Some(Duration::from_secs(1)), "what is in use is read anew");
    assert!(!is_pass(&mut bench), "what is in use is checked next");
    bench.settle();
    assert_eq!(bench.active(), (Side::Primary, 3), "{:?}", bench.reason());
}

#[test]
fn failback_waits_for_a_pass_of_the_last_ten_minutes() {
    let (mut bench, policy) = away(Duration::from_mins(20));
    bench.probes(2, UP, UP);
    // Somebody edits the spec, which asks for a pass.
    bench.spec(policy, 2);
    bench.probes(1, UP, UP);
    bench.wait(2);
    assert!(is_pass(&mut bench));
    bench.list(&[("1", "xx")], Sides::default());
    bench.settle();
    bench
        .wanted
        .retain(|effect| !matches!(effect, Effect::ReadInUse { .. }));
    until_stable(&mut bench);
    assert!(is_pass(&mut bench), "the last pass is twenty minutes old");
}
