//! The conditions of a mirror. What `kubectl wait`, Flux and Helm read from them is in `catamaran_api::conditions`.
//!
//! Messages carry no counters that move with every probe: a condition is written when what it says changes.

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_core::failover::{FlipReason, Reason};
use catamaran_core::health::{Availability, Unavailable, UnknownReason};
use catamaran_core::pull_through::Placement;
use catamaran_core::side::Side;

use crate::assess::{Observation, Outlook, observed};
use crate::memory::PassResult;
use crate::pull_through::Rule;

/// Every condition that has something to say.
pub fn of(outlook: &Outlook) -> Vec<Statement> {
    match outlook {
        Outlook::Invalid(error) => {
            let message = format!("{error}; correct the spec");
            vec![
                Statement::new(conditions::READY, Truth::False, reason::INVALID_SPEC, message.clone()),
                Statement::new(conditions::STALLED, Truth::True, reason::INVALID_SPEC, message),
            ]
        }
        Outlook::Suspended => {
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
                unknown(conditions::IN_SYNC),
            ]
        }
        Outlook::Watched(observation) => watched(observation),
    }
}

fn watched(observation: &Observation) -> Vec<Statement> {
    let mut statements = vec![
        ready(observation),
        available(observation, Side::Primary),
        available(observation, Side::Fallback),
        in_sync(observation),
        failed_over(observation),
    ];
    statements.extend(pull_through_rule(observation));
    statements.extend(stalled(observation));
    // Else a waiting Kustomization would take what was found out with the old spec for the verdict on the new one.
    let outdated = Side::ALL.into_iter().any(|side| observation.outdated[side]);
    let first = !observed(observation) || observation.pass.is_none();
    if first || outdated {
        let message = if first {
            "both registries are being looked at for the first time"
        } else {
            "both registries are being looked at by the spec that has just changed"
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

fn ready(observation: &Observation) -> Statement {
    let active = observation.decision.active;
    let name = |side: Side| &observation.policy.sides[side].registry;
    let down = |side: Side| matches!(observation.availability[side], Availability::Unavailable(_));
    let new = |status, reason, message: String| Statement::new(conditions::READY, status, reason, message);
    if !observed(observation) {
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
            "{} is unavailable and {} has not answered as it should: {}",
            name(active),
            name(other),
            last_message(observation, other)
        );
        return new(Truth::False, reason::ACTIVE_UNAVAILABLE, message);
    }
    match active {
        Side::Primary => new(
            Truth::True,
            reason::SERVING_FROM_PRIMARY,
            format!("pods are sent to {}{}", name(active), readiness_to_flip(observation)),
        ),
        Side::Fallback => {
            let message = format!("pods are sent to {}; {}", name(active), way_back(observation));
            new(Truth::True, reason::SERVING_FROM_FALLBACK, message)
        }
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
        Reason::WaitingForParity => {
            let pass = observation.pass.as_ref().and_then(|pass| pass.completed.as_ref());
            let found = pass
                .filter(|pass| !pass.in_use_in_sync)
                .map(|pass| format!(": {}", pass.detail));
            format!(
                "{primary} is stable again and its tags are being verified{}",
                found.unwrap_or_default()
            )
        }
        _ => format!("waiting for {primary} to recover"),
    }
}

fn seconds(at: jiff::Timestamp) -> jiff::Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
}

fn last_message(observation: &Observation, side: Side) -> &str {
    observation.probes[side]
        .as_ref()
        .map_or("not probed yet", |probe| &probe.message)
}

fn available(observation: &Observation, side: Side) -> Statement {
    let kind = match side {
        Side::Primary => conditions::PRIMARY_AVAILABLE,
        Side::Fallback => conditions::FALLBACK_AVAILABLE,
    };
    let registry = &observation.policy.sides[side].registry;
    let (status, reason) = match observation.availability[side] {
        Availability::Available => (Truth::True, reason::REACHABLE),
        Availability::Unavailable(how) => (Truth::False, unavailable(how)),
        Availability::Unknown(why) => (Truth::Unknown, unknown(why)),
    };
    let message = match (&observation.availability[side], &observation.connection[side]) {
        (_, Some(problem)) => problem.message.clone(),
        (Availability::Available, None) => format!("{registry} serves manifests and blobs"),
        (Availability::Unknown(UnknownReason::NotYetObserved), None) => format!("{registry} has not been probed yet"),
        (_, None) => last_message(observation, side).to_owned(),
    };
    Statement::new(kind, status, reason, message)
}

fn unavailable(how: Unavailable) -> &'static str {
    match how {
        Unavailable::DnsFailure => reason::DNS_FAILURE,
        Unavailable::ConnectionFailed => reason::CONNECTION_FAILED,
        Unavailable::TlsError => reason::TLS_ERROR,
        Unavailable::Timeout => reason::TIMEOUT,
        Unavailable::ServerError => reason::SERVER_ERROR,
        Unavailable::AccessDenied => reason::FORBIDDEN,
    }
}

