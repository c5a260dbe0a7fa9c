use super::*;
use crate::digest::Digest;
use crate::mirror::fixtures::at;
use crate::side::Side;

fn errand(tag: &str, to: Side) -> Errand {
    Errand {
        repository: "web".to_owned(),
        tag: tag.to_owned(),
        to,
        digest: Digest::of(tag.as_bytes()),
        is_broken: false,
    }
}

fn plan(tags: &[&str], to: Side) -> Plan {
    Plan {
        errands: tags.iter().map(|tag| errand(tag, to)).collect(),
        ..Plan::default()
    }
}

fn copied(tag: &str) -> CopyEnded {
    CopyEnded {
        errand: errand(tag, Side::Fallback),
        result: Ok(CopyDone {
            written: true,
            bytes: 100,
        }),
    }
}

fn failed(tag: &str, of_registry: bool) -> CopyEnded {
    CopyEnded {
        errand: errand(tag, Side::Fallback),
        result: Err(CopyFailure {
            reason: "Denied",
            message: "403".to_owned(),
            of_registry,
            read_again: false,
        }),
    }
}

/// The tags whose copies begin.
fn begun(effects: &[Effect]) -> Vec<&str> {
    let copies = effects.iter().filter_map(|effect| match effect {
        Effect::Copy(errand) => Some(errand.tag.as_str()),
        _ => None,
    });
    copies.collect()
}

fn announced(effects: &[Effect]) -> Vec<String> {
    let announced = effects.iter().filter_map(|effect| match effect {
        Effect::Announce(Announcement::TagsCopied(note) | Announcement::CopyFailed(note)) => Some(note.clone()),
        _ => None,
    });
    announced.collect()
}

#[test]
fn round_copies_few_at_a_time_and_reports_at_its_end() {
    let mut copies = Copies::default();
    copies.begin(plan(&["a", "b", "c"], Side::Fallback), at(0));
    assert_eq!(begun(&copies.next(2, true, at(0))), ["a", "b"]);
    assert!(copies.next(2, true, at(0)).is_empty());
    assert_eq!(copies.ended(&copied("a"), at(1)), Some(false));
    assert_eq!(begun(&copies.next(2, true, at(1))), ["c"]);
    copies.ended(&failed("b", false), at(2));
    assert!(copies.next(2, true, at(2)).is_empty());
    copies.ended(&copied("c"), at(3));
    let effects = copies.next(2, true, at(3));
    assert_eq!(
        announced(&effects),
        [
            "copied 2 tags (200 bytes sent): web:a to Fallback, web:c to Fallback",
            "failed to copy web:b to Fallback: 403"
        ]
    );
    assert!(!copies.is_busy());
    let progress = copies.progress().unwrap();
    assert_eq!((progress.copied, progress.failed, progress.pending), (2, 1, 1));
}

#[test]
fn copy_that_is_not_under_way_changes_nothing() {
    let mut copies = Copies::default();
    assert_eq!(copies.ended(&copied("a"), at(0)), None, "no round");
    copies.begin(plan(&["a", "b"], Side::Fallback), at(0));
    copies.next(1, true, at(0));
    assert_eq!(copies.ended(&copied("b"), at(1)), None, "not begun");
    assert_eq!(copies.ended(&copied("a"), at(1)), Some(false));
    assert_eq!(copies.ended(&copied("a"), at(1)), None, "it came twice");
    assert_eq!(copies.progress().unwrap().copied, 1);
    assert!(copies.stop());
    assert_eq!(copies.ended(&copied("b"), at(2)), None, "the round is over");
    assert!(!copies.stop());
}

#[test]
fn round_ends_when_a_side_stops_answering() {
    let mut copies = Copies::default();
    copies.begin(plan(&["a", "b", "c"], Side::Fallback), at(0));
    copies.next(1, true, at(0));
    assert!(
        copies.next(1, false, at(1)).is_empty(),
        "what is under way is waited for"
    );
    copies.ended(&copied("a"), at(2));
    let effects = copies.next(1, true, at(2));
    assert!(begun(&effects).is_empty());
    assert!(!copies.is_busy());
}

#[test]
fn direction_is_left_alone_after_failures_of_its_registry() {
    let tags: Vec<String> = (0..20).map(|number| format!("t{number:02}")).collect();
    let names: Vec<&str> = tags.iter().map(String::as_str).collect();
    let mut plan = plan(&names, Side::Fallback);
    plan.errands.push(errand("back", Side::Primary));
    let mut copies = Copies::default();
    copies.begin(plan, at(0));
    let mut tried = Vec::new();
    for _ in 0..30 {
        let effects = copies.next(1, true, at(0));
        let Some(Effect::Copy(errand)) = effects.first().cloned() else {
            break;
        };
        tried.push(errand.tag.clone());
        copies.ended(
            &CopyEnded {
                errand,
                ..failed("", true)
            },
            at(0),
        );
    }
    assert_eq!(tried.len(), MOST_IN_A_ROW + 1);
    assert_eq!(tried.last().unwrap(), "back", "the other direction is tried");
}

#[test]
fn copies_are_reported_every_ten_seconds() {
    let mut copies = Copies::default();
    copies.begin(plan(&["a", "b", "c"], Side::Fallback), at(0));
    copies.next(3, true, at(0));
    assert_eq!(copies.ended(&copied("a"), at(9)), Some(false));
    assert_eq!(copies.ended(&copied("b"), at(10)), Some(true));
    assert_eq!(copies.ended(&copied("c"), at(11)), Some(false));
}

#[test]
fn copy_that_does_not_end_is_given_up() {
    let mut copies = Copies::default();
    copies.begin(plan(&["a", "b"], Side::Fallback), at(0));
    copies.next(1, true, at(0));
    let lost = 13 * 3600;
    assert_eq!(copies.wake_at(), Some(at(lost)));
    assert!(!copies.give_up(at(lost - 1)));
    assert!(copies.give_up(at(lost)));
    assert_eq!(begun(&copies.next(1, true, at(lost))), ["b"]);
}

#[test]
fn dry_run_is_reported_once_for_each_plan() {
    let mut copies = Copies::default();
    let planned = |copies: &mut Copies, tags: &[&str], now| copies.planned(&plan(tags, Side::Fallback), at(now));
    let first = planned(&mut copies, &["a"], 0);
    let note = "would copy 1 tag; set repair.missingTags to Copy to do so: web:a to Fallback".to_owned();
    assert_eq!(first, Some(Effect::Announce(Announcement::CopyPlanned(note))));
    assert_eq!(planned(&mut copies, &["a"], 60), None);
    assert!(planned(&mut copies, &["a", "b"], 120).is_some());
    assert!(copies.idle(&Plan::default(), true));
    assert!(!copies.idle(&Plan::default(), true), "no news");
    assert!(copies.progress().unwrap().would_copy.is_empty());
}

#[test]
fn failed_copies_are_remembered_until_the_mapping_changes() {
    let mut copies = Copies::default();
    copies.begin(plan(&["a"], Side::Fallback), at(0));
    copies.next(1, true, at(0));
    copies.ended(&failed("a", false), at(0));
    copies.next(1, true, at(0));
    assert!(!copies.attempts().may_try(&errand("a", Side::Fallback), at(1)));
    copies.forget();
    assert!(copies.attempts().may_try(&errand("a", Side::Fallback), at(1)));
    assert_eq!(copies.progress(), None);
}
