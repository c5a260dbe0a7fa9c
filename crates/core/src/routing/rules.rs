//! The rules that say where an image reference goes, in the order in which they are asked.
//!
//! [`RULES`] is the whole decision: the first rule that has an answer decides, and its name says which one it was. The rules
//! see a [`Question`], which holds all that they may go by, so that each can be read and tested by itself.

use super::evidence::{Flaw, Knowledge, Presence};
use super::{KeepReason, RewriteReason};
use crate::policy::{ActiveSide, MirrorPolicy, MismatchedTags, UnverifiedTags};
use crate::side::{Side, Sides};

/// All that the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The mirror that the reference belongs to.
    pub policy: &'q MirrorPolicy,
    /// Which sides are unavailable.
    pub unavailable: Sides<bool>,
    /// A side has served a manifest under the repository's mapping at some time.
    pub observed: bool,
    /// The pull policy is `Never`.
    pub never: bool,
    /// Why the pod or the image is left alone.
    pub excluded: Option<KeepReason>,
    /// The mirror's `tags` select the tag.
    pub selected: bool,
    /// The side that the reference names.
    pub named: Side,
    /// The side that pods are sent to.
    pub target: Side,
    /// What is known of the tag, also one that is only implied; none where there is only a digest.
    pub tag: Option<Knowledge>,
    /// What is known of the digest; none where there is none.
    pub digest: Option<Knowledge>,
}

/// Where a reference goes, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The name of the rule.
    pub rule: &'static str,
    /// What it says.
    pub answer: Answer,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It stays: it names the side that pods are sent to.
    OnActive,
    /// It stays as it is.
    Stays(KeepReason),
    /// It goes to this side.
    Goes(Side, RewriteReason),
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// When it has an answer, in words for people: a clause.
    pub when: &'static str,
    /// Its answer where it has one.
    pub(super) ask: fn(&Question<'_>) -> Option<Answer>,
}

const fn rule(name: &'static str, when: &'static str, ask: fn(&Question<'_>) -> Option<Answer>) -> Rule {
    Rule { name, when, ask }
}

/// The rules, in order. Below them stands [`UNVERIFIED`], which always has an answer.
pub const RULES: &[Rule] = &[
    // First, so that a pod that opted out stays for that reason only: it gets no pull secret and no annotation.
    rule("Excluded", "the pod, its namespace or the image is excluded", |ask| {
        ask.excluded.map(Answer::Stays)
    }),
    rule(
        "NotObservedYet",
        "neither side has served an image of this repository under this mapping yet",
        |ask| (!ask.observed).then_some(Answer::Stays(KeepReason::NotObservedYet)),
    ),
    rule("PullPolicyNever", "imagePullPolicy is Never", |ask| {
        ask.never.then_some(Answer::Stays(KeepReason::PullPolicyNever))
    }),
    rule("NotSelected", "the mirror's tags do not select this tag", |ask| {
        let by_tag_only = ask.digest.is_none();
        (by_tag_only && !ask.selected).then_some(Answer::Stays(KeepReason::NotSelected))
    }),
    rule(
        "OnlyOnOther",
        "it names the active side, which lacks it or a part of it, and the other side has it",
        only_on_other,
    ),
    rule("OnActive", "it names the active side", on_active),
    rule("MissingOnActive", "the active side does not have it", missing_on_target),
    // Before tags that differ: a setting may let those go.
    rule(
        "UntrustedOnActive",
        "the active side serves content that does not have its digest",
        untrusted_on_target,
    ),
    rule(
        "DigestMismatch",
        "the sides have different digests for the tag",
        mismatched,
    ),
    rule(
        "BrokenOnActive",
        "a manifest, a config or a layer of it is missing on the active side",
        broken_on_target,
    ),
    rule(
        "Rewritten",
        "the active side has it, a tag with the same digest",
        present_on_target,
    ),
    rule(
        "NotCached",
        "the active side is a pull-through cache without it, and pulls by digest do not fill it",
        not_cached,
    ),
];

/// The rule below [`RULES`]: too little is known, and the mirror's settings decide.
pub const UNVERIFIED: Rule = rule(
    "Unverified",
    "nothing is known of it on the active side: rewrite.unverifiedTags decides",
    |ask| Some(unverified(ask)),
);

/// Asks the rules in order.
pub fn decide(question: &Question<'_>) -> Decision {
    let mut rules = RULES.iter();
    let first = rules.find_map(|rule| {
        (rule.ask)(question).map(|answer| Decision {
            rule: rule.name,
            answer,
        })
    });
    first.unwrap_or_else(|| Decision {
        rule: UNVERIFIED.name,
        answer: unverified(question),
    })
}

impl Question<'_> {
    /// Whether a person allows to send pods to this side: a side that is pinned is the only one.
    fn allows(&self, side: Side) -> bool {
        match self.policy.failover.active {
            ActiveSide::Auto => true,
            ActiveSide::Fixed(pinned) => pinned == side,
        }
    }

    /// Whether a side has what the reference means. With a digest that is the digest's content, wherever it is found.
    fn presence(&self, side: Side) -> Presence {
        let knowledge = self.digest.or(self.tag).unwrap_or_default();
        knowledge.presence[side]
    }

    /// Whether this side alone has it. A mirror that moves nothing unverified moves no tag for that: it was compared with
    /// nothing, and who can write that side alone could choose what runs. Nor is content that does not have its digest.
    fn is_only_on(&self, side: Side) -> bool {
        let only_there = self.presence(side) == Presence::Present && self.presence(side.other()) == Presence::Absent;
        let trusted = self.digest.is_some() || self.policy.rewrite.unverified == UnverifiedTags::Rewrite;
        only_there && trusted && self.flaw(side) != Some(Flaw::Untrusted)
    }

    /// Whether both sides have the same digest, and only this one can serve all of it.
    fn is_sound_only_on(&self, side: Side) -> bool {
        let known = self.digest.or(self.tag).unwrap_or_default();
        known.same && known.flaws[side.other()].is_some() && known.flaws[side].is_none()
    }

    /// Why what a side has can't be pulled.
    fn flaw(&self, side: Side) -> Option<Flaw> {
        self.digest.or(self.tag)?.flaws[side]
    }

    /// Whether a side has the tag, which beside a digest is no more than a hint.
    fn presence_of_tag(&self, side: Side) -> Presence {
        self.tag.unwrap_or_default().presence[side]
    }
}

