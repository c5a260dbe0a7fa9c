//! What a replica carries out for its mirror: each job finds something out at one instant, and its answer arrives at another,
//! never, or twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::endpoint::Ended;
use catamaran_core::mirror::failover::Standing;
use catamaran_core::mirror::repair::Errand;
use catamaran_core::mirror::{Effect, Event, Finding, Inspect, Inspected, RequestId, Resolve, WriteProblem};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::evidence::{Group, GroupPlace};
use catamaran_core::side::Sides;

use crate::api::{Object, Status};
use crate::clock::{Ms, SECOND, millis};
use crate::endpoints::{Key, UnderWay};
use crate::facts::Facts;
use crate::reading::{API, TIMEOUT};
use crate::world::{Fault, Item, Kind, World};

/// Something under way.
#[derive(Clone, Debug)]
pub enum Job {
    Probe(UnderWay),
    InUse {
        request: RequestId,
        policy: Arc<MirrorPolicy>,
        /// How old the reading may be.
        oldest: Ms,
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
    Inspect {
        wanted: Inspect,
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
    Flip {
        request: RequestId,
        base: Arc<Object>,
        standing: Box<Standing>,
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
        again: bool,
    },
    /// A probe of an endpoint ended.
    Ended(Key, u64, Box<Ended>),
    /// A write of the status ended; the object that comes with it.
    Status {
        request: RequestId,
        object: Option<Arc<Object>>,
        result: Result<(), WriteProblem>,
    },
    /// A flip was stored apart, or is what stands already.
    Flip(RequestId, Result<(), WriteProblem>, Option<Standing>),
    Stored(Result<(), String>, BTreeMap<GroupPlace, Arc<Group>>),
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
        if let Some((end, job)) = self.job(replica, effect, policy) {
            let begun = (self.replicas[replica].life, self.replicas[replica].term);
            self.schedule(end, Item::Found(replica, begun, Box::new(job)));
        }
    }

    /// The job that an effect asks for, and when it finds out what it is for.
    fn job(&mut self, replica: usize, effect: Effect, policy: Arc<MirrorPolicy>) -> Option<(Ms, Job)> {
        let now = self.now;
        Some(match effect {
            Effect::ReadInUse { request, oldest } => {
                self.replicas[replica].in_use_reads.push(now);
                let oldest = millis(oldest);
                let job = Job::InUse {
                    request,
                    policy,
                    oldest,
                };
                (now + 2 * API, job)
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
            Effect::Inspect(wanted) => {
                let end = now + 20 * self.slowest(&policy);
                let begun = now;
                (end, Job::Inspect { wanted, policy, begun })
            }
            Effect::Copy(errand) => (now + SECOND, Job::Copy { errand, policy }),
            _ => return None,
        })
    }

    /// The job comes to what it finds out.
    pub fn found(&mut self, replica: usize, begun: (u32, u32), job: Job) {
        match job {
            Job::Probe(under_way) => self.probe_ended(replica, begun.0, under_way),
            Job::InUse {
                request,
                policy,
                oldest,
            } => {
                let in_use = self.shared_in_use(replica, &policy, oldest);
                let event = Event::InUse { request, in_use };
                self.answer(replica, begun, Kind::InUse, event, (Some(policy), self.now));
            }
            Job::List {
                pass,
                repository,
                policy,
                begun: asked,
            } => self.list(replica, begun, pass, &repository, (policy, asked)),
            Job::Resolve {
                wanted,
                policy,
                begun: asked,
            } => {
                let event = self.resolve(&wanted, &policy);
                self.answer(replica, begun, Kind::Resolve, event, (Some(policy), asked));
            }
            Job::Inspect {
                wanted,
                policy,
                begun: asked,
            } => {
                let event = self.inspect(&wanted, &policy);
                self.answer(replica, begun, Kind::Resolve, event, (Some(policy), asked));
            }
            Job::Copy { errand, policy } => {
                let event = self.copy(errand, &policy);
                self.answer(replica, begun, Kind::Copy, event, (Some(policy), self.now));
            }
            Job::Status { request, base, status } => self.status_written(replica, begun.0, request, &base, *status),
            Job::Flip {
                request,
                base,
                standing,
            } => self.flip_stored(replica, begun.0, request, &base, &standing),
            Job::Store { groups, all, facts } => self.stored(replica, begun.0, groups, &all, facts),
        }
    }

    /// Whether all that a digest refers to can be read from both sides.
    fn inspect(&self, wanted: &Inspect, policy: &MirrorPolicy) -> Event {
        let sides = Sides::from_fn(|side| {
            let path = policy.path(side, &wanted.held.repository);
            let host = &policy.sides[side].registry;
            if !wanted.held.on[side] || self.unreadable(host, &path).is_some() {
                return Finding::Unknown;
            }
            let flaw = self.registry(host).flaw_of(&path, &wanted.held.digest, wanted.depth);
            flaw.map_or(Finding::Sound, Finding::Flawed)
        });
        Event::Inspected(Box::new(Inspected {
            request: wanted.request,
            sides,
        }))
    }

    /// Sends an answer on its way, with the fault that waits for one of its kind.
    pub fn answer(
        &mut self,
        replica: usize,
        (life, term): (u32, u32),
        kind: Kind,
        event: Event,
        (policy, found): (Option<Arc<MirrorPolicy>>, Ms),
    ) {
        let answer = Answer::Event {
            event,
            policy,
            found,
            term,
            again: false,
        };
        self.send(replica, life, kind, answer);
    }

    pub fn send(&mut self, replica: usize, life: u32, kind: Kind, answer: Answer) {
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

    /// An answer arrives at its replica.
    pub fn arrives(&mut self, replica: usize, answer: Answer) {
        match answer {
            Answer::Event {
                event,
                policy,
                found,
                term,
                again,
            } => {
                let one = &mut self.replicas[replica];
                // By a clock that was set meanwhile it may have been given up.
                let in_time = self.now - found <= 20 * SECOND + TIMEOUT && one.clocks_set <= found;
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
            Answer::Flip(request, result, standing) => self.flip_ended(replica, request, result, standing),
            Answer::Stored(result, groups) => self.store_ended(replica, result, groups),
            Answer::Ended(key, serial, ended) => self.probe_arrives(replica, &key, serial, *ended),
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
                let name = &resolved.name;
                one.blur(|repository, reference| repository == name.repository && reference == name.reference);
                let mut told = Facts::default();
                told.resolved(policy, resolved, times);
                one.facts.doubt(&told);
            }
            Event::Listed(listed) => {
                one.blur(|repository, _| repository == listed.repository);
                let in_use = one.in_use.clone().unwrap_or_default();
                let mut told = Facts::default();
                told.listed(policy, listed, &in_use, times);
                one.facts.doubt(&told);
            }
            Event::InUse { in_use, .. } => {
                one.in_use = Some(Arc::clone(in_use));
                let by_use = matches!(policy.repositories, catamaran_core::policy::Repositories::InUse);
                let gone = |repository: &str, reference: &str| {
                    (by_use || reference.contains(':')) && !in_use.contains(repository, reference)
                };
                one.blur(gone);
            }
            _ => {}
        }
    }
}
