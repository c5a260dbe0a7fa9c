//! Whether the primary holds what pods will ask it for, so that going back is safe.
//!
//! Each reference in use must be present on the primary with the digest that the fallback has. References that neither side has,
//! that belong to pods which never started, or that no rule would send to the primary, don't count. A mismatch may be let through
//! by `failback.onMismatch: Proceed`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::event::ReferenceName;
use super::in_use::InUse;
use super::parity::{Ledger, Observed};
use crate::digest::Digest;
use crate::policy::{MirrorPolicy, OnMismatch};
use crate::routing::evidence::Flaw;
use crate::side::{Side, Sides};

mod check;
#[cfg(test)]
mod tests;

pub(super) use check::FailbackCheck;

/// Blockers that are named at most; the total is exact.
pub const MAX_BLOCKERS: usize = 10;

/// One reference in use that holds a failback up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The repository's name in status.
    pub repository: String,
    /// A tag or digest.
    pub reference: String,
    /// Why.
    pub reason: BlockReason,
    /// What each side has, as far as it is known.
    pub digests: Sides<Option<Digest>>,
}

/// Why a reference holds a failback up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockReason {
    /// The primary lacks it, and the fallback has it.
    MissingOnPrimary,
    /// The sides hold different content.
    DigestMismatch,
    /// A manifest, a config or a layer of it is missing on the primary, and the fallback has all of it.
    BrokenOnPrimary,
    /// What the primary serves for it does not have its digest, and what the fallback serves has.
    UntrustedOnPrimary,
    /// It could not be read on the primary, or not be compared.
    NotRead,
}

impl BlockReason {
    /// The word in status.
    pub fn as_str(self) -> &'static str {
        match self {
            BlockReason::MissingOnPrimary => "MissingOnPrimary",
            BlockReason::DigestMismatch => "DigestMismatch",
            BlockReason::BrokenOnPrimary => "BrokenOnPrimary",
            BlockReason::UntrustedOnPrimary => "UntrustedOnPrimary",
            BlockReason::NotRead => "NotRead",
        }
    }
}

/// What holds a failback up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blockers {
    /// How many references do.
    pub total: usize,
    /// References that were checked.
    pub checked: usize,
    /// The first of them by name, at most [`MAX_BLOCKERS`].
    pub sample: Vec<Blocker>,
}

/// The references that must be on the primary before pods go back to it, by repository.
pub(super) fn needed<'a>(policy: &'a MirrorPolicy, in_use: &'a InUse) -> impl Iterator<Item = (&'a str, &'a str)> {
    in_use.references.iter().flat_map(move |(repository, references)| {
        let rule = policy.rule(repository);
        references.iter().filter_map(move |(reference, usage)| {
            let counts = (usage.started || usage.template)
                && usage.needed_on.primary
                && (is_digest(reference) || policy.selects(rule, reference));
            counts.then_some((repository.as_str(), reference.as_str()))
        })
    })
}

/// What was read for a failback.
pub(super) struct Known<'a> {
    pub(super) ledger: &'a Ledger,
    /// When it must have been read to count.
    pub(super) read: RangeInclusive<Timestamp>,
    /// References that neither side has.
    pub(super) nowhere: &'a BTreeSet<ReferenceName>,
}

impl Known<'_> {
    fn seen(&self, repository: &str, reference: &str) -> Sides<Observed> {
        let name = || ReferenceName {
            repository: repository.to_owned(),
            reference: reference.to_owned(),
        };
        if !self.nowhere.is_empty() && self.nowhere.contains(&name()) {
            return Sides::from_fn(|_| Observed::Absent);
        }
        within(&self.read, self.ledger.observations(repository, reference))
    }
}

/// What counts of what each side said last: what was read in this time. What was read later than now, was read before the clock was
/// set back, and may be of any age.
fn within(read: &RangeInclusive<Timestamp>, observations: Sides<Option<(Observed, Timestamp)>>) -> Sides<Observed> {
    observations.map(|seen| match seen {
        Some((seen, at)) if read.contains(&at) => seen,
        _ => Observed::Unknown,
    })
}

/// What holds a failback up, by what is known.
pub(super) fn blockers(policy: &MirrorPolicy, in_use: &InUse, known: &Known<'_>) -> Blockers {
    let mut blockers = Blockers::default();
    for (repository, reference) in needed(policy, in_use) {
        let flaw = known.ledger.flaw_only_on(Side::Primary, repository, reference);
        blockers.check(policy, (repository, reference), known.seen(repository, reference), flaw);
    }
    blockers
}

impl Blockers {
    /// Judges one more reference.
    fn check(
        &mut self,
        policy: &MirrorPolicy,
        (repository, reference): (&str, &str),
        seen: Sides<Observed>,
        flaw: Option<Flaw>,
    ) {
        self.checked += 1;
        let flawed = flaw.map(|flaw| match flaw {
            Flaw::Broken => BlockReason::BrokenOnPrimary,
            Flaw::Untrusted => BlockReason::UntrustedOnPrimary,
        });
        let Some(reason) = judge(policy, is_digest(reference), &seen).or(flawed) else {
            return;
        };
        self.total += 1;
        if self.sample.len() < MAX_BLOCKERS {
            self.sample.push(Blocker {
                repository: repository.to_owned(),
                reference: reference.to_owned(),
                reason,
                digests: seen.map(|seen| match seen {
                    Observed::Present(digest) => Some(digest),
                    Observed::Absent | Observed::Unknown => None,
                }),
            });
        }
    }
}

fn judge(policy: &MirrorPolicy, by_digest: bool, seen: &Sides<Observed>) -> Option<BlockReason> {
    let proceeds = policy.failover.on_mismatch == OnMismatch::Proceed;
    match (&seen[Side::Primary], &seen[Side::Fallback]) {
        (Observed::Present(_), _) if by_digest || proceeds => None,
        (Observed::Present(primary), Observed::Present(fallback)) if primary == fallback => None,
        (Observed::Present(_), Observed::Present(_)) => Some(BlockReason::DigestMismatch),
        // Pods can't get it where they are sent now, so nothing gets worse.
        (_, Observed::Absent) => None,
        // A pull by tag fills the cache.
        (Observed::Absent, Observed::Present(_)) if policy.sides.primary.pull_through_cache && !by_digest => None,
        (Observed::Absent, Observed::Present(_)) => Some(BlockReason::MissingOnPrimary),
        // What pods run from the fallback can't be compared, or the primary did not answer.
        (Observed::Present(_) | Observed::Absent, Observed::Unknown) | (Observed::Unknown, _) => {
            Some(BlockReason::NotRead)
        }
    }
}

/// Whether a reference is a digest: tags have no colon.
pub(super) fn is_digest(reference: &str) -> bool {
    reference.contains(':')
}
