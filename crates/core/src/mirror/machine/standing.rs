//! What the API server and the lease say: the spec, the status, who leads, and how writes ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Mirror, Spec};
use crate::mirror::effect::Effect;
use crate::mirror::event::{RequestId, StatusRead, WriteProblem};
use crate::mirror::flips::{active_side, regressed, restored};
use crate::mirror::on_demand::OnDemand;
use crate::mirror::parity::Canary;
use crate::mirror::pass::Passes;
use crate::policy::{MirrorPolicy, Repositories, RepositoryRule};
use crate::routing::Conflict;
use crate::routing::evidence::{Evidence, MappingId};
use crate::side::Side;

impl Mirror {
    /// A later spec ends what is under way: it was asked for by the one before.
    pub(super) fn spec_read(&mut self, policy: &Arc<MirrorPolicy>, generation: i64) -> Vec<Effect> {
        if self.invalid.take_if(|(refused, _)| *refused <= generation).is_some() {
            self.write.want();
        }
        if self.spec.as_ref().is_some_and(|spec| spec.generation == generation) {
            return Vec::new();
        }
        let before = self.spec.replace(Spec {
            policy: Arc::clone(policy),
            generation,
        });
        self.write.want();
        let mut effects = self.stop_work();
        let active = |mirror: &Mirror, policy: &MirrorPolicy| policy.sides[mirror.status.standing.active].name();
        let registry = before.as_ref().map(|before| active(self, &before.policy));
        if let Some(before) = before {
            effects.extend(self.sides_changed(&before.policy, policy));
        }
        let verified = |canary: &Canary| policy.selects_tag(&canary.repository, &canary.tag);
        self.canary.keep(verified);
        if let Some(ledger) = self.ledger.there() {
            ledger.set_policy(policy);
        }
        let mappings = policy.mappings();
        self.status.observed.retain(|mapping| mappings.contains(mapping));
        self.resume_standing();
        if registry.is_some_and(|registry| registry != active(self, policy)) {
            // What was served came from another registry. No status names it yet, or pods would still be sent there.
            self.status.observed.clear();
        }
        if let Some(passes) = self.passes.there() {
            passes.want();
        }
        effects
    }

    /// What was seen of a registry stays with it; what was seen of another one is dropped at once.
    fn sides_changed(&mut self, before: &MirrorPolicy, after: &MirrorPolicy) -> Option<Effect> {
        let is = |one: Side, other: Side| before.sides[one].name() == after.sides[other].name();
        if is(Side::Primary, Side::Fallback) && is(Side::Fallback, Side::Primary) {
            self.probes.swap();
        } else {
            for side in Side::ALL.into_iter().filter(|side| !is(*side, *side)) {
                self.probes.forget(side);
            }
        }
        let mapping = |policy: &MirrorPolicy, name: &str| policy.mapping(name, policy.rule(name));
        let credentials = |policy: &MirrorPolicy| policy.sides.as_ref().map(|side| side.image_pull_secrets.clone());
        let fallback = |policy: &MirrorPolicy| policy.sides.fallback.name();
        if credentials(before) != credentials(after) || fallback(before) != fallback(after) {
            self.proofs.renew();
        }
        self.canary
            .keep(|canary| mapping(before, &canary.repository) == mapping(after, &canary.repository));
        if mappings_by_name(before) == mappings_by_name(after) {
            return None;
        }
        if let Some(copies) = self.copies.there() {
            copies.forget();
        }
        self.proofs.renew();
        self.forget_reads()
    }

    /// Forgets what was read, but for the ledger.
    fn forget_reads(&mut self) -> Option<Effect> {
        if let Some(cache) = self.cache.there() {
            cache.forget();
        }
        if let Some(contents) = self.contents.there() {
            contents.forget();
        }
        self.passes.there().and_then(Passes::forget)
    }

    pub(super) fn spec_refused(&mut self, generation: i64, problem: String) -> Vec<Effect> {
        let refused = Some((generation, problem));
        if self.invalid != refused {
            self.invalid = refused;
            self.write.want();
        }
        Vec::new()
    }

    /// The status that the API server holds is what decisions go on from.
    pub(super) fn status_read(&mut self, read: Box<StatusRead>) -> Vec<Effect> {
        if let Some(canary) = read.canary.as_ref().filter(|_| !self.acts()) {
            self.canary.follow(canary);
        }
        let mappings = self.spec.as_ref().map(|spec| spec.policy.mappings());
        let in_force = |mapping: &&MappingId| mappings.as_ref().is_none_or(|all| all.contains(mapping));
        self.status
            .observed
            .extend(read.observed.iter().filter(in_force).copied());
        self.reconcile.read(read.reconciled.as_deref());
        self.status.read = Some(read);
        self.resume_standing();
        let written = self.status.standing.epoch;
        if self.status.flip.as_ref().is_some_and(|flip| flip.epoch <= written) {
            self.status.flip = None;
        }
        Vec::new()
    }

