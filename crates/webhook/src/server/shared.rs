//! What all connections share.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use crate::admission::Admission;
use crate::metrics::Refusal;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) admission: Arc<Admission>,
    pub(super) limits: Limits,
    /// Room for bodies, in KiB.
    pub(super) room: Semaphore,
    /// Answers close their connections from here on.
    pub(super) closing: CancellationToken,
    /// Idle connections are closed from here on.
    pub(super) finish: CancellationToken,
    /// Connections are dropped as they are.
    pub(super) abort: CancellationToken,
}

impl Shared {
    pub(super) fn new(admission: Arc<Admission>, limits: Limits, closing: CancellationToken) -> Self {
        Shared {
            admission,
            room: Semaphore::new(limits.bodies.div_ceil(1024)),
            limits,
            closing,
            finish: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.admission.metrics().refused(refusal);
    }
}
