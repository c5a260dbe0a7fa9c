//! Every rule by itself, in the order in which they are asked, then what must hold for all questions.

use proptest::prelude::*;

use super::*;
use crate::routing::fixtures::apps;
use Answer::{Goes, OnActive, Stays};
use Presence::{Absent, Present, Unknown};
use Side::{Fallback, Primary};

const fn known(primary: Presence, fallback: Presence) -> Knowledge {
    Knowledge {
        presence: Sides { primary, fallback },
        same: false,
        flaws: Sides {
            primary: None,
            fallback: None,
        },
    }
}

const NOTHING: Knowledge = Knowledge::NOTHING;
const IN_SYNC: Knowledge = Knowledge::IN_SYNC;
const DIFFERS: Knowledge = known(Present, Present);
const ONLY_PRIMARY: Knowledge = known(Present, Absent);
const ONLY_FALLBACK: Knowledge = known(Absent, Present);
const NOWHERE: Knowledge = known(Absent, Absent);

fn pinned(side: Side) -> MirrorPolicy {
    let mut policy = apps();
    policy.failover.active = ActiveSide::Fixed(side);
    policy
}

fn strict() -> MirrorPolicy {
    let mut policy = apps();
    policy.rewrite.unverified = UnverifiedTags::Keep;
    policy
}

/// A tag in sync that names the primary while pods are sent to the fallback.
fn plain(policy: &MirrorPolicy) -> Question<'_> {
    Question {
        policy,
        unavailable: Sides::default(),
        observed: true,
        never: false,
        excluded: None,
        selected: true,
        named: Primary,
        target: Fallback,
        tag: Some(IN_SYNC),
        digest: None,
    }
}

fn on_active(question: Question<'_>) -> Question<'_> {
    Question {
        named: question.target,
        ..question
    }
}

/// While the side that it names is unavailable.
fn down(mut question: Question<'_>) -> Question<'_> {
    question.unavailable[question.named] = true;
    question
}

fn tag(policy: &MirrorPolicy, knowledge: Knowledge) -> Question<'_> {
    Question {
        tag: Some(knowledge),
        ..plain(policy)
    }
}

fn digest(policy: &MirrorPolicy, digest: Knowledge, tag: Option<Knowledge>) -> Question<'_> {
    Question {
        digest: Some(digest),
        tag,
        ..plain(policy)
    }
}

#[track_caller]
fn check(question: Question<'_>, rule: &str, answer: Answer) {
    let decision = decide(&question);
    assert_eq!((decision.rule, decision.answer), (rule, answer), "{question:?}");
}

