//! One repository, looked at once on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::parity::Observed;
use catamaran_core::policy::{MirrorPolicy, Provider};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::{Class, Client, Failure, ListedTag, Lock};
use futures::stream::{FuturesUnordered, StreamExt as _};

use super::{Clients, rules};
use crate::clock::Clock;
use crate::memory::MirrorMemory;
use crate::readings::{Listing, Readings, Turn};

/// Tags of one repository read at a time.
const AT_A_TIME: usize = 8;

/// When a side lists so many tags less than both together, none of them is looked for behind a lock.
const MOST_HIDDEN: usize = 50;

/// What one scan of one repository works with.
pub struct Scan<'a> {
    /// The time.
    pub clock: Clock,
    /// The mirror's policy.
    pub policy: &'a MirrorPolicy,
    /// Where results go.
    pub memory: &'a MirrorMemory,
    /// Both sides' clients.
    pub clients: &'a Clients,
    /// The repository's name in status.
    pub repository: &'a str,
    /// The turns at repositories that other mirrors look at, too.
    pub turns: Sides<Option<Turn>>,
}

/// Whether a tag is likely to be there.
#[derive(Clone, Copy)]
enum Expected {
    Yes,
    /// The side does not list it.
    No,
}

/// Why each side could not be read, where that is so.
pub(super) type Failures = Sides<Option<Failure>>;

