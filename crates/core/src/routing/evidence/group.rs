//! One group of records, and its bytes: what one ConfigMap holds.
//!
//! | bytes | |
//! | --- | --- |
//! | 4 | `CTEV` |
//! | 1 | version, 2 |
//! | 1 | bits: there are 2^bits groups |
//! | 2 | index of this group |
//! | 4 | number of records of tags |
//! | 4 | number of records of digests |
//! | 8 | revision: bytes 0 to 7 of SHA-256 over all the rest but revision and checksum |
//! | 8 | checksum: bytes 8 to 15 of it |
//! | 13 each | tags, and digests that were asked for themselves: 8 bytes of key, 4 of stamp, 1 of knowledge |
//! | 9 each | digests that tags of this group stand for: 8 bytes of key, 1 of knowledge |
//!
//! Numbers are big-endian, and records are in the order of keys. The stamp is 4 bytes of the key of the digest that both sides
//! have under a tag, 0 where they don't have one. It ties the tag to that digest.
//!
//! A group is kept as its bytes: reading one copies and checks them, and a lookup is a binary search in them.

use std::fmt;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::{Key, Knowledge};

/// The most bits of a key that choose its group.
pub const MOST_BITS: u8 = 8;

const MAGIC: &[u8; 4] = b"CTEV";
const VERSION: u8 = 2;
pub(super) const HASHED_HEADER: usize = 16;
pub(super) const HEADER: usize = HASHED_HEADER + 16;
const TAG: usize = TAG_BYTES;
const DIGEST: usize = DIGEST_BYTES;

/// What the record of a tag takes.
pub(crate) const TAG_BYTES: usize = 13;
/// What the record of a digest takes that tags stand for.
pub(crate) const DIGEST_BYTES: usize = 9;

/// Which part of a mirror's evidence a group is: of 2^bits groups the one whose keys begin with these bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupPlace {
    /// How many of the first bits of a key choose its group; 0 to [`MOST_BITS`].
    pub bits: u8,
    /// The first bits of this group's keys; less than 2^bits.
    pub index: u16,
}

impl GroupPlace {
    /// The group of a key, of 2^bits.
    pub fn of(key: Key, bits: u8) -> GroupPlace {
        let bits = bits.min(MOST_BITS);
        GroupPlace {
            bits,
            index: (key.bucket() >> (MOST_BITS - bits)) as u16,
        }
    }

    /// The group of a fixed bucket, of 2^bits.
    pub(crate) fn of_bucket(bucket: usize, bits: u8) -> GroupPlace {
        GroupPlace::of(Key::first_of(bucket), bits)
    }

    /// The fixed buckets that its keys belong to.
    pub(crate) fn buckets(self) -> Range<usize> {
        let width = MOST_BITS - self.bits.min(MOST_BITS);
        let first = usize::from(self.index) << width;
        first..first + (1 << width)
    }
}

impl fmt::Display for GroupPlace {
    /// As in the name of a ConfigMap: the bits, `x`, and the index in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{:x}", self.bits, self.index)
    }
}

/// Why a group can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Not evidence at all.
    #[error("failed to read the evidence: no header")]
    NoHeader,
    /// Written by another version.
    #[error("failed to read the evidence: unknown version {version}")]
    UnknownVersion {
        /// The version that the header names.
        version: u8,
    },
    /// Cut off, damaged, or with a record that has no meaning.
    #[error("failed to read the evidence: a group is damaged")]
    Damaged,
}

/// The records of one group.
#[derive(Clone, PartialEq, Eq)]
pub struct Group {
    place: GroupPlace,
    tags: usize,
    bytes: Box<[u8]>,
}

impl Group {
    /// Starts a group.
    pub fn builder(place: GroupPlace) -> GroupBuilder {
        GroupBuilder {
            place,
            tags: Vec::new(),
            digests: Vec::new(),
        }
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }

