//! Builds the webhook's snapshot from what this replica sees: mirrors, evidence, and the labels of namespaces.
//!
//! Every replica does this, with or without the lease. What it can't read is missing from the snapshot, which makes the
//! webhook leave pods alone; nothing here can make it rewrite more. A namespace that is not in the table is not known yet:
//! what its labels say is unknown, not absent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::annotations;
use catamaran_core::routing::RouteTable;
use futures::stream::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::Mirror;
use super::Replica;
use super::evidence::{self, Existing, StoredEvidence};
use super::flips::{FlipStore, SeenFlips};
use super::freshness::{WatchFreshness, WatchedKind};
use super::lag::{self, LagDetector, Reading};
use super::local::{EvidenceByMirror, LocalEvidence};
use super::metrics::SnapshotMetrics;
use super::mirrors::SeenMirrors;
use super::namespaces::Namespaces;
use super::news::{self, NewsReceiver, NewsSender};
use super::store::EvidenceStore;
use super::watched::{Watches, watched};
use crate::clock::Clock;

/// How long nothing has to change before the snapshot is built, where it is more than evidence that did.
const QUIET: Duration = Duration::from_millis(5);
/// The longest that changes are collected before the snapshot is built.
const COLLECT: Duration = Duration::from_millis(50);
/// How often overdue watches and held back epochs are checked.
const TICK: Duration = Duration::from_secs(1);

/// What this replica sees.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The routes.
    pub table: Arc<RouteTable>,
    /// Mirrors that exist, by UID, with their names.
    pub mirrors: Arc<HashMap<String, String>>,
    /// Whether each watched collection was listed once.
    pub complete: bool,
}

/// What a [`SnapshotPublisher`] publishes, and takes.
#[derive(Debug)]
pub struct Published {
    /// What this replica sees.
    pub snapshots: watch::Receiver<Snapshot>,
    /// What happens to mirrors, for their tasks.
    pub news: NewsReceiver,
    /// Where a leader's tasks hand in what they know.
    pub local: LocalEvidence,
    /// Where they store flips together.
    pub flips: Arc<FlipStore>,
    /// What is counted.
    pub metrics: Arc<SnapshotMetrics>,
    /// Changes when all watches have to begin with a list again, because the store was restored or they deliver nothing.
    pub restarts: watch::Receiver<u64>,
}

/// Watches mirrors, flips, evidence and namespaces; the only watch of mirrors in the process.
#[derive(Debug)]
pub struct SnapshotPublisher {
    replica: Replica,
    excluded: Arc<BTreeSet<String>>,
    /// Overrides end by it.
    clock: Clock,
    freshness: WatchFreshness,
    watches: Watches,
    store: Arc<EvidenceStore>,
    flips: Arc<FlipStore>,
    snapshots: watch::Sender<Snapshot>,
    news: NewsSender,
    local: LocalEvidence,
    metrics: Arc<SnapshotMetrics>,
}

impl SnapshotPublisher {
    /// A publisher that has seen nothing yet. Pods of `excluded` namespaces are never rewritten. `freshness` is that of the
    /// replica's client; `store` learns when others change what it wrote.
    pub fn new(
        replica: &Replica,
        excluded: Arc<BTreeSet<String>>,
        freshness: WatchFreshness,
        store: Arc<EvidenceStore>,
    ) -> (SnapshotPublisher, Published) {
        let (snapshots, snapshots_receiver) = watch::channel(Snapshot::default());
        let (news, news_receiver) = news::channel();
        let publisher = SnapshotPublisher {
            replica: replica.clone(),
            excluded,
            clock: Clock::start(),
            watches: Watches::new(freshness.clone()),
            freshness,
            store,
            flips: Arc::new(FlipStore::new(replica)),
            snapshots,
            news,
            local: LocalEvidence::new(replica.leadership.clone()),
            metrics: Arc::default(),
        };
        let ends = Published {
            snapshots: snapshots_receiver,
            news: news_receiver,
            local: publisher.local.clone(),
            flips: Arc::clone(&publisher.flips),
            metrics: Arc::clone(&publisher.metrics),
            restarts: publisher.watches.restarts(),
        };
        (publisher, ends)
    }

