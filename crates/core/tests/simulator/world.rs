//! A cluster with its API server, its registries and its operator's replicas, each of which runs the loop that runs in
//! production: events go into a [`Mirror`] and its endpoints, and what comes out is carried out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use catamaran_core::digest::Digest;
use catamaran_core::endpoint::{Outcome, Report};
use catamaran_core::mirror::failover::{FlipReason, Standing};
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::{Effect, Event, Mirror, StatusRead, latest};
use catamaran_core::policy::{MirrorId, MirrorPolicy};
use catamaran_core::routing::RouteTable;
use catamaran_core::routing::evidence::{Group, GroupPlace};
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;

use crate::api::{Object, Status, Stored, ValidPolicy};
use crate::check::{Checks, Violation};
use crate::clock::{HOUR, MINUTE, Ms, SECOND, at};
use crate::endpoints::{Endpoints, Fate, INTERVAL, Key};
use crate::facts::{Facts, Told};
use crate::jobs::{Answer, Job};
use crate::kubelets::Kubelets;
use crate::networks::Networks;
use crate::reading::Pieces;
use crate::registry::Registry;

/// How long it takes until a watch shows a change.
const WATCH: Ms = 30;

/// Before an object is read that the watch has shown out of order.
const SETTLE: Ms = 2 * SECOND;

/// What a mirror wakes up for at one instant at most, before it is taken to run in circles.
const MOST_WAKES: u32 = 200;

/// What happens at some instant.
#[derive(Clone, Debug)]
pub enum Item {
    /// The watch shows an object.
    Shown(usize, Arc<Object>),
    /// A replica reads the object itself, because the watch seemed to go back.
    ReadAgain(usize),
    /// The watch shows the evidence.
    ShownEvidence(usize),
    /// The watch shows what is stored apart from the status.
    ShownApart(usize),
    /// What a status says is no longer stored apart.
    DropApart,
    /// A job comes to what it finds out. It was begun in this life and this term of its replica.
    Found(usize, (u32, u32), Box<Job>),
    /// The answer of a job arrives.
    Arrives(usize, u32, Box<Answer>),
    /// A replica hears what another one sees of a registry, and when it saw that.
    Heard(usize, u32, Key, Box<(usize, Report, Ms)>),
    /// A replica tries again to store evidence.
    Store(usize, u32),
    /// A replica that was paused goes on.
    Resume(usize),
    /// Nobody leads, so somebody else may.
    Elect,
    /// A pod is created.
    Create,
    /// A kubelet pulls what a pod waits for.
    Pull(u64),
}

/// What uses an image.
#[derive(Clone, Debug)]
pub struct Workload {
    pub image: String,
    /// Where its pod runs from; as its owner wrote it before a webhook has seen it.
    pub runs: String,
    pub started: bool,
    pub template: bool,
    pub since: Ms,
}

/// A fault that the next answer of its kind meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Probe,
    Resolve,
    List,
    InUse,
    Copy,
    Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never comes.
    Lost,
    /// It comes twice.
    Twice,
    /// It comes so much later.
    Late(u32),
}

/// One replica of the operator.
pub struct Replica {
    pub mirror: Mirror,
    pub endpoints: Endpoints,
    /// Counts its restarts: what an earlier process asked for reaches nobody.
    pub life: u32,
    pub leading: bool,
    /// Counts how often it began to lead.
    pub term: u32,
    pub paused: bool,
    pub backlog: Vec<Item>,
    wake: Option<Ms>,
    wakes: (Ms, u32),
    /// The object as it knows it, and the last spec that made sense.
    pub object: Option<Arc<Object>>,
    pub valid: Option<ValidPolicy>,
    /// The flip that is stored apart, as it has heard of it.
    pub apart: Option<Standing>,
    pub pieces: (u64, BTreeMap<String, Pieces>),
    /// The stored evidence as its watch has it.
    pub seen: Stored,
    /// The evidence of a leader, for its own webhook and on its way out.
    pub local: Option<BTreeMap<GroupPlace, Arc<Group>>>,
    pub unstored: BTreeMap<GroupPlace, Arc<Group>>,
    pub storing: bool,
    pub store_failures: u32,
    /// The facts behind the evidence of its own webhook.
    pub local_facts: Arc<Facts>,
    /// What it was told since it leads, and what stands in for the rest.
    pub facts: Facts,
    pub prior_facts: Arc<Facts>,
    pub table: Option<Arc<RouteTable>>,
    pub probes: Vec<ProbeSeen>,
    /// When it saw the sides change places or registries: what was under way then is about another side.
    pub sides_changed: Sides<Ms>,
    /// Reads of what is in use: when each was begun.
    pub in_use_reads: Vec<Ms>,
    pub in_use: Option<Arc<InUse>>,
    /// The latest reading of what is in use, and for which spec.
    pub shared_in_use: Option<(Ms, Arc<MirrorPolicy>, Arc<InUse>)>,
    /// When each side was probed last, and when there was last a reason not to.
    pub probed: Sides<Ms>,
    pub watched: Ms,
    /// When its process began, or went on after a pause.
    pub woken: Ms,
    /// By how much its clock is ahead, and when it was set.
    pub clock: Ms,
    pub clocks_set: Ms,
    /// What it has seen to be active in each epoch.
    pub epochs: BTreeMap<u64, (Side, String)>,
}

