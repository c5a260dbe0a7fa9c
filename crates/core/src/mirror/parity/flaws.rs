//! Digests whose content can't be used on a side: a manifest, a config or a layer that they refer to is not there, or what is there
//! does not have its digest.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Ledger;
use super::store::{Slot, is_digest};
use crate::digest::Digest;
use crate::routing::evidence::{Evidence, Flaw, Flaws, Key};
use crate::side::{Side, Sides};

/// Digests that are remembered as flawed at most; more go unnoticed until these are repaired.
const MOST_FLAWED: usize = 10_000;

/// Tags of one digest that are counted at most.
const MOST_COUNTED: usize = 1_000;

/// By the key of the digest: why each side's content can't be used.
#[derive(Debug, Default)]
pub(super) struct FlawedDigests(BTreeMap<Key, Flaws>);

impl FlawedDigests {
    /// The flaws of a digest.
    pub(super) fn of(&self, digest: Key) -> Flaws {
        self.0.get(&digest).copied().unwrap_or_default()
    }
}

/// A digest of a repository, and a tag or digest that it was found under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The repository's name in status.
    pub repository: String,
    /// A tag, or the digest itself.
    pub reference: String,
    /// What is there.
    pub digest: Digest,
    /// Which sides have it.
    pub on: Sides<bool>,
}

/// Whether any side has a flaw.
fn any(flaws: Flaws) -> bool {
    flaws.primary.or(flaws.fallback).is_some()
}

impl Ledger {
    /// Notes why the content of a digest can't be used on each side.
    pub fn set_flaws(&mut self, repository: &str, digest: &Digest, flaws: Flaws) {
        let Some(key) = self.key(repository, &digest.to_string()) else {
            return;
        };
        if self.flawed.of(key) == flaws || (any(flaws) && self.flawed.0.len() >= MOST_FLAWED) {
            return;
        }
        if any(flaws) {
            self.flawed.0.insert(key, flaws);
        } else {
            self.flawed.0.remove(&key);
        }
        self.groups.touch(key);
        for slot in self.store.standing_for(key) {
            self.groups.touch(slot.key);
        }
    }

    /// Why the content of a digest can't be used on each side.
    pub fn flaws(&self, repository: &str, digest: &Digest) -> Flaws {
        let key = self.key(repository, &digest.to_string());
        key.map(|key| self.flawed.of(key)).unwrap_or_default()
    }

    /// Why what a reference stands for can't be used on this side, where it can on the other.
    pub(in crate::mirror) fn flaw_only_on(&self, side: Side, repository: &str, reference: &str) -> Option<Flaw> {
        if self.flawed.0.is_empty() {
            return None;
        }
        let flaws = self.known(repository, reference).flaws;
        flaws[side].filter(|_| flaws[side.other()].is_none())
    }

    /// What there is under a tag or digest: of a tag that differs, one for each side.
    pub fn held(&self, repository: &str, reference: &str) -> impl Iterator<Item = Held> + use<> {
        let slot = self.slot(repository, reference);
        slot.map(|slot| held_by(repository, slot))
            .into_iter()
            .flatten()
            .flatten()
    }

    /// What there is under the tags that follow this one, of what is wanted, over all repositories and without end. At most so many
    /// names.
    pub(in crate::mirror) fn held_after(
        &self,
        after: Option<&Held>,
        most: usize,
        wanted: impl Fn(&Held) -> bool,
    ) -> Vec<Held> {
        let (first, from) = match after {
            Some(after) => (after.repository.as_str(), Bound::Excluded(after.reference.as_str())),
            None => ("", Bound::Unbounded),
        };
        let rest = self.store.repositories_from(first);
        let before = self
            .store
            .repositories()
            .take_while(|repository| *repository.name < *first);
        let (mut found, mut names) = (Vec::new(), 0);
        for repository in rest.chain(before) {
            let from = if *repository.name == *first {
                from
            } else {
                Bound::Unbounded
            };
            for (_, slot) in self.store.tags(&repository.name, from) {
                if names >= most {
                    return found;
                }
                let before = found.len();
                found.extend(held_by(&repository.name, slot).into_iter().flatten().filter(&wanted));
                names += usize::from(found.len() > before);
            }
        }
        found
    }

