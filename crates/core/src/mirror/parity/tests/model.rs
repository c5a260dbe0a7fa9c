//! Any sequence of what can happen: what is kept up to date step by step is what a walk over everything would find.

use std::collections::BTreeMap;

use super::*;
use crate::policy::{Repositories, RepositoryRule};
use crate::routing::evidence::{Evidence, Group, GroupPlace};
use crate::tags::TagFilter;

const REPOSITORIES: [&str; 2] = ["web", "db"];

#[derive(Clone, Debug)]
enum Step {
    Look {
        repository: usize,
        reference: String,
        letters: String,
        cache: bool,
    },
    Forget {
        repository: usize,
        reference: String,
    },
    Retain {
        repository: usize,
        from: u8,
        keep: u8,
    },
    RetainDigests {
        keep: String,
    },
    Policy {
        fallback: usize,
        listed: bool,
    },
    Take,
    Restart,
    DropPrior,
}

fn any_reference() -> impl Strategy<Value = String> {
    let tags = prop::sample::select(vec!["1", "2", "3", "4"]).prop_map(str::to_owned);
    let digests = prop::sample::select(vec!["a", "b", "c"]).prop_map(digest);
    prop_oneof![3 => tags, 1 => digests]
}

fn any_step() -> impl Strategy<Value = Step> {
    let look = (0..2_usize, any_reference(), "[-?abc][-?abc]", any::<bool>());
    prop_oneof![
        12 => look.prop_map(|(repository, reference, letters, cache)| Step::Look { repository, reference, letters, cache }),
        1 => (0..2_usize, any_reference()).prop_map(|(repository, reference)| Step::Forget { repository, reference }),
        1 => (0..2_usize, 0..5_u8, 0..5_u8).prop_map(|(repository, from, keep)| Step::Retain { repository, from, keep }),
        1 => any_reference().prop_map(|keep| Step::RetainDigests { keep }),
        1 => (0..2_usize, any::<bool>()).prop_map(|(fallback, listed)| Step::Policy { fallback, listed }),
        2 => Just(Step::Take),
        1 => Just(Step::Restart),
        1 => Just(Step::DropPrior),
    ]
}

fn any_policy(fallback: usize, listed: bool) -> MirrorPolicy {
    let mut policy = policy();
    policy.sides.fallback.prefix = ["", "other"][fallback].to_owned();
    if listed {
        let rule = RepositoryRule {
            name: "web".to_owned(),
            paths: Sides {
                primary: "team/web".to_owned(),
                fallback: "web".to_owned(),
            },
            tags: TagFilter::default(),
        };
        policy.repositories = Repositories::Listed(vec![rule]);
    }
    policy
}

/// With as many groups as records, about.
fn ledger(policy: &MirrorPolicy) -> Ledger {
    let mut ledger = ledger_of(policy);
    ledger.groups.sizes = super::super::groups::Sizes {
        split_above: 8,
        join_below: 3,
    };
    ledger
}

/// The ledger, and the groups as they were written last.
struct World {
    ledger: Ledger,
    policy: MirrorPolicy,
    stored: BTreeMap<GroupPlace, Group>,
    now: i64,
}

