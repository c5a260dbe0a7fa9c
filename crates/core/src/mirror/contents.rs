//! Whether what tags stand for can be pulled: the manifests of an index, configs and layers are there, and manifests have the digests
//! that they are asked for by.
//!
//! Equal digests say that both sides have the same manifest, not that it can be pulled: clean-ups of "untagged" manifests take
//! away what an index needs, and storage is damaged. So what is in use and in sync is inspected on both sides, down to its layers, in the
//! first pass that finds it so and once in each `parity.settledInterval`; all other tags in turn, a few in each pass. Of what is not in
//! sync, and of some more tags in each pass, the manifest alone is fetched and hashed. What is flawed is looked at in every pass until it
//! is not. A side that can't be read changes nothing that is known of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::effect::Effect;
use super::event::{RequestId, Requests};
use super::in_use::InUse;
use super::parity::{Held, Ledger};
use super::pause::Pause;
use crate::digest::Digest;
use crate::endpoint::distance;
use crate::policy::MirrorPolicy;
use crate::routing::evidence::Flaw;
use crate::side::{Side, Sides};

/// Inspections at a time: each makes one request after the other, and verification goes on beside them.
const AT_A_TIME: usize = 2;

/// Digests that may wait; the next pass finds the others again.
const LONGEST_QUEUE: usize = 256;

/// Names whose content is inspected in turn in each pass.
const IN_TURN: usize = 4;

/// Names whose manifests are hashed in turn in each pass: one request to each side.
const HASHED_IN_TURN: usize = 8;

/// Flawed digests that are inspected again in each pass.
const MOST_REPEATED: usize = 32;

/// Digests of which it is remembered when they were inspected. Beyond that it is forgotten of all.
const MOST_REMEMBERED: usize = 20_000;

/// An inspection that has not ended after this is taken for lost. Longer than many requests wait for their registry's budget.
const LOST_AFTER: Duration = Duration::from_mins(30);

/// What a manifest refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A manifest: the digest's own, or another one, which an index names.
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

/// The first part of a digest's content that can't be used on a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlawedPart {
    /// Why: it is not there, or its content does not have its digest.
    pub flaw: Flaw,
    /// What it is.
    pub part: Part,
    /// Its digest.
    pub digest: Digest,
    /// The platform that needs it, as `os/architecture`, where an index names one.
    pub platform: Option<String>,
}

/// How far an inspection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// The digest's own manifest is fetched and hashed.
    Manifest,
    /// So are the manifests that it names, and configs and layers are looked for.
    Content,
}

/// Content to be inspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspect {
    /// What the answer repeats.
    pub request: RequestId,
    /// What is there, and on which sides it is inspected.
    pub held: Held,
    /// How far.
    pub depth: Depth,
}

/// What an inspection found of a side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Finding {
    /// Nothing: it was not asked, or could not be read.
    #[default]
    Unknown,
    /// Nothing is wrong with what was looked at.
    Sound,
    /// Something is.
    Flawed(FlawedPart),
}

/// The answer to an inspection.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The request that this answers.
    pub request: RequestId,
    /// What was found of each side.
    pub sides: Sides<Finding>,
}

/// Content that can't be used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlawedContent {
    /// A name that it is held under.
    pub held: Held,
    /// What is wrong on each side.
    pub parts: Sides<Option<FlawedPart>>,
    /// When that was found first, in whole seconds.
    pub since: Timestamp,
}

impl FlawedContent {
    /// Whether a side has this flaw.
    pub fn has(&self, side: Side, flaw: Flaw) -> bool {
        self.parts[side].as_ref().is_some_and(|part| part.flaw == flaw)
    }
}

/// A repository's name in status, and a digest there.
type Name = (String, Digest);

/// The inspections of one mirror.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    queue: VecDeque<(Held, Depth)>,
    waiting: BTreeSet<Name>,
    under_way: BTreeMap<RequestId, (Held, Depth, Pause)>,
    /// When each digest was inspected last on all sides that have it, and how far.
    inspected: BTreeMap<(Name, Depth), Timestamp>,
    flawed: BTreeMap<Name, FlawedContent>,
    last: Option<Held>,
    last_hashed: Option<Held>,
}

impl Contents {
    /// A pass has read both sides: what is due is queued.
    pub(super) fn plan(&mut self, policy: &MirrorPolicy, ledger: &mut Ledger, in_use: &InUse, now: Timestamp) {
        for held in ledger.flawed_held(MOST_REPEATED) {
            if let Some(cache) = policy.cache() {
                self.forget_side(cache, &held, ledger);
            }
            if let Some(held) = of_interest(policy, held) {
                // What is wrong may lie below its manifest.
                self.want(held, Depth::Content);
            }
        }
        self.flawed.retain(|(repository, digest), _| {
            let flaws = ledger.flaws(repository, digest);
            flaws.primary.or(flaws.fallback).is_some()
        });
        let settled = policy.parity.settled;
        for (repository, reference, _) in in_use.each() {
            for held in ledger.held(repository, reference) {
                if let Some(held) = of_interest(policy, held) {
                    let depth = depth(&held);
                    self.want_if_due(held, depth, settled, now);
                }
            }
        }
        self.sample(policy, ledger, now);
    }

    /// What was found of a side before it became a pull-through cache is not looked at any more.
    fn forget_side(&mut self, side: Side, held: &Held, ledger: &mut Ledger) {
        let mut flaws = ledger.flaws(&held.repository, &held.digest);
        if flaws[side].take().is_some() {
            ledger.set_flaws(&held.repository, &held.digest, flaws);
        }
        if let Some(flawed) = self.flawed.get_mut(&name(held)) {
            flawed.parts[side] = None;
        }
    }

