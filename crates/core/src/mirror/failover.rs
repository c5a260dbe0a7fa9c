//! Which side is active: one pure function over what was probed, what is known of both sides and what was decided before.
//!
//! **Failover** needs `failureThreshold` failures of the active side in a row, and an other side that was reachable without
//! a break from before the last failure but one until after it. That sandwich is what keeps our own network out of it:
//! when our egress dies, the other side's last good answer is older than the second failure; when it comes back, the
//! side that answers first has not yet been reachable while the active one failed. [`Decision::probe_now`] asks for the
//! one answer that is missing, so the rule costs no more than that probe takes.
//!
//! The other side must also hold something that is in use: a registry that answers and has no image is nowhere to go. Each
//! automatic flip away from a failing side counts: from the third within an hour on the other side must have been reachable
//! for the stable time, doubled each time, so that two registries that fail in turn are damped as one is.
//!
//! **Pulls** that fail on nodes are a reason of their own, while probes pass or say nothing: [`super::pulls`] has the rule. The same
//! sandwich holds around the last failed pull but one. Because probes can't say when such a side is well again, it is left for at
//! least twice the stable time, and of the failovers within an hour only the first two may be for this reason: with their failbacks
//! that makes four flips.
//!
//! **Failback** needs a primary that was reachable without a break for the stable time, doubled for each further failover
//! within the hour, and a check, begun after its recovery and at most [`LONGEST_PROOF`] ago, that found everything in use there.

use std::time::Duration;

use jiff::Timestamp;

use super::pulls::PullOutage;
use crate::endpoint::{Outcome, ProbeHistory, distance, later};
use crate::policy::{ActiveSide, MirrorPolicy};
use crate::side::{Side, Sides};

mod explain;
mod pulling;
mod reason;
mod returning;
#[cfg(test)]
mod tests;

pub use reason::{FlipReason, Reason, UnknownFlipReason};
use returning::{failback, failback_wait, stable_wait};

/// How long a failover is remembered, and the longest wait that doubling can reach.
pub const FAILOVER_MEMORY: Duration = Duration::from_hours(1);

/// How old the check that precedes a failback may be.
pub const LONGEST_PROOF: Duration = Duration::from_mins(1);

/// How old the pass may be that a check builds on, where the interval between passes is not shorter.
pub const OLDEST_PASS: Duration = Duration::from_mins(10);

/// Automatic failovers within the hour that follow a failure at once; further ones wait for a stable target.
const UNDAMPED_FAILOVERS: usize = 2;

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// What the user asked for.
    pub policy: &'a MirrorPolicy,
    /// What this process has seen of each side.
    pub probes: Sides<&'a ProbeHistory>,
    /// What was decided before, by whichever replica.
    pub standing: &'a Standing,
    /// Whether each side is known to hold something that is in use or, where nothing is in use, some selected tag.
    pub serves: Sides<bool>,
    /// Whether pulls from each side fail on nodes.
    pub pulls: Sides<Option<PullOutage>>,
    /// The latest check of what failback needs.
    pub check: Option<InUseCheck>,
}

/// The persisted part of the decision, as in status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The side that pods are sent to.
    pub active: Side,
    /// The name of the registry that this was when it was written: the sides of a spec may change places.
    pub registry: Option<String>,
    /// Grows by one with every flip.
    pub epoch: u64,
    /// The latest flip.
    pub last_flip: Option<Flip>,
    /// Automatic flips away from a failing side within the last hour, newest last.
    pub failovers: Vec<Timestamp>,
}

impl Default for Standing {
    /// Before the first observation: the primary, in epoch 1.
    fn default() -> Standing {
        Standing {
            active: Side::Primary,
            registry: None,
            epoch: 1,
            last_flip: None,
            failovers: Vec::new(),
        }
    }
}

