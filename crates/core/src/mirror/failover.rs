//! Which side is active: one pure function over what was probed, what is known of both sides and what was decided before.
//!
//! **Failover** needs `failureThreshold` failures of the active side in a row, over [`CONFIRMATION`] at least, and an answer of the
//! other side in the middle of them: to a probe that began [`LONGEST_SKEW`] after the first of them had begun, before the last of them
//! began. That sandwich is what keeps our own network out of it: when our egress dies, the other side does not answer that late, even
//! if it was lost a little later, and when it comes back the active side answers, too. An other side that did not answer itself while the active one failed
//! must first have been reachable for a while: of two that come back, one may do so a little later. [`Decision::probe_now`] asks for
//! the answer that is missing, so the rule costs no more than that probe takes.
//!
//! The other side must also hold something that is in use: a registry that answers and has no image is nowhere to go. Each
//! automatic flip away from a failing side counts: from the third within an hour on the other side must have been reachable
//! for the stable time, doubled each time, so that two registries that fail in turn are damped as one is.
//!
//! With `failover.requireProof` proof pods must have pulled from the fallback on each node and for each namespace.
//!
//! Other replicas see the same registry from other nodes. While one of them reaches it, this one's failures are its own network's.
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
use crate::endpoint::{CONFIRMATION, Outcome, ProbeHistory, Vantage, distance, later, quiet_after};
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

/// How much longer than a probe may take another replica's answer is waited for.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// By how much our own network may lose one registry before the other.
pub const LONGEST_SKEW: Duration = Duration::from_millis(500);

/// Automatic failovers within the hour that follow a failure at once; further ones wait for a stable target.
const UNDAMPED_FAILOVERS: usize = 2;

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// What the user asked for.
    pub policy: &'a MirrorPolicy,
    /// What this process has seen of each side.
    pub probes: Sides<&'a ProbeHistory>,
    /// What other live replicas see of each side.
    pub vantages: Sides<&'a [Vantage]>,
    /// What was decided before, by whichever replica.
    pub standing: &'a Standing,
    /// Whether each side is known to hold something that is in use or, where nothing is in use, some selected tag.
    pub serves: Sides<bool>,
    /// Whether pulls from each side fail on nodes.
    pub pulls: Sides<Option<PullOutage>>,
    /// Whether proof pods could pull from the fallback on each node and for each namespace.
    pub is_proven: bool,
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
    /// The side whose answer is missing for a failover, and when the probe must begin at the earliest that brings it.
    pub probe_now: Option<(Side, Timestamp)>,
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
    probe_now: Option<(Side, Timestamp)>,
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
    match input.policy.failover.active_at(now) {
        ActiveSide::Fixed(side) if side == input.standing.active => {
            return Verdict {
                until: input.policy.failover.active_until,
                ..Reason::Overridden.into()
            };
        }
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
                let verdict = failover(input, failovers, now);
                if verdict.reason != Reason::PartiallyReachable {
                    return verdict;
                }
                // What nodes report can still say that it is down.
                verdict
            } else {
                Verdict {
                    probe_now: ask_early(input, now),
                    ..Reason::Failing.into()
                }
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

fn failover(input: &Input<'_>, failovers: &[Timestamp], now: Timestamp) -> Verdict {
    let active = input.standing.active;
    let since = match target(input, now) {
        Ok(since) => since,
        Err(verdict) => return verdict,
    };
    if let Some(missing) = missing_probe(input) {
        let probe_now = Some(missing);
        return Verdict {
            probe_now,
            ..Reason::Confirming.into()
        };
    }
    match agreement(input, now) {
        Agreement::All => {}
        Agreement::Missing(until) => {
            return Verdict {
                until: Some(until),
                ..Reason::Confirming.into()
            };
        }
        Agreement::Reached => return Reason::PartiallyReachable.into(),
    }
    if !input.serves[active.other()] {
        return Reason::OtherEmpty.into();
    }
    if lacks_proof(input) {
        return Reason::OtherNotProven.into();
    }
    let until = later(since, stable_wait(input.policy.failover.stable, failovers.len()));
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

/// Whether the user wants pulls from the fallback to be proven first, and they are not.
fn lacks_proof(input: &Input<'_>) -> bool {
    input.policy.failover.require_proof && input.standing.active == Side::Primary && !input.is_proven
}

/// Since when the other side has been reachable without a break; else why it is nowhere to go.
fn target(input: &Input<'_>, now: Timestamp) -> Result<Timestamp, Verdict> {
    let policy = &input.policy.health;
    let other = input.standing.active.other();
    let history = input.probes[other];
    let Some(latest) = history.fresh(policy, now) else {
        return Err(Reason::OtherUnknown.into());
    };
    if latest.outcome.counts_as_failure(policy) {
        return Err(Reason::BothUnavailable.into());
    }
    history.reachable_since().ok_or_else(|| Reason::OtherUnknown.into())
}

/// What other replicas say of a side that fails here.
enum Agreement {
    /// It fails for all that can say something.
    All,
    /// One has not said anything yet, and may until then.
    Missing(Timestamp),
    /// One reaches it.
    Reached,
}

/// Each live replica was asked when the first failure was seen. One that does not answer within a probe's time limit and
/// [`ANSWER_MARGIN`] does not count: it may be cut off itself.
fn agreement(input: &Input<'_>, now: Timestamp) -> Agreement {
    let active = input.standing.active;
    let Some(first) = input.probes[active].first_failure_begun() else {
        return Agreement::All;
    };
    let until = later(first, input.policy.health.timeout.saturating_add(ANSWER_MARGIN));
    let mut agreement = Agreement::All;
    for vantage in input.vantages[active] {
        match vantage {
            vantage if vantage.fails => {}
            vantage if vantage.at >= first => return Agreement::Reached,
            _ if now < until => agreement = Agreement::Missing(until),
            _ => {}
        }
    }
    agreement
}

/// The probe that is missing to say that the active side fails while the other one answers: which side's, and when it must begin at
/// the earliest.
fn missing_probe(input: &Input<'_>) -> Option<(Side, Timestamp)> {
    let policy = &input.policy.health;
    let active = input.standing.active;
    let (failing, answering) = (input.probes[active], input.probes[active.other()]);
    let (first, last) = (failing.first_failure_begun()?, failing.last_failure_begun()?);
    let since = answering.reachable_since()?;
    // Of two that fail together, one may come back later.
    let recovered = since > first;
    let settled = later(since, quiet_after(policy));
    let skewed = later(first, LONGEST_SKEW);
    let from = if recovered { skewed.max(settled) } else { skewed };
    let Some(answered) = answering.answered_since(from) else {
        return Some((active.other(), from));
    };
    let confirmed = later(first, CONFIRMATION).max(answered);
    (last < confirmed).then_some((active, confirmed))
}

/// The other side's answer is asked for after the first failure, so that a failover does not wait for it.
fn ask_early(input: &Input<'_>, now: Timestamp) -> Option<(Side, Timestamp)> {
    let other = input.standing.active.other();
    input.probes[other].fresh(&input.policy.health, now)?;
    missing_probe(input).filter(|(side, _)| *side == other)
}
