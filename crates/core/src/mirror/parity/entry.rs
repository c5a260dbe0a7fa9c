//! One tag or digest: what was last seen of it on each side, and what its looks add up to. Kept small, because there are
//! up to 100,000.

use jiff::Timestamp;

use super::look::{Content, Look, Seen, Sighting};
use super::{Observed, Rules, Verdict};
use crate::digest::Digest;
use crate::routing::evidence::{Key, Knowledge, Presence};
use crate::side::{Side, Sides};

/// Looks at an equal tag until it is settled.
const SETTLED_AFTER: u8 = 2;

/// What is known of one tag or digest. The common state is kept in place, all others behind a pointer. Instants are seconds
/// since 1970.
#[derive(Debug)]
pub(super) enum Entry {
    /// Both sides had one digest when they were last read, and were once read in one look.
    Same(Same),
    Other(Box<Other>),
}

#[derive(Debug)]
pub(super) struct Same {
    content: Content,
    since: u32,
    checked: Sides<u32>,
    looks: u8,
}

#[derive(Debug)]
pub(super) struct Other {
    seen: Sides<Option<Seen>>,
    state: State,
}

/// What the looks that read both sides add up to.
#[derive(Debug)]
enum State {
    /// Never read on both sides in one look, or contradicted since.
    Unread,
    NotCached,
    Differs(Differs),
}

/// A difference, and how sure of it we are.
#[derive(Debug)]
struct Differs {
    digests: Sides<Option<Digest>>,
    since: u32,
    confirmable_at: u32,
    confirmed: bool,
    /// The last look read both sides: the next may do so, too.
    readable: bool,
}

/// What a reference counts as. Each is exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Verdict(Verdict),
    NotCached,
    /// No side is known to have it.
    Nowhere,
}

impl Default for Entry {
    /// Of which nothing was seen yet.
    fn default() -> Entry {
        Entry::Other(Box::new(Other {
            seen: Sides::default(),
            state: State::Unread,
        }))
    }
}

impl Entry {
    /// Takes in a look. What a side did not say changes nothing that is known of it.
    pub(super) fn look(&mut self, look: &Look<'_>) {
        let seen = Sides::from_fn(|side| look.side(side, self.content(side)));
        match (seen.primary, seen.fallback) {
            (Some(primary), Some(fallback)) => self.look_at_both(Sides { primary, fallback }, look),
            (primary, fallback) => self.look_at_one(Sides { primary, fallback }),
        }
    }

    fn look_at_both(&mut self, seen: Sides<Seen>, look: &Look<'_>) {
        let contents = seen.as_ref().map(|seen| seen.what.content());
        if let (Some(primary), Some(fallback)) = (contents.primary, contents.fallback)
            && primary.digest == fallback.digest
        {
            self.look_same(primary.clone(), look.second);
            return;
        }
        let lacks = |side: Side| contents[side].is_none();
        let state = if lacks(Side::Primary) && lacks(Side::Fallback) {
            State::Unread
        } else if look.rules.subset.is_some_and(lacks) {
            State::NotCached
        } else {
            let digests = contents.map(|content| content.map(|content| content.digest.clone()));
            State::Differs(self.difference(digests, look))
        };
        let seen = seen.map(Some);
        *self = Entry::Other(Box::new(Other { seen, state }));
    }

    fn look_same(&mut self, content: Content, second: u32) {
        let (since, looks) = match self {
            Entry::Same(same) if same.content.digest == content.digest => (same.since, same.looks),
            _ => (second, 0),
        };
        *self = Entry::Same(Same {
            content,
            since,
            checked: Sides::from_fn(|_| second),
            looks: looks.saturating_add(1),
        });
    }

    /// It stays the same difference as long as one of the sides did not move: when both moved, they may have been equal in
    /// between.
    fn difference(&self, digests: Sides<Option<Digest>>, look: &Look<'_>) -> Differs {
        let known = match self {
            Entry::Other(other) => match &other.state {
                State::Differs(known) => Some(known),
                _ => None,
            },
            Entry::Same(_) => None,
        };
        let known = known.filter(|known| Side::ALL.iter().any(|side| known.digests[*side] == digests[*side]));
        let since = known.map_or(look.second, |known| known.since);
        let confirmable_at = since.saturating_add(whole_seconds(look.rules.grace));
        Differs {
            digests,
            since,
            confirmable_at,
            confirmed: known.is_some_and(|known| known.confirmed || look.second >= confirmable_at),
            readable: true,
        }
    }

