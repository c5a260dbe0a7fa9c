//! What the webhook reads of the ledger: the groups of its evidence, which of them changed, and what an earlier leader wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::Ledger;
use super::store::{Slot, is_digest};
use crate::routing::evidence::{Evidence, Group, GroupPlace, Key, Knowledge, MOST_BITS, Presence};
use crate::side::{Side, Sides};

/// When the number of groups changes, in bytes of a group on average.
#[derive(Debug)]
pub(super) struct Sizes {
    pub(super) split_above: usize,
    pub(super) join_below: usize,
}

impl Default for Sizes {
    /// No group of 100,000 tags is above 64 kB, and what was split is not joined again at once.
    fn default() -> Sizes {
        Sizes {
            split_above: 40_000,
            join_below: 10_000,
        }
    }
}

/// How the evidence is divided.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) sizes: Sizes,
    bits: u8,
    /// Buckets that changed.
    dirty: BTreeSet<usize>,
    prior: Option<Prior>,
}

/// What an earlier leader wrote.
#[derive(Debug)]
struct Prior {
    evidence: Evidence,
    bytes: usize,
    /// Tags that are known to be gone from both sides since.
    overruled: BTreeSet<Key>,
}

impl Groups {
    pub(super) fn touch(&mut self, key: Key) {
        self.dirty.insert(key.bucket());
    }

    pub(super) fn touch_all(&mut self) {
        self.dirty = all_buckets().collect();
    }

    /// Touches what an earlier leader wrote of a reference, if it did.
    pub(super) fn touch_prior(&mut self, key: Key) {
        if self.prior.as_ref().is_some_and(|prior| prior.tag(key).is_some()) {
            self.touch(key);
        }
    }

    /// A tag is gone from both sides, whatever an earlier leader knew of it.
    pub(super) fn overrule(&mut self, key: Key) {
        if let Some(prior) = &mut self.prior {
            prior.overruled.insert(key);
            self.dirty.insert(key.bucket());
        }
    }
}

impl Prior {
    fn tag(&self, key: Key) -> Option<Knowledge> {
        self.evidence.tag(key).filter(|_| !self.overruled.contains(&key))
    }

    /// Groups with keys in these buckets.
    fn groups(&self, buckets: Range<usize>) -> impl Iterator<Item = &Group> {
        let groups = self.evidence.groups().iter().map(Arc::as_ref);
        groups.filter(move |group| {
            let there = group.place().buckets();
            there.start < buckets.end && buckets.start < there.end
        })
    }
}

fn all_buckets() -> Range<usize> {
    GroupPlace::default().buckets()
}

impl Ledger {
    /// What is known of a tag or digest, by this ledger and, of sides that it has not read, by what an earlier leader wrote.
    /// A side's last answer counts at once, without a grace period. An absence from a pull-through cache is not knowledge of
    /// a tag: the cache gets it with the next pull.
    pub fn known(&self, repository: &str, reference: &str) -> Knowledge {
        let slot = self.slot(repository, reference);
        if let Some(slot) = slot.filter(|slot| !slot.is_digest()) {
            return self.combined(slot).0;
        }
        let Some(key) = self.key(repository, reference) else {
            return Knowledge::NOTHING;
        };
        if is_digest(reference) {
            return self.known_digest(key, slot);
        }
        let prior = self.groups.prior.as_ref().and_then(|prior| prior.tag(key));
        prior.unwrap_or_default()
    }

    fn known_digest(&self, key: Key, slot: Option<&Slot>) -> Knowledge {
        let by_itself = slot.map_or(Knowledge::NOTHING, |slot| {
            slot.entry.knowledge().with_flaws(self.flaws_of(slot))
        });
        let own = self.known_by_tags(key).merge(by_itself);
        let prior = self.groups.prior.as_ref().and_then(|prior| prior.evidence.digest(key));
        let is_read = |side: Side| own.presence[side] != Presence::Unknown;
        fill(own, is_read, prior.unwrap_or_default()).of_digest()
    }

