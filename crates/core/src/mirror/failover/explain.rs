//! Decisions in words. Every message names the sides, counts, instants and what is waited for.

use std::time::Duration;

use jiff::Timestamp;

use super::{FlipReason, Input, Reason, Verdict, failback_wait, pulling};
use crate::endpoint::distance;
use crate::mirror::pulls::PullOutage;
use crate::policy::{ActiveSide, OnPullsFailing};
use crate::side::Side;

pub(super) fn message(input: &Input<'_>, verdict: &Verdict, failovers: &[Timestamp], now: Timestamp) -> String {
    let active = input.standing.active;
    let other = active.other();
    match verdict.reason {
        Reason::Flipped(FlipReason::Requested) => {
            format!("spec.active asks for {}: {}", name(other), state(input, other, now))
        }
        Reason::Flipped(FlipReason::PrimaryRecovered) => {
            format!("{}; {}", reachable(input, now), check(input))
        }
        Reason::Flipped(_)
        | Reason::Confirming
        | Reason::BothUnavailable
        | Reason::OtherUnknown
        | Reason::OtherEmpty
        | Reason::OtherNotProven
        | Reason::PartiallyReachable
        | Reason::OtherUnstable => about_the_other_side(input, verdict, now),
        Reason::Overridden => {
            let side = match input.policy.failover.active {
                ActiveSide::Fixed(side) => side.as_str(),
                ActiveSide::Auto => "Auto",
            };
            let end = input.policy.failover.active_until;
            let end = end.map_or_else(String::new, |end| format!(" until {end}"));
            format!(
                "spec.active is {side}{end}, so nothing flips by itself: {}",
                state(input, active, now)
            )
        }
        Reason::Steady | Reason::NotYetObserved | Reason::ActiveUnknown => state(input, active, now),
        Reason::Failing => {
            format!(
                "{}; acting at {}",
                state(input, active, now),
                input.policy.health.failure_threshold
            )
        }
        Reason::PullsFailing => pulls_alone(input, verdict, now),
        Reason::WaitingForRecovery if input.pulls.primary.is_some() => {
            let outage = input.pulls.primary.as_ref();
            let pulls = outage.map_or_else(String::new, |outage| pulls(input, Side::Primary, outage));
            format!("serving from the fallback; {pulls}")
        }
        Reason::WaitingForRecovery => format!("serving from the fallback; {}", state(input, Side::Primary, now)),
        Reason::WaitingForStability => waiting_for_stability(input, verdict.until, failovers.len(), now),
        Reason::WaitingForParity => {
            format!("serving from the fallback; {}; {}", reachable(input, now), check(input))
        }
        Reason::ManualFailback => {
            format!(
                "serving from the fallback; failback.mode is Manual, so a person decides: {}",
                state(input, Side::Primary, now)
            )
        }
    }
}

/// Why pods are sent to the other side, or are not although the active one fails.
fn about_the_other_side(input: &Input<'_>, verdict: &Verdict, now: Timestamp) -> String {
    let active = input.standing.active;
    let other = active.other();
    let staying = match verdict.reason {
        Reason::BothUnavailable => ", so there is nowhere to go",
        Reason::OtherUnknown => ", so failing over is not safe",
        Reason::PartiallyReachable => {
            "; other replicas reach it from their nodes, so this is no outage of the registry"
        }
        Reason::OtherEmpty => " and holds nothing that is in use, so failing over would not help",
        Reason::OtherNotProven => {
            "; failover.requireProof is set and FallbackProven is not True, so nothing flips by itself"
        }
        Reason::OtherUnstable if verdict.pulls.is_some() => {
            "; after the flips of the last hour, the next one for this reason waits"
        }
        Reason::OtherUnstable => "; both sides have failed in turn, so it must be reachable for longer first",
        Reason::Confirming => "; waiting for one more answer to rule out our own network",
        _ => "",
    };
    let active = match &verdict.pulls {
        Some(outage) => pulls(input, active, outage),
        None => state(input, active, now),
    };
    let other = match &input.pulls[other] {
        Some(outage) => pulls(input, other, outage),
        None => state(input, other, now),
    };
    format!("{active}; {other}{staying}")
}

