//! Everything that is known of one mirror, behind one door: an [`Event`] goes in, [`Effect`]s come out.
//!
//! [`Mirror::handle`] only dispatches; one short function per event says what it changes: what the API server and the lease say
//! (`standing`), and what was read (`reads`). [`Mirror::settle`] says what follows: what a leader does (`leading`), what is probed
//! next, what is written. The decisions themselves stand in files of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::cache::CacheCare;
use super::canary::CanaryChoice;
use super::contents::Contents;
use super::copies::Copies;
use super::effect::Effect;
use super::event::{Event, Requests, StatusRead};
use super::failback::FailbackCheck;
use super::failover::{Decision, Standing};
use super::flips::StatusWrite;
use super::in_use::InUse;
use super::on_demand::OnDemand;
use super::parity::{Ledger, Rules};
use super::pass::Passes;
use super::probes::Probes;
use super::proof::Proofs;
use super::pulls::Pulls;
use super::reconcile::Reconcile;
use super::verification::Verification;
use crate::policy::{MirrorId, MirrorPolicy};
use crate::routing::Conflict;
use crate::routing::evidence::{Group, GroupPlace, MappingId};

mod leading;
mod proving;
mod reads;
mod standing;
#[cfg(test)]
mod tests;

/// Everything that is known of one mirror, and every decision about it.
#[derive(Debug)]
pub struct Mirror {
    pub(super) id: MirrorId,
    pub(super) spec: Option<Spec>,
    /// The latest spec, if it makes no sense.
    pub(super) invalid: Option<(i64, String)>,
    leading: bool,
    pub(super) status: Status,
    pub(super) probes: Probes,
    pub(super) pulls: OnDemand<Pulls>,
    pub(super) canary: CanaryChoice,
    pub(super) ledger: OnDemand<Ledger>,
    pub(super) passes: OnDemand<Passes>,
    verification: OnDemand<Verification>,
    pub(super) contents: OnDemand<Contents>,
    pub(super) in_use: Option<Arc<InUse>>,
    pub(super) copies: OnDemand<Copies>,
    pub(super) cache: OnDemand<CacheCare>,
    pub(super) failback: OnDemand<FailbackCheck>,
    pub(super) proofs: OnDemand<Proofs>,
    pub(super) reconcile: Reconcile,
    pub(super) decision: Option<Decision>,
    write: StatusWrite,
    requests: Requests,
    /// Whether it is known what an earlier leader published: until then nothing is put in its place.
    has_prior: bool,
    pub(super) evidence_problem: Option<String>,
    pub(super) conflicts: Vec<Conflict>,
}

/// The spec in force.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) policy: Arc<MirrorPolicy>,
    pub(super) generation: i64,
}

/// What the status holds, and what is about to be written there.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// As read last; none before the first time.
    read: Option<Box<StatusRead>>,
    /// What stands under the spec in force.
    pub(super) standing: Standing,
    /// What this leader has read since it leads: a status that is behind it was restored from a backup.
    known: Option<Standing>,
    /// What this process has read last of a status that was not blank, and the highest epoch of all.
    seen: Option<Standing>,
    highest: u64,
    pub(super) observed: BTreeSet<MappingId>,
    /// Pods re-pointed, as far as this process knows: a status that counts fewer is behind.
    rescued: u64,
    /// The flip that the write under way carries out.
    flip: Option<Decision>,
}

impl Status {
    /// The decision whose flip is not written yet.
    pub(super) fn pending(&self) -> Option<&Decision> {
        self.flip.as_ref()
    }

    /// Pods re-pointed since the mirror was created.
    pub(super) fn rescued(&self) -> u64 {
        self.read.as_ref().map_or(0, |read| read.rescued).max(self.rescued)
    }

    /// The write that was under way has ended, or is not waited for any more.
    fn write_ended(&mut self) {
        self.flip = None;
    }
}

impl Mirror {
    /// A mirror of which nothing is known.
    pub fn new(id: MirrorId) -> Mirror {
        Mirror {
            id,
            spec: None,
            invalid: None,
            leading: false,
            status: Status::default(),
            probes: Probes::default(),
            pulls: OnDemand::default(),
            canary: CanaryChoice::default(),
            ledger: OnDemand::default(),
            passes: OnDemand::default(),
            verification: OnDemand::default(),
            contents: OnDemand::default(),
            in_use: None,
            copies: OnDemand::default(),
            cache: OnDemand::default(),
            failback: OnDemand::default(),
            proofs: OnDemand::default(),
            reconcile: Reconcile::default(),
            decision: None,
            write: StatusWrite::default(),
            requests: Requests::default(),
            has_prior: false,
            evidence_problem: None,
            conflicts: Vec::new(),
        }
    }

