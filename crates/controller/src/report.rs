//! What to tell about a mirror: its status, Events, and when to look again. Pure.

use std::time::Duration;

use catamaran_api::conditions::{self, Statement};
use catamaran_api::mirror::{RegistryMirror, RegistryMirrorStatus};
use catamaran_core::evidence::Evidence;
use catamaran_core::failover::Flip;
use catamaran_core::side::Side;
use jiff::Timestamp;
use kube::runtime::controller::Action;

use crate::assess::{Observation, Outlook};
use crate::events;

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
    /// What it tells.
    pub event: &'static events::Kind,
    /// Its message.
    pub note: String,
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
            event: turn.event,
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
    event: &'static events::Kind,
}

impl Turn {
    const fn bad(condition: &'static str, to: &'static str, event: &'static events::Kind) -> Turn {
        Turn {
            condition,
            from: None,
            to,
            event,
        }
    }

    const fn good(condition: &'static str, event: &'static events::Kind) -> Turn {
        Turn {
            condition,
            from: Some("False"),
            to: "True",
            event,
        }
    }
}

/// Every turn that is announced.
static TURNS: [Turn; 8] = [
    Turn::bad(conditions::IN_SYNC, "False", &events::TAGS_DIFFER),
    Turn::good(conditions::IN_SYNC, &events::TAGS_MATCH),
    Turn::bad(conditions::PRIMARY_AVAILABLE, "False", &events::SIDE_UNAVAILABLE),
    Turn::good(conditions::PRIMARY_AVAILABLE, &events::SIDE_AVAILABLE),
    Turn::bad(conditions::FALLBACK_AVAILABLE, "False", &events::SIDE_UNAVAILABLE),
    Turn::good(conditions::FALLBACK_AVAILABLE, &events::SIDE_AVAILABLE),
    Turn::bad(conditions::PULL_THROUGH_RULE, "False", &events::PULL_THROUGH_RULE),
    Turn::bad(conditions::STALLED, "True", &events::STALLED),
];

fn flipped(flip: &Flip, observation: Option<&Observation>) -> Announcement {
    let event = match flip.to {
        Side::Fallback => &events::FAILED_OVER,
        Side::Primary => &events::FAILED_BACK,
    };
    let registry = observation.map_or("", |observation| &observation.policy.sides[flip.to].registry);
    let message = observation.map_or("", |observation| &observation.decision.why.message);
    let note = format!("pods are sent to {registry} ({}): {message}", flip.to);
    Announcement { event, note }
}
