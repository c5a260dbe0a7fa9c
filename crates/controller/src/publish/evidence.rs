//! The evidence that the `ConfigMaps` hold, decoded one group at a time.
//!
//! This runs as a task of its own, so that mirrors are never behind evidence: a changed ConfigMap costs one
//! [`Group::decode`] here, and the publisher swaps a pointer.
//!
//! A ConfigMap counts for the mirror that owns it by UID: that of an earlier mirror of the same name proves nothing about
//! this one. A group whose ConfigMap was deleted or damaged keeps its last content, because losing it would turn what is
//! known to be missing into "nothing is known"; it goes when groups of another size are complete, which is how the leader
//! replaces all of them, or with its mirror.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use catamaran_api::annotations;
use catamaran_core::routing::evidence::{Evidence, EvidenceError, Group, GroupPlace};
use futures::stream::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::local::EvidenceByMirror;
use super::metrics::SnapshotMetrics;
use super::news::NewsSender;
use super::store::{EvidenceStore, KEY, Sighting, config_map_name, mirror_uid};

/// What the `ConfigMaps` say.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredEvidence {
    /// By the UID of the mirror.
    pub by_mirror: EvidenceByMirror,
    /// Whether the `ConfigMaps` were listed once.
    pub listed: bool,
}

/// The UIDs of the mirrors that exist; none before they were listed.
pub(crate) type Existing = Option<BTreeSet<Arc<str>>>;

/// Keeps `stored` up to date for as long as `events` come.
pub(crate) async fn run(
    events: impl Stream<Item = Event<ConfigMap>>,
    mut existing: watch::Receiver<Existing>,
    stored: watch::Sender<StoredEvidence>,
    store: Arc<EvidenceStore>,
    news: NewsSender,
    metrics: Arc<SnapshotMetrics>,
) {
    let mut events = std::pin::pin!(events);
    let mut cache = EvidenceCache::default();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => {
                    let listed = matches!(event, Event::InitDone);
                    for sighting in cache.take(event) {
                        if store.is_lost(&sighting) {
                            news.evidence_lost(&sighting.uid);
                        }
                    }
                    if listed {
                        for uid in store.unlisted(|name| cache.config_maps.contains_key(name)) {
                            news.evidence_lost(&uid);
                        }
                    }
                }
                None => return,
            },
            changed = existing.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Some(existing) = existing.borrow_and_update().clone() {
                    cache.retain(existing);
                }
            }
        }
        metrics.missing_groups(cache.missing());
        cache.publish(&stored);
        // A list is one event after the other without a pause: let others have the thread.
        tokio::task::yield_now().await;
    }
}

/// Every decoded group.
#[derive(Debug, Default)]
pub(crate) struct EvidenceCache {
    mirrors: HashMap<Arc<str>, MirrorEvidence>,
    config_maps: HashMap<String, Located>,
    /// Names that a list in progress has shown.
    listing: Option<HashSet<String>>,
    listed: bool,
    /// Mirrors whose evidence has changed since it was last published.
    changed: HashSet<Arc<str>>,
    existing: Existing,
}

/// What a ConfigMap held when it was last decoded.
#[derive(Clone, Debug)]
struct Located {
    uid: Arc<str>,
    place: GroupPlace,
    version: String,
    revision: u64,
}

/// The groups of one mirror.
#[derive(Debug, Default)]
struct MirrorEvidence {
    evidence: Evidence,
    /// Each place that there is content of, and whether its ConfigMap is there.
    places: BTreeMap<GroupPlace, bool>,
}

impl MirrorEvidence {
    fn put(&mut self, group: Group) {
        let place = group.place();
        self.evidence = self.evidence.with(Arc::new(group));
        self.places.insert(place, true);
        if self.is_complete(place.bits) {
            self.drop_missing(|missing| missing.bits != place.bits);
        }
    }

    /// A ConfigMap is gone or damaged; whether its content is kept, and is the first of this mirror that is missing.
    fn lose(&mut self, place: GroupPlace) -> bool {
        let was_there = self.places.insert(place, false) == Some(true);
        let sizes: BTreeSet<u8> = self.places.keys().map(|place| place.bits).collect();
        let replaced = |bits: &u8| *bits != place.bits && self.is_complete(*bits);
        if sizes.iter().any(replaced) {
            self.drop_missing(|missing| missing == place);
            return false;
        }
        was_there && self.missing() == 1
    }

    /// All groups of this size are there.
    fn is_complete(&self, bits: u8) -> bool {
        (0..1 << bits).all(|index| self.places.get(&GroupPlace { bits, index }) == Some(&true))
    }

    fn drop_missing(&mut self, which: impl Fn(GroupPlace) -> bool) {
        let evidence = &mut self.evidence;
        self.places.retain(|place, there| {
            let drop = !*there && which(*place);
            if drop {
                *evidence = evidence.without(*place);
            }
            !drop
        });
    }

    fn missing(&self) -> usize {
        self.places.values().filter(|there| !**there).count()
    }
}

