//! What the parts of the controller share: access to the API server and to registries, the time, and what is published.

use std::collections::BTreeSet;
use std::sync::Arc;

use catamaran_core::routing::RouteTable;
use catamaran_lease::Leadership;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::connections::Connections;
use crate::events::CONTROLLER;
use crate::metrics::Metrics;
use crate::publish::{EvidenceStore, FlipStore, LocalEvidence};
use crate::reviews::Reviews;
use crate::writes::WriteLimits;

/// What the parts of the controller share.
pub struct Context {
    /// Access to the API server.
    pub client: kube::Client,
    /// The operator's own namespace: Secrets, evidence and the lease live there.
    pub namespace: String,
    /// The time.
    pub clock: Clock,
    /// Whether this replica may write.
    pub leadership: watch::Receiver<Leadership>,
    /// Registry clients.
    pub connections: Connections,
    /// The route table, as the webhook of this replica sees it.
    pub table: watch::Receiver<Arc<RouteTable>>,
    /// What this replica's leader hands to its own webhook ahead of the stored evidence.
    pub local: LocalEvidence,
    /// Stores evidence for the webhooks of other replicas.
    pub store: Arc<EvidenceStore>,
    /// Stores flips of many mirrors together.
    pub flips: Arc<FlipStore>,
    /// Writes Events in the operator's name.
    pub recorder: Recorder,
    /// How many writes are under way at a time.
    pub writes: WriteLimits,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What all replicas count of admission reviews.
    pub reviews: Arc<Reviews>,
}

impl Context {
    /// Whether this replica may write at this moment.
    pub fn leads(&self) -> bool {
        self.leadership.borrow().is_leading_now()
    }
}

/// The namespaces whose pods are left as they are, at admission and when they wait: `kube-system`, the operator's own, and
/// those that the user excludes.
pub fn excluded_namespaces(own: &str, further: &[String]) -> BTreeSet<String> {
    let always = ["kube-system", own].map(str::to_owned);
    always.into_iter().chain(further.iter().cloned()).collect()
}

/// A recorder that writes Events in the operator's name.
pub fn recorder(client: kube::Client, instance: &str) -> Recorder {
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: Some(instance.to_owned()),
    };
    Recorder::new(client, reporter)
}
