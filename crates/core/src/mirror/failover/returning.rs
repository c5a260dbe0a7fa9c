//! Failback: when the primary is stable enough to go back to.

use std::time::Duration;

use jiff::Timestamp;

use super::{FAILOVER_MEMORY, FlipReason, Input, LONGEST_PROOF, Reason, Verdict, pulling};
use crate::endpoint::{distance, later};
use crate::policy::FailbackMode;
use crate::side::Side;

/// How long the primary must have been reachable before a failback: the stable time, doubled for each failover within the
/// last hour but the first, at most an hour (or the stable time where that is longer).
pub(super) fn stable_wait(stable: Duration, failovers: usize) -> Duration {
    let doublings = u32::try_from(failovers.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    stable.saturating_mul(1 << doublings).min(FAILOVER_MEMORY.max(stable))
}

/// How long this failback waits: twice as long where the primary was left because pulls from it failed.
pub(super) fn failback_wait(input: &Input<'_>, failovers: usize) -> Duration {
    let stable = input.policy.failover.stable;
    match pulling::left_at(input, Side::Primary) {
        Some(_) => pulling::rest(stable, failovers),
        None => stable_wait(stable, failovers),
    }
}

/// Whether pods go back to the primary, and what that waits for.
pub(super) fn failback(input: &Input<'_>, failovers: &[Timestamp], now: Timestamp) -> Verdict {
    if input.policy.failover.failback == FailbackMode::Manual {
        return Reason::ManualFailback.into();
    }
    let policy = &input.policy.health;
    let primary = input.probes.primary;
    let (Some(since), Some(_)) = (primary.reachable_since(), primary.fresh(policy, now)) else {
        return Reason::WaitingForRecovery.into();
    };
    // What probes say now, they said while pulls failed.
    let begun = pulling::left_at(input, Side::Primary).map_or(since, |left| left.max(since));
    let until = later(begun, failback_wait(input, failovers.len()));
    if now < until {
        return Verdict {
            until: Some(until),
            ..Reason::WaitingForStability.into()
        };
    }
    if input.pulls.primary.is_some() {
        return Reason::WaitingForRecovery.into();
    }
    if primary.successes_in_row() < policy.success_threshold {
        return Reason::WaitingForStability.into();
    }
    let proof = input
        .check
        .as_ref()
        .filter(|check| check.begun >= since && distance(check.ended, now) <= LONGEST_PROOF);
    match proof {
        Some(check) if check.passed => Reason::Flipped(FlipReason::PrimaryRecovered).into(),
        _ => Verdict {
            check_now: true,
            ..Reason::WaitingForParity.into()
        },
    }
}
