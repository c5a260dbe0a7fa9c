//! What mirrors of the same two registries cost a leader, as their number grows: `cargo bench -p catamaran-core --bench mirrors`.
//!
//! All mirrors and both endpoints run on one thread, by a clock of their own. Printed are the probes of a minute, the processor's time of
//! a quiet second and the memory for each mirror, and what an outage takes until the last of them has decided to flip. It fails where
//! more mirrors ask more of the registries, and where a mirror costs more than its bars.

#[path = "support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use catamaran_core::endpoint::{Ended, Endpoint, Input, Layer, Outcome, Output, Probe, Send, Unavailable, Watcher};
use catamaran_core::mirror::failover::Standing;
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::{Effect, Event, Listed, ListedTag, Listing, Mirror, Probed, StatusRead, Subject};
use catamaran_core::policy::{MirrorId, MirrorPolicy, Repositories, RepositoryRule};
use catamaran_core::routing::evidence::Evidence;
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagFilter;
use jiff::Timestamp;
use support::{at, busy, by_size, content, policy};

const MIRRORS: [u32; 4] = [1, 10, 100, 1_000];

/// How long a probe takes.
const LATENCY: Duration = Duration::from_millis(200);

/// What all mirrors together may be asked for in a minute of each registry.
const MOST_PROBES: usize = 30;
/// A mirror's part of a processor while all is well.
const IDLE_BAR: Duration = Duration::from_micros(100);
/// A mirror's memory, in bytes.
const MEMORY_BAR: f64 = 20_000.0;
/// From the first decision to flip to the last, the processor's time for all of them included.
const FLIP_BAR: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let heading = || {
        println!("mirrors of the same two registries");
        println!(
            "{:>8}  {:>14} {:>16} {:>12} {:>16} {:>14}",
            "mirrors", "probes/min", "idle us/s each", "kB each", "all flipped, ms", "cpu of it, ms"
        );
    };
    by_size(MIRRORS, heading, measure)
}

fn measure(count: u32) -> ExitCode {
    let before = resident();
    let mut world = World::new(count);
    world.run(Duration::from_secs(20));
    let memory = (resident() - before) / f64::from(count);
    let (began, probes) = (busy(), world.probes);
    world.run(Duration::from_mins(2));
    let idle = busy().saturating_sub(began) / 120 / count;
    let probes = (world.probes - probes) / 2 / 2;
    world.down = true;
    let began = busy();
    world.run(Duration::from_secs(15));
    let outage = busy().saturating_sub(began);
    let (Some(first), Some(last)) = (world.flips.first(), world.flips.last()) else {
        println!("{count:>8}  nothing flipped");
        return ExitCode::FAILURE;
    };
    let took = last.duration_since(*first).unsigned_abs() + outage;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{count:>8}  {probes:>14} {:>16.1} {:>12.1} {:>16.1} {:>14.1}",
        millis(idle) * 1e3,
        memory / 1e3,
        millis(took),
        millis(outage)
    );
    let all = world.flips.len() == usize::try_from(count).unwrap_or_default();
    // What the process and the endpoints take is more than that of few mirrors.
    let small = count < 1_000 || memory <= MEMORY_BAR;
    let quick = took <= FLIP_BAR && idle <= IDLE_BAR;
    if all && small && quick && probes <= MOST_PROBES {
        ExitCode::SUCCESS
    } else {
        println!("{count:>8}  above a bar, {} of them flipped", world.flips.len());
        ExitCode::FAILURE
    }
}

/// Bytes of memory that this process has.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.expect("a number of pages") * 4096.0
}

/// All mirrors, the endpoints that they share, and what both wait for.
struct World {
    mirrors: Vec<Mirror>,
    policies: Vec<Arc<MirrorPolicy>>,
    statuses: Vec<StatusRead>,
    generations: Vec<Sides<i64>>,
    endpoints: Sides<Endpoint>,
    under_way: VecDeque<(Timestamp, Side, Timestamp, Send)>,
    now: Timestamp,
    down: bool,
    probes: usize,
    flips: Vec<Timestamp>,
}

impl World {
    fn new(count: u32) -> World {
        let policies: Vec<_> = (0..count).map(|number| Arc::new(mirror_of(number))).collect();
        let mut world = World {
            mirrors: policies.iter().map(|policy| Mirror::new(policy.id.clone())).collect(),
            statuses: policies.iter().map(|_| StatusRead::default()).collect(),
            generations: policies.iter().map(|_| Sides::default()).collect(),
            policies,
            endpoints: Sides::from_fn(|_| Endpoint::new(Duration::from_secs(2), false)),
            under_way: VecDeque::new(),
            now: at(0),
            down: false,
            probes: 0,
            flips: Vec::new(),
        };
        for index in 0..world.mirrors.len() {
            let policy = Arc::clone(&world.policies[index]);
            world.feed(index, Event::Spec { policy, generation: 1 });
            world.feed(index, Event::Status(Box::default()));
            world.feed(index, Event::Prior(Evidence::default()));
            world.feed(index, Event::Leading(true));
        }
        world
    }

