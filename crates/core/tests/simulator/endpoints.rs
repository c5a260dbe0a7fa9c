//! The endpoints of each replica: which mirror's sides watch them, what their probes find, and who is told.

use std::collections::BTreeMap;

use catamaran_core::endpoint::{
    ClientProblem, Ended, Endpoint, Input, Layer, Outcome, Output, Pace, Probe, Reading, Report, Send, Unavailable,
    Watch, Watcher,
};
use catamaran_core::mirror::{Event, Probed};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;

use crate::clock::{Ms, at, millis, ms};
use crate::facts::mapping;
use crate::jobs::{Answer, Job};
use crate::script::NAMES;
use crate::world::{Item, Kind, ProbeSeen, World, not_before};

/// How long it takes until another replica hears what one sees, and how often it hears of it at least.
const HEARD: Ms = 15;
const HEARTBEAT: Ms = 10_000;

/// A registry's host, and how long a probe of it may take.
pub type Key = (String, Ms);

/// What an endpoint wakes up for at one instant at most, before it is taken to run in circles.
const MOST_WAKES: u32 = 50;

/// The endpoints of one replica.
#[derive(Default)]
pub struct Endpoints {
    all: BTreeMap<Key, Place>,
    /// What each side of the mirror watches.
    watching: Sides<Option<(Key, Watch)>>,
    made: u64,
}

struct Place {
    endpoint: Endpoint,
    /// Tells it from an earlier one of the same registry.
    serial: u64,
    wake: Option<Ms>,
    wakes: (Ms, u32),
    throttled: bool,
    /// What other replicas were told last, and when.
    told: Option<(Report, Ms)>,
}

impl Place {
    /// Whether this replica has reason of its own to doubt the registry.
    fn doubts(&self) -> bool {
        let report = self.endpoint.report();
        report.is_some_and(|report| report.suspects || report.down)
    }
}

/// A probe under way.
#[derive(Clone, Debug)]
pub struct UnderWay {
    key: Key,
    serial: u64,
    send: Send,
    begun: Timestamp,
    end: Ms,
    outcome: Outcome,
    layer: Layer,
}

/// What a registry does with one probe where a test says so: replica, host, the probe and when it begins; when it ends and how.
pub type Fate = Box<dyn FnMut(usize, &str, &Send, Ms) -> Option<(Ms, Outcome, Layer)>>;

impl Endpoints {
    /// When the first endpoint wakes up, and which.
    pub fn next_wake(&self) -> Option<(Ms, &Key)> {
        let wakes = self.all.iter().filter_map(|(key, place)| Some((place.wake?, key)));
        wakes.min()
    }

    /// Whether the endpoint that a side watches was asked to wait.
    pub fn is_throttled(&self, side: Side) -> bool {
        let watched = self.watching[side].as_ref();
        watched.is_some_and(|(key, _)| self.all.get(key).is_some_and(|place| place.throttled))
    }

    /// The registry that a side watches.
    pub fn host(&self, side: Side) -> Option<&str> {
        self.watching[side].as_ref().map(|((host, _), _)| host.as_str())
    }

    /// The sides that watch an endpoint.
    fn watchers<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = Side> + 'a {
        let watches = move |side: &Side| self.watching[*side].as_ref().is_some_and(|(of, _)| of == key);
        Side::ALL.into_iter().filter(watches)
    }
}

impl World {
    /// A side is to be watched by this.
    pub fn watch(&mut self, replica: usize, side: Side, watch: Option<Watch>) {
        let Some(policy) = self.replicas[replica].policy().cloned() else {
            return;
        };
        let watcher = Watcher {
            mirror: self.id.uid.clone(),
            side,
        };
        let timeout = millis(policy.health.timeout);
        let watch = watch.map(|watch| ((policy.sides[side].registry.clone(), timeout), watch));
        let before = std::mem::replace(&mut self.replicas[replica].endpoints.watching[side], watch.clone());
        let moved = |key: &Key| watch.as_ref().is_none_or(|(is, _)| is != key);
        if let Some((left, _)) = before.filter(|(key, _)| moved(key)) {
            self.feed_endpoint(replica, &left, Input::Left(watcher.clone()));
        }
        if let Some((key, watch)) = watch {
            self.open(replica, &key);
            self.feed_endpoint(replica, &key, Input::Watched(watcher, watch));
        }
    }