    /// Publishes for as long as the process lives.
    pub async fn run(self) {
        let watches = self.watches.clone();
        let client = || self.replica.client.clone();
        let (existing, existing_receiver) = watch::channel(Existing::None);
        let (stored, stored_receiver) = watch::channel(StoredEvidence::default());
        let (readings, readings_receiver) = mpsc::channel(1);
        let wanted = Arc::new(Notify::new());
        let config_maps: Api<ConfigMap> = Api::namespaced(client(), &self.replica.namespace);
        let evidence = evidence::run(
            watched(config_maps.clone(), annotations::EVIDENCE, &watches),
            existing_receiver,
            stored,
            Arc::clone(&self.store),
            self.news.clone(),
            Arc::clone(&self.metrics),
        );
        // Tasks of their own: neither decoding nor a slow list holds up a flip. They end with this one.
        let _tasks = [
            AbortOnDropHandle::new(tokio::spawn(evidence)),
            AbortOnDropHandle::new(tokio::spawn(lag::read(
                client(),
                watches.clone(),
                Arc::clone(&wanted),
                readings,
            ))),
            AbortOnDropHandle::new(tokio::spawn(self.local.clone().clear_with_the_lease())),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.flips).run())),
        ];
        let inputs = Inputs {
            flips: watched(config_maps, annotations::FLIPS, &watches).boxed(),
            mirrors: watched(Api::<Mirror>::all(client()), "", &watches).boxed(),
            namespaces: watched(Api::all(client()), "", &watches).boxed(),
            stored: stored_receiver,
            local: self.local.subscribe(),
            readings: readings_receiver,
            ticks: ticks(),
        };
        let state = State {
            mirrors: SeenMirrors::new(self.news.clone()),
            flips: SeenFlips::default(),
            namespaces: Namespaces::default(),
            stored: StoredEvidence::default(),
            local: EvidenceByMirror::default(),
            lag: LagDetector::default(),
            wanted,
            existing,
            told: None,
            publisher: self,
        };
        state.follow(inputs).await;
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

type Events<K> = std::pin::Pin<Box<dyn Stream<Item = Event<K>> + Send>>;

/// Where changes come from, what matters most first.
struct Inputs {
    flips: Events<ConfigMap>,
    mirrors: Events<Mirror>,
    readings: mpsc::Receiver<Reading>,
    namespaces: Events<PartialObjectMeta<Namespace>>,
    stored: watch::Receiver<StoredEvidence>,
    local: watch::Receiver<EvidenceByMirror>,
    ticks: Interval,
}

enum Change {
    Mirror(Box<Event<Mirror>>),
    Flips(Box<Event<ConfigMap>>),
    Reading(Reading),
    Namespace(Box<Event<PartialObjectMeta<Namespace>>>),
    Stored(StoredEvidence),
    Local(EvidenceByMirror),
    Tick,
}

impl Inputs {
    /// The next change; none when the process ends.
    async fn next(&mut self) -> Option<Change> {
        tokio::select! {
            biased;
            event = self.flips.next() => event.map(|event| Change::Flips(Box::new(event))),
            event = self.mirrors.next() => event.map(|event| Change::Mirror(Box::new(event))),
            reading = self.readings.recv() => reading.map(Change::Reading),
            event = self.namespaces.next() => event.map(|event| Change::Namespace(Box::new(event))),
            Ok(()) = self.stored.changed() => Some(Change::Stored(self.stored.borrow_and_update().clone())),
            Ok(()) = self.local.changed() => Some(Change::Local(Arc::clone(&self.local.borrow_and_update()))),
            _ = self.ticks.tick() => Some(Change::Tick),
        }
    }
}

/// What a change means for the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// It is the same.
    None,
    /// Evidence has changed: there will be more of it, and it can wait.
    Evidence,
    /// Anything else has.
    Routes,
}

impl Effect {
    fn routes(changed: bool) -> Effect {
        if changed { Effect::Routes } else { Effect::None }
    }
}

/// Everything that the snapshot is made of.
struct State {
    mirrors: SeenMirrors,
    flips: SeenFlips,
    namespaces: Namespaces,
    stored: StoredEvidence,
    local: EvidenceByMirror,
    lag: LagDetector,
    wanted: Arc<Notify>,
    existing: watch::Sender<Existing>,
    /// The names of the mirrors that the evidence was last told of.
    told: Option<Arc<HashMap<String, String>>>,
    publisher: SnapshotPublisher,
}

impl State {
    async fn follow(mut self, mut inputs: Inputs) {
        while let Some(change) = inputs.next().await {
            let mut effect = self.take(change);
            if effect == Effect::None {
                continue;
            }
            let begun = Instant::now();
            loop {
                let quiet = if effect == Effect::Routes { QUIET } else { COLLECT };
                let until = (Instant::now() + quiet).min(begun + COLLECT);
                match timeout_at(until, inputs.next()).await {
                    Ok(Some(change)) => effect = effect.max(self.take(change)),
                    Ok(None) => return,
                    Err(_) => break,
                }
                if Instant::now() >= begun + COLLECT {
                    break;
                }
            }
            self.publish();
            // A list is one event after the other without a pause: let others have the thread.
            tokio::task::yield_now().await;
        }
    }

