//! What routing may go by.

use std::collections::BTreeMap;

use super::*;

fn known(looks: &Looks, rules: &Rules) -> String {
    words(after(looks, rules).known("web", "1"))
}

#[test]
fn knowledge_of_tag_is_what_each_side_said_last() {
    let cases: &[(&Looks, &str)] = &[
        (&[], "??"),
        (&[(0, "??")], "??"),
        (&[(0, "aa")], "PP="),
        (&[(0, "ab")], "PP"),
        (&[(0, "a?")], "P?"),
        (&[(0, "?-")], "?A"),
        (&[(0, "a?"), (10, "?a")], "PP="),
        (&[(0, "a?"), (10, "?b")], "PP"),
        (&[(0, "aa"), (10, "b?")], "PP"),
        (&[(0, "aa"), (10, "b?"), (20, "a?")], "PP="),
        (&[(0, "aa"), (10, "?-")], "PA"),
        (&[(0, "aa"), (10, "-?"), (20, "?-")], "AA"),
        (&[(0, "ab"), (10, "-?")], "AP"),
        (&[(0, "aa"), (10, "--")], "??"),
    ];
    for (looks, expected) in cases {
        assert_eq!(known(looks, &RULES), *expected, "{looks:?}");
    }
}

#[test]
fn absence_seen_once_is_known_before_it_is_confirmed() {
    let ledger = after(&[(0, "aa"), (10, "a-")], &RULES);
    assert_eq!(words(ledger.known("web", "1")), "PA");
    assert_eq!(ledger.verdict("web", "1"), Some(Verdict::Pending));
    assert_eq!(ledger.summary().missing_on_fallback, 0);
    let key = ledger.key("web", "1").unwrap();
    assert_eq!(words(ledger.evidence().tag(key).unwrap()), "PA");
    let never_seen_before = after(&[(0, "?-")], &RULES);
    assert_eq!(words(never_seen_before.known("web", "1")), "?A");
    assert_eq!(never_seen_before.summary().tags, 0);
}

#[test]
fn absence_from_cache_is_no_knowledge_of_tag() {
    let rules = Rules {
        subset: Some(Side::Fallback),
        ..RULES
    };
    let cases: &[(&Looks, &str)] = &[
        (&[(0, "a-")], "P?"),
        (&[(0, "aa"), (10, "a-")], "P?"),
        (&[(0, "a-"), (10, "?a")], "PP="),
        (&[(0, "-a")], "AP"),
    ];
    for (looks, expected) in cases {
        assert_eq!(known(looks, &rules), *expected, "{looks:?}");
    }
    let mut ledger = Ledger::new();
    let seen = Sides {
        primary: observed(b'a'),
        fallback: Observed::Absent,
    };
    ledger.record("web", &digest("a"), seen, at(0), &rules);
    assert_eq!(
        words(ledger.known("web", &digest("a"))),
        "PA",
        "no pull by digest fills it"
    );
    assert!(ledger.is_not_cached("web", &digest("a")));
}

#[test]
fn cache_that_got_a_tag_is_not_lacking_it_any_more() {
    let rules = Rules {
        subset: Some(Side::Fallback),
        ..RULES
    };
    let mut ledger = after(&[(0, "a-")], &rules);
    assert!(ledger.is_not_cached("web", "1"));
    look(&mut ledger, "1", "?a", 10, &rules);
    assert!(!ledger.is_not_cached("web", "1"));
    assert_eq!(ledger.verdict("web", "1"), Some(Verdict::Pending));
}

#[test]
fn digest_is_present_where_a_tag_stands_for_it() {
    let mut ledger = after(&[(0, "ab")], &RULES);
    look(&mut ledger, "2", "cc", 0, &RULES);
    for (letter, expected) in [("a", "P?"), ("b", "?P"), ("c", "PP="), ("d", "??")] {
        assert_eq!(words(ledger.known("web", &digest(letter))), expected, "{letter}");
        assert_eq!(
            words(ledger.known("other", &digest(letter))),
            "??",
            "{letter} elsewhere"
        );
    }
    look(&mut ledger, "3", "b?", 10, &RULES);
    assert_eq!(words(ledger.known("web", &digest("b"))), "PP=");
    ledger.forget("web", "3");
    look(&mut ledger, "1", "aa", 20, &RULES);
    assert_eq!(words(ledger.known("web", &digest("b"))), "??");
    assert_eq!(words(ledger.known("web", &digest("a"))), "PP=");
}

