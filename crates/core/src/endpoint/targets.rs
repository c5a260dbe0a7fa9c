//! What one endpoint is probed with: the manifests that its mirrors name, one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::digest::Digest;

/// Manifests that are waiting to be asked for before it is their turn.
const MOST_WAITING: usize = 8;

/// Paths that are left out at most; the oldest is tried again.
const MOST_AVOIDED: usize = 64;

/// A manifest to probe with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The repository's full path at the registry.
    pub path: String,
    /// The manifest's digest.
    pub digest: Digest,
}

/// All that the mirrors of an endpoint name.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    /// How many name each.
    all: BTreeMap<Target, usize>,
    last: Option<Target>,
    /// Those that somebody waits for.
    waiting: VecDeque<Target>,
    /// Those that said nothing about the registry when they were asked for last.
    avoided: VecDeque<Target>,
}

impl Targets {
    pub(super) fn add(&mut self, targets: &[Target]) {
        for target in targets {
            *self.all.entry(target.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, targets: &[Target]) {
        for target in targets {
            if let Some(count) = self.all.get_mut(target) {
                *count -= 1;
                if *count == 0 {
                    self.all.remove(target);
                    self.avoided.retain(|avoided| avoided != target);
                    self.waiting.retain(|waiting| waiting != target);
                }
            }
        }
    }

    /// Has a target asked for next.
    pub(super) fn want(&mut self, target: &Target) {
        self.avoided.retain(|avoided| avoided != target);
        if self.waiting.len() < MOST_WAITING && !self.waiting.contains(target) {
            self.waiting.push_back(target.clone());
        }
    }

    /// Leaves a target out while there are others. Whether it was not left out before.
    pub(super) fn avoid(&mut self, target: &Target) -> bool {
        if self.avoided.contains(target) {
            return false;
        }
        if self.avoided.len() >= MOST_AVOIDED {
            self.avoided.pop_front();
        }
        self.avoided.push_back(target.clone());
        true
    }

    /// The target of the next probe: of the repository in `wish`, if there is one; else the next one that is not to be skipped.
    pub(super) fn next(&mut self, wish: Option<&str>, skip: impl Fn(&str) -> bool) -> Option<Target> {
        let wished = wish.and_then(|path| self.all.keys().find(|target| target.path == path));
        let chosen = match wished {
            Some(target) => target.clone(),
            None => self.waiting.pop_front().or_else(|| self.in_turn(skip))?,
        };
        if wish.is_none() {
            self.last = Some(chosen.clone());
        }
        Some(chosen)
    }

    fn in_turn(&self, skip: impl Fn(&str) -> bool) -> Option<Target> {
        let from = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let after = self
            .all
            .range::<Target, _>((from, Bound::Unbounded))
            .map(|(target, _)| target);
        let mut order = after.chain(self.all.keys());
        let good = order.find(|target| !self.avoided.contains(target) && !skip(&target.path));
        good.or_else(|| self.all.keys().next()).cloned()
    }

    /// Whether all targets are of one repository, or there is none.
    pub(super) fn is_one_path(&self) -> bool {
        let mut paths = self.all.keys().map(|target| target.path.as_str());
        let first = paths.next();
        paths.all(|path| Some(path) == first)
    }

    pub(super) fn has_path(&self, path: &str) -> bool {
        self.all.keys().any(|target| target.path == path)
    }
}
