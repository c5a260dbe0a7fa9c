//! Passes: every selected tag of a mirror, read on both sides, repository by repository.
//!
//! A pass begins with what is in use. Listed repositories are listed on both sides and compared piece by piece; a digest that the
//! listings do not bring is read only when it is due, or when the other side contradicts what is known. Where no repositories are
//! listed, the references in use are all there is to read. Digests in use are read by name in either case.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::effect::Effect;
use super::event::{Listed, ReadFailure, RequestId, Requests, Resolved};
use super::in_use::InUse;
use super::parity::{Ledger, Rules};
use super::pause::Pause;
use crate::endpoint::{distance, later};
use crate::policy::{MirrorPolicy, Repositories};
use crate::side::{Side, Sides};

mod compare;
mod repository;
#[cfg(test)]
mod tests;

use compare::{compare, hides};
use repository::RepositoryPass;

/// Repositories read at a time; the registry's budget is the real limit.
const REPOSITORIES_AT_A_TIME: usize = 4;

/// When a side lists so many tags less than both together, none of them is looked for behind a lock: locks are set one by one.
const MOST_HIDDEN: usize = 50;

/// The shortest time from the end of one pass to the beginning of the next.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The same, where a side could not be read: a pass brings little then.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// The longest pause after what is in use could not be read.
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// A pass that nothing is heard of for so long is begun anew: longer than a registry makes us wait.
const LOST_AFTER: Duration = Duration::from_mins(15);

/// How a pass ended.
#[derive(Clone, Debug)]
pub struct PassResult {
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Why a side could not be read, where that is so.
    pub unreadable: Sides<Option<ReadFailure>>,
}

impl PassResult {
    /// Whether both sides were read.
    pub fn is_complete(&self) -> bool {
        self.unreadable.primary.is_none() && self.unreadable.fallback.is_none()
    }
}

/// The passes of one mirror.
#[derive(Clone, Debug, Default)]
pub(super) struct Passes {
    number: u64,
    running: Option<Pass>,
    last: Option<PassResult>,
    /// A pass is wanted before its time.
    wanted: bool,
    /// What is in use could not be read; the pass is begun again then.
    retry: Option<Pause>,
    failures: u32,
}

#[derive(Clone, Debug)]
struct Pass {
    begun: Timestamp,
    /// Until it is taken for lost, unless something is heard of it.
    patience: Pause,
    /// What is in use is being read; until it is known, nothing else is.
    in_use: Option<RequestId>,
    left: VecDeque<String>,
    open: BTreeMap<String, RepositoryPass>,
    unreadable: Sides<Option<ReadFailure>>,
}

impl Pass {
    fn note(&mut self, failures: &Sides<Option<ReadFailure>>, now: Timestamp) {
        self.patience = Pause::new(now, LOST_AFTER);
        for side in Side::ALL {
            if let Some(failure) = &failures[side] {
                self.unreadable[side].get_or_insert_with(|| failure.clone());
            }
        }
    }

    fn is_over(&self) -> bool {
        self.in_use.is_none() && self.left.is_empty() && self.open.is_empty()
    }
}

/// What passes work with.
pub(super) struct Reading<'a> {
    pub(super) policy: &'a MirrorPolicy,
    pub(super) ledger: &'a mut Ledger,
    pub(super) requests: &'a mut Requests,
    pub(super) rules: Rules,
    pub(super) in_use: &'a InUse,
    pub(super) now: Timestamp,
}

impl Passes {
    /// The latest pass that ended.
    pub(super) fn last(&self) -> Option<&PassResult> {
        self.last.as_ref()
    }

    /// Has a pass made as soon as possible.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Has a pass made as soon as possible, unless one is under way that began since then.
    pub(super) fn want_since(&mut self, since: Timestamp) {
        self.wanted |= self.running.as_ref().is_none_or(|pass| pass.begun < since);
    }

