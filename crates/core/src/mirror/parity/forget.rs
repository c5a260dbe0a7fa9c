//! What is not known any more: references that are gone, and repositories of another mapping.

use std::ops::Bound;
use std::sync::Arc;

use super::Ledger;
use super::store::{Id, Repository, Store, is_digest};
use super::tally::Tally;
use crate::policy::MirrorPolicy;
use crate::routing::evidence::Key;

impl Ledger {
    /// Says which repositories the mirror has, and where. Forgets at once what was seen of those that it does not have any
    /// more, or has at another place on any side. Takes time in proportion to the entries that are forgotten.
    pub fn set_policy(&mut self, policy: &Arc<MirrorPolicy>) {
        let stays = |repository: &Repository| {
            let keys = policy.keys_of(&repository.name);
            keys.is_some_and(|keys| keys.key("") == repository.keys.key(""))
        };
        let gone: Vec<Arc<str>> = self
            .store
            .repositories()
            .filter(|repository| !stays(repository))
            .map(|repository| Arc::clone(&repository.name))
            .collect();
        self.policy = Some(Arc::clone(policy));
        self.forget_repositories(&gone);
    }

    /// Forgets a tag that is gone from both sides, or a digest that is not asked for any more.
    pub fn forget(&mut self, repository: &str, reference: &str) {
        if !is_digest(reference)
            && let Some(key) = self.key(repository, reference)
        {
            self.groups.overrule(key);
        }
        if let Some(id) = self.store.find(repository, reference) {
            self.remove(id);
        }
    }

    /// Forgets the tags of a repository that `keep` does not name: those that neither listing has any more. Digests stay.
    /// Walks over the repository's tags.
    pub fn retain(&mut self, repository: &str, keep: impl Fn(&str) -> bool) {
        self.retain_range(repository, Bound::Unbounded, Bound::Unbounded, keep);
    }

    /// The same for the tags from one name to another, in the order of bytes, so that a long listing can be taken in piece by
    /// piece.
    pub fn retain_range(&mut self, repository: &str, from: Bound<&str>, to: Bound<&str>, keep: impl Fn(&str) -> bool) {
        let gone: Vec<(Id, Key)> = self
            .slots(repository, from, to)
            .filter(|(_, slot)| !keep(&slot.reference))
            .map(|(id, slot)| (id, slot.key))
            .collect();
        for (id, key) in gone {
            self.groups.overrule(key);
            self.remove(id);
        }
    }

    /// Forgets the digests that `keep`, by repository and digest, does not name: those that are not asked for any more. Walks
    /// over the digests that were asked for themselves.
    pub fn retain_digests(&mut self, keep: impl Fn(&str, &str) -> bool) {
        let repositories = self.store.repositories();
        let gone: Vec<Id> = repositories
            .flat_map(|repository| {
                let digests = self.store.digests(repository);
                digests.filter(|(_, slot)| !keep(&repository.name, &slot.reference))
            })
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Forgets the repositories that `keep` does not name: those no longer selected.
    pub fn retain_repositories(&mut self, keep: impl Fn(&str) -> bool) {
        let names = self.store.repositories().map(|repository| &repository.name);
        let gone: Vec<Arc<str>> = names.filter(|name| !keep(name)).cloned().collect();
        self.forget_repositories(&gone);
    }

    fn forget_repositories(&mut self, names: &[Arc<str>]) {
        if !names.is_empty() && names.len() == self.store.repositories().count() {
            // As after most changes of a mapping. Entry by entry it would take a hundred times as long.
            self.store = Store::default();
            self.tally = Tally::default();
            self.groups.touch_all();
            return;
        }
        for name in names {
            let entries = self
                .store
                .repository(name)
                .map(|repository| self.store.entries(repository));
            let ids: Vec<Id> = entries.into_iter().flatten().map(|(id, _)| id).collect();
            for id in ids {
                self.remove(id);
            }
        }
    }
}
