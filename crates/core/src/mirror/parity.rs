//! What was seen of each tag and digest: the ledger of one mirror, which all its reads are recorded in.
//!
//! An entry is a tag, or a digest that pods ask for by itself. Of each side it holds what that side said last and when. Two
//! things are made of it:
//!
//! - [`Knowledge`](crate::routing::evidence::Knowledge), for routing: what each side said last, at once. It is written as
//!   [groups](crate::routing::evidence::Group), of which [`Ledger::take_dirty_groups`] names those that changed.
//! - [`Verdict`], for people and repair. Equal digests in one look: in sync; equal in two looks: *settled*, re-read in rotation
//!   where a listing brings no digests ([`Ledger::due`]). Different: pending until it has been seen twice and for
//!   [`Rules::grace`], because a push to two registries is not atomic and listings lag. It stays the same difference as long as
//!   one of the sides did not move; when both moved, they may have been equal in between, so the clock starts again.
//!
//! A side that could not be read changes nothing that is known of it; the other side's answer is taken in, and if it contradicts
//! that the tag is in sync, the verdict is pending. A tag that is absent on both sides in one look is forgotten. A digest stays:
//! pods ask for it, and that it is nowhere is worth knowing.
//!
//! Against a pull-through cache ([`Rules::subset`]) a tag that the cache lacks is *not cached*: neither a divergence nor in sync.
//!
//! Recording and reading cost O(log n), so that nothing here keeps its caller waiting for a walk over 100,000 tags; what walks
//! says so. A tag in sync takes less than 200 bytes, everything included.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::policy::MirrorPolicy;
use crate::routing::evidence::{Flaws, Key, RepositoryKeys};
use crate::side::{Side, Sides};

mod compare;
mod entry;
pub mod explain;
mod flaws;
mod forget;
mod groups;
mod look;
mod missing;
mod order;
mod read;
mod store;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;

pub use compare::{Difference, DifferenceKind, compare};
use flaws::FlawedDigests;
pub use flaws::Held;
use groups::Groups;
use look::Look;
use store::{Id, Slot, Store, is_digest};
use tally::{Share, Tally};
pub use verdict::Verdict;

/// The most references that no side is known to have: digests that pods ask for in vain, and tags that one side lacks while the
/// other can't be read. More are not recorded.
pub const MOST_NOWHERE: usize = 10_000;

/// What one look saw of one tag or digest on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It is there, with this digest.
    Present(Digest),
    /// The registry itself said that it does not have it.
    Absent,
    /// Nothing was learnt: not asked, or no usable answer.
    Unknown,
}

/// How looks become verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a difference must last before it is called a divergence.
    pub grace: Duration,
    /// The longest time between two reads of a settled tag.
    pub settled: Duration,
    /// The side that is a pull-through cache, if one is.
    pub subset: Option<Side>,
}

/// Counts for status over all tags, and over the digests that were asked for themselves. Each is in exactly one of the six
/// states; those that no side is known to have are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Repositories with at least one of them.
    pub repositories: usize,
    /// Tags and digests known on at least one side.
    pub tags: usize,
    /// How many of them are digests.
    pub digests: usize,
    /// Equal on both sides.
    pub in_sync: usize,
    /// Confirmed to be absent on the primary only.
    pub missing_on_primary: usize,
    /// Confirmed to be absent on the fallback only.
    pub missing_on_fallback: usize,
    /// Confirmed to differ.
    pub mismatched: usize,
    /// Not verified yet, or different for less than the grace period.
    pub pending: usize,
    /// Absent from a pull-through cache, which gets it with the next pull.
    pub not_cached: usize,
    /// What they refer to is not all there on a side.
    pub broken: usize,
    /// What a side serves for them does not have its digest.
    pub untrusted: usize,
    /// The oldest read that a verdict rests on; none when no tag has both sides read.
    pub oldest_check: Option<Timestamp>,
    /// The same evidence has the same revision: 16 hexadecimal digits.
    pub revision: String,
}