    /// Reads stored bytes. Whatever is accepted is encoded as the same bytes.
    pub fn decode(bytes: &[u8]) -> Result<Group, EvidenceError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(EvidenceError::NoHeader)?;
        let version = *rest.first().ok_or(EvidenceError::NoHeader)?;
        if version != VERSION {
            return Err(EvidenceError::UnknownVersion { version });
        }
        Group::decode_body(bytes).ok_or(EvidenceError::Damaged)
    }

    fn decode_body(bytes: &[u8]) -> Option<Group> {
        let (header, records) = bytes.split_at_checked(HEADER)?;
        let place = GroupPlace {
            bits: header[5],
            index: u16::from_be_bytes([header[6], header[7]]),
        };
        let (tags, digests) = (number(&header[8..12]), number(&header[12..16]));
        let tag_bytes = tags.checked_mul(TAG)?;
        let length = tag_bytes.checked_add(digests.checked_mul(DIGEST)?)?;
        let exists = place.bits <= MOST_BITS && place.index >> place.bits == 0;
        if !exists || records.len() != length || header[HASHED_HEADER..] != fingerprint(bytes) {
            return None;
        }
        let group = Group {
            place,
            tags,
            bytes: bytes.into(),
        };
        group.is_well_formed().then_some(group)
    }

    fn is_well_formed(&self) -> bool {
        let tags = self.tag_records();
        let digests = self.digest_records();
        let known = |byte: u8| Knowledge::from_byte(byte).filter(|known| *known != Knowledge::NOTHING);
        tags.windows(2).all(|pair| pair[0][..8] < pair[1][..8])
            && digests.windows(2).all(|pair| pair[0][..8] < pair[1][..8])
            && tags
                .iter()
                .all(|record| GroupPlace::of(key(record), self.place.bits) == self.place)
            && tags
                .iter()
                .all(|record| known(record[TAG - 1]).is_some_and(|known| known.same || number(&record[8..12]) == 0))
            && digests
                .iter()
                .all(|record| known(record[DIGEST - 1]).is_some_and(|known| known == known.of_digest()))
    }

    /// Which group this is.
    pub fn place(&self) -> GroupPlace {
        self.place
    }

    /// The same records in the same place have the same revision.
    pub fn revision(&self) -> u64 {
        let revision = &self.bytes[HASHED_HEADER..HASHED_HEADER + 8];
        revision.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// How many records there are, of tags and digests.
    pub fn len(&self) -> usize {
        self.tags + self.digest_records().len()
    }

    /// How many bytes [`Group::encode`] makes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn tag(&self, wanted: Key) -> Option<Knowledge> {
        Knowledge::from_byte(self.tag_record(wanted)?[TAG - 1])
    }

    /// Whether a tag is tied to this digest; none when nothing is known of the tag.
    pub(super) fn stands_for(&self, tag: Key, digest: Key) -> Option<bool> {
        Some(number(&self.tag_record(tag)?[8..12]) == stamp(digest) as usize)
    }

    fn tag_record(&self, wanted: Key) -> Option<&[u8; TAG]> {
        let records = self.tag_records();
        let index = records.binary_search_by_key(&wanted, |record| key(record)).ok()?;
        records.get(index)
    }

    /// What is known of tags and of digests that were asked for themselves.
    pub(crate) fn tags(&self) -> impl Iterator<Item = TagRecord> {
        self.tag_records().iter().map(|record| TagRecord {
            key: key(record),
            stamp: number(&record[8..12]) as u32,
            knowledge: Knowledge::from_byte(record[TAG - 1]).unwrap_or_default(),
        })
    }

    /// What is known of digests by tags.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (Key, Knowledge)> {
        let knowledge = |byte| Knowledge::from_byte(byte).unwrap_or_default();
        let records = self.digest_records().iter();
        records.map(move |record| (key(record), knowledge(record[DIGEST - 1])))
    }

    pub(super) fn digest(&self, wanted: Key) -> Option<Knowledge> {
        let records = self.digest_records();
        let index = records.binary_search_by_key(&wanted, |record| key(record)).ok()?;
        Knowledge::from_byte(records.get(index)?[DIGEST - 1])
    }

    fn tag_records(&self) -> &[[u8; TAG]] {
        self.bytes[HEADER..HEADER + self.tags * TAG].as_chunks().0
    }

    fn digest_records(&self) -> &[[u8; DIGEST]] {
        self.bytes[HEADER + self.tags * TAG..].as_chunks().0
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("place", &self.place)
            .field("tags", &self.tags)
            .field("digests", &self.digest_records().len())
            .finish_non_exhaustive()
    }
}

/// What a group says of one tag, or of a digest that was asked for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagRecord {
    pub(crate) key: Key,
    pub(crate) knowledge: Knowledge,
    stamp: u32,
}

