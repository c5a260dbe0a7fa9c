//! What the status of waiting pods says of their pulls, for the mirrors that their images belong to.
//!
//! It is told once a second, and of each pod once whenever it changes: a second is little beside the minute within which pulls must
//! fail, and a rollout of thousands of pods is one piece of news.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use catamaran_core::mirror::pulls::{FailedAttempt, PodPulls};
use catamaran_core::pod::message::PullFailure;
use catamaran_core::policy::MirrorId;
use catamaran_core::rescue::{Replacement, failed_pulls};
use catamaran_core::routing::RouteTable;
use catamaran_core::side::{Side, Sides};

use super::PodReports;
use super::record::PodRecord;
use super::waiting::Waiting;

/// Pods that a mirror is told of at a time.
const MOST: usize = 500;

/// What mirrors were told, and are about to be.
#[derive(Debug, Default)]
pub(crate) struct PullReports {
    /// By the pod's UID. Only pods whose pull failed: there are no more of them than there are waiting pods.
    told: HashMap<Box<str>, Told>,
    staged: BTreeMap<MirrorId, BTreeMap<Arc<str>, PodPulls>>,
}

#[derive(Debug)]
struct Told {
    version: Box<str>,
    node: Arc<str>,
    mirrors: Vec<MirrorId>,
}

impl PullReports {
    /// Takes in what a pod's status says now.
    pub(crate) fn see(&mut self, pod: &PodRecord, table: &RouteTable) {
        let labels = pod.labels();
        let mut failed = failed_pulls(&pod.waiting(&labels, Replacement::default()), table);
        if pod.node.is_empty() {
            failed.clear();
        }
        let before = self.told.remove(&pod.uid);
        if failed.is_empty() && before.is_none() {
            return;
        }
        let uid: Arc<str> = Arc::from(&*pod.uid);
        let node = before
            .as_ref()
            .map_or_else(|| Arc::from(&*pod.node), |before| Arc::clone(&before.node));
        for mirror in before.into_iter().flat_map(|before| before.mirrors) {
            if !failed.contains_key(&mirror) {
                self.stage(mirror, &uid, &node, Sides::default());
            }
        }
        let mirrors: Vec<MirrorId> = failed.keys().cloned().collect();
        for (mirror, failed) in failed {
            self.stage(mirror, &uid, &node, failed);
        }
        if !mirrors.is_empty() {
            let version = pod.resource_version.clone();
            self.told.insert(pod.uid.clone(), Told { version, node, mirrors });
        }
    }

    /// Looks at the pods that mirrors were told of: not every change of them is news of a watch.
    pub(crate) fn look_again(&mut self, waiting: &Waiting, table: &RouteTable) {
        let mut changed = Vec::new();
        let mut gone = Vec::new();
        for (uid, told) in &self.told {
            match waiting.get(uid) {
                None => gone.push(uid.clone()),
                Some(pod) if pod.resource_version != told.version => changed.push(pod),
                Some(_) => {}
            }
        }
        for pod in changed {
            self.see(&pod, table);
        }
        for uid in gone {
            let Some(told) = self.told.remove(&uid) else { continue };
            let pod: Arc<str> = Arc::from(&*uid);
            for mirror in told.mirrors {
                self.stage(mirror, &pod, &told.node, Sides::default());
            }
        }
    }

    /// Tells the mirrors. What one could not be told is kept until it can, or until it is gone.
    pub(crate) fn tell(&mut self, reports: &dyn PodReports, table: &RouteTable) {
        self.staged.retain(|mirror, staged| {
            if table.route(mirror).is_none() {
                return false;
            }
            let batch: Vec<PodPulls> = staged.values().take(MOST).cloned().collect();
            if reports.pulls(mirror, &batch) {
                for told in batch {
                    staged.remove(&told.pod);
                }
            }
            !staged.is_empty()
        });
    }

    fn stage(&mut self, mirror: MirrorId, pod: &Arc<str>, node: &Arc<str>, failed: Sides<Option<FailedAttempt>>) {
        let staged = self.staged.entry(mirror).or_default();
        let before = staged.get(pod).map(|before| before.failed).unwrap_or_default();
        let report = PodPulls {
            pod: Arc::clone(pod),
            node: Arc::clone(node),
            failed: Sides::from_fn(|side: Side| failed[side].map(|attempt| joined(before[side], attempt))),
        };
        staged.insert(Arc::clone(pod), report);
    }
}

/// An attempt that failed and is not told yet stays one, although the kubelet waits by now.
fn joined(before: Option<FailedAttempt>, now: FailedAttempt) -> FailedAttempt {
    match before {
        Some(before) if before.is_new && !now.is_new => FailedAttempt {
            failure: if now.failure == PullFailure::Other {
                before.failure
            } else {
                now.failure
            },
            is_new: true,
        },
        _ => now,
    }
}

#[cfg(test)]
mod tests;