/// One tag, or digest that was asked for itself, that is confirmed to differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The canonical repository name.
    pub repository: String,
    /// The tag or digest.
    pub tag: String,
    /// How it differs: one of the three kinds.
    pub verdict: Verdict,
    /// What each side has.
    pub digests: Sides<Option<Digest>>,
    /// When it was first seen to differ, in whole seconds.
    pub since: Timestamp,
}

/// The same, borrowed: there may be many, and most of them are only counted.
#[derive(Clone, Copy, Debug)]
pub struct DivergenceRef<'a> {
    /// The canonical repository name.
    pub repository: &'a str,
    /// The tag or digest.
    pub tag: &'a str,
    /// How it differs: one of the three kinds.
    pub verdict: Verdict,
    /// What each side has.
    pub digests: Sides<Option<&'a Digest>>,
    /// Why what each side has can't be used.
    pub flaws: Flaws,
    /// When it was first seen to differ, in whole seconds.
    pub since: Timestamp,
}

/// The manifest to probe both sides with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Canary {
    /// The canonical repository name.
    pub repository: String,
    /// The tag it was found under.
    pub tag: String,
    /// What both sides serve.
    pub digest: Digest,
}

/// What is known of every tag and digest of one mirror.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Whose repositories these are; without one a repository's key is that of its name.
    policy: Option<Arc<MirrorPolicy>>,
    store: Store,
    tally: Tally,
    groups: Groups,
    flawed: FlawedDigests,
}

impl Ledger {
    /// A ledger that knows nothing.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Takes in one look at one tag or digest; of a repository that the mirror does not have, nothing. Looks come in the order
    /// of time; two looks of one pass count as two only if the caller made both.
    pub fn record(&mut self, repository: &str, reference: &str, seen: Sides<Observed>, now: Timestamp, rules: &Rules) {
        let is_digest = is_digest(reference);
        if !is_digest && seen == Sides::from_fn(|_| Observed::Absent) {
            self.forget(repository, reference);
            return;
        }
        let nothing = seen == Sides::from_fn(|_| Observed::Unknown);
        let Some(keys) = self.keys(repository).filter(|_| !nothing) else {
            return;
        };
        let look = Look {
            seen,
            second: entry::seconds(now),
            rules,
            keys: &keys,
            is_digest,
        };
        let anywhere = Side::ALL
            .iter()
            .any(|side| matches!(look.seen[*side], Observed::Present(_)));
        match self.store.find(repository, reference) {
            Some(id) => self.look(id, &look),
            None if anywhere || self.tally.nowhere() < MOST_NOWHERE => {
                let id = self.store.insert(repository, reference, &keys);
                self.change(id, None, |ledger| ledger.look_at(id, &look));
            }
            None => {}
        }
        if !is_digest {
            self.record_digests(repository, &look);
        }
    }

    /// A tag that is seen with a digest is a look at that digest, too, where it was asked for itself.
    fn record_digests(&mut self, repository: &str, look: &Look<'_>) {
        if !self
            .store
            .repository(repository)
            .is_some_and(store::Repository::has_digests)
        {
            return;
        }
        let mut digests: Vec<&Digest> = Vec::new();
        for side in Side::ALL {
            match &look.seen[side] {
                Observed::Present(digest) if !digests.contains(&digest) => digests.push(digest),
                _ => {}
            }
        }
        for digest in digests {
            let found = self.store.find(repository, &digest.to_string());
            let seen = look.seen.as_ref().map(|seen| match seen {
                Observed::Present(there) if there == digest => seen.clone(),
                _ => Observed::Unknown,
            });
            let is_digest = true;
            if let Some(id) = found {
                self.look(
                    id,
                    &Look {
                        seen,
                        is_digest,
                        ..*look
                    },
                );
            }
        }
    }

    fn look(&mut self, id: Id, look: &Look<'_>) {
        let before = self.share(id);
        self.change(id, before, |ledger| ledger.look_at(id, look));
    }

