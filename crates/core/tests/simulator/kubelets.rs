//! Nodes whose kubelets pull what pods name, each with a way to the registries of its own, and whose pods' status the leader reads.

use std::collections::BTreeMap;

use catamaran_core::endpoint::Unavailable;
use catamaran_core::mirror::Event;
use catamaran_core::mirror::pulls::{FailedAttempt, PodPulls};
use catamaran_core::pod::message::PullFailure;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::{Side, Sides};

use crate::clock::{MINUTE, Ms, SECOND};
use crate::registry::Weather;
use crate::world::{Item, World};

/// The pause before the second attempt; doubles with each further one.
const FIRST_PAUSE: Ms = 10 * SECOND;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Ms = 5 * MINUTE;

/// Pods that wait at a time at most: the oldest is deleted.
const MOST_PODS: usize = 60;

/// All nodes and their pods.
#[derive(Clone, Debug, Default)]
pub struct Kubelets {
    pub nodes: Vec<Node>,
    /// A pod is created on each node in turn, this often.
    pub every: Ms,
    pods: BTreeMap<u64, Pod>,
    created: u64,
    /// What the leaders were told, in order.
    pub told: Vec<Told>,
}

/// A node, with what happens to its pulls from each host from an instant on, sorted.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub changes: Vec<(Ms, &'static str, Option<PullFailure>)>,
}

/// A pod that waits.
#[derive(Clone, Debug)]
struct Pod {
    node: usize,
    side: Side,
    /// The epoch in which its image was chosen.
    epoch: u64,
    pause: Ms,
}

/// A failed pull that a replica was told of.
#[derive(Clone, Debug)]
pub struct Told {
    pub replica: (usize, u32, u32),
    pub at: Ms,
    pub by_clock: Ms,
    /// The registry with its prefix.
    pub name: String,
    pub node: usize,
    pub pod: u64,
    pub failure: PullFailure,
}

impl Node {
    fn failure(&self, at: Ms, host: &str) -> Option<PullFailure> {
        let changes = self.changes.iter().rev();
        let mut until_now = changes.filter(|(from, of, _)| *from <= at && *of == host);
        until_now.next().and_then(|(.., failure)| *failure)
    }
}

impl World {
    /// Has pods created on so many nodes, one after the other.
    pub fn start_pods(&mut self, nodes: usize, every: Ms) {
        self.kubelets.nodes.resize_with(nodes, Node::default);
        self.kubelets.every = every;
        self.schedule(self.now + every, Item::Create);
    }

    fn active(&self) -> (Side, u64) {
        let standing = self.object.status.standing.as_ref();
        standing.map_or((Side::Primary, 1), |standing| (standing.active, standing.epoch))
    }

    /// The spec that the leader goes by.
    fn policy_of_leader(&self) -> Option<(usize, std::sync::Arc<MirrorPolicy>)> {
        let replica = self.lease.filter(|replica| !self.replicas[*replica].paused)?;
        Some((replica, self.replicas[replica].policy()?.clone()))
    }

    /// A pod is created, and goes where the active side is.
    pub fn create_pod(&mut self) {
        let (side, epoch) = self.active();
        let number = self.kubelets.created;
        self.kubelets.created += 1;
        let node = (number % self.kubelets.nodes.len() as u64) as usize;
        let pause = FIRST_PAUSE;
        self.kubelets.pods.insert(
            number,
            Pod {
                node,
                side,
                epoch,
                pause,
            },
        );
        self.schedule(self.now, Item::Pull(number));
        self.schedule(self.now + self.kubelets.every, Item::Create);
        if self.kubelets.pods.len() > MOST_PODS
            && let Some((oldest, pod)) = self.kubelets.pods.pop_first()
        {
            self.tell_leader(oldest, pod.node, None);
        }
    }

    /// A kubelet tries to pull.
    pub fn pull_image(&mut self, number: u64) {
        let (active, epoch) = self.active();
        let now = self.now;
        let Some(pod) = self.kubelets.pods.get_mut(&number) else {
            return;
        };
        // A waiting pod is re-pointed, once an epoch.
        if pod.epoch < epoch && pod.side != active {
            pod.side = active;
        }
        pod.epoch = epoch;
        let pod = pod.clone();
        let Some(policy) = self.object.policy.clone() else {
            self.schedule(now + pod.pause, Item::Pull(number));
            return;
        };
        let host = &policy.sides[pod.side].registry;
        let node = self.kubelets.nodes[pod.node].failure(now, host);
        let weather = match self.registry(host).weather(now) {
            Weather::Fails(kind) => Some(failure(kind)),
            Weather::BlackHole | Weather::NoBlobs => Some(PullFailure::Connection),
            Weather::NoTokens => Some(PullFailure::ServerError),
            Weather::Up | Weather::Says(_) => None,
        };
        let Some(failure) = node.or(weather) else {
            self.kubelets.pods.remove(&number);
            self.tell_leader(number, pod.node, None);
            return;
        };
        self.tell_leader(number, pod.node, Some((pod.side, failure)));
        self.schedule(now + pod.pause, Item::Pull(number));
        if let Some(pod) = self.kubelets.pods.get_mut(&number) {
            pod.pause = (pod.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The leader reads a pod's status.
    pub fn tell_leader(&mut self, pod: u64, node: usize, failed: Option<(Side, PullFailure)>) {
        let Some((replica, policy)) = self.policy_of_leader() else {
            return;
        };
        let mut report = PodPulls {
            pod: format!("pod-{pod}").into(),
            node: format!("node-{node}").into(),
            failed: Sides::default(),
        };
        self.kubelets.told.retain(|told| told.pod != pod);
        if let Some((side, failure)) = failed {
            report.failed[side] = Some(FailedAttempt { failure, is_new: true });
            let one = &self.replicas[replica];
            self.kubelets.told.push(Told {
                replica: (replica, one.life, one.term),
                at: self.now,
                by_clock: self.now + one.clock,
                name: policy.sides[side].name(),
                node,
                pod,
                failure,
            });
        }
        self.feed(replica, Event::Pulls(vec![report]));
    }

    /// Pulls that failed within a minute, as this replica was told: pods, nodes, and when the last but one did.
    pub fn pulls_told(&self, replica: usize, name: &str) -> (usize, usize, Option<Ms>) {
        let one = &self.replicas[replica];
        let now = self.now + one.clock;
        let flipped = self.flips.last().map_or(Ms::MIN, |flip| flip.at);
        let counts = |told: &&Told| {
            told.replica == (replica, one.life, one.term)
                && told.name == name
                && told.at >= flipped
                && (now - told.by_clock).abs() <= MINUTE
                && told.failure.outage().is_some()
        };
        let told: Vec<&Told> = self.kubelets.told.iter().filter(counts).collect();
        let mut nodes: Vec<usize> = told.iter().map(|told| told.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut times: Vec<Ms> = told.iter().map(|told| told.by_clock).collect();
        times.sort_unstable();
        (told.len(), nodes.len(), times.iter().rev().nth(1).copied())
    }
}

fn failure(kind: Unavailable) -> PullFailure {
    match kind {
        Unavailable::ServerError => PullFailure::ServerError,
        Unavailable::TlsError => PullFailure::Tls,
        Unavailable::DnsFailure => PullFailure::Dns,
        _ => PullFailure::Connection,
    }
}
