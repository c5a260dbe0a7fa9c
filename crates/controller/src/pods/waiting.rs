//! The pods that wait, within bounds.
//!
//! Other people's pods must not be able to fill this process' memory: there is a limit in number and in bytes, and a namespace
//! with few pods takes the room of one with many.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::record::PodRecord;

/// Pods that are kept at most.
const MOST_PODS: usize = 20_000;

/// Bytes that their records take at most.
const MOST_BYTES: usize = 24 << 20;

/// Bytes that one record takes at most: some hundred containers.
const LARGEST_POD: usize = 64 << 10;

/// Of those, pods that run and have a container that waits.
const MOST_SUSPECTS: usize = 5_000;

/// Suspects that are read again at a time: what they turned into is told by no watch.
const REFRESHED: usize = 100;

/// How long a suspect is believed.
const BELIEVED: Duration = Duration::from_secs(30);

/// The pods that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pods: HashMap<Box<str>, Kept>,
    namespaces: HashMap<Box<str>, usize>,
    bytes: usize,
    suspects: usize,
    /// Which list of pending pods is under way, or was the last.
    listing: u64,
    is_listing: bool,
    /// Pods that there was no room for.
    left_out: u64,
}

#[derive(Debug)]
struct Kept {
    pod: Arc<PodRecord>,
    bytes: usize,
    source: Source,
}

/// Where a pod is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The watch of pending pods; the list in which it was seen.
    Pending(u64),
    /// An Event of a kubelet; when the pod was read.
    Suspect(Instant),
}

impl Waiting {
    /// A list of pending pods begins.
    pub(crate) fn begin_listing(&mut self) {
        self.listing += 1;
        self.is_listing = true;
    }

    /// The list has ended: pending pods that it did not show are gone.
    pub(crate) fn end_listing(&mut self) {
        self.is_listing = false;
        let listing = self.listing;
        let is_gone = |kept: &Kept| matches!(kept.source, Source::Pending(seen) if seen < listing);
        let gone: Vec<_> = self
            .pods
            .iter()
            .filter(|(_, kept)| is_gone(kept))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.remove(&uid);
        }
    }

    /// Whether a pending pod that is seen now has just been created: what a list has may be old.
    pub(crate) fn is_new(&self, uid: &str) -> bool {
        !self.is_listing && !self.pods.contains_key(uid)
    }

    /// Keeps a pending pod, if there is room.
    pub(crate) fn put_pending(&mut self, pod: PodRecord) -> bool {
        self.put(pod, Source::Pending(self.listing))
    }

    /// Keeps a pod that an Event told of and that is not pending, if there is room.
    pub(crate) fn put_suspect(&mut self, pod: PodRecord, now: Instant) -> bool {
        if self.pods.contains_key(&pod.uid) {
            self.update(pod, now);
            return true;
        }
        if self.suspects >= MOST_SUSPECTS {
            self.left_out += 1;
            return false;
        }
        self.put(pod, Source::Suspect(now))
    }

    /// Takes a newer record of a pod that is kept.
    pub(crate) fn update(&mut self, pod: PodRecord, now: Instant) {
        let source = match self.pods.get(&pod.uid) {
            Some(kept) if matches!(kept.source, Source::Suspect(_)) => Source::Suspect(now),
            Some(kept) => kept.source,
            None => return,
        };
        self.put(pod, source);
    }

    fn put(&mut self, pod: PodRecord, source: Source) -> bool {
        self.remove(&pod.uid);
        let bytes = pod.weight();
        if bytes > LARGEST_POD {
            self.left_out += 1;
            return false;
        }
        let is_full = |waiting: &Waiting| waiting.pods.len() >= MOST_PODS || waiting.bytes + bytes > MOST_BYTES;
        while is_full(self) {
            if !self.make_room_for(&pod.namespace) {
                self.left_out += 1;
                return false;
            }
        }
        self.bytes += bytes;
        self.suspects += usize::from(matches!(source, Source::Suspect(_)));
        *self.namespaces.entry(pod.namespace.clone()).or_default() += 1;
        let pod = Arc::new(pod);
        self.pods.insert(pod.uid.clone(), Kept { pod, bytes, source });
        true
    }

    /// Drops a pod of the namespace with the most, if this one has far fewer.
    fn make_room_for(&mut self, namespace: &str) -> bool {
        let own = self.namespaces.get(namespace).copied().unwrap_or_default();
        let largest = self.namespaces.iter().max_by_key(|(_, pods)| **pods);
        let Some((largest, _)) = largest.filter(|(_, pods)| **pods / 2 > own) else {
            return false;
        };
        let uid = self
            .pods
            .iter()
            .find(|(_, kept)| kept.pod.namespace == *largest)
            .map(|(uid, _)| uid.clone());
        if let Some(uid) = &uid {
            self.remove(uid);
            self.left_out += 1;
        }
        uid.is_some()
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(kept) = self.pods.remove(uid) else { return };
        self.bytes -= kept.bytes;
        self.suspects -= usize::from(matches!(kept.source, Source::Suspect(_)));
        if let Some(pods) = self.namespaces.get_mut(&kept.pod.namespace) {
            *pods -= 1;
            if *pods == 0 {
                self.namespaces.remove(&kept.pod.namespace);
            }
        }
    }

    /// The record of a pod.
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<PodRecord>> {
        self.pods.get(uid).map(|kept| Arc::clone(&kept.pod))
    }

    /// All pods.
    pub(crate) fn all(&self) -> impl Iterator<Item = &PodRecord> {
        self.pods.values().map(|kept| &*kept.pod)
    }

    /// Suspects that were read longest ago, as far as that is long.
    pub(crate) fn outdated_suspects(&self, now: Instant) -> Vec<Arc<PodRecord>> {
        let read = |kept: &Kept| match kept.source {
            Source::Suspect(at) if now.saturating_duration_since(at) >= BELIEVED => Some((at, Arc::clone(&kept.pod))),
            _ => None,
        };
        let mut outdated: Vec<_> = self.pods.values().filter_map(read).collect();
        outdated.sort_by_key(|(at, _)| *at);
        outdated.into_iter().take(REFRESHED).map(|(_, pod)| pod).collect()
    }

    /// How many pods are kept.
    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }

    /// Pods that there was no room for since the last call.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests;
