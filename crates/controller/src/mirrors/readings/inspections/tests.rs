use std::cell::Cell;
use std::future::pending;

use catamaran_core::mirror::parity::Held;
use catamaran_core::mirror::{FlawedPart, Part, RequestId};
use catamaran_core::routing::evidence::Flaw;
use futures::FutureExt as _;

use super::*;
use crate::mirrors::readings::tests::mirror;

fn held(content: &str) -> Inspect {
    Inspect {
        request: RequestId::default(),
        held: Held {
            repository: "web".to_owned(),
            reference: "1.0".to_owned(),
            digest: Digest::of(content.as_bytes()),
            on: Sides::from_fn(|_| true),
        },
        depth: Depth::Content,
    }
}

fn whole() -> Inspection {
    Sides::from_fn(|_| Finding::Sound)
}

fn broken() -> Inspection {
    Sides {
        primary: Finding::Flawed(FlawedPart {
            flaw: Flaw::Broken,
            part: Part::Config,
            digest: Digest::of(b"config"),
            platform: None,
        }),
        fallback: Finding::Sound,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

/// Whether an outcome of an inspection from second 0 to 20 answers.
fn answers(outcome: Inspection, asked: i64, now: i64) -> bool {
    let (begun, ended) = (at(0), at(20));
    let is_sound = is_sound(&outcome, Sides::from_fn(|_| true));
    let last = Last {
        begun,
        ended,
        outcome,
        is_sound,
    };
    last.answers(at(asked), at(now))
}

#[test]
fn what_is_whole_is_taken_over_by_who_waited_for_it_and_for_a_while() {
    assert!(answers(whole(), 5, 500));
    assert!(answers(whole(), 29, 29));
    assert!(!answers(whole(), 30, 30));
}

#[test]
fn what_is_broken_is_taken_over_only_if_it_was_looked_for_after_that_was_asked() {
    assert!(answers(broken(), 0, 20));
    assert!(!answers(broken(), 1, 20));
    assert!(!answers(broken(), 21, 21));
}

#[test]
fn what_one_side_alone_was_asked_for_is_sound_by_its_word() {
    let one_side = Sides {
        primary: Finding::Sound,
        fallback: Finding::Unknown,
    };
    let on = |primary, fallback| Sides { primary, fallback };
    assert!(is_sound(&one_side, on(true, false)));
    assert!(!is_sound(&one_side, on(true, true)));
    assert!(!is_sound(&broken(), on(true, true)));
}

#[tokio::test]
async fn mirrors_that_ask_at_once_have_one_of_them_look() {
    let (inspections, clock) = (Inspections::default(), Clock::start());
    let (one, other) = (mirror("1", "a.io", "b.io"), mirror("2", "a.io", "b.io"));
    let (looks, held) = (Cell::new(0), held("x"));
    let look = || async {
        looks.set(looks.get() + 1);
        tokio::task::yield_now().await;
        whole()
    };
    let both = tokio::join!(
        inspections.share(&one, &held, clock, look()),
        inspections.share(&other, &held, clock, look()),
    );
    assert_eq!((both, looks.get()), ((whole(), whole()), 1));
}

#[tokio::test]
async fn other_content_is_looked_at_beside_it() {
    let (inspections, clock) = (Inspections::default(), Clock::start());
    let (one, elsewhere) = (mirror("1", "a.io", "b.io"), mirror("2", "a.io", "c.io"));
    let (x, y) = (held("x"), held("y"));
    let mut hanging = Box::pin(inspections.share(&one, &x, clock, pending()));
    assert!(hanging.as_mut().now_or_never().is_none());
    for (policy, held) in [(&one, &y), (&elsewhere, &x)] {
        let found = inspections.share(policy, held, clock, async { whole() });
        assert_eq!(found.now_or_never(), Some(whole()));
    }
    let less = Inspect {
        depth: Depth::Manifest,
        ..x.clone()
    };
    let one_side = Inspect {
        held: Held {
            on: Sides {
                primary: true,
                fallback: false,
            },
            ..x.held.clone()
        },
        ..less.clone()
    };
    for other in [&less, &one_side] {
        let found = inspections.share(&one, other, clock, async { whole() });
        assert_eq!(found.now_or_never(), Some(whole()));
    }
    let waiting = inspections.share(&one, &x, clock, async { whole() });
    assert_eq!(waiting.now_or_never(), None);
    drop(hanging);
    let freed = inspections.share(&one, &x, clock, async { whole() });
    assert_eq!(freed.now_or_never(), Some(whole()));
}

#[tokio::test]
async fn so_many_are_under_way_over_all_mirrors() {
    let (inspections, clock) = (Inspections::default(), Clock::start());
    let policy = mirror("1", "a.io", "b.io");
    let contents: Vec<Inspect> = (0..=AT_A_TIME).map(|number| held(&number.to_string())).collect();
    let (last, others) = contents.split_last().unwrap();
    let share = |held| Box::pin(inspections.share(&policy, held, clock, pending()));
    let mut hanging: Vec<_> = others.iter().map(share).collect();
    for one in &mut hanging {
        assert!(one.as_mut().now_or_never().is_none());
    }
    let other = inspections.clone();
    let found = other.share(&policy, last, clock, async { whole() });
    assert_eq!(found.now_or_never(), None);
    hanging.pop();
    let found = other.share(&policy, last, clock, async { whole() });
    assert_eq!(found.now_or_never(), Some(whole()));
}

#[tokio::test]
async fn outcomes_that_nobody_waits_for_are_forgotten_in_time() {
    let (inspections, clock) = (Inspections::default(), Clock::start());
    let policy = mirror("1", "a.io", "b.io");
    let first = held("first");
    let mut hanging = Box::pin(inspections.share(&policy, &first, clock, pending()));
    assert!(hanging.as_mut().now_or_never().is_none());
    for number in 0..=MOST_KEPT {
        inspections
            .share(&policy, &held(&number.to_string()), clock, async { whole() })
            .await;
    }
    let turns = inspections.turns.lock().unwrap();
    assert!(turns.len() <= MOST_KEPT);
    assert!(turns.contains_key(&content(&policy, &first)));
}
