//! What nodes report of pulls from one side.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{FailedAttempt, LEAST_PODS, PodPulls, REFRESHED, REMEMBERED, STILL_FAILING, WINDOW, count};
use crate::endpoint::{Unavailable, distance, later};
use crate::pod::message::PullFailure;

/// Nodes whose pods are remembered at most.
const MOST_NODES: usize = 64;

/// Pods of one node that are remembered at most.
const MOST_PODS: usize = 16;

/// The longest name of a node, and UID of a pod: more than the API server accepts.
const LONGEST_NAME: usize = 256;

/// The pulls from one side that failed.
#[derive(Clone, Debug, Default)]
pub(super) struct SidePulls {
    nodes: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Waiting>>,
    /// Reports that were not stored, because there are too many.
    left_out: u64,
    outage: Option<Raised>,
}

/// A pod that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    failure: PullFailure,
    /// When its latest attempt failed, if that was seen.
    attempted: Option<Timestamp>,
    reported: Timestamp,
}

/// Pulls fail by the rule. The numbers are those that status shows.
#[derive(Clone, Copy, Debug)]
struct Raised {
    since: Timestamp,
    kind: Unavailable,
    pods: usize,
    nodes: usize,
    changed: Timestamp,
    least_nodes: usize,
}

impl Raised {
    fn shown(self) -> Failing {
        Failing {
            since: self.since,
            kind: self.kind,
            pods: self.pods,
            nodes: self.nodes,
        }
    }
}

/// Pulls from a side fail on nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullOutage {
    /// What status shows of it.
    pub failing: Failing,
    /// When the last pull but one failed: the other side must have been reachable before and after.
    pub pivot: Timestamp,
    /// Whether enough of them failed within the last minute. Otherwise they only wait for the next attempt.
    pub is_new: bool,
}

/// What status shows of pulls that fail. The numbers are rounded down and change at most every half a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// When the first of them failed.
    pub since: Timestamp,
    /// How most of them fail.
    pub kind: Unavailable,
    /// Pods, at least.
    pub pods: usize,
    /// Nodes, at least.
    pub nodes: usize,
}

/// What is counted within some time.
#[derive(Default)]
struct Tally {
    pods: usize,
    nodes: usize,
    kinds: BTreeMap<PullFailure, usize>,
    first: Option<Timestamp>,
    /// The latest attempts, newest first.
    last: [Option<Timestamp>; 2],
}

impl Tally {
    fn is_enough(&self, least_nodes: usize) -> bool {
        self.pods >= LEAST_PODS && self.nodes >= least_nodes
    }

    fn add(&mut self, failure: PullFailure, at: Timestamp) {
        self.pods += 1;
        count(&mut self.kinds, failure);
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        let [last, before] = self.last;
        if last.is_none_or(|last| at >= last) {
            self.last = [Some(at), last];
        } else if before.is_none_or(|before| at > before) {
            self.last = [last, Some(at)];
        }
    }

    /// How most of them fail; the first of those that are as many.
    fn kind(&self) -> Option<Unavailable> {
        let most = self.kinds.values().max()?;
        let (failure, _) = self.kinds.iter().find(|(_, pods)| *pods == most)?;
        failure.outage()
    }
}

impl SidePulls {
    /// Takes in what a pod reports of this side.
    pub(super) fn report(&mut self, report: &PodPulls, failed: Option<FailedAttempt>, now: Timestamp) {
        let Some(failed) = failed else {
            return self.remove(&report.pod);
        };
        let known = self.nodes.get(&report.node).and_then(|pods| pods.get(&report.pod));
        let known = known.copied();
        if known.is_none() && !self.has_room(report) && !self.make_room(report, failed.failure) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let before = known.and_then(|known| known.attempted);
        let waiting = Waiting {
            failure: match known {
                // Some kubelets do not repeat the failure while they wait.
                Some(known) if failed.failure == PullFailure::Other && !failed.is_new => known.failure,
                _ => failed.failure,
            },
            attempted: if failed.is_new { Some(now) } else { before },
            reported: now,
        };
        let pods = self.nodes.entry(Arc::clone(&report.node)).or_default();
        pods.insert(Arc::clone(&report.pod), waiting);
    }

    fn has_room(&self, report: &PodPulls) -> bool {
        let is_name = |name: &str| (1..=LONGEST_NAME).contains(&name.len());
        let pods = self.nodes.get(&report.node).map(BTreeMap::len);
        is_name(&report.pod)
            && is_name(&report.node)
            && pods.map_or(self.nodes.len() < MOST_NODES, |pods| pods < MOST_PODS)
    }

    /// Has a pull that says something of the registry take the place of one that does not, because pods whose image does not exist
    /// must not hide an outage, or of the pod on its node that has not tried for longest.
    fn make_room(&mut self, report: &PodPulls, failure: PullFailure) -> bool {
        let is_none = |waiting: &Waiting| waiting.failure.outage().is_none();
        if failure.outage().is_none() {
            return false;
        }
        if let Some(pods) = self.nodes.get_mut(&report.node) {
            let oldest = pods
                .iter()
                .min_by_key(|(_, waiting)| (!is_none(waiting), waiting.attempted));
            if let Some(oldest) = oldest.map(|(pod, _)| Arc::clone(pod)) {
                pods.remove(&oldest);
            }
        } else {
            let other = self.nodes.iter().find(|(_, pods)| pods.values().all(is_none));
            if let Some(other) = other.map(|(node, _)| Arc::clone(node)) {
                self.nodes.remove(&other);
            }
        }
        self.has_room(report)
    }