    /// Makes an endpoint, unless there is one.
    fn open(&mut self, replica: usize, key: &Key) {
        let offset = self.registry(&key.0).offset;
        let endpoints = &mut self.replicas[replica].endpoints;
        if endpoints.all.contains_key(key) {
            return;
        }
        endpoints.made += 1;
        let timeout = u64::try_from(key.1).expect("a time limit is not negative");
        let place = Place {
            endpoint: Endpoint::new(std::time::Duration::from_millis(timeout), false),
            serial: endpoints.made,
            wake: None,
            wakes: (0, 0),
            throttled: false,
            told: None,
        };
        endpoints.all.insert(key.clone(), place);
        // Replicas are half an interval out of step; tests have one registry probed later than the other.
        let phase = (500 * replica as Ms + offset * 1_000 / INTERVAL).rem_euclid(1_000);
        let phase = u32::try_from(phase).expect("a part of a thousand");
        self.feed_endpoint(replica, key, Input::Pace(Pace { share: 1, phase }));
    }

    /// Drops endpoints that nobody watches.
    pub fn drop_idle_endpoints(&mut self, replica: usize) {
        let all = &mut self.replicas[replica].endpoints.all;
        all.retain(|_, place| !place.endpoint.is_idle());
    }

    /// A decision waits for the answer of a side.
    pub fn probe_now(&mut self, replica: usize, side: Side, after: Timestamp) {
        if let Some((key, _)) = self.replicas[replica].endpoints.watching[side].clone() {
            self.feed_endpoint(replica, &key, Input::Wanted(after));
        }
    }

    pub fn wake_endpoint(&mut self, replica: usize, key: &Key) {
        let now = self.now;
        let Some(place) = self.replicas[replica].endpoints.all.get_mut(key) else {
            return;
        };
        let times = if place.wakes.0 == now { place.wakes.1 + 1 } else { 0 };
        place.wakes = (now, times);
        if times > MOST_WAKES {
            let message = format!(
                "the endpoint of {} at replica {replica} wakes up again and again",
                key.0
            );
            self.fail("wakes", message);
        }
        self.feed_endpoint(replica, key, Input::Time);
    }

    /// A replica hears what another one sees of a registry, and how long ago that was.
    pub fn hear(&mut self, replica: usize, key: &Key, from: usize, report: (Report, Ms)) {
        let (mut report, seen) = report;
        report.at = at(seen + self.replicas[replica].clock);
        let input = Input::Report {
            replica: format!("replica-{from}").into(),
            node: format!("node-{from}").into(),
            report,
        };
        self.feed_endpoint(replica, key, input);
    }

    /// Tells other replicas what one sees, where that has changed or another one waits for it, and now and then anyway.
    fn tell_others(&mut self, replica: usize, key: &Key) {
        let (now, clock) = (self.now, self.replicas[replica].clock);
        let Some(place) = self.replicas[replica].endpoints.all.get_mut(key) else {
            return;
        };
        let answers = place.endpoint.take_answer();
        let Some(report) = place.endpoint.report() else { return };
        let told = place.told.as_ref();
        let known = told.is_some_and(|(told, at)| told.says_the_same(&report) && now - at < HEARTBEAT);
        if known && !answers {
            return;
        }
        place.told = Some((report.clone(), now));
        let seen = ms(report.at) - clock;
        for other in (0..self.replicas.len()).filter(|other| *other != replica) {
            let life = self.replicas[other].life;
            let item = Item::Heard(other, life, key.clone(), Box::new((replica, report.clone(), seen)));
            self.schedule(now + HEARD, item);
        }
    }

    /// Hands an input to an endpoint, and carries out what it wants.
    fn feed_endpoint(&mut self, replica: usize, key: &Key, input: Input) {
        self.handled += 1;
        let log = self.log;
        let clock = self.replicas[replica].clock;
        let now = at(self.now + clock);
        let Some(place) = self.replicas[replica].endpoints.all.get_mut(key) else {
            return;
        };
        if log {
            println!("{} -> {replica} {}: {input:?}", self.now, key.0);
        }
        let doubted = place.doubts();
        let outputs = place.endpoint.handle(input, now);
        let doubts = place.doubts();
        if log {
            println!("        {outputs:?}");
        }
        let wake = place.endpoint.wake_at(now);
        place.wake = wake.map(|time| (not_before(time) - clock).max(self.now));
        if doubts != doubted {
            self.doubts.push((self.now, key.0.clone(), doubts));
        }
        for output in outputs {
            match output {
                Output::Probe(send) => self.send_probe(replica, key, send),
                Output::Reading(watchers, reading) => self.tell(replica, key, &watchers, &reading),
                Output::Vantages(watchers, vantages) => {
                    for watcher in watchers {
                        self.feed(replica, Event::Vantages(watcher.side, std::sync::Arc::clone(&vantages)));
                    }
                }
                Output::Suspected(watchers) => {
                    for watcher in watchers {
                        self.feed(replica, Event::Suspected(watcher.side));
                    }
                }
            }
        }
        self.tell_others(replica, key);
    }

