//! One tag: what its looks add up to. Kept small, because there are up to 100,000.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Observed, Rules};
use crate::digest::Digest;
use crate::evidence::Verdict;
use crate::health::later;
use crate::side::{Side, Sides};

/// Looks at an equal tag until it is settled.
const SETTLED_AFTER: u8 = 2;

/// What is known of one tag.
#[derive(Debug)]
pub(super) struct Entry {
    state: State,
}

/// Common states are kept in place, rare ones behind a pointer. Instants are seconds since 1970.
#[derive(Debug)]
pub(super) enum State {
    /// Both sides had this digest when they were last read.
    Same {
        digest: Digest,
        in_sync_since: u32,
        checked: Sides<u32>,
        looks: u8,
    },
    /// The sides differ.
    Differs(Box<Differs>),
    /// The pull-through cache lacks the tag.
    NotCached,
    /// Never read on both sides in one look, or withdrawn.
    Unread,
}

/// A difference, and how sure of it we are.
#[derive(Debug)]
pub(super) struct Differs {
    digests: Sides<Option<Digest>>,
    since: Timestamp,
    confirmable_at: Timestamp,
    confirmed: bool,
    checked: Sides<u32>,
}

/// What one look says once both sides were read.
enum Look {
    Same(Digest),
    Differs(Sides<Option<Digest>>),
    NotCached,
    /// At least one side was not read.
    Partial(Sides<Observed>),
}

impl Look {
    fn new(seen: Sides<Observed>, rules: &Rules) -> Look {
        match (seen.primary, seen.fallback) {
            (primary @ Observed::Unknown, fallback) | (primary, fallback @ Observed::Unknown) => {
                Look::Partial(Sides { primary, fallback })
            }
            (Observed::Present(primary), Observed::Present(fallback)) if primary == fallback => Look::Same(primary),
            (Observed::Absent, _) if rules.subset == Some(Side::Primary) => Look::NotCached,
            (_, Observed::Absent) if rules.subset == Some(Side::Fallback) => Look::NotCached,
            (primary, fallback) => Look::Differs(Sides {
                primary: present(primary),
                fallback: present(fallback),
            }),
        }
    }
}

fn present(seen: Observed) -> Option<Digest> {
    match seen {
        Observed::Present(digest) => Some(digest),
        Observed::Absent | Observed::Unknown => None,
    }
}

impl Entry {
    /// The entry of a tag that was never seen before; none if nothing was learnt of it.
    pub(super) fn first(seen: Sides<Observed>, now: Timestamp, rules: &Rules) -> Option<Entry> {
        if !matches!(seen.primary, Observed::Present(_)) && !matches!(seen.fallback, Observed::Present(_)) {
            return None;
        }
        let mut entry = Entry { state: State::Unread };
        entry.look(seen, now, rules);
        Some(entry)
    }

    /// Takes in a look; says whether the evidence changes by it.
    pub(super) fn look(&mut self, seen: Sides<Observed>, now: Timestamp, rules: &Rules) -> bool {
        let second = seconds(now);
        match Look::new(seen, rules) {
            Look::Same(found) => self.look_same(found, second),
            Look::Differs(found) => self.look_different(found, now, rules),
            Look::NotCached => {
                let changed = !matches!(self.state, State::NotCached);
                self.state = State::NotCached;
                changed
            }
            Look::Partial(seen) => self.look_partial(&seen, second),
        }
    }

    fn look_same(&mut self, found: Digest, second: u32) -> bool {
        match &mut self.state {
            State::Same {
                digest, checked, looks, ..
            } if *digest == found => {
                *checked = Sides {
                    primary: second,
                    fallback: second,
                };
                *looks = looks.saturating_add(1);
                false
            }
            state => {
                let checked = Sides {
                    primary: second,
                    fallback: second,
                };
                *state = State::Same {
                    digest: found,
                    in_sync_since: second,
                    checked,
                    looks: 1,
                };
                true
            }
        }
    }

