//! What registries have answered, kept apart from the code under test.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_core::digest::Digest;
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::parity::Observed;
use catamaran_core::mirror::{Listed, ListedTag, Listing, Resolved};
use catamaran_core::policy::{MirrorPolicy, Repositories, RepositoryRule};
use catamaran_core::routing::evidence::{Key, MappingId};
use catamaran_core::side::Side;

use crate::clock::Ms;

pub fn rule<'p>(policy: &'p MirrorPolicy, repository: &str) -> Option<&'p RepositoryRule> {
    match &policy.repositories {
        Repositories::InUse => None,
        Repositories::Listed(rules) => rules.iter().find(|rule| rule.name == repository),
    }
}

pub fn key(policy: &MirrorPolicy, repository: &str, reference: &str) -> Key {
    policy.key(repository, rule(policy, repository), reference)
}

pub fn mapping(policy: &MirrorPolicy, repository: &str) -> MappingId {
    policy.mapping(repository, rule(policy, repository))
}

/// What a side said last of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Has(Digest),
    Lacks,
    /// Two answers that overlapped in time contradict each other, or what was known is not wanted any more.
    Unclear,
}

#[derive(Clone, Debug)]
struct Entry {
    fact: Fact,
    delivered: Ms,
    repository: String,
    reference: String,
}

/// What the leader was told, in the order in which it was: what the evidence that it writes must agree with.
#[derive(Clone, Debug, Default)]
pub struct Facts(BTreeMap<(Key, Side), Entry>);

impl Facts {
    pub fn get(&self, key: Key, side: Side) -> Option<&Fact> {
        self.0.get(&(key, side)).map(|entry| &entry.fact)
    }

    fn note(
        &mut self,
        policy: &MirrorPolicy,
        name: (&str, &str),
        side: Side,
        fact: Fact,
        (asked, delivered): (Ms, Ms),
    ) {
        let entry = Entry {
            fact,
            delivered,
            repository: name.0.to_owned(),
            reference: name.1.to_owned(),
        };
        let content = self.get(key(policy, name.0, name.1), side).cloned();
        if let Some(Fact::Has(digest)) = content.filter(|known| *known != entry.fact && !name.1.contains(':')) {
            // It may have been known by this tag alone.
            if let Some(known) = self.0.get_mut(&(key(policy, name.0, &digest.to_string()), side)) {
                known.fact = Fact::Unclear;
            }
        }
        let key = (key(policy, name.0, name.1), side);
        match self.0.get_mut(&key) {
            Some(known) if asked < known.delivered && known.fact != entry.fact => {
                known.fact = Fact::Unclear;
                known.delivered = delivered;
            }
            Some(known) => *known = entry,
            None => {
                self.0.insert(key, entry);
            }
        }
    }

    /// Answers came that may count or not.
    pub fn doubt(&mut self, told: &Facts) {
        for (key, entry) in &told.0 {
            let fact = Fact::Unclear;
            self.0.insert(*key, Entry { fact, ..entry.clone() });
        }
    }

    pub fn resolved(&mut self, policy: &MirrorPolicy, resolved: &Resolved, times: (Ms, Ms)) {
        let name = (resolved.name.repository.as_str(), resolved.name.reference.as_str());
        for side in Side::ALL {
            let fact = match &resolved.seen[side] {
                Observed::Present(digest) => Fact::Has(digest.clone()),
                Observed::Absent => Fact::Lacks,
                Observed::Unknown => continue,
            };
            if let Fact::Has(digest) = &fact
                && !name.1.contains(':')
            {
                self.note(policy, (name.0, &digest.to_string()), side, fact.clone(), times);
            }
            self.note(policy, name, side, fact, times);
        }
        // Found on neither side, it is forgotten, whatever was said of it meanwhile.
        let nowhere = Side::ALL.iter().all(|side| resolved.seen[*side] == Observed::Absent);
        if nowhere && !name.1.contains(':') {
            self.blur(|repository, reference| (repository, reference) == name);
        }
        self.forget_nowhere();
    }

