//! Readings of repositories that several mirrors verify: what one has just read, the others need not ask for.
//!
//! Two looks of one mirror are always two readings: a mirror takes over only what was read after its own last look, and
//! not longer ago than half its interval. Nothing is kept of a repository that one mirror alone verifies.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catamaran_core::mirror::parity::Observed;
use catamaran_core::policy::{MirrorPolicy, Repositories, SidePolicy};
use catamaran_core::side::{Side, Sides};
use catamaran_registry::ListedTag;
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use self::inspections::Inspections;
use self::listings::Listings;

pub(super) mod inspections;
mod listings;

/// The tags of a repository by name, as one side listed them.
pub type Listing = BTreeMap<String, ListedTag>;

/// A repository as seen with one credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    account: SidePolicy,
    path: String,
}

impl Place {
    fn new(side: &SidePolicy, path: &str) -> Place {
        // What does not decide who asks whom.
        let account = SidePolicy {
            prefix: String::new(),
            image_pull_secrets: Vec::new(),
            requests_per_minute: None,
            ..side.clone()
        };
        Place {
            account,
            path: path.to_owned(),
        }
    }
}

/// The readings that are shared at present. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    places: Arc<Mutex<HashMap<Place, Arc<Shared>>>>,
    /// Below the tags.
    pub(super) inspections: Inspections,
    pub(super) listings: Listings,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held by the mirror that is looking.
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The mirrors that verify the repository, by UID, and when each had last looked.
    claims: HashMap<Arc<str>, Option<Timestamp>>,
    listing: Option<(Timestamp, Arc<Listing>)>,
    digests: HashMap<Box<str>, (Timestamp, Observed)>,
}

impl Readings {
    /// Notes what a mirror verifies, in place of what it did before.
    pub fn claim(&self, policy: &MirrorPolicy) {
        let Repositories::Listed(rules) = &policy.repositories else {
            return self.release(&policy.id.uid);
        };
        let places: HashSet<Place> = rules
            .iter()
            .flat_map(|rule| {
                Side::ALL
                    .into_iter()
                    .map(|side| Place::new(&policy.sides[side], &rule.paths[side]))
            })
            .collect();
        let uid = &policy.id.uid;
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|place, shared| places.contains(place) || shared.release(|other| other == &**uid));
        for place in places {
            all.entry(place)
                .or_default()
                .state()
                .claims
                .entry(Arc::clone(uid))
                .or_insert(None);
        }
    }

    /// Forgets a mirror that verifies nothing any more.
    fn release(&self, uid: &str) {
        self.retain(|other| other != uid);
    }

    /// Forgets mirrors that are gone.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, shared| shared.release(|uid| !keep(uid)));
    }

    /// Waits until no other mirror looks at these two repositories. A side that no other mirror verifies has no turn.
    ///
    /// `paths` are the full paths on each side.
    pub async fn turns(&self, policy: &MirrorPolicy, paths: Sides<&str>, now: Timestamp) -> Sides<Option<Turn>> {
        let mut places: Vec<(Side, Place)> = Side::ALL
            .into_iter()
            .map(|side| (side, Place::new(&policy.sides[side], paths[side])))
            .collect();
        // In one order for everyone: two mirrors may have their sides the other way round.
        places.sort_by(|one, other| one.1.cmp(&other.1));
        let mut turns = Sides::default();
        for (side, place) in places {
            if let Some(shared) = self.shared(&place) {
                turns[side] = Some(Turn::take(shared, policy, now).await);
            }
        }
        turns
    }

    fn shared(&self, place: &Place) -> Option<Arc<Shared>> {
        let all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = all.get(place)?;
        (shared.state().claims.len() > 1).then(|| Arc::clone(shared))
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops claims; whether any is left. With one left there is nobody to share with.
    fn release(&self, mut gone: impl FnMut(&str) -> bool) -> bool {
        let mut state = self.state();
        state.claims.retain(|uid, _| !gone(uid));
        if state.claims.len() < 2 {
            state.listing = None;
            state.digests = HashMap::new();
        }
        !state.claims.is_empty()
    }
}

/// A mirror's turn to look at one repository.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    uid: Arc<str>,
    /// Readings before this are too old, or were this mirror's already.
    after: Timestamp,
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    async fn take(shared: Arc<Shared>, policy: &MirrorPolicy, now: Timestamp) -> Turn {
        let turn = Arc::clone(&shared.turn).lock_owned().await;
        let uid = Arc::clone(&policy.id.uid);
        let oldest = older(now, policy.parity.interval / 2);
        let last = shared.state().claims.get(&uid).copied().flatten();
        Turn {
            after: last.map_or(oldest, |last| last.max(oldest)),
            shared,
            uid,
            _guard: turn,
        }
    }

    /// The listing, if another mirror has read it.
    pub fn listing(&self) -> Option<Arc<Listing>> {
        let state = self.shared.state();
        let (at, listing) = state.listing.as_ref()?;
        (*at > self.after).then(|| Arc::clone(listing))
    }

    /// Keeps a listing for the others.
    pub fn keep_listing(&self, listing: &Arc<Listing>, now: Timestamp) {
        let mut state = self.shared.state();
        state.digests.retain(|tag, _| listing.contains_key(&**tag));
        state.listing = Some((now, Arc::clone(listing)));
    }

    /// What a tag stands for, if another mirror has read it.
    pub fn digest(&self, tag: &str) -> Option<Observed> {
        let state = self.shared.state();
        let (at, seen) = state.digests.get(tag)?;
        (*at > self.after).then(|| seen.clone())
    }

    /// Keeps what a tag stands for, for the others.
    pub fn keep_digest(&self, tag: &str, seen: &Observed, now: Timestamp) {
        self.shared.state().digests.insert(tag.into(), (now, seen.clone()));
    }

    /// Ends the turn: what was read until `now` is no news to this mirror.
    pub fn end(self, now: Timestamp) {
        if let Some(last) = self.shared.state().claims.get_mut(&self.uid) {
            *last = Some(now);
        }
    }
}

fn older(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
