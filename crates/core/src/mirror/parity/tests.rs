use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::endpoint::later;
use crate::policy::{MirrorId, SidePolicy};

mod groups;
mod knowledge;
mod mapping;
mod missing;
mod model;
mod prior;

const RULES: Rules = Rules {
    grace: Duration::from_mins(2),
    settled: Duration::from_hours(24),
    subset: None,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

/// `-` absent, `?` unknown, anything else a digest of its own.
fn observed(letter: u8) -> Observed {
    match letter {
        b'-' => Observed::Absent,
        b'?' => Observed::Unknown,
        other => Observed::Present(Digest::of(&[other])),
    }
}

/// A look in two letters, primary first.
fn look(ledger: &mut Ledger, tag: &str, letters: &str, seconds: i64, rules: &Rules) {
    let letters = letters.as_bytes();
    let seen = Sides {
        primary: observed(letters[0]),
        fallback: observed(letters[1]),
    };
    ledger.record("web", tag, seen, at(seconds), rules);
}

/// The same in any repository, by the default rules.
fn record(ledger: &mut Ledger, repository: &str, reference: &str, letters: &str, seconds: i64) {
    let letters = letters.as_bytes();
    let seen = Sides {
        primary: observed(letters[0]),
        fallback: observed(letters[1]),
    };
    ledger.record(repository, reference, seen, at(seconds), &RULES);
}

/// The digest that a letter stands for.
fn digest(letter: &str) -> String {
    Digest::of(letter.as_bytes()).to_string()
}

/// `a.example/team/NAME` and `b.example/NAME`.
fn policy() -> MirrorPolicy {
    let side = |registry: &str, prefix: &str| SidePolicy {
        registry: registry.to_owned(),
        prefix: prefix.to_owned(),
        ..SidePolicy::default()
    };
    let id = MirrorId {
        name: "apps".into(),
        uid: "uid".into(),
    };
    let sides = Sides {
        primary: side("a.example", "team"),
        fallback: side("b.example", ""),
    };
    MirrorPolicy::new(id, Timestamp::UNIX_EPOCH, sides)
}

fn ledger_of(policy: &MirrorPolicy) -> Ledger {
    let mut ledger = Ledger::new();
    ledger.set_policy(&Arc::new(policy.clone()));
    ledger
}

/// Knowledge in two letters, primary first: `P` present, `A` absent, `?` unknown; `=` behind them for one digest.
fn words(knowledge: crate::routing::evidence::Knowledge) -> String {
    use crate::routing::evidence::Presence;
    let letter = |side: Side| match knowledge.presence[side] {
        Presence::Unknown => '?',
        Presence::Present => 'P',
        Presence::Absent => 'A',
    };
    let same = if knowledge.same { "=" } else { "" };
    format!("{}{}{same}", letter(Side::Primary), letter(Side::Fallback))
}

/// Seconds, and what was seen then.
type Looks = [(i64, &'static str)];

fn after(looks: &Looks, rules: &Rules) -> Ledger {
    let mut ledger = Ledger::new();
    for (seconds, letters) in looks {
        look(&mut ledger, "1", letters, *seconds, rules);
    }
    ledger
}

fn check_verdicts(cases: &[(&str, &Looks, Option<Verdict>)]) {
    for (name, looks, verdict) in cases {
        assert_eq!(after(looks, &RULES).verdict("web", "1"), *verdict, "{name}");
    }
}

#[test]
fn verdict_of_tag_that_stays_follows_looks() {
    use Verdict::{InSync, Mismatched, MissingOnFallback, MissingOnPrimary, Pending};
    check_verdicts(&[
        ("never seen", &[], None),
        ("seen nowhere", &[(0, "--")], None),
        ("equal", &[(0, "aa")], Some(InSync)),
        ("different, seen once", &[(0, "ab")], Some(Pending)),
        ("seen twice too soon", &[(0, "ab"), (119, "ab")], Some(Pending)),
        (
            "seen twice for the grace period",
            &[(0, "ab"), (120, "ab")],
            Some(Mismatched),
        ),
        ("missing there", &[(0, "a-"), (300, "a-")], Some(MissingOnFallback)),
        ("missing here", &[(0, "-a"), (300, "-a")], Some(MissingOnPrimary)),
    ]);
}

#[test]
fn verdict_of_tag_that_moves_follows_looks() {
    use Verdict::{InSync, Mismatched, MissingOnFallback, Pending};
    check_verdicts(&[
        (
            "a dual push caught in between",
            &[(0, "aa"), (300, "ba"), (301, "bb")],
            Some(InSync),
        ),
        (
            "each pass catches another dual push",
            &[(0, "ba"), (300, "cb"), (600, "dc")],
            Some(Pending),
        ),
        (
            "one side is never pushed to",
            &[(0, "ba"), (300, "ca")],
            Some(Mismatched),
        ),
        (
            "a tag that the fallback never gets",
            &[(0, "a-"), (300, "b-")],
            Some(MissingOnFallback),
        ),
        (
            "missing, then wrong",
            &[(0, "a-"), (300, "a-"), (600, "ab")],
            Some(Mismatched),
        ),
        ("healed", &[(0, "ab"), (300, "ab"), (600, "bb")], Some(InSync)),
        (
            "moved and restored between passes",
            &[(0, "aa"), (300, "aa")],
            Some(InSync),
        ),
        ("both moved", &[(0, "aa"), (300, "bb")], Some(InSync)),
        ("deleted on both sides", &[(0, "ab"), (300, "--")], None),
    ]);
}

#[test]
fn verdict_with_unread_side_stays_or_is_pending() {
    use Verdict::{InSync, Mismatched, Pending};
    check_verdicts(&[
        ("nothing learnt", &[(0, "??")], None),
        ("one side was not read", &[(0, "a?")], Some(Pending)),
        ("nor ever", &[(0, "a?"), (300, "a?"), (600, "a?")], Some(Pending)),
        (
            "it keeps what is known",
            &[(0, "aa"), (300, "??"), (600, "a?"), (900, "?a")],
            Some(InSync),
        ),
        (
            "does not confirm",
            &[(0, "ab"), (300, "a?"), (600, "??"), (900, "?b")],
            Some(Pending),
        ),
        (
            "does not clear",
            &[(0, "ab"), (300, "ab"), (600, "b?"), (900, "??")],
            Some(Mismatched),
        ),
        ("half a move withdraws", &[(0, "aa"), (300, "b?")], Some(Pending)),
        ("half a deletion withdraws", &[(0, "aa"), (300, "?-")], Some(Pending)),
        (
            "the other half settles it",
            &[(0, "aa"), (300, "b?"), (600, "bb")],
            Some(InSync),
        ),
    ]);
}

#[test]
fn cache_without_tag_is_no_divergence() {
    use Verdict::{InSync, Mismatched, MissingOnPrimary, Pending};
    let cases: &[(&str, &Looks, Verdict, usize)] = &[
        ("not cached", &[(0, "a-"), (300, "a-")], Pending, 1),
        ("cached", &[(0, "a-"), (300, "aa")], InSync, 0),
        ("cached and wrong", &[(0, "ab"), (300, "ab")], Mismatched, 0),
        ("gone upstream", &[(0, "-a"), (300, "-a")], MissingOnPrimary, 0),
        ("evicted", &[(0, "aa"), (300, "a-")], Pending, 1),
    ];
    for (name, looks, verdict, not_cached) in cases {
        let ledger = after(
            looks,
            &Rules {
                subset: Some(Side::Fallback),
                ..RULES
            },
        );
        assert_eq!(ledger.verdict("web", "1"), Some(*verdict), "{name}");
        assert_eq!(ledger.summary().not_cached, *not_cached, "{name}");
        assert_eq!(ledger.pending().count(), 0, "{name}");
    }
    let mirrored = after(
        &[(0, "-a")],
        &Rules {
            subset: Some(Side::Primary),
            ..RULES
        },
    );
    assert_eq!(mirrored.summary().not_cached, 1);
}

#[test]
fn summary_counts_each_tag_once() {
    let mut ledger = Ledger::new();
    let looks = [
        ("in-sync", 10, "aa"),
        ("mismatched", 20, "ab"),
        ("mismatched", 140, "ab"),
        ("missing", 20, "a-"),
        ("missing", 140, "a-"),
        ("pending", 140, "ab"),
        ("unread", 1, "a?"),
    ];
    for (tag, seconds, letters) in looks {
        look(&mut ledger, tag, letters, seconds, &RULES);
    }
    let summary = ledger.summary();
    let revision = ledger.summary().revision;
    assert_eq!(revision.len(), 16);
    let expected = Summary {
        repositories: 1,
        tags: 5,
        in_sync: 1,
        missing_on_fallback: 1,
        mismatched: 1,
        pending: 2,
        oldest_check: Some(at(10)),
        revision: revision.clone(),
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    // A side that was not read ages, the other does not make it younger.
    look(&mut ledger, "in-sync", "a?", 500, &RULES);
    assert_eq!(ledger.summary().oldest_check, Some(at(10)));
    look(&mut ledger, "in-sync", "?a", 600, &RULES);
    assert_eq!(ledger.summary().oldest_check, Some(at(140)));
    assert_eq!(ledger.summary().revision, revision, "ages are not evidence");
    look(&mut ledger, "in-sync", "bb", 700, &RULES);
    assert_ne!(ledger.summary().revision, revision);
    look(&mut ledger, "in-sync", "aa", 800, &RULES);
    assert_eq!(ledger.summary().revision, revision, "the same evidence again");
}

#[test]
fn divergences_are_newest_first_and_limited() {
    let mut ledger = Ledger::new();
    for (tag, since) in [("old", 0), ("new", 50), ("also-new", 50)] {
        look(&mut ledger, tag, "a-", since, &RULES);
        look(&mut ledger, tag, "a-", since + 300, &RULES);
    }
    look(&mut ledger, "unconfirmed", "a-", 360, &RULES);
    let names = |limit| {
        ledger
            .divergences(limit)
            .into_iter()
            .map(|found| found.tag)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(20), ["also-new", "new", "old"]);
    assert_eq!(names(2), ["also-new", "new"]);
    let expected = Divergence {
        repository: "web".to_owned(),
        tag: "old".to_owned(),
        verdict: Verdict::MissingOnFallback,
        digests: Sides {
            primary: Some(Digest::of(b"a")),
            fallback: None,
        },
        since: at(0),
    };
    assert_eq!(ledger.divergences(20)[2], expected);
}

#[test]
fn confirmation_is_at_earliest_end_of_grace() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.next_confirmation(at(0)), None);
    look(&mut ledger, "b", "ab", 60, &RULES);
    look(&mut ledger, "a", "a-", 30, &RULES);
    look(&mut ledger, "c", "a?", 0, &RULES);
    assert_eq!(ledger.next_confirmation(at(70)), Some(at(150)));
    assert_eq!(ledger.next_confirmation(at(400)), Some(at(400)));
    assert_eq!(
        ledger.pending().collect::<Vec<_>>(),
        [("web", "a"), ("web", "b"), ("web", "c")]
    );
    look(&mut ledger, "a", "a-", 150, &RULES);
    assert_eq!(
        ledger.next_confirmation(at(150)),
        Some(at(180)),
        "a look at that instant confirms"
    );
}

#[test]
fn tags_and_repositories_that_are_gone_are_forgotten() {
    let mut ledger = Ledger::new();
    for tag in ["1", "2", "3"] {
        look(&mut ledger, tag, "aa", 0, &RULES);
    }
    assert!(!ledger.take_dirty_groups().is_empty());
    ledger.retain("web", |_| true);
    ledger.retain("other", |_| false);
    assert!(ledger.take_dirty_groups().is_empty());
    ledger.retain("web", |tag| tag != "2");
    assert!(!ledger.take_dirty_groups().is_empty());
    assert_eq!(ledger.verdict("web", "2"), None);
    assert_eq!(ledger.summary().tags, 2);
    ledger.retain_repositories(|repository| repository == "web");
    assert!(ledger.take_dirty_groups().is_empty());
    ledger.retain_repositories(|repository| repository != "web");
    assert!(!ledger.take_dirty_groups().is_empty());
    assert_eq!(ledger.summary().repositories, 0);
    look(&mut ledger, "1", "aa", 0, &RULES);
    ledger.retain("web", |_| false);
    assert_eq!(ledger.summary().repositories, 0, "a repository without tags is none");
}

#[test]
fn group_is_dirty_only_when_evidence_changes() {
    let cases: &[(&str, &Looks, &str, bool)] = &[
        ("equal again", &[(0, "aa")], "aa", false),
        ("equal with another digest", &[(0, "aa")], "bb", true),
        ("different", &[(0, "aa")], "ab", true),
        ("still pending", &[(200, "ab")], "ab", false),
        ("confirmed, which routing does not wait for", &[(0, "ab")], "ab", false),
        ("silence", &[(0, "aa")], "a?", false),
        ("one side moved", &[(0, "aa")], "b?", true),
        ("gone", &[(0, "aa")], "--", true),
        ("was never there", &[], "--", false),
        ("new", &[], "a?", true),
    ];
    for (name, looks, letters, changed) in cases {
        let mut ledger = after(looks, &RULES);
        ledger.take_dirty_groups();
        look(&mut ledger, "1", letters, 300, &RULES);
        assert_eq!(!ledger.take_dirty_groups().is_empty(), *changed, "{name}");
    }
}

#[test]
fn canary_is_newest_tag_in_sync_not_excluded() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.canary(), None);
    for (tag, seconds, letters) in [
        ("old", 0, "aa"),
        ("new", 50, "bb"),
        ("newest", 90, "c?"),
        ("old", 99, "aa"),
    ] {
        look(&mut ledger, tag, letters, seconds, &RULES);
    }
    let long: Digest = format!("sha512:{}", "0a".repeat(64)).parse().unwrap();
    let seen = Sides {
        primary: Observed::Present(long.clone()),
        fallback: Observed::Present(long),
    };
    ledger.record("web", "sha512", seen, at(95), &RULES);
    record(&mut ledger, "web", &digest("z"), "zz", 99);
    let first = ledger.canary().unwrap();
    assert_eq!((first.tag.as_str(), &first.digest), ("new", &Digest::of(b"b")));
    let second = ledger.canary_excluding(std::slice::from_ref(&first)).unwrap();
    assert_eq!(second.tag, "old");
    let third = ledger.canary_excluding(&[first, second]).unwrap();
    assert_eq!(third.tag, "sha512", "better than none");
    assert_eq!(ledger.canary_excluding(&[third]).unwrap().tag, "new");
}

