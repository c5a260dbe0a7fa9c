//! What is counted of proof pods.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use catamaran_api::conditions;
use catamaran_api::mirror::RegistryMirrorStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{KindLabels, MirrorLabels};

/// Labels of what is not proven, as far as the status lists it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProofLabels {
    /// The mirror's name.
    pub mirror: String,
    /// The namespace whose pods would fail.
    pub namespace: String,
    /// The node.
    pub node: String,
    /// Why, as in status.
    pub reason: String,
}

/// What is counted of proof pods.
#[derive(Debug, Default)]
pub struct ProofMetrics {
    pods: Family<KindLabels, Counter>,
    proven: Family<MirrorLabels, Gauge>,
    failing: Family<ProofLabels, Gauge>,
    /// Those of each mirror that are shown now.
    shown: Mutex<BTreeMap<String, HashSet<ProofLabels>>>,
}

impl ProofMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("proof_pods", "Proof pods, by how they ended", self.pods.clone());
        registry.register(
            "fallback_proven",
            "1 while proof pods can pull from the fallback, 0 while they can't, -1 while that is unknown",
            self.proven.clone(),
        );
        registry.register(
            "proof_failing",
            "1 for what is not proven, as far as the status lists it: at most 10 of a mirror",
            self.failing.clone(),
        );
    }

    /// Counts a proof pod that has ended: `Pulled`, `PullsFail`, `Skipped`, or why nothing was pulled.
    pub fn ended(&self, mirror: &str, kind: &'static str) {
        let mirror = mirror.to_owned();
        self.pods.get_or_create(&KindLabels { mirror, kind }).inc();
    }

    pub(super) fn reported(&self, mirror: &str, status: &RegistryMirrorStatus) {
        let labels = MirrorLabels {
            mirror: mirror.to_owned(),
        };
        match conditions::find_condition(&status.conditions, conditions::FALLBACK_PROVEN) {
            Some(proven) => {
                let value = match proven.status.as_str() {
                    "True" => 1,
                    "False" => 0,
                    _ => -1,
                };
                self.proven.get_or_create(&labels).set(value);
            }
            None => drop(self.proven.remove(&labels)),
        }
        let failing = status.proof.iter().flat_map(|proof| &proof.failing);
        let failing = failing.map(|failing| ProofLabels {
            mirror: mirror.to_owned(),
            namespace: failing.namespace.clone(),
            node: failing.node.clone(),
            reason: failing.reason.clone(),
        });
        self.show(mirror, failing.collect());
    }

    pub(super) fn forget(&self, mirror: &str) {
        let mirror = mirror.to_owned();
        self.show(&mirror, HashSet::new());
        self.proven.remove(&MirrorLabels { mirror });
    }

    fn show(&self, mirror: &str, failing: HashSet<ProofLabels>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.remove(mirror).unwrap_or_default();
        for gone in before.difference(&failing) {
            self.failing.remove(gone);
        }
        for labels in &failing {
            self.failing.get_or_create(labels).set(1);
        }
        if !failing.is_empty() {
            shown.insert(mirror.to_owned(), failing);
        }
    }
}
