//! A comparison, for people and for machines.

use std::fmt::Write as _;

use catamaran_core::digest::Digest;
use catamaran_core::mirror::Missing;
use catamaran_core::mirror::parity::DifferenceKind;
use catamaran_core::side::Side;
use serde_json::{Value, json};

use super::comparison::{BrokenTag, Comparison};
use crate::table;

/// Hexadecimal characters of a digest in a table.
const SHORT: usize = "sha256:".len() + 12;

/// For people: the differences and a line that sums up.
pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    let broken = comparison.broken.as_deref().unwrap_or_default();
    if !comparison.is_well() {
        let mut table = table::plain(&["TAG", "STATE", "PRIMARY", "FALLBACK"]);
        for difference in &comparison.differences {
            let digest = |digest: &Option<Digest>| digest.as_ref().map_or_else(|| "-".to_owned(), short);
            let digests = &difference.digests;
            let kind = difference.kind.as_str().to_owned();
            table.add_row([
                difference.tag.clone(),
                kind,
                digest(&digests.primary),
                digest(&digests.fallback),
            ]);
        }
        for tag in broken {
            let missing = tag.missing.as_ref().map(|missing| lacks(missing.as_ref()));
            table.add_row([tag.tag.clone(), "Broken".to_owned(), missing.primary, missing.fallback]);
        }
        text.push_str(&table::trimmed(&table));
        text.push('\n');
    }
    let _ = writeln!(text, "{}", sum(comparison));
    text
}

/// What a side lacks of a tag, or that it lacks nothing.
fn lacks(missing: Option<&Missing>) -> String {
    let Some(missing) = missing else {
        return "whole".to_owned();
    };
    let part = missing.part.as_str().to_lowercase();
    let platform = missing.platform.as_ref().map(|platform| format!(" ({platform})"));
    format!("no {part} {}{}", short(&missing.digest), platform.unwrap_or_default())
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
    match comparison.broken.as_deref() {
        None => {}
        Some([]) => sum.push_str(", all of it can be pulled from both sides"),
        Some(broken) => {
            let _ = write!(sum, ", {} broken: content is missing", broken.len());
        }
    }
    sum
}

/// One entry for each side that lacks something.
fn parts(broken: &BrokenTag) -> impl Iterator<Item = Value> + '_ {
    Side::ALL.into_iter().filter_map(|side| {
        let missing = broken.missing[side].as_ref()?;
        Some(json!({
            "tag": broken.tag,
            "side": side.as_str(),
            "part": missing.part.as_str(),
            "digest": missing.digest.to_string(),
            "platform": missing.platform,
        }))
    })
}

/// For machines.
pub fn document(comparison: &Comparison) -> Value {
    let differences = comparison.differences.iter().map(|difference| {
        json!({
            "tag": difference.tag,
            "state": difference.kind.as_str(),
            "primaryDigest": difference.digests.primary.as_ref().map(ToString::to_string),
            "fallbackDigest": difference.digests.fallback.as_ref().map(ToString::to_string),
        })
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
    if let Some(broken) = &comparison.broken {
        document["broken"] = broken.iter().flat_map(parts).collect();
    }
    document
}
