//! Whether the event loop still turns: the only thing that liveness looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http::health::STUCK_AFTER;

/// Beats once a second from within the runtime.
pub struct Pulse {
    began: Instant,
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// Starts to beat.
    pub fn start() -> Pulse {
        let began = Instant::now();
        let last = Arc::new(AtomicU64::new(0));
        let beat = Arc::clone(&last);
        tokio::spawn(async move {
            loop {
                beat.store(began.elapsed().as_secs(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Pulse { began, last }
    }

    /// Whether it has beaten of late.
    pub fn check(&self) -> Result<(), String> {
        let silent = self
            .began
            .elapsed()
            .as_secs()
            .saturating_sub(self.last.load(Ordering::Relaxed));
        if silent > STUCK_AFTER.as_secs() {
            Err(format!("the event loop stood still for {silent} s"))
        } else {
            Ok(())
        }
    }
}
