//! Which manifest both sides are probed with.
//!
//! The one that the spec names while it is in sync; else one that is in use, the last one while it still is; else the tag that came in
//! sync last. Where much is in use, one search looks at a part of it. A canary that a side turned out to lack, or not to serve, is
//! put aside for another. With nothing in sync the last one stays, because that it is gone from one side is what there is to report;
//! one that neither side has, whose tag has moved on, or that is not verified any more, says nothing, and none is probed with.

use super::event::ReferenceName;
use super::failback::is_digest;
use super::in_use::InUse;
use super::parity::{Canary, Ledger, Observed, Verdict};
use crate::policy::MirrorPolicy;
use crate::routing::mapping::LatestRule;
use crate::side::{Side, Sides};

/// Canaries that are put aside at most; the oldest is tried again.
const MOST_REFUSED: usize = 16;

/// Canaries besides the current one: a repository or a blob host that fails alone is seen within a minute.
const MOST_OTHERS: usize = 7;

/// References in use among which one search looks for a tag in sync, so that no step takes long; the next search goes on after
/// them.
const MOST_LOOKED_AT: usize = 250;

/// The canary in use, and those put aside.
#[derive(Clone, Debug, Default)]
pub(super) struct CanaryChoice {
    current: Option<Canary>,
    /// Sides that were found to lack the current one.
    lacking: Sides<bool>,
    refused: Vec<Canary>,
    /// Of other repositories than the current one, at most [`MOST_OTHERS`].
    others: Vec<Canary>,
    /// Where the search for one that is in use goes on.
    look_at: Option<ReferenceName>,
}

impl CanaryChoice {
    /// What is probed with.
    pub(super) fn current(&self) -> Option<&Canary> {
        self.current.as_ref()
    }

    /// What is probed with in turn: the current one first, then some of other repositories in use.
    pub(super) fn probed(&self) -> impl Iterator<Item = &Canary> {
        self.current.iter().chain(&self.others)
    }

    /// Probes with what the leader probes with.
    pub(super) fn follow(&mut self, canary: &Canary) {
        self.set(Some(canary.clone()));
    }

    fn set(&mut self, canary: Option<Canary>) {
        if self.current != canary {
            self.current = canary;
            self.lacking = Sides::default();
            let current = self.current.as_ref().map(|current| &current.repository);
            self.others
                .retain(|other| current.is_some_and(|current| *current != other.repository));
        }
    }

    /// A side has it.
    pub(super) fn found(&mut self, canary: &Canary, side: Side) {
        if self.current.as_ref() == Some(canary) {
            self.lacking[side] = false;
        }
    }

    /// A side lacks it, or does not serve it: another one is taken, if there is one. Whether something changed.
    pub(super) fn refuse(
        &mut self,
        canary: &Canary,
        side: Side,
        policy: &MirrorPolicy,
        ledger: &Ledger,
        in_use: &InUse,
    ) -> bool {
        if self.current.as_ref() != Some(canary) {
            return false;
        }
        self.lacking[side] = true;
        if !self.refused.contains(canary) {
            if self.refused.len() >= MOST_REFUSED {
                self.refused.remove(0);
            }
            self.refused.push(canary.clone());
        }
        let other = self
            .used(policy, ledger, in_use)
            .or_else(|| ledger.canary_excluding(&self.refused));
        let changed = other.is_some() || self.lacking.primary && self.lacking.fallback;
        if changed {
            self.set(other);
        }
        changed
    }

    /// The first tag in use that is in sync, and not refused: what pods pull tells most about what they can.
    fn used(&mut self, policy: &MirrorPolicy, ledger: &Ledger, in_use: &InUse) -> Option<Canary> {
        let mut rules = LatestRule::default();
        let from = self.look_at.take();
        let mut references = in_use.starting_at(from.as_ref());
        for (repository, tag) in references.by_ref().take(MOST_LOOKED_AT) {
            let Some(digest) = ledger.digest(repository, tag).filter(|_| !is_digest(tag)) else {
                continue;
            };
            let canary = Canary {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                digest,
            };
            if policy.selects(rules.of(policy, repository), tag) && !self.refused.contains(&canary) {
                return Some(canary);
            }
        }
        self.look_at = references.next().map(|(repository, reference)| ReferenceName {
            repository: repository.to_owned(),
            reference: reference.to_owned(),
        });
        None
    }

