//! How an explanation is shown to people.

use catamaran_core::side::Side;
use jiff::Timestamp;

use super::document::{Document, Explained, MirrorFacts, Reference, SideFacts};
use crate::table;
use crate::view::Unread;

/// Everything. `now` is what ages are counted from.
pub fn text(document: &Document, now: Timestamp) -> String {
    let images = document.images.iter();
    let mut blocks: Vec<String> = images
        .map(|explained| image(explained, &document.namespace, now))
        .collect();
    if let Some(pod) = document.pod.as_ref().filter(|_| document.images.is_empty()) {
        blocks.push(format!("pod '{pod}' has no images\n"));
    }
    blocks.extend((!document.unread.is_empty()).then(|| unread(&document.unread)));
    blocks.join("\n")
}

/// What could not be read.
pub fn unread(unread: &[Unread]) -> String {
    let line = |it: &Unread| format!("can't read {}: {}", table::cell(&it.what), table::cell(&it.why));
    lines(unread.iter().map(line))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

fn image(explained: &Explained, namespace: &str, now: Timestamp) -> String {
    let container = explained.container.as_ref();
    let container = container.map_or_else(String::new, |name| format!(" ({name})"));
    let heading = format!("{}{container} in namespace {namespace}", table::cell(&explained.image));
    let present = explained.now.iter().map(|image| format!("the pod has {image} now"));
    let words = [explained.outcome.message.clone()].into_iter().chain(present);
    let words = words.chain(explained.notes.iter().cloned());
    let words = words.map(|line| format!("  {}", table::cell(&line)));
    let facts = explained.mirror.as_ref().map(|mirror| facts(mirror, now) + "\n");
    [
        lines([heading].into_iter().chain(words)),
        "\n".to_owned(),
        facts.unwrap_or_default(),
        rules(explained),
    ]
    .concat()
}

fn rules(explained: &Explained) -> String {
    let mut table = table::plain(&["RULE", "RESULT", "APPLIES WHEN"]);
    for rule in &explained.rules {
        let result = match rule.result {
            "applied" => "applies",
            "passed" => "no",
            _ => "-",
        };
        table.add_row([rule.rule, result, rule.when]);
    }
    table::trimmed(&table)
}

fn facts(mirror: &MirrorFacts, now: Timestamp) -> String {
    let mut table = table::plain(&["FACT", "VALUE", "SINCE"]);
    let since = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| since(time, now));
    let mut row = |fact: &str, value: String, time: Option<Timestamp>| {
        table.add_row([fact.to_owned(), value, since(time)]);
    };
    let pinned = if mirror.pinned.is_some() {
        ", set by spec.active"
    } else {
        ""
    };
    row("mirror", mirror.name.clone(), None);
    row(
        "repository",
        format!("{}, on the {}", mirror.repository, side(mirror.named.as_str())),
        None,
    );
    row(
        "active side",
        format!("{}{pinned} (epoch {})", mirror.active, mirror.epoch),
        mirror.active_since,
    );
    for (name, facts) in [("primary", &mirror.primary), ("fallback", &mirror.fallback)] {
        row(name, health(facts), facts.since);
    }
    let observed = if mirror.observed {
        "observed"
    } else {
        "not observed yet"
    };
    row("mapping", format!("{}, {observed}", mirror.mapping), None);
    for (kind, known) in [("tag", &mirror.tag), ("digest", &mirror.digest)] {
        if let Some(known) = known {
            let unselected = kind == "tag" && !mirror.selected;
            let selected = if unselected {
                "; not selected by the mirror's tags"
            } else {
                ""
            };
            row(kind, format!("{}{selected}", knowledge(known)), known.recorded);
        }
    }
    let settings = &mirror.settings;
    row("rewrite.mode", settings.mode.clone(), None);
    row("rewrite.unverifiedTags", settings.unverified_tags.clone(), None);
    row("rewrite.mismatchedTags", settings.mismatched_tags.clone(), None);
    if mirror.compared_since.is_some() {
        row(
            "comparison",
            "the oldest digest in it was read".to_owned(),
            mirror.compared_since,
        );
    }
    table::trimmed(&table)
}

fn side(name: &str) -> String {
    name.to_lowercase()
}

fn health(facts: &SideFacts) -> String {
    let health = match (facts.unavailable, facts.since) {
        (true, _) => "unavailable",
        (false, Some(_)) => "not known to be unavailable",
        (false, None) => "not probed yet",
    };
    format!("{}: {health}", facts.registry)
}

fn knowledge(known: &Reference) -> String {
    let both = known.primary == "Present" && known.fallback == "Present";
    let digests = match (both, known.same_digest) {
        (true, true) => ", one digest",
        (true, false) => ", different digests",
        _ => "",
    };
    let on = |what: &str, sides: &[Side]| -> String {
        let flaws = sides
            .iter()
            .map(|it| format!(", content {what} on the {}", side(it.as_str())));
        flaws.collect()
    };
    let flaws = on("missing", &known.broken_on) + &on("without its digest", &known.untrusted_on);
    format!(
        "{}: {} on the primary, {} on the fallback{digests}{flaws}",
        known.name,
        known.primary.to_lowercase(),
        known.fallback.to_lowercase()
    )
}

/// A time, and how long ago that was.
fn since(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(time.as_second()).max(0);
    format!("{time} ({} ago)", age(seconds))
}

/// As `kubectl` shows ages: the two largest units at most.
fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{}s", seconds % 60),
        600..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (3600, "60m"),
            (11_000, "3h3m"),
            (200_000, "2d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(age(seconds), expected);
        }
        let (then, now) = (
            "2026-11-20T10:00:00Z".parse().unwrap(),
            "2026-11-20T10:05:01Z".parse().unwrap(),
        );
        assert_eq!(since(then, now), "2026-11-20T10:00:00Z (5m1s ago)");
        assert_eq!(
            since(now, then),
            "2026-11-20T10:05:01Z (0s ago)",
            "a clock that is behind"
        );
    }
}
