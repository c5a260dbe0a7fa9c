//! What only a leader does: passes, on-demand reads, copies, the care of a cache, and the decision which side is active.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Mirror;
use crate::endpoint::{Availability, distance};
use crate::mirror::cache::Care;
use crate::mirror::effect::{Announcement, Effect};
use crate::mirror::event::{CacheRule, CopyEnded, PrewarmOutcome, ReferenceName, RequestId};
use crate::mirror::failover::{Decision, Input, OLDEST_PASS, decide};
use crate::mirror::flips::Known;
use crate::mirror::in_use::InUse;
use crate::mirror::parity::{Held, Observed};
use crate::mirror::pass::PassResult;
use crate::mirror::prewarm::Pull;
use crate::mirror::pulls::PullOutage;
use crate::mirror::repair;
use crate::mirror::verification::Cause;
use crate::policy::{MirrorPolicy, RepairMode, Repositories};
use crate::side::{Side, Sides};

/// How old a reading of what is in use may be for a pass, where the interval between passes is not shorter.
const OLDEST_OF_PASS: Duration = Duration::from_secs(30);

/// The same for the check right before a failback.
const OLDEST_OF_CHECK: Duration = Duration::from_secs(1);

/// Mappings of which a manifest is asked for after one pass, because none was served yet.
const MOST_UNOBSERVED: usize = 16;

/// Tags of a repository among which one is looked for that the active side has.
const MOST_LOOKED_AT: usize = 100;

impl Mirror {
    pub(super) fn lead(&mut self, policy: &Arc<MirrorPolicy>, now: Timestamp, effects: &mut Vec<Effect>) {
        self.follow_request(policy);
        let begun = self.passes.begin_if_due(policy, &self.ledger, &mut self.requests, now);
        effects.extend(begun.map(|request| Effect::ReadInUse {
            request,
            oldest: (policy.parity.interval / 2).min(OLDEST_OF_PASS),
        }));
        if let Some(complete) = self.passes.end_if_over(now).map(PassResult::is_complete) {
            self.pass_ended(policy, complete, now, effects);
        }
        effects.extend(self.verification.begin(&mut self.requests, now));
        effects.extend(self.contents.begin(&mut self.requests, now));
        self.prove(policy, now, effects);
        let in_use = self.in_use.clone().unwrap_or_default();
        if self.failback.end_if_read(policy, &in_use, &self.ledger, now) {
            self.write.want();
        }
        self.decide(policy, now, effects);
    }

    fn pass_ended(&mut self, policy: &MirrorPolicy, complete: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        if complete {
            self.ledger.drop_prior();
        }
        let in_use = self.in_use.clone().unwrap_or_default();
        if complete {
            self.contents.plan(policy, &mut self.ledger, &in_use, now);
        }
        self.canary.choose(policy, &self.ledger, &in_use, complete);
        self.write.want();
        effects.push(Effect::Measure);
        let unobserved = self.unobserved(policy);
        self.verification
            .want(unobserved, Cause::Changed, policy, &self.ledger, now);
        let care = Care {
            policy,
            ledger: &self.ledger,
            in_use: &in_use,
            both_available: self.both_available(),
        };
        effects.extend(self.cache.pass_ended(&care, &mut self.requests, now));
        effects.extend(self.plan_copies(policy, &in_use, now));
    }

    /// For each mapping of which the active side has served nothing yet, a tag that it has: listings alone serve nothing.
    fn unobserved(&self, policy: &MirrorPolicy) -> Vec<ReferenceName> {
        let Repositories::Listed(rules) = &policy.repositories else {
            return Vec::new();
        };
        let active = self.status.standing.active;
        let has = |repository: &str, tag: &str| {
            let observation = self.ledger.observation(repository, tag, active);
            matches!(observation, Some((Observed::Present(_), _)))
        };
        let mut mappings = BTreeSet::new();
        let mut names = Vec::new();
        for rule in rules {
            let mapping = policy.mapping(&rule.name, Some(rule));
            if names.len() >= MOST_UNOBSERVED || self.status.observed.contains(&mapping) || mappings.contains(&mapping)
            {
                continue;
            }
            let tags = self.ledger.range(&rule.name, Bound::Unbounded, Bound::Unbounded);
            if let Some(tag) = tags.take(MOST_LOOKED_AT).find(|tag| has(&rule.name, tag)) {
                mappings.insert(mapping);
                names.push(ReferenceName {
                    repository: rule.name.clone(),
                    reference: tag.to_owned(),
                });
            }
        }
        names
    }

