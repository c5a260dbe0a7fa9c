//! What was verified of each tag: the ledger that one mirror's parity passes write into.
//!
//! A pass hands over what it saw of a tag on both sides. The ledger turns looks into verdicts:
//!
//! - Equal digests in one look: in sync. Equal in two passes: *settled*, re-read in rotation where a listing brings no
//!   digests ([`Ledger::due`]).
//! - Different: pending until it has been seen twice and for [`Rules::grace`], because a push to two registries is not
//!   atomic and listings lag. It stays the same difference as long as one of the sides did not move; when both moved,
//!   they may have been equal in between, so the clock starts again.
//! - A side that could not be read changes nothing: it neither makes nor clears a divergence. Only where the other side
//!   was read and contradicts what the verdict rests on, the verdict is withdrawn to pending.
//! - Absent on both sides: forgotten.
//!
//! Against a pull-through cache ([`Rules::subset`]) a tag that the cache lacks is *not cached*: neither a divergence nor
//! in sync.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::evidence::{Evidence, Verdict};
use crate::side::{Side, Sides};

mod compare;
mod entry;
#[cfg(test)]
mod tests;

pub use compare::{Difference, DifferenceKind, compare};
use entry::{Entry, State};

/// What one look saw of one tag on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The tag is there, with this digest.
    Present(Digest),
    /// The registry itself said that it has no such tag.
    Absent,
    /// Nothing was learnt: not asked, or no usable answer.
    Unknown,
}

/// How looks become verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a difference must last before it is called a divergence.
    pub grace: Duration,
    /// The longest time between two reads of a settled tag.
    pub settled: Duration,
    /// The side that is a pull-through cache, if one is.
    pub subset: Option<Side>,
}

/// Counts over all tags, for status. Every tag is in exactly one of the six states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Repositories with at least one tag.
    pub repositories: usize,
    /// Tags known on at least one side.
    pub tags: usize,
    /// Equal on both sides.
    pub in_sync: usize,
    /// Confirmed to be absent on the primary only.
    pub missing_on_primary: usize,
    /// Confirmed to be absent on the fallback only.
    pub missing_on_fallback: usize,
    /// Confirmed to differ.
    pub mismatched: usize,
    /// Not verified yet, or different for less than the grace period.
    pub pending: usize,
    /// Absent from a pull-through cache, which says nothing.
    pub not_cached: usize,
    /// The oldest digest that a verdict rests on; none when no tag has both sides read.
    pub oldest_check: Option<Timestamp>,
    /// The revision of the evidence.
    pub revision: String,
}

/// One tag that is confirmed to differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The canonical repository name.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// How it differs: one of the three kinds.
    pub verdict: Verdict,
    /// What each side has.
    pub digests: Sides<Option<Digest>>,
    /// When it was first seen to differ.
    pub since: Timestamp,
}

/// The manifest to probe both sides with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Canary {
    /// The canonical repository name.
    pub repository: String,
    /// The tag it was found under.
    pub tag: String,
    /// What both sides serve.
    pub digest: Digest,
}

type Tags = BTreeMap<Box<str>, Entry>;

/// What is known of every tag of one mirror. About 160 bytes for a tag in sync, its name included.
#[derive(Debug, Default)]
pub struct Ledger {
    repositories: BTreeMap<Box<str>, Tags>,
    /// Verdicts or digests changed since [`Ledger::take_changed`].
    changed: bool,
    /// Of the evidence as it stands; computed when asked for.
    revision: OnceLock<String>,
}

