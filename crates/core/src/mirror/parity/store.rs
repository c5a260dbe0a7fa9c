//! Where the entries are, and how they are found: by name, by key, and by the digests that they stand for.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::entry::Entry;
use super::order::Order;
use crate::routing::evidence::{Key, RepositoryKeys};
use crate::side::{Side, Sides};

/// Entries in one piece of memory, so that none has to move when there are more.
const CHUNK: usize = 256;

/// The number of an entry, as long as it is there. Less than 2^31: so many entries would take 300 GB.
pub(super) type Id = u32;

/// One entry and its names.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) reference: Box<str>,
    pub(super) repository: u32,
    pub(super) entry: Entry,
}

impl Slot {
    pub(super) fn is_digest(&self) -> bool {
        is_digest(&self.reference)
    }
}

/// Tags have no colon, and digests do.
pub(super) fn is_digest(reference: &str) -> bool {
    reference.contains(':')
}

/// One repository with entries.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) name: Arc<str>,
    pub(super) keys: RepositoryKeys,
    /// Entries that at least one side has.
    pub(super) known: usize,
    tags: Order<Named>,
    digests: Order<Named>,
}

impl Repository {
    fn order(&self, reference: &str) -> &Order<Named> {
        if is_digest(reference) {
            &self.digests
        } else {
            &self.tags
        }
    }

    fn order_mut(&mut self, reference: &str) -> &mut Order<Named> {
        if is_digest(reference) {
            &mut self.digests
        } else {
            &mut self.tags
        }
    }

    /// Whether digests were asked for themselves.
    pub(super) fn has_digests(&self) -> bool {
        !self.digests.is_empty()
    }
}

/// The first bytes of a name, padded with zeros: they sort as the name does.
type Start = [u8; 8];

/// An entry in the order of names. Most names differ in their first bytes, so a search reads few of the entries themselves, which
/// lie far apart in memory.
#[derive(Clone, Copy, Debug)]
struct Named {
    start: Start,
    id: Id,
}

/// A name that is looked for.
#[derive(Clone, Copy)]
struct Name<'a> {
    start: Start,
    whole: &'a str,
}

impl Name<'_> {
    fn of(whole: &str) -> Name<'_> {
        let mut start = Start::default();
        for (to, from) in start.iter_mut().zip(whole.as_bytes()) {
            *to = *from;
        }
        Name { start, whole }
    }
}

#[derive(Debug, Default)]
pub(super) struct Store {
    slots: Vec<Vec<Option<Slot>>>,
    free: Vec<Id>,
    repositories: Vec<Option<Repository>>,
    free_repositories: Vec<u32>,
    by_name: BTreeMap<Arc<str>, u32>,
    by_key: Order,
    /// Entries of tags by the keys of the digests that they stand for: the entry's number, then one bit for the side.
    by_digest: Order,
}

impl Store {
    pub(super) fn slot(&self, id: Id) -> Option<&Slot> {
        slot_of(&self.slots, id)
    }

    /// To change its entry, but not which digests it stands for.
    pub(super) fn entry_mut(&mut self, id: Id) -> Option<&mut Entry> {
        let chunk = self.slots.get_mut(id as usize / CHUNK)?;
        Some(&mut chunk.get_mut(id as usize % CHUNK)?.as_mut()?.entry)
    }

