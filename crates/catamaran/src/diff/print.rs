//! A comparison, for people and for machines.

use std::fmt::Write as _;

use catamaran_core::digest::Digest;
use catamaran_core::mirror::FlawedPart;
use catamaran_core::mirror::parity::DifferenceKind;
use catamaran_core::routing::evidence::Flaw;
use catamaran_core::side::Side;
use serde_json::{Value, json};

use super::comparison::{Comparison, FlawedTag};
use crate::table;

/// Hexadecimal characters of a digest in a table.
const SHORT: usize = "sha256:".len() + 12;

/// For people: the differences and a line that sums up.
pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    let flawed = comparison.flawed.as_deref().unwrap_or_default();
    if !comparison.is_well() {
        let mut heads = vec!["TAG", "STATE", "PRIMARY", "FALLBACK"];
        if !comparison.explanations.is_empty() {
            heads.push("DIFFERENCE");
        }
        let mut table = table::plain(&heads);
        for difference in &comparison.differences {
            let digest = |digest: &Option<Digest>| digest.as_ref().map_or_else(|| "-".to_owned(), short);
            let digests = &difference.digests;
            let kind = difference.kind.as_str().to_owned();
            let mut row = vec![
                difference.tag.clone(),
                kind,
                digest(&digests.primary),
                digest(&digests.fallback),
            ];
            row.extend(comparison.explanations.get(&difference.tag).map(ToString::to_string));
            table.add_row(row);
        }
        for tag in flawed {
            let words = tag.parts.as_ref().map(|part| describe(part.as_ref()));
            let flaw = tag.flaw().map_or("-", Flaw::as_str).to_owned();
            table.add_row([tag.tag.clone(), flaw, words.primary, words.fallback]);
        }
        text.push_str(&table::trimmed(&table));
        text.push('\n');
    }
    let _ = writeln!(text, "{}", sum(comparison));
    text
}

/// What is wrong with a tag on a side, or that nothing was found.
fn describe(part: Option<&FlawedPart>) -> String {
    let Some(found) = part else {
        return "whole".to_owned();
    };
    let part = found.part.as_str().to_lowercase();
    let platform = found.platform.as_ref().map(|platform| format!(" ({platform})"));
    let platform = platform.unwrap_or_default();
    match found.flaw {
        Flaw::Broken => format!("no {part} {}{platform}", short(&found.digest)),
        Flaw::Untrusted => format!("other content as {part} {}{platform}", short(&found.digest)),
    }
}

fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(SHORT).collect()
}

fn count(comparison: &Comparison, kind: DifferenceKind) -> usize {
    comparison
        .differences
        .iter()
        .filter(|difference| difference.kind == kind)
        .count()
}

fn sum(comparison: &Comparison) -> String {
    let same = comparison.tags - comparison.differences.len();
    let tags = if comparison.tags == 1 {
        "1 tag".to_owned()
    } else {
        format!("{} tags", comparison.tags)
    };
    let mut sum = format!("{tags}: {same} the same");
    let kinds = [
        (DifferenceKind::MissingOnPrimary, "missing on the primary"),
        (DifferenceKind::MissingOnFallback, "missing on the fallback"),
        (DifferenceKind::Mismatched, "with different digests"),
    ];
    for (kind, words) in kinds {
        let count = count(comparison, kind);
        if count > 0 {
            let _ = write!(sum, ", {count} {words}");
        }
    }
    match comparison.flawed.as_deref() {
        None => {}
        Some([]) if comparison.differences.is_empty() => sum.push_str(", all of it can be pulled from both sides"),
        Some([]) => sum.push_str(", what is there can be pulled"),
        Some(flawed) => {
            let flaws = [
                (Flaw::Broken, "broken: content is missing"),
                (Flaw::Untrusted, "untrusted: content does not have its digest"),
            ];
            for (flaw, words) in flaws {
                let count = flawed.iter().filter(|tag| tag.flaw() == Some(flaw)).count();
                if count > 0 {
                    let _ = write!(sum, ", {count} {words}");
                }
            }
        }
    }
    sum
}

/// One entry for each side that has this flaw.
fn parts(tag: &FlawedTag, flaw: Flaw) -> impl Iterator<Item = Value> + '_ {
    Side::ALL.into_iter().filter_map(move |side| {
        let found = tag.parts[side].as_ref().filter(|part| part.flaw == flaw)?;
        Some(json!({
            "tag": tag.tag,
            "side": side.as_str(),
            "part": found.part.as_str(),
            "digest": found.digest.to_string(),
            "platform": found.platform,
        }))
    })
}

/// For machines.
pub fn document(comparison: &Comparison) -> Value {
    let differences = comparison.differences.iter().map(|difference| {
        let mut entry = json!({
            "tag": difference.tag,
            "state": difference.kind.as_str(),
            "primaryDigest": difference.digests.primary.as_ref().map(ToString::to_string),
            "fallbackDigest": difference.digests.fallback.as_ref().map(ToString::to_string),
        });
        if let Some(explanation) = comparison.explanations.get(&difference.tag) {
            entry["difference"] = explanation.as_str().into();
            entry["explanation"] = explanation.to_string().into();
        }
        entry
    });
    let mut document = json!({
        "primary": comparison.repositories.primary,
        "fallback": comparison.repositories.fallback,
        "tags": comparison.tags,
        "same": comparison.tags - comparison.differences.len(),
        "missingOnPrimary": count(comparison, DifferenceKind::MissingOnPrimary),
        "missingOnFallback": count(comparison, DifferenceKind::MissingOnFallback),
        "mismatched": count(comparison, DifferenceKind::Mismatched),
        "differences": differences.collect::<Vec<_>>(),
    });
    if let Some(flawed) = &comparison.flawed {
        let all = |flaw| flawed.iter().flat_map(move |tag| parts(tag, flaw)).collect::<Value>();
        document["broken"] = all(Flaw::Broken);
        document["untrusted"] = all(Flaw::Untrusted);
    }
    document
}