#[test]
fn digest_asked_for_itself_is_an_entry() {
    let mut ledger = Ledger::new();
    let a = digest("a");
    record(&mut ledger, "web", &a, "a-", 0);
    assert_eq!(words(ledger.known("web", &a)), "PA");
    assert_eq!(ledger.verdict("web", &a), Some(Verdict::Pending));
    record(&mut ledger, "web", &a, "a-", 300);
    assert_eq!(ledger.verdict("web", &a), Some(Verdict::MissingOnFallback));
    assert_eq!(ledger.divergences(1)[0].tag, a);
    let summary = ledger.summary();
    assert_eq!((summary.tags, summary.digests, summary.missing_on_fallback), (1, 1, 1));
    let key = ledger.key("web", &a).unwrap();
    assert_eq!(words(ledger.evidence().digest(key).unwrap()), "PA");
    assert_eq!(ledger.range("web", Bound::Unbounded, Bound::Unbounded).count(), 0);
    ledger.retain("web", |_| false);
    assert_eq!(words(ledger.known("web", &a)), "PA", "no listing names digests");
    record(&mut ledger, "web", "1", "bb", 400);
    ledger.retain_digests(|repository, digest| (repository, digest) == ("web", &*a));
    assert_eq!(words(ledger.known("web", &a)), "PA");
    ledger.retain_digests(|_, _| false);
    assert_eq!(words(ledger.known("web", &a)), "??");
    assert_eq!(words(ledger.known("web", "1")), "PP=", "it is a tag");
}

#[test]
fn digest_absent_on_both_sides_stays_known_and_uncounted() {
    let mut ledger = Ledger::new();
    let a = digest("a");
    for seconds in [0, 300] {
        record(&mut ledger, "web", &a, "--", seconds);
    }
    assert_eq!(words(ledger.known("web", &a)), "AA");
    assert_eq!(ledger.verdict("web", &a), Some(Verdict::Pending));
    assert_eq!(ledger.next_confirmation(at(300)), None);
    assert_eq!(ledger.pending().count(), 0);
    let expected = Summary {
        revision: ledger.summary().revision,
        ..Summary::default()
    };
    assert_eq!(ledger.summary(), expected);
}

#[test]
fn absences_beyond_the_limit_are_not_recorded() {
    let mut ledger = Ledger::new();
    for number in 0..=MOST_NOWHERE {
        record(&mut ledger, "web", &digest(&number.to_string()), "--", 0);
    }
    assert_eq!(words(ledger.known("web", &digest("0"))), "AA");
    let last = digest(&MOST_NOWHERE.to_string());
    assert_eq!(words(ledger.known("web", &last)), "??");
    record(&mut ledger, "web", &last, "z-", 0);
    assert_eq!(
        words(ledger.known("web", &last)),
        "PA",
        "what is somewhere is no matter of the limit"
    );
}

#[test]
fn tag_with_digest_asked_for_is_a_look_at_it() {
    let mut ledger = Ledger::new();
    let a = digest("a");
    record(&mut ledger, "web", &a, "a-", 0);
    record(&mut ledger, "web", "1", "aa", 10);
    assert_eq!(words(ledger.known("web", &a)), "PP=");
    assert_eq!(ledger.verdict("web", &a), Some(Verdict::InSync));
    record(&mut ledger, "web", &a, "?-", 20);
    assert_eq!(
        words(ledger.known("web", &a)),
        "PA",
        "the digest itself was looked at since"
    );
    record(&mut ledger, "web", "1", "?a", 30);
    assert_eq!(words(ledger.known("web", &a)), "PP=");
    record(&mut ledger, "web", "1", "?b", 40);
    assert_eq!(
        words(ledger.known("web", &a)),
        "PP=",
        "a tag that moves on takes nothing with it"
    );
}

#[test]
fn observation_is_what_a_side_said_last_and_when() {
    let mut ledger = after(&[(0, "aa"), (10, "b?"), (20, "?-")], &RULES);
    let content = |letter: &[u8]| Observed::Present(Digest::of(letter));
    assert_eq!(
        ledger.observation("web", "1", Side::Primary),
        Some((content(b"b"), at(10)))
    );
    assert_eq!(
        ledger.observation("web", "1", Side::Fallback),
        Some((Observed::Absent, at(20)))
    );
    assert_eq!(ledger.observation("web", "2", Side::Primary), None);
    look(&mut ledger, "2", "b?", 30, &RULES);
    let by_tag = ledger.observation("web", &digest("b"), Side::Primary);
    assert_eq!(by_tag, Some((content(b"b"), at(30))), "the newest of two tags");
    assert_eq!(ledger.observation("web", &digest("b"), Side::Fallback), None);
    record(&mut ledger, "web", &digest("b"), "-?", 40);
    let by_itself = ledger.observation("web", &digest("b"), Side::Primary);
    assert_eq!(by_itself, Some((Observed::Absent, at(40))));
}

#[test]
fn present_counts_what_a_side_has() {
    let mut ledger = after(&[(0, "aa")], &RULES);
    look(&mut ledger, "2", "a-", 0, &RULES);
    look(&mut ledger, "3", "?b", 0, &RULES);
    record(&mut ledger, "web", &digest("c"), "c?", 0);
    assert_eq!((ledger.present(Side::Primary), ledger.present(Side::Fallback)), (3, 2));
    look(&mut ledger, "1", "--", 10, &RULES);
    assert_eq!((ledger.present(Side::Primary), ledger.present(Side::Fallback)), (2, 1));
}

