//! The stable words for why the active side is what it is.

use std::fmt;
use std::str::FromStr;

/// Why the active side changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlipReason {
    /// The primary failed while the fallback answered.
    PrimaryUnavailable,
    /// The fallback failed while the primary answered.
    FallbackUnavailable,
    /// Pods on several nodes could not pull from the active side, whatever its probes say.
    PullsFailing,
    /// The primary was stable for long enough and has everything in use.
    PrimaryRecovered,
    /// A person chose with `spec.active`.
    Requested,
}

impl FlipReason {
    /// As in status, conditions, Events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            FlipReason::PrimaryUnavailable => "PrimaryUnavailable",
            FlipReason::FallbackUnavailable => "FallbackUnavailable",
            FlipReason::PullsFailing => "PullsFailing",
            FlipReason::PrimaryRecovered => "PrimaryRecovered",
            FlipReason::Requested => "Requested",
        }
    }
}

impl FromStr for FlipReason {
    type Err = UnknownFlipReason;

    fn from_str(text: &str) -> Result<FlipReason, UnknownFlipReason> {
        const ALL: [FlipReason; 5] = [
            FlipReason::PrimaryUnavailable,
            FlipReason::FallbackUnavailable,
            FlipReason::PullsFailing,
            FlipReason::PrimaryRecovered,
            FlipReason::Requested,
        ];
        ALL.into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| UnknownFlipReason(text.to_owned()))
    }
}

/// A status that names a flip reason this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the reason of a flip: {0:?} is not one")]
pub struct UnknownFlipReason(pub String);

/// The stable part of a decision's explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The active side changed.
    Flipped(FlipReason),
    /// The active side answers, and there is nowhere better to go.
    Steady,
    /// `spec.active` holds this side.
    Overridden,
    /// No probe of the active side ended yet, or none of late.
    NotYetObserved,
    /// The active side's latest answer says nothing about its health.
    ActiveUnknown,
    /// The active side fails, not yet often enough.
    Failing,
    /// Pulls from the active side fail on nodes, and nothing flips for that: `healthCheck.onPullsFailing` is `Report`, or the pods wait
    /// for their next attempt.
    PullsFailing,
    /// The active side is down; the other one is being asked once more.
    Confirming,
    /// The active side is down, and whether the other one answers is not known.
    OtherUnknown,
    /// The active side is down, and the other one answers and holds nothing that is in use.
    OtherEmpty,
    /// The active side is down, and `failover.requireProof` asks for a proof of the other one that there is not.
    OtherNotProven,
    /// The active side is down; the other one has failed of late, too, and is not reachable for long enough.
    OtherUnstable,
    /// The active side fails for this replica, and another one reaches it from its node.
    PartiallyReachable,
    /// Both sides fail.
    BothUnavailable,
    /// On the fallback; the primary does not answer.
    WaitingForRecovery,
    /// On the fallback; the primary answers, not yet for long enough.
    WaitingForStability,
    /// On the fallback; the primary is stable, and what is in use was not found on it yet.
    WaitingForParity,
    /// On the fallback; going back is up to a person.
    ManualFailback,
}

impl Reason {
    /// As in conditions, Events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Flipped(reason) => reason.as_str(),
            Reason::Steady => "Steady",
            Reason::Overridden => "Overridden",
            Reason::NotYetObserved => "NotYetObserved",
            Reason::ActiveUnknown => "ActiveUnknown",
            Reason::Failing => "Failing",
            Reason::PullsFailing => FlipReason::PullsFailing.as_str(),
            Reason::Confirming => "Confirming",
            Reason::OtherUnknown => "OtherUnknown",
            Reason::OtherEmpty => "OtherEmpty",
            Reason::OtherNotProven => "OtherNotProven",
            Reason::OtherUnstable => "OtherUnstable",
            Reason::PartiallyReachable => "PartiallyReachable",
            Reason::BothUnavailable => "BothUnavailable",
            Reason::WaitingForRecovery => "WaitingForRecovery",
            Reason::WaitingForStability => "WaitingForStability",
            Reason::WaitingForParity => "WaitingForParity",
            Reason::ManualFailback => "ManualFailback",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
