//! The whole publisher against an API server that fails in the ways that real ones do. Time is the runtime's.

use catamaran_core::policy::MirrorId;
use catamaran_core::routing::Route;
use catamaran_core::routing::evidence::{Evidence, Group};
use catamaran_core::side::Side;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::publish::MirrorObject;
use crate::publish::epoch::STANDS;
use crate::publish::lag::{LAG, PERIOD};
use crate::publish::news::MirrorNews;
use crate::publish::testserver::{
    self, ApiServer, CONFIG_MAPS, MIRRORS, NAMESPACES, config_map, group, mirror, namespace, place,
};
use crate::publish::view::{ViewUpdate, serve_view};
use catamaran_lease::Leadership;

/// A publisher at work.
struct Running {
    server: ApiServer,
    freshness: WatchFreshness,
    published: Published,
    store: Arc<EvidenceStore>,
    term: watch::Sender<Leadership>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A publisher that has listed the mirror `apps`, failed over with epoch 2, its one group of evidence, and a namespace.
async fn running(leads: bool) -> Running {
    let server = ApiServer::default();
    server.with(|state| {
        state.put(MIRRORS, mirror("apps", "Fallback", 2));
        state.put(CONFIG_MAPS, config_map("apps", &group("apps", place(0, 0), 0)));
        state.put(NAMESPACES, namespace("web", "red"));
    });
    let mut running = begin(server, leads);
    running
        .until(Duration::from_secs(1), |snapshot| snapshot.complete)
        .await;
    running
}

fn begin(server: ApiServer, leads: bool) -> Running {
    let freshness = WatchFreshness::default();
    let (replica, term) = server.replica(leads, &freshness);
    let store = Arc::new(EvidenceStore::new(&replica));
    let excluded = Arc::new(BTreeSet::from(["kube-system".to_owned()]));
    let (publisher, ends) = SnapshotPublisher::new(&replica, excluded, freshness.clone(), Arc::clone(&store));
    let task = tokio::spawn(publisher.run());
    Running {
        server,
        freshness,
        published: ends,
        store,
        term,
        task,
    }
}

impl Running {
    /// Waits for a snapshot, and says how long that took.
    async fn until(&mut self, within: Duration, wanted: impl Fn(&Snapshot) -> bool) -> Duration {
        let begun = Instant::now();
        let waiting = self.published.snapshots.wait_for(|snapshot| wanted(snapshot));
        timeout(within, waiting).await.expect("in time").unwrap();
        begun.elapsed()
    }

    fn snapshot(&self) -> Snapshot {
        self.published.snapshots.borrow().clone()
    }

    fn flip(&self, active: &str, epoch: u64) {
        self.server
            .with(|state| state.put(MIRRORS, mirror("apps", active, epoch)));
    }

    /// Stores a flip of `apps` to its primary, in epoch 3, apart from its status, and waits until it is followed.
    async fn flip_apart(&mut self) {
        self.server
            .with(|state| state.put(CONFIG_MAPS, flips("uid-apps", "Primary", 3)));
        let flipped = |snapshot: &Snapshot| active(snapshot) == Some((Side::Primary, 3));
        self.until(Duration::from_millis(100), flipped).await;
    }

    fn change_evidence(&self, seed: u32) {
        let group = group("apps", place(0, 0), seed);
        self.server
            .with(|state| state.put(CONFIG_MAPS, config_map("apps", &group)));
    }

