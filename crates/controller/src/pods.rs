//! Pods: which of them wait for an image and what is done for them, and which images all of them use.
//!
//! [`run`] watches the pods that wait and has them rescued, while this replica leads; [`Census`] says which images the cluster
//! uses. What leads into this module is a [`PodsContext`]; what leads out of it are patches, Events and [`PodReports`].
//!
//! On the way from the API server to a patch: `pages` and `follow` read lists and watches, `reader` makes a `record` of
//! each pod (`wire` are the fields it looks at, `scope` says which pods concern a mirror), `hints` finds pods that run and wait
//! again, `waiting` keeps the records within bounds, `queue` puts them in order, `rescue` has the core plan and carries it
//! out (`patch`, `answer`, `refusals`, `memory`, `pace`, `wanted`), `words` publishes Events. `pulls` tells mirrors which pulls failed.
//! `once` reads pods and templates for commands, by the same reader.

mod answer;
mod follow;
mod hints;
mod in_use;
mod memory;
pub mod once;
mod pace;
mod pages;
mod patch;
mod pulls;
mod queue;
mod reader;
mod record;
mod refusals;
mod rescue;
mod scope;
// The double sees what is private, which an integration test could not; so do those of the other modules.
#[cfg(test)]
#[path = "../tests/testbed/cluster.rs"]
mod testing;
mod waiting;
mod wanted;
mod watch;
mod wire;
mod words;

use std::sync::Arc;

use catamaran_core::mirror::pulls::PodPulls;
use catamaran_core::policy::MirrorId;
use catamaran_core::routing::RouteTable;
use catamaran_core::side::Side;
use kube::runtime::events::Recorder;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::reviews::Reviews;
use catamaran_lease::{self as lease, Leadership};

pub use in_use::{Census, CensusError, CensusTask, census};
pub use pages::ListError;

/// The name under which pods are patched.
const FIELD_MANAGER: &str = "catamaran";

/// What the watch of pods needs.
pub struct PodsContext {
    /// Access to the API server.
    pub client: kube::Client,
    /// The route table, as the webhook of this replica has it.
    pub table: tokio::sync::watch::Receiver<Arc<RouteTable>>,
    /// Changes when all watches have to begin with a list again.
    pub restarts: tokio::sync::watch::Receiver<u64>,
    /// Whether this replica may write.
    pub leadership: tokio::sync::watch::Receiver<Leadership>,
    /// Writes Events in the operator's name.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is said of pods that the webhook should have been asked about.
    pub reviews: Arc<Reviews>,
    /// What mirrors are told, and asked.
    pub reports: Arc<dyn PodReports>,
}

/// What mirrors are told of pods, and asked. Called on the task that rescues: nothing here may wait.
pub trait PodReports: Send + Sync {
    /// Pods of a mirror wait for these references, as repository (its name in status) and tag or digest, and they are not known
    /// on both sides. `urgent`: a kubelet was told that they don't exist.
    fn wanted(&self, mirror: &MirrorId, references: Vec<(String, String)>, urgent: bool);

    /// What the status of these pods says of their pulls, each whenever that changes. Whether the mirror was told.
    fn pulls(&self, mirror: &MirrorId, pods: &[PodPulls]) -> bool;

    /// So many more pods of a mirror were rescued.
    fn rescued(&self, mirror: &MirrorId, pods: u64);

    /// Whether pulls from a side get no answer at all: it is unavailable because of timeouts.
    fn hangs(&self, mirror: &MirrorId, side: Side) -> bool;
}

impl PodsContext {
    /// Whether this replica may write at this moment.
    fn leads(&self) -> bool {
        self.leadership.borrow().is_leading_now()
    }
}

/// Watches and rescues until `shutdown`, whenever this replica leads.
pub async fn run(context: PodsContext, shutdown: CancellationToken) {
    let leadership = context.leadership.clone();
    lease::in_each_term(leadership, &shutdown, || Box::pin(watch::lead(&context))).await;
}