    /// What stands under the spec in force: the active registry stays the same when the sides change places.
    ///
    /// A status that has gone back was restored from a backup, or wiped. A leader that sees it go back writes what it knows; one
    /// that begins with it takes its side. Either does so in a later epoch than it has ever seen.
    fn resume_standing(&mut self) {
        let status = &mut self.status;
        let Some(read) = &status.read else { return };
        let found = read.standing.as_ref();
        let mut standing = match &status.known {
            Some(known) if regressed(known, found) => restored(known),
            _ => {
                let found = found.or(status.seen.as_ref()).cloned().unwrap_or_default();
                status.known = self.leading.then(|| found.clone());
                found
            }
        };
        if let Some(found) = found {
            status.seen = Some(found.clone());
            status.highest = status.highest.max(found.epoch);
        }
        if found.is_none_or(|found| found.epoch < status.highest) {
            standing.epoch = standing.epoch.max(status.highest.saturating_add(1));
        }
        if let Some(spec) = &self.spec {
            let active = active_side(&spec.policy, standing.active, standing.registry.as_deref());
            if active != standing.active {
                standing.active = active;
                standing.epoch = standing.epoch.saturating_add(1);
            }
        }
        if found.is_some_and(|found| found.epoch != standing.epoch) && standing != status.standing {
            self.write.want();
        }
        status.standing = standing;
    }

    pub(super) fn prior_read(&mut self, evidence: Evidence) -> Vec<Effect> {
        self.begin_ledger();
        self.ledger.seed(evidence);
        self.has_prior = true;
        Vec::new()
    }

    pub(super) fn led(&mut self, leading: bool) -> Vec<Effect> {
        if self.leading == leading {
            return Vec::new();
        }
        self.leading = leading;
        self.decision = None;
        self.write.forget();
        self.status.write_ended();
        self.status.known = None;
        if leading {
            self.begin_ledger();
            self.resume_standing();
            self.write.want();
            return Vec::new();
        }
        // What this replica knew is out of date when it leads again.
        let mut effects = self.stop_work();
        effects.extend(self.forget_reads());
        if let Some(proofs) = self.proofs.there() {
            proofs.forget();
        }
        self.reconcile.forget();
        if let Some(pulls) = self.pulls.there() {
            pulls.forget();
        }
        self.in_use = None;
        self.has_prior = false;
        self.evidence_problem = None;
        self.ledger = OnDemand::default();
        effects
    }

    /// What is put into the ledger from here on belongs to the spec in force.
    fn begin_ledger(&mut self) {
        if let Some(spec) = &self.spec {
            self.ledger.set_policy(&spec.policy);
        }
    }

    /// A flip that was decided on while the write waited goes with it.
    pub(super) fn write_begins(&mut self, request: RequestId) -> Vec<Effect> {
        if self.write.is_under_way(request) && self.status.flip.is_none() {
            self.status.flip = self.decision.clone().filter(|decision| decision.flip.is_some());
        }
        Vec::new()
    }

    pub(super) fn status_written(
        &mut self,
        request: RequestId,
        result: Result<(), WriteProblem>,
        now: Timestamp,
    ) -> Vec<Effect> {
        if !self.write.ended(request, result, now) {
            return Vec::new();
        }
        self.status.write_ended();
        Vec::new()
    }

    pub(super) fn flip_stored(&mut self, request: RequestId, now: Timestamp) -> Vec<Effect> {
        if self.write.is_under_way(request) {
            self.write.want();
        }
        self.status_written(request, Ok(()), now)
    }

    pub(super) fn evidence_stored(&mut self, result: Result<(), String>) -> Vec<Effect> {
        let problem = result.err();
        if self.evidence_problem.is_some() != problem.is_some() {
            self.write.want();
        }
        self.evidence_problem = problem;
        Vec::new()
    }

    pub(super) fn rescued(&mut self, count: u64) -> Vec<Effect> {
        self.status.rescued = self.status.rescued().saturating_add(count);
        self.write.want();
        Vec::new()
    }

    pub(super) fn conflicts_read(&mut self, conflicts: Vec<Conflict>) -> Vec<Effect> {
        if self.conflicts != conflicts {
            self.conflicts = conflicts;
            self.write.want();
        }
        Vec::new()
    }
}

/// Where each repository of a mirror lies; one entry where all lie below the prefixes.
fn mappings_by_name(policy: &MirrorPolicy) -> BTreeMap<&str, MappingId> {
    match &policy.repositories {
        Repositories::InUse => BTreeMap::from([("", policy.mapping("", None))]),
        Repositories::Listed(rules) => {
            let mapping = |rule: &RepositoryRule| policy.mapping(&rule.name, Some(rule));
            rules.iter().map(|rule| (rule.name.as_str(), mapping(rule))).collect()
        }
    }
}