/// A probe as a replica was told of it.
#[derive(Clone, Debug)]
pub struct ProbeSeen {
    /// The registry with its prefix: the two sides may lie on one host.
    pub name: String,
    /// When it began and ended by the clock of the replica's machine.
    pub begun: Ms,
    pub by_clock: Ms,
    /// When the replica was told.
    pub told: Ms,
    pub outcome: Outcome,
}

/// A flip that the API server has taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flipped {
    pub at: Ms,
    pub to: Side,
    pub reason: FlipReason,
}

/// Everything.
pub struct World {
    pub now: Ms,
    queue: BinaryHeap<Reverse<(Ms, u64, Slot)>>,
    sequence: u64,
    pub id: MirrorId,
    pub registries: Vec<Registry>,
    pub replicas: Vec<Replica>,
    /// Who may write.
    pub lease: Option<usize>,
    pub object: Arc<Object>,
    /// A flip that is stored apart from the status, and whether the next one will be.
    pub apart: Option<Standing>,
    pub stores_apart: bool,
    /// Objects as they were.
    pub history: Vec<Arc<Object>>,
    pub stored: Stored,
    pub workloads: BTreeMap<u8, Workload>,
    pub kubelets: Kubelets,
    pub networks: Networks,
    pub faults: BTreeMap<Kind, Fault>,
    /// Until when the watch of a replica shows nothing.
    pub held: BTreeMap<usize, Ms>,
    pub refuse_status: u32,
    pub refuse_evidence: u32,
    pub flips: Vec<Flipped>,
    /// Stretches of probes that would all have succeeded, and were left out.
    pub skipped: Ms,
    pub told: Told,
    pub checks: Checks,
    /// Status writes that changed something, stores of evidence, and Events.
    pub writes: u64,
    pub stores: u64,
    pub announcements: u64,
    pub handled: u64,
    /// Whether every event and what follows from it is printed, to find out why a history breaks something.
    pub log: bool,
    /// What probes meet, where a test says so itself.
    pub fate: Option<Fate>,
    /// What all replicas may handle.
    pub most_handled: u64,
    /// When some replica begins and ceases to doubt a registry, by host: a probe was slow or failed there, and none has succeeded since.
    pub doubts: Vec<(Ms, String, bool)>,
}

/// Machines wake up after the instant that they asked for, not before.
pub fn not_before(time: Timestamp) -> Ms {
    let ms = crate::clock::ms(time);
    if at(ms) < time { ms + 1 } else { ms }
}

/// Items are told apart by their number alone.
#[derive(Clone, Debug)]
struct Slot(Item);

impl PartialEq for Slot {
    fn eq(&self, _: &Slot) -> bool {
        true
    }
}

