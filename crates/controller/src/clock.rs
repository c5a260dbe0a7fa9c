//! The one place where this crate reads the time.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A wall clock that can't jump: the time at start plus what a monotonic clock has counted since.
///
/// A step of the machine's clock must neither flip a mirror nor hold back a failback, so stretches of time are measured
/// monotonically; the wall time is only read once, to give them a date.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    at: Timestamp,
}

impl Clock {
    /// Starts the clock at the machine's present time.
    pub fn start() -> Clock {
        Clock {
            started: Instant::now(),
            at: Timestamp::now(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.at.checked_add(self.started.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// How long to sleep until `at`; zero when it has passed.
    pub fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.now())).unwrap_or_default()
    }
}

/// As the API server keeps times: a status that is read back says what was written.
pub(crate) fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Sleeps for so long, or for ever.
pub(crate) async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
