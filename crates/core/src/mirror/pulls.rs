//! Pulls that fail on nodes, as the status of waiting pods reports them: what kubelets experience, beside what probes find.
//!
//! **Rule.** Pulls from a side fail when at least [`LEAST_PODS`] pods on at least [`LEAST_NODES`] nodes (on one, where the cluster has
//! one) could not pull from it within [`WINDOW`], because of the connection, DNS, TLS or a server error. That lasts until fewer of them
//! still wait. Everything else that a registry answers is about an image or a credential, and says nothing of the registry.
//!
//! What was reported belongs to an epoch and to a registry: after a flip, or an edit that names another registry, it starts anew. Memory
//! is bounded: a few pods of a few nodes are enough for the rule, and what is beyond the bounds is counted and not stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::endpoint::{distance, later};
pub use crate::pod::message::FailedAttempt;
use crate::pod::message::PullFailure;
use crate::side::{Side, Sides};

mod reported;
#[cfg(test)]
mod tests;

use reported::SidePulls;
pub use reported::{Failing, PullOutage};

/// The time within which pulls must fail to count together.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Pods whose pulls must fail.
pub const LEAST_PODS: usize = 3;

/// Nodes that they must be on, where the cluster has more than one.
pub const LEAST_NODES: usize = 2;

/// How long a failed pull counts towards the end of a run of them: a kubelet waits up to five minutes before the next attempt.
const STILL_FAILING: Duration = Duration::from_mins(6);

/// How long a pod is remembered that nothing more is heard of.
const REMEMBERED: Duration = Duration::from_mins(15);

/// Numbers that status shows change at most so often.
const REFRESHED: Duration = Duration::from_secs(30);

/// How long after a flip its outcome is judged, at the earliest and at the latest.
const OUTCOME: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(10));

/// What the status of one waiting pod says of its pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPulls {
    /// The pod's UID.
    pub pod: Arc<str>,
    /// Its node.
    pub node: Arc<str>,
    /// Of each side the pull that failed; none of both once the pod waits for nothing.
    pub failed: Sides<Option<FailedAttempt>>,
}

/// What nodes report of pulls from both sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulls {
    /// What the reports belong to.
    bound: Option<Bound>,
    sides: Sides<SidePulls>,
    failing: Shown,
    /// A flip whose outcome was not reported yet.
    flipped: Option<Timestamp>,
}

/// What reports belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    epoch: u64,
    active: Side,
    registries: Sides<String>,
}

/// The number that status shows of pods whose pull from the active side failed.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    pods: usize,
    at: Option<Timestamp>,
}

impl Pulls {
    /// Says what is active in which epoch. Reports of another epoch or registry are dropped.
    pub(super) fn bind(&mut self, epoch: u64, active: Side, registries: Sides<String>, now: Timestamp) {
        let bound = Bound {
            epoch,
            active,
            registries,
        };
        let Some(before) = self.bound.replace(bound.clone()) else {
            return;
        };
        if before == bound {
            return;
        }
        let is_flip = before.epoch != epoch && before.active != active && before.registries == bound.registries;
        for side in Side::ALL {
            if before.epoch != epoch || before.registries[side] != bound.registries[side] {
                self.sides[side] = SidePulls::default();
            }
        }
        if before.epoch != epoch {
            self.flipped = is_flip.then_some(now);
        }
        self.failing = Shown { pods: 0, at: Some(now) };
    }

    /// Takes in what pods report.
    pub(super) fn report(&mut self, reports: &[PodPulls], now: Timestamp) {
        for report in reports {
            for side in Side::ALL {
                self.sides[side].report(report, report.failed[side], now);
            }
        }
    }

    /// Judges what was reported. Whether status has something new to say.
    pub(super) fn refresh(&mut self, is_single_node: bool, now: Timestamp) -> bool {
        let least_nodes = if is_single_node { 1 } else { LEAST_NODES };
        let mut news = false;
        for side in Side::ALL {
            news |= self.sides[side].refresh(least_nodes, now);
        }
        let pods = self.failing_pods();
        let may_change = self.failing.at.is_none_or(|at| distance(at, now) >= REFRESHED);
        if pods != self.failing.pods && may_change {
            self.failing = Shown { pods, at: Some(now) };
            news = true;
        }
        news
    }

    /// When to judge again although nothing was reported.
    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let shown = self.failing_pods() != self.failing.pods;
        let shown = self.failing.at.filter(|_| shown).map(|at| later(at, REFRESHED));
        let outcome = self.flipped.map(|at| later(at, OUTCOME.0));
        let sides = Side::ALL.map(|side| self.sides[side].wake_at());
        let wakes = [shown, outcome].into_iter().chain(sides).flatten();
        wakes.filter(|at| *at > now).min()
    }

    fn failing_pods(&self) -> usize {
        self.bound
            .as_ref()
            .map_or(0, |bound| self.sides[bound.active].failing())
    }

    /// Pods whose pull from the active side failed in this epoch and that still wait, as status shows them.
    pub(super) fn failing(&self) -> usize {
        self.failing.pods
    }

    /// Whether and how pulls from each side fail.
    pub(super) fn outages(&self, now: Timestamp) -> Sides<Option<PullOutage>> {
        Sides::from_fn(|side| self.sides[side].outage(now))
    }

    /// What status shows of pulls from the active side.
    pub(super) fn shown(&self) -> Option<(Side, Failing)> {
        let active = self.bound.as_ref()?.active;
        Some((active, self.sides[active].shown()?))
    }

    /// What came of the latest flip, once: pods that can't pull from the side that they are sent to now.
    pub(super) fn outcome(&mut self, now: Timestamp) -> Option<String> {
        let flipped = self.flipped?;
        let age = distance(flipped, now);
        if age > OUTCOME.1 {
            self.flipped = None;
        }
        let bound = self.bound.as_ref()?;
        let pods = self.sides[bound.active].failing();
        if age < OUTCOME.0 || age > OUTCOME.1 || pods == 0 {
            return None;
        }
        self.flipped = None;
        let registry = &bound.registries[bound.active];
        let classes = self.sides[bound.active].classes();
        let subject = if pods == 1 {
            "1 pod".to_owned()
        } else {
            format!("{pods} pods")
        };
        Some(format!(
            "pods are sent to {registry} since the flip, and {subject} can't pull from there: {classes}"
        ))
    }

    /// Another replica leads, or nothing is to be known.
    pub(super) fn forget(&mut self) {
        *self = Pulls::default();
    }
}

impl PullFailure {
    /// For people, after a number of pods.
    const fn words(self) -> &'static str {
        match self {
            PullFailure::NotFound => "not found",
            PullFailure::Unauthorized => "unauthorized",
            PullFailure::Throttled => "throttled",
            PullFailure::Connection => "connection failed",
            PullFailure::ServerError => "server error",
            PullFailure::Tls => "TLS failed",
            PullFailure::Dns => "name not resolved",
            PullFailure::SignatureInvalid => "signature refused",
            PullFailure::Other => "other causes",
        }
    }
}

/// Adds to the number of pods of a class.
fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, class: K) {
    *counts.entry(class).or_default() += 1;
}