    /// At least one side was not read.
    fn look_at_one(&mut self, seen: Sides<Option<Seen>>) {
        match self {
            Entry::Same(same) => {
                let holds = |seen: &Seen| {
                    seen.what
                        .content()
                        .is_some_and(|seen| seen.digest == same.content.digest)
                };
                if Side::ALL.iter().all(|side| seen[*side].as_ref().is_none_or(holds)) {
                    for side in Side::ALL {
                        same.checked[side] = seen[side].as_ref().map_or(same.checked[side], |seen| seen.second);
                    }
                } else {
                    *self = same.contradicted(seen);
                }
            }
            Entry::Other(other) => other.look_at_one(seen),
        }
    }

    pub(super) fn is_same(&self) -> bool {
        matches!(self, Entry::Same(_))
    }

    /// Whether a look changes which digest a side is known to have.
    pub(super) fn is_moved_by(&self, seen: &Sides<Observed>) -> bool {
        Side::ALL.iter().any(|side| match (&seen[*side], self.content(*side)) {
            (Observed::Unknown, _) | (Observed::Absent, None) => false,
            (Observed::Absent, Some(_)) | (Observed::Present(_), None) => true,
            (Observed::Present(found), Some(known)) => *found != known.digest,
        })
    }

    /// What a side had when it was last read.
    pub(super) fn content(&self, side: Side) -> Option<&Content> {
        match self {
            Entry::Same(same) => Some(&same.content),
            Entry::Other(other) => other.seen[side].as_ref()?.what.content(),
        }
    }

    /// The keys of the digests that it stands for: the fallback's only if it is another one.
    pub(super) fn content_keys(&self) -> Sides<Option<Key>> {
        let keys = Sides::from_fn(|side| self.content(side).map(|content| content.key));
        Sides {
            primary: keys.primary,
            fallback: keys.fallback.filter(|key| keys.primary != Some(*key)),
        }
    }

    /// What one side said, and when.
    pub(super) fn observation(&self, side: Side) -> Option<(Observed, u32)> {
        match self {
            Entry::Same(same) => Some((Observed::Present(same.content.digest.clone()), same.checked[side])),
            Entry::Other(other) => {
                let seen = other.seen[side].as_ref()?;
                let content = seen.what.content();
                let what = content.map_or(Observed::Absent, |content| Observed::Present(content.digest.clone()));
                Some((what, seen.second))
            }
        }
    }

    /// Whether a side was ever read.
    pub(super) fn is_read(&self, side: Side) -> bool {
        match self {
            Entry::Same(_) => true,
            Entry::Other(other) => other.seen[side].is_some(),
        }
    }

    /// What routing may go by: one look is enough.
    pub(super) fn knowledge(&self) -> Knowledge {
        let Entry::Other(other) = self else {
            return Knowledge::IN_SYNC;
        };
        let presence = other
            .seen
            .as_ref()
            .map(|seen| match seen.as_ref().map(|seen| &seen.what) {
                Some(Sighting::Present(_)) => Presence::Present,
                Some(Sighting::Absent) => Presence::Absent,
                Some(Sighting::NotCached) | None => Presence::Unknown,
            });
        let digests = Sides::from_fn(|side| self.content(side).map(|content| &content.digest));
        let same = digests.primary.is_some() && digests.primary == digests.fallback;
        Knowledge {
            presence,
            same,
            flaws: Sides::default(),
        }
    }