    fn remove(&mut self, pod: &str) {
        self.nodes.retain(|_, pods| {
            pods.remove(pod);
            !pods.is_empty()
        });
    }

    /// Judges by the rule. Whether there is anything new.
    pub(super) fn refresh(&mut self, least_nodes: usize, now: Timestamp) -> bool {
        self.nodes.retain(|_, pods| {
            pods.retain(|_, waiting| distance(waiting.reported, now) <= REMEMBERED);
            !pods.is_empty()
        });
        match self.outage {
            None => {
                let tally = self.tally(WINDOW, now);
                let begun = tally.first.zip(tally.kind());
                let raised = begun
                    .filter(|_| tally.is_enough(least_nodes))
                    .map(|(since, kind)| Raised {
                        since,
                        kind,
                        pods: rounded(tally.pods),
                        nodes: rounded(tally.nodes),
                        changed: now,
                        least_nodes,
                    });
                self.outage = raised;
                raised.is_some()
            }
            Some(before) => {
                let tally = self.tally(STILL_FAILING, now);
                let Some(kind) = tally.kind().filter(|_| tally.is_enough(before.least_nodes)) else {
                    self.outage = None;
                    return true;
                };
                let (pods, nodes) = (rounded(tally.pods), rounded(tally.nodes));
                let is_other = (kind, pods, nodes) != (before.kind, before.pods, before.nodes);
                if !is_other || distance(before.changed, now) < REFRESHED {
                    return false;
                }
                self.outage = Some(Raised {
                    kind,
                    pods,
                    nodes,
                    changed: now,
                    ..before
                });
                true
            }
        }
    }

    /// When to judge again although nothing was reported.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let waiting = || self.nodes.values().flat_map(BTreeMap::values);
        let attempts = waiting().filter_map(|waiting| waiting.attempted);
        let ends = attempts.min().filter(|_| self.outage.is_some());
        let forgotten = waiting().map(|waiting| waiting.reported).min();
        let ends = ends.map(|at| later(later(at, STILL_FAILING), REFRESHED / 30));
        let forgotten = forgotten.map(|at| later(later(at, REMEMBERED), REFRESHED / 30));
        ends.into_iter().chain(forgotten).min()
    }

    /// Pods that wait after a pull failed, however it did.
    pub(super) fn failing(&self) -> usize {
        self.nodes.values().map(BTreeMap::len).sum()
    }

    /// Reports that were not stored.
    #[cfg(test)]
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How pulls fail, most frequent first.
    pub(super) fn classes(&self) -> String {
        let mut counts = BTreeMap::new();
        for waiting in self.nodes.values().flat_map(BTreeMap::values) {
            count(&mut counts, waiting.failure);
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, pods)| std::cmp::Reverse(*pods));
        let words = counts
            .iter()
            .map(|(failure, pods)| format!("{} ({pods})", failure.words()));
        let words = words.collect::<Vec<_>>().join(", ");
        match self.left_out {
            0 => words,
            _ => format!("{words}; further pods are not counted"),
        }
    }

    /// What status shows of it.
    pub(super) fn shown(&self) -> Option<Failing> {
        self.outage.map(Raised::shown)
    }

    /// Whether pulls fail by the rule.
    pub(super) fn outage(&self, now: Timestamp) -> Option<PullOutage> {
        let raised = self.outage?;
        let [last, before] = self.tally(STILL_FAILING, now).last;
        Some(PullOutage {
            failing: raised.shown(),
            pivot: before.or(last).unwrap_or(raised.since),
            is_new: self.tally(WINDOW, now).is_enough(raised.least_nodes),
        })
    }

    /// Pods whose latest attempt failed within this time in a way that is about the registry.
    fn tally(&self, within: std::time::Duration, now: Timestamp) -> Tally {
        let mut tally = Tally::default();
        for pods in self.nodes.values() {
            let before = tally.pods;
            for waiting in pods.values() {
                // A clock that was set back leaves attempts in the future.
                let attempted = waiting.attempted.filter(|at| distance(*at, now) <= within);
                if let (Some(at), Some(_)) = (attempted, waiting.failure.outage()) {
                    tally.add(waiting.failure, at);
                }
            }
            tally.nodes += usize::from(tally.pods > before);
        }
        tally
    }
}

/// Small numbers as they are, larger ones rounded down, so that they change seldom: 1 to 5, 10, 20, 50, 100, …
pub(super) fn rounded(number: usize) -> usize {
    let mut rounded = number.min(5);
    let mut step = 10;
    while step <= number {
        rounded = [step, 2 * step, 5 * step]
            .into_iter()
            .filter(|next| *next <= number)
            .max()
            .unwrap_or(step);
        step *= 10;
    }
    rounded
}