    /// A piece of a listing. What is not settled by it is read by name.
    pub fn listed(&mut self, policy: &MirrorPolicy, listed: &Listed, in_use: &InUse, times: (Ms, Ms)) {
        let repository = listed.repository.as_str();
        let named: BTreeSet<&str> = listed.tags.iter().map(|tag| tag.name.as_str()).collect();
        let last = listed.tags.last().map(|tag| tag.name.clone()).filter(|_| !listed.last);
        let within = |name: &str| {
            listed.after.as_deref().is_none_or(|after| name > after) && last.as_deref().is_none_or(|last| name <= last)
        };
        let of_this_mapping = |known: Key, entry: &Entry| known == key(policy, &entry.repository, &entry.reference);
        let known = self
            .0
            .iter()
            .filter(|((known, _), entry)| of_this_mapping(*known, entry));
        let known = known.filter(|(_, entry)| entry.repository == repository && entry.fact != Fact::Unclear);
        let known = known.map(|(_, entry)| &entry.reference);
        let used = in_use.references.get(repository).into_iter().flat_map(BTreeMap::keys);
        let gone: BTreeSet<String> = known
            .chain(used)
            .filter(|name| !name.contains(':') && within(name) && !named.contains(name.as_str()))
            .cloned()
            .collect();
        for side in Side::ALL {
            if listed.failures[side].is_some() {
                continue;
            }
            for tag in &gone {
                self.note(policy, (repository, tag), side, Fact::Lacks, times);
            }
            // A tag of which one listing tells no digest is learnt of as a whole, when that side is read.
            let told = |tag: &&ListedTag| !Side::ALL.iter().any(|side| tag.sides[*side] == Listing::Named(None));
            for tag in listed.tags.iter().filter(told) {
                match &tag.sides[side] {
                    Listing::Named(Some(digest)) => {
                        let fact = Fact::Has(digest.clone());
                        self.note(policy, (repository, &digest.to_string()), side, fact.clone(), times);
                        self.note(policy, (repository, &tag.name), side, fact, times);
                    }
                    Listing::Unlisted => self.note(policy, (repository, &tag.name), side, Fact::Lacks, times),
                    _ => {}
                }
            }
        }
        self.forget_nowhere();
    }

    /// A tag that neither side has is forgotten.
    fn forget_nowhere(&mut self) {
        let lacks = |entry: &Entry| entry.fact == Fact::Lacks && !entry.reference.contains(':');
        let lacked = |side: Side| {
            let keys = self
                .0
                .iter()
                .filter(move |((_, of), entry)| *of == side && lacks(entry));
            keys.map(|((key, _), _)| *key).collect::<BTreeSet<Key>>()
        };
        let nowhere = &lacked(Side::Primary) & &lacked(Side::Fallback);
        for ((key, _), entry) in &mut self.0 {
            if nowhere.contains(key) {
                entry.fact = Fact::Unclear;
            }
        }
    }

    /// The spec has changed: what was said of other mappings is forgotten at once, and is not remembered if they return.
    pub fn keep(&mut self, policy: &MirrorPolicy) {
        let has =
            |repository: &str| matches!(policy.repositories, Repositories::InUse) || rule(policy, repository).is_some();
        self.0.retain(|(known, _), entry| {
            has(&entry.repository) && key(policy, &entry.repository, &entry.reference) == *known
        });
    }

    /// References that are not looked after any more.
    pub fn blur(&mut self, gone: impl Fn(&str, &str) -> bool) {
        for entry in self.0.values_mut() {
            if gone(&entry.repository, &entry.reference) {
                entry.fact = Fact::Unclear;
            }
        }
    }

    /// These facts, and for what they do not mention those of an earlier leader.
    pub fn over(&self, prior: &Facts) -> Facts {
        let mut all = prior.clone();
        all.0.extend(self.0.iter().map(|(key, entry)| (*key, entry.clone())));
        all
    }
}

/// Everything that any replica was ever told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// By registry, path and reference: what was there (or nothing).
    answers: BTreeMap<(String, String, String), BTreeSet<Option<Digest>>>,
    /// Registries that have served a manifest of a mapping.
    pub served: BTreeSet<(MappingId, String)>,
}

impl Told {
    pub fn note(&mut self, place: (&str, &str), reference: &str, digest: Option<Digest>) {
        let key = (place.0.to_owned(), place.1.to_owned(), reference.to_owned());
        if let Some(digest) = digest.as_ref().filter(|_| !reference.contains(':')) {
            self.note(place, &digest.to_string(), Some(digest.clone()));
        }
        self.answers.entry(key).or_default().insert(digest);
    }

    pub fn of(&self, place: (&str, &str), reference: &str) -> impl Iterator<Item = &Option<Digest>> {
        let key = (place.0.to_owned(), place.1.to_owned(), reference.to_owned());
        self.answers.get(&key).into_iter().flatten()
    }

    /// Whether anything was there.
    pub fn anything(&self, place: (&str, &str)) -> bool {
        let mut answers = self.answers.iter();
        answers
            .any(|((host, path, _), held)| (host.as_str(), path.as_str()) == place && held.iter().any(Option::is_some))
    }

    pub fn present(&self, place: (&str, &str), reference: &str) -> bool {
        self.of(place, reference).any(Option::is_some)
    }
}