    /// Digests that are flawed, by a name that they are held under; at most so many. What nobody holds any more is forgotten.
    pub(in crate::mirror) fn flawed_held(&mut self, most: usize) -> Vec<Held> {
        let keys: Vec<Key> = self.flawed.0.keys().copied().collect();
        let mut found = Vec::new();
        for key in keys {
            let held = self.holding(key);
            match held {
                Some(held) if found.len() < most => found.push(held),
                Some(_) => {}
                None if self.has_prior() => {}
                None => {
                    self.flawed.0.remove(&key);
                }
            }
        }
        found
    }

    /// A name of a digest, and the sides that have it under this or another one.
    fn holding(&self, key: Key) -> Option<Held> {
        let slots = self.store.standing_for(key).take(MOST_COUNTED);
        let named = slots.chain(self.digest_slot(key)).filter_map(|slot| {
            let repository = self.store.repository_of(slot.repository)?;
            let has = |side: &Side| slot.entry.content(*side).is_some_and(|content| content.key == key);
            let side = Side::ALL.into_iter().find(has)?;
            let held = held_by(&repository.name, slot);
            held.into_iter().flatten().find(|held| held.on[side])
        });
        named.reduce(|one, other| Held {
            on: Sides::from_fn(|side| one.on[side] || other.on[side]),
            ..one
        })
    }

    /// The entry of a digest that was asked for itself.
    fn digest_slot(&self, key: Key) -> Option<&Slot> {
        let slot = self.store.starting_at(key).next()?;
        (slot.key == key && is_digest(&slot.reference)).then_some(slot)
    }

    /// Tags, and digests that were asked for themselves, of which a side's content has this flaw.
    pub(super) fn count_flawed(&self, flaw: Flaw) -> usize {
        let count = |key: &Key| {
            let tags = self.store.standing_for(*key).take(MOST_COUNTED);
            // One that differs may have the flaw under both of its digests, and is one tag.
            let counts = |slot: &&Slot| {
                let flaws = self.flaws_of(slot);
                let side = Side::ALL.into_iter().find(|side| flaws[*side] == Some(flaw));
                let content = side.and_then(|side| slot.entry.content(side));
                content.is_some_and(|content| content.key == *key)
            };
            tags.chain(self.digest_slot(*key)).filter(counts).count()
        };
        let has = |flaws: &Flaws| flaws.primary == Some(flaw) || flaws.fallback == Some(flaw);
        let flawed = self.flawed.0.iter().filter(|(_, flaws)| has(flaws));
        flawed.map(|(key, _)| count(key)).sum()
    }

    /// Why what an entry stands for can't be used on each side.
    pub(super) fn flaws_of(&self, slot: &Slot) -> Flaws {
        if self.flawed.0.is_empty() {
            return Sides::default();
        }
        Sides::from_fn(|side| self.flawed.of(slot.entry.content(side)?.key)[side])
    }

    /// What an earlier leader found flawed is so until it is looked at again.
    pub(super) fn seed_flaws(&mut self, prior: &Evidence) {
        for group in prior.groups() {
            let tags = group.tags().map(|record| (record.key, record.knowledge));
            for (key, knowledge) in tags.chain(group.digests()) {
                if any(knowledge.flaws) && self.flawed.0.len() < MOST_FLAWED {
                    self.flawed.0.entry(key).or_insert(knowledge.flaws);
                }
            }
        }
    }
}

