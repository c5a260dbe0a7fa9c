//! What the probes of one side say about it.
//!
//! A probe's [`Outcome`] belongs to one of three classes. Only `Unavailable`, and what the user lists as triggers,
//! counts as a failure; everything else says nothing about whether the registry works, so it neither adds to a run of
//! failures nor ends it. It does end a run of successes: nothing was proven reachable.
//!
//! Refusals that are triggers (401, 403, 429) count otherwise: by their share among all readings ([`refusals`]).
//!
//! A run of failures ends with a success, or when no counted failure came for [`quiet_after`] plus one time-out. Without
//! the second rule single lost probes would add up over hours of 401s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::policy::HealthPolicy;

mod machine;
mod outcome;
mod refusals;
mod subjects;
mod targets;
#[cfg(test)]
mod tests;
mod vantage;

pub use machine::{ClientProblem, Ended, Endpoint, Input, Layer, Output, Pace, Reading, Send, Watch, Watcher};
pub use targets::Target;
pub use vantage::{GONE_AFTER, Report, Vantage, Vantages};

use outcome::Class;
pub use outcome::{Availability, Outcome, Unavailable, UnknownReason};
use refusals::Refusals;

/// The longest time that a registry's Retry-After can keep us from probing.
pub const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// How long a side must be seen failing before a failover: shorter interruptions, and a network of our own that loses one registry
/// somewhat before the other, flip nothing.
pub const CONFIRMATION: Duration = Duration::from_millis(700);

/// Successes that are remembered with their times.
const REMEMBERED: usize = 8;

/// One finished probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// What it found.
    pub outcome: Outcome,
    /// For people: `GET https://kracr.azurecr.io/v2/: connection refused`.
    pub message: Arc<str>,
}

/// The age from which a side's latest probe says nothing any more: three periods, or three timeouts where these are longer (a side
/// that is probed one timeout after the other has not gone quiet).
pub fn quiet_after(policy: &HealthPolicy) -> Duration {
    policy.period.max(policy.timeout).saturating_mul(3)
}

/// The probes of one side, condensed: the latest one and the runs it belongs to. Of bounded size.
#[derive(Clone, Debug, Default)]
pub struct ProbeHistory {
    latest: Option<Probe>,
    failures: u32,
    /// The first and the last failure of the run.
    first_failure: Option<Span>,
    last_failure: Option<Span>,
    /// When the earliest probe of the run began: one that times out ends after those that are refused.
    failing_from: Option<Timestamp>,
    /// Probes that were recorded, at most as many as matter.
    recorded: u32,
    successes: u32,
    reachable_since: Option<Timestamp>,
    /// The last successes of the run, newest last.
    answered: VecDeque<Span>,
    unclear: u32,
    throttled: u32,
    refusals: Refusals,
    standing: Option<Availability>,
}

/// When a probe began and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    begun: Timestamp,
    ended: Timestamp,
}

impl Span {
    fn of(probe: &Probe) -> Span {
        Span {
            begun: probe.begun,
            ended: probe.at,
        }
    }
}

impl ProbeHistory {
    /// A history without probes.
    pub fn new() -> ProbeHistory {
        ProbeHistory::default()
    }

    /// Takes in a finished probe. Probes are recorded in the order in which they ended.
    pub fn record(&mut self, probe: Probe, policy: &HealthPolicy) {
        let throttled = matches!(probe.outcome, Outcome::Throttled { .. });
        self.throttled = if throttled { self.throttled.saturating_add(1) } else { 0 };
        let class = probe.outcome.class(policy);
        let refusal = if let Class::Refusal(kind, _) = class {
            Some(kind)
        } else {
            None
        };
        if policy.counts_refusals() {
            self.refusals.record(probe.begun, refusal);
        } else {
            self.refusals = Refusals::default();
        }
        match class {
            Class::Success => self.succeed(Span::of(&probe), policy),
            Class::Failure(kind) => self.fail(Span::of(&probe), kind, policy),
            Class::Unclear(reason) => self.stay_unclear(reason, policy),
            Class::Refusal(kind, reason) => {
                self.stay_unclear(reason, policy);
                if self.refusals.lasting().is_some() {
                    self.standing = Some(Availability::Unavailable(kind));
                }
            }
        }
        self.recorded = self.recorded.saturating_add(1);
        self.latest = Some(probe);
    }

    /// Whether the latest probe is one of as many failures as `policy` asks for.
    pub fn has_failed(&self, policy: &HealthPolicy) -> bool {
        let class = self.latest.as_ref().map(|probe| probe.outcome.class(policy));
        match class {
            Some(Class::Refusal(kind, _)) => self.refusals.lasting() == Some(kind),
            _ => self.failures >= policy.failure_threshold,
        }
    }

    /// Whether the latest probe was refused in a way that counts, and it is not known yet that this lasts.
    pub fn is_refused_of_late(&self, policy: &HealthPolicy) -> bool {
        let class = self.latest.as_ref().map(|probe| probe.outcome.class(policy));
        matches!(class, Some(Class::Refusal(..))) && !self.has_failed(policy)
    }

    /// Whether this is more than a first reading: one alone, as a new process has it, is never acted on.
    pub fn is_experienced(&self) -> bool {
        self.recorded > 1
    }

    fn succeed(&mut self, probe: Span, policy: &HealthPolicy) {
        if !self.heard_within(quiet_after(policy), probe.ended) {
            self.break_successes();
        }
        self.successes = self.successes.saturating_add(1);
        self.reachable_since.get_or_insert(probe.ended);
        if self.answered.len() >= REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(probe);
        self.end_failures();
        self.unclear = 0;
        let down = matches!(self.standing, Some(Availability::Unavailable(_)));
        if !down || self.successes >= policy.success_threshold {
            self.standing = Some(Availability::Available);
        }
    }

