//! What the rest of the process sees of the election.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Whether this process leads, as an end that approaches: it needs no further message to stop being true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    until: Option<Instant>,
}

impl Leadership {
    /// Not leading.
    pub const NONE: Self = Self { until: None };

    /// Leading until `until`.
    pub fn until(until: Instant) -> Self {
        Self { until: Some(until) }
    }

    /// Leads at `now`.
    pub fn is_leading(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Leads at this moment of tokio's clock. Ask right before each write.
    pub fn is_leading_now(&self) -> bool {
        self.is_leading(Instant::now())
    }

    /// The instant at which leading ends unless the lease is renewed before.
    pub fn end(&self) -> Option<Instant> {
        self.until
    }
}

/// A channel for [`crate::run`] to publish on. No process leads yet. The receiver is woken at each renewal too; use
/// [`gained`] and [`lost`] to wait for changes only.
pub fn channel() -> (watch::Sender<Leadership>, watch::Receiver<Leadership>) {
    watch::channel(Leadership::NONE)
}

/// Returns as soon as this process leads. Never returns when the election has ended without: the caller is shutting down.
pub async fn gained(leadership: &mut watch::Receiver<Leadership>) {
    if leadership.wait_for(Leadership::is_leading_now).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns as soon as this process doesn't lead, also when the lease expires because nothing renews it.
pub async fn lost(leadership: &mut watch::Receiver<Leadership>) {
    loop {
        let current = *leadership.borrow_and_update();
        let Some(end) = current.end().filter(|_| current.is_leading_now()) else {
            return;
        };
        tokio::select! {
            () = sleep_until(end) => {}
            changed = leadership.changed() => if changed.is_err() {
                // The election has ended, but what was granted stays granted.
                sleep_until(end).await;
            }
        }
    }
}

/// Does `work` from the beginning whenever this process begins to lead, and drops it when it ceases to, until `shutdown`. Work that
/// ends is begun again.
pub async fn in_each_term<W: Future<Output = ()>>(
    mut leadership: watch::Receiver<Leadership>,
    shutdown: &CancellationToken,
    mut work: impl FnMut() -> W,
) {
    let terms = async {
        loop {
            gained(&mut leadership).await;
            let mut until = leadership.clone();
            tokio::select! {
                () = work() => {}
                () = lost(&mut until) => {}
            }
        }
    };
    tokio::select! {
        () = terms => {}
        () = shutdown.cancelled() => {}
    }
}