    fn take(&mut self, change: Change) -> Effect {
        match change {
            Change::Mirror(event) => {
                let relevant = self.mirrors.take(*event, Instant::now());
                self.doubt();
                self.drop_flips();
                Effect::routes(relevant)
            }
            Change::Flips(event) => self.flips(*event),
            Change::Reading(reading) => self.reading(reading),
            Change::Namespace(event) => Effect::routes(self.namespaces.take(*event)),
            Change::Stored(stored) => {
                self.stored = stored;
                Effect::Evidence
            }
            Change::Local(local) => {
                self.local = local;
                Effect::Evidence
            }
            Change::Tick => self.tick(),
        }
    }

    /// Asks for a consistent read while a lower epoch is held back.
    fn doubt(&self) {
        if self.mirrors.in_doubt() {
            self.wanted.notify_one();
        }
    }

    fn flips(&mut self, event: Event<ConfigMap>) -> Effect {
        let was_listed = self.flips.listed();
        if !self.flips.take(event) {
            return Effect::None;
        }
        let there = self.flips.there();
        let flips = there.map(|there| Arc::clone(there.flips())).unwrap_or_default();
        self.publisher.flips.seen(there.cloned());
        let relevant = self.mirrors.take_flips(flips, Instant::now());
        self.drop_flips();
        Effect::routes(relevant || !was_listed)
    }

    /// Flips that every status says need not be stored apart.
    fn drop_flips(&self) {
        if self.mirrors.are_flips_said() && self.publisher.replica.leads() {
            self.publisher.flips.said();
        }
    }

    fn reading(&mut self, reading: Reading) -> Effect {
        match reading {
            Reading::Versions {
                mirrors,
                list,
                delivered,
            } => {
                if self.lag.went_back(list, delivered) {
                    self.restart("etcd was restored from an older snapshot");
                } else if self.mirrors.listed() {
                    self.lag
                        .compare(&mirrors, list, self.mirrors.delivered(), Instant::now());
                }
                Effect::None
            }
            Reading::Statuses(statuses) => Effect::routes(self.mirrors.confirm(&statuses)),
        }
    }

    fn tick(&mut self) -> Effect {
        if self.lag.is_overdue(self.mirrors.delivered(), Instant::now()) {
            self.restart("the watch of mirrors lags behind");
        }
        self.drop_flips();
        let ended = self.mirrors.end_overrides(self.publisher.clock.now());
        let Some(answered) = self.publisher.freshness.answered(WatchedKind::Mirrors) else {
            return Effect::routes(ended);
        };
        let settled = self.mirrors.settle(|_, status| status.settle(answered));
        self.doubt();
        Effect::routes(settled || ended)
    }

    fn restart(&self, why: &str) {
        tracing::warn!(why, "restarting all watches");
        self.publisher.metrics.restarted();
        self.publisher.watches.restart();
    }

    fn publish(&mut self) {
        self.mirrors.end_overrides(self.publisher.clock.now());
        let is_told = |told: &Arc<_>| Arc::ptr_eq(told, self.mirrors.names());
        if self.mirrors.listed() && !self.told.as_ref().is_some_and(is_told) {
            let uids = self.mirrors.uids();
            self.publisher.store.retain(&uids);
            self.existing.send_replace(Some(uids));
            self.told = Some(Arc::clone(self.mirrors.names()));
        }
        // Parts of a first list are no snapshot.
        if self.mirrors.listed() && self.stored.listed && self.namespaces.listed() && self.flips.listed() {
            self.publisher.snapshots.send_replace(self.snapshot());
        }
    }

    fn snapshot(&self) -> Snapshot {
        let leads = self.publisher.replica.leads();
        let local = |uid: &Arc<str>| self.local.get(uid).filter(|_| leads);
        let routes = self.mirrors.iter().filter_map(|(uid, mirror)| {
            let (policy, status) = mirror.in_force()?;
            let evidence = local(uid).or_else(|| self.stored.by_mirror.get(uid));
            Some(status.route(policy, evidence.cloned().unwrap_or_default()))
        });
        let (labels, excluded) = (self.namespaces.labels(), Arc::clone(&self.publisher.excluded));
        let before = Arc::clone(&self.publisher.snapshots.borrow().table);
        Snapshot {
            table: Arc::new(before.next(routes.collect(), labels, excluded)),
            mirrors: Arc::clone(self.mirrors.names()),
            complete: true,
        }
    }
}

#[cfg(test)]
mod tests;