fn many(count: usize, seen_at: i64) -> Ledger {
    let mut ledger = Ledger::new();
    for index in 0..count {
        let tag = format!("v1.{index}");
        for pass in [seen_at - 300, seen_at] {
            look(&mut ledger, &tag, "aa", pass, &RULES);
        }
    }
    ledger
}

#[test]
fn tag_is_due_until_settled() {
    let cases: &[(&str, &Looks, bool)] = &[
        ("never seen", &[], true),
        ("equal once", &[(0, "aa")], true),
        ("equal twice", &[(0, "aa"), (300, "aa")], false),
        ("different", &[(0, "ab"), (300, "ab")], true),
        ("moved since", &[(0, "aa"), (300, "aa"), (600, "bb")], true),
        ("not read on one side", &[(0, "a?"), (300, "a?")], true),
    ];
    for (name, looks, due) in cases {
        let now = looks.last().map_or(0, |(seconds, _)| *seconds);
        assert_eq!(after(looks, &RULES).due("web", "1", at(now), &RULES), *due, "{name}");
    }
    let settled = after(&[(0, "aa"), (300, "aa")], &RULES);
    assert!(
        settled.due(
            "web",
            "1",
            at(300),
            &Rules {
                settled: Duration::ZERO,
                ..RULES
            }
        ),
        "no rotation was asked for"
    );
}