    pub(super) fn copied(&mut self, ended: &CopyEnded, now: Timestamp) -> Vec<Effect> {
        let Some(policy) = self.policy() else { return Vec::new() };
        let Some(report) = self.copies.ended(ended, now) else {
            return Vec::new();
        };
        let errand = &ended.errand;
        if errand.is_broken && ended.result.is_ok() {
            self.contents.want_content(Held {
                repository: errand.repository.clone(),
                reference: errand.tag.clone(),
                digest: errand.digest.clone(),
                on: Sides::from_fn(|_| true),
            });
        }
        if report {
            self.write.want();
        }
        let read_again = match &ended.result {
            Ok(_) => true,
            Err(failure) => failure.read_again,
        };
        if read_again {
            let name = ReferenceName {
                repository: ended.errand.repository.clone(),
                reference: ended.errand.tag.clone(),
            };
            self.verification
                .want([name], Cause::Changed, &policy, &self.ledger, now);
        }
        self.next_copies(&policy, now)
    }

    pub(super) fn next_copies(&mut self, policy: &MirrorPolicy, now: Timestamp) -> Vec<Effect> {
        let was_busy = self.copies.is_busy();
        let both = self.both_available();
        let effects = self.copies.next(policy.repair.concurrency, both, now);
        if was_busy && !self.copies.is_busy() {
            self.write.want();
        }
        effects
    }

    fn plan_copies(&mut self, policy: &MirrorPolicy, in_use: &InUse, now: Timestamp) -> Vec<Effect> {
        if policy.repair.mode == RepairMode::Off || self.copies.is_busy() {
            return Vec::new();
        }
        let ledger = &self.ledger;
        self.copies.attempts_mut().retain(|repository, tag| {
            let verdict = ledger.verdict(repository, tag);
            let flaws = ledger.known(repository, tag).flaws;
            verdict.is_some_and(|verdict| verdict.lacking().is_some()) || flaws.primary.or(flaws.fallback).is_some()
        });
        let input = repair::Input {
            policy,
            available: self.available(),
            in_use,
            attempts: self.copies.attempts(),
            missing: ledger.missing(),
        };
        // Those that were tried in vain must not hide the others.
        let most = repair::most_errands(policy) + self.copies.attempts().len();
        let mut plan = repair::plan(&input, ledger.some_missing(in_use, most), now);
        // What both sides have is asked for before what one side lacks as a whole.
        let completions = repair::completions(&input, self.contents.flawed(), now);
        plan.errands.splice(0..0, completions);
        let dry_run = policy.repair.mode == RepairMode::DryRun;
        if plan.errands.is_empty() {
            self.copies.idle(&plan, dry_run);
            return Vec::new();
        }
        if dry_run {
            return self.copies.planned(&plan, now).into_iter().collect();
        }
        self.copies.begin(plan, now);
        self.next_copies(policy, now)
    }

    fn available(&self) -> Sides<bool> {
        Sides::from_fn(|side| self.probes.side(side).availability() == Availability::Available)
    }

    fn both_available(&self) -> bool {
        self.available().both()
    }

