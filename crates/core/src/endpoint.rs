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

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::policy::HealthPolicy;

mod outcome;
mod refusals;
#[cfg(test)]
mod tests;

use outcome::Class;
pub use outcome::{Availability, Outcome, Unavailable, UnknownReason};
use refusals::Refusals;

/// The longest time that a registry's Retry-After can keep us from probing.
pub const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// The pause after a failed probe while the threshold is not met. With a period of 2 s and a threshold of 3 a registry
/// that refuses is known to be down within 2 + 0.75 + 0.75 s.
pub const REPROBE_GAP: Duration = Duration::from_millis(750);

/// The same after a time-out, which is a pause of its own. At the defaults a black hole is known to be one within
/// 2 + 3 * 2 + 2 * 0.25 s.
pub const REPROBE_GAP_AFTER_TIMEOUT: Duration = Duration::from_millis(250);

/// One probe in so many reads the first byte of a blob too.
const BLOB_EVERY: u32 = 5;

/// One finished probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it ended.
    pub at: Timestamp,
    /// What it found.
    pub outcome: Outcome,
    /// For people: `GET https://kracr.azurecr.io/v2/: connection refused`.
    pub message: String,
}

/// The age from which a side's latest probe says nothing any more: two periods, or two time-outs where these are longer
/// (a side that is probed one time-out after the other has not gone quiet).
pub fn quiet_after(policy: &HealthPolicy) -> Duration {
    policy.period.max(policy.timeout).saturating_mul(2)
}

/// The probes of one side, condensed: the latest one and the runs it belongs to. Of bounded size.
#[derive(Clone, Debug, Default)]
pub struct ProbeHistory {
    latest: Option<Probe>,
    failures: u32,
    /// When the first, the last but one and the last failure of the run ended.
    failing_since: Option<Timestamp>,
    previous_failure: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    /// Probes that were recorded, at most as many as matter.
    recorded: u32,
    successes: u32,
    reachable_since: Option<Timestamp>,
    unclear: u32,
    throttled: u32,
    since_blob: u32,
    refusals: Refusals,
    standing: Option<Availability>,
}

impl ProbeHistory {
    /// A history without probes.
    pub fn new() -> ProbeHistory {
        ProbeHistory::default()
    }

    /// Takes in a finished probe. Probes are recorded in the order in which they ended.
    pub fn record(&mut self, probe: Probe, policy: &HealthPolicy) {
        self.since_blob = if self.wants_blob() { 1 } else { self.since_blob + 1 };
        let throttled = matches!(probe.outcome, Outcome::Throttled { .. });
        self.throttled = if throttled { self.throttled.saturating_add(1) } else { 0 };
        let class = probe.outcome.class(policy);
        let refusal = if let Class::Refusal(kind, _) = class {
            Some(kind)
        } else {
            None
        };
        if policy.counts_refusals() {
            self.refusals.record(probe.at, refusal);
        } else {
            self.refusals = Refusals::default();
        }
        match class {
            Class::Success => self.succeed(probe.at, policy),
            Class::Failure(kind) => self.fail(probe.at, kind, policy),
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

    fn succeed(&mut self, at: Timestamp, policy: &HealthPolicy) {
        if !self.heard_within(quiet_after(policy), at) {
            self.break_successes();
        }
        self.successes = self.successes.saturating_add(1);
        self.reachable_since.get_or_insert(at);
        self.end_failures();
        self.unclear = 0;
        let down = matches!(self.standing, Some(Availability::Unavailable(_)));
        if !down || self.successes >= policy.success_threshold {
            self.standing = Some(Availability::Available);
        }
    }

    fn fail(&mut self, at: Timestamp, kind: Unavailable, policy: &HealthPolicy) {
        self.break_successes();
        self.unclear = 0;
        let patience = quiet_after(policy).saturating_add(policy.timeout);
        if self.last_failure.is_some_and(|last| distance(last, at) > patience) {
            self.end_failures();
        }
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(at);
        self.previous_failure = self.last_failure;
        self.last_failure = Some(at);
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
    }

    fn end_failures(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.previous_failure = None;
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
                Outcome::Throttled { retry_after } => self.backoff(retry_after, policy),
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
        self.refusals.row().map(|(since, _)| since).or(self.failing_since)
    }

    /// When the last failure of the run but one ended. Any later one was begun after that.
    pub fn previous_failure(&self) -> Option<Timestamp> {
        self.refusals.previous().or(self.previous_failure)
    }

    /// When the last failure of the run ended.
    pub fn last_failure(&self) -> Option<Timestamp> {
        self.refusals.last().or(self.last_failure)
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

    /// When the next probe is to begin; `now` or earlier means at once. Pauses run from the end of a probe, so that a
    /// slow registry is not asked more often.
    pub fn next_probe(&self, policy: &HealthPolicy, now: Timestamp) -> Timestamp {
        let Some(latest) = &self.latest else { return now };
        let pause = match latest.outcome {
            Outcome::Throttled { retry_after } => self.backoff(retry_after, policy),
            outcome
                if matches!(outcome.class(policy), Class::Failure(_)) && self.failures < policy.failure_threshold =>
            {
                let gap = match outcome {
                    Outcome::Unavailable(Unavailable::Timeout) => REPROBE_GAP_AFTER_TIMEOUT,
                    _ => REPROBE_GAP,
                };
                gap.min(policy.period)
            }
            _ => policy.period,
        };
        // A clock that was set back must not silence the probes.
        if now < latest.at && distance(latest.at, now) >= pause {
            now
        } else {
            later(latest.at, pause)
        }
    }

    fn backoff(&self, retry_after: Option<Duration>, policy: &HealthPolicy) -> Duration {
        let doubled = policy.period.saturating_mul(1 << self.throttled.clamp(1, 16));
        let least = policy.period.saturating_mul(2);
        retry_after
            .map_or(doubled, |told| told.max(least))
            .min(LONGEST_BACKOFF.max(policy.period))
    }

    /// Whether the next probe should also read the first byte of a blob: every fifth, and every one after a failure.
    /// Not after a rate limit: there the registry asked for less.
    pub fn wants_blob(&self) -> bool {
        match &self.latest {
            None => true,
            Some(probe) => match probe.outcome {
                Outcome::Reachable | Outcome::Throttled { .. } => self.since_blob >= BLOB_EVERY,
                _ => true,
            },
        }
    }
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