    /// Lets so much time pass.
    fn run(&mut self, length: Duration) {
        let end = self.now.checked_add(length).expect("a time of this century");
        while self.now < end {
            let probe = self.under_way.front().map(|(end, ..)| *end);
            let endpoints = Side::ALL
                .into_iter()
                .filter_map(|side| self.endpoints[side].wake_at(self.now));
            let mirrors = self.mirrors.iter().filter_map(|mirror| mirror.wake_at(self.now));
            // A millisecond is as fine as it gets.
            let least = self
                .now
                .checked_add(Duration::from_millis(1))
                .expect("a time of this century");
            let next = probe.into_iter().chain(endpoints).chain(mirrors).min().unwrap_or(end);
            self.now = next.max(least).min(end);
            while self.under_way.front().is_some_and(|(end, ..)| *end <= self.now) {
                self.probe_ended();
            }
            for side in Side::ALL {
                if self.endpoints[side]
                    .wake_at(self.now)
                    .is_some_and(|wake| wake <= self.now)
                {
                    self.feed_endpoint(side, Input::Time);
                }
            }
            for index in 0..self.mirrors.len() {
                if self.mirrors[index]
                    .wake_at(self.now)
                    .is_some_and(|wake| wake <= self.now)
                {
                    self.feed(index, Event::Time);
                }
            }
        }
    }

    fn probe_ended(&mut self) {
        let Some((end, side, begun, send)) = self.under_way.pop_front() else {
            return;
        };
        let (outcome, layer) = if self.down && side == Side::Primary {
            (Outcome::Unavailable(Unavailable::ConnectionFailed), Layer::Host)
        } else {
            (Outcome::Reachable, Layer::Manifest)
        };
        let probe = Probe {
            begun,
            at: end,
            outcome,
            message: "HEAD https://kracr.azurecr.io/v2/app/manifests/1: connection refused"
                .to_owned()
                .into(),
        };
        let ended = Ended {
            number: send.number,
            probe,
            layer,
            client: Ok(()),
        };
        self.feed_endpoint(side, Input::Ended(Box::new(ended)));
    }

    fn feed_endpoint(&mut self, side: Side, input: Input) {
        for output in self.endpoints[side].handle(input, self.now) {
            match output {
                Output::Probe(send) => {
                    self.probes += 1;
                    let end = self.now.checked_add(LATENCY).expect("a time of this century");
                    self.under_way.push_back((end, side, self.now, send));
                }
                Output::Reading(watchers, reading) => {
                    for watcher in watchers {
                        let index = index_of(&watcher);
                        let generation = self.generations[index][watcher.side];
                        let reading = Arc::clone(&reading);
                        let probed = Probed {
                            side: watcher.side,
                            generation,
                            reading,
                        };
                        self.feed(index, Event::Probed(Box::new(probed)));
                    }
                }
                Output::Suspected(watchers) => {
                    for watcher in watchers {
                        self.feed(index_of(&watcher), Event::Suspected(watcher.side));
                    }
                }
                Output::Vantages(..) => {}
            }
        }
    }

    fn feed(&mut self, index: usize, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.mirrors[index].handle(event, self.now) {
                self.carry_out(index, effect, &mut events);
            }
        }
    }

    fn carry_out(&mut self, index: usize, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Watch { side, watch } => {
                let watcher = Watcher {
                    mirror: Arc::clone(&self.policies[index].id.uid),
                    side,
                };
                if let Some(watch) = watch {
                    self.generations[index][side] = watch.generation;
                    self.feed_endpoint(side, Input::Watched(watcher, watch));
                }
            }
            Effect::ProbeNow { side, after } => self.feed_endpoint(side, Input::Wanted(after)),
            Effect::ReadInUse { request, .. } => {
                let in_use = Arc::<InUse>::default();
                events.push_back(Event::InUse { request, in_use });
            }
            Effect::List { pass, repository } => events.push_back(Event::Listed(Box::new(listed(pass, repository)))),
            Effect::WriteStatus(request) => {
                self.write(index);
                events.push_back(Event::Status(Box::new(self.statuses[index].clone())));
                let result = Ok(());
                events.push_back(Event::StatusWritten { request, result });
            }
            Effect::WriteEvidence(_) => events.push_back(Event::EvidenceStored(Ok(()))),
            _ => {}
        }
    }

    fn write(&mut self, index: usize) {
        let view = self.mirrors[index].view();
        let Some((_, Subject::Watched(seen))) = view.and_then(|view| view.in_force) else {
            return;
        };
        let decision = &seen.decision;
        if decision.flip.as_ref().is_some_and(|flip| flip.to == Side::Fallback) {
            self.flips.push(self.now);
        }
        self.statuses[index] = StatusRead {
            standing: Some(Standing {
                active: decision.active,
                registry: Some(seen.policy.sides[decision.active].name()),
                epoch: decision.epoch,
                last_flip: decision.flip.clone(),
                failovers: decision.failovers.clone(),
            }),
            observed: seen.observed.clone(),
            canary: seen.canary.clone(),
            rescued: 0,
            proof: None,
            reconciled: None,
        };
    }
}

fn index_of(watcher: &Watcher) -> usize {
    watcher.mirror.parse().expect("the UIDs are numbers")
}

fn mirror_of(number: u32) -> MirrorPolicy {
    let mut policy = policy();
    policy.id = MirrorId {
        name: format!("team-{number}").into(),
        uid: number.to_string().into(),
    };
    let name = format!("team-{number}/app");
    policy.repositories = Repositories::Listed(vec![RepositoryRule {
        paths: Sides {
            primary: name.clone(),
            fallback: format!("devopskev/{name}"),
        },
        name,
        tags: TagFilter::default(),
    }]);
    policy
}

fn listed(pass: u64, repository: String) -> Listed {
    let tag = |number: u32| ListedTag {
        name: format!("v{number}"),
        sides: Sides::from_fn(|_| Listing::Named(Some(content(number, 0)))),
    };
    Listed {
        pass,
        repository,
        after: None,
        failures: Sides::default(),
        unlisted: Sides::default(),
        tags: (0..3).map(tag).collect(),
        last: true,
    }
}
