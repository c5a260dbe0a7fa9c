//! The tags that one side lacks.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::store::{Slot, is_digest};
use super::{DivergenceRef, Ledger};
use crate::mirror::in_use::InUse;
use crate::side::Sides;

/// Tags that are found of one digest in use: thousands may have it.
const MOST_OF_A_DIGEST: usize = 100;

/// So many missing tags are looked at sooner than everything that is in use.
const FEW: usize = 1500;

impl Ledger {
    /// Tags that are confirmed to be missing, by the side that lacks them. Digests are not counted.
    pub fn missing(&self) -> Sides<usize> {
        self.tally.missing()
    }

    /// Divergences, the newest first, then by name: none where no tag is missing, else all of them, or, where more than `most` tags
    /// and more than a few are missing, so many that are missing and before them those that are in use. Borrowed.
    pub(in crate::mirror) fn some_missing(&self, in_use: &InUse, most: usize) -> Vec<DivergenceRef<'_>> {
        self.missing_or(in_use, most, FEW)
    }

    /// The same, with what a few are.
    pub(super) fn missing_or(&self, in_use: &InUse, most: usize, few: usize) -> Vec<DivergenceRef<'_>> {
        let missing = self.tally.missing();
        if missing == Sides::default() {
            return Vec::new();
        }
        if missing.primary + missing.fallback <= most.max(few) {
            return self
                .divergences_of(&self.diverged_slots().collect::<Vec<_>>())
                .collect();
        }
        let mut some = self.missing_in_use(in_use);
        let used: BTreeSet<(&str, &str)> = some.iter().map(|one| (one.repository, one.tag)).collect();
        let mut left = self.diverged_slots();
        let most = some.len() + most;
        while some.len() < most {
            let slots: Vec<(&str, &Slot)> = left.by_ref().take(most - some.len()).collect();
            if slots.is_empty() {
                break;
            }
            let missing = self.divergences_of(&slots).filter(is_missing_tag);
            some.extend(missing.filter(|one| used.is_empty() || !used.contains(&(one.repository, one.tag))));
        }
        some
    }

    fn missing_in_use(&self, in_use: &InUse) -> Vec<DivergenceRef<'_>> {
        let mut slots = Vec::new();
        for (repository, reference, _) in in_use.each() {
            if !is_digest(reference) {
                slots.extend(self.slot(repository, reference));
            } else if let Some(key) = self.key(repository, reference) {
                slots.extend(self.store.standing_for(key).take(MOST_OF_A_DIGEST));
            }
        }
        let named = slots.into_iter().filter_map(|slot| {
            let repository = self.store.repository_of(slot.repository)?;
            Some((&*repository.name, slot))
        });
        let named: Vec<(&str, &Slot)> = named.collect();
        let mut found: Vec<_> = self.divergences_of(&named).filter(is_missing_tag).collect();
        found.sort_by_key(|one| (Reverse(one.since), one.repository, one.tag));
        found.dedup_by_key(|one| (one.repository, one.tag));
        found
    }

    /// What diverges of these entries. They were looked up in a loop of its own: they lie far apart in memory, and a short loop waits
    /// for many of them at a time.
    fn divergences_of<'l>(&'l self, slots: &[(&'l str, &'l Slot)]) -> impl Iterator<Item = DivergenceRef<'l>> {
        let divergence = |(repository, slot): &(&'l str, &'l Slot)| self.divergence_of(repository, slot);
        slots.iter().filter_map(divergence)
    }
}

fn is_missing_tag(divergence: &DivergenceRef<'_>) -> bool {
    divergence.verdict.lacking().is_some() && !is_digest(divergence.tag)
}
