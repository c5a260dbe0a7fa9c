//! The evidence of a leader's mirror on its way out: what was published, and what is still to be stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_core::mirror::Mirror;
use catamaran_core::routing::evidence::{Evidence, Group, GroupPlace};
use tokio::time::Instant;

use crate::publish::{EvidenceWriteError, Written};

/// Groups of the evidence by their place.
pub(super) type Groups = BTreeMap<GroupPlace, Arc<Group>>;

/// The groups of one mirror.
#[derive(Debug, Default)]
pub(super) struct EvidenceOut {
    groups: Groups,
    unstored: Groups,
    storing: bool,
    not_before: Option<Instant>,
}

impl EvidenceOut {
    /// Takes over the groups that changed; all of the evidence.
    pub(super) fn update(&mut self, mirror: &Mirror, places: &[GroupPlace]) -> Evidence {
        let all = mirror.groups();
        for place in places.iter().filter(|place| all.contains(place)) {
            let group = Arc::new(mirror.group(*place));
            self.groups.insert(*place, Arc::clone(&group));
            self.unstored.insert(*place, group);
        }
        self.groups.retain(|place, _| all.contains(place));
        self.unstored.retain(|place, _| all.contains(place));
        let groups = self.groups.values();
        groups.fold(Evidence::default(), |all, group| all.with(Arc::clone(group)))
    }

    /// What was stored is gone or was changed by others: all of it is stored again.
    pub(super) fn lost(&mut self) {
        self.unstored = self.groups.clone();
    }

    /// What is to be stored now, and all places that there are. None while a write is under way or must wait.
    pub(super) fn begin(&mut self) -> Option<(Groups, Vec<GroupPlace>)> {
        if self.not_before.is_some_and(|at| at <= Instant::now()) {
            self.not_before = None;
        }
        if self.storing || self.unstored.is_empty() || self.not_before.is_some() {
            return None;
        }
        self.storing = true;
        Some((
            std::mem::take(&mut self.unstored),
            self.groups.keys().copied().collect(),
        ))
    }

    /// A write has ended; what to report of it, if it is worth a condition.
    pub(super) fn ended(
        &mut self,
        result: Result<Written, EvidenceWriteError>,
        groups: Groups,
    ) -> Option<Result<(), String>> {
        self.storing = false;
        match result {
            Ok(written) => {
                for place in written.missing {
                    if let Some(group) = self.groups.get(&place) {
                        self.unstored.entry(place).or_insert_with(|| Arc::clone(group));
                    }
                }
                Some(Ok(()))
            }
            Err(error) => {
                for (place, group) in groups {
                    if self.groups.contains_key(&place) {
                        self.unstored.entry(place).or_insert(group);
                    }
                }
                self.not_before = Some(Instant::now() + error.retry_after);
                let worth = error.is_worth_a_condition();
                worth.then(|| Err(error.failure.message().to_owned()))
            }
        }
    }

    /// When what is left may be stored.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.unstored.is_empty() && !self.storing)
    }
}