/// A check whether the primary holds what pods will ask it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUseCheck {
    /// When its reading was begun.
    pub begun: Timestamp,
    /// When the last of it was read.
    pub ended: Timestamp,
    /// Everything that counts was found on the primary.
    pub passed: bool,
    /// For people: what holds the failback up, or how many references were found.
    pub detail: String,
}

/// A change of the active side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// When it was decided.
    pub at: Timestamp,
    /// The side that was active.
    pub from: Side,
    /// The side that is.
    pub to: Side,
    /// Why.
    pub reason: FlipReason,
}

/// What is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The side that pods are to be sent to.
    pub active: Side,
    /// The standing epoch, plus one if this flips.
    pub epoch: u64,
    /// The flip, if this is one.
    pub flip: Option<Flip>,
    /// Automatic failovers within the last hour, newest last, this one included.
    pub failovers: Vec<Timestamp>,
    /// Why, for machines and people.
    pub why: Why,
    /// When to decide again even if no probe ends before that.
    pub recheck_at: Option<Timestamp>,
    /// The side whose answer is the only thing missing for a failover: probe it at once. Asking again while that probe
    /// is under way changes nothing.
    pub probe_now: Option<Side>,
    /// Only the check of what is in use is missing for a failback: make it.
    pub check_now: bool,
}

/// Why a decision is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Stable, for conditions and metrics.
    pub reason: Reason,
    /// For people, with the numbers; for conditions and Events.
    pub message: String,
}

/// What follows from the facts, before it is put into words.
struct Verdict {
    reason: Reason,
    until: Option<Timestamp>,
    probe_now: Option<Side>,
    check_now: bool,
    /// The pulls from the active side that it is about, rather than probes.
    pulls: Option<PullOutage>,
}

impl From<Reason> for Verdict {
    fn from(reason: Reason) -> Verdict {
        Verdict {
            reason,
            until: None,
            probe_now: None,
            check_now: false,
            pulls: None,
        }
    }
}

/// Decides which side is active. A restarted leader passes the standing it read from status and histories of its own, so
/// it starts where the last one stopped and flips only on what it saw itself.
pub fn decide(input: &Input<'_>, now: Timestamp) -> Decision {
    let standing = input.standing;
    let mut failovers: Vec<Timestamp> = standing
        .failovers
        .iter()
        .copied()
        .filter(|at| distance(*at, now) < FAILOVER_MEMORY)
        .collect();
    let verdict = judge(input, &failovers, now);
    let flip = if let Reason::Flipped(reason) = verdict.reason {
        let from = standing.active;
        Some(Flip {
            at: now,
            from,
            to: from.other(),
            reason,
        })
    } else {
        None
    };
    let message = explain::message(input, &verdict, &failovers, now);
    if matches!(
        verdict.reason,
        Reason::Flipped(FlipReason::PrimaryUnavailable | FlipReason::FallbackUnavailable | FlipReason::PullsFailing)
    ) {
        failovers.push(now);
    }
    Decision {
        active: flip.as_ref().map_or(standing.active, |flip| flip.to),
        epoch: standing.epoch.saturating_add(u64::from(flip.is_some())),
        flip,
        failovers,
        why: Why {
            reason: verdict.reason,
            message,
        },
        recheck_at: verdict.until,
        probe_now: verdict.probe_now,
        check_now: verdict.check_now,
    }
}

