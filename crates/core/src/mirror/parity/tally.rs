//! What is known of all entries together, kept up to date with each look: counts, and orders by time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::entry::Class;
use super::store::{Id, Slot};
use super::{Summary, Verdict};
use crate::routing::evidence::{DIGEST_BYTES, Key, Knowledge, TAG_BYTES};
use crate::side::{Side, Sides};

/// What one entry adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    id: Id,
    class: Class,
    is_digest: bool,
    present: Sides<bool>,
    checked: Option<u32>,
    diverged_since: Option<u32>,
    confirmable_at: Option<u32>,
    canary: Option<u64>,
    bytes: usize,
    /// Of what evidence says of it. Two entries that say the same of different references differ here.
    revision: u64,
    /// Sides that were read, of which an earlier leader's word does not count any more.
    read: Sides<bool>,
}

impl Share {
    pub(super) fn of(id: Id, slot: &Slot) -> Share {
        let entry = &slot.entry;
        let is_digest = slot.is_digest();
        let knowledge = entry.knowledge();
        let keys = entry.content_keys();
        let digests = Side::ALL.into_iter().filter(|side| !is_digest && keys[*side].is_some());
        let is_record = usize::from(knowledge != Knowledge::NOTHING);
        let revision = [Some(slot.key), keys.primary, keys.fallback]
            .into_iter()
            .fold(u64::from(knowledge.to_byte()), |hash, key| {
                mixed(hash ^ key.map_or(0, Key::number))
            });
        Share {
            id,
            class: entry.class(),
            is_digest,
            present: Sides::from_fn(|side| entry.content(side).is_some()),
            checked: entry.checked(),
            diverged_since: entry.diverged_since(),
            confirmable_at: entry.confirmable_at(),
            canary: entry.in_sync_since().filter(|_| !is_digest).map(|since| {
                let short = entry
                    .content(Side::Primary)
                    .is_some_and(|content| content.digest.is_sha256());
                canary_rank(short, since, id)
            }),
            bytes: is_record * TAG_BYTES + digests.count() * DIGEST_BYTES,
            revision: if is_record == 0 { 0 } else { revision },
            read: Sides::from_fn(|side| entry.is_read(side)),
        }
    }

    /// Whether evidence may say something else of it.
    pub(super) fn changes_evidence(&self, other: &Share) -> bool {
        (self.revision, self.read) != (other.revision, other.read)
    }

    /// Whether at least one side has it.
    pub(super) fn is_known(&self) -> bool {
        self.class != Class::Nowhere
    }

    /// The side that lacks it, if it is a tag.
    fn missing_on(&self) -> Option<Side> {
        match self.class {
            Class::Verdict(verdict) if !self.is_digest => verdict.lacking(),
            _ => None,
        }
    }
}

/// One divergence in the order of [`super::Ledger::divergences`], and its entry.
type Diverged = (Reverse<u32>, Arc<str>, Box<str>, Id);

#[derive(Debug, Default)]
pub(super) struct Tally {
    verdicts: BTreeMap<Verdict, usize>,
    not_cached: usize,
    nowhere: usize,
    digests: usize,
    /// Tags, no digests, by the side that lacks them.
    missing: Sides<usize>,
    repositories: usize,
    present: Sides<usize>,
    checked: Counts,
    confirmable: Counts,
    diverged: BTreeSet<Diverged>,
    canaries: BTreeSet<u64>,
    bytes: usize,
    revision: u64,
}

impl Tally {
    /// Puts `after` in the place of `before`, which is what the entry of this name added until now.
    pub(super) fn replace(
        &mut self,
        before: Option<&Share>,
        after: Option<&Share>,
        repository: &Arc<str>,
        reference: &str,
    ) {
        if before == after {
            return;
        }
        if let Some(share) = after {
            self.count(share);
        }
        if let Some(share) = before {
            self.discount(share);
        }
        let since = |share: Option<&Share>| share.and_then(|share| Some((share.diverged_since?, share.id)));
        if since(before) != since(after) {
            let diverged = |(since, id)| (Reverse(since), Arc::clone(repository), reference.into(), id);
            if let Some(since) = since(before) {
                self.diverged.remove(&diverged(since));
            }
            self.diverged.extend(since(after).map(diverged));
        }
        let canary = |share: Option<&Share>| share.and_then(|share| share.canary);
        if canary(before) != canary(after) {
            if let Some(rank) = canary(before) {
                self.canaries.remove(&rank);
            }
            self.canaries.extend(canary(after));
        }
    }

