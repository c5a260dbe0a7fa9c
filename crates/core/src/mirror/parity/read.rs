//! What the ledger says.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::entry::{Class, Entry};
use super::store::{Slot, is_digest};
use super::tally::instant;
use super::{Canary, Divergence, DivergenceRef, Ledger, Observed, Rules, Summary, Verdict};
use crate::digest::Digest;
use crate::routing::evidence::Flaw;
use crate::side::{Side, Sides};

impl Ledger {
    /// Whether the digests of this tag must be read in a pass at `now`, where the listing did not bring them. A tag that
    /// is not settled is due in every pass; a settled one at an instant of its own in a cycle of seven eighths of
    /// [`Rules::settled`], so that each is read in time even if passes are an eighth apart, and a pass that finds
    /// nothing changed reads only its share.
    pub fn due(&self, repository: &str, reference: &str, now: Timestamp, rules: &Rules) -> bool {
        self.slot(repository, reference).is_none_or(|slot| {
            // Bits of a hash that do not choose the group.
            let phase = slot.key.number() as u32;
            slot.entry.due(phase, now, rules)
        })
    }

    /// What is known of a tag or digest; none for one that was never seen. What a cache lacks is pending: not verified.
    pub fn verdict(&self, repository: &str, reference: &str) -> Option<Verdict> {
        let class = self.slot(repository, reference)?.entry.class();
        Some(verdict_of(class))
    }

    /// Whether a tag is known to be absent from a pull-through cache.
    pub fn is_not_cached(&self, repository: &str, reference: &str) -> bool {
        let slot = self.slot(repository, reference);
        slot.is_some_and(|slot| slot.entry.class() == Class::NotCached)
    }

    /// The digest of a tag that is in sync.
    pub fn digest(&self, repository: &str, reference: &str) -> Option<Digest> {
        let entry = &self.slot(repository, reference)?.entry;
        let content = entry.content(Side::Primary).filter(|_| entry.is_same())?;
        Some(content.digest.clone())
    }

    /// What a side said last of a tag or digest, and when; none if it was never read. Of a digest that was not asked for
    /// itself: what the last look at a tag with it says, of all
    /// such tags.
    pub fn observation(&self, repository: &str, reference: &str, side: Side) -> Option<(Observed, Timestamp)> {
        self.observation_of(self.slot(repository, reference), (repository, reference), side)
    }

    /// The same of both sides, for little more than one costs.
    pub fn observations(&self, repository: &str, reference: &str) -> Sides<Option<(Observed, Timestamp)>> {
        let slot = self.slot(repository, reference);
        Sides::from_fn(|side| self.observation_of(slot, (repository, reference), side))
    }

    fn observation_of(
        &self,
        slot: Option<&Slot>,
        (repository, reference): (&str, &str),
        side: Side,
    ) -> Option<(Observed, Timestamp)> {
        let own = slot.and_then(|slot| slot.entry.observation(side));
        let by_tags = own.is_none() && is_digest(reference);
        let key = by_tags.then(|| self.key(repository, reference)).flatten();
        let tags = key.into_iter().flat_map(|key| {
            let tags = self.store.standing_for(key);
            let of_side = tags.filter(move |slot| slot.entry.content(side).is_some_and(|content| content.key == key));
            of_side.filter_map(|slot| slot.entry.observation(side))
        });
        let newest = tags.max_by_key(|(_, second)| *second);
        own.or(newest).map(|(seen, second)| (seen, instant(second)))
    }

    /// How many tags and digests a side is known to have.
    pub fn present(&self, side: Side) -> usize {
        self.tally.present(side)
    }

    /// Counts over all tags and digests.
    pub fn summary(&self) -> Summary {
        Summary {
            broken: self.count_flawed(Flaw::Broken),
            untrusted: self.count_flawed(Flaw::Untrusted),
            ..self.tally.summary()
        }
    }

    /// At most `limit` confirmed divergences, the newest first, then by name.
    pub fn divergences(&self, limit: usize) -> Vec<Divergence> {
        self.diverged().take(limit).collect()
    }

    /// Every confirmed divergence, the newest first, then by name; made one at a time, because there may be many.
    pub fn diverged(&self) -> impl Iterator<Item = Divergence> + '_ {
        let slots = self.diverged_slots();
        slots.filter_map(|(repository, slot)| Some(self.divergence_of(repository, slot)?.to_owned()))
    }

    pub(super) fn divergence_of<'a>(&self, repository: &'a str, slot: &'a Slot) -> Option<DivergenceRef<'a>> {
        let entry: &Entry = &slot.entry;
        Some(DivergenceRef {
            repository,
            tag: &slot.reference,
            verdict: verdict_of(entry.class()),
            digests: entry.digests(),
            flaws: self.flaws_of(slot),
            since: instant(entry.diverged_since()?),
        })
    }

    pub(super) fn diverged_slots(&self) -> impl Iterator<Item = (&str, &Slot)> {
        let diverged = self.tally.diverged();
        diverged.filter_map(|(repository, _, id)| Some((repository, self.store.slot(id)?)))
    }

    /// Tags and digests to be looked at again, by name: never read on both sides in one look, or different and not confirmed.
    /// Walks over all entries.
    pub fn pending(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_pending = |slot: &Slot| slot.entry.class() == Class::Verdict(Verdict::Pending);
        self.store.repositories().flat_map(move |repository| {
            let entries = self.store.entries(repository).map(|(_, slot)| slot);
            let pending = entries.filter(move |slot| is_pending(slot));
            pending.map(|slot| (&*repository.name, &*slot.reference))
        })
    }

    /// When the next look can confirm a difference: the earliest end of a grace period, `now` if one is over. Those of which
    /// the last look could not read both sides wait for a look that can.
    pub fn next_confirmation(&self, now: Timestamp) -> Option<Timestamp> {
        self.tally.next_confirmation().map(|at| at.max(now))
    }

    /// The newest tag that came in sync, with a SHA-256 digest if there is one: what pods are most likely to ask for next.
    pub fn canary(&self) -> Option<Canary> {
        self.canary_excluding(&[])
    }

    /// The same, but none of `excluded`: those that turned out to be gone.
    pub fn canary_excluding(&self, excluded: &[Canary]) -> Option<Canary> {
        let excluded: BTreeSet<&Canary> = excluded.iter().collect();
        let canaries = self.tally.canaries().filter_map(|id| {
            let slot = self.store.slot(id)?;
            Some(Canary {
                repository: self.store.repository_of(slot.repository)?.name.as_ref().to_owned(),
                tag: slot.reference.as_ref().to_owned(),
                digest: slot.entry.content(Side::Primary)?.digest.clone(),
            })
        });
        canaries.into_iter().find(|canary| !excluded.contains(canary))
    }
}

impl DivergenceRef<'_> {
    fn to_owned(self) -> Divergence {
        Divergence {
            repository: self.repository.to_owned(),
            tag: self.tag.to_owned(),
            verdict: self.verdict,
            digests: self.digests.map(Option::<&Digest>::cloned),
            since: self.since,
        }
    }
}

fn verdict_of(class: Class) -> Verdict {
    match class {
        Class::Verdict(verdict) => verdict,
        Class::NotCached | Class::Nowhere => Verdict::Pending,
    }
}
