//! The mirrors as this replica sees them: the policy and status in force, and the news for their tasks.
//!
//! * A spec is parsed once for each generation and shared from then on.
//! * A spec that makes no sense, or can't be decoded, leaves the last one that did in force: a typo must not take the routes
//!   away. A replica that starts while the spec makes no sense knows none, and leaves pods alone.
//! * A mirror that is deleted has no route from that moment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::{PolicyError, policy};
use catamaran_core::digest::Digest;
use catamaran_core::mirror::failover::Standing;
use catamaran_core::policy::MirrorPolicy;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::epoch::{FollowedStatus, RouteStatus};
use super::flips::Flips;
use super::lag::Delivered;
use super::news::{MirrorNews, NewsSender, ValidPolicy};
use super::{Mirror, MirrorObject};

/// One mirror.
#[derive(Debug, Default)]
pub(crate) struct SeenMirror {
    name: String,
    /// The last one that could be decoded, with what its spec says.
    parsed: Option<Parsed>,
    last_valid: Option<ValidPolicy>,
    /// The valid policy whose override has ended, and the same without it.
    ended: Option<Sequel>,
    status: Option<FollowedStatus>,
}

#[derive(Debug)]
struct Sequel {
    of: Arc<MirrorPolicy>,
    policy: Arc<MirrorPolicy>,
}

#[derive(Debug)]
struct Parsed {
    mirror: Arc<MirrorObject>,
    /// What tells its spec from others; the generation does not after a restore of etcd.
    spec: Digest,
    status: RouteStatus,
    policy: Result<Arc<MirrorPolicy>, PolicyError>,
}

impl SeenMirror {
    /// The policy and the status in force, if it has a route.
    pub fn in_force(&self) -> Option<(&Arc<MirrorPolicy>, &RouteStatus)> {
        let valid = &self.last_valid.as_ref()?.policy;
        let ended = self.ended.as_ref().filter(|ended| Arc::ptr_eq(&ended.of, valid));
        let policy = ended.map_or(valid, |ended| &ended.policy);
        Some((policy, self.status.as_ref()?.current()))
    }

    /// Takes the policy without its override into force once that has ended; whether it did so now.
    fn end_override(&mut self, now: Timestamp) -> bool {
        let Some(valid) = &self.last_valid else { return false };
        if self
            .ended
            .as_ref()
            .is_some_and(|ended| Arc::ptr_eq(&ended.of, &valid.policy))
        {
            return false;
        }
        self.ended = valid.policy.after_override(now).map(|policy| Sequel {
            of: Arc::clone(&valid.policy),
            policy: Arc::new(policy),
        });
        self.ended.is_some()
    }

    fn apply(&mut self, mirror: RegistryMirror, flip: Option<&Arc<Standing>>, now: Instant) -> MirrorNews {
        let (object, spec) = match kept(&mirror) {
            Ok(kept) => kept,
            Err(error) => {
                let error = error.to_string();
                let metadata = mirror.metadata;
                return self.refuse(InvalidObject { error, metadata });
            }
        };
        let generation = object.generation;
        let same = |parsed: &&Parsed| parsed.mirror.generation == generation && parsed.spec == spec;
        let policy = match self.parsed.as_ref().filter(same) {
            Some(parsed) => parsed.policy.clone(),
            None => policy(&mirror).map(Arc::new),
        };
        match &policy {
            Ok(policy) => {
                self.last_valid = Some(ValidPolicy {
                    policy: Arc::clone(policy),
                    generation,
                });
            }
            Err(error) => tracing::debug!(mirror = mirror.name_any(), %error, "the last valid spec stays in force"),
        }
        let parsed = Parsed {
            mirror: Arc::new(object),
            spec,
            status: RouteStatus::of(&mirror),
            policy,
        };
        self.observe(&parsed, flip, now);
        let news = self.applied(&parsed, flip);
        self.parsed = Some(parsed);
        news
    }

    fn observe(&mut self, parsed: &Parsed, flip: Option<&Arc<Standing>>, now: Instant) {
        let status = parsed.status.clone().with(flip.map(Arc::as_ref));
        match &mut self.status {
            Some(followed) => followed.observe(status, now),
            None => self.status = Some(FollowedStatus::new(status)),
        }
    }