#[test]
fn settled_tags_are_read_in_time_and_evenly() {
    const TAGS: usize = 500;
    let mut ledger = many(TAGS, 0);
    let mut last_read = vec![0; TAGS];
    // Passes that do not divide the day, so that waiting for one shows.
    let passes = 3 * 24 * 3600 / 1_000;
    for pass in 1..=passes {
        let now = pass * 1_000;
        let mut share = 0;
        for (index, read) in last_read.iter_mut().enumerate() {
            let tag = format!("v1.{index}");
            if ledger.due("web", &tag, at(now), &RULES) {
                look(&mut ledger, &tag, "aa", now, &RULES);
                assert!(now - *read <= 24 * 3600, "{tag} was left for {} s", now - *read);
                *read = now;
                share += 1;
            }
        }
        // Evenly would be 1,000 s of a cycle of 21 h: 7 of 500.
        assert!(share <= TAGS / 20, "pass {pass} reads {share} of {TAGS}");
    }
    assert!(last_read.iter().all(|read| passes * 1_000 - read <= 24 * 3600));
    assert!(ledger.summary().oldest_check.unwrap() >= at(passes * 1_000 - 24 * 3600));
}

#[test]
fn entry_of_tag_in_sync_is_small() {
    // With 32 to 48 bytes for its name and 40 in indexes: less than 200.
    let slot = size_of::<Option<Slot>>();
    assert!(slot <= 96, "{slot} bytes");
}

