//! Whether both sides hold the same.

use catamaran_api::conditions::{self, Statement, Truth, reason};
use catamaran_core::mirror::{FlawedContent, FlawedPart, Observation, PassResult};
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
    let first = first_flawed(&observation.broken, Flaw::Broken).map(|(side, part, held)| {
        format!(
            ": {} lacks the {} of {held}",
            observation.policy.sides[side].registry,
            named(part)
        )
    });
    let first = first.unwrap_or_default();
    format!("{count} can't be pulled from one of the sides{first}")
}

fn untrusted(observation: &Observation) -> String {
    let count = tags(observation.summary.untrusted);
    let first = first_flawed(&observation.untrusted, Flaw::Untrusted).map(|(side, part, held)| {
        format!(
            ": {} serves other content as the {} of {held}",
            observation.policy.sides[side].registry,
            named(part)
        )
    });
    let first = first.unwrap_or_default();
    format!("{count} can't be trusted on one of the sides{first}")
}

/// The first side and part with this flaw, and the reference that it was found under.
fn first_flawed(contents: &[FlawedContent], flaw: Flaw) -> Option<(Side, &FlawedPart, String)> {
    let content = contents.first()?;
    let side = Side::ALL.into_iter().find(|side| content.has(*side, flaw))?;
    let part = content.parts[side].as_ref()?;
    let held = &content.held;
    let separator = if held.reference.contains(':') { '@' } else { ':' };
    let platform = part.platform.as_ref().map(|platform| format!(" for {platform}"));
    let platform = platform.unwrap_or_default();
    let held = format!("{}{separator}{}{platform}", held.repository, held.reference);
    Some((side, part, held))
}

fn named(part: &FlawedPart) -> String {
    format!("{} {}", part.part.as_str().to_lowercase(), part.digest)
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
