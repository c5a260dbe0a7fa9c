//! What every part of the controller shares.

use std::collections::BTreeSet;
use std::sync::Arc;

use catamaran_api::mirror::RegistryMirror;
use catamaran_core::policy::MirrorId;
use catamaran_core::routes::RouteTable;
use catamaran_lease::Leadership;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::connections::Connections;
use crate::crews::Crews;
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::readings::Readings;

/// A mirror as it is watched: one that can't be decoded must not disturb the others.
pub type Mirror = DeserializeGuard<RegistryMirror>;

/// The name under which this operator writes Events and fields.
pub const CONTROLLER: &str = "catamaran";

/// What every part of the controller shares.
pub struct Context {
    /// Access to the API server.
    pub client: kube::Client,
    /// This replica's name.
    pub identity: String,
    /// The operator's own namespace: Secrets, evidence and the lease live there.
    pub namespace: String,
    /// The namespaces whose pods nothing is done for: see [`excluded_namespaces`].
    pub excluded_namespaces: BTreeSet<String>,
    /// The time.
    pub clock: Clock,
    /// Whether this replica may write.
    pub leadership: watch::Receiver<Leadership>,
    /// What is known of each mirror.
    pub memories: Memories,
    /// Registry clients.
    pub connections: Connections,
    /// What several mirrors have read of the same repositories.
    pub readings: Readings,
    /// Background tasks of each mirror.
    pub crews: Crews,
    /// The route table, as the webhook of this replica sees it.
    pub table: watch::Receiver<Arc<RouteTable>>,
    /// Asks for a mirror to be reconciled now.
    pub triggers: mpsc::UnboundedSender<ObjectRef<Mirror>>,
    /// Changes whenever a side's availability changes, so that waiting pods are looked at again.
    pub turns: watch::Sender<u64>,
    /// Writes Events in the operator's name.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// Whether this replica may write at this moment.
    pub fn leads(&self) -> bool {
        self.leadership.borrow().is_leading_now()
    }

    /// Has a mirror reconciled now.
    pub fn trigger(&self, mirror: &MirrorId) {
        // The receiver lives as long as the controller; after that there is nothing left to do.
        let _ = self.triggers.send(ObjectRef::new(&mirror.name));
    }

    /// Has waiting pods looked at again.
    pub fn turn(&self) {
        self.turns.send_modify(|turn| *turn = turn.wrapping_add(1));
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
