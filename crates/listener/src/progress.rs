//! What a connection is doing, and since when: one atomic store for each change, and no timer for each request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// A request that is younger may be one that this process is busy with; an older one waits for its peer.
const BUSY: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The TLS handshake.
    Handshake,
    /// Waiting for a request.
    Idle,
    /// Reading a request's line and headers.
    Head,
    /// Reading a body and answering it.
    Request,
    /// Sending the answer.
    Write,
}

const PHASES: [Phase; 5] = [Phase::Handshake, Phase::Idle, Phase::Head, Phase::Request, Phase::Write];

/// The phase of one connection, and when it began.
#[derive(Debug)]
pub(crate) struct Progress {
    opened: Instant,
    /// Milliseconds from `opened`, and the phase in the lowest three bits. Only the connection's own task writes.
    state: AtomicU64,
}

impl Progress {
    pub(crate) fn new(phase: Phase, now: Instant) -> Self {
        Progress {
            opened: now,
            state: AtomicU64::new(phase as u64),
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let millis = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX >> 3);
        self.state.store(millis << 3 | phase as u64, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        PHASES[(self.state.load(Ordering::Relaxed) & 7) as usize % PHASES.len()]
    }

    /// How old the connection is.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    /// How long it has been in its phase.
    fn lasts(&self, now: Instant) -> Duration {
        let since = Duration::from_millis(self.state.load(Ordering::Relaxed) >> 3);
        self.age(now).saturating_sub(since)
    }

    /// How long its peer has kept it waiting; `None` while this process may be busy with its request.
    pub(crate) fn waits(&self, now: Instant) -> Option<Duration> {
        let lasts = self.lasts(now);
        (self.phase() != Phase::Request || lasts >= BUSY).then_some(lasts)
    }

    /// Whether it has been in its phase for longer than allowed.
    pub(crate) fn is_overdue(&self, limits: &Limits, now: Instant) -> bool {
        let limit = match self.phase() {
            Phase::Handshake => limits.handshake,
            Phase::Idle => limits.idle,
            Phase::Head => limits.head,
            Phase::Request => limits.request,
            Phase::Write => limits.write,
        };
        self.lasts(now) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KeepAlive, Rate};

    fn limits() -> Limits {
        Limits {
            connections: 1,
            per_address: 1,
            rate: Rate {
                burst: 1,
                per_second: 1,
            },
            handshake: Duration::from_secs(1),
            head: Duration::from_secs(2),
            request: Duration::from_secs(5),
            write: Duration::from_secs(4),
            idle: Duration::from_secs(3),
            keep_alive: KeepAlive::Off,
            head_size: 1,
            kernel_buffers: 1,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn phase_is_overdue_when_it_lasts_and_not_when_it_recurs() {
        let limits = limits();
        let progress = Progress::new(Phase::Handshake, Instant::now());
        for (phase, seconds) in PHASES.into_iter().zip([1, 3, 2, 5, 4]) {
            progress.enter(phase);
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(!progress.is_overdue(&limits, Instant::now()), "{phase:?}");
            progress.enter(phase);
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(!progress.is_overdue(&limits, Instant::now()), "{phase:?}, another one");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(progress.is_overdue(&limits, Instant::now()), "{phase:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn young_request_keeps_nobody_waiting() {
        let progress = Progress::new(Phase::Idle, Instant::now());
        tokio::time::advance(Duration::from_secs(70)).await;
        assert_eq!(progress.waits(Instant::now()), Some(Duration::from_secs(70)));
        progress.enter(Phase::Request);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(progress.waits(Instant::now()), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(progress.waits(Instant::now()), Some(Duration::from_secs(1)));
    }
}