    fn look_different(&mut self, found: Sides<Option<Digest>>, now: Timestamp, rules: &Rules) -> bool {
        let before = self.verdict();
        let checked = Sides {
            primary: seconds(now),
            fallback: seconds(now),
        };
        match &mut self.state {
            State::Differs(known) if Side::ALL.iter().any(|side| known.digests[*side] == found[*side]) => {
                known.digests = found;
                known.checked = checked;
                known.confirmable_at = later(known.since, rules.grace);
                known.confirmed |= now >= known.confirmable_at;
            }
            state => {
                let confirmable_at = later(now, rules.grace);
                let differs = Differs {
                    digests: found,
                    since: now,
                    confirmable_at,
                    confirmed: false,
                    checked,
                };
                *state = State::Differs(Box::new(differs));
            }
        }
        before != self.verdict()
    }

    fn look_partial(&mut self, seen: &Sides<Observed>, second: u32) -> bool {
        let (holds, checked) = match &mut self.state {
            State::Same { digest, checked, .. } => (
                seen.as_ref().map(|seen| match seen {
                    Observed::Present(found) => Some(found == digest),
                    Observed::Absent => Some(false),
                    Observed::Unknown => None,
                }),
                checked,
            ),
            State::Differs(known) => (
                Sides::from_fn(|side| match &seen[side] {
                    Observed::Present(found) => Some(known.digests[side].as_ref() == Some(found)),
                    Observed::Absent => Some(known.digests[side].is_none()),
                    Observed::Unknown => None,
                }),
                &mut known.checked,
            ),
            State::NotCached | State::Unread => return false,
        };
        for side in Side::ALL {
            if holds[side] == Some(true) {
                checked[side] = second;
            }
        }
        let contradicted = holds.primary == Some(false) || holds.fallback == Some(false);
        if contradicted && matches!(self.state, State::Same { .. }) {
            self.state = State::Unread;
            return true;
        }
        false
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn verdict(&self) -> Verdict {
        match &self.state {
            State::Same { .. } => Verdict::InSync,
            State::Differs(known) if known.confirmed => match (&known.digests.primary, &known.digests.fallback) {
                (None, _) => Verdict::MissingOnPrimary,
                (_, None) => Verdict::MissingOnFallback,
                _ => Verdict::Mismatched,
            },
            State::Differs(_) | State::NotCached | State::Unread => Verdict::Pending,
        }
    }

    pub(super) fn is_not_cached(&self) -> bool {
        matches!(self.state, State::NotCached)
    }

    /// The older of the two reads that the verdict rests on.
    pub(super) fn checked(&self) -> Option<Timestamp> {
        let checked = match &self.state {
            State::Same { checked, .. } => checked,
            State::Differs(known) => &known.checked,
            State::NotCached | State::Unread => return None,
        };
        Timestamp::from_second(i64::from(checked.primary.min(checked.fallback))).ok()
    }

    pub(super) fn digests(&self) -> Sides<Option<Digest>> {
        match &self.state {
            State::Same { digest, .. } => Sides {
                primary: Some(digest.clone()),
                fallback: Some(digest.clone()),
            },
            State::Differs(known) => known.digests.clone(),
            State::NotCached | State::Unread => Sides::default(),
        }
    }

    pub(super) fn diverged_since(&self) -> Option<Timestamp> {
        match &self.state {
            State::Differs(known) if known.confirmed => Some(known.since),
            _ => None,
        }
    }

    pub(super) fn confirmable_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Differs(known) if !known.confirmed => Some(known.confirmable_at),
            _ => None,
        }
    }

    /// See [`super::Ledger::due`].
    pub(super) fn due(&self, phase: u32, now: Timestamp, rules: &Rules) -> bool {
        let State::Same { checked, looks, .. } = &self.state else {
            return true;
        };
        let cycle = u32::try_from(rules.settled.as_secs()).unwrap_or(u32::MAX) / 8 * 7;
        let second = seconds(now);
        if *looks < SETTLED_AFTER || cycle == 0 {
            return true;
        }
        // The tag's latest instant: the last one before now that has its phase within the cycle.
        let since_instant = (second % cycle + cycle - phase % cycle) % cycle;
        let instant = second.saturating_sub(since_instant);
        checked.primary.min(checked.fallback) < instant
    }
}

/// Where in the cycle a tag is read again: the same for ever, and spread evenly.
pub(super) fn phase(repository: &str, tag: &str) -> u32 {
    let hash = Sha256::new()
        .chain_update(repository)
        .chain_update([0])
        .chain_update(tag)
        .finalize();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// Whole seconds since 1970, good until 2106.
fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_second().max(0)).unwrap_or(u32::MAX)
}
