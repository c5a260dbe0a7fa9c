use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::mirror::contents::{FlawedPart, Part};
use crate::mirror::in_use::Use;
use crate::mirror::parity::{Divergence, Held, Verdict};
use crate::policy::{RepairDirection, RepairPolicy};
use crate::routing::fixtures::apps;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn copying() -> MirrorPolicy {
    MirrorPolicy {
        repair: RepairPolicy {
            mode: RepairMode::Copy,
            ..RepairPolicy::default()
        },
        ..apps()
    }
}

fn divergence(tag: &str, verdict: Verdict) -> Divergence {
    let digest = Some(Digest::of(tag.as_bytes()));
    let digests = match verdict {
        Verdict::MissingOnPrimary => Sides {
            primary: None,
            fallback: digest,
        },
        Verdict::MissingOnFallback => Sides {
            primary: digest,
            fallback: None,
        },
        _ => Sides {
            primary: digest,
            fallback: Some(Digest::of(b"another")),
        },
    };
    Divergence {
        repository: "web".to_owned(),
        tag: tag.to_owned(),
        verdict,
        digests,
        since: now(),
    }
}

fn borrowed(divergence: &Divergence) -> DivergenceRef<'_> {
    DivergenceRef {
        repository: &divergence.repository,
        tag: &divergence.tag,
        verdict: divergence.verdict,
        digests: divergence.digests.as_ref().map(Option::as_ref),
        flaws: Sides::default(),
        since: divergence.since,
    }
}

const UP: Sides<bool> = Sides {
    primary: true,
    fallback: true,
};

/// Missing tags by the side that lacks them.
fn missing(divergences: &[Divergence]) -> Sides<usize> {
    let on = |side: Side| {
        let found = divergences.iter().filter_map(|one| lacking(borrowed(one)));
        found.filter(|missing| missing.to == side).count()
    };
    Sides::from_fn(on)
}

fn planned(policy: &MirrorPolicy, divergences: &[Divergence]) -> Plan {
    let (in_use, attempts) = (InUse::default(), Attempts::default());
    let input = Input {
        policy,
        available: UP,
        in_use: &in_use,
        attempts: &attempts,
        missing: missing(divergences),
    };
    plan(&input, divergences.iter().map(borrowed), now())
}