impl TagRecord {
    /// The same with other knowledge.
    pub(crate) fn with(self, knowledge: Knowledge) -> TagRecord {
        let stamp = if knowledge.same { self.stamp } else { 0 };
        TagRecord {
            knowledge,
            stamp,
            ..self
        }
    }

    fn merge(self, other: TagRecord) -> TagRecord {
        let merged = TagRecord {
            key: self.key,
            knowledge: self.knowledge.merge(other.knowledge),
            stamp: if self.stamp == other.stamp { self.stamp } else { 0 },
        };
        merged.with(merged.knowledge)
    }
}

/// Collects the records of one [`Group`], in any order. Of two records with one key, the cautious merge is kept.
#[derive(Clone, Debug)]
pub struct GroupBuilder {
    place: GroupPlace,
    tags: Vec<TagRecord>,
    digests: Vec<(Key, Knowledge)>,
}

impl GroupBuilder {
    /// Adds what is known of a tag, or of a digest that was asked for itself. `digest` is the key of the digest that both
    /// sides have under a tag. A key of another group is left out.
    pub fn tag(&mut self, key: Key, knowledge: Knowledge, digest: Option<Key>) -> &mut GroupBuilder {
        let stamp = digest.filter(|_| knowledge.same).map_or(0, stamp);
        self.record(TagRecord { key, knowledge, stamp })
    }

    /// Adds a record of another group.
    pub(crate) fn record(&mut self, record: TagRecord) -> &mut GroupBuilder {
        let belongs = GroupPlace::of(record.key, self.place.bits) == self.place;
        if belongs && record.knowledge != Knowledge::NOTHING {
            self.tags.push(record);
        }
        self
    }

    /// Adds what is known of a digest by the tags of this group.
    pub fn digest(&mut self, key: Key, knowledge: Knowledge) -> &mut GroupBuilder {
        if knowledge != Knowledge::NOTHING {
            self.digests.push((key, knowledge.of_digest()));
        }
        self
    }

    /// Sorts what was added.
    pub fn build(&mut self) -> Group {
        let (mut tags, mut digests) = (std::mem::take(&mut self.tags), std::mem::take(&mut self.digests));
        tags.sort_unstable_by_key(|record| record.key);
        tags.dedup_by(|later, kept| {
            let one_key = later.key == kept.key;
            if one_key {
                *kept = kept.merge(*later);
            }
            one_key
        });
        digests.sort_unstable_by_key(|(key, _)| *key);
        digests.dedup_by(|later, kept| {
            let one_key = later.0 == kept.0;
            if one_key {
                kept.1 = kept.1.merge(later.1).of_digest();
            }
            one_key
        });
        Group {
            place: self.place,
            tags: tags.len(),
            bytes: write(self.place, &tags, &digests).into_boxed_slice(),
        }
    }
}

fn write(place: GroupPlace, tags: &[TagRecord], digests: &[(Key, Knowledge)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + tags.len() * TAG + digests.len() * DIGEST);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, place.bits]);
    bytes.extend_from_slice(&place.index.to_be_bytes());
    bytes.extend_from_slice(&(tags.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&(digests.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&[0; HEADER - HASHED_HEADER]);
    for record in tags {
        bytes.extend_from_slice(&record.key.0.to_be_bytes());
        bytes.extend_from_slice(&record.stamp.to_be_bytes());
        bytes.push(record.knowledge.to_byte());
    }
    for (key, knowledge) in digests {
        bytes.extend_from_slice(&key.0.to_be_bytes());
        bytes.push(knowledge.to_byte());
    }
    let fingerprint = fingerprint(&bytes);
    bytes[HASHED_HEADER..HEADER].copy_from_slice(&fingerprint);
    bytes
}

/// Revision and checksum: over everything but their own place. `bytes` are at least a header.
pub(super) fn fingerprint(bytes: &[u8]) -> [u8; HEADER - HASHED_HEADER] {
    let hash = Sha256::new()
        .chain_update(&bytes[..HASHED_HEADER])
        .chain_update(&bytes[HEADER..])
        .finalize();
    let mut fingerprint = [0; HEADER - HASHED_HEADER];
    fingerprint.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    fingerprint
}

/// The bytes of a digest's key that a tag's record names it by; those that don't choose its group.
fn stamp(digest: Key) -> u32 {
    digest.0 as u32
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The key of a record, which is its first 8 bytes.
fn key(record: &[u8]) -> Key {
    Key(record.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte)))
}
