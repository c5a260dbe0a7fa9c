//! What was read: probes, listings, references, and what is in use.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Mirror, rules};
use crate::endpoint::{Outcome, later};
use crate::mirror::contents::Inspected;
use crate::mirror::effect::Effect;
use crate::mirror::event::{Listed, Probed, ReferenceName, RequestId, Resolved};
use crate::mirror::failover::LONGEST_SKEW;
use crate::mirror::in_use::InUse;
use crate::mirror::pass::{Passes, Reading};
use crate::mirror::pulls::PodPulls;
use crate::mirror::verification::Cause;
use crate::policy::MirrorPolicy;
use crate::side::Side;

impl Mirror {
    pub(super) fn probed(&mut self, probed: &Probed) -> Vec<Effect> {
        let Some(spec) = self.spec.clone() else {
            return Vec::new();
        };
        let Some(news) = self.probes.ended(probed, &spec.policy) else {
            return Vec::new();
        };
        let mut reported = news.reported;
        if let Some(canary) = &news.canary {
            let in_use = self.in_use.clone().unwrap_or_default();
            match probed.reading.probe.outcome {
                Outcome::Reachable => {
                    self.canary.found(canary, probed.side);
                    reported |= self.served(&spec.policy, probed.side, &canary.repository);
                }
                Outcome::CanaryNotFound | Outcome::CanaryBlocked => {
                    reported |= self
                        .canary
                        .refuse(canary, probed.side, &spec.policy, &self.ledger, &in_use);
                }
                _ => {}
            }
        }
        if reported {
            self.write.want();
        }
        Vec::new()
    }

    /// The active side may be failing: what the other one answers now is about to matter.
    pub(super) fn suspected(&mut self, side: Side, now: Timestamp) -> Vec<Effect> {
        if !self.acts() || side != self.status.standing.active {
            return Vec::new();
        }
        // What is slow began before, and what an alarm brings about begins now.
        let after = later(now, LONGEST_SKEW);
        self.probes.want_twice(side.other(), after, now)
    }

    /// A side has served a manifest. If it is the active one, images of this mapping may be sent there from now on. Whether that
    /// is new. Which side is active, only a leader knows for sure.
    fn served(&mut self, policy: &MirrorPolicy, side: Side, repository: &str) -> bool {
        if !self.acts() || side != self.status.standing.active {
            return false;
        }
        let mapping = policy.mapping(repository, policy.rule(repository));
        // All mappings of a policy are made for each question: only for what is new.
        !self.status.observed.contains(&mapping)
            && policy.mappings().contains(&mapping)
            && self.status.observed.insert(mapping)
    }

    pub(super) fn listed(&mut self, listed: &Listed, now: Timestamp) -> Vec<Effect> {
        let in_use = self.in_use.clone().unwrap_or_default();
        self.read_with(&in_use, now, |passes, reading| passes.listed(listed, reading))
    }

    /// Has passes work with the ledger; nothing while there is no policy.
    fn read_with(
        &mut self,
        in_use: &InUse,
        now: Timestamp,
        work: impl FnOnce(&mut Passes, &mut Reading<'_>) -> Vec<Effect>,
    ) -> Vec<Effect> {
        let Some(policy) = self.policy() else { return Vec::new() };
        let mut reading = Reading {
            rules: rules(&policy),
            policy: &policy,
            ledger: &mut self.ledger,
            requests: &mut self.requests,
            in_use,
            now,
        };
        work(&mut self.passes, &mut reading)
    }

    pub(super) fn resolved(&mut self, resolved: &Resolved, now: Timestamp) -> Vec<Effect> {
        let Some(policy) = self.policy() else { return Vec::new() };
        let ReferenceName { repository, reference } = &resolved.name;
        let on_demand = self.verification.ended(resolved.request, now);
        if !on_demand && !self.passes.ended(resolved.request, repository) {
            return Vec::new();
        }
        self.ledger
            .record(repository, reference, resolved.seen.clone(), now, &rules(&policy));
        let active = self.status.standing.active;
        if resolved.served[active] && self.served(&policy, active, repository) {
            self.write.want();
        }
        if self.canary.current().is_none() {
            let in_use = self.in_use.clone().unwrap_or_default();
            self.canary.choose(&policy, &self.ledger, &in_use, false);
        }
        if !on_demand {
            let in_use = self.in_use.clone().unwrap_or_default();
            return self.read_with(&in_use, now, |passes, reading| passes.resolved(resolved, reading));
        }
        self.failback.read(&resolved.name, &resolved.seen);
        self.write.want();
        Vec::new()
    }

    pub(super) fn inspected(&mut self, inspected: &Inspected, now: Timestamp) -> Vec<Effect> {
        if self.contents.ended(inspected, &mut self.ledger, now) {
            self.write.want();
            return vec![Effect::Measure];
        }
        Vec::new()
    }

    pub(super) fn in_use_read(&mut self, request: RequestId, in_use: &Arc<InUse>, now: Timestamp) -> Vec<Effect> {
        let Some(policy) = self.policy() else { return Vec::new() };
        let (for_pass, for_check) = (self.passes.asked_with(request), self.failback.asked_with(request));
        if for_pass || for_check {
            self.in_use = Some(Arc::clone(in_use));
        }
        if for_check {
            let pass = self.passes.last().map_or(now, |pass| pass.begun);
            let names = self.failback.in_use_read(&policy, in_use, &self.ledger, pass, now);
            let wanted = names.iter().cloned();
            self.verification.want(wanted, Cause::Used, &policy, &self.ledger, now);
            let pending = names.into_iter().filter(|name| self.verification.is_pending(name));
            self.failback.wait_for(pending);
        }
        if for_pass {
            let looked_after = self.looked_after(in_use, now);
            return self.read_with(&looked_after, now, Passes::in_use_read);
        }
        Vec::new()
    }

    /// What is in use, and what was asked for since that was read.
    fn looked_after(&self, in_use: &InUse, now: Timestamp) -> InUse {
        let mut all = in_use.clone();
        for ReferenceName { repository, reference } in self.verification.lately(now) {
            let references = all.references.entry(repository.clone()).or_default();
            references.entry(reference.clone()).or_default();
        }
        all
    }

    pub(super) fn in_use_failed(&mut self, request: RequestId, now: Timestamp) -> Vec<Effect> {
        self.passes.in_use_failed(request, now);
        self.failback.in_use_failed(request, now);
        Vec::new()
    }

    /// Who does not lead is told nothing: what was reported before this replica led is kept, because it may be told first.
    pub(super) fn pulls_reported(&mut self, reports: &[PodPulls], now: Timestamp) -> Vec<Effect> {
        if self.policy().is_some() {
            self.pulls.report(reports, now);
        }
        Vec::new()
    }

    pub(super) fn wanted(&mut self, references: Vec<ReferenceName>, urgent: bool, now: Timestamp) -> Vec<Effect> {
        let cause = if urgent { Cause::Urgent } else { Cause::Used };
        if let Some(policy) = self.policy().filter(|_| self.leading) {
            self.verification.want(references, cause, &policy, &self.ledger, now);
        }
        Vec::new()
    }
}