    /// Which sides are known to have a digest under some tag.
    fn known_by_tags(&self, digest: Key) -> Knowledge {
        let mut known = Knowledge::NOTHING;
        for slot in self.store.standing_for(digest) {
            known = known.merge(standing(slot, digest));
            // Thousands of tags may have one digest.
            if known.is_on_both() {
                break;
            }
        }
        known.with_flaws(self.flawed.of(digest))
    }

    /// What is known of an entry, and the digest that both sides have.
    fn combined(&self, slot: &Slot) -> (Knowledge, Option<Key>) {
        let own = slot.entry.knowledge();
        let content = Side::ALL.into_iter().find_map(|side| slot.entry.content(side));
        let content = content.map(|content| content.key);
        let own = own.with_flaws(self.flaws_of(slot));
        let prior = self.groups.prior.as_ref();
        let Some((prior, known)) = prior.and_then(|prior| Some((prior, prior.tag(slot.key)?))) else {
            return (own, content);
        };
        let by_tags = if slot.is_digest() {
            self.known_by_tags(slot.key)
        } else {
            Knowledge::NOTHING
        };
        let is_read = |side: Side| slot.entry.is_read(side) || by_tags.presence[side] != Presence::Unknown;
        let filled = fill(own, is_read, known);
        if own.is_on_both() || !filled.is_on_both() {
            return (filled, content);
        }
        // One side by this ledger, the other by the prior: one digest only if it is the one that the prior knew.
        let same = content.is_some_and(|content| known.same && prior.evidence.stands_for(slot.key, content));
        let same = same || slot.is_digest();
        (Knowledge { same, ..filled }, content)
    }

    /// The places whose groups changed since they were last taken. They have to be written again, or removed if they are not
    /// among [`Ledger::groups`]. A changed division changes all. Records may be what they were, and then
    /// [`Group::revision`] is, too.
    pub fn take_dirty_groups(&mut self) -> Vec<GroupPlace> {
        self.divide();
        let bits = self.groups.bits;
        let dirty = std::mem::take(&mut self.groups.dirty);
        let mut places: Vec<GroupPlace> = dirty
            .into_iter()
            .map(|bucket| GroupPlace::of_bucket(bucket, bits))
            .collect();
        places.dedup();
        places
    }

    /// The places of all groups that there are to be, in their order. None when nothing is known.
    pub fn groups(&self) -> Vec<GroupPlace> {
        let bits = self.groups.bits;
        let places = (0..1 << bits).map(|index| GroupPlace { bits, index });
        places.filter(|place| self.has_records(*place)).collect()
    }

    fn has_records(&self, place: GroupPlace) -> bool {
        let buckets = place.buckets();
        let prior = self.groups.prior.as_ref();
        self.store
            .starting_at(Key::first_of(buckets.start))
            .next()
            .is_some_and(|slot| buckets.contains(&slot.key.bucket()))
            || prior.is_some_and(|prior| prior.groups(buckets).any(|group| !group.is_empty()))
    }

    /// The records of one group.
    pub fn group(&self, place: GroupPlace) -> Group {
        let mut group = Group::builder(place);
        let mut own = Vec::new();
        let buckets = place.buckets();
        let slots = self.store.starting_at(Key::first_of(buckets.start));
        for slot in slots.take_while(|slot| buckets.contains(&slot.key.bucket())) {
            let (knowledge, content) = self.combined(slot);
            own.push(slot.key);
            group.tag(slot.key, knowledge, content);
            if !slot.is_digest() {
                let keys = slot.entry.content_keys();
                for key in Side::ALL.into_iter().filter_map(|side| keys[side]) {
                    group.digest(key, standing(slot, key).with_flaws(self.flawed.of(key)));
                }
            }
        }
        let Some(prior) = &self.groups.prior else {
            return group.build();
        };
        for there in prior.groups(buckets.clone()) {
            // Own entries come in the order of keys.
            let others = there.tags().filter(|record| own.binary_search(&record.key).is_err());
            for record in others.filter(|record| !prior.overruled.contains(&record.key)) {
                group.record(record.with(self.corrected(record.key, record.knowledge)));
            }
            // A group that has become several leaves its digests to the first of them.
            if buckets.contains(&there.place().buckets().start) {
                there.digests().for_each(|(key, knowledge)| {
                    group.digest(key, knowledge);
                });
            }
        }
        group.build()
    }