impl EvidenceCache {
    /// Takes one event, and says what it showed of `ConfigMaps`.
    pub fn take(&mut self, event: Event<ConfigMap>) -> Vec<Sighting> {
        match event {
            Event::Init => {
                self.listing = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(config_map) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(config_map.name_any());
                }
                self.apply(&config_map, true).into_iter().collect()
            }
            Event::InitDone => {
                let listing = self.listing.take().unwrap_or_default();
                self.listed = true;
                let gone = self.config_maps.keys().filter(|name| !listing.contains(*name));
                let gone: Vec<String> = gone.cloned().collect();
                gone.iter().filter_map(|name| self.lose(name)).collect()
            }
            Event::Apply(config_map) => self.apply(&config_map, false).into_iter().collect(),
            Event::Delete(config_map) => self.lose(&config_map.name_any()).into_iter().collect(),
        }
    }

    /// Takes a ConfigMap. One that is as it was is worth telling only where a list shows it: its watch may have missed one between.
    fn apply(&mut self, config_map: &ConfigMap, listed: bool) -> Option<Sighting> {
        let name = config_map.name_any();
        let version = config_map.resource_version().unwrap_or_default();
        let uid = mirror_uid(config_map).map(Arc::<str>::from);
        let known = self.config_maps.get(&name);
        if let Some(known) = known.filter(|known| known.version == version) {
            return listed.then(|| Sighting::of(&known.uid, &name, &version, Some(known.revision)).listed(true));
        }
        let group = match read(config_map, &name) {
            Ok(group) => Some(group),
            Err(EvidenceError::UnknownVersion { version }) => {
                tracing::debug!(
                    config_map = name,
                    version,
                    "evidence of another version counts as not verified"
                );
                None
            }
            Err(error) => {
                tracing::warn!(config_map = name, %error, "a group of evidence is not used");
                None
            }
        };
        let place = group.as_ref().map(Group::place);
        let as_before = |known: &Located| uid.as_ref() == Some(&known.uid) && place == Some(known.place);
        // Another owner, another place, or nothing readable: what it held before is missing now.
        let lost = known
            .is_some_and(|known| !as_before(known))
            .then(|| self.lose(&name))
            .flatten();
        let Some(uid) = uid else {
            return lost;
        };
        let sighting = Sighting::of(&uid, &name, &version, group.as_ref().map(Group::revision)).listed(listed);
        if let Some(group) = group {
            let located = Located {
                uid: Arc::clone(&uid),
                place: group.place(),
                version,
                revision: group.revision(),
            };
            self.config_maps.insert(name, located);
            self.mirrors.entry(Arc::clone(&uid)).or_default().put(group);
            self.changed.insert(uid);
        }
        Some(sighting)
    }

    fn lose(&mut self, name: &str) -> Option<Sighting> {
        let Located { uid, place, .. } = self.config_maps.remove(name)?;
        let mirror = self.mirrors.get_mut(&uid)?;
        let first = mirror.lose(place);
        if self.existing.as_ref().is_some_and(|existing| !existing.contains(&uid)) {
            // It goes with its mirror.
            mirror.drop_missing(|_| true);
        } else if first {
            tracing::warn!(
                config_map = name,
                "evidence is missing; its last content is used until the leader writes it again"
            );
        }
        self.changed.insert(Arc::clone(&uid));
        Some(Sighting::deleted(&uid, name))
    }

    /// Drops what was kept of mirrors that are gone.
    pub fn retain(&mut self, existing: BTreeSet<Arc<str>>) {
        let changed = &mut self.changed;
        self.mirrors.retain(|uid, evidence| {
            if !existing.contains(uid) {
                evidence.drop_missing(|_| true);
            }
            if evidence.places.is_empty() {
                changed.insert(Arc::clone(uid));
            }
            !evidence.places.is_empty()
        });
        self.existing = Some(existing);
    }

    /// Groups whose last content is used although their ConfigMap is gone or damaged.
    pub fn missing(&self) -> usize {
        self.mirrors.values().map(MirrorEvidence::missing).sum()
    }

    /// Publishes what has changed, once everything was listed.
    pub fn publish(&mut self, stored: &watch::Sender<StoredEvidence>) {
        if !self.listed || (self.changed.is_empty() && stored.borrow().listed) {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        stored.send_modify(|stored| {
            stored.listed = true;
            let by_mirror = Arc::make_mut(&mut stored.by_mirror);
            for uid in changed {
                match self.mirrors.get(&uid) {
                    Some(mirror) => by_mirror.insert(uid, Arc::new(mirror.evidence.clone())),
                    None => by_mirror.remove(&uid),
                };
            }
        });
    }
}

/// Decodes the group of a ConfigMap; one under another name than its own is none of ours.
pub(super) fn read(config_map: &ConfigMap, name: &str) -> Result<Group, EvidenceError> {
    let bytes = config_map.binary_data.as_ref().and_then(|data| data.get(KEY));
    let group = Group::decode(&bytes.ok_or(EvidenceError::NoHeader)?.0)?;
    let mirror = config_map.labels().get(annotations::EVIDENCE);
    let own_name = mirror.map(|mirror| config_map_name(mirror, group.place()));
    if own_name.is_some_and(|own_name| own_name == name) {
        Ok(group)
    } else {
        Err(EvidenceError::Damaged)
    }
}

#[cfg(test)]
mod tests;
