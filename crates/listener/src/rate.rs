//! How often an address may connect.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Rate;

/// What one address has used of its rate: the moment at which it has used nothing any more (a generic cell rate algorithm).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used(Instant);

impl Used {
    pub(crate) fn nothing(now: Instant) -> Self {
        Used(now)
    }

    /// Takes one if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let each = Duration::from_secs(1) / rate.per_second.max(1);
        let used = self.0.max(now);
        if used - now + each > each * rate.burst.max(1) {
            return false;
        }
        self.0 = used + each;
        true
    }

    /// Nothing is used: there is nothing to remember.
    pub(crate) fn is_nothing(self, now: Instant) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_spent_at_once_and_comes_back_slowly() {
        let rate = Rate {
            burst: 4,
            per_second: 2,
        };
        let start = Instant::now();
        let mut used = Used::nothing(start);
        let taken = |used: &mut Used, at: u64| {
            let now = start + Duration::from_millis(at);
            (0..10).filter(|_| used.take(rate, now)).count()
        };
        assert_eq!(taken(&mut used, 0), 4);
        assert_eq!(taken(&mut used, 499), 0);
        assert_eq!(taken(&mut used, 1000), 2);
        assert!(!used.is_nothing(start + Duration::from_millis(2999)));
        assert!(used.is_nothing(start + Duration::from_secs(3)));
        assert_eq!(taken(&mut used, 60_000), 4, "no more than the burst is saved up");
    }
}