impl Eq for Slot {}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Slot) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slot {
    fn cmp(&self, _: &Slot) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Replica {
    pub fn new(id: &MirrorId, life: u32) -> Replica {
        Replica {
            mirror: Mirror::new(id.clone()),
            endpoints: Endpoints::default(),
            life,
            leading: false,
            term: 0,
            paused: false,
            backlog: Vec::new(),
            wake: None,
            wakes: (0, 0),
            object: None,
            valid: None,
            apart: None,
            pieces: (0, BTreeMap::new()),
            seen: Stored::default(),
            local: None,
            unstored: BTreeMap::new(),
            storing: false,
            store_failures: 0,
            local_facts: Arc::default(),
            facts: Facts::default(),
            prior_facts: Arc::default(),
            table: None,
            probes: Vec::new(),
            sides_changed: Sides::default(),
            in_use_reads: Vec::new(),
            in_use: None,
            shared_in_use: None,
            probed: Sides::default(),
            watched: 0,
            woken: 0,
            clock: 0,
            clocks_set: 0,
            epochs: BTreeMap::new(),
        }
    }

    pub fn policy(&self) -> Option<&Arc<MirrorPolicy>> {
        self.valid.as_ref().map(|valid| &valid.policy)
    }

    /// What is known of these references, by itself or by an earlier leader, is not certain any more.
    pub fn blur(&mut self, gone: impl Fn(&str, &str) -> bool) {
        self.facts.blur(&gone);
        Arc::make_mut(&mut self.prior_facts).blur(gone);
    }
}

impl World {
    pub fn new(policy: MirrorPolicy, registries: Vec<Registry>, replicas: usize) -> World {
        let id = policy.id.clone();
        let object = Arc::new(Object {
            version: 1,
            generation: 1,
            policy: Some(Arc::new(policy)),
            status: Status::default(),
        });
        let mut world = World {
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            registries,
            replicas: (0..replicas).map(|_| Replica::new(&id, 0)).collect(),
            id,
            lease: None,
            object,
            apart: None,
            stores_apart: false,
            history: Vec::new(),
            stored: Stored::default(),
            workloads: BTreeMap::new(),
            kubelets: Kubelets::default(),
            networks: Networks::default(),
            faults: BTreeMap::new(),
            held: BTreeMap::new(),
            refuse_status: 0,
            refuse_evidence: 0,
            flips: Vec::new(),
            skipped: 0,
            told: Told::default(),
            checks: Checks::default(),
            writes: 0,
            stores: 0,
            announcements: 0,
            handled: 0,
            log: std::env::var_os("SIMULATOR_LOG").is_some(),
            fate: None,
            doubts: Vec::new(),
            most_handled: u64::MAX,
        };
        for replica in 0..replicas {
            world.show(replica, Arc::clone(&world.object));
        }
        world.lead(0);
        world
    }

    pub fn registry(&self, host: &str) -> &Registry {
        let found = self.registries.iter().find(|registry| registry.host == host);
        found.expect("every side of a spec is a registry of this world")
    }

    pub fn registry_mut(&mut self, host: &str) -> &mut Registry {
        let found = self.registries.iter_mut().find(|registry| registry.host == host);
        found.expect("every side of a spec is a registry of this world")
    }

