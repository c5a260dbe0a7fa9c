//! Digests whose content is known to be incomplete: a manifest, a config or a layer that they refer to is not there.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Ledger;
use super::store::{Slot, is_digest};
use crate::digest::Digest;
use crate::routing::evidence::{Evidence, Key};
use crate::side::{Side, Sides};

/// Digests that are remembered as broken at most; more go unnoticed until these are repaired.
const MOST_BROKEN: usize = 10_000;

/// Tags of one digest that are counted at most.
const MOST_COUNTED: usize = 1_000;

/// By the key of the digest: the sides on which it is broken.
#[derive(Debug, Default)]
pub(super) struct Broken(BTreeMap<Key, Sides<bool>>);

impl Broken {
    /// The sides on which a digest is broken.
    pub(super) fn of(&self, digest: Key) -> Sides<bool> {
        self.0.get(&digest).copied().unwrap_or_default()
    }
}

/// A digest of a repository, and a tag or digest that it was found under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The repository's name in status.
    pub repository: String,
    /// A tag, or the digest itself.
    pub reference: String,
    /// What both sides have.
    pub digest: Digest,
}

impl Ledger {
    /// Notes on which sides the content of a digest is incomplete.
    pub fn set_broken(&mut self, repository: &str, digest: &Digest, sides: Sides<bool>) {
        let Some(key) = self.key(repository, &digest.to_string()) else {
            return;
        };
        if self.broken.of(key) == sides || (sides.any() && self.broken.0.len() >= MOST_BROKEN) {
            return;
        }
        if sides.any() {
            self.broken.0.insert(key, sides);
        } else {
            self.broken.0.remove(&key);
        }
        self.groups.touch(key);
        for slot in self.store.standing_for(key) {
            self.groups.touch(slot.key);
        }
    }

    /// The sides on which a digest is broken.
    pub fn broken(&self, repository: &str, digest: &Digest) -> Sides<bool> {
        let key = self.key(repository, &digest.to_string());
        key.map(|key| self.broken.of(key)).unwrap_or_default()
    }

    /// Whether what a reference stands for is broken on this side, and not on the other.
    pub(in crate::mirror) fn is_broken_only_on(&self, side: Side, repository: &str, reference: &str) -> bool {
        if self.broken.0.is_empty() {
            return false;
        }
        let broken = self.known(repository, reference).broken;
        broken[side] && !broken[side.other()]
    }

    /// What both sides have under a tag or digest, where they have one.
    pub fn held(&self, repository: &str, reference: &str) -> Option<Held> {
        held_by(repository, self.slot(repository, reference)?)
    }

    /// What both sides have under the tags that follow this one, over all repositories and without end, at most so many names.
    pub(in crate::mirror) fn held_after(&self, after: Option<&Held>, most: usize) -> Vec<Held> {
        let (first, from) = match after {
            Some(after) => (after.repository.as_str(), Bound::Excluded(after.reference.as_str())),
            None => ("", Bound::Unbounded),
        };
        let rest = self.store.repositories_from(first);
        let before = self
            .store
            .repositories()
            .take_while(|repository| *repository.name < *first);
        let mut found = Vec::new();
        for repository in rest.chain(before) {
            let from = if *repository.name == *first {
                from
            } else {
                Bound::Unbounded
            };
            for (_, slot) in self.store.tags(&repository.name, from) {
                if found.len() >= most {
                    return found;
                }
                found.extend(held_by(&repository.name, slot));
            }
        }
        found
    }

    /// Digests that are broken, by a name that they are held under; at most so many. What nobody holds any more is forgotten.
    pub(in crate::mirror) fn broken_held(&mut self, most: usize) -> Vec<Held> {
        let keys: Vec<Key> = self.broken.0.keys().copied().collect();
        let mut found = Vec::new();
        for key in keys {
            let held = self.holding(key);
            match held {
                Some(held) if found.len() < most => found.push(held),
                Some(_) => {}
                None if self.has_prior() => {}
                None => {
                    self.broken.0.remove(&key);
                }
            }
        }
        found
    }

    fn holding(&self, key: Key) -> Option<Held> {
        let slot = self.store.standing_for(key).next().or_else(|| self.digest_slot(key))?;
        held_by(&self.store.repository_of(slot.repository)?.name, slot)
    }

    /// The entry of a digest that was asked for itself.
    fn digest_slot(&self, key: Key) -> Option<&Slot> {
        let slot = self.store.starting_at(key).next()?;
        (slot.key == key && is_digest(&slot.reference)).then_some(slot)
    }

    /// Tags, and digests that were asked for themselves, that are broken on a side.
    pub(super) fn count_broken(&self) -> usize {
        let count = |key: &Key| {
            let tags = self.store.standing_for(*key).take(MOST_COUNTED);
            tags.count() + usize::from(self.digest_slot(*key).is_some())
        };
        self.broken.0.keys().map(count).sum()
    }

    /// The sides on which what an entry stands for is broken.
    pub(super) fn broken_of(&self, slot: &Slot) -> Sides<bool> {
        if self.broken.0.is_empty() {
            return Sides::default();
        }
        let broken = |side: Side| Some(self.broken.of(slot.entry.content(side)?.key)[side]);
        Sides::from_fn(|side| broken(side).unwrap_or_default())
    }

