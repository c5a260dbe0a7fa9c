//! What must hold whatever happens, judged by what the world knows and not by the code under test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::endpoint::Outcome;
use catamaran_core::mirror::Subject;
use catamaran_core::mirror::failover::{FlipReason, Standing};
use catamaran_core::mirror::pulls::{LEAST_NODES, LEAST_PODS};
use catamaran_core::mirror::{View, latest};
use catamaran_core::policy::{
    ActiveSide, FailbackMode, MirrorPolicy, OnMismatch, OnPullsFailing, Repositories, Trigger,
};
use catamaran_core::reference::Reference;
use catamaran_core::routing::evidence::MappingId;
use catamaran_core::side::Side;

use crate::api::{Object, Status};
use crate::clock::{Ms, SECOND, millis};
use crate::facts::{Fact, key, rule};
use crate::world::{Flipped, ProbeSeen, World};

/// How long before a failback something may have been read that it rests on: what was fresh enough for the check (30 s), the
/// check's own age (1 min), and the longest that answers take or are late here.
const PROOF: Ms = 130 * SECOND;

/// How long a side must be seen failing before a failover.
const CONFIRMATION: Ms = 700;

/// The age from which what was seen of a side says nothing any more.
fn quiet(policy: &MirrorPolicy) -> Ms {
    3 * millis(policy.health.period.max(policy.health.timeout))
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub message: String,
    pub at: Ms,
}

#[derive(Clone, Debug, Default)]
pub struct Checks {
    violation: Option<Violation>,
    /// What was active in each epoch. An edit may put another registry on the active side, or the active one on the other.
    actives: BTreeMap<u64, (Side, String)>,
    highest: u64,
    /// Each generation of the spec, since when, and the mappings that it has.
    pub edits: Vec<(i64, Ms, BTreeSet<MappingId>)>,
    /// A failback may rest on reads so old: longer while answers are being lost.
    pub patience: Ms,
}

impl Checks {
    pub fn fail(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    pub fn holds(&self) -> bool {
        self.violation.is_none()
    }

    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// The status was restored: epochs may be given out again by those who have not seen them.
    pub fn restored(&mut self, standing: Option<&Standing>) {
        let epoch = standing.map_or(0, |standing| standing.epoch);
        self.actives.retain(|known, _| *known <= epoch);
        self.highest = epoch;
    }
}

impl World {
    /// What a replica wants to write.
    pub fn check_view(&mut self, replica: usize, base: &Object, view: &View) {
        let Some((_, Subject::Watched(seen))) = &view.in_force else {
            return;
        };
        let decision = &seen.decision;
        if decision.why.message.is_empty() {
            self.fail("I0", format!("replica {replica} decides without a reason"));
        }
        let highest = self.replicas[replica].epochs.keys().next_back().copied().unwrap_or(0);
        if decision.epoch < highest {
            let message = format!(
                "replica {replica} has seen epoch {highest} and writes {}",
                decision.epoch
            );
            self.fail("I1", message);
        }
        let known = base.status.standing.as_ref().map_or(0, |standing| standing.epoch);
        if decision.epoch < known {
            self.fail("I1", format!("replica {replica} takes epoch {known} back"));
        }
        let Some(flip) = decision.flip.clone() else { return };
        let policy = Arc::clone(&seen.policy);
        match flip.reason {
            FlipReason::Requested => {
                if policy.failover.active == ActiveSide::Auto {
                    self.fail("I3", "a flip was requested by nobody".to_owned());
                }
            }
            FlipReason::PullsFailing => self.check_pulls_flip(replica, &policy, flip.from),
            FlipReason::PrimaryRecovered => self.check_failback(replica, &policy),
            FlipReason::PrimaryUnavailable | FlipReason::FallbackUnavailable => {
                self.check_failover(replica, &policy, flip.from);
            }
        }
    }

    /// A status that is about to be stored.
    pub fn check_write(&mut self, replica: usize, base: &Object, status: &Status) {
        let standing = latest(status.standing.clone(), self.apart.as_ref());
        if let Some(standing) = standing {
            self.check_standing(replica, base, &standing);
        }
    }

    /// What is about to stand.
    pub fn check_standing(&mut self, replica: usize, base: &Object, standing: &Standing) {
        let registry = standing.registry.clone().unwrap_or_default();
        let before = latest(base.status.standing.clone(), self.apart.as_ref());
        if standing.epoch < self.checks.highest {
            let message = format!("epoch {} follows {}", standing.epoch, self.checks.highest);
            self.fail("I1", message);
        }
        self.checks.highest = standing.epoch;
        let active = (standing.active, registry);
        let differ = |known: &(Side, String)| known.0 != active.0 && known.1 != active.1;
        let known = self.checks.actives.insert(standing.epoch, active.clone());
        if let Some(known) = known.filter(differ) {
            self.fail("I1", format!("epoch {} is {known:?} and {active:?}", standing.epoch));
        }
        let own = self.replicas[replica].epochs.get(&standing.epoch).cloned();
        if let Some(own) = own.filter(differ) {
            let message = format!(
                "replica {replica} saw {own:?} in epoch {} and writes {active:?}",
                standing.epoch
            );
            self.fail("I1", message);
        }
        let flip = standing.last_flip.clone();
        let news = flip.filter(|flip| before.as_ref().and_then(|before| before.last_flip.as_ref()) != Some(flip));
        let Some(flip) = news else { return };
        self.flips.push(Flipped {
            at: self.now,
            to: flip.to,
            reason: flip.reason,
        });
    }

