//! Builds the webhook's snapshot from what this replica sees: mirrors, evidence, and the labels of namespaces.
//!
//! Every replica does this, with or without the lease. Whatever it can't read is missing from the snapshot, which makes
//! the webhook leave pods alone; nothing here can make it rewrite more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::annotations;
use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::evidence::Evidence;
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routes::{Route, RouteTable};
use catamaran_core::selector::Labels;
use catamaran_core::side::Side;
use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource as _, ResourceExt};
use tokio::sync::watch;

use crate::assess::standing;
use crate::contact::WATCH_SECONDS;
use crate::context::Mirror;
use crate::evidence_store::KEY;

/// Paths whose watches the snapshot rests on; see [`crate::contact::Contact::age`].
pub const RESOURCES: [&str; 3] = ["/registrymirrors", "/configmaps", "/namespaces"];

/// How long changes are gathered before the snapshot is built again.
const GATHER: Duration = Duration::from_millis(5);

/// What this replica sees.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The snapshot.
    pub table: Arc<RouteTable>,
    /// Mirrors that exist, by UID, with their names.
    pub mirrors: Arc<HashMap<String, String>>,
    /// Whether each watched collection was listed once.
    pub complete: bool,
}

enum Change {
    Mirror(Box<Event<Mirror>>),
    Evidence(Event<ConfigMap>),
    Namespace(Event<PartialObjectMeta<Namespace>>),
}

/// Keeps `view` up to date for as long as the process lives.
pub async fn run(client: kube::Client, namespace: String, view: watch::Sender<View>) {
    let config = || watcher::Config::default().timeout(WATCH_SECONDS);
    let mirrors = kube::runtime::watcher(Api::<Mirror>::all(client.clone()), config());
    let of_mirrors = config().labels(annotations::EVIDENCE);
    let evidence = kube::runtime::watcher(Api::<ConfigMap>::namespaced(client.clone(), &namespace), of_mirrors);
    let namespaces = kube::runtime::watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config());
    let changes = stream::select_all([
        mirrors
            .default_backoff()
            .map(|event| event.map(|event| Change::Mirror(Box::new(event))))
            .boxed(),
        evidence
            .default_backoff()
            .map(|event| event.map(Change::Evidence))
            .boxed(),
        namespaces
            .default_backoff()
            .map(|event| event.map(Change::Namespace))
            .boxed(),
    ]);
    let mut changes = std::pin::pin!(changes);
    let mut seen = Seen::default();
    while let Some(change) = changes.next().await {
        let mut relevant = take(&mut seen, change);
        // What comes at once is one snapshot.
        while let Ok(Some(change)) = tokio::time::timeout(GATHER, changes.next()).await {
            relevant |= take(&mut seen, change);
        }
        if relevant {
            view.send_replace(seen.view());
        }
    }
}

fn take(seen: &mut Seen, change: Result<Change, watcher::Error>) -> bool {
    match change {
        Ok(Change::Mirror(event)) => seen.mirror(*event),
        Ok(Change::Evidence(event)) => seen.evidence(event),
        Ok(Change::Namespace(event)) => seen.namespace(event),
        Err(error) => {
            // The last view stands; its age is what stops rewriting in the end.
            tracing::debug!(%error, "a watch failed and is begun again");
            false
        }
    }
}

/// One mirror as seen.
#[derive(Clone, Debug)]
struct Seat {
    name: String,
    generation: Option<i64>,
    policy: Option<Arc<MirrorPolicy>>,
    active: Side,
    epoch: u64,
}

impl PartialEq for Seat {
    /// The policy is what its generation says.
    fn eq(&self, other: &Seat) -> bool {
        let key = |seat: &Seat| (seat.generation, seat.active, seat.epoch, seat.policy.is_some());
        self.name == other.name && key(self) == key(other)
    }
}

/// Everything the snapshot is made of. A list in progress is gathered aside and replaces the old one when it is whole.
#[derive(Debug, Default)]
struct Seen {
    mirrors: Collection<Seat>,
    shards: Collection<Shard>,
    namespaces: Collection<Labels>,
    evidence: HashMap<String, Arc<Evidence>>,
    labels: Arc<BTreeMap<String, Labels>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Shard {
    mirror: String,
    owner: Option<String>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Collection<T> {
    items: HashMap<String, T>,
    listing: Option<HashMap<String, T>>,
    listed: bool,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Collection {
            items: HashMap::new(),
            listing: None,
            listed: false,
        }
    }
}

impl<T: PartialEq> Collection<T> {
    /// Takes one event; whether the collection may have changed.
    fn take<K>(
        &mut self,
        event: Event<K>,
        key: impl Fn(&K) -> String,
        value: impl Fn(K, Option<&T>) -> Option<T>,
    ) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(HashMap::new());
                false
            }
            Event::InitApply(object) => {
                let key = key(&object);
                let before = self.items.get(&key);
                if let (Some(listing), Some(value)) = (&mut self.listing, value(object, before)) {
                    listing.insert(key, value);
                }
                false
            }
            Event::InitDone => {
                self.items = self.listing.take().unwrap_or_default();
                self.listed = true;
                true
            }
            Event::Apply(object) => {
                let key = key(&object);
                let before = self.items.get(&key);
                let after = value(object, before);
                // Most writes to a mirror are of its counters, which no route depends on.
                let changed = before != after.as_ref();
                match after {
                    Some(after) => self.items.insert(key, after),
                    None => self.items.remove(&key),
                };
                changed
            }
            Event::Delete(object) => self.items.remove(&key(&object)).is_some(),
        }
    }
}

