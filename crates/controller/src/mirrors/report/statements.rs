//! The conditions of a mirror. What `kubectl wait`, Flux and Helm read from them is in `catamaran_api::conditions`.
//!
//! Messages carry no counters that move with every probe: a condition is written when what it says changes.

use std::collections::BTreeSet;

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_core::endpoint::Availability;
use catamaran_core::mirror::failover::Reason;
use catamaran_core::mirror::in_use::WorkloadsRead;
use catamaran_core::mirror::prewarm::Placement;
use catamaran_core::mirror::{CacheRule, Observation, Subject, View};
use catamaran_core::policy::OnPullsFailing;
use catamaran_core::side::Side;

use super::proof;
use super::words::{pulls_fail, unavailable, unknown};
use parity::in_sync;

mod parity;

/// Every condition that has something to say.
pub(super) fn of(view: &View) -> Vec<Statement> {
    let invalid = view.invalid.as_deref();
    let mut statements = match &view.in_force {
        Some((_, Subject::Watched(observation))) => watched(observation),
        Some((_, Subject::Suspended)) => suspended(),
        None => Vec::new(),
    };
    let Some(problem) = invalid else { return statements };
    statements.retain(|statement| ![conditions::STALLED, conditions::RECONCILING].contains(&statement.kind));
    let message = if let Some((generation, _)) = &view.in_force {
        format!("{problem}; correct the spec. The last valid spec (generation {generation}) stays in force")
    } else {
        let message = format!("{problem}; correct the spec");
        statements.push(Statement::new(
            conditions::READY,
            Truth::False,
            reason::INVALID_SPEC,
            message.clone(),
        ));
        message
    };
    statements.push(Statement::new(
        conditions::STALLED,
        Truth::True,
        reason::INVALID_SPEC,
        message,
    ));
    statements
}

fn suspended() -> Vec<Statement> {
    let message = "suspended: nothing is probed, verified or rewritten";
    let unknown = |kind| {
        Statement::new(
            kind,
            Truth::Unknown,
            reason::SUSPENDED,
            "suspended by spec.suspend".to_owned(),
        )
    };
    vec![
        Statement::new(conditions::READY, Truth::True, reason::SUSPENDED, message),
        unknown(conditions::PRIMARY_AVAILABLE),
        unknown(conditions::FALLBACK_AVAILABLE),
        unknown(conditions::PULLS_FAILING),
        unknown(conditions::IN_SYNC),
    ]
}

fn watched(observation: &Observation) -> Vec<Statement> {
    let mut statements = vec![
        ready(observation),
        available(observation, Side::Primary),
        available(observation, Side::Fallback),
        pulls_failing(observation),
        in_sync(observation),
        failed_over(observation),
    ];
    statements.extend(proof::statement(observation));
    statements.extend(pull_through_rule(observation));
    statements.extend(evidence_stored(observation));
    statements.extend(workloads_read(observation));
    statements.extend(stalled(observation));
    // Else a waiting Kustomization would take what was found out with the old spec for the verdict on the new one.
    let outdated = Side::ALL.into_iter().any(|side| observation.outdated[side]);
    let first = !observation.is_probed() || observation.pass.is_none();
    if first || outdated {
        let message = if first {
            "checking both registries for the first time"
        } else {
            "checking both registries with the new spec"
        };
        statements.push(Statement::new(
            conditions::RECONCILING,
            Truth::True,
            reason::OBSERVING,
            message,
        ));
    }
    statements
}

/// The webhooks of other replicas go by what is stored.
fn evidence_stored(observation: &Observation) -> Option<Statement> {
    let problem = observation.evidence_problem.as_ref()?;
    let message = format!("what was verified can't be stored for the webhooks of other replicas: {problem}");
    Some(Statement::new(
        conditions::EVIDENCE_STORED,
        Truth::False,
        reason::WRITE_FAILED,
        message,
    ))
}

