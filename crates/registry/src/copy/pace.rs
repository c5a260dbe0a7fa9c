//! How fast blobs are read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A limit in bytes a second over everyone who shares it; by default there is none.
///
/// A caller that takes bytes waits until those before it are paid for, so that a second never sees more than the limit and one
/// piece of the network besides.
#[derive(Debug, Default)]
pub struct Pace {
    per_second: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most so many bytes a second, at least 1.
    pub fn bytes_per_second(limit: u64) -> Pace {
        Pace {
            per_second: Some(limit.max(1)),
            free_at: Mutex::default(),
        }
    }

    /// Waits for the turn of so many bytes.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(per_second) = self.per_second else { return };
        let now = Instant::now();
        let turn = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = free_at.map_or(now, |at| at.max(now));
            *free_at = Some(turn + Duration::from_secs_f64(bytes as f64 / per_second as f64));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everyone_together_stays_below_the_limit() {
        let pace = Pace::bytes_per_second(1000);
        let start = Instant::now();
        tokio::join!(
            async {
                for _ in 0..10 {
                    pace.take(100).await;
                }
            },
            async {
                for _ in 0..20 {
                    pace.take(100).await;
                }
            }
        );
        // The last piece goes out when the 29 before it are paid for.
        assert_eq!(start.elapsed().as_millis(), 2900);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits() {
        let start = Instant::now();
        Pace::default().take(usize::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
