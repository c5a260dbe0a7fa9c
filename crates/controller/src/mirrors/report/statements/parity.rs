//! Whether both sides hold the same.

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_core::mirror::parity::Held;
use catamaran_core::mirror::{FlawedPart, Observation, PassResult};
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::Side;

pub(super) fn in_sync(observation: &Observation) -> Statement {
    let new = |status, reason, message: String| Statement::new(conditions::IN_SYNC, status, reason, message);
    let Some(pass) = &observation.pass else {
        return new(
            Truth::Unknown,
            reason::VERIFYING,
            "the first pass over the tags is under way".to_owned(),
        );
    };
    let summary = &observation.summary;
    if summary.untrusted > 0 {
        return new(Truth::False, reason::UNTRUSTED, untrusted(observation));
    }
    let differing = summary.missing_on_primary + summary.missing_on_fallback + summary.mismatched;
    if differing > 0 {
        return new(Truth::False, reason::TAGS_DIFFER, differences(observation, differing));
    }
    if summary.broken > 0 {
        return new(Truth::False, reason::BROKEN, broken(observation));
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
        let failure = unreadable.as_ref()?;
        let reason = if failure.throttled {
            reason::RATE_LIMITED
        } else {
            unreachable
        };
        Some((
            reason,
            format!("the last comparison could not read all tags: {}", failure.reason),
        ))
    })
}

fn broken(observation: &Observation) -> String {
    let count = tags(observation.summary.broken);
    let first = first_flawed(observation, Flaw::Broken, "lacks the");
    format!("{count} can't be pulled from one of the sides{first}")
}

fn untrusted(observation: &Observation) -> String {
    let count = tags(observation.summary.untrusted);
    let first = first_flawed(observation, Flaw::Untrusted, "serves other content as the");
    format!("{count} can't be trusted on one of the sides{first}")
}

/// What is wrong with the first content of these that has this flaw, to follow a count; empty where none is known.
fn first_flawed(observation: &Observation, flaw: Flaw, what: &str) -> String {
    let contents = match flaw {
        Flaw::Broken => &observation.broken,
        Flaw::Untrusted => &observation.untrusted,
    };
    let first = contents.first().and_then(|content| {
        let side = Side::ALL.into_iter().find(|side| content.has(*side, flaw))?;
        let part = content.parts[side].as_ref()?;
        let registry = &observation.policy.sides[side].registry;
        Some(format!(
            ": {registry} {what} {} of {}",
            named(part),
            place(&content.held, part)
        ))
    });
    first.unwrap_or_default()
}

fn named(part: &FlawedPart) -> String {
    format!("{} {}", part.part.as_str().to_lowercase(), part.digest)
}

/// The reference that a part was found under, and the platform that needs it.
fn place(held: &Held, part: &FlawedPart) -> String {
    let separator = if held.reference.contains(':') { '@' } else { ':' };
    let platform = part.platform.as_ref().map(|platform| format!(" for {platform}"));
    format!(
        "{}{separator}{}{}",
        held.repository,
        held.reference,
        platform.unwrap_or_default()
    )
}

fn differences(observation: &Observation, differing: usize) -> String {
    let summary = &observation.summary;
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
