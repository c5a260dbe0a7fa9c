//! Passes the snapshot and its age on to the webhook.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_core::routing::RouteTable;
use tokio::sync::watch;

use super::freshness::WatchFreshness;
use super::snapshot::Snapshot;

/// How often the age of the routes is passed on.
const TICK: Duration = Duration::from_secs(1);

/// What is passed on to the webhook.
#[derive(Clone, Debug)]
pub struct ViewUpdate {
    /// New routes; none where they are as before.
    pub table: Option<Arc<RouteTable>>,
    /// The last answer of the watch that was answered least recently; none while one of them was not answered. New routes
    /// are not fresher than that: publishing them proves nothing about the other watches.
    pub answered: Option<Instant>,
}

/// Passes every complete snapshot on to `show`, and its age each second, until the publisher stops.
pub async fn serve_view(
    mut snapshots: watch::Receiver<Snapshot>,
    freshness: WatchFreshness,
    show: impl Fn(ViewUpdate) + Send,
) {
    loop {
        let changed = tokio::select! {
            changed = snapshots.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = tokio::time::sleep(TICK) => false,
        };
        let snapshot = snapshots.borrow_and_update().clone();
        if snapshot.complete {
            show(ViewUpdate {
                table: changed.then_some(snapshot.table),
                answered: freshness.oldest().and_then(|age| Instant::now().checked_sub(age)),
            });
        }
    }
}
