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
    /// Missing tags were copied.
    pub const TAGS_COPIED: &str = "TagsCopied";
    /// A missing tag could not be copied.
    pub const COPY_FAILED: &str = "CopyFailed";
    /// Tags would be copied, were it not a dry run.
    pub const COPY_PLANNED: &str = "CopyPlanned";
    /// The paths of a pull-through cache are not where the cloud caches the other side.
    pub const PULL_THROUGH_RULE: &str = "PullThroughRule";
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
    let passing = [
        conditions::RECONCILING,
        conditions::STALLED,
        conditions::PULL_THROUGH_RULE,
    ];
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
    let flip = observation.and_then(|observation| observation.decision.flip.as_ref());
    let flip = flip.map(|flip| flipped(flip, observation));
    let turns = TURNS.iter().filter_map(|turn| {
        let status = |status: &RegistryMirrorStatus| {
            let found = conditions::find_condition(&status.conditions, turn.condition)?;
            Some((found.status.clone(), found.message.clone()))
        };
        let (is, note) = status(after)?;
        let was = status(before).map(|(was, _)| was);
        let turned = is == turn.to && was.as_deref() != Some(turn.to);
        let announced = turned && (turn.from.is_none() || was.as_deref() == turn.from);
        announced.then_some(Announcement {
            kind: turn.kind,
            reason: turn.reason,
            action: turn.action,
            note,
        })
    });
    flip.into_iter().chain(turns).collect()
}

/// A turn of a condition that is worth an Event.
struct Turn {
    condition: &'static str,
    /// From this status only; from any if absent.
    from: Option<&'static str>,
    to: &'static str,
    kind: EventType,
    reason: &'static str,
    action: &'static str,
}

impl Turn {
    const fn bad(condition: &'static str, to: &'static str, reason: &'static str, action: &'static str) -> Turn {
        Turn {
            condition,
            from: None,
            to,
            kind: EventType::Warning,
            reason,
            action,
        }
    }

    const fn good(condition: &'static str, reason: &'static str, action: &'static str) -> Turn {
        Turn {
            condition,
            from: Some("False"),
            to: "True",
            kind: EventType::Normal,
            reason,
            action,
        }
    }
}

/// Every turn that is announced.
const TURNS: [Turn; 8] = [
    Turn::bad(conditions::IN_SYNC, "False", event::TAGS_DIFFER, "Verify"),
    Turn::good(conditions::IN_SYNC, event::TAGS_MATCH, "Verify"),
    Turn::bad(conditions::PRIMARY_AVAILABLE, "False", event::SIDE_UNAVAILABLE, "Probe"),
    Turn::good(conditions::PRIMARY_AVAILABLE, event::SIDE_AVAILABLE, "Probe"),
    Turn::bad(
        conditions::FALLBACK_AVAILABLE,
        "False",
        event::SIDE_UNAVAILABLE,
        "Probe",
    ),
    Turn::good(conditions::FALLBACK_AVAILABLE, event::SIDE_AVAILABLE, "Probe"),
    Turn::bad(
        conditions::PULL_THROUGH_RULE,
        "False",
        event::PULL_THROUGH_RULE,
        "Verify",
    ),
    Turn::bad(conditions::STALLED, "True", event::STALLED, "Validate"),
];

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
