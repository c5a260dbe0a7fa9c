use super::*;
use crate::mirror::fixtures::{at, ledger_of, listed};

fn name(reference: &str) -> ReferenceName {
    ReferenceName {
        repository: "web".to_owned(),
        reference: reference.to_owned(),
    }
}

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

/// The references whose reads begin, in order, and their requests.
fn begin(verification: &mut Verification, requests: &mut Requests, now: i64) -> Vec<(String, RequestId)> {
    let effects = verification.begin(requests, at(now));
    let begun = effects.into_iter().map(|effect| match effect {
        Effect::Resolve(Resolve {
            request,
            pass: None,
            name,
            ..
        }) => (name.reference, request),
        other => panic!("{other:?}"),
    });
    begun.collect()
}

fn want(verification: &mut Verification, references: &[&str], cause: Cause, now: i64) {
    let policy = listed();
    let ledger = ledger_of(&policy, &[("read", "aa"), ("half", "a?")]);
    let names = references.iter().map(|reference| name(reference));
    verification.want(names, cause, &policy, &ledger, at(now));
}

#[test]
fn references_are_read_if_selected_and_not_just_read() {
    let referrer = format!("sha256-{}", "a".repeat(64));
    let cases = [
        ("new", Cause::Used, 0, true),
        (&digest(), Cause::Used, 0, true),
        (&referrer, Cause::Used, 0, false),
        ("half", Cause::Used, 0, true),
        ("read", Cause::Used, 5, false),
        ("read", Cause::Used, 6, true),
        ("read", Cause::Urgent, 1, false),
        ("read", Cause::Urgent, 2, true),
        ("read", Cause::Changed, 0, true),
    ];
    for (reference, cause, now, reads) in cases {
        let mut verification = Verification::default();
        want(&mut verification, &[reference], cause, now);
        assert_eq!(
            verification.is_pending(&name(reference)),
            reads,
            "{reference} {cause:?} after {now} s"
        );
    }
    let mut verification = Verification::default();
    let elsewhere = ReferenceName {
        repository: "other".to_owned(),
        reference: "1".to_owned(),
    };
    let policy = listed();
    let ledger = ledger_of(&policy, &[]);
    verification.want([elsewhere.clone()], Cause::Used, &policy, &ledger, at(0));
    assert!(!verification.is_pending(&elsewhere));
}

#[test]
fn urgent_references_are_read_first_and_each_once() {
    let (mut verification, mut requests) = (Verification::default(), Requests::default());
    want(&mut verification, &["a", "b", "a"], Cause::Used, 0);
    want(&mut verification, &["c", "b"], Cause::Urgent, 0);
    let begun = begin(&mut verification, &mut requests, 0);
    let names: Vec<&str> = begun.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["c", "a", "b"]);
    want(&mut verification, &["a"], Cause::Urgent, 0);
    assert!(begin(&mut verification, &mut requests, 0).is_empty(), "it is under way");
    want(&mut verification, &["a"], Cause::Changed, 0);
    assert_eq!(
        begin(&mut verification, &mut requests, 0).len(),
        1,
        "what is under way may have been read before it changed"
    );
}

#[test]
fn few_references_are_read_at_a_time_and_a_bounded_number_waits() {
    let (mut verification, mut requests) = (Verification::default(), Requests::default());
    let names: Vec<String> = (0..2000).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    want(&mut verification, &names, Cause::Used, 0);
    let begun = begin(&mut verification, &mut requests, 0);
    assert_eq!(begun.len(), AT_A_TIME);
    assert!(begin(&mut verification, &mut requests, 0).is_empty());
    assert!(verification.ended(begun[0].1, at(0)));
    assert!(!verification.ended(begun[0].1, at(0)), "it came twice");
    assert_eq!(begin(&mut verification, &mut requests, 0).len(), 1);
    let waiting = names
        .iter()
        .filter(|reference| verification.is_pending(&name(reference)));
    assert_eq!(waiting.count(), LONGEST_QUEUE - 1);
}

#[test]
fn read_that_does_not_end_is_given_up() {
    let (mut verification, mut requests) = (Verification::default(), Requests::default());
    want(&mut verification, &["a"], Cause::Used, 0);
    let begun = begin(&mut verification, &mut requests, 0);
    assert_eq!(verification.wake_at(), Some(at(300)));
    assert_eq!(verification.give_up(at(299)), []);
    assert_eq!(verification.give_up(at(300)), [name("a")]);
    assert_eq!(verification.wake_at(), None);
    assert!(!verification.ended(begun[0].1, at(0)), "its answer comes too late");
    want(&mut verification, &["a"], Cause::Used, 300);
    assert_eq!(begin(&mut verification, &mut requests, 300).len(), 1);
}

#[test]
fn forgotten_reads_are_neither_begun_nor_taken_in() {
    let (mut verification, mut requests) = (Verification::default(), Requests::default());
    want(&mut verification, &["a", "b"], Cause::Used, 0);
    let begun = begin(&mut verification, &mut requests, 0);
    want(&mut verification, &["c"], Cause::Used, 0);
    verification.forget();
    assert!(!verification.ended(begun[0].1, at(0)));
    assert!(begin(&mut verification, &mut requests, 0).is_empty());
}

#[test]
fn what_was_read_lately_is_remembered_for_a_minute() {
    let (mut verification, mut requests) = (Verification::default(), Requests::default());
    want(&mut verification, &["a"], Cause::Used, 0);
    let begun = begin(&mut verification, &mut requests, 0);
    assert_eq!(verification.lately(at(0)).count(), 0, "it is not read yet");
    verification.ended(begun[0].1, at(1));
    let lately = |now| verification.lately(at(now)).cloned().collect::<Vec<_>>();
    assert_eq!(lately(60), [name("a")]);
    assert_eq!(lately(61), []);
}
