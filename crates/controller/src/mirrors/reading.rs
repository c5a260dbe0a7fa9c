//! Carries out what a mirror wants read: listings of repositories, piece by piece, and references by name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use catamaran_core::endpoint::Outcome;
use catamaran_core::mirror::parity::Observed;
use catamaran_core::mirror::{
    Event, Expected, LARGEST_PIECE, Listed, ListedTag, Listing, ReadFailure, Resolve, Resolved,
};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::{Side, Sides};
use catamaran_registry::{Class, Client, Failure, Lock};
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use tokio::task::JoinSet;

use super::readings::{Listing as SharedListing, Turn};
use super::sources::{Clients, Sources, clients};
use crate::clock::Clock;

/// Places at repositories that other mirrors read as well, held while this one reads.
type Turns = Sides<Option<Turn>>;

fn read_failure(failure: &Failure) -> ReadFailure {
    let outcome = failure.outcome();
    ReadFailure {
        throttled: matches!(outcome, Outcome::Throttled { .. }),
        reason: outcome.as_str(),
        message: failure.to_string(),
    }
}

/// What one pass has under way. Dropping it ends all of that.
#[derive(Debug, Default)]
pub(super) struct PassReading {
    pub(super) pass: u64,
    open: HashMap<String, OpenRepository>,
    jobs: JoinSet<()>,
}

#[derive(Debug)]
struct OpenRepository {
    more: mpsc::Sender<()>,
    turns: Arc<tokio::sync::OnceCell<Turns>>,
}

impl PassReading {
    pub(super) fn new(pass: u64) -> PassReading {
        PassReading {
            pass,
            ..PassReading::default()
        }
    }

    /// Lists both sides of a repository; the first piece follows, further ones at [`PassReading::more`].
    pub(super) fn list(
        &mut self,
        sources: &Sources,
        policy: &Arc<MirrorPolicy>,
        repository: &str,
        events: mpsc::Sender<Event>,
    ) {
        let (more, wanted) = mpsc::channel(0);
        let turns = Arc::<tokio::sync::OnceCell<Turns>>::default();
        let open = OpenRepository {
            more,
            turns: Arc::clone(&turns),
        };
        self.open.insert(repository.to_owned(), open);
        let reader = Lister {
            sources: sources.clone(),
            policy: Arc::clone(policy),
            repository: repository.to_owned(),
            pass: self.pass,
            turns,
        };
        self.reap();
        self.jobs.spawn(async move { reader.run(wanted, events).await });
    }

    /// Has the next piece of a listing brought.
    pub(super) fn more(&mut self, repository: &str) {
        if let Some(open) = self.open.get_mut(repository) {
            // One request at a time is under way.
            let _ = open.more.try_send(());
        }
    }

    /// The repository is done with: other mirrors may read it.
    pub(super) fn close(&mut self, clock: Clock, repository: &str) {
        let Some(open) = self.open.remove(repository) else {
            return;
        };
        drop(open.more);
        let now = clock.now();
        if let Some(turns) = Arc::into_inner(open.turns).and_then(tokio::sync::OnceCell::into_inner) {
            for turn in [turns.primary, turns.fallback].into_iter().flatten() {
                turn.end(now);
            }
        }
    }

    /// Reads one reference.
    pub(super) fn resolve(
        &mut self,
        sources: &Sources,
        policy: &Arc<MirrorPolicy>,
        wanted: Resolve,
        mut events: mpsc::Sender<Event>,
    ) {
        let turns = self
            .open
            .get(&wanted.name.repository)
            .map(|open| Arc::clone(&open.turns));
        let (sources, policy) = (sources.clone(), Arc::clone(policy));
        self.reap();
        self.jobs.spawn(async move {
            let resolved = resolve(&sources, &policy, turns.as_deref(), wanted).await;
            drop(turns);
            // The receiver is gone with its mirror.
            let _ = events.send(resolved).await;
        });
    }

    /// Lets go of what has ended.
    pub(super) fn reap(&mut self) {
        while self.jobs.try_join_next().is_some() {}
    }
}

/// Lists one repository on both sides.
struct Lister {
    sources: Sources,
    policy: Arc<MirrorPolicy>,
    repository: String,
    pass: u64,
    turns: Arc<tokio::sync::OnceCell<Turns>>,
}

