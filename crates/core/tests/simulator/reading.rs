//! What jobs find out: how a registry answers a probe, what it lists and serves, what is in use, how a copy ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::parity::Observed;
use catamaran_core::mirror::repair::Errand;
use catamaran_core::mirror::{
    CopyDone, CopyEnded, CopyFailure, Depth, Event, Listed, ListedTag, Listing, ReadFailure, Resolve, Resolved,
};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::reference::Reference;
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::{Side, Sides};

use crate::clock::{Ms, SECOND};
use crate::facts::mapping;
use crate::registry::Weather;
use crate::world::{Kind, World};

/// Tags in one piece of a listing.
const PIECE: usize = 3;

/// How long a registry is waited for that does not answer.
pub const TIMEOUT: Ms = 10 * SECOND;

/// How long the API server takes.
pub const API: Ms = 15;

/// The listings of both sides of a repository, as they were at one instant.
#[derive(Clone, Debug)]
pub struct Pieces {
    listings: Sides<Option<BTreeMap<String, Option<catamaran_core::digest::Digest>>>>,
    failures: Sides<Option<ReadFailure>>,
    after: Option<String>,
    policy: Arc<MirrorPolicy>,
    found: Ms,
}

impl Pieces {
    fn next(&mut self, pass: u64, repository: &str) -> Listed {
        let absent_from = |side: Side| {
            let (Some(here), Some(there)) = (&self.listings[side], &self.listings[side.other()]) else {
                return 0;
            };
            there.keys().filter(|name| !here.contains_key(*name)).count()
        };
        let mut names = BTreeSet::new();
        for listing in [&self.listings.primary, &self.listings.fallback].into_iter().flatten() {
            let later = listing
                .keys()
                .filter(|name| self.after.as_ref().is_none_or(|after| *name > after));
            names.extend(later.cloned());
        }
        let last = names.len() <= PIECE;
        let tag = |name: String| ListedTag {
            sides: Sides::from_fn(|side| match &self.listings[side] {
                None => Listing::Unread,
                Some(listing) => match listing.get(&name) {
                    None => Listing::Unlisted,
                    Some(digest) => Listing::Named(digest.clone()),
                },
            }),
            name,
        };
        let listed = Listed {
            pass,
            repository: repository.to_owned(),
            after: self.after.clone(),
            failures: self.failures.clone(),
            unlisted: Sides::from_fn(absent_from),
            tags: names.into_iter().take(PIECE).map(tag).collect(),
            last,
        };
        self.after = listed.tags.last().map(|tag| tag.name.clone()).or(self.after.take());
        listed
    }
}

impl World {
    /// How long both sides of a mirror take to answer.
    pub fn slowest(&self, policy: &MirrorPolicy) -> Ms {
        let latency = |side: Side| self.latency(&policy.sides[side].registry);
        latency(Side::Primary).max(latency(Side::Fallback))
    }

    pub fn latency(&self, host: &str) -> Ms {
        let registry = self.registry(host);
        match registry.weather(self.now) {
            Weather::BlackHole => TIMEOUT,
            _ => registry.latency,
        }
    }

    /// Why a repository can't be read now.
    pub fn unreadable(&self, host: &str, path: &str) -> Option<ReadFailure> {
        let registry = self.registry(host);
        let outcome = match registry.weather(self.now) {
            Weather::Up | Weather::NoBlobs | Weather::NoTokens if registry.broken.contains(path) => {
                Outcome::Unavailable(Unavailable::ServerError)
            }
            Weather::Up | Weather::NoBlobs | Weather::NoTokens => return None,
            Weather::Fails(how) => Outcome::Unavailable(how),
            Weather::BlackHole => Outcome::Unavailable(Unavailable::Timeout),
            Weather::Says(outcome) => outcome,
        };
        Some(ReadFailure {
            throttled: matches!(outcome, Outcome::Throttled { .. }),
            reason: outcome.as_str(),
            message: format!("at {} ms: {}", self.now, outcome.as_str()),
        })
    }

    /// The latest reading of what is in use, or a new one if it is too old.
    pub fn shared_in_use(&mut self, replica: usize, policy: &Arc<MirrorPolicy>, oldest: Ms) -> Arc<InUse> {
        let now = self.now;
        let shared = self.replicas[replica].shared_in_use.as_ref();
        let young = shared.filter(|(read, of, _)| now - read <= oldest && Arc::ptr_eq(of, policy));
        if let Some((.., in_use)) = young {
            return Arc::clone(in_use);
        }
        let in_use = Arc::new(self.in_use(policy));
        self.replicas[replica].shared_in_use = Some((now, Arc::clone(policy), Arc::clone(&in_use)));
        in_use
    }

    /// What pods and workloads use of a mirror.
    pub fn in_use(&self, policy: &MirrorPolicy) -> InUse {
        let mut in_use = InUse::default();
        for workload in self.workloads.values() {
            let Ok(reference) = Reference::parse(&workload.image) else {
                continue;
            };
            let Some(located) = policy.locate(&reference) else {
                continue;
            };
            let references = in_use.references.entry(located.repository.into_owned()).or_default();
            // A digest says what is pulled, whatever tag stands beside it.
            if let Some(name) = reference.digest().or(reference.effective_tag()) {
                let usage = references.entry(name.to_owned()).or_default();
                usage.started |= workload.started;
                usage.template |= workload.template;
                usage.needed_on = Sides {
                    primary: true,
                    fallback: true,
                };
            }
            if let Ok(runs) = Reference::parse(&workload.runs) {
                let side = policy.locate(&runs).map(|located| located.side);
                in_use.pods_on_fallback += u32::from(side == Some(Side::Fallback));
            }
        }
        in_use.is_single_node = self.kubelets.nodes.len() == 1;
        in_use
    }