    fn look_at(&mut self, id: Id, look: &Look<'_>) {
        let moved = self
            .store
            .slot(id)
            .is_some_and(|slot| slot.entry.is_moved_by(&look.seen));
        if moved {
            self.touch_digests(id);
            self.store.stand_for(id, false);
        }
        if let Some(entry) = self.store.entry_mut(id) {
            entry.look(look);
        }
        if moved {
            self.store.stand_for(id, true);
            self.touch_digests(id);
        }
    }

    /// Does something to one entry and keeps the books. `before` is what it added until now.
    fn change(&mut self, id: Id, before: Option<Share>, act: impl FnOnce(&mut Ledger)) {
        act(self);
        let Some(slot) = self.store.slot(id) else { return };
        let after = Share::of(id, slot);
        let (key, number) = (slot.key, slot.repository);
        if let Some(repository) = self.store.repository_of(number) {
            let name = &repository.name;
            self.tally.replace(before.as_ref(), Some(&after), name, &slot.reference);
        }
        if before.is_none_or(|before| before.changes_evidence(&after)) {
            self.groups.touch(key);
        }
        self.count(number, before.as_ref(), Some(&after));
    }

    fn remove(&mut self, id: Id) {
        self.touch_digests(id);
        self.store.stand_for(id, false);
        let Some(slot) = self.store.slot(id) else { return };
        let before = Share::of(id, slot);
        let (key, number) = (slot.key, slot.repository);
        if let Some(repository) = self.store.repository_of(number) {
            self.tally
                .replace(Some(&before), None, &repository.name, &slot.reference);
        }
        self.groups.touch(key);
        self.count(number, Some(&before), None);
        self.store.remove(id);
    }

    /// Counts the repository with its first reference that a side has.
    fn count(&mut self, number: u32, before: Option<&Share>, after: Option<&Share>) {
        let known = |share: Option<&Share>| share.is_some_and(Share::is_known);
        let Some(repository) = self.store.repository_mut(number) else {
            return;
        };
        match (known(before), known(after)) {
            (false, true) => repository.known += 1,
            (true, false) => repository.known -= 1,
            _ => return,
        }
        if repository.known == usize::from(known(after)) {
            self.tally.count_repository(known(after));
        }
    }

    /// What an earlier leader wrote of a digest is put right where it is known by a tag.
    fn touch_digests(&mut self, id: Id) {
        let Some(slot) = self.store.slot(id).filter(|slot| !slot.is_digest()) else {
            return;
        };
        let keys = slot.entry.content_keys();
        for key in Side::ALL.into_iter().filter_map(|side| keys[side]) {
            self.groups.touch_prior(key);
        }
    }

    /// The names of a repository's tags from one to another, in the order of bytes.
    pub fn range<'s>(
        &'s self,
        repository: &str,
        from: Bound<&str>,
        to: Bound<&'s str>,
    ) -> impl Iterator<Item = &'s str> {
        self.slots(repository, from, to).map(|(_, slot)| &*slot.reference)
    }

    fn slots<'s>(
        &'s self,
        repository: &str,
        from: Bound<&str>,
        to: Bound<&'s str>,
    ) -> impl Iterator<Item = (Id, &'s Slot)> {
        self.store.tags(repository, from).take_while(move |(_, slot)| match to {
            Bound::Unbounded => true,
            Bound::Included(to) => *slot.reference <= *to,
            Bound::Excluded(to) => *slot.reference < *to,
        })
    }

    fn slot(&self, repository: &str, reference: &str) -> Option<&Slot> {
        self.store.slot(self.store.find(repository, reference)?)
    }

    fn share(&self, id: Id) -> Option<Share> {
        self.store.slot(id).map(|slot| Share::of(id, slot))
    }

    /// What the keys of a repository begin with; none if the mirror does not have it.
    fn keys(&self, repository: &str) -> Option<RepositoryKeys> {
        match (self.store.repository(repository), &self.policy) {
            (Some(known), _) => Some(known.keys.clone()),
            (None, Some(policy)) => policy.keys_of(repository),
            (None, None) => Some(RepositoryKeys::of_name(repository)),
        }
    }

    fn key(&self, repository: &str, reference: &str) -> Option<Key> {
        self.keys(repository).map(|keys| keys.key(reference))
    }
}
