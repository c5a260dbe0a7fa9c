//! What is counted of the snapshot.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of this replica's snapshot.
#[derive(Debug, Default)]
pub struct SnapshotMetrics {
    missing_groups: Gauge,
    restarts: Counter,
}

impl SnapshotMetrics {
    /// Makes all of them visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "evidence_missing_groups",
            "ConfigMaps with evidence that are missing or damaged, whose last content is still used",
            self.missing_groups.clone(),
        );
        registry.register(
            "watch_restarts",
            "Restarts of all watches because they did not deliver what a list showed",
            self.restarts.clone(),
        );
    }

    pub(crate) fn missing_groups(&self, count: usize) {
        self.missing_groups.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn restarted(&self) {
        self.restarts.inc();
    }
}
