//! The routes of a cluster that was read once, for commands: what a replica makes of the same objects.
//!
//! What a replica knows besides is missing: a spec that was valid before the last edit, and an epoch that is held back.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::{PolicyError, policy};
use catamaran_core::mirror::active_side;
use catamaran_core::routing::Route;
use catamaran_core::routing::evidence::{Evidence, GroupPlace};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;

use super::epoch::RouteStatus;
use super::evidence::read;
use super::flips;
use super::store::mirror_uid;
use crate::events::CONTROLLER;

/// The evidence of one mirror, as its `ConfigMaps` hold it.
#[derive(Clone, Debug, Default)]
pub struct ReadEvidence {
    /// What they say.
    pub evidence: Arc<Evidence>,
    /// When each group was last changed, as far as the API server says.
    pub written: BTreeMap<GroupPlace, Timestamp>,
    /// `ConfigMaps` that could not be used, each with the reason.
    pub damaged: Vec<String>,
    /// How many groups there are, and how many there should be.
    pub groups: (usize, usize),
}

/// The route of a mirror; an override that has ended by `now` is over.
///
/// # Errors
/// A [`PolicyError`] for a spec that makes no sense.
pub fn route(mirror: &RegistryMirror, evidence: &Arc<Evidence>, now: Timestamp) -> Result<Route, PolicyError> {
    let policy = policy(mirror)?;
    let policy = Arc::new(policy.after_override(now).unwrap_or(policy));
    Ok(RouteStatus::of(mirror).route(&policy, Arc::clone(evidence)))
}

/// Takes the flips into account that a ConfigMap holds for statuses that do not say them yet.
pub fn flip<'r>(routes: impl IntoIterator<Item = &'r mut Route>, config_map: &ConfigMap) {
    let flips = flips::stored(config_map);
    for route in routes {
        let flip = flips.get(&route.policy.id.uid).filter(|flip| flip.epoch > route.epoch);
        if let Some(flip) = flip {
            route.active = active_side(&route.policy, flip.active, flip.registry.as_deref());
            route.epoch = flip.epoch;
        }
    }
}

/// The evidence that these `ConfigMaps` hold, by the UID of the mirror.
pub fn evidence<'c>(config_maps: impl IntoIterator<Item = &'c ConfigMap>) -> BTreeMap<String, ReadEvidence> {
    let mut by_mirror: BTreeMap<String, ReadEvidence> = BTreeMap::new();
    for config_map in config_maps {
        let Some(uid) = mirror_uid(config_map) else { continue };
        by_mirror.entry(uid.to_owned()).or_default().add(config_map);
    }
    for found in by_mirror.values_mut() {
        let bits = found.evidence.groups().iter().map(|group| group.place().bits);
        // While all groups are rewritten in another size, those of one size are all there.
        let per_size = |size: u8| bits.clone().filter(|bits| *bits == size).count();
        let sizes = bits.clone().map(|size| (per_size(size), 1 << size));
        let whole = |(there, wanted): &(usize, usize)| *there as f64 / *wanted as f64;
        found.groups = sizes.max_by(|a, b| whole(a).total_cmp(&whole(b))).unwrap_or_default();
    }
    by_mirror
}

impl ReadEvidence {
    fn add(&mut self, config_map: &ConfigMap) {
        let name = config_map.name_any();
        match read(config_map, &name) {
            Ok(group) => {
                if let Some(time) = written(config_map) {
                    self.written.insert(group.place(), time);
                }
                self.evidence = Arc::new(self.evidence.with(Arc::new(group)));
            }
            Err(error) => self.damaged.push(format!("{name}: {error}")),
        }
    }
}

/// When the operator last changed what a ConfigMap holds.
fn written(config_map: &ConfigMap) -> Option<Timestamp> {
    let fields = config_map.metadata.managed_fields.iter().flatten();
    let by_operator = fields.filter(|entry| entry.manager.as_deref() == Some(CONTROLLER));
    let times = by_operator.filter_map(|entry| Some(entry.time.as_ref()?.0));
    let created = || Some(config_map.metadata.creation_timestamp.as_ref()?.0);
    times.max().or_else(created)
}

#[cfg(test)]
mod tests;