    fn applied(&self, parsed: &Parsed, flip: Option<&Arc<Standing>>) -> MirrorNews {
        MirrorNews::Applied {
            mirror: Arc::clone(&parsed.mirror),
            policy: parsed.policy.clone(),
            last_valid: self.last_valid.clone(),
            flip: flip.cloned(),
        }
    }

    /// Takes a flip that is stored apart from the status; what its task is to hear.
    fn flip(&mut self, flip: &Arc<Standing>, now: Instant) -> Option<MirrorNews> {
        let parsed = self.parsed.take()?;
        self.observe(&parsed, Some(flip), now);
        let news = self.applied(&parsed, Some(flip));
        self.parsed = Some(parsed);
        Some(news)
    }

    /// The epoch that the status itself says.
    fn epoch(&self) -> Option<u64> {
        let parsed = self.parsed.as_ref()?;
        Some(parsed.status.epoch)
    }

    fn refuse(&self, invalid: InvalidObject) -> MirrorNews {
        MirrorNews::Unreadable {
            invalid: Arc::new(invalid),
            last_valid: self.last_valid.clone(),
        }
    }

    /// What the route depends on: most writes to a mirror change counters only.
    fn route_key(&self) -> Option<(*const MirrorPolicy, RouteStatus)> {
        let (policy, status) = self.in_force()?;
        Some((Arc::as_ptr(policy), status.clone()))
    }
}

/// All mirrors, by UID.
#[derive(Debug)]
pub(crate) struct SeenMirrors {
    mirrors: HashMap<Arc<str>, SeenMirror>,
    /// Their names; another map when there are other mirrors.
    names: Arc<HashMap<String, String>>,
    /// UIDs of those of which a lower epoch is held back.
    doubtful: HashSet<Arc<str>>,
    /// Flips that are stored apart from statuses, and the UIDs of the mirrors whose status does not say so yet.
    flips: Arc<Flips>,
    unsaid: HashSet<Arc<str>>,
    delivered: Delivered,
    /// UIDs that a list in progress has shown.
    listing: Option<HashSet<Arc<str>>>,
    listed: bool,
    news: NewsSender,
}

impl SeenMirrors {
    /// No mirrors yet; `news` gets what happens to them.
    pub fn new(news: NewsSender) -> SeenMirrors {
        SeenMirrors {
            mirrors: HashMap::new(),
            names: Arc::default(),
            doubtful: HashSet::new(),
            flips: Arc::default(),
            unsaid: HashSet::new(),
            delivered: Delivered::default(),
            listing: None,
            listed: false,
            news,
        }
    }

