//! How many writes to the API server are under way at a time, whatever the number of mirrors.
//!
//! Each request under way has a connection of its own, with TLS. Without a limit, an outage of a registry that a thousand mirrors share
//! would open a thousand of them at once, which costs more than all that is written, and the API server would refuse some. What makes
//! pods start comes first: other writes wait while a flip does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// Flips that are written at a time, each to its mirror's status. What is more is stored together ([`crate::publish::FlipStore`]).
const FLIPS: usize = 16;

/// Everything else that is written at a time: other news in a status, Events.
const OTHERS: usize = 4;

/// How long another write waits for flips to be over, at most: an API server that answers none of them must not hold up all else.
const YIELDS_FOR: Duration = Duration::from_secs(5);

/// What is left of the limits. One for the process.
#[derive(Debug)]
pub struct WriteLimits {
    flips: Arc<Semaphore>,
    others: Arc<Semaphore>,
    /// Flips that are being written, or wait for it.
    flipping: watch::Sender<usize>,
}

/// A write may be under way for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    _flipping: Option<Flipping>,
}

#[derive(Debug)]
struct Flipping(watch::Sender<usize>);

impl Flipping {
    fn begin(flipping: &watch::Sender<usize>) -> Flipping {
        flipping.send_modify(|flipping| *flipping += 1);
        Flipping(flipping.clone())
    }
}

impl Drop for Flipping {
    fn drop(&mut self) {
        self.0.send_modify(|flipping| *flipping -= 1);
    }
}

impl Default for WriteLimits {
    fn default() -> WriteLimits {
        WriteLimits {
            flips: Arc::new(Semaphore::new(FLIPS)),
            others: Arc::new(Semaphore::new(OTHERS)),
            flipping: watch::Sender::new(0),
        }
    }
}

impl WriteLimits {
    /// For a flip, if it may be written at once.
    pub(crate) fn flip_now(&self) -> Option<Turn> {
        let permit = Arc::clone(&self.flips).try_acquire_owned().ok()?;
        Some(Turn {
            _permit: Some(permit),
            _flipping: Some(Flipping::begin(&self.flipping)),
        })
    }

    /// Until a flip may be written.
    pub(crate) async fn flip(&self) -> Turn {
        let flipping = Flipping::begin(&self.flipping);
        Turn {
            // Nobody closes it.
            _permit: Arc::clone(&self.flips).acquire_owned().await.ok(),
            _flipping: Some(flipping),
        }
    }

    /// Until anything else may be written.
    pub(crate) async fn other(&self) -> Turn {
        let permit = Arc::clone(&self.others).acquire_owned().await.ok();
        let mut flipping = self.flipping.subscribe();
        // The sender is here, and the time is over soon.
        let _ = timeout(YIELDS_FOR, flipping.wait_for(|flipping| *flipping == 0)).await;
        Turn {
            _permit: permit,
            _flipping: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn writes_at_a_time_are_limited() {
        let limits = WriteLimits::default();
        let mut others = Vec::new();
        for _ in 0..OTHERS {
            others.push(limits.other().await);
        }
        assert!(limits.other().now_or_never().is_none());
        let mut flips = Vec::new();
        for _ in 0..FLIPS {
            flips.push(limits.flip().now_or_never().expect("other writes hold up no flip"));
        }
        assert!(limits.flip().now_or_never().is_none());
        flips.pop();
        assert!(limits.flip().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn other_write_waits_for_flips_but_not_for_long() {
        let limits = WriteLimits::default();
        let flip = limits.flip().await;
        {
            let mut other = std::pin::pin!(limits.other());
            assert!(other.as_mut().now_or_never().is_none());
            drop(flip);
            assert!(other.now_or_never().is_some());
        }
        // One that gave up waiting counts no more.
        let flips: Vec<_> = (0..FLIPS).map(|_| limits.flip().now_or_never()).collect();
        assert!(limits.flip().now_or_never().is_none());
        drop(flips);
        assert!(limits.other().now_or_never().is_some());
        let _flip = limits.flip().await;
        let begun = tokio::time::Instant::now();
        drop(limits.other().await);
        assert_eq!(begun.elapsed(), YIELDS_FOR);
    }
}
