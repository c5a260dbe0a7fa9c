//! A comparison, for people and for machines.

use std::fmt::Write as _;

use catamaran_core::digest::Digest;
use catamaran_core::mirror::parity::DifferenceKind;
use serde_json::{Value, json};

use super::comparison::Comparison;
use crate::table;

/// Hexadecimal characters of a digest in a table.
const SHORT: usize = "sha256:".len() + 12;

/// For people: the differences and a line that sums up.
pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    if !comparison.differences.is_empty() {
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
        text.push_str(&table::trimmed(&table));
        text.push('\n');
    }
    let _ = writeln!(text, "{}", sum(comparison));
    text
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
    sum
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
    json!({
        "primary": comparison.repositories.primary,
        "fallback": comparison.repositories.fallback,
        "tags": comparison.tags,
        "same": comparison.tags - comparison.differences.len(),
        "missingOnPrimary": count(comparison, DifferenceKind::MissingOnPrimary),
        "missingOnFallback": count(comparison, DifferenceKind::MissingOnFallback),
        "mismatched": count(comparison, DifferenceKind::Mismatched),
        "differences": differences.collect::<Vec<_>>(),
    })
}