impl Seen {
    fn mirror(&mut self, event: Event<Mirror>) -> bool {
        let key = |mirror: &Mirror| mirror.uid().unwrap_or_default();
        self.mirrors
            .take(event, key, |mirror, before| Some(seat(&mirror, before)))
    }

    fn evidence(&mut self, event: Event<ConfigMap>) -> bool {
        let changed = self
            .shards
            .take(event, ResourceExt::name_any, |config_map, _| shard(config_map));
        if changed {
            self.evidence = assemble(self.shards.items.values());
        }
        changed
    }

    fn namespace(&mut self, event: Event<PartialObjectMeta<Namespace>>) -> bool {
        let changed = self.namespaces.take(event, ResourceExt::name_any, |namespace, _| {
            Some(namespace.metadata.labels.unwrap_or_default())
        });
        if changed {
            let labels = self
                .namespaces
                .items
                .iter()
                .map(|(name, labels)| (name.clone(), labels.clone()));
            self.labels = Arc::new(labels.collect());
        }
        changed
    }

    fn view(&self) -> View {
        let routes = self.mirrors.items.iter().filter_map(|(uid, seat)| {
            let policy = seat.policy.clone().filter(|policy| !policy.suspended)?;
            let evidence = self.evidence.get(uid).cloned().unwrap_or_default();
            Some(Route {
                policy,
                active: seat.active,
                epoch: seat.epoch,
                evidence,
            })
        });
        let names = self
            .mirrors
            .items
            .iter()
            .map(|(uid, seat)| (uid.clone(), seat.name.clone()));
        View {
            table: Arc::new(RouteTable::new(routes.collect(), Arc::clone(&self.labels))),
            mirrors: Arc::new(names.collect()),
            complete: self.mirrors.listed && self.shards.listed && self.namespaces.listed,
        }
    }
}

fn seat(mirror: &Mirror, before: Option<&Seat>) -> Seat {
    let (policy, standing) = match &mirror.0 {
        Ok(mirror) => (readable(mirror), standing(&mirror.status.clone().unwrap_or_default())),
        // One that can't be read is as good as none: its pods are left alone.
        Err(_) => (None, standing(&catamaran_api::mirror::RegistryMirrorStatus::default())),
    };
    // A stale list after a reconnection must not take an epoch back.
    let newest = before.filter(|before| before.epoch > standing.epoch);
    Seat {
        name: mirror.name_any(),
        generation: mirror.meta().generation,
        policy,
        active: newest.map_or(standing.active, |before| before.active),
        epoch: newest.map_or(standing.epoch, |before| before.epoch),
    }
}

fn readable(mirror: &RegistryMirror) -> Option<Arc<MirrorPolicy>> {
    match policy(mirror) {
        Ok(policy) => Some(Arc::new(policy)),
        Err(error) => {
            tracing::debug!(mirror = mirror.name_any(), %error, "a mirror is left out of the routes");
            None
        }
    }
}

fn shard(mut config_map: ConfigMap) -> Option<Shard> {
    let mirror = config_map.labels().get(annotations::EVIDENCE)?.clone();
    let owner = config_map.owner_references().first().map(|owner| owner.uid.clone());
    let bytes = config_map.binary_data.as_mut()?.remove(KEY)?.0;
    Some(Shard { mirror, owner, bytes })
}

/// The evidence of each mirror, by the UID of the mirror that owns the shards: those of an earlier mirror of the same
/// name prove nothing about this one.
fn assemble<'s>(shards: impl Iterator<Item = &'s Shard>) -> HashMap<String, Arc<Evidence>> {
    let mut by_owner = HashMap::<&str, Vec<&Shard>>::new();
    for shard in shards {
        if let Some(owner) = &shard.owner {
            by_owner.entry(owner).or_default().push(shard);
        }
    }
    let read = |(owner, shards): (&str, Vec<&Shard>)| {
        let (evidence, errors) = Evidence::decode_lossy(shards.iter().map(|shard| shard.bytes.as_slice()));
        for error in errors {
            let mirror = shards.first().map_or("", |shard| &shard.mirror);
            tracing::warn!(mirror, %error, "a shard of evidence is unreadable; its tags count as not verified");
        }
        (owner.to_owned(), Arc::new(evidence))
    };
    by_owner.into_iter().map(read).collect()
}