/// Pulls fail, and nothing follows from that.
fn pulls_alone(input: &Input<'_>, verdict: &Verdict, now: Timestamp) -> String {
    let active = input.standing.active;
    let outage = verdict.pulls.as_ref();
    let pulls = outage.map_or_else(|| state(input, active, now), |outage| pulls(input, active, outage));
    let why = match input.policy.health.on_pulls_failing {
        OnPullsFailing::Report => "healthCheck.onPullsFailing is Report, so nothing flips",
        OnPullsFailing::Failover => "the pods wait for their next attempt",
    };
    format!("{pulls}; {why}")
}

fn waiting_for_stability(input: &Input<'_>, until: Option<Timestamp>, failovers: usize, now: Timestamp) -> String {
    let wait = in_words(failback_wait(input, failovers));
    let why = match failovers {
        _ if pulling::left_at(input, Side::Primary).is_some() => {
            format!("for {wait} after the flip, because pulls from it failed while probes passed")
        }
        0 | 1 => format!("for {wait}"),
        count => format!("for {wait} after {count} failovers within an hour"),
    };
    let end = match until {
        Some(until) => format!("until {}", instant(until)),
        None => format!("for {} successes in a row", input.policy.health.success_threshold),
    };
    format!(
        "serving from the fallback; {}, and must be {why}: waiting {end}",
        reachable(input, now)
    )
}

fn reachable(input: &Input<'_>, now: Timestamp) -> String {
    let primary = input.probes.primary;
    match primary.reachable_since() {
        Some(since) => format!(
            "the primary {} has been reachable without a break since {} ({})",
            input.policy.sides.primary.registry,
            instant(since),
            in_words(distance(since, now)),
        ),
        None => state(input, Side::Primary, now),
    }
}

fn check(input: &Input<'_>) -> String {
    let since = input.probes.primary.reachable_since();
    match &input.check {
        Some(check) if since.is_some_and(|since| check.begun >= since) => {
            format!("the check at {} found: {}", instant(check.begun), check.detail)
        }
        _ => "everything in use is being looked for on the primary".to_owned(),
    }
}

/// What nodes report of one side, in a clause: `pulls from the primary kracr.azurecr.io fail on nodes since …`.
fn pulls(input: &Input<'_>, side: Side, outage: &PullOutage) -> String {
    let failing = &outage.failing;
    format!(
        "at least {} pods on {} node{} can't pull from {} {} since {}: {}",
        failing.pods,
        failing.nodes,
        if failing.nodes == 1 { "" } else { "s" },
        name(side),
        input.policy.sides[side].registry,
        instant(failing.since),
        failing.kind.as_str(),
    )
}

/// One side's health in a clause: `the primary kracr.azurecr.io failed 3 probes in a row since …: GET …: refused`.
fn state(input: &Input<'_>, side: Side, now: Timestamp) -> String {
    let history = input.probes[side];
    let subject = format!("{} {}", name(side), input.policy.sides[side].registry);
    let Some(latest) = history.latest() else {
        return format!("{subject} has not been probed yet");
    };
    if history.fresh(&input.policy.health, now).is_none() {
        return format!(
            "{subject} was last probed at {} ({} ago)",
            instant(latest.at),
            ago(latest.at, now)
        );
    }
    if let Some(since) = history.reachable_since() {
        return format!("{subject} is reachable since {}", instant(since));
    }
    match history.failing_since() {
        Some(since) if latest.outcome.counts_as_failure(&input.policy.health) => {
            let count = history.failures_in_row();
            let probes = if count == 1 {
                "1 probe".to_owned()
            } else {
                format!("{count} probes in a row")
            };
            format!("{subject} failed {probes} since {}: {}", instant(since), latest.message)
        }
        _ => format!(
            "{subject} answers with {}, which does not say whether it works: {}",
            latest.outcome.as_str(),
            latest.message
        ),
    }
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Primary => "the primary",
        Side::Fallback => "the fallback",
    }
}

/// Whole seconds in UTC, as everywhere in status.
fn instant(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    in_words(distance(at, now))
}

/// `42 s`, `5 min`, `5 min 3 s`, `1 h 20 min`.
fn in_words(length: Duration) -> String {
    let seconds = length.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