    pub fn probes_of(&self, replica: usize, name: &str) -> impl Iterator<Item = &ProbeSeen> {
        let probes = self.replicas[replica].probes.iter().rev();
        probes.filter(move |probe| probe.name == name)
    }

    /// The latest probes that all succeeded, without a gap by the replica's clock.
    fn reachable_run(&self, replica: usize, name: &str, policy: &MirrorPolicy) -> Vec<&ProbeSeen> {
        let quiet = quiet(policy);
        let mut run: Vec<&ProbeSeen> = Vec::new();
        for seen in self.probes_of(replica, name) {
            let gap = run
                .last()
                .is_some_and(|later| (later.by_clock - seen.by_clock).abs() > quiet);
            if gap || seen.outcome != Outcome::Reachable {
                break;
            }
            run.push(seen);
        }
        run
    }

    /// No flip without failures that this very process was told of, and an answer of the target in the middle of them.
    fn check_failover(&mut self, replica: usize, policy: &MirrorPolicy, from: Side) {
        if policy.failover.active != ActiveSide::Auto {
            self.fail("I3", "a pinned side was left".to_owned());
        }
        let to = from.other();
        let (dead, alive) = (&policy.sides[from].name(), &policy.sides[to].name());
        let counts = |outcome: &Outcome| match outcome {
            Outcome::Unavailable(_) => true,
            Outcome::Unauthorized => policy.health.triggers.contains(&Trigger::Unauthorized),
            Outcome::Forbidden | Outcome::NetworkDenied => policy.health.triggers.contains(&Trigger::Forbidden),
            _ => false,
        };
        let run = self
            .probes_of(replica, dead)
            .take_while(|seen| seen.outcome != Outcome::Reachable);
        let mut failures: Vec<&ProbeSeen> = run.filter(|seen| counts(&seen.outcome)).collect();
        // Failures far apart are not a run.
        let patience = quiet(policy) + millis(policy.health.timeout);
        let gap = failures
            .windows(2)
            .position(|pair| (pair[0].by_clock - pair[1].by_clock).abs() > patience);
        failures.truncate(gap.map_or(failures.len(), |gap| gap + 1));
        let needed = policy.health.failure_threshold as usize;
        let begins = failures.iter().map(|seen| seen.begun);
        let (Some(first), Some(last)) = (begins.clone().min(), begins.max()) else {
            return self.fail("I3", format!("replica {replica} has seen no failure of {dead}"));
        };
        let host = policy.sides[from].registry.clone();
        let began =
            |seen: &&ProbeSeen| seen.told - (seen.by_clock - seen.begun).clamp(0, millis(policy.health.timeout));
        let first_begun = failures.iter().map(began).min().unwrap_or_default();
        if failures.len() < needed || last - first < CONFIRMATION {
            let count = failures.len();
            let message =
                format!("replica {replica} has seen {count} failures of {dead} in a row, from {first} to {last}");
            return self.fail("I3", message);
        }
        // By its clock, and by ours if that was set meanwhile.
        let timeout = millis(policy.health.timeout);
        let since = failures
            .iter()
            .map(|seen| seen.told - (seen.by_clock - seen.begun).clamp(0, timeout))
            .min();
        let meanwhile = |seen: &ProbeSeen| seen.by_clock >= first && since.is_some_and(|since| seen.told >= since);
        let failed = self
            .probes_of(replica, alive)
            .any(|seen| counts(&seen.outcome) && meanwhile(seen));
        let answers = self.reachable_run(replica, alive, policy);
        let since = answers.last().map_or(first, |seen| seen.by_clock);
        let from = if failed {
            first.max(since + quiet(policy))
        } else {
            first
        };
        if !answers.iter().any(|seen| seen.begun >= from && seen.by_clock <= last) {
            let message = format!("{alive} did not answer after {from} and before {last}");
            return self.fail("I3", message);
        }
        self.check_agreement(replica, &host, dead, first_begun);
        self.check_target(replica, policy, to);
    }

    /// No flip for kubelets without enough of them, or with the user against it.
    fn check_pulls_flip(&mut self, replica: usize, policy: &MirrorPolicy, from: Side) {
        if policy.failover.active != ActiveSide::Auto || policy.health.on_pulls_failing == OnPullsFailing::Report {
            self.fail("I3", "a side was left that the user keeps".to_owned());
        }
        let (pods, nodes, pivot) = self.pulls_told(replica, &policy.sides[from].name());
        let least = LEAST_NODES.min(self.kubelets.nodes.len());
        if pods < LEAST_PODS || nodes < least {
            let message = format!("replica {replica} was told of {pods} pods on {nodes} nodes");
            return self.fail("I3", message);
        }
        self.check_sandwich(replica, policy, from.other(), pivot.unwrap_or_default());
    }

