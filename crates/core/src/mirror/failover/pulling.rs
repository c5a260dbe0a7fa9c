//! Failover because pulls fail on nodes.

use std::time::Duration;

use jiff::Timestamp;

use super::{FAILOVER_MEMORY, FlipReason, Input, Reason, Verdict, lacks_proof, stable_wait, target};
use crate::endpoint::later;
use crate::mirror::pulls::PullOutage;
use crate::policy::OnPullsFailing;
use crate::side::Side;

/// Failovers within the hour, whatever for, after which none follows because of pulls. A failback may follow each of them.
const MOST_FAILOVERS: usize = 2;

/// Whether pods are sent to the other side because pulls from the active one fail.
pub(super) fn failover(input: &Input<'_>, outage: PullOutage, failovers: &[Timestamp], now: Timestamp) -> Verdict {
    let about = |verdict: Verdict| Verdict {
        pulls: Some(outage),
        ..verdict
    };
    let other = input.standing.active.other();
    if input.policy.health.on_pulls_failing == OnPullsFailing::Report || !outage.is_new {
        return about(Reason::PullsFailing.into());
    }
    if input.pulls[other].is_some() {
        return about(Reason::BothUnavailable.into());
    }
    if let Err(verdict) = target_around(input, outage.pivot, now) {
        return about(verdict);
    }
    match rests_until(input, failovers).filter(|until| now < *until) {
        Some(until) => about(Verdict {
            until: Some(until),
            ..Reason::OtherUnstable.into()
        }),
        None => about(Reason::Flipped(FlipReason::PullsFailing).into()),
    }
}

/// Whether the other side was reachable from before a failed pull until after it, and holds something.
fn target_around(input: &Input<'_>, pivot: Timestamp, now: Timestamp) -> Result<(), Verdict> {
    let other = input.standing.active.other();
    let since = target(input, now)?;
    let latest = input.probes[other].latest().map(|probe| probe.at);
    if since > pivot || latest.is_none_or(|latest| latest < pivot) {
        return Err(Verdict {
            probe_now: (since <= pivot).then_some((other, pivot)),
            ..Reason::Confirming.into()
        });
    }
    if !input.serves[other] {
        Err(Reason::OtherEmpty.into())
    } else if lacks_proof(input) {
        Err(Reason::OtherNotProven.into())
    } else {
        Ok(())
    }
}

/// Until when no such failover follows: the other side was itself left for this reason, or there were enough of them.
fn rests_until(input: &Input<'_>, failovers: &[Timestamp]) -> Option<Timestamp> {
    let other = input.standing.active.other();
    let stable = input.policy.failover.stable;
    let left = left_at(input, other).map(|left| later(left, rest(stable, failovers.len())));
    let newest = failovers.iter().rev().nth(MOST_FAILOVERS - 1);
    let enough = newest.map(|at| later(*at, FAILOVER_MEMORY));
    left.into_iter().chain(enough).max()
}

/// When a side was left because pulls from it failed, if that was the latest flip.
pub(super) fn left_at(input: &Input<'_>, side: Side) -> Option<Timestamp> {
    let flip = input.standing.last_flip.as_ref()?;
    (flip.reason == FlipReason::PullsFailing && flip.from == side).then_some(flip.at)
}

/// How long a side is left that was left for this reason: twice what it would be otherwise.
pub(super) fn rest(stable: Duration, failovers: usize) -> Duration {
    stable_wait(stable, failovers.max(1) + 1)
}
