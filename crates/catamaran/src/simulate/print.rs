//! How a simulation is shown to people.

use super::{Document, Finding, Verdict};
use crate::explain::print::unread;
use crate::table;

/// Everything, the worst first.
pub fn text(document: &Document) -> String {
    let mut blocks = Vec::new();
    if !document.images.is_empty() {
        let mut table = table::plain(&[
            "RESULT",
            "NAMESPACE",
            "WORKLOAD",
            "CONTAINER",
            "IMAGE",
            "REASON",
            "WHAT TO DO",
        ]);
        for finding in &document.images {
            table.add_row(row(finding));
        }
        blocks.push(table::trimmed(&table));
    }
    let warnings = document.warnings.iter();
    let warnings: Vec<String> = warnings
        .map(|warning| format!("warning: {}", table::cell(warning)))
        .collect();
    if !warnings.is_empty() {
        blocks.push(warnings.join("\n") + "\n");
    }
    if !document.unread.is_empty() {
        blocks.push(unread(&document.unread));
    }
    blocks.push(summary(document));
    blocks.join("\n")
}

fn row(finding: &Finding) -> [String; 7] {
    let result = match finding.verdict {
        Verdict::WouldNotStart => "would not start",
        Verdict::Unknown => "unknown",
        Verdict::WouldStart => "would start",
    };
    let idle = if finding.idle { " (idle)" } else { "" };
    let what_to_do = match finding.what_to_do.as_str() {
        "" => "-",
        words => words,
    };
    [
        result.to_owned(),
        finding.namespace.clone(),
        format!("{}/{}{idle}", finding.kind, finding.name),
        finding.container.clone(),
        table::cell(&finding.pulled_as),
        format!("{}: {}", finding.reason, table::cell(&finding.why)),
        table::cell(what_to_do),
    ]
}

fn summary(document: &Document) -> String {
    let Document {
        would_start,
        would_not_start,
        unknown,
        images,
        ..
    } = document;
    if images.is_empty() {
        return "no workload that could be read uses an image of a mirror\n".to_owned();
    }
    let all = images.len();
    format!(
        "with the primary down, of {all} images {would_start} would start, {would_not_start} would not, {unknown} unknown\n"
    )
}
