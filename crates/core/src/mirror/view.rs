//! What a mirror's status says, as data: conditions and words are made of it by the code that writes the status.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::contents::FlawedContent;
use super::event::CacheRule;
use super::failback::Blockers;
use super::failover::{Decision, Flip, Standing};
use super::in_use::WorkloadsRead;
use super::machine::Mirror;
use super::parity::{Canary, Divergence, Summary, Verdict};
use super::pass::PassResult;
use super::prewarm::{Holdings, holdings};
use super::proof;
use super::pulls::Failing;
use super::repair::Progress;
use crate::endpoint::{Availability, ClientProblem, Outcome, Probe, Unavailable, Vantages};
use crate::policy::{MirrorPolicy, ProofMode};
use crate::routing::Conflict;
use crate::routing::evidence::{Flaw, MappingId};
use crate::side::{Side, Sides};

/// Divergences that are named at most; the counts are exact.
pub const MAX_DIVERGENCES: usize = 20;

/// Digests that are broken, and that are untrusted, that are shown at most.
pub const MAX_FLAWED: usize = 10;

/// A mirror as its status shows it.
#[derive(Clone, Debug)]
pub struct View {
    /// The generation of the spec that was read last, valid or not.
    pub generation: i64,
    /// Why the latest spec makes no sense.
    pub invalid: Option<String>,
    /// The generation of the spec in force, and what is known by it; none while there was no valid spec.
    pub in_force: Option<(i64, Subject)>,
}

/// What the spec in force makes of a mirror.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The user asked for nothing to be done.
    Suspended,
    /// It is watched.
    Watched(Box<Observation>),
}

/// What is known of a mirror that is watched, and what was decided.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What the user asked for.
    pub policy: Arc<MirrorPolicy>,
    /// The verdict on each side.
    pub availability: Sides<Availability>,
    /// The last probe of each side.
    pub probes: Sides<Option<Probe>>,
    /// What other replicas see of each side.
    pub vantages: Sides<Vantages>,
    /// Why a side has no client, where a person must act.
    pub problems: Sides<Option<ClientProblem>>,
    /// Whether a side was ever probed by a client of its own.
    pub asked: Sides<bool>,
    /// Whether a side's latest probes, as many as `failureThreshold`, say nothing about it.
    pub unclear: Sides<bool>,
    /// Whether a side has not been probed since the spec changed.
    pub outdated: Sides<bool>,
    /// The last pass over the tags.
    pub pass: Option<PassResult>,
    /// Counts over all tags.
    pub summary: Summary,
    /// A sample of confirmed divergences, newest first, at most [`MAX_DIVERGENCES`].
    pub divergences: Vec<Divergence>,
    /// A sample of what is broken, by name, at most [`MAX_FLAWED`].
    pub broken: Vec<FlawedContent>,
    /// The same of what is untrusted.
    pub untrusted: Vec<FlawedContent>,
    /// What is probed with.
    pub canary: Option<Canary>,
    /// Other mirrors that claim the same repositories and win.
    pub overlaps: Vec<Conflict>,
    /// Pods re-pointed since the mirror was created.
    pub rescued: u64,
    /// Pulls that fail on nodes, and from which side: until its flip is written, from the one that was active.
    pub pulls: Option<(Side, Failing)>,
    /// Pods whose pull from the active side failed in this epoch and that still wait.
    pub pods_failing: usize,
    /// Pods with at least one image on the fallback; none before they were counted.
    pub pods_on_fallback: Option<u32>,
    /// Whether the templates of workloads count among what is in use; none before they were read.
    pub workloads: Option<WorkloadsRead>,
    /// How the copying of missing tags goes.
    pub repair: Option<Progress>,
    /// The cloud's rule for a side that is a pull-through cache.
    pub rule: Option<CacheRule>,
    /// What the pull-through cache holds of what is in use.
    pub holdings: Option<Holdings>,
    /// What holds a failback up.
    pub blockers: Blockers,
    /// The last flip that the status shows.
    pub last_flip: Option<Flip>,
    /// Mappings of which a side has served a manifest.
    pub observed: BTreeSet<MappingId>,
    /// What is known of pulls from the fallback; none where nothing is to be proven.
    pub proof: Option<proof::summary::Summary>,
    /// The request to reconcile that was followed last.
    pub reconciled: Option<String>,
    /// Why the evidence can't be stored.
    pub evidence_problem: Option<String>,
    /// Which side is active, and why.
    pub decision: Decision,
}

impl Observation {
    /// Whether both sides were probed at least once with this process's own eyes.
    pub fn is_probed(&self) -> bool {
        Side::ALL.into_iter().all(|side| {
            let probe = self.probes[side].as_ref();
            probe.is_some_and(|probe| self.asked[side] || probe.outcome != Outcome::CredentialsUnavailable)
                || self.problems[side].is_some()
        })
    }

