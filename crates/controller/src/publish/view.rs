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
        if let Some(update) = update(&mut snapshots, changed, &freshness) {
            show(update);
        }
    }
}

/// What is to be shown of the latest snapshot; none while it is not complete. Without a change only its age is shown, and a snapshot
/// that came in this very moment counts as a change yet to be noticed.
fn update(snapshots: &mut watch::Receiver<Snapshot>, changed: bool, freshness: &WatchFreshness) -> Option<ViewUpdate> {
    let snapshot = if changed {
        snapshots.borrow_and_update().clone()
    } else {
        snapshots.borrow().clone()
    };
    snapshot.complete.then(|| ViewUpdate {
        table: changed.then_some(snapshot.table),
        answered: freshness.oldest().and_then(|age| Instant::now().checked_sub(age)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_that_comes_with_a_tick_is_shown_after_it() {
        let freshness = WatchFreshness::default();
        let (publish, mut snapshots) = watch::channel(Snapshot::default());
        assert!(
            update(&mut snapshots, false, &freshness).is_none(),
            "nothing is complete"
        );
        publish.send_replace(Snapshot {
            complete: true,
            ..Snapshot::default()
        });
        let tick = update(&mut snapshots, false, &freshness).unwrap();
        assert!(tick.table.is_none());
        assert!(
            snapshots.has_changed().unwrap(),
            "it was taken for seen, and never shown"
        );
        assert!(update(&mut snapshots, true, &freshness).unwrap().table.is_some());
        assert!(!snapshots.has_changed().unwrap());
    }
}