    /// When the next pass begins; none while one is under way.
    fn due(&self, policy: &MirrorPolicy, ledger: &Ledger, now: Timestamp) -> Option<Timestamp> {
        if self.running.is_some() {
            return None;
        }
        if let Some(pause) = self.retry {
            return Some(if pause.is_over(now) { now } else { pause.end() });
        }
        let Some(last) = &self.last else { return Some(now) };
        let interval = policy.parity.interval;
        if now < last.begun && distance(last.begun, now) >= interval {
            // The clock was set back.
            return Some(now);
        }
        let pause = if last.is_complete() {
            SHORTEST_PAUSE
        } else {
            PAUSE_AFTER_FAILURE
        };
        let soonest = later(last.ended, pause);
        if self.wanted {
            return Some(soonest);
        }
        let next = later(last.begun, interval);
        let confirmation = ledger.next_confirmation(now).filter(|_| last.is_complete());
        Some(confirmation.map_or(next, |at| at.min(next)).max(soonest))
    }

    /// When the next pass begins, or when the one that is under way is taken for lost.
    pub(super) fn wake_at(&self, policy: &MirrorPolicy, ledger: &Ledger, now: Timestamp) -> Option<Timestamp> {
        match &self.running {
            Some(pass) => Some(pass.patience.end()),
            None => self.due(policy, ledger, now),
        }
    }

    /// Begins a pass if it is due: what is in use is to be read with this request.
    pub(super) fn begin_if_due(
        &mut self,
        policy: &MirrorPolicy,
        ledger: &Ledger,
        requests: &mut Requests,
        now: Timestamp,
    ) -> Option<RequestId> {
        self.due(policy, ledger, now).filter(|due| *due <= now)?;
        let request = requests.next();
        self.number += 1;
        self.wanted = false;
        self.retry = None;
        self.running = Some(Pass {
            begun: now,
            patience: Pause::new(now, LOST_AFTER),
            in_use: Some(request),
            left: VecDeque::new(),
            open: BTreeMap::new(),
            unreadable: Sides::default(),
        });
        Some(request)
    }

    /// Ends a pass without a result: the spec has changed, or another replica leads.
    pub(super) fn abandon(&mut self) -> Option<Effect> {
        self.running.take().map(|_| Effect::AbandonPass(self.number))
    }

    /// The mapping has changed: what passes found was about other repositories.
    pub(super) fn forget(&mut self) -> Option<Effect> {
        let abandoned = self.abandon();
        self.last = None;
        self.retry = None;
        abandoned
    }

    /// Gives up a pass that nothing is heard of.
    pub(super) fn give_up(&mut self, now: Timestamp) -> Option<Effect> {
        let lost = self.running.as_ref().is_some_and(|pass| pass.patience.is_over(now));
        if !lost {
            return None;
        }
        self.wanted = true;
        self.abandon()
    }

    /// Whether the pass waits for this list of what is in use.
    pub(super) fn asked_with(&self, request: RequestId) -> bool {
        self.running.as_ref().is_some_and(|pass| pass.in_use == Some(request))
    }

    /// What is in use could not be read: the pass is begun again after a pause that doubles, at most a minute.
    pub(super) fn in_use_failed(&mut self, request: RequestId, now: Timestamp) {
        if !self.asked_with(request) {
            return;
        }
        self.running = None;
        self.failures = self.failures.saturating_add(1);
        let pause = Duration::from_secs(1u64 << self.failures.min(6)).min(LONGEST_RETRY);
        self.retry = Some(Pause::new(now, pause));
    }

    /// What is in use is known: the pass can read. What is not used, and not listed either, is forgotten.
    pub(super) fn in_use_read(&mut self, reading: &mut Reading<'_>) -> Vec<Effect> {
        let Some(pass) = self.running.as_mut().filter(|pass| pass.in_use.is_some()) else {
            return Vec::new();
        };
        self.failures = 0;
        pass.in_use = None;
        pass.patience = Pause::new(reading.now, LOST_AFTER);
        let (policy, in_use) = (reading.policy, reading.in_use);
        let repositories: BTreeSet<&str> = match &policy.repositories {
            Repositories::Listed(rules) => rules.iter().map(|rule| &*rule.name).collect(),
            Repositories::InUse => in_use.references.keys().map(String::as_str).collect(),
        };
        pass.left = repositories.iter().map(|repository| (*repository).to_owned()).collect();
        let ledger = &mut *reading.ledger;
        ledger.retain_repositories(|repository| repositories.contains(repository));
        ledger.retain_digests(|repository, digest| in_use.contains(repository, digest));
        if matches!(policy.repositories, Repositories::InUse) {
            for repository in repositories {
                let selects = |tag: &str| in_use.contains(repository, tag) && policy.selects_tag(repository, tag);
                ledger.retain(repository, selects);
            }
        }
        self.go_on(reading)
    }