impl World {
    fn new() -> World {
        let policy = any_policy(0, false);
        World {
            ledger: ledger(&policy),
            policy,
            stored: BTreeMap::new(),
            now: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        self.now += 100;
        let ledger = &mut self.ledger;
        match step {
            Step::Look {
                repository,
                reference,
                letters,
                cache,
            } => {
                let letters = letters.as_bytes();
                let content = |letter: u8| match observed(letter) {
                    // A digest is found as itself.
                    Observed::Present(_) if is_digest(reference) => Observed::Present(reference.parse().unwrap()),
                    seen => seen,
                };
                let seen = Sides {
                    primary: content(letters[0]),
                    fallback: content(letters[1]),
                };
                let rules = Rules {
                    subset: cache.then_some(Side::Fallback),
                    ..RULES
                };
                ledger.record(REPOSITORIES[*repository], reference, seen, at(self.now), &rules);
            }
            Step::Forget { repository, reference } => ledger.forget(REPOSITORIES[*repository], reference),
            Step::Retain { repository, from, keep } => {
                let (from, keep) = (from.to_string(), keep.to_string());
                let from = Bound::Included(&*from);
                ledger.retain_range(REPOSITORIES[*repository], from, Bound::Unbounded, |tag| tag == keep);
            }
            Step::RetainDigests { keep } => ledger.retain_digests(|_, digest| digest == keep),
            Step::Policy { fallback, listed } => {
                self.policy = any_policy(*fallback, *listed);
                ledger.set_policy(&Arc::new(self.policy.clone()));
            }
            Step::Take => self.check_groups(),
            Step::Restart => self.restart(),
            Step::DropPrior => ledger.drop_prior(),
        }
    }

    fn write(&mut self) {
        for place in self.ledger.take_dirty_groups() {
            self.stored.insert(place, self.ledger.group(place));
        }
        let there = self.ledger.groups();
        self.stored.retain(|place, _| there.contains(place));
    }

    fn restart(&mut self) {
        let groups = self.stored.values().cloned().map(Arc::new);
        self.ledger = ledger(&self.policy);
        self.ledger
            .seed(groups.fold(Evidence::default(), |evidence, group| evidence.with(group)));
    }

    /// Adds up anew what the tally keeps.
    fn check_tally(&self) {
        let mut tally = Tally::default();
        let mut repositories = 0;
        for repository in self.ledger.store.repositories() {
            let shares: Vec<(Share, &Slot)> = self
                .ledger
                .store
                .entries(repository)
                .map(|(id, slot)| (Share::of(id, slot), slot))
                .collect();
            for (share, slot) in &shares {
                tally.replace(None, Some(share), &repository.name, &slot.reference);
            }
            repositories += usize::from(shares.iter().any(|(share, _)| share.is_known()));
        }
        let counted = Summary {
            repositories,
            ..tally.summary()
        };
        assert_eq!(self.ledger.summary(), counted);
        let orders = |tally: &Tally| {
            (
                tally.next_confirmation(),
                tally.diverged().map(|(a, b, _)| format!("{a} {b}")).collect::<Vec<_>>(),
                tally.canaries().collect::<Vec<_>>(),
                (
                    tally.bytes(),
                    tally.nowhere(),
                    Side::ALL.map(|side| tally.present(side)),
                    tally.missing(),
                ),
            )
        };
        assert_eq!(orders(&self.ledger.tally), orders(&tally));
    }

    /// Each entry is found by its names, its key and its digests, and nothing else is.
    fn check_indexes(&self) {
        let store = &self.ledger.store;
        let mut digests = 0;
        for repository in store.repositories() {
            for (id, slot) in store.entries(repository) {
                assert_eq!(store.find(&repository.name, &slot.reference), Some(id));
                let keys = slot.entry.content_keys();
                for key in Side::ALL
                    .into_iter()
                    .filter_map(|side| keys[side])
                    .filter(|_| !slot.is_digest())
                {
                    assert!(store.standing_for(key).any(|other| std::ptr::eq(other, slot)));
                    digests += 1;
                }
            }
        }
        let from_key: Vec<_> = store.starting_at(Key::first_of(0)).map(|slot| slot.key).collect();
        let entries = store.repositories().flat_map(|repository| store.entries(repository));
        assert_eq!(from_key.len(), entries.count());
        assert!(from_key.is_sorted());
        assert_eq!(store.by_digest_len(), digests);
    }

    /// What is written is what the ledger knows, and what is not dirty need not be written.
    fn check_groups(&mut self) {
        self.write();
        let all = self
            .ledger
            .groups()
            .into_iter()
            .map(|place| (place, self.ledger.group(place)));
        assert_eq!(self.stored, all.collect());
        let groups = self.stored.values().cloned().map(Arc::new);
        let evidence = groups.fold(Evidence::default(), |evidence, group| evidence.with(group));
        for repository in REPOSITORIES {
            let references = ["1", "2", "3", "4"]
                .map(str::to_owned)
                .into_iter()
                .chain(["a", "b", "c"].map(digest));
            for reference in references {
                let Some(key) = self.ledger.key(repository, &reference) else {
                    continue;
                };
                let read = if is_digest(&reference) {
                    evidence.digest(key)
                } else {
                    evidence.tag(key)
                };
                let known = self.ledger.known(repository, &reference);
                assert_eq!(
                    words(read.unwrap_or_default()),
                    words(known),
                    "{repository} {reference}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn ledger_kept_step_by_step_is_what_a_walk_finds(steps in prop::collection::vec(any_step(), 0..40)) {
        let mut world = World::new();
        for step in steps {
            world.take(&step);
            world.check_tally();
            world.check_indexes();
        }
        world.check_groups();
    }
}
