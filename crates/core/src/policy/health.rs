//! How failures of probes and of pulls count.

use super::{HealthPolicy, Trigger};

/// What follows when nodes can't pull from the active side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnPullsFailing {
    /// A failover, if the other side is a place to go.
    #[default]
    Failover,
    /// A condition, an Event and a metric.
    Report,
}

impl HealthPolicy {
    /// Whether there are triggers that count by their share among all readings.
    pub(crate) fn counts_refusals(&self) -> bool {
        self.triggers.iter().any(|trigger| *trigger != Trigger::Unavailable)
    }
}
