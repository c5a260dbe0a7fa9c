//! What a mirror's status says, and which Events follow from that. Pure.

use std::collections::BTreeSet;

use catamaran_api::conditions::{self, Statement, reason};
use catamaran_api::mirror::RegistryMirrorStatus;
use catamaran_core::mirror::failover::{Flip, Standing};
use catamaran_core::mirror::parity::Canary;
use catamaran_core::mirror::{Observation, StatusRead, Subject, View};
use catamaran_core::side::Side;
use jiff::Timestamp;

use crate::events;
use crate::publish::flips::{as_stored, flip};

mod proof;
mod statements;
mod status;
#[cfg(test)]
mod tests;
mod words;

/// What to write and announce.
#[derive(Debug)]
pub(crate) struct Report {
    /// The status as it should be.
    pub(crate) status: RegistryMirrorStatus,
    /// Whether it says anything new.
    pub(crate) changed: bool,
    /// What to announce once the status is written.
    pub(crate) announcements: Vec<Announcement>,
    /// The flip that the status carries out.
    pub(crate) flip: Option<Flipped>,
}

/// A flip that is carried out.
#[derive(Clone, Debug)]
pub(crate) struct Flipped {
    /// What was decided.
    pub(crate) flip: Flip,
    /// What stands once it is stored.
    pub(crate) standing: Standing,
    /// How it is announced.
    pub(crate) announcement: Announcement,
}

/// An Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// What happened.
    pub(crate) event: &'static events::Kind,
    /// Its message.
    pub(crate) note: String,
}

/// Puts a view into a status, beside the one that is there.
pub(crate) fn report(before: &RegistryMirrorStatus, view: &View, now: Timestamp) -> Report {
    let mut after = before.clone();
    after.observed_generation = view.generation;
    let observation = match &view.in_force {
        Some((_, Subject::Watched(observation))) => Some(&**observation),
        Some((_, Subject::Suspended)) | None => None,
    };
    if let Some(observation) = observation {
        status::observe(&mut after, observation);
    }
    let mut statements = statements::of(view);
    let proof_stands = observation.is_some_and(|observation| proof::stands(before, observation));
    let stands = |kind: &str| proof_stands && kind == conditions::FALLBACK_PROVEN;
    statements.retain(|statement| !stands(statement.kind));
    for kind in conditions_without(&statements).into_iter().filter(|kind| !stands(kind)) {
        conditions::remove_condition(&mut after.conditions, kind);
    }
    for statement in statements {
        conditions::set_condition(&mut after.conditions, statement, view.generation, now);
    }
    Report {
        announcements: announcements(before, &after, observation),
        changed: *before != after,
        flip: observation.and_then(flipped),
        status: after,
    }
}

/// What decisions go on from, as the status has it.
pub(crate) fn read_status(status: &RegistryMirrorStatus) -> StatusRead {
    let observed: BTreeSet<_> = status
        .observed_mappings
        .iter()
        .filter_map(|mapping| mapping.parse().ok())
        .collect();
    let rescued = status.pods.as_ref().map_or(0, |pods| pods.rescued);
    StatusRead {
        standing: status.active.map(|active| standing(status, active)),
        observed,
        canary: canary(status),
        rescued: u64::try_from(rescued).unwrap_or_default(),
        proof: status.proof.as_ref().map(proof::read),
        reconciled: status.last_handled_reconcile_at.clone(),
    }
}

fn standing(status: &RegistryMirrorStatus, active: Side) -> Standing {
    Standing {
        active,
        registry: status.active_registry.clone(),
        epoch: u64::try_from(status.epoch).unwrap_or(0).max(1),
        last_flip: status.last_flip.as_ref().and_then(flip),
        failovers: status.recent_failovers.iter().map(|time| time.0).collect(),
    }
}

fn canary(status: &RegistryMirrorStatus) -> Option<Canary> {
    let canary = status.canary.as_ref()?;
    Some(Canary {
        repository: canary.repository.clone(),
        tag: canary.tag.clone(),
        digest: canary.digest.parse().ok()?,
    })
}

/// Condition types that have nothing to say now; kstatus reads their presence.
fn conditions_without(statements: &[Statement]) -> Vec<&'static str> {
    let passing = [
        conditions::RECONCILING,
        conditions::STALLED,
        conditions::FALLBACK_PROVEN,
        conditions::PULL_THROUGH_RULE,
        conditions::EVIDENCE_STORED,
        conditions::WORKLOADS_READ,
    ];
    passing
        .into_iter()
        .filter(|kind| !statements.iter().any(|statement| statement.kind == *kind))
        .collect()
}