/// What is copied where, what waits, and what is left alone.
fn outcome(plan: &Plan) -> (Vec<(&str, Side)>, usize, usize) {
    let errands = plan.errands.iter().map(|errand| (errand.tag.as_str(), errand.to));
    (errands.collect(), plan.later, plan.left)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_divergence_under_each_setting_has_its_plan() {
    type Row = (&'static str, fn(&mut MirrorPolicy), Verdict, Option<Side>, usize);
    let to = |side| Some(side);
    let rows: [Row; 12] = [
        (
            "missing on the fallback",
            |_| {},
            Verdict::MissingOnFallback,
            to(Side::Fallback),
            0,
        ),
        (
            "missing on the primary",
            |_| {},
            Verdict::MissingOnPrimary,
            to(Side::Primary),
            0,
        ),
        ("mismatched", |_| {}, Verdict::Mismatched, None, 0),
        ("pending", |_| {}, Verdict::Pending, None, 0),
        ("in sync", |_| {}, Verdict::InSync, None, 0),
        (
            "off",
            |policy| policy.repair.mode = RepairMode::Off,
            Verdict::MissingOnFallback,
            None,
            0,
        ),
        (
            "dry run",
            |policy| policy.repair.mode = RepairMode::DryRun,
            Verdict::MissingOnFallback,
            to(Side::Fallback),
            0,
        ),
        (
            "to the fallback only, and it lacks",
            |policy| policy.repair.direction = RepairDirection::ToFallback,
            Verdict::MissingOnFallback,
            to(Side::Fallback),
            0,
        ),
        (
            "to the fallback only, and it has",
            |policy| policy.repair.direction = RepairDirection::ToFallback,
            Verdict::MissingOnPrimary,
            None,
            1,
        ),
        (
            "to the primary only, and it has",
            |policy| policy.repair.direction = RepairDirection::ToPrimary,
            Verdict::MissingOnFallback,
            None,
            1,
        ),
        (
            "the fallback is a cache",
            |policy| policy.sides.fallback.pull_through_cache = true,
            Verdict::MissingOnFallback,
            None,
            1,
        ),
        (
            "the fallback is a cache, the primary lacks",
            |policy| policy.sides.fallback.pull_through_cache = true,
            Verdict::MissingOnPrimary,
            to(Side::Primary),
            0,
        ),
    ];
    for (name, change, verdict, expected, left) in rows {
        let mut policy = copying();
        change(&mut policy);
        let plan = planned(&policy, &[divergence("1.0", verdict)]);
        let errands: Vec<_> = expected.map(|side| ("1.0", side)).into_iter().collect();
        assert_eq!(outcome(&plan), (errands, 0, left), "{name}");
    }
}

#[test]
fn tag_with_another_digest_on_its_side_is_never_copied() {
    let mut odd = divergence("1.0", Verdict::MissingOnFallback);
    odd.digests.fallback = Some(Digest::of(b"another"));
    assert_eq!(planned(&copying(), &[odd]), Plan::default());
}

#[test]
fn digest_that_one_side_lacks_is_not_copied_by_itself() {
    let digest = Digest::of(b"untagged").to_string();
    let plan = planned(&copying(), &[divergence(&digest, Verdict::MissingOnFallback)]);
    assert_eq!(plan, Plan::default());
}

#[test]
fn tag_that_is_no_longer_selected_is_left_alone() {
    let signature = format!("sha256-{}", "a".repeat(64));
    let plan = planned(&copying(), &[divergence(&signature, Verdict::MissingOnFallback)]);
    assert_eq!(outcome(&plan), (vec![], 0, 1));
}

#[test]
fn nothing_is_copied_while_a_side_does_not_answer() {
    let (policy, in_use, attempts) = (copying(), InUse::default(), Attempts::default());
    for available in [Sides { primary: false, ..UP }, Sides { fallback: false, ..UP }] {
        let found = [divergence("1.0", Verdict::MissingOnFallback)];
        let input = Input {
            policy: &policy,
            available,
            in_use: &in_use,
            attempts: &attempts,
            missing: missing(&found),
        };
        assert_eq!(
            outcome(&plan(&input, found.iter().map(borrowed), now())),
            (vec![], 1, 0)
        );
    }
}

#[test]
fn tags_in_use_are_copied_first_then_the_newest() {
    let at = |tag: &str, minutes: u64| Divergence {
        since: now().checked_sub(Duration::from_mins(minutes)).unwrap(),
        ..divergence(tag, Verdict::MissingOnFallback)
    };
    let policy = copying();
    let attempts = Attempts::default();
    let by_digest = Digest::of(b"by-digest").to_string();
    let used = ["old", &by_digest].map(|reference| (reference.to_owned(), Use::default()));
    let in_use = InUse {
        references: BTreeMap::from([("web".to_owned(), BTreeMap::from(used))]),
        ..InUse::default()
    };
    let found = [at("new", 1), at("a", 5), at("b", 5), at("by-digest", 80), at("old", 90)];
    let input = Input {
        policy: &policy,
        available: UP,
        in_use: &in_use,
        attempts: &attempts,
        missing: missing(&found),
    };
    let plan = plan(&input, found.iter().map(borrowed), now());
    let tags: Vec<_> = plan.errands.iter().map(|errand| errand.tag.as_str()).collect();
    assert_eq!(tags, ["by-digest", "old", "new", "a", "b"]);
}

#[test]
fn dry_run_names_a_sample_and_counts_the_others() {
    let missing = ["1.0"; 25].map(|tag| divergence(tag, Verdict::MissingOnFallback));
    let mut policy = copying();
    policy.repair.mode = RepairMode::DryRun;
    let plan = planned(&policy, &missing);
    assert_eq!((plan.errands.len(), plan.later), (MAX_PLANNED, 5));
}

#[test]
fn part_of_what_is_missing_is_copied_now_and_the_others_later() {
    let (policy, in_use, attempts) = (copying(), InUse::default(), Attempts::default());
    let input = Input {
        policy: &policy,
        available: UP,
        in_use: &in_use,
        attempts: &attempts,
        missing: Sides {
            primary: 40,
            fallback: 100_000,
        },
    };
    let found = [divergence("1.0", Verdict::MissingOnFallback)];
    let plan = plan(&input, found.iter().map(borrowed), now());
    assert_eq!(outcome(&plan), (vec![("1.0", Side::Fallback)], 100_039, 0));
}

#[test]
fn failed_copy_waits_twice_as_long_up_to_six_hours() {
    let plan = planned(&copying(), &[divergence("1.0", Verdict::MissingOnFallback)]);
    let errand = &plan.errands[0];
    let mut attempts = Attempts::default();
    let mut at = now();
    for minutes in [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360] {
        attempts.failed(errand, at);
        let end = at.checked_add(Duration::from_mins(minutes)).unwrap();
        let just_before = end.checked_sub(Duration::from_secs(1)).unwrap();
        assert!(!attempts.may_try(errand, just_before), "{minutes} min");
        assert!(attempts.may_try(errand, end), "{minutes} min");
        at = end;
    }
    let moved = Errand {
        digest: Digest::of(b"pushed again"),
        ..errand.clone()
    };
    assert!(attempts.may_try(&moved, now()), "another digest is another errand");
    attempts.succeeded(errand);
    assert!(attempts.is_empty());
}

fn broken(reference: &str, primary: bool, fallback: bool) -> FlawedContent {
    let layer = || FlawedPart {
        flaw: Flaw::Broken,
        part: Part::Layer,
        digest: Digest::of(b"layer"),
        platform: None,
    };
    FlawedContent {
        held: Held {
            repository: "web".to_owned(),
            reference: reference.to_owned(),
            digest: Digest::of(reference.as_bytes()),
            on: UP,
        },
        parts: Sides {
            primary: primary.then(layer),
            fallback: fallback.then(layer),
        },
        since: now(),
    }
}

/// The same, and a side serves other content than the digest's.
fn untrusted(mut content: FlawedContent, side: Side) -> FlawedContent {
    content.parts[side] = Some(FlawedPart {
        flaw: Flaw::Untrusted,
        part: Part::Manifest,
        digest: content.held.digest.clone(),
        platform: None,
    });
    content
}

#[test]
fn tag_whose_source_is_untrusted_is_left() {
    let missing = [
        divergence("forged", Verdict::MissingOnFallback),
        divergence("broken", Verdict::MissingOnFallback),
    ];
    let flawed = |divergence| {
        let flaw = match borrowed(divergence).tag {
            "forged" => Flaw::Untrusted,
            _ => Flaw::Broken,
        };
        DivergenceRef {
            flaws: Sides {
                primary: Some(flaw),
                fallback: None,
            },
            ..borrowed(divergence)
        }
    };
    let (in_use, attempts) = (InUse::default(), Attempts::default());
    let input = Input {
        policy: &copying(),
        available: UP,
        in_use: &in_use,
        attempts: &attempts,
        missing: self::missing(&missing),
    };
    let plan = plan(&input, missing.iter().map(flawed), now());
    assert_eq!(outcome(&plan), (vec![("broken", Side::Fallback)], 0, 1));
}

#[test]
fn what_one_side_lacks_of_a_tag_comes_from_the_other() {
    let digest = Digest::of(b"content").to_string();
    let contents = [
        broken("on-primary", true, false),
        broken("on-fallback", false, true),
        broken("on-both", true, true),
        broken(&digest, true, false),
        untrusted(broken("untrusted-source", true, false), Side::Fallback),
        untrusted(broken("untrusted-target", false, false), Side::Fallback),
    ];
    let attempts = Attempts::default();
    let named = |policy: &MirrorPolicy, available: Sides<bool>| -> Vec<(String, Side)> {
        let in_use = InUse::default();
        let input = Input {
            policy,
            available,
            in_use: &in_use,
            attempts: &attempts,
            missing: Sides::default(),
        };
        let errands = completions(&input, &contents, now());
        assert!(errands.iter().all(|errand| errand.is_broken));
        errands.into_iter().map(|errand| (errand.tag, errand.to)).collect()
    };
    let up = Sides::from_fn(|_| true);
    let both = [
        ("on-primary".to_owned(), Side::Primary),
        ("on-fallback".to_owned(), Side::Fallback),
    ];
    assert_eq!(named(&copying(), up), both);
    let mut to_fallback = copying();
    to_fallback.repair.direction = RepairDirection::ToFallback;
    assert_eq!(named(&to_fallback, up), both[1..]);
    assert_eq!(named(&apps(), up), [], "nobody asked for copies");
    let half = Sides {
        primary: true,
        fallback: false,
    };
    assert_eq!(named(&copying(), half), [], "a side does not answer");
}

#[test]
fn failures_are_forgotten_with_their_tags_and_bounded() {
    let plan = planned(&copying(), &[divergence("1.0", Verdict::MissingOnFallback)]);
    let mut attempts = Attempts::default();
    for n in 0..10_050 {
        let errand = Errand {
            tag: n.to_string(),
            ..plan.errands[0].clone()
        };
        attempts.failed(&errand, now());
    }
    assert_eq!(attempts.len(), 10_000);
    attempts.retain(|_, tag| tag == "7");
    assert_eq!(attempts.len(), 1);
}

fn any_divergence() -> impl Strategy<Value = Divergence> {
    let verdict = prop_oneof![
        Just(Verdict::InSync),
        Just(Verdict::MissingOnPrimary),
        Just(Verdict::MissingOnFallback),
        Just(Verdict::Mismatched),
        Just(Verdict::Pending),
    ];
    let digest = || proptest::option::of((0u8..3).prop_map(|n| Digest::of(&[n])));
    ("[a-c]", 0u16..3000, verdict, digest(), digest()).prop_map(|(repository, tag, verdict, primary, fallback)| {
        Divergence {
            repository,
            tag: tag.to_string(),
            verdict,
            digests: Sides { primary, fallback },
            since: now(),
        }
    })
}

proptest! {
    #[test]
    fn plans_never_overwrite_write_a_cache_or_exceed_the_cap(
        found in proptest::collection::vec(any_divergence(), 0..60),
        cache in any::<bool>(),
        direction in prop_oneof![Just(RepairDirection::Both), Just(RepairDirection::ToFallback), Just(RepairDirection::ToPrimary)],
        copies in 1usize..40,
    ) {
        let mut policy = copying();
        policy.repair.direction = direction;
        policy.sides.fallback.pull_through_cache = cache;
        let many: Vec<Divergence> = std::iter::repeat_n(found.clone(), copies).flatten().collect();
        let plan = planned(&policy, &many);
        prop_assert!(plan.errands.len() <= MOST_ERRANDS);
        for errand in &plan.errands {
            let told = found.iter().any(|one| {
                one.repository == errand.repository
                    && one.tag == errand.tag
                    && one.digests[errand.to].is_none()
                    && one.digests[errand.to.other()].as_ref() == Some(&errand.digest)
                    && matches!(
                        (one.verdict, errand.to),
                        (Verdict::MissingOnPrimary, Side::Primary) | (Verdict::MissingOnFallback, Side::Fallback)
                    )
            });
            prop_assert!(told);
            prop_assert!(direction.writes(errand.to));
            prop_assert!(!(cache && errand.to == Side::Fallback));
        }
        let missing = many.iter().filter(|one| super::lacking(borrowed(one)).is_some()).count();
        prop_assert_eq!(plan.errands.len() + plan.later + plan.left, missing);
    }
}