    pub(super) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repository_of(*self.by_name.get(name)?)
    }

    pub(super) fn repository_of(&self, number: u32) -> Option<&Repository> {
        self.repositories.get(number as usize)?.as_ref()
    }

    pub(super) fn repository_mut(&mut self, number: u32) -> Option<&mut Repository> {
        self.repositories.get_mut(number as usize)?.as_mut()
    }

    /// All repositories with entries, by name.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &Repository> {
        self.by_name.values().filter_map(|number| self.repository_of(*number))
    }

    /// Repositories with entries from this name on.
    pub(super) fn repositories_from<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s Repository> + use<'s> {
        let numbers = self.by_name.range::<str, _>((Bound::Included(name), Bound::Unbounded));
        numbers.filter_map(|(_, number)| self.repository_of(*number))
    }

    /// By name: entries that are looked up together are often neighbours in that order, and no key has to be computed.
    pub(super) fn find(&self, repository: &str, reference: &str) -> Option<Id> {
        let order = self.repository(repository)?.order(reference);
        let wanted = Name::of(reference);
        Some(order.find(|named| by_name(&self.slots, named, wanted))?.id)
    }

    /// The entries of tags of a repository, by name.
    pub(super) fn tags(&self, repository: &str, from: Bound<&str>) -> impl Iterator<Item = (Id, &Slot)> {
        let tags = self.repository(repository).map(|repository| &repository.tags);
        let from = tags.map(|tags| tags.starting_at(|named| after_bound(&self.slots, named, from)));
        let ids = from.into_iter().flatten().map(|named| named.id);
        ids.filter_map(|id| Some((id, self.slot(id)?)))
    }

    /// All entries of a repository: its tags by name, then its digests.
    pub(super) fn entries<'s>(&'s self, repository: &'s Repository) -> impl Iterator<Item = (Id, &'s Slot)> {
        let ids = repository.tags.iter().chain(repository.digests.iter());
        ids.filter_map(|named| Some((named.id, self.slot(named.id)?)))
    }

    /// The entries of digests that were asked for themselves.
    pub(super) fn digests<'s>(&'s self, repository: &'s Repository) -> impl Iterator<Item = (Id, &'s Slot)> {
        let ids = repository.digests.iter().map(|named| named.id);
        ids.filter_map(|id| Some((id, self.slot(id)?)))
    }

    /// All entries from a key on.
    pub(super) fn starting_at(&self, key: Key) -> impl Iterator<Item = &Slot> {
        self.by_key
            .starting_at(move |id| by_key(&self.slots, id, (key, 0, "")))
            .filter_map(|id| self.slot(id))
    }

    /// The entries of tags that a side is known to have with this digest.
    pub(super) fn standing_for(&self, digest: Key) -> impl Iterator<Item = &Slot> {
        let items = self
            .by_digest
            .starting_at(move |item| by_digest(&self.slots, item, (digest, 0)));
        items
            .take_while(move |item| digest_of(&self.slots, *item) == Some(digest))
            .filter_map(|item| self.slot(item >> 1))
    }

    #[cfg(test)]
    pub(super) fn by_digest_len(&self) -> usize {
        self.by_digest.iter().count()
    }

    /// Makes an entry that is not there yet.
    pub(super) fn insert(&mut self, repository: &str, reference: &str, keys: &RepositoryKeys) -> Id {
        let number = self.number_of(repository, keys);
        let key = keys.key(reference);
        let slot = Slot {
            key,
            reference: reference.into(),
            repository: number,
            entry: Entry::default(),
        };
        let id = self.place(slot);
        let slots = &self.slots;
        self.by_key
            .insert(id, |other| by_key(slots, other, (key, number, reference)));
        if let Some(repository) = self.repositories.get_mut(number as usize).and_then(Option::as_mut) {
            let name = Name::of(reference);
            let named = Named { start: name.start, id };
            let order = repository.order_mut(reference);
            order.insert(named, |other| by_name(slots, other, name));
        }
        id
    }

    /// Takes an entry out that stands for no digest ([`Store::stand_for`]), and its repository with its last entry.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(slot) = self.slot(id) else { return };
        let (key, number, reference) = (slot.key, slot.repository, slot.reference.clone());
        let slots = &self.slots;
        self.by_key
            .remove(|other| by_key(slots, other, (key, number, &reference)));
        if let Some(repository) = self.repositories.get_mut(number as usize).and_then(Option::as_mut) {
            let name = Name::of(&reference);
            let order = repository.order_mut(&reference);
            order.remove(|other| by_name(slots, other, name));
            if repository.tags.is_empty() && repository.digests.is_empty() {
                self.by_name.remove(&*repository.name);
                self.repositories[number as usize] = None;
                self.free_repositories.push(number);
            }
        }
        if let Some(place) = self.slots.get_mut(id as usize / CHUNK) {
            place[id as usize % CHUNK] = None;
            self.free.push(id);
        }
    }

    /// Enters (or takes out) an entry of a tag under the digests that it stands for. It must be out while they change.
    pub(super) fn stand_for(&mut self, id: Id, stand: bool) {
        let Some(slot) = self.slot(id).filter(|slot| !slot.is_digest()) else {
            return;
        };
        let keys = slot.entry.content_keys();
        let slots = &self.slots;
        for side in Side::ALL {
            let Some(key) = keys[side] else { continue };
            let item = id << 1 | u32::from(side == Side::Fallback);
            if stand {
                self.by_digest
                    .insert(item, |other| by_digest(slots, other, (key, item)));
            } else {
                self.by_digest.remove(|other| by_digest(slots, other, (key, item)));
            }
        }
    }

    fn place(&mut self, slot: Slot) -> Id {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize / CHUNK][id as usize % CHUNK] = Some(slot);
            return id;
        }
        match self.slots.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(Some(slot)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Some(slot));
                self.slots.push(chunk);
            }
        }
        let last = self.slots.len() - 1;
        (last * CHUNK + self.slots[last].len() - 1) as Id
    }

    fn number_of(&mut self, name: &str, keys: &RepositoryKeys) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let name: Arc<str> = name.into();
        let repository = Repository {
            name: Arc::clone(&name),
            keys: keys.clone(),
            known: 0,
            tags: Order::default(),
            digests: Order::default(),
        };
        let number = if let Some(number) = self.free_repositories.pop() {
            self.repositories[number as usize] = Some(repository);
            number
        } else {
            self.repositories.push(Some(repository));
            (self.repositories.len() - 1) as u32
        };
        self.by_name.insert(name, number);
        number
    }
}

type Slots = [Vec<Option<Slot>>];

fn slot_of(slots: &Slots, id: Id) -> Option<&Slot> {
    slots.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?.as_ref()
}

fn by_key(slots: &Slots, id: Id, wanted: (Key, u32, &str)) -> Ordering {
    // An entry that is not there can't be in an index.
    slot_of(slots, id).map_or(Ordering::Less, |slot| {
        (slot.key, slot.repository, &*slot.reference).cmp(&wanted)
    })
}

fn by_name(slots: &Slots, named: Named, wanted: Name<'_>) -> Ordering {
    named
        .start
        .cmp(&wanted.start)
        .then_with(|| slot_of(slots, named.id).map_or(Ordering::Less, |slot| (*slot.reference).cmp(wanted.whole)))
}

fn after_bound(slots: &Slots, named: Named, from: Bound<&str>) -> Ordering {
    match from {
        Bound::Unbounded => Ordering::Greater,
        Bound::Included(from) => by_name(slots, named, Name::of(from)),
        Bound::Excluded(from) => by_name(slots, named, Name::of(from)).then(Ordering::Less),
    }
}

fn by_digest(slots: &Slots, item: u32, wanted: (Key, u32)) -> Ordering {
    digest_of(slots, item).map_or(Ordering::Less, |key| (key, item).cmp(&wanted))
}

fn digest_of(slots: &Slots, item: u32) -> Option<Key> {
    let keys: Sides<Option<Key>> = slot_of(slots, item >> 1)?.entry.content_keys();
    keys[if item & 1 == 0 { Side::Primary } else { Side::Fallback }]
}