    pub fn list(
        &mut self,
        replica: usize,
        begun: (u32, u32),
        pass: u64,
        repository: &str,
        (policy, asked): (Arc<MirrorPolicy>, Ms),
    ) {
        if self.replicas[replica].life != begun.0 {
            return;
        }
        let failures = Sides::from_fn(|side| {
            let path = policy.path(side, repository);
            self.unreadable(&policy.sides[side].registry, &path)
        });
        let listings = Sides::from_fn(|side| {
            let registry = self.registry(&policy.sides[side].registry);
            let named = |(name, digest)| (name, Some(digest).filter(|_| registry.lists_digests));
            let tags = registry.tags(&policy.path(side, repository)).into_iter();
            failures[side].is_none().then(|| tags.map(named).collect())
        });
        for side in Side::ALL {
            self.note_listing(&policy, side, repository, listings[side].as_ref());
        }
        let mut pieces = Pieces {
            listings,
            failures,
            after: None,
            policy: Arc::clone(&policy),
            found: asked,
        };
        let listed = pieces.next(pass, repository);
        let one = &mut self.replicas[replica];
        if one.pieces.0 != pass {
            one.pieces = (pass, BTreeMap::new());
        }
        one.pieces.1.insert(repository.to_owned(), pieces);
        let event = Event::Listed(Box::new(listed));
        self.answer(replica, begun, Kind::List, event, (Some(policy), asked));
    }

    pub fn note_listing(
        &mut self,
        policy: &MirrorPolicy,
        side: Side,
        repository: &str,
        listing: Option<&BTreeMap<String, Option<catamaran_core::digest::Digest>>>,
    ) {
        let Some(listing) = listing else { return };
        let (host, path) = (
            policy.sides[side].registry.clone(),
            policy.path(side, repository).into_owned(),
        );
        for (tag, digest) in listing {
            if let Some(digest) = digest {
                self.told.note((&host, &path), tag, Some(digest.clone()));
            }
        }
        // What a listing does not name, the registry says that it does not have.
        for tag in 0..8 {
            let tag = format!("t{tag}");
            if !listing.contains_key(&tag) {
                self.told.note((&host, &path), &tag, None);
            }
        }
    }

    pub fn list_more(&mut self, replica: usize, pass: u64, repository: &str) {
        let one = &mut self.replicas[replica];
        let begun = (one.life, one.term);
        let Some(pieces) = one.pieces.1.get_mut(repository).filter(|_| one.pieces.0 == pass) else {
            return;
        };
        let listed = pieces.next(pass, repository);
        let about = (Some(Arc::clone(&pieces.policy)), pieces.found);
        self.answer(replica, begun, Kind::List, Event::Listed(Box::new(listed)), about);
    }

    pub fn resolve(&mut self, wanted: &Resolve, policy: &MirrorPolicy) -> Event {
        let (repository, reference) = (&wanted.name.repository, &wanted.name.reference);
        let mut failures = Sides::default();
        let mut served = Sides::default();
        let mut seen = wanted.seen.clone();
        for side in Side::ALL.into_iter().filter(|side| wanted.ask[*side].is_some()) {
            let host = &policy.sides[side].registry;
            let path = policy.path(side, repository);
            failures[side] = self.unreadable(host, &path);
            seen[side] = Observed::Unknown;
            if failures[side].is_some() {
                continue;
            }
            let held = self.registry(host).holds(&path, reference);
            self.told.note((host, &path), reference, held.clone());
            if held.is_some() {
                self.told.served.insert((mapping(policy, repository), host.clone()));
            }
            served[side] = held.is_some();
            seen[side] = held.map_or(Observed::Absent, Observed::Present);
        }
        Event::Resolved(Box::new(Resolved {
            request: wanted.request,
            name: wanted.name.clone(),
            seen,
            served,
            failures,
        }))
    }

    pub fn copy(&mut self, errand: Errand, policy: &MirrorPolicy) -> Event {
        let place = |side: Side| {
            let path = policy.path(side, &errand.repository).into_owned();
            (policy.sides[side].registry.clone(), path)
        };
        let (from, to) = (place(errand.to.other()), place(errand.to));
        let failure = |reason, of_registry, read_again| CopyFailure {
            reason,
            message: format!("at {} ms: {reason}", self.now),
            of_registry,
            read_again,
        };
        let held = self.registry(&from.0).holds(&from.1, &errand.tag);
        let there = self.registry(&to.0).holds(&to.1, &errand.tag);
        let result = if self.unreadable(&from.0, &from.1).is_some() || self.unreadable(&to.0, &to.1).is_some() {
            Err(failure("Target", true, false))
        } else if held.as_ref() != Some(&errand.digest) {
            Err(failure("Moved", false, true))
        } else if there.as_ref().is_some_and(|there| *there != errand.digest) {
            Err(failure("Mismatched", false, true))
        } else if let Some(flaw) = self.registry(&from.0).flaw_of(&from.1, &errand.digest, Depth::Content) {
            let reason = match flaw.flaw {
                Flaw::Broken => "Source",
                Flaw::Untrusted => "Corrupt",
            };
            Err(failure(reason, flaw.flaw == Flaw::Broken, false))
        } else {
            if errand.is_broken {
                let completed = (to.1.clone(), errand.digest.clone());
                self.registry_mut(&to.0).flawed.remove(&completed);
            }
            let written = there.is_none();
            let (now, digest) = (self.now, errand.digest.clone());
            if written {
                self.registry_mut(&to.0).push(now, &to.1, &errand.tag, digest);
            }
            Ok(CopyDone { written, bytes: 10 })
        };
        Event::Copied(Box::new(CopyEnded { errand, result }))
    }
}
