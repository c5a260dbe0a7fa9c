//! What every connection shares: the view of the mirrors, the operator's own user, and the counters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use catamaran_core::routing::RouteTable;

use crate::metrics::{Metrics, Outcome, Tally};
use crate::review::{Reviewed, overloaded, panicked, review};

/// How old a view may get before Pods are left as they are. Watches time out within 30 s, so a feed that is well is
/// heard from twice in that time.
pub const LONGEST_SILENCE: Duration = Duration::from_mins(1);

/// The mirrors as this replica sees them, and when the feed last proved that it is alive.
#[derive(Debug)]
pub struct View {
    table: ArcSwap<RouteTable>,
    origin: Instant,
    /// Milliseconds from `origin`, plus one; zero while nothing was heard.
    heard: AtomicU64,
}

impl View {
    /// A view that has heard nothing yet: it is stale.
    pub fn new(now: Instant) -> Self {
        View {
            table: ArcSwap::from_pointee(RouteTable::empty()),
            origin: now,
            heard: AtomicU64::new(0),
        }
    }

    /// Replaces the mirrors. Reviews that have begun finish with the table that they began with. It proves nothing about how
    /// fresh the view is: one watch may bring news while another is dead.
    pub fn publish(&self, table: Arc<RouteTable>) {
        self.table.store(table);
    }

    /// The feed was heard from: what is published was still true at `now`. Never goes back in time.
    pub fn touch(&self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX - 1);
        self.heard.fetch_max(millis + 1, Ordering::Release);
    }

    /// How long ago the feed was heard from; `None` if never.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let heard = self.heard.load(Ordering::Acquire).checked_sub(1)?;
        Some(
            now.saturating_duration_since(self.origin)
                .saturating_sub(Duration::from_millis(heard)),
        )
    }

    /// The current table, however old.
    pub fn table(&self) -> Arc<RouteTable> {
        self.table.load_full()
    }

    fn fresh(&self, now: Instant) -> Option<Guard<Arc<RouteTable>>> {
        (self.age(now)? <= LONGEST_SILENCE).then(|| self.table.load())
    }
}

/// Answers reviews.
#[derive(Debug)]
pub struct Admission {
    view: Arc<View>,
    own_user: String,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Answers from `view`, counts into `metrics`. What the operator itself changes, as the user
    /// `system:serviceaccount:<namespace>:<name>`, is left as it is.
    pub fn new(view: Arc<View>, own_user: String, metrics: Arc<Metrics>) -> Self {
        Admission {
            view,
            own_user,
            metrics,
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers one review that was in memory at `now`. Whatever happens, the answer allows the request.
    pub fn review(&self, body: &[u8], now: Instant) -> Reviewed {
        let reviewed = guarded(body, |body| {
            let table = self.view.fresh(now);
            review(body, table.as_deref().map(|table| &**table), &self.own_user)
        });
        self.metrics.reviewed(reviewed.outcome, &reviewed.images, now.elapsed());
        reviewed
    }

    /// Answers a review that there is no room or no time for, by its beginning: the object is admitted as it is.
    pub(crate) fn overloaded(&self, beginning: &[u8], begun: Instant) -> Reviewed {
        let reviewed = guarded(beginning, overloaded);
        self.metrics
            .reviewed(reviewed.outcome, &reviewed.images, begun.elapsed());
        reviewed
    }
}

/// Runs a review; a panic becomes an answer that allows the request.
fn guarded(body: &[u8], review: impl Fn(&[u8]) -> Reviewed) -> Reviewed {
    // Nothing that a review could leave half done is shared: it only reads.
    catch_unwind(AssertUnwindSafe(|| review(body)))
        .or_else(|_| catch_unwind(|| panicked(body)))
        .unwrap_or_else(|_| last_resort())
}

/// The answer when even looking for the uid panics: the API server can't match it and admits by its failure policy.
fn last_resort() -> Reviewed {
    let response = crate::answer::Answer::default().write();
    Reviewed {
        response,
        outcome: Outcome::Panicked,
        images: Tally::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_answered_with_the_uid_and_allowed() {
        let body = br#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","object":null}}"#;
        let reviewed = guarded(body, |_| panic!("a bug"));
        assert_eq!(reviewed.outcome, Outcome::Panicked);
        let answer: serde_json::Value = serde_json::from_slice(&reviewed.response).unwrap();
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["allowed"], true);
        assert!(
            answer["response"]["warnings"][0].as_str().unwrap().contains("bug"),
            "{answer}"
        );
    }

    #[test]
    fn a_view_ages_until_it_is_touched() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let view = View::new(start);
        assert_eq!(view.age(at(5)), None);
        assert!(view.fresh(at(0)).is_none(), "nothing was heard yet");
        view.publish(Arc::default());
        assert!(
            view.fresh(at(10)).is_none(),
            "news of one watch proves nothing about the others"
        );
        view.touch(at(10));
        assert_eq!(view.age(at(12)), Some(Duration::from_secs(2)));
        assert!(view.fresh(at(70)).is_some());
        assert!(view.fresh(at(71)).is_none(), "60 s is the limit");
        view.touch(at(80));
        view.touch(at(20));
        assert_eq!(
            view.age(at(81)),
            Some(Duration::from_secs(1)),
            "an older proof changes nothing"
        );
    }
}
