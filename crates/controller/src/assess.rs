//! Parses the policy, gathers what is known, and has the core decide. Nothing here waits for a registry: probes and
//! scans run in the background, and what they found is in memory.

use std::sync::Arc;

use catamaran_api::mirror::{RegistryMirror, RegistryMirrorStatus};
use catamaran_api::policy::{PolicyError, policy};
use catamaran_core::failover::{Decision, Flip, FlipReason, Input, Standing, decide};
use catamaran_core::health::{Availability, Outcome, Probe};
use catamaran_core::parity::{Canary, Divergence};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routes::Conflict;
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;

use crate::connections::Problem;
use crate::context::Context;
use crate::memory::PassResult;
use crate::pull_through::Rule;
use crate::repair::Progress;
use crate::workers;

/// What was found out about a mirror.
#[derive(Debug)]
pub enum Outlook {
    /// The spec makes no sense.
    Invalid(PolicyError),
    /// The user asked for nothing to be done.
    Suspended,
    /// It is watched.
    Watched(Box<Observation>),
}

/// What is known of a mirror that is watched, and what was decided.
#[derive(Debug)]
pub struct Observation {
    /// What the user asked for.
    pub policy: Arc<MirrorPolicy>,
    /// The verdict on each side.
    pub availability: Sides<Availability>,
    /// The last probe of each side.
    pub probes: Sides<Option<Probe>>,
    /// Why a side has no client, where a person must act.
    pub connection: Sides<Option<Problem>>,
    /// Whether a side was ever probed by a client of its own.
    pub asked: Sides<bool>,
    /// Whether a side has not been probed since the spec changed.
    pub outdated: Sides<bool>,
    /// The last pass over the tags.
    pub pass: Option<PassResult>,
    /// A sample of confirmed divergences, newest first.
    pub divergences: Vec<Divergence>,
    /// What is probed with.
    pub canary: Option<Canary>,
    /// Other mirrors that claim the same repositories and win.
    pub overlaps: Vec<Conflict>,
    /// Pods rescued since the last report.
    pub rescued: u64,
    /// How the copying of missing tags goes.
    pub repair: Option<Progress>,
    /// The cloud's rule for a side that is a pull-through cache.
    pub rule: Option<Rule>,
    /// The last flip that the status tells of.
    pub last_flip: Option<Flip>,
    /// Which side is active, and why.
    pub decision: Decision,
}

/// Gathers and decides.
pub fn assess(mirror: &RegistryMirror, context: &Arc<Context>, now: Timestamp) -> Outlook {
    let policy = match policy(mirror) {
        Ok(policy) => Arc::new(policy),
        Err(error) => {
            context.crews.stop(mirror.metadata.uid.as_deref().unwrap_or_default());
            return Outlook::Invalid(error);
        }
    };
    let generation = mirror.metadata.generation.unwrap_or_default();
    workers::ensure(context, &policy, generation);
    if policy.suspended {
        return Outlook::Suspended;
    }
    let status = mirror.status.clone().unwrap_or_default();
    Outlook::Watched(Box::new(observe(context, &policy, generation, &status, now)))
}

fn observe(
    context: &Context,
    policy: &Arc<MirrorPolicy>,
    generation: i64,
    status: &RegistryMirrorStatus,
    now: Timestamp,
) -> Observation {
    let memory = context.memories.of(&policy.id);
    let standing = standing(status);
    let mut state = memory.state();
    if state.canary.is_none() && state.pass.is_none() {
        // A new leader probes with what the old one probed with, until its first pass is through.
        state.canary = canary(status);
    }
    let pass = state.pass.clone();
    let decision = decide(
        &Input {
            policy,
            probes: state.probes.as_ref(),
            standing: &standing,
            pass: pass.as_ref().and_then(|pass| pass.completed.clone()),
        },
        now,
    );
    if let Some(side) = decision.probe_now {
        memory.probe_now[side].notify_one();
    }
    let overlaps = context
        .table
        .borrow()
        .conflicts()
        .into_iter()
        .filter(|conflict| conflict.loser == policy.id);
    Observation {
        availability: Sides::from_fn(|side| state.probes[side].availability(&policy.health)),
        probes: Sides::from_fn(|side| state.probes[side].latest().cloned()),
        connection: state.connection.clone(),
        asked: state.asked,
        outdated: Sides::from_fn(|side| state.is_outdated(side, generation)),
        pass,
        divergences: state.ledger.divergences(catamaran_api::status::MAX_DIVERGENCES),
        canary: state.canary.clone(),
        overlaps: overlaps.collect(),
        rescued: memory.take_rescued(),
        repair: state.repair.clone(),
        rule: state.rule.clone(),
        last_flip: standing.last_flip.clone(),
        decision,
        policy: Arc::clone(policy),
    }
}

/// The persisted part of the decision, from status; a mirror without one begins on its primary.
pub fn standing(status: &RegistryMirrorStatus) -> Standing {
    let flip = status.last_flip.as_ref().and_then(|flip| {
        let reason = flip.reason.parse::<FlipReason>().ok()?;
        Some(Flip {
            at: flip.time.0,
            from: flip.from,
            to: flip.to,
            reason,
        })
    });
    Standing {
        active: status.active.unwrap_or(Side::Primary),
        epoch: u64::try_from(status.epoch).unwrap_or(0).max(1),
        last_flip: flip,
        failovers: status.recent_failovers.iter().map(|time| time.0).collect(),
    }
}

fn canary(status: &RegistryMirrorStatus) -> Option<Canary> {
    let canary = status.canary.as_ref()?;
    let digest = canary.digest.parse().ok()?;
    Some(Canary {
        repository: canary.repository.clone(),
        tag: canary.tag.clone(),
        digest,
    })
}

/// Whether both sides were probed at least once with this process's own eyes.
pub fn observed(observation: &Observation) -> bool {
    Side::ALL.into_iter().all(|side| {
        let probe = observation.probes[side].as_ref();
        probe.is_some_and(|probe| observation.asked[side] || probe.outcome != Outcome::CredentialsUnavailable)
            || observation.connection[side].is_some()
    })
}