fn judge(input: &Input<'_>, failovers: &[Timestamp], now: Timestamp) -> Verdict {
    match input.policy.failover.active {
        ActiveSide::Fixed(side) if side == input.standing.active => return Reason::Overridden.into(),
        ActiveSide::Fixed(_) => return Reason::Flipped(FlipReason::Requested).into(),
        ActiveSide::Auto => {}
    }
    let active = input.standing.active;
    let policy = &input.policy.health;
    let history = input.probes[active];
    let state = match history.fresh(policy, now).map(|probe| &probe.outcome) {
        Some(_) if history.is_refused_of_late(policy) => Reason::ActiveUnknown.into(),
        Some(outcome) if outcome.counts_as_failure(policy) => {
            if history.has_failed(policy) && history.is_experienced() {
                return failover(input, failovers, now);
            }
            Verdict {
                probe_now: ask_early(input, now),
                ..Reason::Failing.into()
            }
        }
        Some(Outcome::Reachable) => Reason::Steady.into(),
        Some(_) => Reason::ActiveUnknown.into(),
        None => Reason::NotYetObserved.into(),
    };
    let state = match input.pulls[active] {
        // Where probes begin to fail as well, they say within seconds what it is.
        Some(outage) if state.reason != Reason::Failing => pulling::failover(input, outage, failovers, now),
        _ => state,
    };
    if active == Side::Primary || matches!(state.reason, Reason::Flipped(_)) {
        return state;
    }
    // A fallback that fails, not yet often enough, does not stand in the way of going back.
    let back = failback(input, failovers, now);
    match back.reason {
        Reason::Flipped(_) => back,
        _ if state.reason == Reason::Steady => back,
        _ => Verdict {
            until: back.until,
            check_now: back.check_now,
            ..state
        },
    }
}

/// The failure that the other side must have been reachable before and after: the last but one, so that the last one
/// was begun within what is known of the other side. With a threshold of 1 there may be only one.
fn pivot(history: &ProbeHistory) -> Option<Timestamp> {
    history.previous_failure().or(history.last_failure())
}

fn failover(input: &Input<'_>, failovers: &[Timestamp], now: Timestamp) -> Verdict {
    let active = input.standing.active;
    let since = match target(input, pivot(input.probes[active]), now) {
        Ok(since) => since,
        Err(verdict) => return verdict,
    };
    let until = later(since, damping(input.policy.failover.stable, failovers.len()));
    if failovers.len() >= UNDAMPED_FAILOVERS && now < until {
        return Verdict {
            until: Some(until),
            ..Reason::OtherUnstable.into()
        };
    }
    Reason::Flipped(match active {
        Side::Primary => FlipReason::PrimaryUnavailable,
        Side::Fallback => FlipReason::FallbackUnavailable,
    })
    .into()
}

/// Since when the other side has been reachable, from before the pivot until after it; else why it is nowhere to go.
fn target(input: &Input<'_>, pivot: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Verdict> {
    let policy = &input.policy.health;
    let other = input.standing.active.other();
    let history = input.probes[other];
    let Some(latest) = history.fresh(policy, now) else {
        return Err(Reason::OtherUnknown.into());
    };
    if latest.outcome.counts_as_failure(policy) {
        return Err(Reason::BothUnavailable.into());
    }
    let (Some(since), Some(pivot)) = (history.reachable_since(), pivot) else {
        return Err(Reason::OtherUnknown.into());
    };
    if since <= pivot && pivot <= latest.at {
        return if input.serves[other] {
            Ok(since)
        } else {
            Err(Reason::OtherEmpty.into())
        };
    }
    // Where the other side came back only now, the active one's own schedule brings the failures that are missing.
    Err(Verdict {
        probe_now: (latest.at < pivot).then_some(other),
        ..Reason::Confirming.into()
    })
}

/// How long the target of a failover must have been reachable, after this many others within the hour.
fn damping(stable: Duration, failovers: usize) -> Duration {
    stable_wait(stable, failovers)
}

/// One failure before the threshold the other side's answer can already be asked for, so that a failover does not wait.
fn ask_early(input: &Input<'_>, now: Timestamp) -> Option<Side> {
    let policy = &input.policy.health;
    let active = input.probes[input.standing.active];
    let other = input.standing.active.other();
    let asked_before = input.probes[other].fresh(policy, now)?.at < active.last_failure()?;
    let answers = input.probes[other].reachable_since().is_some();
    (active.failures_in_row() + 1 >= policy.failure_threshold && answers && asked_before).then_some(other)
}
