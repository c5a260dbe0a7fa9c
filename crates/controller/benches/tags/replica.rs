//! One replica: the publisher with its watches, and what it hands on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catamaran_controller::publish::{
    EvidenceStore, LocalEvidence, Replica as Identity, Snapshot, SnapshotPublisher, WatchFreshness,
};
use catamaran_lease::Leadership;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::apiserver::ApiServer;
use crate::leader::{Command, Leader};
use crate::mirror::MirrorOf;

/// A replica that publishes what it sees.
pub struct Replica {
    pub snapshots: watch::Receiver<Snapshot>,
    pub freshness: WatchFreshness,
    local: LocalEvidence,
    store: Arc<EvidenceStore>,
    runtime: Handle,
    _leadership: watch::Sender<Leadership>,
}

impl Replica {
    /// Starts a replica of the server's cluster on a runtime; `leads` for the rest of the process.
    pub fn start(server: &ApiServer, runtime: &Handle, leads: bool) -> Replica {
        let freshness = WatchFreshness::default();
        let (publish, leadership) = catamaran_lease::channel();
        if leads {
            publish.send_replace(Leadership::until(Instant::now() + Duration::from_hours(1)));
        }
        let identity = Identity {
            client: {
                let _entered = runtime.enter();
                server.client(&freshness)
            },
            namespace: "catamaran-system".to_owned(),
            identity: "catamaran-0".to_owned(),
            leadership,
        };
        let store = Arc::new(EvidenceStore::new(&identity));
        let excluded = Arc::new(BTreeSet::new());
        let (publisher, ends) = SnapshotPublisher::new(&identity, excluded, freshness.clone(), Arc::clone(&store));
        runtime.spawn(publisher.run());
        let mut news = ends.news;
        // No mirror's task listens here.
        runtime.spawn(async move {
            loop {
                news.next().await;
            }
        });
        Replica {
            snapshots: ends.snapshots,
            freshness,
            local: ends.local,
            store,
            runtime: runtime.clone(),
            _leadership: publish,
        }
    }

    /// Begins to lead a mirror.
    pub fn lead(&self, of: MirrorOf) -> mpsc::UnboundedSender<Command> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let leader = Leader::new(of, self.local.clone(), Arc::clone(&self.store));
        self.runtime.spawn(leader.run(receiver));
        commands
    }

    /// Waits until every record of so many tags in all mirrors is published.
    pub async fn knows(&mut self, tags: usize) {
        let known = |snapshot: &Snapshot| {
            let routes = snapshot.table.routes().iter();
            routes.map(|route| route.evidence.len()).sum::<usize>() >= tags
        };
        self.snapshots.wait_for(known).await.expect("the publisher goes on");
    }
}

/// Has a leader read all tags, and waits until that is done and stored.
pub async fn pass(leader: &mpsc::UnboundedSender<Command>) {
    let (answer, done) = oneshot::channel();
    assert!(leader.send(Command::Pass(answer)).is_ok(), "the leader goes on");
    done.await.expect("the leader answers");
}
