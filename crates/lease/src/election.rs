//! The pure state machine: which record to write, and until when this process leads.
//!
//! `now` is a length on one monotonic clock of this process (its zero doesn't matter); `wall` only goes into records.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::settings::LeaseSettings;

/// The precision of the times in a record.
const MICROSECOND: Duration = Duration::from_micros(1);

/// What to do about the lease now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// There is none: create this one.
    Create(Box<Lease>),
    /// Take or renew it: replace it by this one, which carries the `resourceVersion` that was seen.
    Replace(Box<Lease>),
    /// Another process holds it.
    Wait,
}

/// One process's view of the election. See the crate's description for the rules.
#[derive(Clone, Debug)]
pub(crate) struct Election {
    settings: LeaseSettings,
    seen: Option<ObservedLease>,
    /// The last write failed or its result is unknown: what was seen may be outdated.
    doubtful: bool,
    leading_until: Option<Duration>,
}

/// The lease as last seen, and when its record was first seen so.
#[derive(Clone, Debug)]
struct ObservedLease {
    lease: Lease,
    since: Duration,
}

impl Election {
    /// Knows nothing, leads nothing.
    pub(crate) fn new(settings: LeaseSettings) -> Self {
        Self {
            settings,
            seen: None,
            doubtful: false,
            leading_until: None,
        }
    }

    /// Until when this process may act, counted from the beginning of its last successful write. May have passed.
    pub(crate) fn leading_until(&self) -> Option<Duration> {
        self.leading_until
    }

    /// Leads at `now`.
    pub(crate) fn is_leading(&self, now: Duration) -> bool {
        self.leading_until.is_some_and(|until| now < until)
    }

    /// The lease must be read before [`Election::decide`]: always, but for a leader whose last write succeeded.
    pub(crate) fn must_read(&self, now: Duration) -> bool {
        self.doubtful || self.seen.is_none() || !self.is_leading(now)
    }

    /// This process holds the lease as last seen, or may have just got it.
    pub(crate) fn may_hold(&self) -> bool {
        self.doubtful || self.holder().is_some_and(|holder| holder == self.settings.identity)
    }

    /// Who holds the lease, as last seen; an empty name means no holder.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.seen
            .as_ref()
            .map(|seen| holder(&seen.lease))
            .filter(|name| !name.is_empty())
    }

    /// A read that ended at `now` found this (`None`: there is no lease).
    pub(crate) fn observe(&mut self, lease: Option<Lease>, now: Duration) {
        self.doubtful = false;
        if lease
            .as_ref()
            .is_none_or(|lease| holder(lease) != self.settings.identity)
        {
            // Deleted or taken: the next writer may lead at once, so this process doesn't any more.
            self.leading_until = None;
        }
        self.seen = lease.map(|lease| {
            // Only the record counts: an edited label must not prolong a dead holder's time.
            let unchanged = self.seen.take().filter(|seen| seen.lease.spec == lease.spec);
            ObservedLease {
                since: unchanged.map_or(now, |seen| seen.since),
                lease,
            }
        });
    }

    /// A write that began at `begun` was accepted, and the API server answered with this.
    pub(crate) fn written(&mut self, lease: Lease, begun: Duration) {
        self.doubtful = false;
        self.leading_until = Some(begun + self.settings.timing.renew_deadline());
        self.seen = Some(ObservedLease { lease, since: begun });
    }

    /// A write failed, or its result is unknown. What was granted before stays granted until its end.
    pub(crate) fn refused(&mut self) {
        self.doubtful = true;
    }

    /// What to do at `now`, given what was observed.
    pub(crate) fn decide(&self, now: Duration, wall: Timestamp) -> Step {
        let Some(seen) = &self.seen else {
            return Step::Create(Box::new(self.first_record(wall)));
        };
        let holder = holder(&seen.lease);
        if holder == self.settings.identity {
            Step::Replace(Box::new(self.record(&seen.lease, wall, false)))
        } else if holder.is_empty() || now >= seen.since + self.lasts(&seen.lease) {
            Step::Replace(Box::new(self.record(&seen.lease, wall, true)))
        } else {
            Step::Wait
        }
    }

    /// How long to wait at `now` for the next attempt: no longer than until a foreign record expires.
    pub(crate) fn pause(&self, now: Duration) -> Duration {
        let retry = self.settings.timing.retry();
        let foreign = self.seen.as_ref().filter(|seen| {
            let holder = holder(&seen.lease);
            !holder.is_empty() && holder != self.settings.identity
        });
        let left = foreign.map(|seen| (seen.since + self.lasts(&seen.lease)).saturating_sub(now));
        // One that has expired and could not be taken is tried again at the usual pace.
        left.filter(|left| !left.is_zero())
            .map_or(retry, |left| left.min(retry))
    }

    /// Leads no more from here on. The record to write so that the next one needn't wait, if this process holds the lease.
    pub(crate) fn release(&mut self, wall: Timestamp) -> Option<Lease> {
        self.leading_until = None;
        let seen = self
            .seen
            .as_ref()
            .filter(|seen| holder(&seen.lease) == self.settings.identity)?;
        let mut lease = seen.lease.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        // The shortest that the API allows; client-go releases so too.
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(wall));
        spec.acquire_time = Some(MicroTime(wall));
        Some(lease)
    }

    /// How long a foreign record is respected: as long as it asks for, because its holder counts on that.
    fn lasts(&self, lease: &Lease) -> Duration {
        let asked = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let asked = asked
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0);
        asked.map_or(self.settings.timing.duration(), Duration::from_secs)
    }

    fn first_record(&self, wall: Timestamp) -> Lease {
        let metadata = ObjectMeta {
            name: Some(self.settings.name.clone()),
            namespace: Some(self.settings.namespace.clone()),
            owner_references: self.settings.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        let mut lease = self.record(&Lease { metadata, spec: None }, wall, true);
        lease.spec.get_or_insert_default().lease_transitions = Some(0);
        lease
    }

    fn record(&self, seen: &Lease, wall: Timestamp, taken: bool) -> Lease {
        let mut lease = seen.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.settings.identity.clone());
        spec.lease_duration_seconds = Some(whole_seconds(self.settings.timing.duration()));
        // Others see a renewal only as a change of the record, so it must change even when our wall clock stands or steps back.
        let last = spec
            .renew_time
            .take()
            .filter(|_| !taken)
            .and_then(|last| last.0.checked_add(MICROSECOND).ok());
        spec.renew_time = Some(MicroTime(last.map_or(wall, |last| last.max(wall))));
        if taken {
            spec.acquire_time = Some(MicroTime(wall));
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        lease
    }
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|LeaseSpec { holder_identity, .. }| holder_identity.as_deref())
        .unwrap_or_default()
}

/// Rounded up: others may wait longer than this process counts, never shorter.
fn whole_seconds(length: Duration) -> i32 {
    let seconds = length.as_secs() + u64::from(length.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
