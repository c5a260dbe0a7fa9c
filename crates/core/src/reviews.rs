//! Whether the API server asks the webhook at all: pods that are created, against admission reviews that arrive.
//!
//! A webhook that is never called is silent: pods are created without it (`failurePolicy: Ignore`), and nothing fails. Each replica
//! counts its reviews and reports them to the others. The API server may call one replica alone, so only all of them together
//! say that none is called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// A review this short a time before belongs to the pod that is seen now, or to one that was created with it.
const RELATED: Duration = Duration::from_secs(30);

/// Silence is reported after this time, so that a review which another replica reports late is in time.
const REPORTED_AFTER: Duration = Duration::from_mins(10);

/// Pods that silence is about at least: one alone may have been left out by a selector of the cluster's.
const LEAST_PODS: u64 = 3;

/// Pods were created, and no review has reached any replica since the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// For how long.
    pub lasts: Duration,
    /// How many pods were created.
    pub pods: u64,
}

/// Holds pods against reviews. `now` is any monotonic time, the same for all calls.
#[derive(Debug, Default)]
pub struct ReviewWatch {
    /// The reviews of each replica so far; none for one of a version that does not say.
    counts: BTreeMap<Arc<str>, Option<u64>>,
    latest: Option<Duration>,
    /// When the first pod without a review was seen, and how many were.
    unasked: Option<(Duration, u64)>,
}

impl ReviewWatch {
    /// A replica has counted so many reviews.
    pub fn counted(&mut self, replica: &Arc<str>, count: Option<u64>, now: Duration) {
        let before = self.counts.insert(Arc::clone(replica), count);
        // A replica that does not say may have been asked.
        let is_asked = count.is_none_or(|count| count > before.flatten().unwrap_or(0));
        if is_asked {
            self.latest = Some(now);
            self.unasked = None;
        }
    }

    /// A replica is gone.
    pub fn gone(&mut self, replica: &str) {
        self.counts.remove(replica);
    }

    /// A pod was created that the webhook should have been asked about.
    pub fn created(&mut self, now: Duration) {
        if self.latest.is_some_and(|latest| now.saturating_sub(latest) < RELATED) {
            return;
        }
        let (_, pods) = self.unasked.get_or_insert((now, 0));
        *pods += 1;
    }

    /// Forgets the pods that were seen: another replica led since, and saw others.
    pub fn restart(&mut self) {
        self.unasked = None;
    }

    /// Silence that is worth reporting.
    pub fn silence(&self, now: Duration) -> Option<Silence> {
        let (since, pods) = self.unasked?;
        let lasts = now.saturating_sub(since);
        (lasts >= REPORTED_AFTER && pods >= LEAST_PODS).then_some(Silence { lasts, pods })
    }
}
