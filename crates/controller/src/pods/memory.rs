//! What the rescuer remembers of what it did. All of it can be lost: a new leader tries once more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use catamaran_core::policy::MirrorId;
use catamaran_core::rescue::{ImagePatch, Replacement, Repointed, RescueReport};
use tokio::time::Instant;

use super::record::PodRecord;
use super::refusals::Refusals;
use super::wanted::Wants;

/// How long the pods of one `ReplicaSet` are not replaced again, only patched.
const REPLACE_AGAIN: Duration = Duration::from_mins(5);

/// How long the first pods of a `ReplicaSet` are replaced together.
const SETTLE: Duration = Duration::from_secs(5);

/// Pods of which each list remembers something; forgotten when there are too many.
const MOST: usize = 10_000;

/// What the rescuer remembers.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What the API server refused.
    pub(crate) refusals: Refusals,
    /// What mirrors are asked to read.
    pub(crate) wants: Wants,
    /// Pods rescued since it was reported, by mirror.
    pub(crate) rescued: BTreeMap<MirrorId, u64>,
    reported: HashSet<(Box<str>, RescueReport)>,
    /// When the pods of a controller were replaced, by its UID.
    replaced: HashMap<Box<str>, Instant>,
    undeletable: HashSet<Box<str>>,
    /// Containers that were re-pointed without a note on their pod, by its UID.
    unnoted: HashMap<Box<str>, Unnoted>,
}

/// The mirrors and epochs of containers that were re-pointed, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unnoted(BTreeMap<Box<str>, (MirrorId, u64)>);

impl Unnoted {
    /// When this container was.
    pub(crate) fn get(&self, container: &str) -> Option<Repointed<'_>> {
        let (mirror, epoch) = self.0.get(container)?;
        Some(Repointed {
            mirror: &mirror.name,
            epoch: *epoch,
        })
    }
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory {
            refusals: Refusals::default(),
            wants: Wants::new(),
            rescued: BTreeMap::new(),
            reported: HashSet::new(),
            replaced: HashMap::new(),
            undeletable: HashSet::new(),
            unnoted: HashMap::new(),
        }
    }

    /// Whether this was not reported of this pod before.
    pub(crate) fn is_first(&mut self, uid: &str, report: &RescueReport) -> bool {
        if self.reported.len() >= MOST {
            self.reported.clear();
        }
        self.reported.insert((uid.into(), report.clone()))
    }

    /// Whether a pod may be replaced, by what was done before.
    pub(crate) fn replacement(&self, pod: &PodRecord, now: Instant) -> Replacement {
        let replaced = pod.controller_uid().and_then(|owner| self.replaced.get(owner));
        let since = replaced.map(|at| now.saturating_duration_since(*at));
        if self.undeletable.contains(&pod.uid) {
            Replacement::Refused
        } else if since.is_some_and(|since| since > SETTLE && since < REPLACE_AGAIN) {
            Replacement::ReplacedOfLate
        } else {
            Replacement::Possible
        }
    }

    /// Notes that a pod was replaced.
    pub(crate) fn note_replaced(&mut self, pod: &PodRecord, now: Instant) {
        self.replaced
            .retain(|_, at| now.saturating_duration_since(*at) < REPLACE_AGAIN);
        if let Some(owner) = pod.controller_uid() {
            self.replaced.entry(owner.into()).or_insert(now);
        }
    }

    /// Notes that a pod can't be deleted; whether that is news.
    pub(crate) fn note_undeletable(&mut self, uid: &str) -> bool {
        if self.undeletable.len() >= MOST {
            self.undeletable.clear();
        }
        self.undeletable.insert(uid.into())
    }

    /// Notes that containers were re-pointed without a note on their pod.
    pub(crate) fn note_repointed(&mut self, uid: &str, patches: &[ImagePatch]) {
        if self.unnoted.len() >= MOST {
            self.unnoted.clear();
        }
        let containers = &mut self.unnoted.entry(uid.into()).or_default().0;
        for patch in patches {
            containers.insert(patch.name.as_str().into(), (patch.mirror.clone(), patch.epoch));
        }
    }

    /// What was re-pointed without a note on its pod.
    pub(crate) fn unnoted(&self, uid: &str) -> Unnoted {
        self.unnoted.get(uid).cloned().unwrap_or_default()
    }
}