    /// What is not in use, a few names in each pass: some are inspected, and the manifests of some more are hashed. Not where a manifest
    /// that is fetched counts as a pull.
    fn sample(&mut self, policy: &MirrorPolicy, ledger: &Ledger, now: Timestamp) {
        if Side::ALL.into_iter().any(|side| policy.sides[side].counts_pulls()) {
            return;
        }
        let has_no_cache = policy.cache().is_none();
        let turn = ledger.held_after(self.last.as_ref(), IN_TURN, |held| has_no_cache && held.on.both());
        let hashed = ledger.held_after(self.last_hashed.as_ref(), HASHED_IN_TURN, |_| true);
        self.last = turn.last().cloned().or(self.last.take());
        self.last_hashed = hashed.last().cloned().or(self.last_hashed.take());
        let settled = policy.parity.settled;
        let turn = turn.into_iter().map(|held| (held, Depth::Content));
        for (held, depth) in turn.chain(hashed.into_iter().map(|held| (held, Depth::Manifest))) {
            if let Some(held) = of_interest(policy, held) {
                self.want_if_due(held, depth, settled, now);
            }
        }
    }

    fn want_if_due(&mut self, held: Held, depth: Depth, settled: Duration, now: Timestamp) {
        let name = name(&held);
        let inspected = self.inspected.range((name.clone(), depth)..=(name, Depth::Content));
        if inspected
            .map(|(_, at)| *at)
            .max()
            .is_none_or(|at| distance(at, now) >= settled)
        {
            self.want(held, depth);
        }
    }

    /// Has what both sides have inspected as soon as possible, however lately it was.
    pub(super) fn want_content(&mut self, held: Held) {
        self.want(held, Depth::Content);
    }

    fn want(&mut self, held: Held, depth: Depth) {
        let name = name(&held);
        let is_name = |other: &Held| self::name(other) == name;
        let mut under_way = self.under_way.values();
        if under_way.any(|(other, far, _)| is_name(other) && *far >= depth) {
            return;
        }
        if self.waiting.contains(&name) {
            let waiting = self.queue.iter_mut().find(|(other, _)| is_name(other));
            if let Some(waiting) = waiting.filter(|(_, far)| *far < depth) {
                *waiting = (held, depth);
            }
        } else if self.queue.len() < LONGEST_QUEUE {
            self.waiting.insert(name);
            self.queue.push_back((held, depth));
        }
    }

    /// Inspections to begin now.
    pub(super) fn begin(&mut self, requests: &mut Requests, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.under_way.len() < AT_A_TIME {
            let Some((held, depth)) = self.queue.pop_front() else {
                break;
            };
            self.waiting.remove(&name(&held));
            let request = requests.next();
            self.under_way
                .insert(request, (held.clone(), depth, Pause::new(now, LOST_AFTER)));
            effects.push(Effect::Inspect(Inspect { request, held, depth }));
        }
        effects
    }

    /// Takes in what an inspection found. Whether something else is flawed now than before.
    pub(super) fn ended(&mut self, ended: &Inspected, ledger: &mut Ledger, now: Timestamp) -> bool {
        let Some((held, depth, _)) = self.under_way.remove(&ended.request) else {
            return false;
        };
        let name = name(&held);
        let is_read = |side: Side| !held.on[side] || ended.sides[side] != Finding::Unknown;
        if Side::ALL.into_iter().all(is_read) {
            if self.inspected.len() >= MOST_REMEMBERED {
                self.inspected.clear();
            }
            self.inspected.insert((name.clone(), depth), now);
        }
        let known = ledger.flaws(&name.0, &name.1);
        let (before, since) = match self.flawed.remove(&name) {
            Some(before) => (before.parts, before.since),
            None => (Sides::default(), whole_seconds(now)),
        };
        let part = |side: Side| before[side].clone();
        // Who looks at its manifest alone does not see what is wrong below it.
        let is_unseen =
            |side: Side| depth == Depth::Manifest && part(side).is_some_and(|part| part.digest != held.digest);
        let after = Sides::from_fn(|side| match &ended.sides[side] {
            Finding::Flawed(found) => (Some(found.flaw), Some(found.clone())),
            Finding::Sound if !is_unseen(side) => (None, None),
            Finding::Sound | Finding::Unknown => (known[side], part(side)),
        });
        let (flaws, parts) = (after.as_ref().map(|side| side.0), after.map(|side| side.1));
        ledger.set_flaws(&name.0, &name.1, flaws);
        let is_news = known != flaws || before != parts;
        if flaws.primary.or(flaws.fallback).is_some() {
            self.flawed.insert(name, FlawedContent { held, parts, since });
        }
        is_news
    }

    /// What is flawed, as far as it was inspected here, by name.
    pub(super) fn flawed(&self) -> impl Iterator<Item = &FlawedContent> {
        self.flawed.values()
    }

    /// Gives up inspections that are taken for lost.
    pub(super) fn give_up(&mut self, now: Timestamp) {
        self.under_way.retain(|_, (.., patience)| !patience.is_over(now));
    }

    /// When the oldest inspection is taken for lost.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.under_way.values().map(|(.., patience)| patience.end()).min()
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

/// The sides of it that are inspected. A pull-through cache fetches what it lacks by itself, and asking it would have it do so.
fn of_interest(policy: &MirrorPolicy, held: Held) -> Option<Held> {
    let on = Sides::from_fn(|side| held.on[side] && policy.cache() != Some(side));
    on.any().then_some(Held { on, ..held })
}

/// What both sides have is compared down to its layers.
fn depth(held: &Held) -> Depth {
    if held.on.both() {
        Depth::Content
    } else {
        Depth::Manifest
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