    /// Chooses by what is known now; after each pass, and when the first tag is known. `complete`: all that is verified is known.
    pub(super) fn choose(&mut self, policy: &MirrorPolicy, ledger: &Ledger, in_use: &InUse, complete: bool) {
        self.choose_current(policy, ledger, in_use, complete);
        self.others = self.others(policy, ledger, in_use);
    }

    /// One tag in use and in sync of each of some repositories: those of the last time first.
    fn others(&self, policy: &MirrorPolicy, ledger: &Ledger, in_use: &InUse) -> Vec<Canary> {
        let Some(current) = &self.current else {
            return Vec::new();
        };
        let canary = |repository: &str, tag: &str| {
            let digest = ledger.digest(repository, tag).filter(|_| !is_digest(tag))?;
            policy.selects_tag(repository, tag).then(|| Canary {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                digest,
            })
        };
        let last = self
            .others
            .iter()
            .map(|other| (other.repository.as_str(), other.tag.as_str()));
        let used = in_use.starting_at(None).take(MOST_LOOKED_AT);
        let mut others: Vec<Canary> = Vec::new();
        for (repository, tag) in last
            .filter(|(repository, tag)| in_use.contains(repository, tag))
            .chain(used)
        {
            let taken = repository == current.repository || others.iter().any(|other| other.repository == repository);
            if taken {
                continue;
            }
            others.extend(canary(repository, tag));
            if others.len() >= MOST_OTHERS {
                break;
            }
        }
        others
    }

    fn choose_current(&mut self, policy: &MirrorPolicy, ledger: &Ledger, in_use: &InUse, complete: bool) {
        if let Some((repository, tag)) = &policy.health.canary
            && let Some(digest) = ledger.digest(repository, tag)
        {
            return self.set(Some(Canary {
                repository: repository.clone(),
                tag: tag.clone(),
                digest,
            }));
        }
        let still = |canary: &Canary| {
            policy.selects_tag(&canary.repository, &canary.tag)
                && ledger.verdict(&canary.repository, &canary.tag) == Some(Verdict::InSync)
                && ledger.digest(&canary.repository, &canary.tag).as_ref() == Some(&canary.digest)
        };
        let current = self.current.as_ref();
        let kept = current.filter(|current| still(current) && !self.refused.contains(current));
        if kept.is_some_and(|kept| in_use.contains(&kept.repository, &kept.tag)) {
            return;
        }
        let is_kept = kept.is_some();
        if let Some(used) = self.used(policy, ledger, in_use) {
            return self.set(Some(used));
        }
        if is_kept {
            return;
        }
        let refused = std::mem::take(&mut self.refused);
        let tells = |last: &Canary| {
            let (repository, tag) = (last.repository.as_str(), last.tag.as_str());
            let moved = |side: Side| {
                let observation = ledger.observation(repository, tag, side);
                matches!(observation, Some((Observed::Present(digest), _)) if digest != last.digest)
            };
            let known = ledger.verdict(repository, tag).is_some() && !Side::ALL.into_iter().any(moved);
            policy.selects_tag(repository, tag) && (!complete || known)
        };
        let last = self.current.clone().filter(tells);
        self.set(ledger.canary_excluding(&refused).or_else(|| ledger.canary()).or(last));
    }

    /// The spec has changed: a canary that is not verified any more, or lies elsewhere now, is not probed with.
    pub(super) fn keep(&mut self, stays: impl Fn(&Canary) -> bool) {
        self.others.retain(&stays);
        if !self.current.as_ref().is_none_or(&stays) {
            self.forget();
        }
    }

    /// Nothing that was probed with counts.
    pub(super) fn forget(&mut self) {
        *self = CanaryChoice::default();
    }
}

#[cfg(test)]
mod tests;
