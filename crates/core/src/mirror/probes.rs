//! When each side is probed, and what that has shown.

use std::time::Duration;

use jiff::Timestamp;

use super::canary::CanaryChoice;
use super::effect::Effect;
use super::event::{ClientProblem, Probed, RequestId, Requests};
use super::pause::Pause;
use crate::endpoint::{Availability, Outcome, Probe, ProbeHistory};
use crate::policy::MirrorPolicy;
use crate::side::{Side, Sides};

/// A probe that has not ended after this and its own time limit is taken for lost, and another is begun.
const LOST_AFTER: Duration = Duration::from_mins(1);

/// The probes of both sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(Sides<SideProbes>);

/// What one side's probes have shown.
#[derive(Clone, Debug, Default)]
pub(super) struct SideProbes {
    history: ProbeHistory,
    under_way: Option<UnderWay>,
    /// A decision waits for nothing but this side's answer.
    wanted: bool,
    /// The generation of the spec that the latest probe was made by.
    generation: i64,
    /// Whether there was ever a client to probe with: what probes say is then about the identity or the registry.
    asked: bool,
    /// Why there is no client, where a person must act.
    problem: Option<ClientProblem>,
}

/// A probe that has not ended yet.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    request: RequestId,
    /// Until it is taken for lost.
    patience: Pause,
    generation: i64,
}

/// What a probe changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProbeNews {
    /// Status may say something else now.
    pub(super) reported: bool,
    /// The generation of the spec that it was made by.
    pub(super) generation: i64,
}

impl Probes {
    pub(super) fn side(&self, side: Side) -> &SideProbes {
        &self.0[side]
    }

    pub(super) fn histories(&self) -> Sides<&ProbeHistory> {
        Sides::from_fn(|side| &self.0[side].history)
    }

    /// Has a side probed at once; a probe that is under way will do.
    pub(super) fn want(&mut self, side: Side) {
        let side = &mut self.0[side];
        side.wanted = side.under_way.is_none();
    }

    /// Takes in a finished probe; none if it is not the one that is under way.
    pub(super) fn ended(&mut self, probed: &Probed, policy: &MirrorPolicy) -> Option<ProbeNews> {
        let side = &mut self.0[probed.side];
        let under_way = side.under_way.take_if(|probe| probe.request == probed.request)?;
        let problem = match &probed.client {
            Ok(()) => {
                side.asked = true;
                None
            }
            Err(problem) => problem.clone(),
        };
        let before = (side.history.availability(), side.problem.clone(), side.generation);
        let outcome = side.history.latest().map(|probe| probe.outcome);
        side.history.record(probed.probe.clone(), &policy.health);
        side.problem = problem;
        side.generation = under_way.generation;
        let after = (side.history.availability(), side.problem.clone(), side.generation);
        let failing = probed.probe.outcome != Outcome::Reachable;
        Some(ProbeNews {
            reported: failing || before != after || outcome != Some(probed.probe.outcome),
            generation: under_way.generation,
        })
    }

    /// Begins the probes that are due.
    pub(super) fn begin_due(
        &mut self,
        policy: &MirrorPolicy,
        generation: i64,
        canary: &CanaryChoice,
        requests: &mut Requests,
        now: Timestamp,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for side in Side::ALL {
            let probes = &mut self.0[side];
            if probes.due(policy, generation, now) > now {
                continue;
            }
            let request = requests.next();
            probes.under_way = Some(UnderWay {
                request,
                patience: Pause::new(now, policy.health.timeout.saturating_add(LOST_AFTER)),
                generation,
            });
            probes.wanted = false;
            effects.push(Effect::Probe {
                request,
                side,
                canary: canary.current().cloned(),
                blob: probes.history.wants_blob(),
            });
        }
        effects
    }

    /// When the next probe of any side is due.
    pub(super) fn wake_at(&self, policy: &MirrorPolicy, generation: i64, now: Timestamp) -> Timestamp {
        let due = |side: Side| self.0[side].due(policy, generation, now);
        due(Side::Primary).min(due(Side::Fallback))
    }

    /// The sides have changed places: what was seen of each registry stays with it. What is under way is asked anew, because
    /// its answer names the place that the registry had.
    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.0.primary, &mut self.0.fallback);
        for side in Side::ALL {
            self.0[side].under_way = None;
        }
    }

    /// A side has another registry now: nothing that was seen counts.
    pub(super) fn forget(&mut self, side: Side) {
        self.0[side] = SideProbes::default();
    }
}

impl SideProbes {
    /// When the next probe begins: at once where the spec has changed, because somebody may wait for what it comes to; when the one
    /// that is under way is taken for lost.
    fn due(&self, policy: &MirrorPolicy, generation: i64, now: Timestamp) -> Timestamp {
        if let Some(probe) = &self.under_way {
            let lost = probe.patience.is_over(now);
            return if lost { now } else { probe.patience.end() };
        }
        if self.wanted || self.is_outdated(generation) {
            return now;
        }
        self.history.next_probe(&policy.health, now)
    }

    /// Whether what is known of the side is about an earlier spec than this, and the next probe is about to tell. A registry that
    /// limits our requests is not waited for: that may take an hour.
    pub(super) fn is_outdated(&self, generation: i64) -> bool {
        let throttled = |probe: &Probe| matches!(probe.outcome, Outcome::Throttled { .. });
        self.generation < generation && !self.history.latest().is_some_and(throttled)
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
