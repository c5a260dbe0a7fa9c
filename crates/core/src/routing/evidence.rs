//! What is known of each tag and digest on both sides, in the compact form that the webhook reads.
//!
//! A [`Key`] stands for one reference of one mapping, a [`Knowledge`] for what is known of it. Records are split into
//! [`Group`]s by the first bits of their keys; one group is the content of one ConfigMap, so that a changed tag rewrites one
//! small object. What can't be read is not known, and what is known of another mapping is not found.

mod group;
mod key;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::side::{Side, Sides};
pub(crate) use group::{DIGEST_BYTES, TAG_BYTES};
pub use group::{EvidenceError, Group, GroupBuilder, GroupPlace, MOST_BITS};
pub(crate) use key::RepositoryKeys;
pub use key::{Key, MappingId, MappingIdError};

/// Whether a side has a reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Presence {
    /// Nothing is known. Zero, so that blank memory knows nothing.
    #[default]
    Unknown = 0,
    /// The side has it.
    Present = 1,
    /// The side answered that it does not have it.
    Absent = 2,
}

/// Why what a side has under a digest can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// What it refers to is not all there: a manifest, a config or a layer is missing.
    Broken,
    /// Its content, or that of a manifest it refers to, does not have the digest that it was asked for by.
    Untrusted,
}

impl Flaw {
    /// `Broken` or `Untrusted`, as in conditions and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Flaw::Broken => "Broken",
            Flaw::Untrusted => "Untrusted",
        }
    }
}

/// The flaw of each side; none where none is known.
pub type Flaws = Sides<Option<Flaw>>;

/// What is known of one reference (a tag or a digest) on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Knowledge {
    /// Whether each side has it.
    pub presence: Sides<Presence>,
    /// Both have it, with one digest. Never true unless both are [`Presence::Present`].
    pub same: bool,
    /// Why it can't be pulled. Never of a side that is not [`Presence::Present`].
    pub flaws: Flaws,
}

const SOUND: Flaws = Sides {
    primary: None,
    fallback: None,
};

const SAME: u8 = 1 << 4;
/// In place of the presence of a side that has it and whose content is untrusted; the bit of its flaw is set, too.
const UNTRUSTED: u8 = 3;
const FLAWED: Sides<u8> = Sides {
    primary: 1 << 6,
    fallback: 1 << 7,
};

impl Presence {
    fn from_bits(bits: u8) -> Option<Presence> {
        match bits {
            0 => Some(Presence::Unknown),
            1 => Some(Presence::Present),
            2 => Some(Presence::Absent),
            _ => None,
        }
    }

    fn merge(self, other: Presence) -> Presence {
        match (self, other) {
            (Presence::Absent, _) | (_, Presence::Absent) => Presence::Absent,
            (Presence::Present, _) | (_, Presence::Present) => Presence::Present,
            _ => Presence::Unknown,
        }
    }
}

impl Knowledge {
    /// Nothing is known.
    pub const NOTHING: Knowledge = Knowledge {
        presence: Sides {
            primary: Presence::Unknown,
            fallback: Presence::Unknown,
        },
        same: false,
        flaws: SOUND,
    };

    /// Both sides have it, with one digest.
    pub const IN_SYNC: Knowledge = Knowledge {
        presence: Sides {
            primary: Presence::Present,
            fallback: Presence::Present,
        },
        same: true,
        flaws: SOUND,
    };

    /// Bits 0 and 1: the primary's presence; 2 and 3: the fallback's; 4: one digest; 6 and 7: the primary's and the fallback's content
    /// can't be used. Where that is because it is untrusted, both bits of its presence are set. Bit 5 is free, and 0.
    pub fn to_byte(self) -> u8 {
        let same = if self.same { SAME } else { 0 };
        let presence = |side: Side| match self.flaws[side] {
            Some(Flaw::Untrusted) => UNTRUSTED,
            _ => self.presence[side] as u8,
        };
        let flawed = |side: Side| if self.flaws[side].is_some() { FLAWED[side] } else { 0 };
        let flawed = flawed(Side::Primary) | flawed(Side::Fallback);
        presence(Side::Primary) | presence(Side::Fallback) << 2 | same | flawed
    }

    /// Reads [`Knowledge::to_byte`]; none for a byte that it never writes.
    pub fn from_byte(byte: u8) -> Option<Knowledge> {
        let bits = Sides {
            primary: byte & 3,
            fallback: byte >> 2 & 3,
        };
        let presence = |bits| if bits == UNTRUSTED { 1 } else { bits };
        let flaw = |side: Side| match (byte & FLAWED[side], bits[side]) {
            (0, _) => None,
            (_, UNTRUSTED) => Some(Flaw::Untrusted),
            _ => Some(Flaw::Broken),
        };
        let knowledge = Knowledge {
            presence: Sides {
                primary: Presence::from_bits(presence(bits.primary))?,
                fallback: Presence::from_bits(presence(bits.fallback))?,
            },
            same: byte & SAME != 0,
            flaws: Sides::from_fn(flaw),
        };
        let is_there = |side: Side| knowledge.flaws[side].is_none() || knowledge.presence[side] == Presence::Present;
        let possible = (!knowledge.same || knowledge.is_on_both()) && Side::ALL.into_iter().all(is_there);
        (possible && knowledge.to_byte() == byte).then_some(knowledge)
    }

