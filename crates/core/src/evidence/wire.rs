//! The bytes of evidence: what one ConfigMap holds.
//!
//! | bytes | |
//! | --- | --- |
//! | 4 | `CTEV` |
//! | 1 | version, 1 |
//! | 4 | index of this shard, from 0 |
//! | 4 | number of shards |
//! | 4 | number of records in this shard |
//! | 32 | SHA-256 over all records of all shards: the revision |
//! | 8 | the first bytes of SHA-256 over the header so far and this shard's records |
//! | 9 each | records: 8 bytes of key, 1 byte of verdict, in the order of keys |
//!
//! Numbers are big-endian, so that the order of keys is the order of bytes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Evidence, EvidenceBuilder, Verdict};

const MAGIC: &[u8; 4] = b"CTEV";
const VERSION: u8 = 1;
const RECORD: usize = 9;
const CHECKED_HEADER: usize = 4 + 1 + 4 + 4 + 4 + 32;
const HEADER: usize = CHECKED_HEADER + 8;

/// Why (part of) the evidence can't be read.
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
    /// Cut off, damaged, or with a verdict that does not exist.
    #[error("failed to read the evidence: a shard is damaged")]
    Damaged,
    /// Shards are missing.
    #[error("failed to read the evidence: {present} of {expected} shards are there")]
    Incomplete {
        /// How many different shards were given.
        present: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Shards of different revisions lie side by side, as while they are being written.
    #[error("failed to read the evidence: its shards are of different revisions")]
    MixedRevisions,
}

impl Evidence {
    /// Cuts the records into shards of at most `max_shard_bytes` each (but at least one record); an empty evidence is
    /// one shard.
    pub fn encode(&self, max_shard_bytes: usize) -> Vec<Vec<u8>> {
        let per_shard = (max_shard_bytes.saturating_sub(HEADER) / RECORD).max(1);
        let count = self.len().div_ceil(per_shard).max(1);
        let revision = self.hash();
        (0..count)
            .map(|index| {
                let start = index * per_shard;
                let records = self.len().min(start + per_shard) - start;
                let mut shard = Vec::with_capacity(HEADER + records * RECORD);
                shard.extend_from_slice(MAGIC);
                shard.push(VERSION);
                for number in [index, count, records] {
                    shard.extend_from_slice(&(number as u32).to_be_bytes());
                }
                shard.extend_from_slice(&revision);
                shard.extend_from_slice(&[0; HEADER - CHECKED_HEADER]);
                for (key, verdict) in self.records().skip(start).take(records) {
                    shard.extend_from_slice(&key.to_be_bytes());
                    shard.push(verdict as u8);
                }
                let checksum = checksum(&shard);
                shard[CHECKED_HEADER..HEADER].copy_from_slice(&checksum);
                shard
            })
            .collect()
    }

    /// Reads all shards of one revision, in any order; refuses anything less.
    pub fn decode<'a>(shards: impl IntoIterator<Item = &'a [u8]>) -> Result<Evidence, EvidenceError> {
        let (evidence, errors) = Evidence::decode_lossy(shards);
        errors.into_iter().next().map_or(Ok(evidence), Err)
    }

    /// Reads what can be read, and says what could not.
    ///
    /// Records of missing or unreadable shards are absent, which means "not verified". Where shards of two revisions
    /// speak of the same tag, the more cautious verdict holds.
    pub fn decode_lossy<'a>(shards: impl IntoIterator<Item = &'a [u8]>) -> (Evidence, Vec<EvidenceError>) {
        let mut builder = Evidence::builder();
        let mut errors = Vec::new();
        let mut revisions = BTreeSet::new();
        let mut present = BTreeSet::new();
        let mut expected = 1;
        for shard in shards {
            match Shard::read(shard) {
                Ok(shard) => {
                    shard.add_to(&mut builder);
                    present.insert(shard.index);
                    expected = expected.max(shard.count as usize);
                    revisions.insert(shard.revision);
                }
                Err(error) => errors.push(error),
            }
        }
        if revisions.len() > 1 {
            errors.push(EvidenceError::MixedRevisions);
        } else if present.len() < expected {
            errors.push(EvidenceError::Incomplete {
                present: present.len(),
                expected,
            });
        }
        (builder.build(), errors)
    }

    /// `sha256:` and the hash over all records: the same records have the same revision.
    pub fn revision(&self) -> String {
        self.hash().iter().fold(String::from("sha256:"), |mut text, byte| {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (key, verdict) in self.records() {
            hash.update(key.to_be_bytes());
            hash.update([verdict as u8]);
        }
        hash.finalize().into()
    }
}

/// One shard whose checksum was right.
struct Shard<'a> {
    index: u32,
    count: u32,
    revision: &'a [u8],
    records: Vec<(u64, Verdict)>,
}

impl<'a> Shard<'a> {
    fn read(bytes: &'a [u8]) -> Result<Shard<'a>, EvidenceError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(EvidenceError::NoHeader)?;
        let (version, rest) = rest.split_first().ok_or(EvidenceError::NoHeader)?;
        if *version != VERSION {
            return Err(EvidenceError::UnknownVersion { version: *version });
        }
        let shard = Shard::read_body(rest).ok_or(EvidenceError::Damaged)?;
        // Only now: a later version may compute it differently.
        if bytes[CHECKED_HEADER..HEADER] == checksum(bytes) {
            Ok(shard)
        } else {
            Err(EvidenceError::Damaged)
        }
    }

    fn read_body(rest: &'a [u8]) -> Option<Shard<'a>> {
        let (index, rest) = read_number(rest)?;
        let (count, rest) = read_number(rest)?;
        let (number, rest) = read_number(rest)?;
        let (revision, rest) = rest.split_at_checked(32)?;
        let (_checksum, rest) = rest.split_at_checked(HEADER - CHECKED_HEADER)?;
        let (records, trailing) = rest.as_chunks::<RECORD>();
        if index >= count || records.len() != number as usize || !trailing.is_empty() {
            return None;
        }
        let read = |[key @ .., verdict]: &[u8; RECORD]| Some((u64::from_be_bytes(*key), Verdict::from_byte(*verdict)?));
        let records = records.iter().map(read).collect::<Option<_>>()?;
        Some(Shard {
            index,
            count,
            revision,
            records,
        })
    }

    fn add_to(&self, builder: &mut EvidenceBuilder) {
        builder.records.extend_from_slice(&self.records);
    }
}

fn read_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// Over everything but the place of the checksum itself; `shard` must be as long as a header.
fn checksum(shard: &[u8]) -> [u8; HEADER - CHECKED_HEADER] {
    let hash = Sha256::new()
        .chain_update(&shard[..CHECKED_HEADER])
        .chain_update(&shard[HEADER..])
        .finalize();
    let mut checksum = [0; HEADER - CHECKED_HEADER];
    checksum.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    checksum
}