    /// Takes one event; whether a route may have changed.
    pub fn take(&mut self, event: Event<Mirror>, now: Instant) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(HashSet::new());
                self.delivered.restarted();
                false
            }
            Event::InitApply(mirror) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(uid(&mirror));
                }
                self.apply(mirror, now)
            }
            Event::InitDone => {
                let listing = self.listing.take().unwrap_or_default();
                let gone = self.mirrors.keys().filter(|uid| !listing.contains(*uid));
                let gone: Vec<Arc<str>> = gone.cloned().collect();
                let mut relevant = !std::mem::replace(&mut self.listed, true);
                for uid in gone {
                    relevant |= self.remove(&uid, None);
                }
                self.news.listed();
                relevant
            }
            Event::Apply(mirror) => self.apply(mirror, now),
            Event::Delete(mirror) => self.remove(&uid(&mirror), mirror.resource_version().as_deref()),
        }
    }

    fn apply(&mut self, mirror: Mirror, now: Instant) -> bool {
        let (uid, name) = (uid(&mirror), mirror.name_any());
        self.delivered
            .exists(&uid, mirror.resource_version().unwrap_or_default());
        let is_new = !self.mirrors.contains_key(&uid);
        let seen = self.mirrors.entry(Arc::clone(&uid)).or_default();
        let before = seen.route_key();
        if is_new || seen.name != name {
            Arc::make_mut(&mut self.names).insert(uid.as_ref().to_owned(), name.clone());
        }
        seen.name = name;
        let flip = self.flips.get(&uid);
        let news = match mirror.0 {
            Ok(mirror) => seen.apply(mirror, flip, now),
            Err(invalid) => seen.refuse(invalid),
        };
        if flip.is_some_and(|flip| seen.epoch() < Some(flip.epoch)) {
            self.unsaid.insert(Arc::clone(&uid));
        } else {
            self.unsaid.remove(&uid);
        }
        if seen.status.as_ref().is_some_and(FollowedStatus::is_in_doubt) {
            self.doubtful.insert(Arc::clone(&uid));
        } else {
            self.doubtful.remove(&uid);
        }
        self.news.exists(&uid, news);
        is_new || seen.route_key() != before
    }

    fn remove(&mut self, uid: &Arc<str>, version: Option<&str>) -> bool {
        self.delivered.gone(uid, version);
        let removed = self.mirrors.remove(uid).is_some();
        if removed {
            Arc::make_mut(&mut self.names).remove(uid.as_ref());
            self.doubtful.remove(uid);
            self.unsaid.remove(uid);
            self.news.deleted(uid);
        }
        removed
    }

    /// Takes the flips that are stored apart from statuses now; whether a route may have changed. One that is gone says nothing: its
    /// status says it, or both were restored.
    pub fn take_flips(&mut self, flips: Arc<Flips>, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.flips, flips);
        self.unsaid.clear();
        let mut relevant = false;
        for (uid, flip) in &*self.flips {
            let Some(seen) = self.mirrors.get_mut(uid) else {
                continue;
            };
            if seen.epoch() >= Some(flip.epoch) {
                continue;
            }
            self.unsaid.insert(Arc::clone(uid));
            if before.get(uid) != Some(flip)
                && let Some(news) = seen.flip(flip, now)
            {
                self.news.exists(uid, news);
                relevant = true;
            }
        }
        relevant
    }

    /// Whether flips are stored apart, and each status says its own.
    pub fn are_flips_said(&self) -> bool {
        self.listed && !self.flips.is_empty() && self.unsaid.is_empty()
    }

    /// What a consistent read has shown of a mirror's status, with its flip that is stored apart.
    pub fn confirm(&mut self, statuses: &BTreeMap<Arc<str>, RouteStatus>) -> bool {
        let flips = Arc::clone(&self.flips);
        self.settle(|uid, status| {
            if let Some(read) = statuses.get(uid) {
                status.confirm(&read.clone().with(flips.get(uid).map(Arc::as_ref)));
            }
        })
    }

    /// Ends the overrides whose time is over; whether a route has changed.
    pub fn end_overrides(&mut self, now: Timestamp) -> bool {
        let ended = self
            .mirrors
            .values_mut()
            .filter_map(|seen| seen.end_override(now).then_some(()));
        ended.count() > 0
    }

    /// Whether they were listed once.
    pub fn listed(&self) -> bool {
        self.listed
    }

    /// Each with its UID.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &SeenMirror)> {
        self.mirrors.iter()
    }

    /// The UIDs of those that exist.
    pub fn uids(&self) -> BTreeSet<Arc<str>> {
        self.mirrors.keys().cloned().collect()
    }

    /// The name of each by its UID: the same map for as long as they are the same mirrors.
    pub fn names(&self) -> &Arc<HashMap<String, String>> {
        &self.names
    }

    /// What was delivered.
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// Whether a lower epoch of one of them is held back.
    pub fn in_doubt(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Applies `believe` to each lower epoch that is held back; whether a route has changed.
    pub fn settle(&mut self, believe: impl Fn(&str, &mut FollowedStatus)) -> bool {
        let before = self.doubtful.len();
        self.doubtful.retain(|uid| {
            let mirror = self.mirrors.get_mut(uid);
            let Some((name, status)) = mirror.and_then(|mirror| Some((&mirror.name, mirror.status.as_mut()?))) else {
                return false;
            };
            believe(uid, status);
            if !status.is_in_doubt() {
                let epoch = status.current().epoch;
                tracing::warn!(
                    mirror = name,
                    epoch,
                    "following a status with a lower epoch: it was restored or reset"
                );
            }
            status.is_in_doubt()
        });
        self.doubtful.len() < before
    }
}

/// What is kept of an object, and the digest of its spec.
fn kept(mirror: &RegistryMirror) -> serde_json::Result<(MirrorObject, Digest)> {
    let spec = serde_json::to_vec(&mirror.spec)?;
    Ok((MirrorObject::of(mirror)?, Digest::of(&spec)))
}

fn uid(mirror: &Mirror) -> Arc<str> {
    mirror.uid().unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