    pub fn schedule(&mut self, time: Ms, item: Item) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence, Slot(item))));
    }

    pub fn fail(&mut self, invariant: &'static str, message: String) {
        self.checks.fail(Violation {
            invariant,
            message,
            at: self.now,
        });
    }

    /// Lets time pass until `end`, or until an invariant is broken.
    pub fn run(&mut self, end: Ms) {
        while self.checks.holds() {
            let item = self.queue.peek().map(|Reverse((time, ..))| *time);
            let wake = self.next_wake();
            let next = item.into_iter().chain(wake.as_ref().map(|wake| wake.0)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if item == Some(next) {
                if let Some(Reverse((.., Slot(item)))) = self.queue.pop() {
                    self.happen(item);
                }
            } else if let Some((_, replica, endpoint)) = wake {
                match endpoint {
                    Some(key) => self.wake_endpoint(replica, &key),
                    None => self.wake(replica),
                }
            }
        }
        self.now = self.now.max(end);
    }

    /// Lets time pass in which nothing happens, as if every machine had slept.
    pub fn leap(&mut self, length: Ms) {
        let items = std::mem::take(&mut self.queue);
        self.now += length;
        for replica in &mut self.replicas {
            replica.watched = self.now;
        }
        let late = |Reverse((time, number, slot)): Reverse<(Ms, u64, Slot)>| Reverse((time + length, number, slot));
        self.queue = items.into_iter().map(late).collect();
        for registry in &mut self.registries {
            registry.changes.retain(|(from, _)| *from <= self.now);
        }
    }

    /// Leaves out a stretch of probes of both sides that would all succeed, while nothing but that has happened for a while: the
    /// next loss comes sooner, and the time until then counts as passed. Whole intervals are left out, so that every later probe
    /// meets the very fate that it would have met.
    pub fn skip_healthy_stretch(&mut self) {
        // An alarm is remembered for ten seconds.
        const CALM: usize = 14;
        const REMEMBERED: Ms = HOUR + 10 * MINUTE;
        let flipped = self.flips.last().map_or(Ms::MIN / 2, |flip| flip.at);
        let probes = &self.replicas[0].probes;
        let calm = probes.len() > CALM
            && probes
                .iter()
                .rev()
                .take(CALM)
                .all(|seen| seen.outcome == Outcome::Reachable);
        let active = self.object.status.standing.as_ref().map(|standing| standing.active);
        if !calm || self.now - flipped < REMEMBERED || active != Some(Side::Primary) {
            return;
        }
        let rounds = self.registries.iter().map(|registry| registry.until_loss).min();
        let rounds = rounds.unwrap_or_default() - 1;
        if rounds <= 0 || rounds > Ms::MAX / 2 {
            return;
        }
        self.skipped += rounds * INTERVAL;
        for registry in &mut self.registries {
            registry.until_loss -= rounds;
        }
        self.replicas[0].probes.clear();
    }

    /// When the first mirror or endpoint wakes up, of which replica, and which endpoint.
    fn next_wake(&self) -> Option<(Ms, usize, Option<Key>)> {
        let mut first: Option<(Ms, usize, Option<&Key>)> = None;
        for (index, replica) in self.replicas.iter().enumerate().filter(|(_, replica)| !replica.paused) {
            let mirror = replica.wake.map(|time| (time, index, None));
            let endpoint = replica
                .endpoints
                .next_wake()
                .map(|(time, key)| (time, index, Some(key)));
            first = first.into_iter().chain(mirror).chain(endpoint).min();
        }
        first.map(|(time, replica, endpoint)| (time, replica, endpoint.cloned()))
    }

    fn wake(&mut self, replica: usize) {
        let (time, times) = self.replicas[replica].wakes;
        let times = if time == self.now { times + 1 } else { 0 };
        self.replicas[replica].wakes = (self.now, times);
        if times > MOST_WAKES {
            self.fail(
                "wakes",
                format!("replica {replica} wakes up again and again for nothing"),
            );
        }
        self.feed(replica, Event::Time);
    }

    pub fn happen(&mut self, item: Item) {
        let replica = match &item {
            Item::Shown(replica, _)
            | Item::ReadAgain(replica)
            | Item::ShownEvidence(replica)
            | Item::ShownApart(replica)
            | Item::Arrives(replica, ..)
            | Item::Heard(replica, ..)
            | Item::Store(replica, _) => Some(*replica),
            Item::Found(..) | Item::DropApart | Item::Resume(_) | Item::Elect | Item::Create | Item::Pull(_) => None,
        };
        if let Some(replica) = replica.filter(|replica| self.replicas[*replica].paused) {
            self.replicas[replica].backlog.push(item);
            return;
        }
        match item {
            Item::Shown(replica, object) => self.shown(replica, &object),
            Item::ReadAgain(replica) => self.adopt(replica, &Arc::clone(&self.object)),
            Item::ShownEvidence(replica) => self.shown_evidence(replica),
            Item::ShownApart(replica) => self.shown_apart(replica),
            Item::DropApart => self.drop_apart(),
            Item::Found(replica, begun, job) => self.found(replica, begun, *job),
            Item::Arrives(replica, life, answer) => {
                if self.replicas[replica].life == life {
                    self.arrives(replica, *answer);
                }
            }
            Item::Heard(replica, life, key, said) => {
                if self.replicas[replica].life == life {
                    let (from, report, seen) = *said;
                    self.hear(replica, &key, from, (report, seen));
                }
            }
            Item::Store(replica, life) => {
                if self.replicas[replica].life == life {
                    self.store(replica);
                }
            }
            Item::Resume(replica) => self.resume(replica),
            Item::Elect => self.elect(),
            Item::Create => self.create_pod(),
            Item::Pull(pod) => self.pull_image(pod),
        }
    }

    /// Hands an event to a replica's mirror, and carries out what it wants.
    pub fn feed(&mut self, replica: usize, event: Event) {
        self.handled += 1;
        if self.handled > self.most_handled {
            self.fail("busy", format!("replicas have handled {} events", self.handled));
        }
        let clock = self.replicas[replica].clock;
        let now = at(self.now + clock);
        if self.log {
            println!("{} -> {replica}: {event:?}", self.now);
        }
        let effects = self.replicas[replica].mirror.handle(event, now);
        if self.log {
            println!("        {effects:?}");
        }
        let wake = self.replicas[replica].mirror.wake_at(now);
        self.replicas[replica].wake = wake.map(|time| (not_before(time) - clock).max(self.now));
        for effect in effects {
            self.carry_out(replica, effect);
        }
        self.drop_idle_endpoints(replica);
    }

    fn carry_out(&mut self, replica: usize, effect: Effect) {
        match effect {
            Effect::Measure => self.pass_ended(replica),
            Effect::Announce(_) => self.announcements += 1,
            Effect::WriteEvidence(places) => self.publish_evidence(replica, &places),
            Effect::Watch { side, watch } => self.watch(replica, side, watch),
            Effect::ProbeNow { side, after } => self.probe_now(replica, side, after),
            effect => self.begin(replica, effect),
        }
    }

    /// The watch shows a replica an object.
    fn shown(&mut self, replica: usize, object: &Arc<Object>) {
        let known = self.replicas[replica].object.as_ref().map(|object| object.version);
        if known.is_some_and(|known| object.version < known) {
            let time = self.now + SETTLE;
            return self.schedule(time, Item::ReadAgain(replica));
        }
        if let Some(policy) = &object.policy {
            let one = &mut self.replicas[replica];
            one.facts.keep(policy);
            if let Some(before) = &one.valid {
                let is = |was: Side, is: Side| before.policy.sides[was].name() == policy.sides[is].name();
                let swapped = is(Side::Primary, Side::Fallback) && is(Side::Fallback, Side::Primary);
                for side in Side::ALL.into_iter().filter(|side| swapped || !is(*side, *side)) {
                    one.sides_changed[side] = self.now;
                }
            }
            self.replicas[replica].valid = Some(ValidPolicy {
                policy: Arc::clone(policy),
                generation: object.generation,
            });
        }
        if let Some(ValidPolicy { policy, generation }) = self.replicas[replica].valid.clone() {
            self.feed(replica, Event::Spec { policy, generation });
        }
        if object.policy.is_none() {
            let problem = "spec.primary: the same as spec.fallback".to_owned();
            let generation = object.generation;
            self.feed(replica, Event::InvalidSpec { generation, problem });
        }
        self.adopt(replica, object);
    }

    /// A replica takes over an object's status.
    pub fn adopt(&mut self, replica: usize, object: &Arc<Object>) {
        let one = &mut self.replicas[replica];
        one.object = Some(Arc::clone(object));
        one.table = None;
        let standing = latest(object.status.standing.clone(), one.apart.as_ref());
        if let Some(Standing {
            epoch,
            active,
            registry: Some(registry),
            ..
        }) = &standing
        {
            one.epochs.insert(*epoch, (*active, registry.clone()));
        }
        let read = StatusRead {
            standing,
            ..object.status.read()
        };
        self.feed(replica, Event::Status(Box::new(read)));
    }

    /// Has the watch of a replica show an object.
    pub fn show(&mut self, replica: usize, object: Arc<Object>) {
        let time = self.shown_at(replica);
        self.schedule(time, Item::Shown(replica, object));
    }

    /// When a watch of a replica shows what happens now.
    pub fn shown_at(&self, replica: usize) -> Ms {
        let held = self.held.get(&replica).copied().unwrap_or_default();
        (self.now + WATCH).max(held)
    }

    /// Puts another object in place of the one that is there.
    pub fn put(&mut self, change: impl FnOnce(&mut Object)) {
        let mut object = Object::clone(&self.object);
        change(&mut object);
        object.version = self.object.version + 1;
        self.history.push(Arc::clone(&self.object));
        self.object = Arc::new(object);
        for replica in 0..self.replicas.len() {
            self.show(replica, Arc::clone(&self.object));
        }
    }

    /// The digest of content that is told by a number.
    pub fn content(number: u8) -> Digest {
        Digest::of(&[number])
    }
}