fn listing(pairs: &[(&str, &str)]) -> BTreeMap<String, Digest> {
    pairs
        .iter()
        .map(|(tag, content)| ((*tag).to_owned(), Digest::of(content.as_bytes())))
        .collect()
}

#[test]
fn listings_are_compared_by_name() {
    let primary = listing(&[("b", "1"), ("c", "2"), ("d", "3")]);
    let fallback = listing(&[("a", "1"), ("c", "2"), ("d", "4")]);
    let found: Vec<_> = compare(&primary, &fallback)
        .into_iter()
        .map(|found| (found.tag, found.kind))
        .collect();
    let expected = [
        ("a".to_owned(), DifferenceKind::MissingOnPrimary),
        ("b".to_owned(), DifferenceKind::MissingOnFallback),
        ("d".to_owned(), DifferenceKind::Mismatched),
    ];
    assert_eq!(found, expected);
}

fn any_listing() -> impl Strategy<Value = BTreeMap<String, Digest>> {
    prop::collection::btree_map("[a-d]{1,2}", (0..3u8).prop_map(|content| Digest::of(&[content])), 0..12)
}

fn any_look() -> impl Strategy<Value = String> {
    "[-?ab][-?ab]"
}

proptest! {
    #[test]
    fn listing_does_not_differ_from_itself(listing in any_listing()) {
        prop_assert_eq!(compare(&listing, &listing), vec![]);
    }

    #[test]
    fn comparison_with_sides_swapped_is_swapped(one in any_listing(), other in any_listing()) {
        let swapped: Vec<Difference> = compare(&other, &one).into_iter().map(|found| Difference {
            kind: match found.kind {
                DifferenceKind::MissingOnPrimary => DifferenceKind::MissingOnFallback,
                DifferenceKind::MissingOnFallback => DifferenceKind::MissingOnPrimary,
                DifferenceKind::Mismatched => DifferenceKind::Mismatched,
            },
            digests: Sides { primary: found.digests.fallback, fallback: found.digests.primary },
            tag: found.tag,
        }).collect();
        prop_assert_eq!(compare(&one, &other), swapped);
    }

    #[test]
    fn counts_add_up(
        looks in prop::collection::vec((0..6u8, any_look(), 0..200i64), 0..60),
        subset in prop::option::of(prop_oneof![Just(Side::Primary), Just(Side::Fallback)]),
    ) {
        let rules = Rules { subset, ..RULES };
        let mut ledger = Ledger::new();
        let mut now = 0;
        for (tag, letters, step) in looks {
            now += step;
            look(&mut ledger, &tag.to_string(), &letters, now, &rules);
            let summary = ledger.summary();
            let diverged = summary.missing_on_primary + summary.missing_on_fallback + summary.mismatched;
            prop_assert_eq!(summary.tags, summary.in_sync + diverged + summary.pending + summary.not_cached);
            prop_assert_eq!(diverged, ledger.divergences(usize::MAX).len());
            prop_assert_eq!(summary.pending, ledger.pending().count());
            prop_assert_eq!(summary.repositories, usize::from(summary.tags > 0));
        }
    }

    #[test]
    fn tag_that_ends_equal_is_in_sync_then_settled(
        looks in prop::collection::vec((any_look(), 0..400i64), 0..20),
    ) {
        let mut ledger = Ledger::new();
        let mut now = 0;
        for (letters, step) in looks {
            now += step;
            look(&mut ledger, "1", &letters, now, &RULES);
        }
        look(&mut ledger, "1", "cc", now, &RULES);
        prop_assert_eq!(ledger.verdict("web", "1"), Some(Verdict::InSync));
        prop_assert!(ledger.due("web", "1", at(now), &RULES));
        look(&mut ledger, "1", "cc", now, &RULES);
        prop_assert!(!ledger.due("web", "1", at(now), &RULES));
        prop_assert_eq!(ledger.divergences(1), vec![]);
    }

    #[test]
    fn look_at_one_side_never_makes_or_clears_divergence(
        looks in prop::collection::vec((any_look(), 0..400i64), 0..20),
        half in prop_oneof![Just("?a"), Just("?b"), Just("?-"), Just("a?"), Just("b?"), Just("-?"), Just("??")],
        later in 0..4_000i64,
    ) {
        let mut ledger = Ledger::new();
        let mut now = 0;
        for (letters, step) in looks {
            now += step;
            look(&mut ledger, "1", &letters, now, &RULES);
        }
        let before = ledger.divergences(1);
        look(&mut ledger, "1", half, now + later, &RULES);
        prop_assert_eq!(ledger.divergences(1), before);
    }

    #[test]
    fn divergence_is_seen_twice_and_older_than_grace(
        looks in prop::collection::vec((any_look(), 0..200i64), 1..30),
    ) {
        let mut ledger = Ledger::new();
        let mut now = 0;
        let mut last_equal = i64::MIN;
        let mut differing = 0;
        for (letters, step) in looks {
            now += step;
            look(&mut ledger, "1", &letters, now, &RULES);
            let (primary, fallback) = letters.split_at(1);
            if primary == fallback && primary != "?" {
                (last_equal, differing) = (now, 0);
            } else if primary != "?" && fallback != "?" {
                differing += 1;
            }
            for found in ledger.divergences(1) {
                prop_assert!(at(now) >= later(found.since, RULES.grace));
                prop_assert!(differing >= 2);
                prop_assert!(last_equal == i64::MIN || found.since >= at(last_equal));
            }
        }
    }
}