fn unknown(why: UnknownReason) -> &'static str {
    match why {
        UnknownReason::Unauthorized => reason::UNAUTHORIZED,
        UnknownReason::Forbidden => reason::FORBIDDEN,
        UnknownReason::NetworkDenied => reason::NETWORK_DENIED,
        UnknownReason::RateLimited => reason::RATE_LIMITED,
        UnknownReason::CanaryNotFound => reason::CANARY_NOT_FOUND,
        UnknownReason::CredentialsUnavailable => reason::CREDENTIALS_UNAVAILABLE,
        UnknownReason::WaitingForAuthorization => reason::WAITING_FOR_AUTHORIZATION,
        UnknownReason::NotYetObserved => reason::NOT_YET_OBSERVED,
    }
}

fn in_sync(observation: &Observation) -> Statement {
    let new = |status, reason, message: String| Statement::new(conditions::IN_SYNC, status, reason, message);
    let Some(pass) = &observation.pass else {
        return new(
            Truth::Unknown,
            reason::VERIFYING,
            "the first pass over the tags is under way".to_owned(),
        );
    };
    let summary = &pass.summary;
    let differing = summary.missing_on_primary + summary.missing_on_fallback + summary.mismatched;
    if differing > 0 {
        return new(
            Truth::False,
            reason::TAGS_DIFFER,
            differences(observation, pass, differing),
        );
    }
    if let Some((reason, message)) = unread(pass) {
        return new(Truth::Unknown, reason, message);
    }
    if summary.pending > 0 && summary.in_sync == 0 {
        let message = format!("{} are being verified", tags(summary.pending));
        return new(Truth::Unknown, reason::VERIFYING, message);
    }
    let message = match summary.tags {
        0 => "no tag is verified yet: none was found and no pod uses one".to_owned(),
        _ => format!(
            "{} in {} have the same digest on both sides",
            tags(summary.in_sync),
            repositories(summary.repositories)
        ),
    };
    new(Truth::True, reason::TAGS_MATCH, message)
}

fn unread(pass: &PassResult) -> Option<(&'static str, String)> {
    let unreachable = [
        (&pass.unreadable.primary, reason::PRIMARY_UNREACHABLE),
        (&pass.unreadable.fallback, reason::FALLBACK_UNREACHABLE),
    ];
    unreachable.into_iter().find_map(|(unreadable, unreachable)| {
        let unreadable = unreadable.as_ref()?;
        let reason = if unreadable.throttled {
            reason::RATE_LIMITED
        } else {
            unreachable
        };
        Some((reason, unreadable.message.clone()))
    })
}

fn differences(observation: &Observation, pass: &PassResult, differing: usize) -> String {
    let summary = &pass.summary;
    let counts = [
        (
            summary.missing_on_primary,
            format!("missing on {}", observation.policy.sides.primary.registry),
        ),
        (
            summary.missing_on_fallback,
            format!("missing on {}", observation.policy.sides.fallback.registry),
        ),
        (summary.mismatched, "with different digests".to_owned()),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let newest = observation
        .divergences
        .first()
        .map(|newest| format!("; newest: {}:{}", newest.repository, newest.tag));
    format!(
        "{} of {} {}: {}{}",
        differing,
        tags(summary.tags),
        if differing == 1 { "differs" } else { "differ" },
        counts.join(", "),
        newest.unwrap_or_default()
    )
}

fn tags(count: usize) -> String {
    if count == 1 {
        "1 tag".to_owned()
    } else {
        format!("{count} tags")
    }
}

fn repositories(count: usize) -> String {
    if count == 1 {
        "1 repository".to_owned()
    } else {
        format!("{count} repositories")
    }
}

fn failed_over(observation: &Observation) -> Statement {
    let decision = &observation.decision;
    let flip = decision.flip.as_ref().or(observation.last_flip.as_ref());
    let reason = flip.map_or(reason::NEVER_FAILED_OVER, |flip| match flip.reason {
        FlipReason::PrimaryUnavailable => reason::PRIMARY_UNAVAILABLE,
        FlipReason::FallbackUnavailable => reason::FALLBACK_UNAVAILABLE,
        FlipReason::PrimaryRecovered => reason::PRIMARY_RECOVERED,
        FlipReason::Requested => reason::REQUESTED,
    });
    let registry = &observation.policy.sides[decision.active].registry;
    let message = match flip {
        None => format!("{registry} has been active from the beginning"),
        Some(flip) => format!("{registry} is active since {}", seconds(flip.at)),
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
        Rule::Unknown { message } => return new(Truth::Unknown, reason::RULE_UNKNOWN, message.clone()),
        Rule::Read { prefix, placement } => (prefix.as_deref().unwrap_or_default(), placement),
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
        let problem = observation.connection[side].as_ref()?;
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
