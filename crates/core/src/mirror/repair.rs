//! Which tags are copied from the side that has them to the side that lacks them.
//!
//! Only what is confirmed to be missing is copied ([`crate::mirror::parity`]), never what differs: which of two digests is the right
//! one, no program can know. Nothing is deleted, a pull-through cache is never written (it fills itself), and neither is a
//! side that [`crate::policy::RepairPolicy::direction`] leaves out. Between two sides of which one does not answer, nothing
//! is copied at all.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::mirror::failback::is_digest;
use crate::mirror::in_use::InUse;
use crate::mirror::parity::{Divergence, Verdict};
use crate::policy::{MirrorPolicy, RepairMode};
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

/// One tag to be copied.
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
}

/// What is to be done after a pass. Every confirmed missing tag is in exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is copied now, in this order; at most [`MOST_ERRANDS`].
    pub errands: Vec<Errand>,
    /// Tags that are copied later: beyond the cap, tried in vain a short time ago, or with a side that does not answer.
    pub later: usize,
    /// Tags that are not copied at all: their side is not written.
    pub left: usize,
}

/// Plans the copies. What pods use comes first; besides that they come in the order of `diverged`: the newest first, then by name.
pub fn plan(input: &Input<'_>, diverged: impl Iterator<Item = Divergence>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if input.policy.repair.mode == RepairMode::Off {
        return plan;
    }
    let mut found = Vec::<Errand>::new();
    let mut rules = LatestRule::default();
    for divergence in diverged {
        let Some((to, digest)) = lacking(&divergence) else {
            continue;
        };
        let rule = rules.of(input.policy, &divergence.repository);
        let selected = input.policy.selects(rule, &divergence.tag);
        if !selected || !writable(input.policy, to) {
            plan.left += 1;
            continue;
        }
        let errand = Errand {
            repository: divergence.repository,
            tag: divergence.tag,
            to,
            digest,
        };
        let reachable = input.available.primary && input.available.fallback;
        if reachable && input.attempts.may_try(&errand, now) {
            found.push(errand);
        } else {
            plan.later += 1;
        }
    }
    let used = |errand: &Errand| {
        let references = input.in_use.references.get(&errand.repository);
        references.is_some_and(|used| used.contains_key(&errand.tag) || used.contains_key(&errand.digest.to_string()))
    };
    // Divergences come as they are to be copied but for that.
    found.sort_by_cached_key(|errand| !used(errand));
    plan.later += found.len().saturating_sub(MOST_ERRANDS);
    found.truncate(MOST_ERRANDS);
    plan.errands = found;
    plan
}

/// The side that lacks the tag and what the other has, for a tag that is missing and nothing else. A digest is copied with the
/// tags that stand for it.
fn lacking(divergence: &Divergence) -> Option<(Side, Digest)> {
    if is_digest(&divergence.tag) {
        return None;
    }
    let to = match divergence.verdict {
        Verdict::MissingOnPrimary => Side::Primary,
        Verdict::MissingOnFallback => Side::Fallback,
        Verdict::InSync | Verdict::Mismatched | Verdict::Pending => return None,
    };
    // A side that is said to lack the tag and has a digest for it does not lack it.
    let digest = divergence.digests[to.other()].clone()?;
    divergence.digests[to].is_none().then_some((to, digest))
}

fn writable(policy: &MirrorPolicy, to: Side) -> bool {
    policy.repair.direction.writes(to) && !policy.sides[to].pull_through_cache
}
