#![allow(
    clippy::field_reassign_with_default,
    clippy::inconsistent_struct_constructor,
    clippy::needless_pass_by_value,
    clippy::unwrap_in_result,
    reason = "short fixtures"
)]
use super::*;
use crate::mirror::fixtures::{at, content, foreign, ledger_of, listed, used};
use crate::routing::evidence::{Evidence, Knowledge};
use crate::side::Sides;

const CONFLICT: Result<(), WriteProblem> = Err(WriteProblem { conflict: true });
const REFUSED: Result<(), WriteProblem> = Err(WriteProblem { conflict: false });

#[test]
fn status_is_written_once_at_a_time_and_only_if_wanted() {
    let (mut write, mut requests) = (StatusWrite::default(), Requests::default());
    assert_eq!(write.begin(&mut requests, at(0)), None);
    write.want();
    let first = write.begin(&mut requests, at(0)).unwrap();
    write.want();
    assert_eq!(write.begin(&mut requests, at(1)), None, "one is under way");
    assert!(!write.ended(foreign(), Ok(()), at(1)), "nobody asked");
    assert!(write.ended(first, Ok(()), at(1)));
    assert!(!write.ended(first, Ok(()), at(1)), "it comes twice");
    let second = write.begin(&mut requests, at(1)).unwrap();
    write.ended(second, Ok(()), at(2));
    assert_eq!(write.begin(&mut requests, at(2)), None);
    assert_eq!(write.wake_at(), None);
}

#[test]
fn refused_writes_wait_twice_as_long_each_time() {
    let (mut write, mut requests) = (StatusWrite::default(), Requests::default());
    write.want();
    let mut now = 0;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        let request = write.begin(&mut requests, at(now)).unwrap();
        write.ended(request, REFUSED, at(now));
        write.want();
        assert_eq!(write.wake_at(), Some(at(now + pause)));
        assert_eq!(write.begin(&mut requests, at(now + pause - 1)), None);
        now += pause;
    }
    let request = write.begin(&mut requests, at(now)).unwrap();
    write.ended(request, Ok(()), at(now));
    write.want();
    assert!(
        write.begin(&mut requests, at(now)).is_some(),
        "a success ends the waiting"
    );
}

#[test]
fn conflicts_are_tried_again_soon_and_then_as_failures_are() {
    let (mut write, mut requests) = (StatusWrite::default(), Requests::default());
    write.want();
    let mut now = at(0);
    for pause in [100, 100, 4_000, 8_000] {
        let request = write.begin(&mut requests, now).unwrap();
        write.ended(request, CONFLICT, now);
        let again = now.checked_add(Duration::from_millis(pause)).unwrap();
        assert_eq!(write.wake_at(), Some(again), "{pause} ms");
        now = again;
    }
}

#[test]
fn write_that_does_not_end_is_given_up() {
    let (mut write, mut requests) = (StatusWrite::default(), Requests::default());
    write.want();
    let lost = write.begin(&mut requests, at(0)).unwrap();
    assert_eq!(write.wake_at(), Some(at(60)));
    assert!(!write.give_up(at(59)));
    assert!(write.give_up(at(60)));
    assert!(!write.ended(lost, Ok(()), at(60)), "its answer comes too late");
    assert_eq!(write.begin(&mut requests, at(60)), None);
    assert!(
        write.begin(&mut requests, at(61)).is_some(),
        "what it was to say is still to be said"
    );
}

#[test]
fn clock_that_is_set_back_does_not_hold_writes_up() {
    let (mut write, mut requests) = (StatusWrite::default(), Requests::default());
    write.want();
    let request = write.begin(&mut requests, at(10_000)).unwrap();
    write.ended(request, REFUSED, at(10_000));
    assert!(write.begin(&mut requests, at(0)).is_some());
}

/// Which sides are of use, by looks at tags of `web` and by what is in use; none: not read yet.
fn serves(looks: &[(&str, &str)], in_use: Option<&[&str]>) -> (bool, bool) {
    let ledger = ledger_of(&listed(), looks);
    let in_use = in_use.map(used);
    let known = Known {
        ledger: &ledger,
        canary: None,
    };
    let Sides { primary, fallback } = Sides::from_fn(|side| known.serves(side, in_use.as_ref()));
    (primary, fallback)
}

#[test]
fn side_is_of_use_if_it_holds_something_in_use() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a [&'a str]>, (bool, bool));
    let cases: &[Case<'_>] = &[
        ("both have it", &[("a", "xx")], Some(&["a"]), (true, true)),
        ("with other content", &[("a", "xy")], Some(&["a"]), (true, true)),
        ("one has it", &[("a", "x-")], Some(&["a"]), (true, false)),
        ("the other was not read", &[("a", "x?")], Some(&["a"]), (true, false)),
        (
            "one lacks it, the other was not read",
            &[("a", "?-"), ("b", "yy")],
            Some(&["a"]),
            (true, false),
        ),
        (
            "one of several",
            &[("a", "x-"), ("b", "-y")],
            Some(&["a", "b"]),
            (true, true),
        ),
        (
            "what is not in use does not count",
            &[("a", "x-"), ("b", "yy")],
            Some(&["a"]),
            (true, false),
        ),
        ("nothing is in use", &[("b", "y-")], Some(&[]), (true, false)),
        ("what is in use was not read yet", &[("b", "y-")], None, (true, false)),
        (
            "it is in use and on neither side",
            &[("a", "--"), ("b", "y-")],
            Some(&["a"]),
            (true, false),
        ),
        ("nothing was read", &[], Some(&["a"]), (false, false)),
    ];
    for (name, looks, in_use, expected) in cases {
        assert_eq!(serves(looks, *in_use), *expected, "{name}");
    }
}