    pub(super) fn class(&self) -> Class {
        let Entry::Other(other) = self else {
            return Class::Verdict(Verdict::InSync);
        };
        match &other.state {
            State::Differs(known) if known.confirmed => {
                Class::Verdict(match (&known.digests.primary, &known.digests.fallback) {
                    (None, _) => Verdict::MissingOnPrimary,
                    (_, None) => Verdict::MissingOnFallback,
                    _ => Verdict::Mismatched,
                })
            }
            State::NotCached => Class::NotCached,
            State::Unread if Side::ALL.iter().all(|side| self.content(*side).is_none()) => Class::Nowhere,
            State::Differs(_) | State::Unread => Class::Verdict(Verdict::Pending),
        }
    }

    /// What both sides had at the last look that read both, of a difference.
    pub(super) fn digests(&self) -> Sides<Option<&Digest>> {
        match self.differs() {
            Some(known) => known.digests.as_ref().map(Option::as_ref),
            None => Sides::default(),
        }
    }

    /// The older of the two reads that the verdict rests on.
    pub(super) fn checked(&self) -> Option<u32> {
        match self {
            Entry::Same(same) => Some(same.checked.primary.min(same.checked.fallback)),
            Entry::Other(other) => {
                let seconds = other.seen.as_ref().map(|seen| seen.as_ref().map(|seen| seen.second));
                self.differs()?;
                Some(seconds.primary?.min(seconds.fallback?))
            }
        }
    }

    /// Since when it is in sync.
    pub(super) fn in_sync_since(&self) -> Option<u32> {
        match self {
            Entry::Same(same) => Some(same.since),
            Entry::Other(_) => None,
        }
    }

    pub(super) fn diverged_since(&self) -> Option<u32> {
        self.differs().filter(|known| known.confirmed).map(|known| known.since)
    }

    /// When the next look can confirm a difference, if both sides could be read in the last one.
    pub(super) fn confirmable_at(&self) -> Option<u32> {
        self.differs()
            .filter(|known| known.readable && !known.confirmed)
            .map(|known| known.confirmable_at)
    }

    fn differs(&self) -> Option<&Differs> {
        match self {
            Entry::Other(other) => match &other.state {
                State::Differs(known) => Some(known),
                _ => None,
            },
            Entry::Same(_) => None,
        }
    }

    /// See [`super::Ledger::due`]. `phase` says where in the cycle a tag is read again: the same for ever, and spread evenly.
    pub(super) fn due(&self, phase: u32, now: Timestamp, rules: &Rules) -> bool {
        let Entry::Same(same) = self else {
            return true;
        };
        let cycle = whole_seconds(rules.settled) / 8 * 7;
        let second = seconds(now);
        if same.looks < SETTLED_AFTER || cycle == 0 {
            return true;
        }
        // The tag's latest instant: the last one before now that has its phase within the cycle.
        let since_instant = (second % cycle + cycle - phase % cycle) % cycle;
        let instant = second.saturating_sub(since_instant);
        same.checked.primary.min(same.checked.fallback) < instant
    }
}

impl Same {
    /// What is left of it after a look at one side that does not fit.
    fn contradicted(&self, mut seen: Sides<Option<Seen>>) -> Entry {
        let before = Sides::from_fn(|side| Seen {
            what: Sighting::Present(self.content.clone()),
            second: self.checked[side],
        });
        let before = before.map(Some);
        let seen = Sides::from_fn(|side| seen[side].take().or_else(|| before[side].clone()));
        let state = State::Unread;
        Entry::Other(Box::new(Other { seen, state }))
    }
}

impl Other {
    fn look_at_one(&mut self, mut seen: Sides<Option<Seen>>) {
        for side in Side::ALL {
            if let Some(seen) = seen[side].take() {
                self.seen[side] = Some(seen);
            }
        }
        let has = |side: Side| {
            let seen = self.seen[side].as_ref();
            seen.is_some_and(|seen| seen.what.content().is_some())
        };
        match &mut self.state {
            State::Differs(known) => known.readable = false,
            State::NotCached if has(Side::Primary) == has(Side::Fallback) => self.state = State::Unread,
            State::NotCached | State::Unread => {}
        }
    }
}

/// Whole seconds since 1970, good until 2106.
pub(super) fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_second().max(0)).unwrap_or(u32::MAX)
}

/// Rounded up: a grace period is not over before it is.
fn whole_seconds(duration: std::time::Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
