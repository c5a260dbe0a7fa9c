//! What this process knows of each mirror: probe histories, the ledger of tags, the last pass.
//!
//! All of it can be lost: a new process learns it again, and what must survive is in the mirror's status.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_core::failover::CompletedPass;
use catamaran_core::health::{Availability, Outcome, Probe, ProbeHistory};
use catamaran_core::parity::{Canary, Ledger, Summary};
use catamaran_core::policy::{MirrorId, MirrorPolicy};
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use crate::connections::Problem;
use crate::pull_through::rule::Rule;
use crate::repair::progress::Progress;

/// A tag of a mirror's repository, by its name in status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryTag {
    /// The repository's name in status.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

/// What one pass over the tags ended with.
#[derive(Clone, Debug)]
pub struct PassResult {
    /// When the pass began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Why a side could not be read, where that is so.
    pub unreadable: Sides<Option<Unreadable>>,
    /// What failback needs to know.
    pub completed: Option<CompletedPass>,
    /// Counts over the ledger at the end of the pass.
    pub summary: Summary,
    /// Pods with at least one image on the fallback.
    pub pods_on_fallback: u32,
}

/// Why a side's tags could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Whether the registry asked to slow down.
    pub throttled: bool,
    /// The failing request and its cause.
    pub message: String,
}

/// What is known of one mirror.
#[derive(Debug)]
pub struct MirrorMemory {
    /// Which mirror.
    pub id: MirrorId,
    /// Wakes the prober of a side before its time: a decision waits for nothing but its answer.
    pub probe_now: Sides<Notify>,
    /// A pass over the tags has ended.
    pub passed: Notify,
    /// The same, for whoever looks after a pull-through cache.
    pub cache_passed: Notify,
    state: Mutex<State>,
    rescued: AtomicU64,
    wanted: mpsc::Sender<RepositoryTag>,
    wanted_receiver: Mutex<Option<mpsc::Receiver<RepositoryTag>>>,
}

/// The part that is guarded by one lock, never held across an await.
#[derive(Debug, Default)]
pub struct State {
    /// Probes of each side.
    pub probes: Sides<ProbeHistory>,
    /// Every verified tag.
    pub ledger: Ledger,
    /// How the last pass ended.
    pub pass: Option<PassResult>,
    /// Why a side has no client: a missing or wrong Secret.
    pub connection: Sides<Option<Problem>>,
    /// Whether a side was ever probed by a client of its own: what its probes say is then about its identity or registry.
    pub asked: Sides<bool>,
    /// The generation of the spec that each side was last probed by.
    pub probed_by: Sides<i64>,
    /// The canary each side is probed with.
    pub canary: Option<Canary>,
    /// Canaries that were not found on a side, so that another is chosen.
    pub refused_canaries: Vec<Canary>,
    /// Repositories and tags that pods use.
    pub in_use: BTreeMap<String, BTreeSet<String>>,
    /// How the copying of missing tags goes.
    pub repair: Option<Progress>,
    /// The cloud's rule for a side that is a pull-through cache.
    pub rule: Option<Rule>,
}

/// Requests for verification that may wait; more are dropped, the next pass finds them.
const WANTED_QUEUE: usize = 1024;

impl State {
    /// Whether what is known of a side is about an earlier spec than this, and the next probe is about to tell. A registry
    /// that asked to slow down is not waited for: that may take an hour.
    pub fn is_outdated(&self, side: Side, generation: i64) -> bool {
        let throttled = |probe: &Probe| matches!(probe.outcome, Outcome::Throttled { .. });
        self.probed_by[side] < generation && !self.probes[side].latest().is_some_and(throttled)
    }
}

impl MirrorMemory {
    fn new(id: MirrorId) -> MirrorMemory {
        let (wanted, receiver) = mpsc::channel(WANTED_QUEUE);
        MirrorMemory {
            id,
            probe_now: Sides::default(),
            passed: Notify::new(),
            cache_passed: Notify::new(),
            state: Mutex::default(),
            rescued: AtomicU64::new(0),
            wanted,
            wanted_receiver: Mutex::new(Some(receiver)),
        }
    }

    /// The guarded state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The availability of both sides by the probes so far.
    pub fn availability(&self, policy: &MirrorPolicy) -> Sides<Availability> {
        let state = self.state();
        Sides::from_fn(|side| state.probes[side].availability(&policy.health))
    }

    /// Counts one rescued pod.
    pub fn count_rescued(&self) {
        self.rescued.fetch_add(1, Ordering::Relaxed);
    }

    /// Pods rescued since the last call; the caller adds them to the status.
    pub fn take_rescued(&self) -> u64 {
        self.rescued.swap(0, Ordering::Relaxed)
    }

    /// Gives back a count that could not be written.
    pub fn give_back_rescued(&self, count: u64) {
        self.rescued.fetch_add(count, Ordering::Relaxed);
    }

    /// Asks for a tag to be verified at once. A full queue drops the request: the next pass finds the tag anyway.
    pub fn want(&self, tag: RepositoryTag) {
        let _ = self.wanted.try_send(tag);
    }

    /// The receiving end of [`MirrorMemory::want`], for the one task that verifies; a restarted task gets it back from
    /// [`MirrorMemory::return_wanted`].
    pub fn take_wanted(&self) -> Option<mpsc::Receiver<RepositoryTag>> {
        self.wanted_receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Puts the receiver back for the next task.
    pub fn return_wanted(&self, receiver: mpsc::Receiver<RepositoryTag>) {
        *self.wanted_receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
    }

    /// Forgets what belongs to a registry that is no longer this side's.
    pub fn forget_side(&self, side: Side) {
        let mut state = self.state();
        state.probes[side] = ProbeHistory::default();
        state.ledger = Ledger::default();
        state.pass = None;
        state.canary = None;
        state.repair = None;
        state.rule = None;
        state.connection[side] = None;
        state.asked[side] = false;
    }
}

/// The memories of all mirrors, by UID.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<Arc<str>, Arc<MirrorMemory>>>);

impl Memories {
    /// The memory of a mirror, made when it is first seen.
    pub fn of(&self, id: &MirrorId) -> Arc<MirrorMemory> {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(MirrorMemory::new(id.clone()));
        Arc::clone(memories.entry(Arc::clone(&id.uid)).or_insert_with(make))
    }

    /// The memory of a mirror that was seen before.
    pub fn get(&self, id: &MirrorId) -> Option<Arc<MirrorMemory>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id.uid)
            .cloned()
    }

    /// Drops the memories of mirrors that are gone.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| keep(uid));
    }
}
