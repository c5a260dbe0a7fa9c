//! What the API server holds: the mirror's object, with all that its status says, and the stored evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catamaran_core::endpoint::Availability;
use catamaran_core::mirror::failback::Blockers;
use catamaran_core::mirror::failover::{Flip, Reason, Standing};
use catamaran_core::mirror::in_use::WorkloadsRead;
use catamaran_core::mirror::parity::{Canary, Divergence, Summary};
use catamaran_core::mirror::pulls::Failing;
use catamaran_core::mirror::repair::Progress;
use catamaran_core::mirror::{Observation, StatusRead, Subject, View};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::routing::evidence::{Evidence, Group, GroupPlace, MappingId};
use catamaran_core::side::{Side, Sides};
use jiff::Timestamp;

use crate::facts::Facts;

/// A spec that makes sense, and its generation.
#[derive(Clone, Debug)]
pub struct ValidPolicy {
    pub policy: Arc<MirrorPolicy>,
    pub generation: i64,
}

/// The mirror's object in one version.
#[derive(Clone, Debug)]
pub struct Object {
    pub version: u64,
    pub generation: i64,
    /// None for a spec that makes no sense.
    pub policy: Option<Arc<MirrorPolicy>>,
    pub status: Status,
}

/// A status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub standing: Option<Standing>,
    pub observed: BTreeSet<MappingId>,
    pub canary: Option<Canary>,
    pub rescued: u64,
    pub said: Option<Said>,
}

/// What a status says beyond what decisions go on from. As reports have it: classes and stable words, never the text of a
/// probe, and no time that moves while nothing else does.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub generation: i64,
    pub invalid: Option<String>,
    pub watched: Option<Watched>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    pub generation: i64,
    pub availability: Sides<Availability>,
    problems: Sides<Option<String>>,
    reconciling: (bool, bool),
    unreadable: Option<Sides<Option<&'static str>>>,
    pub summary: Summary,
    divergences: Vec<Divergence>,
    pods_on_fallback: Option<u32>,
    pulls: Option<(Side, Failing)>,
    pods_failing: usize,
    workloads: Option<WorkloadsRead>,
    repair: Option<Progress>,
    blockers: Blockers,
    /// Why pods stay on a side that is down, or what a failback waits for.
    why: Option<(Reason, Option<Timestamp>)>,
    evidence_problem: Option<String>,
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).expect("within range")
}

/// As the API server keeps it.
pub fn whole_seconds(standing: Standing) -> Standing {
    Standing {
        last_flip: standing.last_flip.map(|flip| Flip {
            at: whole(flip.at),
            ..flip
        }),
        failovers: standing.failovers.into_iter().map(whole).collect(),
        ..standing
    }
}

impl Said {
    fn of(view: &View) -> Said {
        let watched = match &view.in_force {
            Some((generation, Subject::Watched(observation))) => Some(Watched::of(*generation, observation)),
            _ => None,
        };
        Said {
            generation: view.generation,
            invalid: view.invalid.clone(),
            watched,
        }
    }
}

impl Watched {
    fn of(generation: i64, observation: &Observation) -> Watched {
        let decision = &observation.decision;
        let down = |side: Side| matches!(observation.availability[side], Availability::Unavailable(_));
        let explained = decision.active == Side::Fallback || down(decision.active) || observation.pulls.is_some();
        let outdated = observation.outdated.primary || observation.outdated.fallback;
        let first = !observation.is_probed() || observation.pass.is_none();
        Watched {
            generation,
            availability: observation.availability,
            problems: observation
                .problems
                .as_ref()
                .map(|problem| problem.as_ref().map(|problem| problem.message.clone())),
            reconciling: (first, outdated),
            unreadable: observation.pass.as_ref().map(|pass| {
                let reason = |side: Side| pass.unreadable[side].as_ref().map(|failure| failure.reason);
                Sides::from_fn(reason)
            }),
            // When it was checked is refreshed now and then; that is the report's own matter.
            summary: Summary {
                oldest_check: None,
                ..observation.summary.clone()
            },
            divergences: observation.divergences.clone(),
            pods_on_fallback: observation.pods_on_fallback,
            pulls: observation.pulls,
            pods_failing: observation.pods_failing,
            workloads: observation.workloads,
            repair: observation.repair.clone(),
            blockers: observation.blockers.clone(),
            why: explained.then(|| (decision.why.reason, decision.recheck_at.map(whole))),
            evidence_problem: observation.evidence_problem.clone(),
        }
    }
}

impl Status {
    pub fn read(&self) -> StatusRead {
        StatusRead {
            standing: self.standing.clone(),
            observed: self.observed.clone(),
            canary: self.canary.clone(),
            rescued: self.rescued,
            proof: None,
            reconciled: None,
        }
    }

    /// This status with what a view says put into it.
    pub fn with(&self, view: &View) -> Status {
        let mut status = self.clone();
        status.said = Some(Said::of(view));
        let Some((_, Subject::Watched(observation))) = &view.in_force else {
            return status;
        };
        let before = self.standing.as_ref().map_or(1, |standing| standing.epoch);
        let standing = observation.standing();
        status.standing = Some(Standing {
            epoch: before.max(standing.epoch),
            ..whole_seconds(standing)
        });
        status.observed.clone_from(&observation.observed);
        status.canary = observation.canary.clone().or(status.canary);
        status.rescued = observation.rescued;
        status
    }

    pub fn unavailable(&self) -> Sides<bool> {
        let watched = self.said.as_ref().and_then(|said| said.watched.as_ref());
        watched.map_or_else(Sides::default, |watched| {
            watched
                .availability
                .map(|availability| matches!(availability, Availability::Unavailable(_)))
        })
    }
}

/// The evidence as it is stored, with the facts that its writer had been given.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub groups: BTreeMap<GroupPlace, Arc<Group>>,
    pub facts: Arc<Facts>,
}

impl Stored {
    pub fn evidence(&self) -> Evidence {
        self.groups
            .values()
            .fold(Evidence::default(), |evidence, group| evidence.with(Arc::clone(group)))
    }
}