    /// What stands once this is written.
    pub fn standing(&self) -> Standing {
        let decision = &self.decision;
        Standing {
            active: decision.active,
            registry: Some(self.policy.sides[decision.active].name()),
            epoch: decision.epoch,
            last_flip: self.last_flip.clone(),
            failovers: decision.failovers.clone(),
        }
    }

    /// Whether a side has served a manifest under every mapping of the spec in force, or at least one where repositories are found
    /// by their use.
    pub fn is_observed(&self) -> bool {
        self.policy
            .mappings()
            .iter()
            .any(|mapping| self.observed.contains(mapping))
    }
}

impl Mirror {
    /// What the status is to say now; none before there was a spec.
    pub fn view(&self) -> Option<View> {
        let invalid = self.invalid.as_ref();
        let generation = invalid
            .map(|(generation, _)| *generation)
            .or(self.spec.as_ref().map(|spec| spec.generation))?;
        let in_force = self.spec.as_ref().and_then(|spec| {
            let subject = if spec.policy.suspended {
                Subject::Suspended
            } else {
                Subject::Watched(Box::new(self.observation()?))
            };
            Some((spec.generation, subject))
        });
        Some(View {
            generation,
            invalid: invalid.map(|(_, problem)| problem.clone()),
            in_force,
        })
    }

    /// None before the first decision.
    fn observation(&self) -> Option<Observation> {
        let spec = self.spec.as_ref()?;
        let decision = self.status.pending().or(self.decision.as_ref())?.clone();
        let side = |side: Side| self.probes.side(side);
        let in_use = self.in_use.as_deref();
        let cache = spec.policy.cache();
        Some(Observation {
            policy: Arc::clone(&spec.policy),
            availability: Sides::from_fn(|which| side(which).availability()),
            probes: Sides::from_fn(|which| side(which).history().latest().cloned()),
            vantages: Sides::from_fn(|which| self.probes.vantages()[which].clone()),
            problems: Sides::from_fn(|which| side(which).problem().cloned()),
            asked: Sides::from_fn(|which| side(which).asked()),
            unclear: Sides::from_fn(|which| side(which).history().is_unclear(&spec.policy.health)),
            outdated: Sides::from_fn(|which| side(which).is_outdated(spec.generation)),
            pass: self.passes.last().cloned(),
            summary: self.ledger.summary(),
            divergences: self.ledger.divergences(MAX_DIVERGENCES),
            broken: self.flawed(Flaw::Broken),
            untrusted: self.flawed(Flaw::Untrusted),
            canary: self.canary.current().cloned(),
            overlaps: self.conflicts.clone(),
            rescued: self.status.rescued(),
            pulls: self.pulls.shown(),
            pods_failing: if decision.flip.is_some() {
                0
            } else {
                self.pulls.failing()
            },
            pods_on_fallback: in_use.map(|in_use| in_use.pods_on_fallback),
            workloads: in_use.map(|in_use| in_use.workloads),
            repair: self.copies.progress().cloned(),
            rule: self.cache.rule().cloned(),
            holdings: cache
                .zip(in_use)
                .map(|(cache, in_use)| holdings(cache, &self.ledger, in_use)),
            blockers: self.failback.blockers().clone(),
            last_flip: decision.flip.clone().or_else(|| self.status.standing.last_flip.clone()),
            observed: self.status.observed.clone(),
            proof: (spec.policy.proof.mode == ProofMode::Pull).then(|| self.proofs.summary()),
            reconciled: self.reconcile.handled().map(str::to_owned),
            evidence_problem: self.evidence_problem.clone(),
            decision,
        })
    }
}

impl Mirror {
    fn flawed(&self, flaw: Flaw) -> Vec<FlawedContent> {
        let has = |content: &&FlawedContent| Side::ALL.into_iter().any(|side| content.has(side, flaw));
        self.contents.flawed().filter(has).take(MAX_FLAWED).cloned().collect()
    }

    /// The latest pass that ended.
    pub fn last_pass(&self) -> Option<&PassResult> {
        self.passes.last()
    }

    /// Counts over all tags.
    pub fn summary(&self) -> Summary {
        self.ledger.summary()
    }

    /// What is known of a tag or digest; none for one that was never seen.
    pub fn verdict(&self, repository: &str, reference: &str) -> Option<Verdict> {
        self.ledger.verdict(repository, reference)
    }

    /// Every confirmed divergence.
    pub fn diverged(&self) -> impl Iterator<Item = Divergence> + '_ {
        self.ledger.diverged()
    }

    /// Whether pulls from a side get no answer at all: it is unavailable because of timeouts.
    pub fn hangs(&self, side: Side) -> bool {
        self.probes.side(side).availability() == Availability::Unavailable(Unavailable::Timeout)
    }
}