/// What the active side lacks, or can't serve as it is, is taken from where it is.
fn only_on_other(ask: &Question<'_>) -> Option<Answer> {
    let other = ask.named.other();
    let may_go = ask.allows(other) && !ask.unavailable[other];
    let goes = ask.named == ask.target && (ask.is_only_on(other) || ask.is_sound_only_on(other)) && may_go;
    goes.then_some(Answer::Goes(other, RewriteReason::OnlyOnOther))
}

fn on_active(ask: &Question<'_>) -> Option<Answer> {
    (ask.named == ask.target || !ask.allows(ask.target)).then_some(Answer::OnActive)
}

/// One observation is enough. Where nothing is known of a digest, the tag beside it is a hint.
fn missing_on_target(ask: &Question<'_>) -> Option<Answer> {
    let hinted = ask.presence(ask.target) == Presence::Unknown && ask.presence_of_tag(ask.target) == Presence::Absent;
    let missing = ask.presence(ask.target) == Presence::Absent || hinted;
    missing.then_some(Answer::Stays(KeepReason::MissingOnActive))
}

/// A tag with other content on the target. A digest means the same content everywhere.
fn mismatched(ask: &Question<'_>) -> Option<Answer> {
    let tag = ask.tag.filter(|_| ask.digest.is_none())?;
    let on_both = Side::ALL.iter().all(|side| tag.presence[*side] == Presence::Present);
    if !on_both || tag.same {
        return None;
    }
    let goes = ask.policy.rewrite.mismatched == MismatchedTags::WhenUnavailable && ask.unavailable[ask.named];
    Some(if goes {
        Answer::Goes(ask.target, RewriteReason::Mismatched)
    } else {
        Answer::Stays(KeepReason::DigestMismatch)
    })
}

/// Content that does not have its digest is never a target, whatever the other side has: a registry that serves other bytes than
/// were asked for is damaged, or lies.
fn untrusted_on_target(ask: &Question<'_>) -> Option<Answer> {
    let untrusted = ask.flaw(ask.target) == Some(Flaw::Untrusted);
    untrusted.then_some(Answer::Stays(KeepReason::UntrustedOnActive))
}

/// What can't be pulled from the target stays where it can be.
fn broken_on_target(ask: &Question<'_>) -> Option<Answer> {
    let broken = ask.flaw(ask.target).is_some() && ask.flaw(ask.named).is_none();
    broken.then_some(Answer::Stays(KeepReason::BrokenOnActive))
}

/// A tag must be equal on both sides, or be on the target only; for a digest it is enough that the target has it.
fn present_on_target(ask: &Question<'_>) -> Option<Answer> {
    let by_digest = ask.digest.is_some() && ask.presence(ask.target) == Presence::Present;
    let equal = ask.digest.is_none() && ask.tag.is_some_and(|tag| tag.same);
    let present = by_digest || equal || ask.is_only_on(ask.target);
    present.then_some(Answer::Goes(ask.target, RewriteReason::Rewritten))
}

/// Pulls by digest don't fill a pull-through cache. One that has the tag beside the digest is taken to have the digest.
fn not_cached(ask: &Question<'_>) -> Option<Answer> {
    let unlikely = ask.digest.is_some() && ask.presence_of_tag(ask.target) != Presence::Present;
    let is_cache = ask.policy.sides[ask.target].pull_through_cache;
    (is_cache && unlikely).then_some(Answer::Stays(KeepReason::NotCached))
}

/// Too little is known: the mirror's settings decide.
fn unverified(ask: &Question<'_>) -> Answer {
    match ask.policy.rewrite.unverified {
        UnverifiedTags::Rewrite => Answer::Goes(ask.target, RewriteReason::Unverified),
        UnverifiedTags::Keep => Answer::Stays(KeepReason::Unverified),
    }
}

#[cfg(test)]
mod tests;