    pub(super) fn prewarmed(&mut self, pull: Pull, outcome: PrewarmOutcome, now: Timestamp) -> Vec<Effect> {
        let Some(policy) = self.policy() else { return Vec::new() };
        let Some(effects) = self.cache.prewarmed(&pull, outcome, now) else {
            return Vec::new();
        };
        if outcome == PrewarmOutcome::Pulled {
            let name = ReferenceName {
                repository: pull.repository,
                reference: pull.tag,
            };
            self.verification
                .want([name], Cause::Changed, &policy, &self.ledger, now);
        }
        effects
    }

    pub(super) fn rule_read(&mut self, request: RequestId, rule: CacheRule, now: Timestamp) -> Vec<Effect> {
        if self.cache.rule_read(request, rule, now) {
            self.write.want();
        }
        Vec::new()
    }

    fn decide(&mut self, policy: &Arc<MirrorPolicy>, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.status.flip.is_some() {
            // It is being written; what was decided stands until that has ended.
            return;
        }
        let active = self.status.standing.active;
        let pulls = self.judge_pulls(policy, now, effects);
        let known = Known {
            ledger: &self.ledger,
            canary: self.canary.current(),
        };
        // It takes a walk over all that is in use, and nothing but a failover asks for it.
        let is_failing = self.probes.side(active).history().has_failed(&policy.health) || pulls[active].is_some();
        let serves = |side: Side| is_failing && side != active && known.serves(side, self.in_use.as_deref());
        let decision = decide(
            &Input {
                policy,
                probes: self.probes.histories(),
                vantages: {
                    let vantages = self.probes.vantages();
                    Sides::from_fn(|side| &*vantages[side].others)
                },
                standing: &self.status.standing,
                serves: Sides::from_fn(serves),
                pulls,
                is_proven: self.proofs.is_proven(),
                check: self.failback.result().cloned(),
            },
            now,
        );
        match decision.probe_now {
            Some((side, after)) if side == active => effects.extend(self.probes.want(side, after)),
            Some((side, after)) => effects.extend(self.probes.want_twice(side, after, now)),
            None => {}
        }
        if decision.check_now {
            effects.extend(self.check(policy, now));
        } else if decision.flip.is_none() && self.failback.forget() {
            self.write.want();
        }
        if self.decision.as_ref().map(said) != Some(said(&decision)) {
            self.write.want();
        }
        self.decision = Some(decision);
    }

    /// What nodes report of pulls in the epoch that stands.
    fn judge_pulls(
        &mut self,
        policy: &MirrorPolicy,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Sides<Option<PullOutage>> {
        let standing = &self.status.standing;
        let registries = Sides::from_fn(|side| policy.sides[side].name());
        self.pulls.bind(standing.epoch, standing.active, registries, now);
        let is_single_node = self.in_use.as_ref().is_some_and(|in_use| in_use.is_single_node);
        if self.pulls.refresh(is_single_node, now) {
            self.write.want();
        }
        let outcome = self.pulls.outcome(now).map(Announcement::PullsFailAfterFlip);
        effects.extend(outcome.map(Effect::Announce));
        self.pulls.outages(now)
    }

    /// Goes on with the check that a failback waits for. A pass shows first whether the primary is what it was.
    fn check(&mut self, policy: &MirrorPolicy, now: Timestamp) -> Option<Effect> {
        let since = self.probes.side(Side::Primary).history().reachable_since()?;
        let oldest = policy.parity.interval.min(OLDEST_PASS);
        let pass = self.passes.last();
        // One that began later than now, began before the clock was set back.
        let is_since = |begun: Timestamp| (since..=now).contains(&begun);
        if !pass.is_some_and(|pass| is_since(pass.begun) && distance(pass.ended, now) <= oldest) {
            self.passes.want_since(since);
            return None;
        }
        let request = self.failback.begin(&mut self.requests, now)?;
        Some(Effect::ReadInUse {
            request,
            oldest: OLDEST_OF_CHECK,
        })
    }
}

/// What of a decision the status shows.
fn said(decision: &Decision) -> impl PartialEq + use<> {
    (
        decision.why.reason,
        decision.recheck_at,
        decision.active,
        decision.epoch,
        decision.failovers.clone(),
    )
}