fn announcements(
    before: &RegistryMirrorStatus,
    after: &RegistryMirrorStatus,
    observation: Option<&Observation>,
) -> Vec<Announcement> {
    let changes = CHANGES.iter().filter_map(|change| {
        let status = |status: &RegistryMirrorStatus| {
            let found = conditions::find_condition(&status.conditions, change.condition)?;
            Some((found.status.clone(), found.message.clone()))
        };
        let (is, note) = status(after)?;
        let found = conditions::find_condition(&after.conditions, change.condition)?;
        let event = match found.reason.as_str() {
            reason::BROKEN => &events::BROKEN,
            reason::UNTRUSTED => &events::UNTRUSTED,
            _ => change.event,
        };
        let was = status(before).map(|(was, _)| was);
        let changed = is == change.to && was.as_deref() != Some(change.to);
        let announced = changed && (change.from.is_none() || was.as_deref() == change.from);
        announced.then(|| Announcement {
            event,
            note: detailed(note, change.condition, observation),
        })
    });
    changes.collect()
}

/// Conditions keep to words that stay the same while nothing changes; an Event carries the details.
fn detailed(note: String, condition: &str, observation: Option<&Observation>) -> String {
    let side = match condition {
        conditions::PRIMARY_AVAILABLE => Side::Primary,
        conditions::FALLBACK_AVAILABLE => Side::Fallback,
        _ => return note,
    };
    match observation.and_then(|observation| observation.probes[side].as_ref()) {
        Some(probe) if !probe.message.is_empty() => format!("{note}; the last probe: {}", probe.message),
        _ => note,
    }
}

/// A change of a condition that is worth an Event.
struct Change {
    condition: &'static str,
    /// From this status only; from any if absent.
    from: Option<&'static str>,
    to: &'static str,
    event: &'static events::Kind,
}

impl Change {
    const fn bad(condition: &'static str, to: &'static str, event: &'static events::Kind) -> Change {
        Change {
            condition,
            from: None,
            to,
            event,
        }
    }

    const fn good(condition: &'static str, event: &'static events::Kind) -> Change {
        Change {
            condition,
            from: Some("False"),
            to: "True",
            event,
        }
    }
}

/// Every change that is announced.
static CHANGES: [Change; 13] = [
    Change::bad(conditions::IN_SYNC, "False", &events::TAGS_DIFFER),
    Change::good(conditions::IN_SYNC, &events::TAGS_MATCH),
    Change::bad(conditions::PRIMARY_AVAILABLE, "False", &events::SIDE_UNAVAILABLE),
    Change::good(conditions::PRIMARY_AVAILABLE, &events::SIDE_AVAILABLE),
    Change::bad(conditions::FALLBACK_AVAILABLE, "False", &events::SIDE_UNAVAILABLE),
    Change::good(conditions::FALLBACK_AVAILABLE, &events::SIDE_AVAILABLE),
    Change::bad(conditions::PULLS_FAILING, "True", &events::PULLS_FAILING),
    Change {
        from: Some("True"),
        ..Change::bad(conditions::PULLS_FAILING, "False", &events::PULLS_WORK)
    },
    Change::bad(conditions::FALLBACK_PROVEN, "False", &events::FALLBACK_NOT_PROVEN),
    Change::good(conditions::FALLBACK_PROVEN, &events::FALLBACK_PROVEN),
    Change::bad(conditions::PULL_THROUGH_RULE, "False", &events::PULL_THROUGH_RULE),
    Change::bad(conditions::STALLED, "True", &events::STALLED),
    Change::bad(conditions::EVIDENCE_STORED, "False", &events::EVIDENCE_NOT_STORED),
];

fn flipped(observation: &Observation) -> Option<Flipped> {
    let flip = observation.decision.flip.clone()?;
    let event = match flip.to {
        Side::Fallback => &events::FAILED_OVER,
        Side::Primary => &events::FAILED_BACK,
    };
    let registry = &observation.policy.sides[flip.to].registry;
    let message = &observation.decision.why.message;
    let note = format!("pods are sent to {registry} ({}): {message}", flip.to);
    Some(Flipped {
        flip,
        standing: as_stored(&observation.standing()),
        announcement: Announcement { event, note },
    })
}
