//! Evidence that the leader hands to its own snapshot, ahead of the `ConfigMaps`.

use std::collections::HashMap;
use std::sync::Arc;

use catamaran_core::routing::evidence::Evidence;
use tokio::sync::watch;

use catamaran_lease::{self as lease, Leadership};

/// Evidence by the UID of its mirror.
pub(crate) type EvidenceByMirror = Arc<HashMap<Arc<str>, Arc<Evidence>>>;

/// What the mirrors' tasks of a leader know, before it is written. It takes precedence over the `ConfigMaps` while this
/// replica leads, and is forgotten when it ceases to. Clones share it.
#[derive(Clone, Debug)]
pub struct LocalEvidence {
    all: Arc<watch::Sender<EvidenceByMirror>>,
    leadership: watch::Receiver<Leadership>,
}

impl LocalEvidence {
    pub(crate) fn new(leadership: watch::Receiver<Leadership>) -> LocalEvidence {
        LocalEvidence {
            all: Arc::new(watch::channel(EvidenceByMirror::default()).0),
            leadership,
        }
    }

    /// Hands in all evidence of a mirror. Without the lease nothing is taken.
    pub fn set(&self, uid: &Arc<str>, evidence: Arc<Evidence>) {
        self.all.send_if_modified(|all| {
            // Asked under the lock: what comes too late must not outlast the clearing.
            let leads = self.leadership.borrow().is_leading_now();
            if leads {
                Arc::make_mut(all).insert(Arc::clone(uid), evidence);
            }
            leads
        });
    }

    /// Takes back what was handed in for a mirror: its `ConfigMaps` hold again.
    pub fn remove(&self, uid: &str) {
        self.all
            .send_if_modified(|all| all.contains_key(uid) && Arc::make_mut(all).remove(uid).is_some());
    }

    /// Takes back everything at the end of each term, for as long as the process lives.
    pub(crate) async fn clear_with_the_lease(self) {
        let mut leadership = self.leadership.clone();
        loop {
            lease::gained(&mut leadership).await;
            lease::lost(&mut leadership).await;
            self.all.send_if_modified(|all| {
                let had_any = !all.is_empty();
                *all = EvidenceByMirror::default();
                had_any
            });
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<EvidenceByMirror> {
        self.all.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn evidence_after_the_term_is_not_taken() {
        let (publish, leadership) = lease::channel();
        let local = LocalEvidence::new(leadership);
        let all = local.subscribe();
        tokio::spawn(local.clone().clear_with_the_lease());
        publish.send_replace(Leadership::until(Instant::now() + Duration::from_secs(15)));
        local.set(&"a".into(), Arc::default());
        assert_eq!(all.borrow().len(), 1);
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert_eq!(all.borrow().len(), 0);
        local.set(&"a".into(), Arc::default());
        assert_eq!(all.borrow().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn evidence_of_one_mirror_can_be_taken_back() {
        let (publish, leadership) = lease::channel();
        publish.send_replace(Leadership::until(Instant::now() + Duration::from_secs(15)));
        let local = LocalEvidence::new(leadership);
        local.set(&"a".into(), Arc::default());
        local.set(&"b".into(), Arc::default());
        local.remove("a");
        let all = local.subscribe();
        assert_eq!(all.borrow().keys().map(|uid| &**uid).collect::<Vec<_>>(), ["b"]);
    }
}