#[test]
fn rules_have_distinct_names() {
    let mut names: Vec<_> = RULES.iter().chain([&UNVERIFIED]).map(|rule| rule.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn unobserved_mapping_stays_on_both_sides() {
    let policy = apps();
    for named in Side::ALL {
        let question = Question {
            observed: false,
            never: true,
            named,
            ..tag(&policy, ONLY_FALLBACK)
        };
        check(question, "NotObservedYet", Stays(KeepReason::NotObservedYet));
    }
}

#[test]
fn pull_policy_never_stays() {
    let policy = apps();
    let question = Question {
        never: true,
        selected: false,
        ..plain(&policy)
    };
    check(question, "PullPolicyNever", Stays(KeepReason::PullPolicyNever));
}

#[test]
fn excluded_image_stays_before_all_else() {
    let policy = apps();
    let question = Question {
        excluded: Some(KeepReason::ExcludedImage),
        observed: false,
        never: true,
        ..plain(&policy)
    };
    check(question, "Excluded", Stays(KeepReason::ExcludedImage));
}

#[test]
fn unselected_tag_stays_unless_there_is_a_digest() {
    let policy = apps();
    let question = Question {
        selected: false,
        ..plain(&policy)
    };
    check(question, "NotSelected", Stays(KeepReason::NotSelected));
    let with_digest = Question {
        digest: Some(IN_SYNC),
        ..question
    };
    check(with_digest, "Rewritten", Goes(Fallback, RewriteReason::Rewritten));
}

#[test]
fn active_side_that_lacks_the_image_is_left() {
    let policy = &apps();
    let goes = Goes(Primary, RewriteReason::OnlyOnOther);
    check(on_active(tag(policy, ONLY_PRIMARY)), "OnlyOnOther", goes);
    check(on_active(digest(policy, ONLY_PRIMARY, None)), "OnlyOnOther", goes);
    let stay = [
        tag(policy, NOWHERE),
        tag(policy, known(Unknown, Absent)),
        tag(policy, IN_SYNC),
        tag(policy, NOTHING),
        // The digest decides, whatever became of the tag.
        digest(policy, NOTHING, Some(ONLY_PRIMARY)),
        digest(policy, IN_SYNC, Some(ONLY_PRIMARY)),
    ];
    for question in stay {
        check(on_active(question), "OnActive", OnActive);
    }
    let mut unavailable = on_active(tag(policy, ONLY_PRIMARY));
    unavailable.unavailable.primary = true;
    check(unavailable, "OnActive", OnActive);
    let held = pinned(Fallback);
    check(on_active(tag(&held, ONLY_PRIMARY)), "OnActive", OnActive);
    let strict = strict();
    check(on_active(tag(&strict, ONLY_PRIMARY)), "OnActive", OnActive);
    check(on_active(digest(&strict, ONLY_PRIMARY, None)), "OnlyOnOther", goes);
}

#[test]
fn pinned_side_is_never_left() {
    let policy = pinned(Primary);
    // The other side is in question for a moment after it was pinned, or while a pod waits.
    for target in Side::ALL {
        let question = Question {
            target,
            ..plain(&policy)
        };
        check(down(question), "OnActive", OnActive);
    }
    let policy = pinned(Fallback);
    check(plain(&policy), "Rewritten", Goes(Fallback, RewriteReason::Rewritten));
}

#[test]
fn target_that_lacks_the_image_is_not_taken() {
    let policy = apps();
    let missing = Stays(KeepReason::MissingOnActive);
    for question in [
        tag(&policy, ONLY_PRIMARY),
        tag(&policy, known(Unknown, Absent)),
        tag(&policy, NOWHERE),
        digest(&policy, ONLY_PRIMARY, Some(IN_SYNC)),
        digest(&policy, NOWHERE, None),
        // Nothing is known of the digest, and the tag beside it is a hint.
        digest(&policy, NOTHING, Some(ONLY_PRIMARY)),
        digest(&policy, known(Present, Unknown), Some(known(Unknown, Absent))),
    ] {
        check(question, "MissingOnActive", missing);
    }
    let moved = Goes(Fallback, RewriteReason::Rewritten);
    check(digest(&policy, IN_SYNC, Some(ONLY_PRIMARY)), "Rewritten", moved);
}

#[test]
fn target_with_incomplete_content_is_not_taken_and_left_for_a_whole_one() {
    let policy = &apps();
    let broken = |primary: bool, fallback: bool| Knowledge {
        flaws: Sides {
            primary: primary.then_some(Flaw::Broken),
            fallback: fallback.then_some(Flaw::Broken),
        },
        ..IN_SYNC
    };
    for is_digest in [false, true] {
        let ask = |known| {
            if is_digest {
                digest(policy, known, None)
            } else {
                tag(policy, known)
            }
        };
        let stays = Stays(KeepReason::BrokenOnActive);
        check(ask(broken(false, true)), "BrokenOnActive", stays);
        let goes = Goes(Primary, RewriteReason::OnlyOnOther);
        check(on_active(ask(broken(false, true))), "OnlyOnOther", goes);
        // The one is no better than the other, or the other is the better one.
        for known in [broken(true, true), broken(true, false)] {
            check(ask(known), "Rewritten", Goes(Fallback, RewriteReason::Rewritten));
            check(on_active(ask(known)), "OnActive", OnActive);
        }
    }
    let mut unavailable = on_active(tag(policy, broken(false, true)));
    unavailable.unavailable.primary = true;
    check(unavailable, "OnActive", OnActive);
    let held = pinned(Fallback);
    check(on_active(tag(&held, broken(false, true))), "OnActive", OnActive);
}

/// What the two sides have, with these flaws.
fn with_flaws(known: Knowledge, primary: Option<Flaw>, fallback: Option<Flaw>) -> Knowledge {
    known.with_flaws(Sides { primary, fallback })
}

#[test]
fn untrusted_content_is_never_a_target() {
    let policy = &apps();
    let untrusted = Some(Flaw::Untrusted);
    let stays = Stays(KeepReason::UntrustedOnActive);
    for is_digest in [false, true] {
        let ask = |known| {
            if is_digest {
                digest(policy, known, None)
            } else {
                tag(policy, known)
            }
        };
        for other in [None, Some(Flaw::Broken), untrusted] {
            let known = with_flaws(IN_SYNC, other, untrusted);
            check(ask(known), "UntrustedOnActive", stays);
        }
        // The side that is named may be untrusted: what goes away from it is no worse off.
        let known = with_flaws(IN_SYNC, untrusted, None);
        check(ask(known), "Rewritten", Goes(Fallback, RewriteReason::Rewritten));
        // It names the active side, and the other one serves it as it is, or does not.
        let known = with_flaws(IN_SYNC, None, untrusted);
        check(
            on_active(ask(known)),
            "OnlyOnOther",
            Goes(Primary, RewriteReason::OnlyOnOther),
        );
        let known = with_flaws(IN_SYNC, untrusted, untrusted);
        check(on_active(ask(known)), "OnActive", OnActive);
        // Only one side has it at all.
        let known = with_flaws(ONLY_FALLBACK, None, untrusted);
        check(ask(known), "UntrustedOnActive", stays);
        let known = with_flaws(ONLY_PRIMARY, untrusted, None);
        check(on_active(ask(known)), "OnActive", OnActive);
    }
}

#[test]
fn untrusted_content_stays_also_where_tags_that_differ_may_go() {
    let mut policy = apps();
    policy.rewrite.mismatched = MismatchedTags::WhenUnavailable;
    let mut question = tag(&policy, with_flaws(DIFFERS, None, Some(Flaw::Untrusted)));
    question.unavailable.primary = true;
    check(question, "UntrustedOnActive", Stays(KeepReason::UntrustedOnActive));
}

#[test]
fn different_content_stays_or_goes_when_unavailable() {
    let mut policy = apps();
    let differs = Stays(KeepReason::DigestMismatch);
    let keep = &apps();
    policy.rewrite.mismatched = MismatchedTags::WhenUnavailable;
    let go = &policy;
    check(tag(keep, DIFFERS), "DigestMismatch", differs);
    check(down(tag(keep, DIFFERS)), "DigestMismatch", differs);
    check(tag(go, DIFFERS), "DigestMismatch", differs);
    check(
        down(tag(go, DIFFERS)),
        "DigestMismatch",
        Goes(Fallback, RewriteReason::Mismatched),
    );
    // The digest says which content is meant.
    let by_digest = digest(keep, IN_SYNC, Some(DIFFERS));
    check(by_digest, "Rewritten", Goes(Fallback, RewriteReason::Rewritten));
}

#[test]
fn image_that_the_target_has_is_moved() {
    for policy in [apps(), strict()] {
        let moved = Goes(Fallback, RewriteReason::Rewritten);
        for question in [
            tag(&policy, IN_SYNC),
            digest(&policy, ONLY_FALLBACK, None),
            digest(&policy, known(Unknown, Present), Some(NOTHING)),
        ] {
            check(question, "Rewritten", moved);
        }
    }
    let (loose, strict) = (apps(), strict());
    let only_there = Goes(Fallback, RewriteReason::Rewritten);
    check(tag(&loose, ONLY_FALLBACK), "Rewritten", only_there);
    check(tag(&strict, ONLY_FALLBACK), "Unverified", Stays(KeepReason::Unverified));
}

#[test]
fn cache_without_the_digest_is_not_taken() {
    let mut policy = apps();
    policy.sides.fallback.pull_through_cache = true;
    let not_cached = Stays(KeepReason::NotCached);
    let unverified = Goes(Fallback, RewriteReason::Unverified);
    check(digest(&policy, NOTHING, None), "NotCached", not_cached);
    check(digest(&policy, NOTHING, Some(NOTHING)), "NotCached", not_cached);
    check(digest(&policy, NOTHING, Some(IN_SYNC)), "Unverified", unverified);
    check(
        digest(&policy, known(Unknown, Present), None),
        "Rewritten",
        Goes(Fallback, RewriteReason::Rewritten),
    );
    // A pull by tag fills the cache, and the other side is none.
    check(tag(&policy, NOTHING), "Unverified", unverified);
    let back = Question {
        target: Primary,
        named: Fallback,
        ..digest(&policy, NOTHING, None)
    };
    check(back, "Unverified", Goes(Primary, RewriteReason::Unverified));
}

#[test]
fn unknown_image_goes_or_stays_by_setting() {
    let (loose, strict) = (apps(), strict());
    for knowledge in [
        NOTHING,
        known(Unknown, Present),
        known(Present, Unknown),
        known(Absent, Unknown),
    ] {
        check(
            tag(&loose, knowledge),
            "Unverified",
            Goes(Fallback, RewriteReason::Unverified),
        );
        check(tag(&strict, knowledge), "Unverified", Stays(KeepReason::Unverified));
    }
    check(
        digest(&loose, NOTHING, Some(IN_SYNC)),
        "Unverified",
        Goes(Fallback, RewriteReason::Unverified),
    );
    check(
        digest(&strict, NOTHING, None),
        "Unverified",
        Stays(KeepReason::Unverified),
    );
}

fn presence() -> impl Strategy<Value = Presence> {
    prop::sample::select(vec![Unknown, Present, Absent])
}

fn knowledge() -> impl Strategy<Value = Knowledge> {
    (presence(), presence(), any::<bool>()).prop_map(|(primary, fallback, same)| {
        let knowledge = known(primary, fallback);
        let same = same && knowledge.is_on_both();
        Knowledge { same, ..knowledge }
    })
}

fn side() -> impl Strategy<Value = Side> {
    prop::sample::select(Side::ALL.to_vec())
}

fn policies() -> impl Strategy<Value = MirrorPolicy> {
    let pin = prop::option::of(side());
    (pin, any::<[bool; 3]>()).prop_map(|(pin, [strict, cache, mismatched])| {
        let mut policy = apps();
        policy.failover.active = pin.map_or(ActiveSide::Auto, ActiveSide::Fixed);
        policy.sides.fallback.pull_through_cache = cache;
        if strict {
            policy.rewrite.unverified = UnverifiedTags::Keep;
        }
        if mismatched {
            policy.rewrite.mismatched = MismatchedTags::WhenUnavailable;
        }
        policy
    })
}

/// What of a question is not its policy.
type Facts = (Side, Side, [bool; 5], Option<Knowledge>, Option<Knowledge>);

fn facts() -> impl Strategy<Value = Facts> {
    let reference = prop_oneof![
        knowledge().prop_map(|tag| (Some(tag), None)),
        knowledge().prop_map(|digest| (None, Some(digest))),
        (knowledge(), knowledge()).prop_map(|(tag, digest)| (Some(tag), Some(digest))),
    ];
    (side(), side(), any::<[bool; 5]>(), reference)
        .prop_map(|(target, named, flags, (tag, digest))| (target, named, flags, tag, digest))
}

fn question(policy: &MirrorPolicy, (target, named, flags, tag, digest): Facts) -> Question<'_> {
    let [observed, never, selected, primary, fallback] = flags;
    Question {
        policy,
        unavailable: Sides { primary, fallback },
        observed,
        never,
        excluded: None,
        selected,
        named,
        target,
        tag,
        digest,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_goes_where_it_is_absent_or_different(policy in policies(), facts in facts()) {
        let question = question(&policy, facts);
        if let Goes(to, reason) = decide(&question).answer {
            prop_assert_ne!(to, question.named);
            prop_assert_ne!(question.presence(to), Absent);
            let differs = question.digest.is_none() && question.tag.is_some_and(|tag| tag.is_on_both() && !tag.same);
            prop_assert_eq!(differs, reason == RewriteReason::Mismatched);
            if differs {
                prop_assert_eq!(policy.rewrite.mismatched, MismatchedTags::WhenUnavailable);
                prop_assert!(question.unavailable[question.named]);
            }
        }
    }

    #[test]
    fn nothing_goes_where_its_content_is_untrusted(policy in policies(), facts in facts()) {
        let question = question(&policy, facts);
        if let Goes(to, _) = decide(&question).answer {
            prop_assert_ne!(question.flaw(to), Some(Flaw::Untrusted));
        }
    }

    #[test]
    fn nothing_leaves_a_pinned_side(policy in policies(), facts in facts()) {
        if let (ActiveSide::Fixed(pin), Goes(to, _)) = (policy.failover.active, decide(&question(&policy, facts)).answer) {
            prop_assert_eq!(to, pin);
        }
    }

    #[test]
    fn unobserved_or_never_pulled_image_stays(policy in policies(), facts in facts()) {
        let question = question(&policy, facts);
        if !question.observed || question.never {
            prop_assert!(matches!(decide(&question).answer, Stays(_)));
        }
    }

    #[test]
    fn strict_mirror_moves_only_what_is_proven(policy in policies(), facts in facts()) {
        let question = question(&policy, facts);
        if let Goes(to, reason) = decide(&question).answer {
            let known = reason != RewriteReason::Unverified;
            prop_assert!(!known || question.presence(to) == Present);
            let equal = question.digest.is_some() || question.tag.is_some_and(|tag| tag.same);
            let proven = known && (equal || reason == RewriteReason::Mismatched);
            prop_assert!(proven || policy.rewrite.unverified == UnverifiedTags::Rewrite);
        }
    }
}