    /// What an earlier leader found broken is so until it is looked at again.
    pub(super) fn seed_broken(&mut self, prior: &Evidence) {
        for group in prior.groups() {
            let tags = group.tags().map(|record| (record.key, record.knowledge));
            for (key, knowledge) in tags.chain(group.digests()) {
                if knowledge.broken.any() && self.broken.0.len() < MOST_BROKEN {
                    self.broken.0.entry(key).or_insert(knowledge.broken);
                }
            }
        }
    }
}

/// What both sides have under an entry, where that is one digest.
fn held_by(repository: &str, slot: &Slot) -> Option<Held> {
    let digests = Sides::from_fn(|side| slot.entry.content(side).map(|content| &content.digest));
    let digest = digests.primary.filter(|_| digests.primary == digests.fallback)?;
    Some(Held {
        repository: repository.to_owned(),
        reference: slot.reference.to_string(),
        digest: digest.clone(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::mirror::parity::{Observed, Rules};
    use crate::routing::evidence::Knowledge;

    fn held(tags: &[&str]) -> (Ledger, Digest) {
        let (mut ledger, digest) = (Ledger::new(), Digest::of(b"index"));
        for tag in tags {
            record(&mut ledger, tag, &digest);
        }
        ledger.take_dirty_groups();
        (ledger, digest)
    }

    fn record(ledger: &mut Ledger, tag: &str, digest: &Digest) {
        let rules = Rules {
            grace: std::time::Duration::from_mins(1),
            settled: std::time::Duration::from_hours(24),
            subset: None,
        };
        let seen = Sides::from_fn(|_| Observed::Present(digest.clone()));
        ledger.record("app", tag, seen, Timestamp::from_second(1_760_000_000).unwrap(), &rules);
    }

    const ON_FALLBACK: Sides<bool> = Sides {
        primary: false,
        fallback: true,
    };

    #[test]
    fn all_tags_of_a_broken_digest_are_broken_in_the_evidence() {
        let (mut ledger, digest) = held(&["v1", "v1.0"]);
        record(&mut ledger, "v2", &Digest::of(b"other"));
        ledger.set_broken("app", &digest, ON_FALLBACK);
        assert!(!ledger.take_dirty_groups().is_empty());
        assert_eq!(ledger.count_broken(), 2);
        let evidence = ledger.evidence();
        let known = |reference: &str| evidence.tag(ledger.key("app", reference).unwrap()).unwrap();
        for tag in ["v1", "v1.0"] {
            assert_eq!(known(tag), Knowledge::IN_SYNC.with_broken(ON_FALLBACK), "{tag}");
            assert_eq!(ledger.known("app", tag), known(tag));
        }
        assert_eq!(known("v2"), Knowledge::IN_SYNC);
        let by_digest = evidence
            .digest(ledger.key("app", &digest.to_string()).unwrap())
            .unwrap();
        assert_eq!(by_digest.broken, ON_FALLBACK);
        ledger.set_broken("app", &digest, Sides::default());
        assert!(!ledger.take_dirty_groups().is_empty());
        assert_eq!(
            (ledger.count_broken(), ledger.known("app", "v1")),
            (0, Knowledge::IN_SYNC)
        );
    }

    #[test]
    fn tag_that_moves_on_is_broken_no_more() {
        let (mut ledger, digest) = held(&["v1"]);
        ledger.set_broken("app", &digest, ON_FALLBACK);
        record(&mut ledger, "v1", &Digest::of(b"repaired"));
        assert_eq!(ledger.known("app", "v1"), Knowledge::IN_SYNC);
        assert_eq!((ledger.count_broken(), ledger.broken_held(9)), (0, Vec::new()));
    }

    #[test]
    fn new_leader_goes_on_from_what_was_broken() {
        let (mut ledger, digest) = held(&["v1"]);
        ledger.set_broken("app", &digest, ON_FALLBACK);
        let (mut next, _) = held(&[]);
        next.seed(ledger.evidence());
        assert_eq!(next.known("app", "v1").broken, ON_FALLBACK);
        record(&mut next, "v1", &digest);
        next.drop_prior();
        assert_eq!(next.known("app", "v1").broken, ON_FALLBACK);
        let found = next.broken_held(9);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].reference.as_str(), &found[0].digest), ("v1", &digest));
    }

    #[test]
    fn names_come_in_turn_and_from_the_beginning_again() {
        let (mut ledger, digest) = held(&["a", "b", "c"]);
        let rules = Rules {
            grace: std::time::Duration::ZERO,
            settled: std::time::Duration::ZERO,
            subset: None,
        };
        let seen = Sides::from_fn(|_| Observed::Present(digest.clone()));
        ledger.record(
            "base",
            "z",
            seen,
            Timestamp::from_second(1_760_000_000).unwrap(),
            &rules,
        );
        let mut last = None;
        let mut names = Vec::new();
        for _ in 0..3 {
            let found = ledger.held_after(last.as_ref(), 3);
            names.extend(
                found
                    .iter()
                    .map(|held| format!("{}:{}", held.repository, held.reference)),
            );
            last = found.last().cloned();
        }
        assert_eq!(names[..5], ["app:a", "app:b", "app:c", "base:z", "app:a"]);
    }
}