    /// What an earlier leader knew of something that this ledger has no entry of. It may be a digest that was absent then,
    /// and that a tag was found with since.
    fn corrected(&self, key: Key, known: Knowledge) -> Knowledge {
        if Side::ALL.iter().all(|side| known.presence[*side] != Presence::Absent) {
            return known;
        }
        let own = self.known_by_tags(key);
        let corrected = fill(own, |side| own.presence[side] != Presence::Unknown, known);
        if own == Knowledge::NOTHING {
            known
        } else {
            corrected.of_digest()
        }
    }

    /// All groups at once, as the webhook sees them when they are written. Walks over all entries.
    pub fn evidence(&self) -> Evidence {
        let groups = self.groups().into_iter().map(|place| Arc::new(self.group(place)));
        groups.fold(Evidence::default(), |evidence, group| evidence.with(group))
    }

    /// Takes in what an earlier leader wrote. It stands in for sides that this ledger has not read, until
    /// [`Ledger::drop_prior`]: two sides then have one digest only if the one that was read still has the digest that both
    /// had. Records of references that this ledger does not mention stay in their groups.
    pub fn seed(&mut self, prior: Evidence) {
        let mut sizes = BTreeMap::<u8, usize>::new();
        for group in prior.groups() {
            *sizes.entry(group.place().bits).or_default() += group.size();
        }
        // Of two divisions the finer is the newer, or will be reached again soon.
        let before = self.groups.bits;
        self.groups.bits = sizes.last_key_value().map_or(before, |(bits, _)| *bits);
        let bytes = sizes.values().copied().max().unwrap_or_default();
        // What is stored is what there is to be, unless it was being divided anew.
        if sizes.len() > 1 || (self.groups.bits != before && self.tally.bytes() > 0) {
            self.groups.touch_all();
        }
        self.seed_flaws(&prior);
        self.groups.prior = Some(Prior {
            evidence: prior,
            bytes,
            overruled: BTreeSet::new(),
        });
    }

    /// Whether what an earlier leader wrote stands in for what was not read yet.
    pub(super) fn has_prior(&self) -> bool {
        self.groups.prior.is_some()
    }

    /// Forgets what an earlier leader wrote: a pass has read both sides.
    pub fn drop_prior(&mut self) {
        if self.groups.prior.take().is_some() {
            self.groups.touch_all();
        }
    }

    /// Chooses how many groups there are.
    fn divide(&mut self) {
        let prior = self.groups.prior.as_ref().map_or(0, |prior| prior.bytes);
        let bytes = self.tally.bytes().max(prior);
        let mut bits = self.groups.bits;
        while bits < MOST_BITS && bytes >> bits > self.groups.sizes.split_above {
            bits += 1;
        }
        while bits > 0 && bytes >> bits < self.groups.sizes.join_below {
            bits -= 1;
        }
        if bits != self.groups.bits {
            self.groups.bits = bits;
            self.groups.touch_all();
        }
    }
}

/// Which sides have a digest under this entry's tag.
fn standing(slot: &Slot, digest: Key) -> Knowledge {
    let presence = Sides::from_fn(|side| match slot.entry.content(side) {
        Some(content) if content.key == digest => Presence::Present,
        _ => Presence::Unknown,
    });
    Knowledge {
        presence,
        ..Knowledge::NOTHING
    }
    .of_digest()
}

/// What this ledger knows, and of the sides that it has not read what was known before.
fn fill(own: Knowledge, is_read: impl Fn(Side) -> bool, prior: Knowledge) -> Knowledge {
    let presence = Sides::from_fn(|side| {
        if is_read(side) {
            own.presence[side]
        } else {
            prior.presence[side]
        }
    });
    let flaws = Sides::from_fn(|side| {
        if is_read(side) {
            own.flaws[side]
        } else {
            prior.flaws[side]
        }
    });
    Knowledge {
        presence,
        same: own.same,
        flaws: Sides::default(),
    }
    .with_flaws(flaws)
}