    /// Takes in one event; what is to be done now, in this order.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut effects = match event {
            Event::Spec { policy, generation } => self.spec_read(&policy, generation),
            Event::InvalidSpec { generation, problem } => self.spec_refused(generation, problem),
            Event::Status(read) => self.status_read(read),
            Event::Prior(evidence) => self.prior_read(evidence),
            Event::Leading(leading) => self.led(leading),
            Event::Probed(probed) => self.probed(&probed),
            Event::Suspected(side) => self.suspected(side, now),
            Event::Vantages(side, vantages) => {
                if self.probes.seen_by_others(side, vantages) {
                    self.write.want();
                }
                Vec::new()
            }
            Event::Listed(listed) => self.listed(&listed, now),
            Event::Resolved(resolved) => self.resolved(&resolved, now),
            Event::Inspected(inspected) => self.inspected(&inspected, now),
            Event::InUse { request, in_use } => self.in_use_read(request, &in_use, now),
            Event::InUseFailed(request) => self.in_use_failed(request, now),
            Event::Wanted { references, urgent } => self.wanted(references, urgent, now),
            Event::Pulls(reports) => self.pulls_reported(&reports, now),
            Event::Copied(ended) => self.copied(&ended, now),
            Event::Prewarmed { pull, outcome } => self.prewarmed(*pull, outcome, now),
            Event::Rule { request, rule } => self.rule_read(request, *rule, now),
            Event::WriteBegins(request) => self.write_begins(request),
            Event::StatusWritten { request, result } => self.status_written(request, result, now),
            Event::FlipStored(request) => self.flip_stored(request, now),
            Event::EvidenceStored(result) => self.evidence_stored(result),
            Event::Rescued(count) => self.rescued(count),
            Event::Proved(ended) => self.proved(*ended, now),
            Event::Reconcile(word) => self.reconcile_asked(&word, now),
            Event::Conflicts(conflicts) => self.conflicts_read(conflicts),
            Event::Time => Vec::new(),
        };
        self.settle(now, &mut effects);
        effects
    }

    /// When [`Event::Time`] is to come, if nothing else does before; none while there is nothing to wait for.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.acts() {
            return None;
        }
        let write = self.write.wake_at();
        let Some(spec) = self.spec.as_ref().filter(|spec| !spec.policy.suspended) else {
            return write;
        };
        let pass = self.passes.wake_at(&spec.policy, &self.ledger, now);
        let recheck = self.decision.as_ref().and_then(|decision| decision.recheck_at);
        // One that is due and was not begun waits for something else.
        let check = self.failback.wake_at().filter(|at| *at > now);
        let lost = [
            self.verification.wake_at(),
            self.copies.wake_at(),
            self.contents.wake_at(),
            self.proofs_wake_at(&spec.policy),
        ];
        let pulls = self.pulls.wake_at(now);
        let wakes = [write, pass, recheck, check, pulls].into_iter().chain(lost);
        wakes.flatten().min()
    }

    /// The content of one group of the evidence.
    pub fn group(&self, place: GroupPlace) -> Group {
        self.ledger.group(place)
    }

    /// All groups of the evidence that there are now.
    pub fn groups(&self) -> Vec<GroupPlace> {
        self.ledger.groups()
    }

    /// Whether a flip is decided on and not written yet.
    pub fn is_flipping(&self) -> bool {
        let decision = self.status.pending().or(self.decision.as_ref());
        decision.is_some_and(|decision| decision.flip.is_some())
    }

    /// Which mirror.
    pub fn id(&self) -> &MirrorId {
        &self.id
    }

    /// The spec in force; none while there was no valid one, or while it is suspended.
    pub(super) fn policy(&self) -> Option<Arc<MirrorPolicy>> {
        let spec = self.spec.as_ref()?;
        (!spec.policy.suspended).then(|| Arc::clone(&spec.policy))
    }

    /// Whether this replica leads and knows what it goes on from.
    fn acts(&self) -> bool {
        self.leading && self.status.read.is_some()
    }

    /// What follows from what is known now. A status comes before the evidence: a flip waits for nothing.
    fn settle(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.give_up(now, effects);
        if let Some(policy) = self.policy() {
            if self.acts() {
                self.lead(&policy, now, effects);
            }
            let generation = self.spec.as_ref().map_or(0, |spec| spec.generation);
            effects.extend(self.probes.watch(&policy, generation, &self.canary));
        } else {
            self.decision = None;
            if let Some(pulls) = self.pulls.there() {
                pulls.forget();
            }
            effects.extend(self.stop_work());
            effects.extend(self.probes.stop());
        }
        self.write(now, effects);
    }

    /// Gives up what does not end.
    fn give_up(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.write.give_up(now) {
            self.status.write_ended();
        }
        if !self.leading {
            return;
        }
        for name in self.verification.give_up(now) {
            self.failback.not_read(&name);
        }
        self.failback.give_up(now);
        self.contents.give_up(now);
        if self.proofs.give_up(now) {
            self.write.want();
        }
        effects.extend(self.passes.give_up(now));
        if self.copies.give_up(now)
            && let Some(policy) = self.policy()
        {
            effects.extend(self.next_copies(&policy, now));
        }
    }

    /// Begins the writes that are due.
    fn write(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.acts() {
            return;
        }
        let has_spec = self.spec.is_some() || self.invalid.is_some();
        if has_spec && let Some(request) = self.write.begin(&mut self.requests, now) {
            self.status.flip = self.decision.clone().filter(|decision| decision.flip.is_some());
            effects.push(Effect::WriteStatus(request));
        }
        if self.has_prior {
            let dirty = self.ledger.take_dirty_groups();
            if !dirty.is_empty() {
                effects.push(Effect::WriteEvidence(dirty));
            }
        }
    }

    /// Ends what is under way.
    fn stop_work(&mut self) -> Vec<Effect> {
        if let Some(verification) = self.verification.there() {
            verification.forget();
        }
        if let Some(contents) = self.contents.there() {
            contents.stop();
        }
        if let Some(failback) = self.failback.there() {
            failback.forget();
        }
        let copies = self
            .copies
            .there()
            .is_some_and(Copies::stop)
            .then_some(Effect::StopCopies);
        let proofs = self
            .proofs
            .there()
            .is_some_and(Proofs::stop)
            .then_some(Effect::StopProofs);
        let pass = self.passes.there().and_then(Passes::abandon);
        pass.into_iter().chain(copies).chain(proofs).collect()
    }
}

/// How this mirror's tags are judged.
fn rules(policy: &MirrorPolicy) -> Rules {
    Rules {
        grace: policy.parity.grace,
        settled: policy.parity.settled,
        subset: policy.cache(),
    }
}
