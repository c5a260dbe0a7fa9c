//! Whether what tags refer to is there: the manifests of an index, configs, layers.
//!
//! Equal digests say that both sides have the same manifest, not that it can be pulled: clean-ups of "untagged" manifests take
//! away what an index needs. So what is in use is inspected on both sides, down to its layers, in the first pass that finds it in
//! sync and once in each `parity.settledInterval`; all other tags in turn, a few in each pass. What is broken is inspected in every
//! pass until it is not. A side that can't be read changes nothing that is known of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::effect::Effect;
use super::event::{ReadFailure, RequestId, Requests};
use super::in_use::InUse;
use super::parity::{Held, Ledger};
use super::pause::Pause;
use crate::digest::Digest;
use crate::endpoint::distance;
use crate::policy::MirrorPolicy;
use crate::side::{Side, Sides};

/// Inspections at a time: each makes one request after the other, and verification goes on beside them.
const AT_A_TIME: usize = 2;

/// Digests that may wait; the next pass finds the others again.
const LONGEST_QUEUE: usize = 256;

/// Names that are looked at in turn in each pass.
const IN_TURN: usize = 4;

/// Broken digests that are inspected again in each pass.
const MOST_REPEATED: usize = 32;

/// Digests of which it is remembered when they were inspected. Beyond that it is forgotten of all.
const MOST_REMEMBERED: usize = 20_000;

/// An inspection that has not ended after this is taken for lost. Longer than many requests wait for their registry's budget.
const LOST_AFTER: Duration = Duration::from_mins(30);

/// What a manifest refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Another manifest, which an index names.
    Manifest,
    /// The config of an image.
    Config,
    /// A layer, or another blob.
    Layer,
}

impl Part {
    /// `Manifest`, `Config` or `Layer`, as in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Manifest => "Manifest",
            Part::Config => "Config",
            Part::Layer => "Layer",
        }
    }
}

/// The first part of a digest's content that a side does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it is.
    pub part: Part,
    /// Its digest.
    pub digest: Digest,
    /// The platform that needs it, as `os/architecture`, where an index names one.
    pub platform: Option<String>,
}

/// Content to be inspected on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspect {
    /// What the answer repeats.
    pub request: RequestId,
    /// What both sides have.
    pub held: Held,
}

/// What an inspection found.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The request that this answers.
    pub request: RequestId,
    /// For each side: the first part that is missing, or why the side could not be read.
    pub sides: Sides<Result<Option<Missing>, ReadFailure>>,
}

/// Content that is not all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenContent {
    /// A name that it is held under.
    pub held: Held,
    /// What each side lacks.
    pub missing: Sides<Option<Missing>>,
    /// When that was found first, in whole seconds.
    pub since: Timestamp,
}

/// A repository's name in status, and a digest there.
type Name = (String, Digest);

/// The inspections of one mirror.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    queue: VecDeque<Held>,
    waiting: BTreeSet<Name>,
    under_way: BTreeMap<RequestId, (Held, Pause)>,
    /// When each digest was inspected on both sides.
    inspected: BTreeMap<Name, Timestamp>,
    broken: BTreeMap<Name, BrokenContent>,
    last: Option<Held>,
}

impl Contents {
    /// A pass has read both sides: what is due is queued. A pull-through cache fetches what it lacks by itself, and asking it would
    /// have it do so.
    pub(super) fn plan(&mut self, policy: &MirrorPolicy, ledger: &mut Ledger, in_use: &InUse, now: Timestamp) {
        if policy.cache().is_some() {
            self.forget();
            return;
        }
        for held in ledger.broken_held(MOST_REPEATED) {
            self.want(held);
        }
        self.broken
            .retain(|(repository, digest), _| ledger.broken(repository, digest).any());
        let settled = policy.parity.settled;
        for (repository, reference, _) in in_use.each() {
            if let Some(held) = ledger.held(repository, reference) {
                self.want_if_due(held, settled, now);
            }
        }
        let turn = ledger.held_after(self.last.as_ref(), IN_TURN);
        if let Some(last) = turn.last() {
            self.last = Some(last.clone());
        }
        for held in turn {
            self.want_if_due(held, settled, now);
        }
    }

    fn want_if_due(&mut self, held: Held, settled: Duration, now: Timestamp) {
        let inspected = self.inspected.get(&name(&held));
        if inspected.is_none_or(|at| distance(*at, now) >= settled) {
            self.want(held);
        }
    }

    /// Has content inspected as soon as possible, however lately it was.
    pub(super) fn want(&mut self, held: Held) {
        let name = name(&held);
        let is_under_way = self.under_way.values().any(|(other, _)| self::name(other) == name);
        if !is_under_way && self.queue.len() < LONGEST_QUEUE && self.waiting.insert(name) {
            self.queue.push_back(held);
        }
    }

    /// Inspections to begin now.
    pub(super) fn begin(&mut self, requests: &mut Requests, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.under_way.len() < AT_A_TIME {
            let Some(held) = self.queue.pop_front() else { break };
            self.waiting.remove(&name(&held));
            let request = requests.next();
            self.under_way
                .insert(request, (held.clone(), Pause::new(now, LOST_AFTER)));
            effects.push(Effect::Inspect(Inspect { request, held }));
        }
        effects
    }

    /// Takes in what an inspection found. Whether something else is broken now than before.
    pub(super) fn ended(&mut self, ended: &Inspected, ledger: &mut Ledger, now: Timestamp) -> bool {
        let Some((held, _)) = self.under_way.remove(&ended.request) else {
            return false;
        };
        let name = name(&held);
        if Side::ALL.into_iter().all(|side| ended.sides[side].is_ok()) {
            if self.inspected.len() >= MOST_REMEMBERED {
                self.inspected.clear();
            }
            self.inspected.insert(name.clone(), now);
        }
        let (known, before) = (ledger.broken(&name.0, &name.1), self.broken.remove(&name));
        let missing = Sides::from_fn(|side| match &ended.sides[side] {
            Ok(missing) => missing.clone(),
            Err(_) => before.as_ref().and_then(|before| before.missing[side].clone()),
        });
        let sides = Sides::from_fn(|side| match &ended.sides[side] {
            Ok(missing) => missing.is_some(),
            Err(_) => known[side],
        });
        ledger.set_broken(&name.0, &name.1, sides);
        let after = sides.any().then(|| BrokenContent {
            held,
            missing,
            since: before
                .as_ref()
                .map_or_else(|| whole_seconds(now), |before| before.since),
        });
        let what = |broken: &Option<BrokenContent>| broken.as_ref().map(|broken| broken.missing.clone());
        let is_news = known != sides || what(&before) != what(&after);
        if let Some(after) = after {
            self.broken.insert(name, after);
        }
        is_news
    }

    /// What is broken, as far as it was inspected here, by name.
    pub(super) fn broken(&self) -> impl Iterator<Item = &BrokenContent> {
        self.broken.values()
    }

    /// Gives up inspections that are taken for lost.
    pub(super) fn give_up(&mut self, now: Timestamp) {
        self.under_way.retain(|_, (_, patience)| !patience.is_over(now));
    }

    /// When the oldest inspection is taken for lost.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.under_way.values().map(|(_, patience)| patience.end()).min()
    }

    /// Drops what is planned and under way.
    pub(super) fn stop(&mut self) {
        self.queue.clear();
        self.waiting.clear();
        self.under_way.clear();
    }

    /// Drops everything: another replica leads, or the mapping has changed.
    pub(super) fn forget(&mut self) {
        *self = Contents::default();
    }
}

fn name(held: &Held) -> Name {
    (held.repository.clone(), held.digest.clone())
}

fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests;