    fn count(&mut self, share: &Share) {
        *self.count_of(share.class) += 1;
        self.digests += usize::from(share.is_digest && share.is_known());
        if let Some(side) = share.missing_on() {
            self.missing[side] += 1;
        }
        for side in Side::ALL {
            self.present[side] += usize::from(share.present[side]);
        }
        self.checked.add(share.checked);
        self.confirmable.add(share.confirmable_at);
        self.bytes += share.bytes;
        self.revision = self.revision.wrapping_add(share.revision);
    }

    fn discount(&mut self, share: &Share) {
        *self.count_of(share.class) -= 1;
        self.digests -= usize::from(share.is_digest && share.is_known());
        if let Some(side) = share.missing_on() {
            self.missing[side] -= 1;
        }
        for side in Side::ALL {
            self.present[side] -= usize::from(share.present[side]);
        }
        self.checked.subtract(share.checked);
        self.confirmable.subtract(share.confirmable_at);
        self.bytes -= share.bytes;
        self.revision = self.revision.wrapping_sub(share.revision);
    }

    /// A repository got its first reference that a side has, or lost its last.
    pub(super) fn count_repository(&mut self, more: bool) {
        if more {
            self.repositories += 1;
        } else {
            self.repositories -= 1;
        }
    }

    fn count_of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Verdict(verdict) => self.verdicts.entry(verdict).or_default(),
            Class::NotCached => &mut self.not_cached,
            Class::Nowhere => &mut self.nowhere,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let count = |verdict: Verdict| self.verdicts.get(&verdict).copied().unwrap_or_default();
        Summary {
            repositories: self.repositories,
            tags: self.verdicts.values().sum::<usize>() + self.not_cached,
            digests: self.digests,
            in_sync: count(Verdict::InSync),
            missing_on_primary: count(Verdict::MissingOnPrimary),
            missing_on_fallback: count(Verdict::MissingOnFallback),
            mismatched: count(Verdict::Mismatched),
            pending: count(Verdict::Pending),
            not_cached: self.not_cached,
            broken: 0,
            untrusted: 0,
            oldest_check: self.checked.first().map(instant),
            revision: format!("{:016x}", self.revision),
        }
    }

    /// References that no side is known to have.
    pub(super) fn nowhere(&self) -> usize {
        self.nowhere
    }

    /// Tags that are missing, by the side that lacks them.
    pub(super) fn missing(&self) -> Sides<usize> {
        self.missing
    }

    pub(super) fn present(&self, side: Side) -> usize {
        self.present[side]
    }

    pub(super) fn next_confirmation(&self) -> Option<Timestamp> {
        self.confirmable.first().map(instant)
    }

    /// Repository, reference and entry of each divergence, the newest first, then by name.
    pub(super) fn diverged(&self) -> impl Iterator<Item = (&str, &str, Id)> {
        self.diverged
            .iter()
            .map(|(_, repository, reference, id)| (&**repository, &**reference, *id))
    }

    /// Tags in sync, the best canary first.
    pub(super) fn canaries(&self) -> impl Iterator<Item = Id> {
        self.canaries.iter().rev().map(|rank| canary_of(*rank))
    }

    /// About as many bytes as the records of all groups take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// How many entries have each number.
#[derive(Debug, Default)]
struct Counts(BTreeMap<u32, u32>);

impl Counts {
    fn add(&mut self, number: Option<u32>) {
        if let Some(number) = number {
            *self.0.entry(number).or_default() += 1;
        }
    }

    fn subtract(&mut self, number: Option<u32>) {
        let Some(number) = number else { return };
        if let Some(count) = self.0.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&number);
            }
        }
    }

    fn first(&self) -> Option<u32> {
        self.0.first_key_value().map(|(number, _)| *number)
    }
}

pub(super) fn instant(second: u32) -> Timestamp {
    Timestamp::from_second(i64::from(second)).unwrap_or(Timestamp::UNIX_EPOCH)
}

const LOW_31_BITS: u32 = u32::MAX >> 1;

/// The newest is the best, and of equals the one that was made first; one with a SHA-256 digest is better than any other.
fn canary_rank(is_sha256: bool, since: u32, id: Id) -> u64 {
    u64::from(is_sha256) << 63 | u64::from(since) << 31 | u64::from(LOW_31_BITS - id)
}

fn canary_of(rank: u64) -> Id {
    LOW_31_BITS - (rank as u32 & LOW_31_BITS)
}

/// The finalizer of `SplitMix64`: each bit of the number changes half of the bits of the result.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