impl Scan<'_> {
    /// Looks at the repository when no other mirror does, with what the others have just read.
    pub(super) async fn in_turn(mut self, readings: &Readings) -> Failures {
        let paths = Sides::from_fn(|side| self.policy.path(side, self.repository));
        let paths = paths.as_ref().map(|path| &**path);
        self.turns = readings.turns(self.policy, paths, self.clock.now()).await;
        let failures = self.listed().await;
        let now = self.clock.now();
        for turn in [self.turns.primary, self.turns.fallback].into_iter().flatten() {
            turn.end(now);
        }
        failures
    }

    /// Lists both sides and reads the digests that the listings don't tell.
    async fn listed(&self) -> Failures {
        let (primary, fallback) = tokio::join!(self.list(Side::Primary), self.list(Side::Fallback));
        let mut failures = Failures::default();
        let mut listings = Sides::<Option<BTreeMap<String, ListedTag>>>::default();
        for (side, listing) in [(Side::Primary, primary), (Side::Fallback, fallback)] {
            match listing {
                Ok(listing) => listings[side] = Some(listing),
                Err(failure) => failures[side] = Some(failure),
            }
        }
        let Sides {
            primary: Some(primary),
            fallback: Some(fallback),
        } = &listings
        else {
            return failures;
        };
        self.memory.state().ledger.retain(self.repository, |tag| {
            primary.contains_key(tag) || fallback.contains_key(tag)
        });
        let names: BTreeSet<&String> = primary.keys().chain(fallback.keys()).collect();
        let mut looks = FuturesUnordered::new();
        // Many that are not listed are missing: locks are set one by one, and every question counts.
        let few = |listing: &BTreeMap<String, ListedTag>| names.len() - listing.len() <= MOST_HIDDEN;
        let asked = Sides {
            primary: self.hides(Side::Primary) && few(primary),
            fallback: self.hides(Side::Fallback) && few(fallback),
        };
        for tag in names {
            if looks.len() >= AT_A_TIME {
                failures = first(failures, looks.next().await);
            }
            let listed = Sides {
                primary: primary.get(tag),
                fallback: fallback.get(tag),
            };
            looks.push(self.look(tag, listed, asked));
        }
        while let Some(failed) = looks.next().await {
            failures = first(failures, Some(failed));
        }
        failures
    }

    async fn list(&self, side: Side) -> Result<BTreeMap<String, ListedTag>, Failure> {
        let listing = self.listing(side).await?;
        let selected = listing
            .values()
            .filter(|tag| self.policy.selects_tag(self.repository, &tag.name));
        Ok(selected.map(|tag| (tag.name.clone(), tag.clone())).collect())
    }

    async fn listing(&self, side: Side) -> Result<Arc<Listing>, Failure> {
        let Ok(client) = &self.clients[side] else {
            return Ok(Arc::default());
        };
        if let Some(listing) = self.turns[side].as_ref().and_then(Turn::listing) {
            return Ok(listing);
        }
        let path = self.policy.path(side, self.repository);
        let listed = match client.list_tags(&path).await {
            Ok(listed) => listed,
            // A repository that was never pushed to is an empty one.
            Err(failure) if failure.is_absent() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let listing: Listing = listed.into_iter().map(|tag| (tag.name.clone(), tag)).collect();
        let listing = Arc::new(listing);
        if let Some(turn) = &self.turns[side] {
            turn.keep_listing(&listing, self.clock.now());
        }
        Ok(listing)
    }

    /// One listed tag: a digest that the listing does not bring is read only when it is due, or when the other side's
    /// listing contradicts what is known.
    ///
    /// `asked`: whether a tag that a side does not list is asked for by name.
    async fn look(&self, tag: &str, listed: Sides<Option<&ListedTag>>, asked: Sides<bool>) -> Failures {
        if let Some(seen) = self.by_listing(tag, listed) {
            return self.record(tag, (Ok(seen.primary), Ok(seen.fallback)));
        }
        let see = async |side: Side| match listed[side] {
            // Azure's lists leave out what is locked against listing.
            None if asked[side] => self.ask(side, tag, Expected::No).await,
            None => Ok(Observed::Absent),
            // Locked against reading: what pods would get is not known, and nothing that a copy could mend.
            Some(ListedTag { locked: Some(lock), .. }) if lock.withholds() => Ok(Observed::Unknown),
            Some(ListedTag {
                digest: Some(digest), ..
            }) => Ok(Observed::Present(digest.clone())),
            Some(_) => self.resolve(side, tag).await,
        };
        let seen = tokio::join!(see(Side::Primary), see(Side::Fallback));
        self.record(tag, seen)
    }

    /// What the listings alone say of a tag, where that is enough for now.
    fn by_listing(&self, tag: &str, listed: Sides<Option<&ListedTag>>) -> Option<Sides<Observed>> {
        let state = self.memory.state();
        if state
            .ledger
            .due(self.repository, tag, self.clock.now(), &rules(self.policy))
        {
            return None;
        }
        let known = state.ledger.digest(self.repository, tag)?;
        let mut seen = Sides::from_fn(|_| Observed::Unknown);
        for side in Side::ALL {
            let listed = listed[side]?;
            match &listed.digest {
                _ if listed.locked.as_ref().is_some_and(Lock::withholds) => return None,
                Some(digest) if *digest == known => seen[side] = Observed::Present(digest.clone()),
                Some(_) => return None,
                None => {}
            }
        }
        Some(seen)
    }

    /// Reads these tags on both sides, without a listing.
    pub async fn tags(&self, tags: BTreeSet<String>) -> Failures {
        let mut failures = Failures::default();
        let mut looks = FuturesUnordered::new();
        for tag in &tags {
            if looks.len() >= AT_A_TIME {
                failures = first(failures, looks.next().await);
            }
            looks.push(self.read(tag));
        }
        while let Some(failed) = looks.next().await {
            failures = first(failures, Some(failed));
        }
        failures
    }

    async fn read(&self, tag: &str) -> Failures {
        let seen = tokio::join!(self.resolve(Side::Primary, tag), self.resolve(Side::Fallback, tag));
        self.record(tag, seen)
    }

    /// Whether a side may have tags that it does not list. What a pull-through cache lacks is not looked for: to ask could
    /// fill it.
    fn hides(&self, side: Side) -> bool {
        let side = &self.policy.sides[side];
        side.provider == Provider::Azure && !side.pull_through_cache
    }

    /// What a tag stands for, found without a list: then a quarantine looks like absence.
    async fn resolve(&self, side: Side, tag: &str) -> Result<Observed, Failure> {
        match (self.ask(side, tag, Expected::Yes).await, &self.clients[side]) {
            (Ok(Observed::Absent), Ok(client)) => Ok(self.absent(client, side, tag).await),
            (seen, _) => seen,
        }
    }

    /// One request for what is there as expected, and for what is absent as expected: after a 404 of HEAD only GET can say
    /// whether something is absent, so what is not expected is asked for by GET.
    async fn ask(&self, side: Side, tag: &str, expected: Expected) -> Result<Observed, Failure> {
        let Ok(client) = &self.clients[side] else {
            return Ok(Observed::Unknown);
        };
        if let Some(seen) = self.turns[side].as_ref().and_then(|turn| turn.digest(tag)) {
            return Ok(seen);
        }
        let path = self.policy.path(side, self.repository);
        let resolved = match expected {
            Expected::Yes => client.resolve(&path, tag).await,
            Expected::No => client.resolve_verified(&path, tag).await,
        };
        let seen = match resolved {
            Ok(resolved) => Observed::Present(resolved.digest),
            Err(failure) if failure.is_absent() => Observed::Absent,
            Err(failure) if failure.class == Class::Locked => {
                tracing::debug!(repository = self.repository, tag, %failure, "a tag is locked");
                Observed::Unknown
            }
            Err(failure) => return Err(failure),
        };
        if let Some(turn) = &self.turns[side] {
            turn.keep_digest(tag, &seen, self.clock.now());
        }
        Ok(seen)
    }

    /// What Azure keeps in quarantine it calls absent: then nothing is known about it.
    async fn absent(&self, client: &Client, side: Side, tag: &str) -> Observed {
        if !self.hides(side) {
            return Observed::Absent;
        }
        match client.lock_of(&self.policy.path(side, self.repository), tag).await {
            Ok(Some(lock)) if lock.withholds() => {
                let why = lock.describe();
                tracing::debug!(repository = self.repository, tag, why, "a tag is locked");
                Observed::Unknown
            }
            _ => Observed::Absent,
        }
    }

    fn record(&self, tag: &str, seen: (Result<Observed, Failure>, Result<Observed, Failure>)) -> Failures {
        let mut failures = Failures::default();
        let mut settle = |side: Side, seen| match seen {
            Ok(observed) => observed,
            Err(failure) => {
                failures[side] = Some(failure);
                Observed::Unknown
            }
        };
        let seen = Sides {
            primary: settle(Side::Primary, seen.0),
            fallback: settle(Side::Fallback, seen.1),
        };
        let now = self.clock.now();
        self.memory
            .state()
            .ledger
            .record(self.repository, tag, seen, now, &rules(self.policy));
        failures
    }
}

/// Of many failures of a side the first is told.
fn first(known: Failures, next: Option<Failures>) -> Failures {
    let next = next.unwrap_or_default();
    Sides {
        primary: known.primary.or(next.primary),
        fallback: known.fallback.or(next.fallback),
    }
}