/// What only the templates of workloads name is not protected where they are not read.
fn workloads_read(observation: &Observation) -> Option<Statement> {
    let (reason, message) = match observation.workloads? {
        WorkloadsRead::Read => return None,
        WorkloadsRead::Forbidden => (
            reason::FORBIDDEN,
            "the operator may not list workloads, so only pods count as use of an image; set workloads.read in the chart",
        ),
        WorkloadsRead::Disabled => (
            reason::DISABLED,
            "workloads.read is off in the chart, so only pods count as use of an image",
        ),
    };
    Some(Statement::new(
        conditions::WORKLOADS_READ,
        Truth::False,
        reason,
        message,
    ))
}

fn ready(observation: &Observation) -> Statement {
    let active = observation.decision.active;
    let name = |side: Side| &observation.policy.sides[side].registry;
    let down = |side: Side| matches!(observation.availability[side], Availability::Unavailable(_));
    let new = |status, reason, message: String| Statement::new(conditions::READY, status, reason, message);
    if !observation.is_probed() {
        return new(
            Truth::False,
            reason::NOT_YET_OBSERVED,
            "neither registry has been probed yet".to_owned(),
        );
    }
    if down(Side::Primary) && down(Side::Fallback) {
        let (primary, fallback) = (name(Side::Primary), name(Side::Fallback));
        let message = format!(
            "{primary} and {fallback} are both unavailable; pods stay with {}",
            name(active)
        );
        return new(Truth::False, reason::BOTH_UNAVAILABLE, message);
    }
    if down(active) {
        let other = active.other();
        let message = format!(
            "{} is unavailable and {} is no substitute: {}",
            name(active),
            name(other),
            substitute(observation, other)
        );
        return new(Truth::False, reason::ACTIVE_UNAVAILABLE, message);
    }
    if let Some((_, message)) = pulls(observation).filter(|(side, _)| *side == active) {
        let other = name(active.other());
        let why = match observation.policy.health.on_pulls_failing {
            OnPullsFailing::Report => "healthCheck.onPullsFailing is Report, so pods stay with it".to_owned(),
            OnPullsFailing::Failover => {
                format!("{other} is no substitute: {}", substitute(observation, active.other()))
            }
        };
        return new(Truth::False, reason::PULLS_FAILING, format!("{message}; {why}"));
    }
    if let Some(unclear) = unclear(observation, active) {
        return new(Truth::Unknown, reason::ACTIVE_UNKNOWN, unclear);
    }
    match active {
        Side::Primary => new(
            Truth::True,
            reason::SERVING_FROM_PRIMARY,
            format!(
                "pods are sent to {}{}{}",
                name(active),
                readiness_to_flip(observation),
                unobserved(observation)
            ),
        ),
        Side::Fallback => {
            let message = format!("pods are sent to {}; {}", name(active), way_back(observation));
            new(Truth::True, reason::SERVING_FROM_FALLBACK, message)
        }
    }
}

/// Pulls that fail on nodes, from which side, and in words that stay the same for a while.
fn pulls(observation: &Observation) -> Option<(Side, String)> {
    let (side, failing) = observation.pulls?;
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let message = format!(
        "{} on {} can't pull from {} since {}: {}",
        count(failing.pods, "pod"),
        count(failing.nodes, "node"),
        observation.policy.sides[side].registry,
        seconds(failing.since),
        pulls_fail(failing.kind),
    );
    Some((side, message))
}

fn pulls_failing(observation: &Observation) -> Statement {
    let new = |status, reason, message| Statement::new(conditions::PULLS_FAILING, status, reason, message);
    if let (Some((_, failing)), Some((_, message))) = (observation.pulls, pulls(observation)) {
        return new(Truth::True, failing.kind.as_str(), message);
    }
    let registry = &observation.policy.sides[observation.decision.active].registry;
    let message = format!("no pull failures on several nodes are known for {registry}");
    new(Truth::False, reason::NO_PULL_FAILURES, message)
}

