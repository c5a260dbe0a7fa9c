//! Plays a history, and what must follow when all faults are over.

use catamaran_core::digest::Digest;
use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::mirror::{Depth, Event, ReferenceName, Subject};
use catamaran_core::policy::{ActiveSide, MirrorPolicy};
use catamaran_core::reference::Reference;
use catamaran_core::routing::ImageRoute;
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::Side;

use crate::api::Status;
use crate::check::Violation;
use crate::clock::{HOUR, MINUTE, Ms, SECOND};
use crate::registry::{Registry, Weather};
use crate::script::{Draft, Edit, HOSTS, NAMES, Named, PATHS, Setup, Sky, Step};
use crate::world::{Fault, Workload, World};

/// A history that is being played.
pub struct Play {
    pub world: World,
    pub setup: Setup,
    draft: Draft,
}

impl Play {
    pub fn new(setup: Setup) -> Play {
        let draft = Draft::new(&setup);
        let policy = draft
            .policy(&setup)
            .expect("a history begins with a spec that makes sense");
        let mut registries: Vec<Registry> = HOSTS.iter().map(|host| Registry::new(host, 40)).collect();
        for (registry, digests) in registries.iter_mut().zip(setup.digests) {
            registry.lists_digests = digests;
        }
        registries[1].latency = 70;
        let world = World::new(policy, registries, usize::from(setup.replicas.clamp(1, 4)));
        let mut play = Play { world, setup, draft };
        play.world.most_handled = MOST_HANDLED;
        play.note_mappings(1);
        for (repository, tag) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            play.push_both(repository, tag, 10 * repository + tag);
        }
        play.workload(0, Side::Primary, 0, 0, Named::Tag);
        play.workload(1, Side::Fallback, 1, 1, Named::Digest);
        play
    }

    pub fn step(&mut self, step: Step) {
        self.act(step);
        let now = self.world.now;
        self.world.run(now);
        self.world.check_routes();
        self.world.check_probes();
    }

    fn replica(&self, number: u8) -> usize {
        usize::from(number) % self.world.replicas.len()
    }

    fn act(&mut self, step: Step) {
        let world = &mut self.world;
        let now = world.now;
        match step {
            Step::Wait(length) => world.run(now + Ms::from(length)),
            Step::Weather(registry, sky) => self.weather(registry, sky),
            Step::Push(registry, path, tag, content) => {
                let path = PATHS[usize::from(path) % PATHS.len()];
                let digest = World::content(content);
                world.registries[usize::from(registry) % 3].push(now, path, &name_of(tag), digest);
            }
            Step::PushBoth(repository, tag, content) => self.push_both(repository, tag, content),
            Step::PushTo(side, repository, tag, content) => {
                self.at(side, repository, |registry, path| {
                    registry.push(now, path, &name_of(tag), World::content(content));
                });
            }
            Step::DeleteFrom(side, repository, tag) => {
                self.at(side, repository, |registry, path| {
                    registry.delete(now, path, &name_of(tag));
                });
            }
            Step::Delete(registry, path, tag) => {
                let path = PATHS[usize::from(path) % PATHS.len()];
                world.registries[usize::from(registry) % 3].delete(now, path, &name_of(tag));
            }
            Step::Break(side, repository, breaks) => self.at(side, repository, |registry, path| {
                if breaks {
                    registry.broken.insert(path.to_owned());
                } else {
                    registry.broken.remove(path);
                }
            }),
            Step::Gut(side, repository, tag, is_gutted) => {
                self.spoil(side, repository, tag, is_gutted.then_some(Flaw::Broken));
            }
            Step::Forge(side, repository, tag, is_forged) => {
                self.spoil(side, repository, tag, is_forged.then_some(Flaw::Untrusted));
            }
            Step::Cut(replica, registry, is_cut) => {
                let replica = usize::from(replica) % world.replicas.len();
                world
                    .networks
                    .cut(now, replica, HOSTS[usize::from(registry) % 3], is_cut);
            }
            Step::Run(slot, side, repository, tag, named) => self.workload(slot, side, repository, tag, named),
            Step::Stop(slot) => {
                world.workloads.remove(&slot);
            }
            Step::Pull(slot, replica) => self.pull(slot, replica),
            Step::Nodes(count) => {
                if world.kubelets.nodes.is_empty() {
                    world.start_pods(usize::from(count.clamp(1, 4)), 3 * SECOND);
                }
            }
            Step::NodePulls(node, registry, failure) => {
                let host = HOSTS[usize::from(registry) % HOSTS.len()];
                let nodes = world.kubelets.nodes.len().max(1);
                if let Some(node) = world.kubelets.nodes.get_mut(usize::from(node) % nodes) {
                    node.changes.push((now, host, failure));
                }
            }
            Step::Asks(slot, urgent) => self.asks(slot, urgent),
            Step::Next(kind, fault) => {
                if matches!(fault, Fault::Lost | Fault::Late(_)) {
                    world.checks.patience = 6 * MINUTE;
                }
                world.faults.insert(kind, fault);
            }
            Step::RefuseStatus(times) => world.refuse_status = u32::from(times % 5),
            Step::RefuseEvidence(times) => world.refuse_evidence = u32::from(times % 5),
            Step::Touch => world.put(|_| {}),
            Step::StoreApart(apart) => world.stores_apart = apart,
            Step::Restore(versions) => self.restore(Some(versions)),
            Step::Wipe => self.restore(None),
            Step::Edit(edit) => self.edit(edit),
            other => self.disturb(other),
        }
    }

    /// What happens to replicas.
    fn disturb(&mut self, step: Step) {
        match step {
            Step::Lead(replica) => {
                let replica = self.replica(replica);
                if !self.world.replicas[replica].paused {
                    self.world.lead(replica);
                }
            }
            Step::Usurp(replica) => {
                let replica = self.replica(replica);
                let one = &self.world.replicas[replica];
                if !one.paused && !one.leading {
                    self.world.lease = Some(replica);
                    self.world.begin_to_lead(replica);
                }
            }
            Step::Notice => {
                for replica in 0..self.world.replicas.len() {
                    if self.world.lease != Some(replica) && !self.world.replicas[replica].paused {
                        self.world.unlead(replica);
                    }
                }
            }
            Step::Vacate => self.world.vacate(),
            Step::Restart(replica) => {
                let replica = self.replica(replica);
                self.world.restart(replica);
            }
            Step::Pause(replica, length) => {
                let replica = self.replica(replica);
                self.world.pause(replica, Ms::from(length));
            }
            Step::SetClock(replica, by) => {
                let replica = self.replica(replica);
                self.world.set_clock(replica, Ms::from(by));
            }
            Step::HoldWatch(replica, length) => {
                let replica = self.replica(replica);
                let until = self.world.now + Ms::from(length);
                self.world.held.insert(replica, until);
            }
            Step::ShowOld(replica, versions) => {
                let replica = self.replica(replica);
                let history = &self.world.history;
                let index = history.len().saturating_sub(1 + usize::from(versions));
                if let Some(object) = history.get(index).cloned() {
                    self.world.show(replica, object);
                }
            }
            Step::Rescued(count) => {
                if let Some(replica) = self.world.lease.filter(|replica| !self.world.replicas[*replica].paused) {
                    self.world.feed(replica, Event::Rescued(u64::from(count)));
                }
            }
            _ => {}
        }
    }

    fn weather(&mut self, registry: u8, sky: Sky) {
        let now = self.world.now;
        let weather = match sky {
            Sky::Up => Weather::Up,
            Sky::Refuses => Weather::Fails(Unavailable::ConnectionFailed),
            Sky::BlackHole => Weather::BlackHole,
            Sky::ServerError => Weather::Fails(Unavailable::ServerError),
            Sky::NoBlobs => Weather::NoBlobs,
            Sky::NoTokens => Weather::NoTokens,
            Sky::Unauthorized => Weather::Says(Outcome::Unauthorized),
            Sky::Throttled => Weather::Says(Outcome::Throttled { retry_after: None }),
            Sky::NoClient => Weather::Says(Outcome::CredentialsUnavailable),
        };
        self.world.registries[usize::from(registry) % 3]
            .changes
            .push((now, weather));
    }

    /// The policy as the latest spec that made sense has it.
    fn policy(&self) -> Option<MirrorPolicy> {
        let mut draft = self.draft.clone();
        draft.invalid = false;
        draft.policy(&self.setup)
    }

    /// Does something to a repository of a side, as the spec has it.
    fn at(&mut self, side: Side, repository: u8, act: impl FnOnce(&mut Registry, &str)) {
        let Some(policy) = self.policy() else { return };
        let path = policy
            .path(side, NAMES[usize::from(repository) % NAMES.len()])
            .into_owned();
        let host = policy.sides[side].registry.clone();
        act(self.world.registry_mut(&host), &path);
    }

    fn push_both(&mut self, repository: u8, tag: u8, content: u8) {
        let now = self.world.now;
        for side in Side::ALL {
            self.at(side, repository, |registry, path| {
                registry.push(now, path, &name_of(tag), World::content(content));
            });
        }
    }

    fn workload(&mut self, slot: u8, side: Side, repository: u8, tag: u8, named: Named) {
        let Some(policy) = self.policy() else { return };
        let name = NAMES[usize::from(repository) % NAMES.len()];
        let path = policy.path(side, name).into_owned();
        let host = &policy.sides[side].registry;
        let tag = name_of(tag);
        let digest = || -> Digest {
            let held = self.world.registry(host).holds(&path, &tag);
            held.unwrap_or_else(|| World::content(99))
        };
        let image = match named {
            Named::Tag => format!("{host}/{path}:{tag}"),
            Named::Digest => format!("{host}/{path}@{}", digest()),
            Named::Both => format!("{host}/{path}:{tag}@{}", digest()),
        };
        let workload = Workload {
            runs: image.clone(),
            image,
            started: false,
            template: slot.is_multiple_of(2),
            since: self.world.now,
        };
        self.world.workloads.insert(slot % 6, workload);
    }

    /// Where a replica's webhook sends an image.
    pub fn routed(&mut self, replica: usize, image: &str) -> String {
        let Some(table) = self.world.table(replica) else {
            return image.to_owned();
        };
        let pod = table.pod(&catamaran_core::pod::PodFacts {
            namespace: "shop",
            ..catamaran_core::pod::PodFacts::default()
        });
        match pod.image(image, false) {
            ImageRoute::Rewritten { image, .. } => image,
            _ => image.to_owned(),
        }
    }

    /// Whether a kubelet gets an image now.
    pub fn pullable(&self, image: &str) -> bool {
        let Ok(reference) = Reference::parse(image) else {
            return false;
        };
        let Some(name) = reference.digest().or(reference.effective_tag()) else {
            return false;
        };
        let registry = self.world.registry(reference.registry());
        let held = registry.holds(reference.repository(), name);
        registry.serves(self.world.now, reference.repository())
            && held.is_some_and(|digest| {
                let flaw = registry.flaw_of(reference.repository(), &digest, Depth::Content);
                flaw.is_none()
            })
    }

    /// The content of what a side holds under a tag becomes flawed, or is put right.
    fn spoil(&mut self, side: Side, repository: u8, tag: u8, flaw: Option<Flaw>) {
        self.at(side, repository, |registry, path| {
            let Some(digest) = registry.holds(path, &name_of(tag)) else {
                return;
            };
            match flaw {
                Some(flaw) => registry.spoil(path, digest, flaw),
                None => {
                    registry.flawed.remove(&(path.to_owned(), digest));
                }
            }
        });
    }

    fn pull(&mut self, slot: u8, replica: u8) {
        let replica = self.replica(replica);
        let slot = slot % 6;
        let Some(workload) = self.world.workloads.get(&slot).cloned() else {
            return;
        };
        let runs = self.routed(replica, &workload.image);
        let started = self.pullable(&runs);
        if let Some(workload) = self.world.workloads.get_mut(&slot) {
            if started && !workload.started {
                workload.since = self.world.now;
            }
            workload.started |= started;
            workload.runs = runs;
        }
    }

    fn asks(&mut self, slot: u8, urgent: bool) {
        let Some(workload) = self.world.workloads.get(&(slot % 6)) else {
            return;
        };
        let Some(replica) = self.world.lease.filter(|replica| !self.world.replicas[*replica].paused) else {
            return;
        };
        let Some(policy) = self.world.replicas[replica].policy() else {
            return;
        };
        let Ok(reference) = Reference::parse(&workload.image) else {
            return;
        };
        let Some(located) = policy.locate(&reference) else {
            return;
        };
        let Some(name) = reference.digest().or(reference.effective_tag()) else {
            return;
        };
        let references = vec![ReferenceName {
            repository: located.repository.to_string(),
            reference: name.to_owned(),
        }];
        self.world.feed(replica, Event::Wanted { references, urgent });
    }

    fn restore(&mut self, versions: Option<u8>) {
        let history = &self.world.history;
        let status = match versions {
            None => Status::default(),
            Some(versions) => {
                let index = history.len().saturating_sub(1 + usize::from(versions));
                history
                    .get(index)
                    .map(|object| object.status.clone())
                    .unwrap_or_default()
            }
        };
        self.world.checks.restored(status.standing.as_ref());
        self.world.apart = None;
        self.world.put(|object| object.status = status);
    }

    fn edit(&mut self, edit: Edit) {
        self.draft.edit(edit);
        self.note_mappings(self.world.object.generation + 1);
        let policy = self.draft.policy(&self.setup).map(std::sync::Arc::new);
        self.world.put(|object| {
            object.policy = policy;
            object.generation += 1;
        });
    }

    /// Keeps which mappings a generation has; one that makes no sense leaves those of before in force.
    fn note_mappings(&mut self, generation: i64) {
        let policy = self.draft.policy(&self.setup);
        let edits = &mut self.world.checks.edits;
        let before = edits.last().map(|(.., mappings)| mappings.clone());
        let mappings = policy.map(|policy| policy.mappings()).or(before).unwrap_or_default();
        edits.push((generation, self.world.now, mappings));
    }

    /// All faults end, and the spec makes sense: the world settles, and then nothing is written any more.
    fn settle(&mut self) {
        for registry in 0..3 {
            self.weather(registry, Sky::Up);
            self.world.registries[usize::from(registry)].broken.clear();
            self.world.registries[usize::from(registry)].flawed.clear();
        }
        let world = &mut self.world;
        for node in &mut world.kubelets.nodes {
            node.changes.clear();
        }
        world.networks.repair(world.now);
        world.faults.clear();
        world.held.clear();
        world.refuse_status = 0;
        world.refuse_evidence = 0;
        if self.draft.policy(&self.setup).is_none() || self.draft.suspended {
            self.draft = Draft {
                pin: self.draft.pin,
                repair: self.draft.repair,
                strict: self.draft.strict,
                ..Draft::new(&self.setup)
            };
            self.edit(Edit::Suspend(false));
        }
        self.disturb(Step::Notice);
        let now = self.world.now;
        self.world.run(now + MINUTE / 2);
        self.disturb(Step::Notice);
        // What is remembered for an hour, and what is waited for for hours, is over.
        self.world.leap(14 * HOUR);
        let now = self.world.now;
        self.world.run(now + CONVERGES);
    }

    /// Plays all of it, and what must follow when all faults are over.
    pub fn finish(&mut self) {
        self.settle();
        if self.world.checks.holds() {
            self.check_silence();
        }
        if self.world.checks.holds() {
            self.check_convergence();
        }
    }

    fn check_silence(&mut self) {
        let before = (self.world.writes, self.world.stores, self.world.announcements);
        let leader = self.world.lease;
        let reads = leader.map_or(0, |replica| self.world.replicas[replica].in_use_reads.len());
        let now = self.world.now;
        self.world.run(now + SILENCE);
        let after = (self.world.writes, self.world.stores, self.world.announcements);
        if before != after {
            let message = format!("writes, stores and Events were {before:?} and are {after:?}");
            self.world.fail("I6", message);
        }
        let Some(leader) = leader else { return };
        let reads = self.world.replicas[leader].in_use_reads.len() - reads;
        let blocked = self
            .world
            .object
            .status
            .standing
            .as_ref()
            .is_some_and(|one| one.active == Side::Fallback);
        let interval = Ms::from(self.setup.interval.max(10)) * SECOND;
        let mut most = SILENCE / interval + 2;
        if blocked {
            // A failback that is held up is checked once a minute.
            most += SILENCE / MINUTE + 2;
        }
        if Ms::try_from(reads).unwrap_or(Ms::MAX) > most {
            let message = format!("what is in use was read {reads} times in {} min", SILENCE / MINUTE);
            self.world.fail("I6", message);
        }
    }

    /// The world is at rest: each webhook sends each image where it is best.
    fn check_convergence(&mut self) {
        let Some(policy) = self.world.object.policy.clone() else {
            return;
        };
        let standing = self.world.object.status.standing.clone().unwrap_or_default();
        let active = standing.active;
        if let ActiveSide::Fixed(side) = policy.failover.active
            && side != active
        {
            return self
                .world
                .fail("I6", format!("{side} is asked for, and {active} is active"));
        }
        if active == Side::Fallback && policy.failover.active == ActiveSide::Auto && !self.draft.manual {
            let in_use = self.world.workloads.values().map(|workload| workload.image.clone());
            let held_up = in_use.filter(|image| self.holds_up(&policy, image)).count();
            if held_up == 0 && !self.has_lost_its_canary(&policy) {
                return self.world.fail("I6", "nothing holds the failback up".to_owned());
            }
        }
        if let Some(leader) = self.world.lease
            && let Some((_, Subject::Watched(seen))) =
                self.world.replicas[leader].mirror.view().and_then(|view| view.in_force)
            && seen.summary.broken + seen.summary.untrusted > 0
        {
            let message = format!(
                "{} tags are called broken and {} untrusted, and nothing is wrong with them",
                seen.summary.broken, seen.summary.untrusted
            );
            return self.world.fail("I6", message);
        }
        let images: Vec<String> = self.world.workloads.values().map(|one| one.image.clone()).collect();
        for replica in 0..self.world.replicas.len() {
            for image in &images {
                let sent = self.routed(replica, image);
                if self.pullable(image) && !self.pullable(&sent) {
                    let message = format!("replica {replica} sends {image} to {sent}, where it is not");
                    return self.world.fail("I6", message);
                }
            }
        }
    }

    /// Whether the primary lacks what it is probed with: it may have lost its images.
    fn has_lost_its_canary(&self, policy: &MirrorPolicy) -> bool {
        self.world.object.status.canary.as_ref().is_some_and(|canary| {
            let path = policy.path(Side::Primary, &canary.repository);
            let registry = self.world.registry(&policy.sides.primary.registry);
            registry.holds(&path, &canary.tag).is_none()
        })
    }

    /// Whether a failback has to wait for an image.
    fn holds_up(&self, policy: &MirrorPolicy, image: &str) -> bool {
        let Ok(reference) = Reference::parse(image) else {
            return false;
        };
        let Some(located) = policy.locate(&reference) else {
            return false;
        };
        let Some(name) = reference.digest().or(reference.effective_tag()) else {
            return false;
        };
        let held = |side: Side| {
            let path = policy.path(side, &located.repository);
            self.world.registry(&policy.sides[side].registry).holds(&path, name)
        };
        match (held(Side::Primary), held(Side::Fallback)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (primary, fallback) => primary != fallback && !self.draft.proceeds,
        }
    }
}

/// What all replicas handle in one history at most.
const MOST_HANDLED: u64 = 400_000;

/// How long the world takes to settle.
const CONVERGES: Ms = 7 * MINUTE;

/// How long nothing may be written then.
const SILENCE: Ms = 3 * MINUTE;

fn name_of(tag: u8) -> String {
    format!("t{}", tag % 8)
}

/// Plays a history; what it breaks, if anything.
pub fn play(setup: Setup, steps: &[Step]) -> Option<Violation> {
    let mut play = Play::new(setup);
    for step in steps {
        play.step(*step);
        if !play.world.checks.holds() {
            break;
        }
    }
    if play.world.checks.holds() {
        play.finish();
    }
    HANDLED.set(HANDLED.get() + play.world.handled);
    play.world.checks.violation().cloned()
}

thread_local! {
    /// Events that were handled, over all histories of this thread.
    pub static HANDLED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
