//! Publication: what this replica sees becomes the routes of its webhook, and what the leader knows becomes the evidence
//! of every replica.
//!
//! * [`snapshot`]: the one task that watches mirrors, evidence and namespaces, and publishes the [`Snapshot`].
//!   - `mirrors`: each mirror's policy and status in force; `epoch`: when a lower epoch is followed; `namespaces`: labels.
//!   - `evidence`: the groups that the `ConfigMaps` hold; `local`: what the leader hands in before it is written.
//!   - `decode`: a mirror as it is read; `object`: as it is kept; `watched`: one watched collection; `lag`: detects watches that deliver nothing.
//! * [`news`]: what happens to mirrors, for the tasks that run them.
//! * [`freshness`]: when each watch was last answered; [`view`]: passes snapshots and their age on to the webhook.
//! * [`flips`]: flips that are stored together, ahead of the statuses that say them.
//! * [`store`]: writes the leader's evidence to `ConfigMaps`.
//! * [`once`]: the routes of a cluster that a command reads once, by the same decoding.
//!
//! A changed mirror goes watch → `mirrors` → snapshot → webhook, and as news to its task. A verified tag goes from the
//! mirror's task to [`LocalEvidence`] and to the [`EvidenceStore`], and from the ConfigMap to all other replicas.

use tokio::sync::watch;

use catamaran_lease::Leadership;

mod decode;
mod epoch;
mod evidence;
pub mod flips;
pub mod freshness;
mod lag;
mod local;
mod metrics;
mod mirrors;
mod namespaces;
pub mod news;
mod object;
pub mod once;
pub mod snapshot;
pub mod store;
#[cfg(test)]
#[path = "../tests/testbed/watches.rs"]
pub(crate) mod testserver;
pub mod view;
mod watched;

pub use decode::Mirror;
pub use flips::FlipStore;
pub use freshness::{FreshnessLayer, WATCH_SECONDS, WatchFreshness, WatchedKind};
pub use local::LocalEvidence;
pub use metrics::SnapshotMetrics;
pub use news::{MirrorNews, NewsReceiver, ValidPolicy};
pub use object::MirrorObject;
pub(crate) use object::owned_by;
pub use snapshot::{Published, Snapshot, SnapshotPublisher};
pub use store::{EvidenceStore, EvidenceWriteError, WriteFailure, Written};
pub use view::{ViewUpdate, serve_view};

/// This process among the replicas.
#[derive(Clone)]
pub struct Replica {
    /// Access to the API server, with a [`FreshnessLayer`].
    pub client: kube::Client,
    /// The operator's own namespace, where the evidence lies.
    pub namespace: String,
    /// This replica's name.
    pub identity: String,
    /// Whether it may write.
    pub leadership: watch::Receiver<Leadership>,
}

impl Replica {
    pub(crate) fn leads(&self) -> bool {
        self.leadership.borrow().is_leading_now()
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("namespace", &self.namespace)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
