//! Which tags are copied from the side that has them to the side that lacks them.
//!
//! Only what is confirmed to be missing is copied ([`crate::mirror::parity`]), never what differs: which of two digests is the right
//! one, no program can know. Neither is content that does not have its digest. Nothing is deleted, a pull-through cache is never written (it fills itself), and neither is a
//! side that [`crate::policy::RepairPolicy::direction`] leaves out. Between two sides of which one does not answer, nothing
//! is copied at all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::mirror::contents::FlawedContent;
use crate::mirror::failback::is_digest;
use crate::mirror::in_use::{InUse, Use};
use crate::mirror::parity::DivergenceRef;
use crate::policy::{MirrorPolicy, RepairMode};
use crate::routing::evidence::Flaw;
use crate::routing::mapping::LatestRule;
use crate::side::{Side, Sides};

mod attempts;
mod progress;
#[cfg(test)]
mod tests;

pub use attempts::Attempts;
pub use progress::{MAX_PLANNED, Progress};
pub(super) use progress::{list, name, tags};

/// Tags copied after one pass; the others follow after the next.
pub const MOST_ERRANDS: usize = 1000;

/// One tag to be copied, or completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The repository's name in status.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The side that lacks it; the other has it.
    pub to: Side,
    /// What the other side has.
    pub digest: Digest,
    /// That side has the tag, with this digest, and lacks a part of what it refers to.
    pub is_broken: bool,
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What the user asked for.
    pub policy: &'a MirrorPolicy,
    /// Whether each side answers.
    pub available: Sides<bool>,
    /// What pods and workloads use.
    pub in_use: &'a InUse,
    /// What was tried before.
    pub attempts: &'a Attempts,
    /// Confirmed missing tags, by the side that lacks them.
    pub missing: Sides<usize>,
}

/// What is to be done after a pass. Every confirmed missing tag is in exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is copied now, in this order: at most [`MOST_ERRANDS`], of a dry run [`MAX_PLANNED`].
    pub errands: Vec<Errand>,
    /// Tags that are copied later: beyond the cap, tried in vain a short time ago, or with a side that does not answer.
    pub later: usize,
    /// Tags that are not copied at all: their side is not written, or what the other one serves for them is untrusted.
    pub left: usize,
}

/// A tag that one side lacks, borrowed: of most of them nothing is kept.
struct Missing<'a> {
    repository: &'a str,
    tag: &'a str,
    to: Side,
    digest: &'a Digest,
    /// The other side serves other content than that digest's.
    is_untrusted: bool,
}

/// Plans the copies. What pods use comes first; besides that they come in the order of `diverged`: the newest first, then by name.
/// Of many missing tags it is a part, with all that are used; the others are copied later.
pub fn plan<'a>(input: &Input<'a>, diverged: impl IntoIterator<Item = DivergenceRef<'a>>, now: Timestamp) -> Plan {
    if input.policy.repair.mode == RepairMode::Off {
        return Plan::default();
    }
    let mut plan = Plan::default();
    for to in Side::ALL {
        let count = if writable(input.policy, to) {
            &mut plan.later
        } else {
            &mut plan.left
        };
        *count += input.missing[to];
    }
    let mut found = Vec::<Missing<'_>>::new();
    let mut rules = LatestRule::default();
    let reachable = input.available.both();
    for missing in diverged.into_iter().filter_map(lacking) {
        if !writable(input.policy, missing.to) {
            continue;
        }
        let rule = rules.of(input.policy, missing.repository);
        if missing.is_untrusted || !input.policy.selects(rule, missing.tag) {
            plan.left += 1;
            plan.later = plan.later.saturating_sub(1);
        } else if reachable && (input.attempts.is_empty() || input.attempts.may_try(&missing.errand(), now)) {
            found.push(missing);
        }
    }
    // Divergences come as they are to be copied but for what is used.
    let mut used = LatestUsed::of(input.in_use);
    let (first, then): (Vec<_>, Vec<_>) = found.into_iter().partition(|missing| used.has(missing));
    let most = most_errands(input.policy);
    plan.errands = first.iter().chain(&then).take(most).map(Missing::errand).collect();
    plan.later = plan.later.saturating_sub(plan.errands.len());
    plan
}

/// What one plan holds at most.
pub(super) fn most_errands(policy: &MirrorPolicy) -> usize {
    match policy.repair.mode {
        RepairMode::Copy => MOST_ERRANDS,
        RepairMode::DryRun | RepairMode::Off => MAX_PLANNED,
    }
}

/// Tags of which one side lacks a part that the other has; at most as many as one plan may hold.
pub(super) fn completions<'a>(
    input: &Input<'_>,
    flawed: impl IntoIterator<Item = &'a FlawedContent>,
    now: Timestamp,
) -> Vec<Errand> {
    if input.policy.repair.mode == RepairMode::Off || !input.available.both() {
        return Vec::new();
    }
    let errands = flawed.into_iter().filter_map(|content| {
        // Content that does not have its digest is neither copied nor overwritten.
        let to = Side::ALL
            .into_iter()
            .find(|side| content.has(*side, Flaw::Broken) && content.parts[side.other()].is_none())?;
        let held = &content.held;
        (writable(input.policy, to) && !is_digest(&held.reference)).then(|| Errand {
            repository: held.repository.clone(),
            tag: held.reference.clone(),
            to,
            digest: held.digest.clone(),
            is_broken: true,
        })
    });
    let due = errands.filter(|errand| input.attempts.may_try(errand, now));
    due.take(most_errands(input.policy)).collect()
}

impl Missing<'_> {
    fn errand(&self) -> Errand {
        Errand {
            repository: self.repository.to_owned(),
            tag: self.tag.to_owned(),
            to: self.to,
            digest: self.digest.clone(),
            is_broken: false,
        }
    }
}

/// What is used of the repository that was looked up last: tags of one often follow one another.
struct LatestUsed<'a> {
    in_use: &'a InUse,
    latest: Option<(&'a str, Option<&'a BTreeMap<String, Use>>)>,
}

impl<'a> LatestUsed<'a> {
    fn of(in_use: &'a InUse) -> LatestUsed<'a> {
        LatestUsed { in_use, latest: None }
    }

    /// Whether a tag is used, or what it stands for.
    fn has(&mut self, missing: &Missing<'a>) -> bool {
        let references = match self.latest {
            Some((repository, references)) if repository == missing.repository => references,
            _ => self.in_use.references.get(missing.repository),
        };
        self.latest = Some((missing.repository, references));
        let digest = || missing.digest.to_string();
        references.is_some_and(|used| used.contains_key(missing.tag) || used.contains_key(&digest()))
    }
}

/// The side that lacks the tag and what the other has, for a tag that is missing and nothing else. A digest is copied with the
/// tags that stand for it.
fn lacking(divergence: DivergenceRef<'_>) -> Option<Missing<'_>> {
    if is_digest(divergence.tag) {
        return None;
    }
    let to = divergence.verdict.lacking()?;
    // A side that is said to lack the tag and has a digest for it does not lack it.
    let digest = divergence.digests[to.other()]?;
    divergence.digests[to].is_none().then_some(Missing {
        repository: divergence.repository,
        tag: divergence.tag,
        to,
        digest,
        is_untrusted: divergence.flaws[to.other()] == Some(Flaw::Untrusted),
    })
}

fn writable(policy: &MirrorPolicy, to: Side) -> bool {
    policy.repair.direction.writes(to) && !policy.sides[to].pull_through_cache
}