    fn send_probe(&mut self, replica: usize, key: &Key, send: Send) {
        let now = self.now;
        let one = &mut self.replicas[replica];
        let sides: Vec<Side> = one.endpoints.watchers(key).collect();
        for side in sides {
            one.probed[side] = now;
        }
        let begun = at(now + one.clock);
        let Some(place) = one.endpoints.all.get(key) else {
            return;
        };
        let serial = place.serial;
        let fate = self.fate.as_mut().and_then(|fate| fate(replica, &key.0, &send, now));
        let is_cut = self.networks.is_cut(replica, &key.0);
        let (end, outcome, layer) = fate.unwrap_or_else(|| {
            if is_cut {
                let end = now + self.registry(&key.0).latency;
                return (end, Outcome::Unavailable(Unavailable::ConnectionFailed), Layer::Host);
            }
            let (end, outcome) = self.registry_mut(&key.0).probe(now, key.1);
            (end, outcome, layer_of(outcome))
        });
        let under_way = UnderWay {
            key: key.clone(),
            serial,
            send,
            begun,
            end,
            outcome,
            layer,
        };
        let begun = (self.replicas[replica].life, self.replicas[replica].term);
        self.schedule(end, Item::Found(replica, begun, Box::new(Job::Probe(under_way))));
    }

    /// A probe ends: what it finds is on its way to the endpoint.
    pub fn probe_ended(&mut self, replica: usize, life: u32, under_way: UnderWay) {
        let UnderWay {
            key,
            serial,
            send,
            begun,
            end,
            outcome,
            layer,
        } = under_way;
        let registry = self.registry(&key.0);
        let mut met = (outcome, layer);
        if self.fate.is_none() && outcome == Outcome::Reachable {
            met = registry.meets(end, &send);
        }
        let (outcome, layer) = met;
        let no_client = outcome == Outcome::CredentialsUnavailable;
        let problem = ClientProblem {
            reason: "SecretNotFound",
            message: "the Secret does not exist".to_owned(),
        };
        let ended = Ended {
            number: send.number,
            probe: Probe {
                begun,
                at: at(end + self.replicas[replica].clock),
                outcome,
                message: format!("at {end} ms: {}", outcome.as_str()).into(),
            },
            layer,
            client: if no_client { Err(Some(problem)) } else { Ok(()) },
        };
        self.send(replica, life, Kind::Probe, Answer::Ended(key, serial, Box::new(ended)));
    }

    /// The end of a probe arrives at the endpoint that asked for it.
    pub fn probe_arrives(&mut self, replica: usize, key: &Key, serial: u64, ended: Ended) {
        let place = self.replicas[replica].endpoints.all.get_mut(key);
        let Some(place) = place.filter(|place| place.serial == serial) else {
            return;
        };
        place.throttled = matches!(ended.probe.outcome, Outcome::Throttled { .. });
        self.feed_endpoint(replica, key, Input::Ended(Box::new(ended)));
    }

    /// Hands a reading to the sides that it is for.
    fn tell(&mut self, replica: usize, key: &Key, watchers: &[Watcher], reading: &std::sync::Arc<Reading>) {
        for side in watchers.iter().map(|watcher| watcher.side) {
            let one = &mut self.replicas[replica];
            let Some((_, watch)) = one.endpoints.watching[side].clone().filter(|(is, _)| is == key) else {
                continue;
            };
            let Some(policy) = one.policy().cloned() else { continue };
            one.probes.push(ProbeSeen {
                name: policy.sides[side].name(),
                begun: ms(reading.probe.begun),
                by_clock: ms(reading.probe.at),
                told: self.now,
                outcome: reading.probe.outcome,
            });
            self.note_served(&policy, side, &watch, reading);
            let event = Event::Probed(Box::new(Probed {
                side,
                generation: watch.generation,
                reading: std::sync::Arc::clone(reading),
            }));
            self.feed(replica, event);
        }
    }

    /// Keeps what a side is known to have served.
    fn note_served(&mut self, policy: &MirrorPolicy, side: Side, watch: &Watch, reading: &Reading) {
        let served = reading.probe.outcome == Outcome::Reachable;
        let Some(target) = reading
            .target
            .as_ref()
            .filter(|target| served && watch.targets.contains(target))
        else {
            return;
        };
        let host = &policy.sides[side].registry;
        let digest = target.digest.clone();
        self.told.note((host, &target.path), &digest.to_string(), Some(digest));
        for name in NAMES.into_iter().filter(|name| *policy.path(side, name) == target.path) {
            self.told.served.insert((mapping(policy, name), host.clone()));
        }
    }
}

/// Between two probes while all is well, with the defaults.
pub const INTERVAL: Ms = 2_250;

/// What a failure comes from: 5xx is about what was asked for, anything else about the way to the registry.
pub fn layer_of(outcome: Outcome) -> Layer {
    match outcome {
        Outcome::Unavailable(Unavailable::ServerError) => Layer::Manifest,
        Outcome::Unavailable(_) => Layer::Host,
        _ => Layer::Manifest,
    }
}