    /// Both sides have it.
    pub fn is_on_both(self) -> bool {
        Side::ALL.iter().all(|side| self.presence[*side] == Presence::Present)
    }

    /// What is known by either of the two. Where they contradict, the cautious one holds: absent beats present, different
    /// beats one digest, and untrusted beats broken.
    #[must_use]
    pub fn merge(self, other: Knowledge) -> Knowledge {
        let presence = Sides::from_fn(|side| self.presence[side].merge(other.presence[side]));
        let says_different = |one: Knowledge| one.is_on_both() && !one.same;
        let flaws = Sides::from_fn(|side| self.flaws[side].max(other.flaws[side]));
        let merged = Knowledge {
            presence,
            same: false,
            flaws: SOUND,
        }
        .with_flaws(flaws);
        Knowledge {
            same: merged.is_on_both() && (self.same || other.same) && !says_different(self) && !says_different(other),
            ..merged
        }
    }

    /// The same with these flaws, of sides that have it.
    #[must_use]
    pub(crate) fn with_flaws(self, flaws: Flaws) -> Knowledge {
        let flaws = Sides::from_fn(|side| flaws[side].filter(|_| self.presence[side] == Presence::Present));
        Knowledge { flaws, ..self }
    }

    /// The same of a digest, which is one digest wherever it is.
    #[must_use]
    pub(crate) fn of_digest(self) -> Knowledge {
        Knowledge {
            same: self.is_on_both(),
            ..self
        }
    }
}

/// What is known of all references of one mirror: its groups, shared with whatever else holds them.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// By place, each once. Groups of two sizes lie side by side while all are being rewritten.
    groups: Vec<Arc<Group>>,
}

impl Evidence {
    /// The same with this group in its place.
    #[must_use]
    pub fn with(&self, group: Arc<Group>) -> Evidence {
        let mut groups = self.groups.clone();
        match groups.binary_search_by_key(&group.place(), |there| there.place()) {
            Ok(index) => groups[index] = group,
            Err(index) => groups.insert(index, group),
        }
        Evidence { groups }
    }

    /// The same without the group in this place.
    #[must_use]
    pub fn without(&self, place: GroupPlace) -> Evidence {
        let mut groups = self.groups.clone();
        groups.retain(|group| group.place() != place);
        Evidence { groups }
    }

    /// What is known of a tag; none when nothing is.
    pub fn tag(&self, key: Key) -> Option<Knowledge> {
        self.own_groups(key)
            .filter_map(|group| group.tag(key))
            .reduce(Knowledge::merge)
    }

    /// What is known of a digest, by itself and by the tags that stand for it; none when nothing is. Takes a binary search
    /// in each group.
    pub fn digest(&self, key: Key) -> Option<Knowledge> {
        let by_tags = self.groups.iter().filter_map(|group| group.digest(key));
        let known = self.tag(key).into_iter().chain(by_tags).reduce(Knowledge::merge);
        known.map(Knowledge::of_digest)
    }

    /// The places of the groups that say something of a reference: of a digest also those of tags that stand for it.
    pub fn places(&self, key: Key) -> Vec<GroupPlace> {
        let says = |group: &&Arc<Group>| group.tag(key).is_some() || group.digest(key).is_some();
        self.groups.iter().filter(says).map(|group| group.place()).collect()
    }

    /// Whether both sides had this digest under a tag.
    pub(crate) fn stands_for(&self, tag: Key, digest: Key) -> bool {
        let mut groups = self.own_groups(tag).filter_map(|group| group.stands_for(tag, digest));
        groups.next() == Some(true) && groups.all(|ties| ties)
    }

    /// The groups, by place.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// How many records there are, of tags and digests.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.len()).sum()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.is_empty())
    }

    /// The groups that a key belongs to: one, or one of each size.
    fn own_groups(&self, key: Key) -> impl Iterator<Item = &Group> {
        (0..=MOST_BITS).filter_map(move |bits| {
            let place = GroupPlace::of(key, bits);
            let index = self.groups.binary_search_by_key(&place, |group| group.place()).ok()?;
            self.groups.get(index).map(Arc::as_ref)
        })
    }
}

impl FromIterator<Arc<Group>> for Evidence {
    /// Of two groups in one place, the later one.
    fn from_iter<T: IntoIterator<Item = Arc<Group>>>(groups: T) -> Evidence {
        let mut by_place = BTreeMap::new();
        for group in groups {
            by_place.insert(group.place(), group);
        }
        Evidence {
            groups: by_place.into_values().collect(),
        }
    }
}

impl FromIterator<(Key, Knowledge)> for Evidence {
    /// One group with these records of tags (or of digests that were asked for themselves).
    fn from_iter<T: IntoIterator<Item = (Key, Knowledge)>>(records: T) -> Evidence {
        let mut group = Group::builder(GroupPlace::default());
        for (key, knowledge) in records {
            group.tag(key, knowledge, None);
        }
        Evidence::default().with(Arc::new(group.build()))
    }
}
