//! When an endpoint is probed, and how thoroughly.

use std::time::Duration;

use jiff::Timestamp;

use super::{HEDGE_GAP, Outcome, Pace, Probe, backoff, distance, later};

/// One probe in so many reads the first byte of a blob too: a dead blob host is seen within three intervals.
const BLOB_EVERY: u64 = 3;

/// One probe in so many gets a token of its own, which takes two more requests: at the default period one a minute, so that with them
/// no minute has more than 30, and what gives out tokens is seen to fail in that time.
const TOKEN_EVERY: u64 = 27;

/// Before a probe that takes long is suspect, at least: and twice of what is usual.
const LEAST_SLOW: Duration = Duration::from_millis(300);

/// What is usual, before anything is known.
const USUAL: Duration = Duration::from_millis(400);

/// How long a slow probe raises no alarm after one that meant nothing.
const ALARM_PAUSE: Duration = Duration::from_secs(10);

/// Between two probes that somebody waits for.
const LEAST_GAP: Duration = Duration::from_millis(100);

/// Between two probes that are merely to come soon.
const SOON: Duration = Duration::from_millis(500);

/// What a probe asks for besides a manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) blob: bool,
    pub(super) fresh_token: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    period: Duration,
    pace: Pace,
    last_begun: Option<Timestamp>,
    sent: u64,
    /// When the next probe is wanted, and the last time for which one is.
    wanted: Option<(Timestamp, Timestamp)>,
    wanted_soon: bool,
    /// No probe begins for so long from then on: the registry limits our requests.
    held: Option<(Timestamp, Duration)>,
    throttled: u32,
    usual: Duration,
    alarmed: Option<Timestamp>,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            period: Duration::from_secs(2),
            pace: Pace::default(),
            last_begun: None,
            sent: 0,
            wanted: None,
            wanted_soon: false,
            held: None,
            throttled: 0,
            usual: USUAL,
            alarmed: None,
        }
    }
}

impl Schedule {
    pub(super) fn set_period(&mut self, period: Option<Duration>) {
        if let Some(period) = period {
            self.period = period;
        }
    }

    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Has a probe begin at this time, or at once where it has passed.
    pub(super) fn want(&mut self, at: Timestamp) {
        let (next, last) = self.wanted.unwrap_or((at, at));
        self.wanted = Some((next.min(at), last.max(at)));
    }

    /// Has the next probe begin soon: many may ask for that at the same time.
    pub(super) fn want_soon(&mut self) {
        self.wanted_soon = true;
    }

    /// Between the beginnings of two probes: an eighth more than the period, because some probes take more than one request.
    fn interval(&self) -> Duration {
        (self.period + self.period / 8).saturating_mul(self.pace.share.clamp(1, 2))
    }

    /// When a probe is due. `busy`: others are under way.
    pub(super) fn due(&self, busy: bool, suspect: bool, now: Timestamp) -> Option<Timestamp> {
        let Some(last) = self.last_begun else {
            return Some(now);
        };
        if let Some((from, length)) = self.held
            && distance(from, now) < length
        {
            return Some(later(from, length));
        }
        // A clock that was set back must not silence the probes.
        if last > now {
            return Some(now);
        }
        let wanted = self.wanted.map(|(next, _)| next.max(later(last, LEAST_GAP)));
        let hedge = suspect.then(|| later(last, HEDGE_GAP));
        let soon = self.wanted_soon.then(|| later(last, SOON));
        let slot = (!busy && !suspect).then(|| self.slot_after(last));
        [wanted, hedge, soon, slot].into_iter().flatten().min()
    }

    /// The first slot at least half an interval later.
    fn slot_after(&self, last: Timestamp) -> Timestamp {
        let interval = i64::try_from(self.interval().as_millis()).unwrap_or(i64::MAX).max(1);
        let phase = interval.saturating_mul(i64::from(self.pace.phase.min(1_000))) / 1_000;
        let from = last.as_millisecond().saturating_add(interval / 2).saturating_sub(phase);
        let slot = (from.div_euclid(interval) + 1)
            .saturating_mul(interval)
            .saturating_add(phase);
        Timestamp::from_millisecond(slot).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn begin(&mut self, now: Timestamp) -> Kind {
        self.last_begun = Some(now);
        self.wanted = self
            .wanted
            .filter(|(_, last)| *last > now)
            .map(|(next, last)| (if next > now { next } else { last }, last));
        self.wanted_soon = false;
        let sent = self.sent;
        self.sent = sent.wrapping_add(1);
        Kind {
            blob: sent.is_multiple_of(BLOB_EVERY),
            // Not together with a blob, which would have the manifest read as well.
            fresh_token: sent % TOKEN_EVERY == 1,
        }
    }

    pub(super) fn ended(&mut self, probe: &Probe, now: Timestamp) {
        let Outcome::Throttled { retry_after } = probe.outcome else {
            self.throttled = 0;
            self.held = None;
            return;
        };
        self.throttled = self.throttled.saturating_add(1);
        self.held = Some((now, backoff(self.period, self.throttled, retry_after)));
    }

    /// A success that took so long.
    pub(super) fn succeeded(&mut self, took: Duration) {
        self.usual = (self.usual * 7 + took) / 8;
    }

    /// A probe that takes long has raised an alarm.
    pub(super) fn alarmed(&mut self, now: Timestamp) {
        self.alarmed = Some(now);
    }

    /// When a probe that began then is slow; none where that says nothing.
    pub(super) fn slow_at(&self, begun: Timestamp, timeout: Duration) -> Option<Timestamp> {
        let slow = self.usual.saturating_mul(2).max(LEAST_SLOW).min(timeout / 2);
        let at = later(begun, slow);
        let quiet = self.alarmed.is_some_and(|alarmed| distance(alarmed, at) < ALARM_PAUSE);
        (!quiet).then_some(at)
    }
}