    /// Opens repositories as there is room.
    fn go_on(&mut self, reading: &mut Reading<'_>) -> Vec<Effect> {
        let number = self.number;
        let mut effects = Vec::new();
        let Some(pass) = &mut self.running else { return effects };
        while pass.open.len() < REPOSITORIES_AT_A_TIME {
            let Some(repository) = pass.left.pop_front() else { break };
            let mut opened = RepositoryPass::open(&repository, reading);
            effects.extend(opened.read_names(number, &repository, reading.requests));
            if opened.is_listed() {
                effects.push(Effect::List {
                    pass: number,
                    repository: repository.clone(),
                });
            }
            if !opened.is_over() {
                pass.open.insert(repository, opened);
            }
        }
        effects
    }

    /// Takes in a piece of a listing.
    pub(super) fn listed(&mut self, listed: &Listed, reading: &mut Reading<'_>) -> Vec<Effect> {
        let number = self.number;
        let Some(pass) = self.running.as_mut().filter(|_| listed.pass == number) else {
            return Vec::new();
        };
        let Some(open) = pass.open.get_mut(&listed.repository) else {
            return Vec::new();
        };
        let Some(tags) = open.listed(listed, reading) else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        let asked = Sides::from_fn(|side| hides(reading.policy, side) && listed.unlisted[side] <= MOST_HIDDEN);
        for tag in tags {
            if let Some(resolve) = compare(number, &listed.repository, &tag, asked, reading) {
                effects.push(open.read(resolve));
            }
        }
        pass.note(&listed.failures, reading.now);
        effects.extend(self.settle(&listed.repository, reading));
        effects
    }

    /// Whether a reference that was read was asked for by the pass that is under way.
    pub(super) fn ended(&mut self, request: RequestId, repository: &str) -> bool {
        let open = self.running.as_mut().and_then(|pass| pass.open.get_mut(repository));
        open.is_some_and(|open| open.ended(request))
    }

    /// Goes on after a reference was read.
    pub(super) fn resolved(&mut self, resolved: &Resolved, reading: &mut Reading<'_>) -> Vec<Effect> {
        if let Some(pass) = &mut self.running {
            pass.note(&resolved.failures, reading.now);
        }
        self.settle(&resolved.name.repository, reading)
    }

    /// Goes on with a repository, and with the pass when it is over.
    fn settle(&mut self, repository: &str, reading: &mut Reading<'_>) -> Vec<Effect> {
        let number = self.number;
        let mut effects = Vec::new();
        let Some(pass) = &mut self.running else { return effects };
        let Some(open) = pass.open.get_mut(repository) else {
            return effects;
        };
        effects.extend(open.read_names(number, repository, reading.requests));
        if open.wants_piece() {
            effects.push(Effect::ListMore {
                pass: number,
                repository: repository.to_owned(),
            });
        }
        if open.is_over() {
            pass.open.remove(repository);
            effects.push(Effect::CloseListing {
                pass: number,
                repository: repository.to_owned(),
            });
            effects.extend(self.go_on(reading));
        }
        effects
    }

    /// Ends the pass if nothing is left of it; its result.
    pub(super) fn end_if_over(&mut self, now: Timestamp) -> Option<&PassResult> {
        let pass = self.running.take_if(|pass| pass.is_over())?;
        self.last = Some(PassResult {
            begun: pass.begun,
            ended: now,
            unreadable: pass.unreadable,
        });
        self.last.as_ref()
    }
}