#[test]
fn earlier_leader_and_canary_say_what_is_of_use() {
    let policy = listed();
    let canary = Canary {
        repository: "web".to_owned(),
        tag: "canary".to_owned(),
        digest: content('x'),
    };
    let prior = |reference: &str, knowledge: Knowledge| -> Evidence {
        let rule = policy.rule("web");
        [(policy.key("web", rule, reference), knowledge)].into_iter().collect()
    };
    let serves = |evidence: Evidence, in_use: &[&str], looks: &[(&str, &str)]| {
        let mut ledger = ledger_of(&policy, &[]);
        ledger.seed(evidence);
        for (tag, letters) in looks {
            let seen = crate::mirror::fixtures::seen(letters);
            ledger.record("web", tag, seen, at(0), &crate::mirror::fixtures::RULES);
        }
        let known = Known {
            ledger: &ledger,
            canary: Some(&canary),
        };
        let Sides { primary, fallback } = Sides::from_fn(|side| known.serves(side, Some(&used(in_use))));
        (primary, fallback)
    };
    let in_sync = || prior("a", Knowledge::IN_SYNC);
    assert_eq!(serves(in_sync(), &["a"], &[]), (true, true));
    assert_eq!(
        serves(in_sync(), &["a"], &[("a", "?-")]),
        (true, false),
        "what was read since counts more"
    );
    assert_eq!(serves(prior("canary", Knowledge::IN_SYNC), &[], &[]), (true, true));
    assert_eq!(serves(in_sync(), &["b"], &[]), (false, false), "of another reference");
}

#[test]
fn side_whose_content_is_untrusted_serves_nothing_of_it() {
    let policy = listed();
    let serves = |flaw: Option<Flaw>| {
        let mut ledger = ledger_of(&policy, &[("a", "xx")]);
        let digest = ledger.digest("web", "a").unwrap();
        ledger.set_flaws(
            "web",
            &digest,
            Sides {
                primary: None,
                fallback: flaw,
            },
        );
        let known = Known {
            ledger: &ledger,
            canary: None,
        };
        let Sides { primary, fallback } = Sides::from_fn(|side| known.serves(side, Some(&used(&["a"]))));
        (primary, fallback)
    };
    assert_eq!(serves(None), (true, true));
    assert_eq!(serves(Some(Flaw::Untrusted)), (true, false));
}

#[test]
fn active_registry_stays_the_same_when_sides_change_places() {
    let policy = listed();
    let (primary, fallback) = (policy.sides.primary.name(), policy.sides.fallback.name());
    let cases = [
        (Side::Primary, None, Side::Primary),
        (Side::Primary, Some(primary.as_str()), Side::Primary),
        (Side::Primary, Some(fallback.as_str()), Side::Fallback),
        (Side::Fallback, Some(primary.as_str()), Side::Primary),
        (Side::Fallback, Some(fallback.as_str()), Side::Fallback),
        (Side::Fallback, Some("gone.example"), Side::Fallback),
    ];
    for (active, registry, expected) in cases {
        assert_eq!(
            active_side(&policy, active, registry),
            expected,
            "{active} {registry:?}"
        );
    }
}

#[test]
fn status_of_the_past_is_recognized() {
    let standing = |epoch, active| Standing {
        active,
        epoch,
        ..Standing::default()
    };
    let known = standing(5, Side::Fallback);
    assert!(regressed(&known, None));
    assert!(regressed(&known, Some(&standing(4, Side::Fallback))));
    assert!(regressed(&known, Some(&standing(5, Side::Primary))));
    let of = |registry: &str| Standing {
        registry: Some(registry.to_owned()),
        ..known.clone()
    };
    assert!(regressed(&of("a.example"), Some(&of("b.example"))));
    assert!(
        !regressed(&known, Some(&of("b.example"))),
        "an older version named no registry"
    );
    assert!(!regressed(&known, Some(&known)));
    assert!(!regressed(&known, Some(&standing(6, Side::Primary))));
    let restored = restored(&known);
    assert_eq!((restored.epoch, restored.active), (6, Side::Fallback));
}

#[test]
fn flip_that_is_stored_apart_stands_until_a_status_says_it() {
    let standing = |active: Side, epoch: u64| Standing {
        active,
        epoch,
        ..Standing::default()
    };
    let flip = standing(Side::Fallback, 2);
    assert_eq!(latest(None, Some(&flip)), Some(flip.clone()));
    assert_eq!(
        latest(Some(standing(Side::Primary, 1)), Some(&flip)),
        Some(flip.clone())
    );
    // Another flip has followed, or the status was lifted above what was restored.
    for written in [standing(Side::Primary, 3), standing(Side::Primary, 2)] {
        assert_eq!(latest(Some(written.clone()), Some(&flip)), Some(written.clone()));
        assert_eq!(latest(Some(written.clone()), None), Some(written));
    }
}
