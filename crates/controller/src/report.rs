//! What to tell about a mirror: its status, Events, and when to look again. Pure.

use std::time::Duration;

use catamaran_api::conditions::{self, Statement};
use catamaran_api::mirror::{RegistryMirror, RegistryMirrorStatus};
use catamaran_core::evidence::Evidence;
use catamaran_core::failover::Flip;
use catamaran_core::side::Side;
use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;

use crate::assess::{Observation, Outlook};

mod statements;
mod status;
#[cfg(test)]
mod tests;

/// What to write and say.
#[derive(Debug)]
pub struct Report {
    /// The status as it should be.
    pub status: RegistryMirrorStatus,
    /// Whether it says anything new.
    pub changed: bool,
    /// What to announce once the status is written.
    pub announcements: Vec<Announcement>,
    /// Pods counted in the status, to be given back if it can't be written.
    pub rescued: u64,
    /// The flip that the status carries out.
    pub flip: Option<Flip>,
    /// When to look again.
    pub action: Action,
}

/// An Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Normal or Warning.
    pub kind: EventType,
    /// Its reason.
    pub reason: &'static str,
    /// What was done.
    pub action: &'static str,
    /// Its message.
    pub note: String,
}

/// The reasons of Events on a mirror.
pub mod event {
    /// Pods are sent to the fallback from now on.
    pub const FAILED_OVER: &str = "FailedOver";
    /// Pods are sent to the primary again.
    pub const FAILED_BACK: &str = "FailedBack";
    /// Tags differ between the sides.
    pub const TAGS_DIFFER: &str = "TagsDiffer";
    /// All verified tags are the same again.
    pub const TAGS_MATCH: &str = "TagsMatch";
    /// A side has failed as often as its threshold says.
    pub const SIDE_UNAVAILABLE: &str = "RegistryUnavailable";
    /// A side answers again.
    pub const SIDE_AVAILABLE: &str = "RegistryAvailable";
    /// A person must change the spec or a Secret.
    pub const STALLED: &str = "Stalled";
}

/// Says what to tell about `outlook`.
pub fn report(mirror: &RegistryMirror, outlook: &Outlook, now: Timestamp) -> Report {
    let before = mirror.status.clone().unwrap_or_default();
    let generation = mirror.metadata.generation.unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = generation;
    if let Outlook::Watched(observation) = outlook {
        status::observe(&mut after, observation, now);
    }
    let statements = statements::of(outlook);
    let quiet: Vec<&str> = conditions_without(&statements);
    for kind in quiet {
        conditions::remove_condition(&mut after.conditions, kind);
    }
    for statement in statements {
        conditions::set_condition(&mut after.conditions, statement, generation, now);
    }
    let observation = if let Outlook::Watched(observation) = outlook {
        Some(&**observation)
    } else {
        None
    };
    Report {
        announcements: announcements(&before, &after, observation),
        changed: status::differs(&before, &after, now),
        rescued: observation.map_or(0, |observation| observation.rescued),
        flip: observation.and_then(|observation| observation.decision.flip.clone()),
        action: action(observation, now),
        status: after,
    }
}

/// The evidence that goes with the status: what the ledger holds.
pub fn evidence(observation: &Observation, ledger: &catamaran_core::parity::Ledger) -> Option<Evidence> {
    observation.pass.as_ref().map(|_| ledger.evidence())
}

/// Condition types that have nothing to say now; kstatus reads their presence.
fn conditions_without(statements: &[Statement]) -> Vec<&'static str> {
    let passing = [conditions::RECONCILING, conditions::STALLED];
    passing
        .into_iter()
        .filter(|kind| !statements.iter().any(|statement| statement.kind == *kind))
        .collect()
}

fn action(observation: Option<&Observation>, now: Timestamp) -> Action {
    // Everything else that matters triggers a reconcile; this is for decisions that time alone brings about.
    let recheck = observation.and_then(|observation| observation.decision.recheck_at);
    recheck.map_or_else(Action::await_change, |at| {
        let pause = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        Action::requeue(pause.max(Duration::from_millis(50)))
    })
}

fn announcements(
    before: &RegistryMirrorStatus,
    after: &RegistryMirrorStatus,
    observation: Option<&Observation>,
) -> Vec<Announcement> {
    let mut announcements = Vec::new();
    if let Some(flip) = observation.and_then(|observation| observation.decision.flip.as_ref()) {
        announcements.push(flipped(flip, observation));
    }
    let turned = |kind: &str, from: &[&str], to: &str| {
        let was = conditions::find_condition(&before.conditions, kind).map_or("", |condition| &condition.status);
        let is = conditions::find_condition(&after.conditions, kind).filter(|condition| condition.status == to)?;
        (from.contains(&was) && was != to).then(|| is.message.clone())
    };
    let all = ["", "True", "False", "Unknown"];
    let watched = [
        (
            conditions::IN_SYNC,
            &all[..],
            "False",
            EventType::Warning,
            event::TAGS_DIFFER,
            "Verify",
        ),
        (
            conditions::IN_SYNC,
            &["False"][..],
            "True",
            EventType::Normal,
            event::TAGS_MATCH,
            "Verify",
        ),
        (
            conditions::PRIMARY_AVAILABLE,
            &all[..],
            "False",
            EventType::Warning,
            event::SIDE_UNAVAILABLE,
            "Probe",
        ),
        (
            conditions::PRIMARY_AVAILABLE,
            &["False"][..],
            "True",
            EventType::Normal,
            event::SIDE_AVAILABLE,
            "Probe",
        ),
        (
            conditions::FALLBACK_AVAILABLE,
            &all[..],
            "False",
            EventType::Warning,
            event::SIDE_UNAVAILABLE,
            "Probe",
        ),
        (
            conditions::FALLBACK_AVAILABLE,
            &["False"][..],
            "True",
            EventType::Normal,
            event::SIDE_AVAILABLE,
            "Probe",
        ),
        (
            conditions::STALLED,
            &all[..],
            "True",
            EventType::Warning,
            event::STALLED,
            "Validate",
        ),
    ];
    for (condition, from, to, kind, reason, action) in watched {
        announcements.extend(turned(condition, from, to).map(|note| Announcement {
            kind,
            reason,
            action,
            note,
        }));
    }
    announcements
}

fn flipped(flip: &Flip, observation: Option<&Observation>) -> Announcement {
    let (kind, reason) = match flip.to {
        Side::Fallback => (EventType::Warning, event::FAILED_OVER),
        Side::Primary => (EventType::Normal, event::FAILED_BACK),
    };
    let registry = observation.map_or("", |observation| &observation.policy.sides[flip.to].registry);
    let message = observation.map_or("", |observation| &observation.decision.why.message);
    let note = format!("pods are sent to {registry} ({}): {message}", flip.to);
    Announcement {
        kind,
        reason,
        action: "Flip",
        note,
    }
}