    /// Whether news of lost evidence comes within this time.
    async fn evidence_is_lost(&mut self, within: Duration) -> bool {
        let lost = async { while !matches!(self.published.news.next().await, MirrorNews::EvidenceLost { .. }) {} };
        timeout(within, lost).await.is_ok()
    }
}

fn route(snapshot: &Snapshot) -> Option<Route> {
    let id = MirrorId {
        name: "apps".into(),
        uid: "uid-apps".into(),
    };
    snapshot.table.route(&id).cloned()
}

fn active(snapshot: &Snapshot) -> Option<(Side, u64)> {
    route(snapshot).map(|route| (route.active, route.epoch))
}

/// The group that routes go by.
fn used(snapshot: &Snapshot) -> Option<Arc<Group>> {
    route(snapshot)?.evidence.groups().first().cloned()
}

fn holds(snapshot: &Snapshot, seed: u32) -> bool {
    used(snapshot).is_some_and(|used| *used == group("apps", place(0, 0), seed))
}

#[tokio::test(start_paused = true)]
async fn snapshot_holds_routes_evidence_and_labels() {
    let running = running(false).await;
    let snapshot = running.snapshot();
    assert_eq!(active(&snapshot), Some((Side::Fallback, 2)));
    assert!(holds(&snapshot, 0));
    assert_eq!(snapshot.table.namespaces()["web"]["team"], "red");
    assert_eq!(snapshot.mirrors["uid-apps"], "apps");
}

#[tokio::test(start_paused = true)]
async fn flip_is_published_while_evidence_floods_in() {
    let mut running = running(false).await;
    let server = running.server.clone();
    let floods = tokio::spawn(async move {
        for version in 0_u64.. {
            server.with(|state| {
                state.edit(CONFIG_MAPS, "catamaran-evidence-apps-0x0", |object| {
                    object["metadata"]["annotations"]["n"] = version.into();
                });
                state.put(NAMESPACES, namespace("web", &format!("team-{version}")));
            });
            sleep(Duration::from_millis(1)).await;
        }
    });
    sleep(Duration::from_secs(1)).await;
    running.flip("Primary", 3);
    let took = running
        .until(COLLECT * 2, |seen| active(seen) == Some((Side::Primary, 3)))
        .await;
    floods.abort();
    assert!(took <= COLLECT * 2, "{took:?}");
}

/// The ConfigMap with flips that are stored together.
fn flips(uid: &str, active: &str, epoch: u64) -> serde_json::Value {
    let flips = serde_json::json!({uid: {"active": active, "epoch": epoch}});
    serde_json::json!({
        "metadata": {"name": "catamaran-flips", "labels": {annotations::FLIPS: ""}}, "data": {"flips": flips.to_string()},
    })
}

#[tokio::test(start_paused = true)]
async fn flip_that_is_stored_apart_is_followed_at_once() {
    let mut running = running(false).await;
    running.flip_apart().await;
    let flipped = |snapshot: &Snapshot| active(snapshot) == Some((Side::Primary, 3));
    // The status says something else first, and what is asked of it stays.
    running.flip("Fallback", 2);
    sleep(STANDS * 2).await;
    assert!(flipped(&running.snapshot()));
    running.flip("Primary", 3);
    running
        .server
        .with(|state| state.delete(CONFIG_MAPS, "catamaran-flips"));
    sleep(STANDS * 2).await;
    assert!(flipped(&running.snapshot()));
}

#[tokio::test(start_paused = true)]
async fn flip_that_was_restored_away_is_not_followed_for_ever() {
    let mut running = running(false).await;
    running.flip_apart().await;
    running
        .server
        .with(|state| state.delete(CONFIG_MAPS, "catamaran-flips"));
    running.flip("Fallback", 2);
    running
        .until(STANDS, |snapshot| active(snapshot) == Some((Side::Fallback, 2)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn leader_deletes_flips_that_every_status_says() {
    let mut running = running(true).await;
    running.flip_apart().await;
    sleep(Duration::from_secs(10)).await;
    let is_there = |running: &Running| {
        let there = running
            .server
            .with(|state| state.get(CONFIG_MAPS, "catamaran-flips").cloned());
        there.is_some()
    };
    assert!(is_there(&running), "the status does not say it yet");
    running.flip("Primary", 3);
    sleep(Duration::from_secs(1)).await;
    assert!(!is_there(&running));
    // What is stored for mirrors that are gone is not kept for them.
    running
        .server
        .with(|state| state.put(CONFIG_MAPS, flips("uid-gone", "Primary", 3)));
    sleep(Duration::from_secs(2)).await;
    assert!(!is_there(&running));
}

#[tokio::test(start_paused = true)]
async fn new_namespace_is_published_within_its_quiet_time() {
    let mut running = running(false).await;
    running
        .server
        .with(|state| state.put(NAMESPACES, namespace("new", "blue")));
    let took = running
        .until(COLLECT, |seen| seen.table.namespaces().contains_key("new"))
        .await;
    assert!(took <= QUIET * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn deleted_evidence_is_used_until_the_leader_writes_it() {
    let mut running = running(false).await;
    running
        .server
        .with(|state| state.delete(CONFIG_MAPS, "catamaran-evidence-apps-0x0"));
    sleep(Duration::from_secs(90)).await;
    assert!(holds(&running.snapshot(), 0));
    running.change_evidence(1);
    running.until(Duration::from_secs(1), |seen| holds(seen, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn leader_learns_that_its_evidence_was_deleted() {
    let mut running = running(true).await;
    let mirror = serde_json::from_value(mirror("apps", "Fallback", 2)).unwrap();
    let mirror = MirrorObject::of(&mirror).unwrap();
    let groups = [(place(0, 0), group("apps", place(0, 0), 5))];
    running.store.write(&mirror, &groups, &[place(0, 0)]).await.unwrap();
    assert!(!running.evidence_is_lost(Duration::from_mins(1)).await, "its own write");
    running
        .server
        .with(|state| state.delete(CONFIG_MAPS, "catamaran-evidence-apps-0x0"));
    assert!(running.evidence_is_lost(Duration::from_secs(1)).await);
    let written = running.store.write(&mirror, &groups, &[place(0, 0)]).await.unwrap();
    assert_eq!(written.written, 1);
    running.until(Duration::from_secs(1), |seen| holds(seen, 5)).await;
}

#[tokio::test(start_paused = true)]
async fn local_evidence_leads_until_the_lease_is_lost() {
    let mut running = running(true).await;
    let uid: Arc<str> = "uid-apps".into();
    let local = Evidence::default().with(Arc::new(group("apps", place(0, 0), 9)));
    running.published.local.set(&uid, Arc::new(local.clone()));
    running.until(COLLECT * 2, |seen| holds(seen, 9)).await;
    running.change_evidence(1);
    sleep(Duration::from_secs(1)).await;
    assert!(holds(&running.snapshot(), 9));
    running.term.send_replace(Leadership::NONE);
    running.until(COLLECT * 2, |seen| holds(seen, 1)).await;
    running.published.local.set(&uid, Arc::new(local));
    sleep(Duration::from_secs(1)).await;
    assert!(holds(&running.snapshot(), 1), "what comes after the term is not taken");
}

#[tokio::test(start_paused = true)]
async fn restored_storage_is_followed_though_its_watches_are_silent() {
    let mut running = running(false).await;
    let earlier = running.server.with(|state| {
        let mut earlier = state.clone();
        earlier.put(MIRRORS, mirror("apps", "Primary", 1));
        earlier
    });
    for epoch in 3..20 {
        running.flip("Fallback", epoch);
    }
    running
        .until(Duration::from_secs(1), |seen| {
            active(seen) == Some((Side::Fallback, 19))
        })
        .await;
    // One comparison has seen the later version.
    sleep(PERIOD).await;
    running.server.with(|state| state.restore(earlier));
    let took = running
        .until(PERIOD * 2, |seen| active(seen) == Some((Side::Primary, 1)))
        .await;
    assert!(took <= PERIOD + Duration::from_secs(5), "{took:?}");
    // What comes after is delivered again, although its versions were there before.
    running.flip("Fallback", 2);
    running
        .until(Duration::from_secs(1), |seen| active(seen) == Some((Side::Fallback, 2)))
        .await;
}

/// The API server is down for as long as this, and comes back with what it had before `flips` of the mirror. How long the routes
/// are those from before.
async fn restored(running: &mut Running, flips: u64, down: Duration) -> Duration {
    let earlier = running.server.with(|state| state.clone());
    for epoch in 3..3 + flips {
        running.flip("Fallback", epoch);
    }
    let last = flips + 2;
    running
        .until(Duration::from_secs(1), |seen| {
            active(seen) == Some((Side::Fallback, last))
        })
        .await;
    running.server.with(|state| {
        let connection = state.connection + 1;
        state.restore(earlier);
        state.connection = connection;
        state.refuse = Some((503, |_| true));
    });
    sleep(down).await;
    running.server.with(|state| {
        state.refuse = None;
        // Others write as well: the version of the list before is soon surpassed.
        for number in 0..flips - 1 {
            state.put(NAMESPACES, namespace(&format!("new-{number}"), "red"));
        }
    });
    running
        .until(PERIOD * 2, |seen| active(seen) == Some((Side::Fallback, 2)))
        .await
}

#[tokio::test(start_paused = true)]
async fn restored_storage_is_noticed_once_the_api_server_is_back() {
    for down in [0, 1, 4, 40] {
        let mut running = running(false).await;
        let took = restored(&mut running, 5, Duration::from_secs(down)).await;
        assert!(took <= Duration::from_secs(5), "down for {down} s: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn watch_that_fails_again_and_again_floods_nobody() {
    let running = running(false).await;
    running.server.with(|state| {
        state.refuse = Some((503, |request| request.contains("/configmaps?")));
        state.connection += 1;
        state.requests.clear();
    });
    sleep(Duration::from_mins(5)).await;
    let lists = |state: &mut testserver::State| {
        let lists = state.requests.iter().filter(|request| is_list_of_mirrors(request));
        lists.count()
    };
    let lists = running.server.with(lists);
    assert!((20..=60).contains(&lists), "{lists} lists in 5 minutes");
}

#[tokio::test(start_paused = true)]
async fn watch_that_delivers_nothing_is_restarted() {
    let mut running = running(false).await;
    running.server.with(|state| state.deaf = Some(MIRRORS));
    sleep(PERIOD).await;
    running.flip("Primary", 3);
    let took = running
        .until(PERIOD * 3, |seen| active(seen) == Some((Side::Primary, 3)))
        .await;
    assert!(took <= PERIOD + LAG + TICK * 2, "{took:?}");
}

/// Neither a list nor a read, but the watches of mirrors.
fn is_list_of_mirrors(request: &str) -> bool {
    request.contains("registrymirrors?") && !request.contains("watch=true")
}

#[tokio::test(start_paused = true)]
async fn wiped_status_is_followed_once_a_read_confirms_it() {
    let mut running = running(false).await;
    running
        .server
        .with(|state| state.refuse = Some((503, is_list_of_mirrors)));
    running.flip("Primary", 1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(active(&running.snapshot()), Some((Side::Fallback, 2)));
    running.server.with(|state| state.refuse = None);
    running
        .until(TICK * 2, |seen| active(seen) == Some((Side::Primary, 1)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn wiped_status_is_followed_in_the_end_without_a_read() {
    let mut running = running(false).await;
    running
        .server
        .with(|state| state.refuse = Some((503, is_list_of_mirrors)));
    running.flip("Primary", 1);
    let took = running
        .until(Duration::from_mins(2), |seen| active(seen) == Some((Side::Primary, 1)))
        .await;
    assert!(took >= STANDS && took <= STANDS * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn watches_are_back_within_seconds_of_the_api_server() {
    let mut running = running(false).await;
    running.server.with(|state| state.refuse = Some((503, |_| true)));
    sleep(Duration::from_secs(70)).await;
    running.flip("Primary", 3);
    running.server.with(|state| state.refuse = None);
    let took = running
        .until(Duration::from_secs(10), |seen| active(seen) == Some((Side::Primary, 3)))
        .await;
    assert!(took <= Duration::from_secs(3) + COLLECT, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn new_routes_are_no_fresher_than_their_oldest_watch() {
    let running = running(false).await;
    let (shown, mut updates) = mpsc::unbounded_channel();
    let view = tokio::spawn(serve_view(
        running.published.snapshots.clone(),
        running.freshness.clone(),
        move |update: ViewUpdate| drop(shown.send(update)),
    ));
    running.server.with(|state| {
        state.refuse = Some((503, |request| {
            request.contains("/configmaps?") && request.contains("watch=true")
        }));
    });
    sleep(Duration::from_mins(1)).await;
    let before = running.freshness.age(WatchedKind::Evidence).unwrap();
    assert!(before >= Duration::from_secs(35), "{before:?}");
    assert!(running.freshness.age(WatchedKind::Mirrors).unwrap() <= Duration::from_secs(26));
    while updates.try_recv().is_ok() {}
    running.flip("Primary", 3);
    let update = loop {
        let update = updates.recv().await.unwrap();
        if update.table.is_some() {
            break update;
        }
    };
    view.abort();
    let answered = update.answered.unwrap();
    assert!(answered.elapsed() >= before, "{:?}", answered.elapsed());
}

#[tokio::test(start_paused = true)]
async fn quiet_cluster_publishes_nothing() {
    let mut running = running(false).await;
    running.published.snapshots.mark_unchanged();
    for _ in 0..300 {
        advance(TICK).await;
    }
    assert!(!running.published.snapshots.has_changed().unwrap());
}