#[test]
fn unconfirmed_difference_with_unreadable_side_waits() {
    let mut ledger = after(&[(0, "ab")], &RULES);
    assert_eq!(ledger.next_confirmation(at(10)), Some(at(120)));
    look(&mut ledger, "1", "?b", 130, &RULES);
    assert_eq!(ledger.next_confirmation(at(130)), None);
    look(&mut ledger, "1", "?b", 140, &RULES);
    assert_eq!(ledger.next_confirmation(at(140)), None);
    look(&mut ledger, "1", "ab", 150, &RULES);
    assert_eq!(ledger.verdict("web", "1"), Some(Verdict::Mismatched));
}

#[test]
fn divergence_began_at_a_whole_second() {
    let mut ledger = Ledger::new();
    let seen = || Sides {
        primary: observed(b'a'),
        fallback: observed(b'b'),
    };
    let odd = at(0) + Duration::from_nanos(123_456_789);
    ledger.record("web", "1", seen(), odd, &RULES);
    ledger.record("web", "1", seen(), odd + Duration::from_mins(3), &RULES);
    assert_eq!(ledger.divergences(1)[0].since, at(0));
    let (_, when) = ledger.observation("web", "1", Side::Primary).unwrap();
    assert_eq!(when, at(180));
}

proptest! {
    #[test]
    fn side_that_is_never_read_stays_unknown_or_as_it_was(
        before in prop::collection::vec(any_look(), 0..6),
        looks in prop::collection::vec(prop::sample::select(vec!["?", "-", "a", "b"]), 1..20),
        unread in prop::sample::select(Side::ALL.to_vec()),
        of_digest in any::<bool>(),
    ) {
        let mut ledger = Ledger::new();
        let reference = if of_digest { digest("a") } else { "1".to_owned() };
        let mut now = 0;
        for letters in before {
            now += 100;
            record(&mut ledger, "web", &reference, &letters, now);
        }
        let presence = ledger.known("web", &reference).presence[unread];
        let observation = ledger.observation("web", &reference, unread);
        for letter in looks {
            now += 100;
            let letters = if unread == Side::Primary { format!("?{letter}") } else { format!("{letter}?") };
            record(&mut ledger, "web", &reference, &letters, now);
            prop_assert_eq!(ledger.known("web", &reference).presence[unread], presence);
            prop_assert_eq!(&ledger.observation("web", &reference, unread), &observation);
            let both = Sides::from_fn(|side| ledger.observation("web", &reference, side));
            prop_assert_eq!(ledger.observations("web", &reference), both);
        }
    }

    #[test]
    fn knowledge_is_what_was_said_last_by_a_plain_model(
        looks in prop::collection::vec((any_reference(), any_look()), 0..40),
    ) {
        let mut ledger = Ledger::new();
        let mut model = Model::default();
        for (second, (reference, letters)) in (0..).zip(looks) {
            let letters = letters.as_bytes();
            let seen = Sides {
                primary: observed_of(&reference, letters[0]),
                fallback: observed_of(&reference, letters[1]),
            };
            model.look(&reference, &seen);
            ledger.record("web", &reference, seen, at(second), &RULES);
            for reference in ["1", "2", "3", &digest("a"), &digest("b")] {
                prop_assert_eq!(words(ledger.known("web", reference)), model.known(reference), "{}", reference);
            }
        }
    }
}

fn any_reference() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "1".to_owned(),
        "2".to_owned(),
        "3".to_owned(),
        digest("a"),
        digest("b"),
    ])
}

/// A digest is found as itself.
fn observed_of(reference: &str, letter: u8) -> Observed {
    match observed(letter) {
        Observed::Present(_) if is_digest(reference) => Observed::Present(reference.parse().unwrap()),
        seen => seen,
    }
}

/// What each side said last of each reference, in text.
#[derive(Default)]
struct Model(BTreeMap<String, Sides<Option<String>>>);

impl Model {
    fn look(&mut self, reference: &str, seen: &Sides<Observed>) {
        let tag = !is_digest(reference);
        if tag && Side::ALL.iter().all(|side| seen[*side] == Observed::Absent) {
            self.0.remove(reference);
            return;
        }
        for side in Side::ALL {
            let said = match &seen[side] {
                Observed::Unknown => continue,
                Observed::Absent => "absent".to_owned(),
                Observed::Present(digest) => digest.to_string(),
            };
            if let Some(digest) = self.0.get_mut(&said).filter(|_| tag) {
                digest[side] = Some(said.clone());
            }
            self.0.entry(reference.to_owned()).or_default()[side] = Some(said);
        }
    }

    fn known(&self, reference: &str) -> String {
        let own = self.0.get(reference).cloned().unwrap_or_default();
        let by_tag = |side: Side| {
            let mut tags = self.0.iter().filter(|(tag, _)| !is_digest(tag));
            is_digest(reference) && tags.any(|(_, said)| said[side].as_deref() == Some(reference))
        };
        let letter = |side: Side| match own[side].as_deref() {
            Some("absent") => 'A',
            None if !by_tag(side) => '?',
            _ => 'P',
        };
        let letters = Side::ALL.map(letter);
        let same = letters == ['P', 'P'] && (is_digest(reference) || own.primary == own.fallback);
        letters.into_iter().chain(same.then_some('=')).collect()
    }
}