/// What is not known of the active side, once its probes have said nothing for a while.
fn unclear(observation: &Observation, active: Side) -> Option<String> {
    let Availability::Unknown(why) = observation.availability[active] else {
        return None;
    };
    let registry = &observation.policy.sides[active].registry;
    observation.unclear[active].then(|| {
        format!(
            "it is unknown whether {registry} is available: it {}. Pods stay with it",
            unknown(why)
        )
    })
}

/// Why pods are not sent to the other side of an active side that is unavailable.
fn substitute(observation: &Observation, other: Side) -> String {
    match observation.decision.why.reason {
        Reason::OtherEmpty => "it holds nothing that is in use".to_owned(),
        Reason::PartiallyReachable => "other replicas reach the active side from their nodes".to_owned(),
        Reason::OtherNotProven => "failover.requireProof is set, and FallbackProven is not True".to_owned(),
        Reason::OtherUnstable => "it has failed within the last hour, too, and must be reachable for longer".to_owned(),
        Reason::Overridden => "spec.active holds the active side".to_owned(),
        Reason::PullsFailing => "the pods have not tried again yet".to_owned(),
        Reason::BothUnavailable if observation.availability[other] == Availability::Available => {
            "nodes can't pull from it, either".to_owned()
        }
        _ => match observation.availability[other] {
            Availability::Available => "it is being probed once more".to_owned(),
            Availability::Unavailable(how) => unavailable(how).to_owned(),
            Availability::Unknown(why) => unknown(why).to_owned(),
        },
    }
}

/// Images are left alone until a side has served one of the mirror's manifests: until then a typing mistake can't be told from an
/// outage.
fn unobserved(observation: &Observation) -> &'static str {
    if observation.is_observed() {
        ""
    } else {
        "; no image of this mirror was found on either side yet, so images stay as they are"
    }
}

/// What a reader of `kubectl get -o wide` would want to know before an outage.
fn readiness_to_flip(observation: &Observation) -> String {
    match observation.availability.fallback {
        Availability::Available => String::new(),
        Availability::Unavailable(_) | Availability::Unknown(_) => {
            format!(
                "; {} could not take over now",
                observation.policy.sides.fallback.registry
            )
        }
    }
}

/// What failback waits for, in words that change only when that does.
fn way_back(observation: &Observation) -> String {
    let primary = &observation.policy.sides.primary.registry;
    let decision = &observation.decision;
    match decision.why.reason {
        Reason::Overridden => "spec.active keeps them there".to_owned(),
        Reason::ManualFailback => "failback.mode is Manual: set spec.active to Primary to go back".to_owned(),
        Reason::WaitingForStability => match decision.recheck_at {
            Some(at) => format!(
                "{primary} answers again and must do so without a break until {}",
                seconds(at)
            ),
            None => format!("{primary} answers again and must do so for a while"),
        },
        Reason::WaitingForParity => match observation.blockers.total {
            0 => format!("{primary} is stable again and is being checked for everything in use"),
            1 => format!("{primary} is stable again; 1 reference in use holds the failback up (status.failback)"),
            n => format!("{primary} is stable again; {n} references in use hold the failback up (status.failback)"),
        },
        _ => format!("waiting for {primary} to recover"),
    }
}

fn seconds(at: jiff::Timestamp) -> jiff::Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
}