/// What there is under an entry: once where both sides have one digest.
fn held_by(repository: &str, slot: &Slot) -> [Option<Held>; 2] {
    let digests = Sides::from_fn(|side| slot.entry.content(side).map(|content| &content.digest));
    let both = digests.primary == digests.fallback;
    Side::ALL.map(|side| {
        let digest = digests[side].filter(|_| !both || side == Side::Primary)?;
        Some(Held {
            repository: repository.to_owned(),
            reference: slot.reference.to_string(),
            digest: digest.clone(),
            on: Sides::from_fn(|other| both || other == side),
        })
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

    const ON_FALLBACK: Flaws = Sides {
        primary: None,
        fallback: Some(Flaw::Broken),
    };

    #[test]
    fn all_tags_of_a_broken_digest_are_broken_in_the_evidence() {
        let (mut ledger, digest) = held(&["v1", "v1.0"]);
        record(&mut ledger, "v2", &Digest::of(b"other"));
        ledger.set_flaws("app", &digest, ON_FALLBACK);
        assert!(!ledger.take_dirty_groups().is_empty());
        assert_eq!(ledger.count_flawed(Flaw::Broken), 2);
        let evidence = ledger.evidence();
        let known = |reference: &str| evidence.tag(ledger.key("app", reference).unwrap()).unwrap();
        for tag in ["v1", "v1.0"] {
            assert_eq!(known(tag), Knowledge::IN_SYNC.with_flaws(ON_FALLBACK), "{tag}");
            assert_eq!(ledger.known("app", tag), known(tag));
        }
        assert_eq!(known("v2"), Knowledge::IN_SYNC);
        let by_digest = evidence
            .digest(ledger.key("app", &digest.to_string()).unwrap())
            .unwrap();
        assert_eq!(by_digest.flaws, ON_FALLBACK);
        ledger.set_flaws("app", &digest, Sides::default());
        assert!(!ledger.take_dirty_groups().is_empty());
        assert_eq!(
            (ledger.count_flawed(Flaw::Broken), ledger.known("app", "v1")),
            (0, Knowledge::IN_SYNC)
        );
    }

    #[test]
    fn tag_that_moves_on_is_broken_no_more() {
        let (mut ledger, digest) = held(&["v1"]);
        ledger.set_flaws("app", &digest, ON_FALLBACK);
        record(&mut ledger, "v1", &Digest::of(b"repaired"));
        assert_eq!(ledger.known("app", "v1"), Knowledge::IN_SYNC);
        assert_eq!(
            (ledger.count_flawed(Flaw::Broken), ledger.flawed_held(9)),
            (0, Vec::new())
        );
    }

    #[test]
    fn new_leader_goes_on_from_what_was_broken() {
        let (mut ledger, digest) = held(&["v1"]);
        ledger.set_flaws("app", &digest, ON_FALLBACK);
        let (mut next, _) = held(&[]);
        next.seed(ledger.evidence());
        assert_eq!(next.known("app", "v1").flaws, ON_FALLBACK);
        record(&mut next, "v1", &digest);
        next.drop_prior();
        assert_eq!(next.known("app", "v1").flaws, ON_FALLBACK);
        let found = next.flawed_held(9);
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
            let found = ledger.held_after(last.as_ref(), 3, |_| true);
            names.extend(
                found
                    .iter()
                    .map(|held| format!("{}:{}", held.repository, held.reference)),
            );
            last = found.last().cloned();
        }
        assert_eq!(names[..5], ["app:a", "app:b", "app:c", "base:z", "app:a"]);
    }

    #[test]
    fn of_a_tag_that_differs_each_side_has_its_own_flaw() {
        let (mut ledger, digest) = held(&["v1"]);
        let rules = Rules {
            grace: std::time::Duration::ZERO,
            settled: std::time::Duration::ZERO,
            subset: None,
        };
        let other = Digest::of(b"other");
        let seen = Sides {
            primary: Observed::Present(digest.clone()),
            fallback: Observed::Present(other.clone()),
        };
        let now = Timestamp::from_second(1_760_000_000).unwrap();
        ledger.record("app", "v2", seen, now, &rules);
        let untrusted = Sides {
            primary: None,
            fallback: Some(Flaw::Untrusted),
        };
        ledger.set_flaws("app", &other, untrusted);
        assert_eq!(ledger.known("app", "v2").flaws, untrusted);
        assert_eq!(ledger.known("app", "v1"), Knowledge::IN_SYNC);
        // The primary does not have it.
        ledger.set_flaws("app", &other, Sides::from_fn(|_| Some(Flaw::Untrusted)));
        assert_eq!(ledger.known("app", "v2").flaws, untrusted);
        // Both digests of one tag make one tag.
        ledger.set_flaws("app", &digest, Sides::from_fn(|_| Some(Flaw::Untrusted)));
        assert_eq!(
            ledger.known("app", "v2").flaws,
            Sides::from_fn(|_| Some(Flaw::Untrusted))
        );
        assert_eq!(ledger.count_flawed(Flaw::Untrusted), 2);
        assert_eq!(ledger.count_flawed(Flaw::Broken), 0);
        let found: Vec<_> = ledger
            .flawed_held(9)
            .into_iter()
            .map(|held| (held.reference, held.on))
            .collect();
        let on = |primary, fallback| Sides { primary, fallback };
        assert_eq!(found.len(), 2);
        assert!(
            found.contains(&("v1".to_owned(), on(true, true))),
            "the name that both sides have it under"
        );
        assert!(found.contains(&("v2".to_owned(), on(false, true))));
    }
}
