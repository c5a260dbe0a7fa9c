//! What the probes of both sides have shown, and what they are to ask for.

use std::sync::Arc;

use jiff::Timestamp;

use super::canary::CanaryChoice;
use super::effect::Effect;
use super::event::Probed;
use super::parity::Canary;
use crate::endpoint::{Availability, ClientProblem, Outcome, ProbeHistory, Target, Vantages, Watch};
use crate::policy::MirrorPolicy;
use crate::side::{Side, Sides};

/// The probes of both sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(Sides<SideProbes>);

/// What one side's probes have shown.
#[derive(Clone, Debug, Default)]
pub(super) struct SideProbes {
    history: ProbeHistory,
    /// How the side is watched, and which canary each of its targets is.
    watch: Option<(Watch, Vec<Canary>)>,
    /// What other replicas see.
    vantages: Arc<Vantages>,
    /// The time from which on an answer was asked for last.
    wanted: Option<Timestamp>,
    /// The generation of the spec that the latest probe was made by.
    generation: i64,
    /// Whether there was ever a client to probe with: what probes say is then about the identity or the registry.
    asked: bool,
    /// Why there is no client, where a person must act.
    problem: Option<ClientProblem>,
}

/// What a probe changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProbeNews {
    /// Status may say something else now.
    pub(super) reported: bool,
    /// What was asked for.
    pub(super) canary: Option<Canary>,
}

impl Probes {
    pub(super) fn side(&self, side: Side) -> &SideProbes {
        &self.0[side]
    }

    pub(super) fn histories(&self) -> Sides<&ProbeHistory> {
        Sides::from_fn(|side| &self.0[side].history)
    }

    pub(super) fn vantages(&self) -> Sides<&Vantages> {
        Sides::from_fn(|side| &*self.0[side].vantages)
    }

    /// What other replicas see of a side. Whether that is more than that they still see it.
    pub(super) fn seen_by_others(&mut self, side: Side, vantages: Arc<Vantages>) -> bool {
        let said = |vantages: &Vantages| -> Vec<(Arc<str>, bool, bool)> {
            let others = vantages.others.iter();
            others
                .map(|vantage| (Arc::clone(&vantage.node), vantage.fails, vantage.down))
                .collect()
        };
        let news = said(&self.0[side].vantages) != said(&vantages);
        self.0[side].vantages = vantages;
        news
    }

    /// Has a side probed then, or at once where that has passed, unless it was asked for already.
    pub(super) fn want(&mut self, side: Side, after: Timestamp) -> Option<Effect> {
        let one = &mut self.0[side];
        if one.watch.is_none() || one.wanted == Some(after) {
            return None;
        }
        one.wanted = Some(after);
        Some(Effect::ProbeNow { side, after })
    }

    /// The same, and once before that: a side that has failed for a moment, too, is seen to.
    pub(super) fn want_twice(&mut self, side: Side, after: Timestamp, now: Timestamp) -> Vec<Effect> {
        let first = Effect::ProbeNow { side, after: now };
        let second = self.want(side, after);
        let early = second.is_some() && after > now;
        early.then_some(first).into_iter().chain(second).collect()
    }

    /// Takes in a finished probe; none if the side was watched by another spec then.
    pub(super) fn ended(&mut self, probed: &Probed, policy: &MirrorPolicy) -> Option<ProbeNews> {
        let side = &mut self.0[probed.side];
        let (watch, canaries) = side.watch.as_ref()?;
        if watch.generation != probed.generation {
            return None;
        }
        let reading = &probed.reading;
        let asked = reading.target.as_ref();
        let index = asked.and_then(|asked| watch.targets.iter().position(|target| target == asked));
        let canary = index.and_then(|index| canaries.get(index)).cloned();
        let problem = match &reading.client {
            Ok(()) => {
                side.asked = true;
                None
            }
            Err(problem) => problem.clone(),
        };
        let before = (side.history.availability(), side.problem.clone(), side.generation);
        let outcome = side.history.latest().map(|probe| probe.outcome);
        side.history.record(reading.probe.clone(), &policy.health);
        side.problem = problem;
        side.generation = probed.generation;
        let after = (side.history.availability(), side.problem.clone(), side.generation);
        let failing = reading.probe.outcome != Outcome::Reachable;
        Some(ProbeNews {
            reported: failing || before != after || outcome != Some(reading.probe.outcome),
            canary,
        })
    }

    /// What has changed in how the sides are to be watched.
    pub(super) fn watch(&mut self, policy: &MirrorPolicy, generation: i64, canary: &CanaryChoice) -> Vec<Effect> {
        let mut effects = Vec::new();
        for side in Side::ALL {
            let one = &mut self.0[side];
            let current = one.watch.as_ref();
            if current
                .is_some_and(|(watch, canaries)| watch.generation == generation && canaries.iter().eq(canary.probed()))
            {
                continue;
            }
            let canaries: Vec<Canary> = canary.probed().cloned().collect();
            let target = |canary: &Canary| Target {
                path: policy.path(side, &canary.repository).into_owned(),
                digest: canary.digest.clone(),
            };
            let watch = Watch {
                generation,
                period: policy.health.period,
                threshold: policy.health.failure_threshold,
                targets: canaries.iter().map(target).collect(),
            };
            one.watch = Some((watch.clone(), canaries));
            one.wanted = None;
            let watch = Some(watch);
            effects.push(Effect::Watch { side, watch });
        }
        effects
    }

    /// Neither side is watched any more.
    pub(super) fn stop(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for side in Side::ALL {
            if self.0[side].watch.take().is_some() {
                effects.push(Effect::Watch { side, watch: None });
            }
        }
        effects
    }

    /// The sides have changed places: what was seen of each registry stays with it. What is under way is asked anew, because
    /// its answer names the place that the registry had.
    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.0.primary, &mut self.0.fallback);
    }

    /// A side has another registry now: nothing that was seen counts.
    pub(super) fn forget(&mut self, side: Side) {
        self.0[side] = SideProbes::default();
    }
}

impl SideProbes {
    /// Whether what is known of the side is about an earlier spec than this, and the next probe is about to tell. A registry that
    /// limits our requests is not waited for: that may take an hour.
    pub(super) fn is_outdated(&self, generation: i64) -> bool {
        let latest = self.history.latest();
        let throttled = latest.is_some_and(|probe| matches!(probe.outcome, Outcome::Throttled { .. }));
        self.generation < generation && !throttled
    }

    pub(super) fn history(&self) -> &ProbeHistory {
        &self.history
    }

    pub(super) fn availability(&self) -> Availability {
        self.history.availability()
    }

    pub(super) fn asked(&self) -> bool {
        self.asked
    }

    pub(super) fn problem(&self) -> Option<&ClientProblem> {
        self.problem.as_ref()
    }
}

#[cfg(test)]
mod tests;
