//! What a replica carries out for its mirror: each job finds something out at one instant, and its answer arrives at another,
//! never, or twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::endpoint::{Outcome, Probe};
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::parity::{Canary, Observed};
use catamaran_core::mirror::repair::Errand;
use catamaran_core::mirror::{
    ClientProblem, CopyDone, CopyEnded, CopyFailure, Effect, Event, Listed, ListedTag, Listing, Probed, ReadFailure,
    RequestId, Resolve, Resolved, WriteProblem,
};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::reference::Reference;
use catamaran_core::routing::evidence::{Group, GroupPlace};
use catamaran_core::side::{Side, Sides};

use crate::api::{Object, Status, Stored};
use crate::clock::{Ms, SECOND, at, millis};
use crate::facts::{Facts, mapping};
use crate::registry::Weather;
use crate::world::{Fault, Item, Kind, ProbeSeen, World};

/// Tags in one piece of a listing.
const PIECE: usize = 3;

/// How long a registry is waited for that does not answer.
const TIMEOUT: Ms = 10 * SECOND;

/// How long the API server takes.
const API: Ms = 15;

/// Something under way.
#[derive(Clone, Debug)]
pub enum Job {
    Probe {
        asked: ProbeSeen,
        request: RequestId,
        side: Side,
        canary: Option<Canary>,
        policy: Arc<MirrorPolicy>,
    },
    InUse {
        request: RequestId,
        policy: Arc<MirrorPolicy>,
    },
    List {
        pass: u64,
        repository: String,
        policy: Arc<MirrorPolicy>,
        begun: Ms,
    },
    Resolve {
        wanted: Resolve,
        policy: Arc<MirrorPolicy>,
        begun: Ms,
    },
    Copy {
        errand: Errand,
        policy: Arc<MirrorPolicy>,
    },
    Status {
        request: RequestId,
        base: Arc<Object>,
        status: Box<Status>,
    },
    Store {
        groups: BTreeMap<GroupPlace, Arc<Group>>,
        all: BTreeSet<GroupPlace>,
        facts: Arc<Facts>,
    },
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    Event {
        event: Event,
        /// The policy that it was asked for by, and when what it says was so.
        policy: Option<Arc<MirrorPolicy>>,
        found: Ms,
        term: u32,
        probe: Option<ProbeSeen>,
        again: bool,
    },
    /// A write of the status ended; the object that comes with it.
    Status {
        request: RequestId,
        object: Option<Arc<Object>>,
        result: Result<(), WriteProblem>,
    },
    Stored(Result<(), String>, BTreeMap<GroupPlace, Arc<Group>>),
}

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
    /// Begins what an effect asks for.
    pub fn begin(&mut self, replica: usize, effect: Effect) {
        match effect {
            Effect::WriteStatus(request) => return self.write_status(replica, request),
            Effect::AbandonPass(_) => {
                self.replicas[replica].pieces.1.clear();
                return;
            }
            Effect::CloseListing { repository, .. } => {
                self.replicas[replica].pieces.1.remove(&repository);
                return;
            }
            Effect::ListMore { pass, repository } => return self.list_more(replica, pass, &repository),
            _ => {}
        }
        let Some(policy) = self.replicas[replica].policy().cloned() else {
            return;
        };
        let now = self.now;
        let (end, job) = match effect {
            Effect::Probe {
                request, side, canary, ..
            } => {
                let timeout = millis(policy.health.timeout);
                let host = policy.sides[side].registry.clone();
                let (end, outcome) = self.registry_mut(&host).probe(now, timeout);
                let asked = ProbeSeen {
                    name: policy.sides[side].name(),
                    host,
                    side,
                    begun: now,
                    end,
                    outcome,
                };
                let job = Job::Probe {
                    asked,
                    request,
                    side,
                    canary,
                    policy,
                };
                (end, job)
            }
            Effect::ReadInUse { request, .. } => {
                self.replicas[replica].in_use_reads.push(now);
                (now + 2 * API, Job::InUse { request, policy })
            }
            Effect::List { pass, repository } => {
                let end = now + self.slowest(&policy);
                let begun = now;
                let job = Job::List {
                    pass,
                    repository,
                    policy,
                    begun,
                };
                (end, job)
            }
            Effect::Resolve(wanted) => {
                let end = now + self.slowest(&policy);
                let begun = now;
                (end, Job::Resolve { wanted, policy, begun })
            }
            Effect::Copy(errand) => (now + SECOND, Job::Copy { errand, policy }),
            _ => return,
        };
        let life = self.replicas[replica].life;
        self.schedule(end, Item::Found(replica, life, Box::new(job)));
    }

    /// How long both sides of a mirror take to answer.
    fn slowest(&self, policy: &MirrorPolicy) -> Ms {
        let latency = |side: Side| self.latency(&policy.sides[side].registry);
        latency(Side::Primary).max(latency(Side::Fallback))
    }

    fn latency(&self, host: &str) -> Ms {
        let registry = self.registry(host);
        match registry.weather(self.now) {
            Weather::BlackHole => TIMEOUT,
            _ => registry.latency,
        }
    }

    /// Why a registry can't be read now.
    fn unreadable(&self, host: &str) -> Option<ReadFailure> {
        let outcome = match self.registry(host).weather(self.now) {
            Weather::Up => return None,
            Weather::Fails(how) => Outcome::Unavailable(how),
            Weather::BlackHole => Outcome::Unavailable(catamaran_core::endpoint::Unavailable::Timeout),
            Weather::Says(outcome) => outcome,
        };
        Some(ReadFailure {
            throttled: matches!(outcome, Outcome::Throttled { .. }),
            reason: outcome.as_str(),
            message: format!("at {} ms: {}", self.now, outcome.as_str()),
        })
    }

    /// The job comes to what it finds out.
    pub fn found(&mut self, replica: usize, life: u32, job: Job) {
        match job {
            Job::Probe {
                asked,
                request,
                side,
                canary,
                policy,
            } => {
                let (event, seen) = self.probe_ended(asked, request, side, canary, &policy);
                self.answer(replica, life, Kind::Probe, event, (Some(policy), self.now), Some(seen));
            }
            Job::InUse { request, policy } => {
                let in_use = Arc::new(self.in_use(&policy));
                let event = Event::InUse { request, in_use };
                self.answer(replica, life, Kind::InUse, event, (Some(policy), self.now), None);
            }
            Job::List {
                pass,
                repository,
                policy,
                begun,
            } => self.list(replica, life, pass, &repository, (policy, begun)),
            Job::Resolve { wanted, policy, begun } => {
                let event = self.resolve(&wanted, &policy);
                self.answer(replica, life, Kind::Resolve, event, (Some(policy), begun), None);
            }
            Job::Copy { errand, policy } => {
                let event = self.copy(errand, &policy);
                self.answer(replica, life, Kind::Copy, event, (Some(policy), self.now), None);
            }
            Job::Status { request, base, status } => self.status_written(replica, life, request, &base, *status),
            Job::Store { groups, all, facts } => self.stored(replica, life, groups, &all, facts),
        }
    }

    /// Sends an answer on its way, with the fault that waits for one of its kind.
    fn answer(
        &mut self,
        replica: usize,
        life: u32,
        kind: Kind,
        event: Event,
        (policy, found): (Option<Arc<MirrorPolicy>>, Ms),
        probe: Option<ProbeSeen>,
    ) {
        let answer = Answer::Event {
            event,
            policy,
            found,
            term: self.replicas[replica].term,
            probe,
            again: false,
        };
        self.send(replica, life, kind, answer);
    }

    fn send(&mut self, replica: usize, life: u32, kind: Kind, answer: Answer) {
        // What is found out by a replica that stands still arrives when it goes on.
        let fault = self.faults.remove(&kind);
        let time = match fault {
            Some(Fault::Lost) => return,
            Some(Fault::Late(late)) => self.now + Ms::from(late),
            Some(Fault::Twice) => {
                let mut second = answer.clone();
                if let Answer::Event { again, .. } = &mut second {
                    *again = true;
                }
                let time = self.now + 777;
                self.schedule(time, Item::Arrives(replica, life, Box::new(second)));
                self.now
            }
            None => self.now,
        };
        self.schedule(time, Item::Arrives(replica, life, Box::new(answer)));
    }

    fn probe_ended(
        &mut self,
        mut asked: ProbeSeen,
        request: RequestId,
        side: Side,
        canary: Option<Canary>,
        policy: &MirrorPolicy,
    ) -> (Event, ProbeSeen) {
        let path = |canary: &Canary| policy.path(side, &canary.repository).into_owned();
        let registry = self.registry(&asked.host);
        let holds = |canary: &Canary| registry.holds(&path(canary), &canary.digest.to_string()).is_some();
        match registry.weather(asked.end) {
            Weather::Fails(how) if asked.outcome == Outcome::Reachable => asked.outcome = Outcome::Unavailable(how),
            Weather::Says(outcome) if asked.outcome == Outcome::Reachable => asked.outcome = outcome,
            _ => {}
        }
        if asked.outcome == Outcome::Reachable && !canary.as_ref().is_none_or(holds) {
            asked.outcome = Outcome::CanaryNotFound;
        }
        if asked.outcome == Outcome::Reachable
            && let Some(canary) = &canary
        {
            let place = (asked.host.as_str(), path(canary));
            let digest = canary.digest.clone();
            self.told.note((place.0, &place.1), &digest.to_string(), Some(digest));
            let mapping = mapping(policy, &canary.repository);
            self.told.served.insert((mapping, asked.host.clone()));
        }
        let no_client = asked.outcome == Outcome::CredentialsUnavailable;
        let problem = ClientProblem {
            reason: "SecretNotFound",
            message: "the Secret does not exist".to_owned(),
        };
        let event = Event::Probed(Box::new(Probed {
            request,
            side,
            probe: Probe {
                at: at(asked.end),
                outcome: asked.outcome,
                message: format!("at {} ms: {}", asked.end, asked.outcome.as_str()),
            },
            canary: canary.filter(|_| !no_client),
            client: if no_client { Err(Some(problem)) } else { Ok(()) },
        }));
        (event, asked)
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
        in_use
    }

    fn list(
        &mut self,
        replica: usize,
        life: u32,
        pass: u64,
        repository: &str,
        (policy, begun): (Arc<MirrorPolicy>, Ms),
    ) {
        if self.replicas[replica].life != life {
            return;
        }
        let failures = Sides::from_fn(|side| self.unreadable(&policy.sides[side].registry));
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
            found: begun,
        };
        let listed = pieces.next(pass, repository);
        let one = &mut self.replicas[replica];
        if one.pieces.0 != pass {
            one.pieces = (pass, BTreeMap::new());
        }
        one.pieces.1.insert(repository.to_owned(), pieces);
        let event = Event::Listed(Box::new(listed));
        self.answer(replica, life, Kind::List, event, (Some(policy), begun), None);
    }

    fn note_listing(
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

    fn list_more(&mut self, replica: usize, pass: u64, repository: &str) {
        let one = &mut self.replicas[replica];
        let life = one.life;
        let Some(pieces) = one.pieces.1.get_mut(repository).filter(|_| one.pieces.0 == pass) else {
            return;
        };
        let listed = pieces.next(pass, repository);
        let about = (Some(Arc::clone(&pieces.policy)), pieces.found);
        self.answer(replica, life, Kind::List, Event::Listed(Box::new(listed)), about, None);
    }

    fn resolve(&mut self, wanted: &Resolve, policy: &MirrorPolicy) -> Event {
        let (repository, reference) = (&wanted.name.repository, &wanted.name.reference);
        let mut failures = Sides::default();
        let mut served = Sides::default();
        let mut seen = wanted.seen.clone();
        for side in Side::ALL.into_iter().filter(|side| wanted.ask[*side].is_some()) {
            let host = &policy.sides[side].registry;
            let path = policy.path(side, repository);
            failures[side] = self.unreadable(host);
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

    fn copy(&mut self, errand: Errand, policy: &MirrorPolicy) -> Event {
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
        let result = if self.unreadable(&from.0).is_some() || self.unreadable(&to.0).is_some() {
            Err(failure("Target", true, false))
        } else if held.as_ref() != Some(&errand.digest) {
            Err(failure("Moved", false, true))
        } else if there.as_ref().is_some_and(|there| *there != errand.digest) {
            Err(failure("Mismatched", false, true))
        } else {
            let written = there.is_none();
            let (now, digest) = (self.now, errand.digest.clone());
            if written {
                self.registry_mut(&to.0).push(now, &to.1, &errand.tag, digest);
            }
            Ok(CopyDone { written, bytes: 10 })
        };
        Event::Copied(Box::new(CopyEnded { errand, result }))
    }

    fn write_status(&mut self, replica: usize, request: RequestId) {
        let one = &self.replicas[replica];
        let life = one.life;
        let (Some(base), Some(view)) = (one.object.clone(), one.mirror.view()) else {
            let result = Err(WriteProblem { conflict: false });
            let answer = Answer::Status {
                request,
                object: None,
                result,
            };
            return self.send(replica, life, Kind::Status, answer);
        };
        let status = base.status.with(&view);
        self.check_view(replica, &base, &view);
        if status == base.status {
            let answer = Answer::Status {
                request,
                object: Some(base),
                result: Ok(()),
            };
            let time = self.now;
            return self.schedule(time, Item::Arrives(replica, life, Box::new(answer)));
        }
        let job = Job::Status {
            request,
            base,
            status: Box::new(status),
        };
        let time = self.now + API;
        self.schedule(time, Item::Found(replica, life, Box::new(job)));
    }

    /// The API server takes a status in, unless the object has changed meanwhile.
    fn status_written(&mut self, replica: usize, life: u32, request: RequestId, base: &Object, status: Status) {
        if self.replicas[replica].life != life {
            return;
        }
        let (object, result) = if self.refuse_status > 0 {
            self.refuse_status -= 1;
            (None, Err(WriteProblem { conflict: false }))
        } else if base.version == self.object.version {
            self.check_write(replica, base, &status);
            self.writes += 1;
            self.put(|object| object.status = status);
            (Some(Arc::clone(&self.object)), Ok(()))
        } else {
            (Some(Arc::clone(&self.object)), Err(WriteProblem { conflict: true }))
        };
        let answer = Answer::Status {
            request,
            object,
            result,
        };
        self.send(replica, life, Kind::Status, answer);
    }

    fn stored(
        &mut self,
        replica: usize,
        life: u32,
        groups: BTreeMap<GroupPlace, Arc<Group>>,
        all: &BTreeSet<GroupPlace>,
        facts: Arc<Facts>,
    ) {
        let gone = self.replicas[replica].life != life || self.replicas[replica].paused;
        if gone || self.lease != Some(replica) {
            return;
        }
        let result = if self.refuse_evidence > 0 {
            self.refuse_evidence -= 1;
            Err("quota exceeded".to_owned())
        } else {
            let mut stored: Stored = self.stored.clone();
            stored.groups.extend(groups.clone());
            stored.groups.retain(|place, _| all.contains(place));
            stored.facts = facts;
            self.stored = stored;
            for replica in 0..self.replicas.len() {
                let time = self.now + 25;
                self.schedule(time, Item::ShownEvidence(replica));
            }
            Ok(())
        };
        let time = self.now;
        let answer = Answer::Stored(result, groups);
        self.schedule(time, Item::Arrives(replica, life, Box::new(answer)));
    }

    /// An answer arrives at its replica.
    pub fn arrives(&mut self, replica: usize, answer: Answer) {
        match answer {
            Answer::Event {
                event,
                policy,
                found,
                term,
                probe,
                again,
            } => {
                let one = &mut self.replicas[replica];
                if let Some(probe) = probe.filter(|probe| !again && probe.begun >= one.sides_changed[probe.side]) {
                    one.probes.push(probe);
                }
                let in_time = self.now - found <= 20 * SECOND + TIMEOUT;
                let same_spec = policy
                    .as_ref()
                    .zip(one.policy())
                    .is_some_and(|(asked, is)| Arc::ptr_eq(asked, is));
                if let Some(policy) = policy.filter(|_| one.leading && term == one.term && same_spec && !again) {
                    self.learn(replica, &policy, &event, (found, self.now), in_time);
                }
                self.feed(replica, event);
            }
            Answer::Status {
                request,
                object,
                result,
            } => {
                let known = self.replicas[replica]
                    .object
                    .as_ref()
                    .map_or(0, |object| object.version);
                if let Some(object) = object.filter(|object| object.version >= known) {
                    self.adopt(replica, &object);
                }
                self.feed(replica, Event::StatusWritten { request, result });
            }
            Answer::Stored(result, groups) => self.store_ended(replica, result, groups),
        }
    }

    /// Keeps what a leader is told.
    fn learn(&mut self, replica: usize, policy: &MirrorPolicy, event: &Event, times: (Ms, Ms), in_time: bool) {
        let one = &mut self.replicas[replica];
        match event {
            Event::Resolved(resolved) if in_time => one.facts.resolved(policy, resolved, times),
            Event::Listed(listed) if in_time => {
                let in_use = one.in_use.clone().unwrap_or_default();
                one.facts.listed(policy, listed, &in_use, times);
            }
            Event::Resolved(resolved) => {
                let name = resolved.name.clone();
                one.facts
                    .blur(|repository, reference| repository == name.repository && reference == name.reference);
            }
            Event::Listed(listed) => one.facts.blur(|repository, _| repository == listed.repository),
            Event::InUse { in_use, .. } => {
                one.in_use = Some(Arc::clone(in_use));
                let by_use = matches!(policy.repositories, catamaran_core::policy::Repositories::InUse);
                let gone = |repository: &str, reference: &str| {
                    (by_use || reference.contains(':')) && !in_use.contains(repository, reference)
                };
                one.facts.blur(gone);
                let mut prior = Facts::clone(&one.prior_facts);
                prior.blur(gone);
                one.prior_facts = Arc::new(prior);
            }
            _ => {}
        }
    }

    fn store_ended(&mut self, replica: usize, result: Result<(), String>, groups: BTreeMap<GroupPlace, Arc<Group>>) {
        let one = &mut self.replicas[replica];
        one.storing = false;
        if !one.leading {
            return;
        }
        if result.is_ok() {
            one.store_failures = 0;
        } else {
            for (place, group) in groups {
                one.unstored.entry(place).or_insert(group);
            }
            one.store_failures += 1;
            let time = self.now + (SECOND << one.store_failures.min(8));
            let life = one.life;
            self.schedule(time, Item::Store(replica, life));
        }
        self.feed(replica, Event::EvidenceStored(result));
        let one = &self.replicas[replica];
        if !one.unstored.is_empty() && one.store_failures == 0 {
            let store = (self.now, Item::Store(replica, one.life));
            self.schedule(store.0, store.1);
        }
    }
}
