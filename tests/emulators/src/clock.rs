//! The time that tokens expire by.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The emulators' time: follows tokio's clock, so that it stands still where a test pauses that one, and can be moved ahead
/// of it. Clones share the time.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    began: Timestamp,
    /// Milliseconds that a test added.
    moved: Arc<AtomicI64>,
}

impl Clock {
    /// The time of day, now.
    pub fn new() -> Clock {
        Clock {
            start: Instant::now(),
            began: Timestamp::now(),
            moved: Arc::default(),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        let moved = SignedDuration::from_millis(self.moved.load(Ordering::Relaxed));
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::MAX);
        self.began
            .checked_add(passed)
            .and_then(|now| now.checked_add(moved))
            .unwrap_or(Timestamp::MAX)
    }

    /// Seconds since 1970, as tokens have them.
    pub fn seconds(&self) -> i64 {
        self.now().as_second()
    }

    /// Moves the time ahead of tokio's.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.moved.fetch_add(by, Ordering::Relaxed);
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}
