//! How fast things may be done.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Time between two writes: at most 100 a second, so that a rescue of thousands does not starve the API server.
const PACE: Duration = Duration::from_millis(10);

/// What a pause is worth: as many writes may follow each other at once.
const CREDIT: Duration = Duration::from_millis(200);

/// Lets one caller through each 10 ms.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Instant>);

impl Pace {
    pub(crate) fn new() -> Pace {
        let now = Instant::now();
        Pace(Mutex::new(now.checked_sub(CREDIT).unwrap_or(now)))
    }

    /// Waits until the caller may go on.
    pub(crate) async fn wait(&self) {
        let mut next = self.0.lock().await;
        let now = Instant::now();
        *next = (*next + PACE).max(now.checked_sub(CREDIT).unwrap_or(now));
        tokio::time::sleep_until(*next).await;
    }
}

/// A budget for each namespace: a burst, and so much a second after it. No namespace can spend another's.
#[derive(Debug)]
pub(crate) struct NamespaceBudget {
    burst: f64,
    a_second: f64,
    left: HashMap<Box<str>, (f64, Instant)>,
}

/// Namespaces whose budget is remembered; those that were not used for long are forgotten first.
const MOST_NAMESPACES: usize = 10_000;

impl NamespaceBudget {
    pub(crate) fn new(burst: u32, a_second: u32) -> NamespaceBudget {
        NamespaceBudget {
            burst: f64::from(burst),
            a_second: f64::from(a_second),
            left: HashMap::new(),
        }
    }

    /// Spends one, if there is one left.
    pub(crate) fn spend(&mut self, namespace: &str, now: Instant) -> bool {
        let (burst, a_second) = (self.burst, self.a_second);
        let refilled =
            |(left, at): (f64, Instant)| (left + now.saturating_duration_since(at).as_secs_f64() * a_second).min(burst);
        if self.left.len() >= MOST_NAMESPACES {
            self.left.retain(|_, left| refilled(*left) < burst);
        }
        if self.left.len() >= MOST_NAMESPACES && !self.left.contains_key(namespace) {
            return false;
        }
        let left = self.left.entry(namespace.into()).or_insert((burst, now));
        *left = (refilled(*left), now);
        let may = left.0 >= 1.0;
        if may {
            left.0 -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_budget_refills_and_is_not_shared() {
        let now = Instant::now();
        let mut budget = NamespaceBudget::new(2, 1);
        let spent: Vec<bool> = (0..3).map(|_| budget.spend("shop", now)).collect();
        assert_eq!(spent, [true, true, false]);
        assert!(budget.spend("blog", now), "another namespace");
        let later = now + Duration::from_millis(1_500);
        assert!(budget.spend("shop", later));
        assert!(!budget.spend("shop", later));
    }

    #[tokio::test(start_paused = true)]
    async fn pace_is_a_hundred_a_second_after_a_burst() {
        let pace = Pace::new();
        let begun = tokio::time::Instant::now();
        for _ in 0..100 {
            pace.wait().await;
        }
        let took = begun.elapsed();
        assert!(
            (Duration::from_millis(750)..Duration::from_secs(1)).contains(&took),
            "{took:?}"
        );
    }
}