    fn fail(&mut self, probe: Span, kind: Unavailable, policy: &HealthPolicy) {
        self.break_successes();
        self.unclear = 0;
        let patience = quiet_after(policy).saturating_add(policy.timeout);
        if self
            .last_failure
            .is_some_and(|last| distance(last.ended, probe.ended) > patience)
        {
            self.end_failures();
        }
        self.failures = self.failures.saturating_add(1);
        self.first_failure.get_or_insert(probe);
        self.failing_from = Some(self.failing_from.map_or(probe.begun, |from| from.min(probe.begun)));
        self.last_failure = Some(probe);
        if self.failures >= policy.failure_threshold {
            self.standing = Some(Availability::Unavailable(kind));
        }
    }

    /// A rate limit is believed at once, because from now on we hear little; other answers that say nothing about the
    /// registry must persist before what was known is given up.
    fn stay_unclear(&mut self, reason: UnknownReason, policy: &HealthPolicy) {
        self.break_successes();
        self.unclear = self.unclear.saturating_add(1);
        let known = matches!(
            self.standing,
            Some(Availability::Available | Availability::Unavailable(_))
        );
        if !known || reason == UnknownReason::RateLimited || self.unclear >= policy.failure_threshold {
            self.standing = Some(Availability::Unknown(reason));
        }
    }

    /// Whether the latest probes, as many as `failureThreshold`, say nothing about the registry.
    pub fn is_unclear(&self, policy: &HealthPolicy) -> bool {
        self.unclear >= policy.failure_threshold
    }

    fn break_successes(&mut self) {
        self.successes = 0;
        self.reachable_since = None;
        self.answered.clear();
    }

    fn end_failures(&mut self) {
        self.failures = 0;
        self.first_failure = None;
        self.failing_from = None;
        self.last_failure = None;
    }

    /// The probe that ended last.
    pub fn latest(&self) -> Option<&Probe> {
        self.latest.as_ref()
    }

    /// The latest probe, unless it is older than [`quiet_after`]: from the end of the backoff, where the registry limits requests.
    pub fn fresh(&self, policy: &HealthPolicy, now: Timestamp) -> Option<&Probe> {
        let quiet = quiet_after(policy);
        self.latest.as_ref().filter(|probe| {
            let backoff = match probe.outcome {
                // It is not asked again before that.
                Outcome::Throttled { retry_after } => backoff(policy.period, self.throttled, retry_after),
                _ => Duration::ZERO,
            };
            distance(probe.at, now) <= quiet.saturating_add(backoff)
        })
    }

    fn heard_within(&self, limit: Duration, at: Timestamp) -> bool {
        self.latest
            .as_ref()
            .is_some_and(|probe| distance(probe.at, at) <= limit)
    }

    /// Counted failures since the last success; of refusals, those in a row.
    pub fn failures_in_row(&self) -> u32 {
        let refused = self.refusals.row();
        refused.map_or(self.failures, |(_, count)| count)
    }

    /// When the first failure of the run ended.
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.refusals
            .row()
            .map(|(since, _)| since)
            .or(self.first_failure.map(|first| first.ended))
    }

    /// When the first probe of the run of failures began, which need not be the first that ended.
    pub fn first_failure_begun(&self) -> Option<Timestamp> {
        self.refusals.row().map(|(since, _)| since).or(self.failing_from)
    }

    /// When the probe began whose failure is the last of the run.
    pub fn last_failure_begun(&self) -> Option<Timestamp> {
        self.refusals.last().or(self.last_failure.map(|last| last.begun))
    }

    /// When the first answer came, within the present run of successes, of a probe that began at `from` or later.
    pub fn answered_since(&self, from: Timestamp) -> Option<Timestamp> {
        let answer = self.answered.iter().find(|answer| answer.begun >= from);
        answer.map(|answer| answer.ended)
    }

    /// Successes since anything else.
    pub fn successes_in_row(&self) -> u32 {
        self.successes
    }

    /// Since when the side was reachable without a break: no other outcome, and never quiet.
    pub fn reachable_since(&self) -> Option<Timestamp> {
        self.reachable_since
    }

    /// Whether the side serves, with hysteresis: it goes after `failureThreshold` failures and comes back after
    /// `successThreshold` successes. Does not know the time.
    pub fn availability(&self) -> Availability {
        self.standing
            .unwrap_or(Availability::Unknown(UnknownReason::NotYetObserved))
    }
}

/// How long a registry is left alone that has refused so many probes in a row because of their number.
fn backoff(period: Duration, throttled: u32, retry_after: Option<Duration>) -> Duration {
    let doubled = period.saturating_mul(1 << throttled.clamp(1, 16));
    let least = period.saturating_mul(2);
    retry_after
        .map_or(doubled, |told| told.max(least))
        .min(LONGEST_BACKOFF.max(period))
}

/// The time between two instants, whichever comes first: a clock that jumps either way makes a history old.
pub(crate) fn distance(one: Timestamp, other: Timestamp) -> Duration {
    other.duration_since(one).unsigned_abs()
}

/// `at` plus `length`, or the end of time.
pub(crate) fn later(at: Timestamp, length: Duration) -> Timestamp {
    SignedDuration::try_from(length)
        .ok()
        .and_then(|length| at.checked_add(length).ok())
        .unwrap_or(Timestamp::MAX)
}