    /// The target answered before and after a failure, and holds something.
    fn check_sandwich(&mut self, replica: usize, policy: &MirrorPolicy, target: Side, pivot: Ms) {
        let alive = &policy.sides[target].name();
        let reachable = self.reachable_run(replica, alive, policy);
        let before = reachable.iter().any(|seen| seen.by_clock <= pivot);
        let after = reachable.first().is_some_and(|seen| seen.by_clock >= pivot);
        if !before || !after {
            let message = format!("{alive} did not answer before and after the failure at {pivot}");
            return self.fail("I3", message);
        }
        self.check_target(replica, policy, target);
    }

    /// No flip to a side that was not seen to hold anything that is in use.
    fn check_target(&mut self, replica: usize, policy: &MirrorPolicy, target: Side) {
        let one = &self.replicas[replica];
        let facts = one.facts.over(&one.prior_facts);
        let in_use = one.in_use.clone().unwrap_or_default();
        let mut lacking = Vec::new();
        // The list may be older than the spec.
        let is_of = |repository: &str| match &policy.repositories {
            Repositories::Listed(_) => rule(policy, repository).is_some(),
            Repositories::InUse => true,
        };
        for (repository, reference, _) in in_use.each().filter(|(repository, ..)| is_of(repository)) {
            let key = key(policy, repository, reference);
            match (facts.get(key, target), facts.get(key, target.other())) {
                (Some(Fact::Has(_) | Fact::Unclear), _) | (_, Some(Fact::Unclear)) => return,
                (Some(Fact::Lacks), Some(Fact::Has(_)) | None) | (None, Some(Fact::Has(_))) => {
                    lacking.push(format!("{repository}:{reference}"));
                }
                (_, Some(Fact::Lacks)) | (None, None) => {}
            }
        }
        if !lacking.is_empty() {
            return self.fail(
                "I4",
                format!("{target} was not seen to hold anything that is in use: {lacking:?}"),
            );
        }
        let names: Vec<&str> = match &policy.repositories {
            Repositories::Listed(rules) => rules.iter().map(|rule| rule.name.as_str()).collect(),
            Repositories::InUse => vec!["app", "web"],
        };
        let holds = |name: &&str| {
            let path = policy.path(target, name);
            self.told.anything((&policy.sides[target].registry, &path))
        };
        if !names.iter().any(holds) {
            self.fail("I4", format!("{target} was never seen to hold anything"));
        }
    }

    /// Going back needs a primary that was stable, and has what is in use.
    fn check_failback(&mut self, replica: usize, policy: &MirrorPolicy) {
        let failover = &policy.failover;
        if (failover.active, failover.failback) != (ActiveSide::Auto, FailbackMode::Automatic) {
            self.fail("I7", "a failback that nobody wants".to_owned());
        }
        let primary = &policy.sides.primary.name();
        let run = self.reachable_run(replica, primary, policy);
        // By its own clock: one that is set a little cannot be told from time that passes.
        let now = self.now + self.replicas[replica].clock;
        let since = run.last().map_or(now, |seen| seen.by_clock);
        if run.len() < policy.health.success_threshold as usize || now - since < millis(failover.stable) {
            let message = format!("{primary} was reachable {} times since {since}", run.len());
            self.fail("I7", message);
        }
        let oldest = self.now - PROOF.max(self.checks.patience);
        let workloads = self
            .workloads
            .values()
            .filter(|one| one.since < oldest && (one.started || one.template));
        let missing: Vec<String> = workloads
            .filter(|one| !self.is_safe(policy, &one.image, oldest))
            .map(|one| one.image.clone())
            .collect();
        if !missing.is_empty() {
            self.fail("I7", format!("failed back without {missing:?}"));
        }
    }

    /// Whether an image was on the primary as it is on the fallback, at some time since `oldest` on each side.
    fn is_safe(&self, policy: &MirrorPolicy, image: &str, oldest: Ms) -> bool {
        let Ok(reference) = Reference::parse(image) else {
            return true;
        };
        let Some(located) = policy.locate(&reference) else {
            return true;
        };
        let Some(name) = reference.digest().or(reference.effective_tag()) else {
            return true;
        };
        let held = |side: Side| {
            let path = policy.path(side, &located.repository);
            self.registry(&policy.sides[side].registry)
                .held_since(oldest, &path, name)
        };
        let (primary, fallback) = (held(Side::Primary), held(Side::Fallback));
        let proceeds = failover_proceeds(policy);
        fallback.iter().any(|fallback| match fallback {
            None => true,
            Some(_) => primary
                .iter()
                .flatten()
                .any(|primary| proceeds || Some(primary) == fallback.as_ref() || reference.digest().is_some()),
        })
    }
}

fn failover_proceeds(policy: &MirrorPolicy) -> bool {
    policy.failover.on_mismatch == OnMismatch::Proceed
}