impl Ledger {
    /// A ledger that knows nothing.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Takes in one look at one tag. Looks come in the order of time; two looks of one pass count as two only if the
    /// caller made both.
    pub fn record(&mut self, repository: &str, tag: &str, seen: Sides<Observed>, now: Timestamp, rules: &Rules) {
        if matches!((&seen.primary, &seen.fallback), (Observed::Absent, Observed::Absent)) {
            self.forget(repository, tag);
            return;
        }
        if let Some(entry) = self.repositories.get_mut(repository).and_then(|tags| tags.get_mut(tag)) {
            if entry.look(seen, now, rules) {
                self.touch();
            }
            return;
        }
        let Some(entry) = Entry::first(seen, now, rules) else {
            return;
        };
        if !self.repositories.contains_key(repository) {
            self.repositories.insert(repository.into(), Tags::new());
        }
        if let Some(tags) = self.repositories.get_mut(repository) {
            tags.insert(tag.into(), entry);
        }
        self.touch();
    }

    /// Forgets one tag.
    pub fn forget(&mut self, repository: &str, tag: &str) {
        let Some(tags) = self.repositories.get_mut(repository) else {
            return;
        };
        if tags.remove(tag).is_none() {
            return;
        }
        if tags.is_empty() {
            self.repositories.remove(repository);
        }
        self.touch();
    }

    /// Forgets the tags of a repository that `keep` does not name: those that neither listing has any more.
    pub fn retain(&mut self, repository: &str, keep: impl Fn(&str) -> bool) {
        let Some(tags) = self.repositories.get_mut(repository) else {
            return;
        };
        let before = tags.len();
        tags.retain(|tag, _| keep(tag));
        if tags.len() == before {
            return;
        }
        if tags.is_empty() {
            self.repositories.remove(repository);
        }
        self.touch();
    }

    /// Forgets the repositories that `keep` does not name: those no longer selected.
    pub fn retain_repositories(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.repositories.len();
        self.repositories.retain(|repository, _| keep(repository));
        if self.repositories.len() != before {
            self.touch();
        }
    }

    fn touch(&mut self) {
        self.changed = true;
        self.revision = OnceLock::new();
    }

    fn entry(&self, repository: &str, tag: &str) -> Option<&Entry> {
        self.repositories.get(repository)?.get(tag)
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &str, &Entry)> {
        self.repositories
            .iter()
            .flat_map(|(repository, tags)| tags.iter().map(move |(tag, entry)| (&**repository, &**tag, entry)))
    }

    /// Whether the digests of this tag must be read in a pass at `now`, where the listing did not bring them. A tag that
    /// is not settled is due in every pass; a settled one at an instant of its own in a cycle of seven eighths of
    /// [`Rules::settled`], so that each is read in time even if passes are an eighth apart, and a pass that finds
    /// nothing changed reads only its share.
    pub fn due(&self, repository: &str, tag: &str, now: Timestamp, rules: &Rules) -> bool {
        self.entry(repository, tag)
            .is_none_or(|entry| entry.due(entry::phase(repository, tag), now, rules))
    }

    /// What is known of a tag; none for one that was never seen. A tag that a cache lacks is pending: not verified.
    pub fn verdict(&self, repository: &str, tag: &str) -> Option<Verdict> {
        self.entry(repository, tag).map(Entry::verdict)
    }

    /// Whether a tag is known to be absent from a pull-through cache.
    pub fn is_not_cached(&self, repository: &str, tag: &str) -> bool {
        self.entry(repository, tag).is_some_and(Entry::is_not_cached)
    }

    /// The digest of a tag that is in sync.
    pub fn digest(&self, repository: &str, tag: &str) -> Option<Digest> {
        match self.entry(repository, tag)?.state() {
            State::Same { digest, .. } => Some(digest.clone()),
            _ => None,
        }
    }