impl Lister {
    async fn run(self, mut wanted: mpsc::Receiver<()>, mut events: mpsc::Sender<Event>) {
        let paths = Sides::from_fn(|side| self.policy.path(side, &self.repository));
        let paths = paths.as_ref().map(|path| &**path);
        let now = self.sources.clock.now();
        let turns = self.sources.readings.turns(&self.policy, paths, now).await;
        let turns = self.turns.get_or_init(async || turns).await;
        let clients = clients(&*self.sources.registries, &self.policy).await;
        let list = async |side: Side| self.listing(side, &clients, turns).await;
        let (primary, fallback) = tokio::join!(list(Side::Primary), list(Side::Fallback));
        let pieces = Pieces::new(&self.repository, self.pass, primary, fallback);
        drop(self.turns);
        let mut from = None::<String>;
        loop {
            let piece = pieces.after(from.as_deref());
            let is_last = piece.last;
            from = piece.tags.last().map(|tag| tag.name.clone());
            if events.send(Event::Listed(Box::new(piece))).await.is_err() || is_last {
                return;
            }
            if wanted.next().await.is_none() {
                return;
            }
        }
    }

    async fn listing(&self, side: Side, clients: &Clients, turns: &Turns) -> Result<Arc<SharedListing>, ReadFailure> {
        let client = clients[side].as_ref().map_err(Clone::clone)?;
        if let Some(listing) = turns[side].as_ref().and_then(Turn::listing) {
            return Ok(listing);
        }
        let path = self.policy.path(side, &self.repository);
        let registry = &self.policy.sides[side].registry;
        let _turn = self.sources.readings.listings.turn(registry).await;
        // Boxed: until its turn has come, it takes little memory.
        let listed = match Box::pin(client.list_tags(&path)).await {
            Ok(listed) => listed,
            // A repository that was never pushed to is an empty one.
            Err(failure) if failure.is_absent() => Vec::new(),
            Err(failure) => return Err(read_failure(&failure)),
        };
        let listing: SharedListing = listed.into_iter().map(|tag| (tag.name.clone(), tag)).collect();
        let listing = Arc::new(listing);
        if let Some(turn) = &turns[side] {
            turn.keep_listing(&listing, self.sources.clock.now());
        }
        Ok(listing)
    }
}

/// The listings of both sides, handed over in pieces in the order of names.
struct Pieces<'a> {
    repository: &'a str,
    pass: u64,
    listings: Sides<Option<Arc<SharedListing>>>,
    failures: Sides<Option<ReadFailure>>,
    unlisted: Sides<usize>,
}

impl<'a> Pieces<'a> {
    fn new(
        repository: &'a str,
        pass: u64,
        primary: Result<Arc<SharedListing>, ReadFailure>,
        fallback: Result<Arc<SharedListing>, ReadFailure>,
    ) -> Pieces<'a> {
        let failures = Sides {
            primary: primary.as_ref().err().cloned(),
            fallback: fallback.as_ref().err().cloned(),
        };
        let listings = Sides {
            primary: primary.ok(),
            fallback: fallback.ok(),
        };
        let absent_from = |side: Side| {
            let (Some(here), Some(there)) = (&listings[side], &listings[side.other()]) else {
                return 0;
            };
            there.keys().filter(|name| !here.contains_key(*name)).count()
        };
        Pieces {
            unlisted: Sides::from_fn(absent_from),
            repository,
            pass,
            listings,
            failures,
        }
    }

    /// The piece that follows a name, or the first one.
    fn after(&self, name: Option<&str>) -> Listed {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = name.map_or(Unbounded, Excluded);
        let mut names = BTreeSet::new();
        for listing in [&self.listings.primary, &self.listings.fallback].into_iter().flatten() {
            names.extend(
                listing
                    .range::<str, _>((from, Unbounded))
                    .take(LARGEST_PIECE + 1)
                    .map(|(name, _)| name.as_str()),
            );
        }
        let last = names.len() <= LARGEST_PIECE;
        let tags = names
            .into_iter()
            .take(LARGEST_PIECE)
            .map(|name| self.tag(name))
            .collect();
        Listed {
            pass: self.pass,
            repository: self.repository.to_owned(),
            after: name.map(str::to_owned),
            failures: self.failures.clone(),
            unlisted: self.unlisted,
            tags,
            last,
        }
    }

    fn tag(&self, name: &str) -> ListedTag {
        ListedTag {
            name: name.to_owned(),
            sides: Sides::from_fn(|side| match &self.listings[side] {
                None => Listing::Unread,
                Some(listing) => match listing.get(name) {
                    None => Listing::Unlisted,
                    Some(tag) if tag.locked.as_ref().is_some_and(Lock::withholds) => Listing::Withheld,
                    Some(tag) => Listing::Named(tag.digest.clone()),
                },
            }),
        }
    }
}

