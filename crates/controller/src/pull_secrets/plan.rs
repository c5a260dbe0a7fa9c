//! Which Secrets should be, and what to do about those that are. Nothing here talks to anybody.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_core::routing::RouteTable;
use catamaran_core::side::Side;
use jiff::Timestamp;

use super::complaints::Complaint;
use super::wanted::{Place, Wanted};

/// Where the administrator allows minting. Both empty: nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Namespaces that Secrets may be minted into.
    pub namespaces: BTreeSet<String>,
    /// The names that they may have.
    pub names: BTreeSet<String>,
}

impl Settings {
    /// Every place that may hold a Secret of ours: namespaces that exist, with each name.
    pub fn places(&self, table: &RouteTable) -> Vec<Place> {
        let there = self
            .namespaces
            .iter()
            .filter(|name| table.namespaces().contains_key(*name));
        let places = there.flat_map(|namespace| self.names.iter().map(|name| Place::new(namespace, name)));
        places.collect()
    }
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing.
    Absent,
    /// A Secret that we did not make.
    Foreign,
    /// One of ours.
    Ours(Ours),
}

/// A Secret that we made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours {
    /// The UID of the mirror that owns it.
    pub mirror: Option<String>,
    /// The registry that it is for.
    pub registry: Option<String>,
    /// When it was minted.
    pub minted: Option<Timestamp>,
    /// When its token ends.
    pub expires: Option<Timestamp>,
    /// Its own UID.
    pub uid: Option<String>,
    /// Its resource version.
    pub version: Option<String>,
}

impl Ours {
    /// Whether it is what is wanted, its age aside.
    pub fn serves(&self, wanted: &Wanted) -> bool {
        self.mirror.as_deref() == Some(&*wanted.mirror.uid) && self.registry.as_ref() == Some(&wanted.registry)
    }

    /// Whether half of the token's life is over.
    fn is_due(&self, now: Timestamp) -> bool {
        let (Some(minted), Some(expires)) = (self.minted, self.expires) else {
            return true;
        };
        now.duration_since(minted) >= expires.duration_since(minted) / 2
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Mint it and write it.
    Write(&'a Wanted),
    /// Remove it.
    Remove(&'a Place),
    /// Tell that somebody else's Secret is in its place.
    Foreign(&'a Wanted),
}

/// The Secrets that mirrors ask for and the administrator allows, and why others are not made. Of two mirrors that ask for
/// one Secret the older gets it.
pub fn wanted(settings: &Settings, table: &RouteTable) -> (BTreeMap<Place, Wanted>, BTreeSet<Complaint>) {
    let mut wanted = BTreeMap::<Place, Wanted>::new();
    let mut complaints = BTreeSet::new();
    for route in table.routes() {
        let policy = &route.policy;
        for side in Side::ALL {
            for name in &policy.sides[side].minted_pull_secrets {
                if !settings.names.contains(name) {
                    complaints.insert(Complaint::not_allowed(&policy.id, name));
                    continue;
                }
                let selected = settings.namespaces.iter().filter(|namespace| {
                    let labels = table.namespaces().get(*namespace);
                    labels.is_some_and(|labels| policy.namespaces.matches(labels))
                });
                for namespace in selected {
                    let place = Place::new(namespace, name);
                    if let Some(first) = wanted.get(&place) {
                        complaints.insert(Complaint::taken(&policy.id, &first.mirror, name));
                        continue;
                    }
                    let one = Wanted {
                        place: place.clone(),
                        mirror: policy.id.clone(),
                        side,
                        registry: policy.sides[side].registry.clone(),
                    };
                    wanted.insert(place, one);
                }
            }
        }
    }
    (wanted, complaints)
}

/// What to do about every place that could be looked at.
///
/// A Secret that nobody asks for is removed if its mirror is gone or says so; that of a mirror which is suspended or can't be
/// read stays: its pods still pull with it.
pub fn plan<'a>(
    wanted: &'a BTreeMap<Place, Wanted>,
    existing: &'a BTreeMap<Place, Existing>,
    table: &RouteTable,
    mirrors: &BTreeSet<&str>,
    now: Timestamp,
) -> Vec<Step<'a>> {
    let speaks = |uid: &str| table.routes().iter().any(|route| &*route.policy.id.uid == uid);
    let step = |(place, existing): (&'a Place, &'a Existing)| match (wanted.get(place), existing) {
        (Some(wanted), Existing::Absent) => Some(Step::Write(wanted)),
        (Some(wanted), Existing::Foreign) => Some(Step::Foreign(wanted)),
        (Some(wanted), Existing::Ours(ours)) => {
            let good = ours.serves(wanted) && !ours.is_due(now);
            (!good).then_some(Step::Write(wanted))
        }
        (None, Existing::Ours(ours)) => {
            let uid = ours.mirror.as_deref().unwrap_or_default();
            let over = speaks(uid) || !mirrors.contains(uid);
            over.then_some(Step::Remove(place))
        }
        (None, _) => None,
    };
    existing.iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests;
