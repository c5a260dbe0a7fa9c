//! What all requests share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::limits::Limits;
use super::room::Room;
use crate::admission::Admission;
use crate::metrics::Refusal;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) admission: Arc<Admission>,
    pub(super) room: Room,
    /// Turns of large reviews.
    pub(super) turns: Arc<Semaphore>,
    pub(super) limits: Limits,
}

impl Shared {
    pub(super) fn new(admission: Arc<Admission>, limits: Limits) -> Self {
        Shared {
            admission,
            room: Room::new(limits.bodies, limits.body),
            turns: Arc::new(Semaphore::new(limits.reviews)),
            limits,
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.admission.metrics().refused(refusal);
    }
}