/// Reads one reference on the sides that are asked.
pub(super) async fn resolve(
    sources: &Sources,
    policy: &MirrorPolicy,
    turns: Option<&tokio::sync::OnceCell<Turns>>,
    wanted: Resolve,
) -> Event {
    let clients = clients(&*sources.registries, policy).await;
    let turns = turns.and_then(tokio::sync::OnceCell::get);
    let reader = Reader {
        sources,
        policy,
        clients: &clients,
        turns,
        wanted: &wanted,
    };
    let (primary, fallback) = tokio::join!(reader.side(Side::Primary), reader.side(Side::Fallback));
    let answers = Sides { primary, fallback };
    let failures = Sides::from_fn(|side| answers[side].as_ref().and_then(|answer| answer.as_ref().err().cloned()));
    let served = Sides::from_fn(|side| matches!(&answers[side], Some(Ok(Observed::Present(_)))));
    let seen = Sides::from_fn(|side| match &answers[side] {
        None => wanted.seen[side].clone(),
        Some(Ok(seen)) => seen.clone(),
        Some(Err(_)) => Observed::Unknown,
    });
    Event::Resolved(Box::new(Resolved {
        request: wanted.request,
        name: wanted.name,
        seen,
        served,
        failures,
    }))
}

struct Reader<'a> {
    sources: &'a Sources,
    policy: &'a MirrorPolicy,
    clients: &'a Clients,
    turns: Option<&'a Turns>,
    wanted: &'a Resolve,
}

impl Reader<'_> {
    /// What a side answers; none where it is not asked.
    async fn side(&self, side: Side) -> Option<Result<Observed, ReadFailure>> {
        let expected = self.wanted.ask[side]?;
        Some(match &self.clients[side] {
            Ok(client) => self.ask(side, client, expected).await,
            Err(failure) => Err(failure.clone()),
        })
    }

    /// One request for what is there as expected, and for what is absent as expected.
    async fn ask(&self, side: Side, client: &Client, expected: Expected) -> Result<Observed, ReadFailure> {
        let reference = &self.wanted.name.reference;
        let turn = self.turns.and_then(|turns| turns[side].as_ref());
        if let Some(seen) = turn.and_then(|turn| turn.digest(reference)) {
            return Ok(seen);
        }
        let path = self.policy.path(side, &self.wanted.name.repository);
        let resolved = match expected {
            Expected::Present => client.resolve(&path, reference).await,
            Expected::Absent => client.resolve_verified(&path, reference).await,
        };
        let seen = match resolved {
            Ok(resolved) => Observed::Present(resolved.digest),
            Err(failure) if failure.is_absent() && expected == Expected::Present => {
                self.absent(client, side, &path).await
            }
            Err(failure) if failure.is_absent() => Observed::Absent,
            Err(failure) if failure.class == Class::Locked => {
                tracing::debug!(path = &*path, reference, %failure, "a tag is locked");
                Observed::Unknown
            }
            Err(failure) => return Err(read_failure(&failure)),
        };
        if let Some(turn) = turn {
            turn.keep_digest(reference, &seen, self.sources.clock.now());
        }
        Ok(seen)
    }

    /// What is called absent where a registry may only withhold it: then nothing is known about it.
    async fn absent(&self, client: &Client, side: Side, path: &str) -> Observed {
        let policy = &self.policy.sides[side];
        let reference = &self.wanted.name.reference;
        // Tags are locked; a digest has no lock of its own.
        if !policy.provider.facts().withholds || policy.pull_through_cache || reference.contains(':') {
            return Observed::Absent;
        }
        match client.lock_of(path, reference).await {
            Ok(Some(lock)) if lock.withholds() => {
                tracing::debug!(path, reference, why = lock.describe(), "a tag is locked");
                Observed::Unknown
            }
            _ => Observed::Absent,
        }
    }
}

#[cfg(test)]
mod tests;