    /// Counts over all tags. Walks them all, and computes the evidence if it changed.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            repositories: self.repositories.len(),
            ..Summary::default()
        };
        for (_, _, entry) in self.entries() {
            summary.tags += 1;
            *match entry.verdict() {
                Verdict::InSync => &mut summary.in_sync,
                Verdict::MissingOnPrimary => &mut summary.missing_on_primary,
                Verdict::MissingOnFallback => &mut summary.missing_on_fallback,
                Verdict::Mismatched => &mut summary.mismatched,
                Verdict::Pending if entry.is_not_cached() => &mut summary.not_cached,
                Verdict::Pending => &mut summary.pending,
            } += 1;
            summary.oldest_check = match (summary.oldest_check, entry.checked()) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        Summary {
            revision: self.revision.get_or_init(|| self.evidence().revision()).clone(),
            ..summary
        }
    }

    /// At most `limit` confirmed divergences, the newest first, then by name.
    pub fn divergences(&self, limit: usize) -> Vec<Divergence> {
        let mut found: Vec<(&str, &str, &Entry, Timestamp)> = self
            .entries()
            .filter_map(|(repository, tag, entry)| Some((repository, tag, entry, entry.diverged_since()?)))
            .collect();
        // The sort is stable and entries come by name.
        found.sort_by_key(|(.., since)| std::cmp::Reverse(*since));
        found
            .into_iter()
            .take(limit)
            .map(|(repository, tag, entry, since)| Divergence {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                verdict: entry.verdict(),
                digests: entry.digests(),
                since,
            })
            .collect()
    }

    /// Every confirmed divergence, by repository and tag; made one at a time, because there may be many.
    pub fn diverged(&self) -> impl Iterator<Item = Divergence> + '_ {
        self.entries().filter_map(|(repository, tag, entry)| {
            Some(Divergence {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                verdict: entry.verdict(),
                digests: entry.digests(),
                since: entry.diverged_since()?,
            })
        })
    }

    /// Tags to be looked at again: never read on both sides in one look, or different and not confirmed.
    pub fn pending(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries()
            .filter(|(_, _, entry)| entry.verdict() == Verdict::Pending && !entry.is_not_cached())
            .map(|(repository, tag, _)| (repository, tag))
    }

    /// When the next look can confirm a difference: the earliest end of a grace period, `now` if one is over.
    pub fn next_confirmation(&self, now: Timestamp) -> Option<Timestamp> {
        self.entries()
            .filter_map(|(_, _, entry)| entry.confirmable_at())
            .min()
            .map(|at| at.max(now))
    }

    /// What the webhook needs to know: each tag's verdict, and the digest of each tag in sync.
    pub fn evidence(&self) -> Evidence {
        let mut builder = Evidence::builder();
        for (repository, tag, entry) in self.entries() {
            builder.insert(repository, tag, entry.verdict());
            if let State::Same { digest, .. } = entry.state() {
                builder.insert(repository, &digest.to_string(), Verdict::InSync);
            }
        }
        builder.build()
    }

    /// The newest tag that came in sync, with a SHA-256 digest if there is one: what pods are most likely to ask for next.
    pub fn canary(&self) -> Option<Canary> {
        self.canary_excluding(&[])
    }

    /// The same, but none of `excluded`: those that turned out to be gone.
    pub fn canary_excluding(&self, excluded: &[Canary]) -> Option<Canary> {
        let mut best: Option<((bool, u32), Canary)> = None;
        for (repository, tag, entry) in self.entries() {
            let State::Same {
                digest, in_sync_since, ..
            } = entry.state()
            else {
                continue;
            };
            // Digests are put into text only for those that could win.
            if best
                .as_ref()
                .is_some_and(|(rank, _)| rank.0 && rank.1 >= *in_sync_since)
            {
                continue;
            }
            let rank = (digest.to_string().starts_with("sha256:"), *in_sync_since);
            let canary = Canary {
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                digest: digest.clone(),
            };
            if best.as_ref().is_none_or(|(other, _)| rank > *other) && !excluded.contains(&canary) {
                best = Some((rank, canary));
            }
        }
        best.map(|(_, canary)| canary)
    }

    /// Whether the evidence changed since [`Ledger::take_changed`].
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Says whether the evidence changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Takes [`Ledger::take_changed`] back: the evidence could not be written.
    pub fn mark_changed(&mut self) {
        self.changed = true;
    }
}