/// From which nodes a side is reachable and from which not, where replicas disagree.
fn partly(observation: &Observation, side: Side) -> Option<String> {
    let vantages = &observation.vantages[side];
    let here = match observation.availability[side] {
        Availability::Available => true,
        Availability::Unavailable(_) => false,
        Availability::Unknown(_) => return None,
    };
    let names = |reached: bool| {
        let own = (here == reached).then_some(&vantages.own);
        // Of a replica that has seen one failure it is not known yet.
        let others = vantages
            .others
            .iter()
            .filter(|other| if reached { !other.fails } else { other.down });
        let names: BTreeSet<&str> = own
            .into_iter()
            .chain(others.map(|other| &other.node))
            .map(|name| &**name)
            .collect();
        let names: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let (reached, missed) = (names(true)?, names(false)?);
    Some(format!("reachable from node {reached}, not from node {missed}"))
}

fn available(observation: &Observation, side: Side) -> Statement {
    let kind = match side {
        Side::Primary => conditions::PRIMARY_AVAILABLE,
        Side::Fallback => conditions::FALLBACK_AVAILABLE,
    };
    let registry = &observation.policy.sides[side].registry;
    let availability = observation.availability[side];
    if let Some(nodes) = partly(observation, side) {
        let message = format!("{registry} is {nodes}");
        return Statement::new(kind, Truth::Unknown, reason::PARTIALLY_REACHABLE, message);
    }
    let (status, words) = match availability {
        Availability::Available => (Truth::True, "serves manifests and blobs"),
        Availability::Unavailable(how) => (Truth::False, unavailable(how)),
        Availability::Unknown(why) => (Truth::Unknown, unknown(why)),
    };
    let message = match &observation.problems[side] {
        Some(problem) => problem.message.clone(),
        None => format!("{registry} {words}"),
    };
    Statement::new(kind, status, availability.as_str(), message)
}

fn failed_over(observation: &Observation) -> Statement {
    let decision = &observation.decision;
    let flip = observation.last_flip.as_ref();
    let reason = flip.map_or(reason::NEVER_FAILED_OVER, |flip| flip.reason.as_str());
    let registry = &observation.policy.sides[decision.active].registry;
    let message = match flip {
        None => format!("{registry} has been active from the beginning"),
        Some(flip) => format!("{registry} has been active since {}", seconds(flip.at)),
    };
    Statement::new(
        conditions::FAILED_OVER,
        Truth::from(decision.active == Side::Fallback),
        reason,
        message,
    )
}

/// Whether a pull-through cache lies where the cloud caches the other side.
fn pull_through_rule(observation: &Observation) -> Option<Statement> {
    let cache = observation.policy.cache()?;
    let registry = &observation.policy.sides[cache].registry;
    let upstream = &observation.policy.sides[cache.other()].registry;
    let new = |truth, reason, message| Some(Statement::new(conditions::PULL_THROUGH_RULE, truth, reason, message));
    let (prefix, placement) = match observation.rule.as_ref()? {
        CacheRule::Unknown { message } => return new(Truth::Unknown, reason::RULE_UNKNOWN, message.clone()),
        CacheRule::Read { prefix, placement } => (prefix.as_deref().unwrap_or_default(), placement),
    };
    let place = match prefix {
        "" => "at its root".to_owned(),
        prefix => format!("below '{prefix}'"),
    };
    match placement {
        Placement::Fits => new(
            Truth::True,
            reason::RULE_FITS,
            format!("{registry} caches {upstream} {place}, as the mirror has it"),
        ),
        Placement::NoRule => new(
            Truth::False,
            reason::NO_RULE,
            format!("{registry} has no pull-through cache rule for all of {upstream}: create one"),
        ),
        Placement::Differs { repository, is, should } => {
            let field = cache.as_str().to_lowercase();
            let what = match repository {
                None => format!("set {field}.prefix to '{should}' instead of '{is}'"),
                Some(name) => format!(
                    "repository '{name}' is '{should}' there and not '{is}': correct {field}.prefix or its path"
                ),
            };
            new(
                Truth::False,
                reason::PREFIX_DIFFERS,
                format!("{registry} caches {upstream} {place}; {what}"),
            )
        }
    }
}

/// What a person must change; an outage is never among it.
fn stalled(observation: &Observation) -> Option<Statement> {
    let stalled = |reason, message| Statement::new(conditions::STALLED, Truth::True, reason, message);
    let secret = Side::ALL.into_iter().find_map(|side| {
        let problem = observation.problems[side].as_ref()?;
        let message = format!("{}: {}", side.as_str().to_lowercase(), problem.message);
        Some(stalled(problem.reason, message))
    });
    secret.or_else(|| {
        let overlap = observation.overlaps.first()?;
        let message = format!(
            "{} is already claimed by mirror '{}', which is older or more specific",
            overlap.what, overlap.winner
        );
        Some(stalled(reason::OVERLAPPING, message))
    })
}
