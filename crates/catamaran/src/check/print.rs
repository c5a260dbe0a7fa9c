//! How steps are shown: in the style of `linkerd check`, which many know.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::line::{Line, Mark};
use super::report::Report;
use crate::table;

/// Whether marks are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For pipes and files.
    Plain,
    /// For terminals.
    Coloured,
}

impl Style {
    /// Colours only where somebody looks, and has not asked for none (`NO_COLOR`).
    pub fn of_terminal() -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !unwanted {
            Style::Coloured
        } else {
            Style::Plain
        }
    }

    fn mark(self, mark: Mark) -> String {
        let (sign, colour) = match mark {
            Mark::Well => ('√', 32),
            Mark::Warning => ('‼', 33),
            Mark::Unknown => ('?', 33),
            Mark::Failed => ('×', 31),
        };
        match self {
            Style::Plain => sign.to_string(),
            Style::Coloured => format!("\u{1b}[{colour}m{sign}\u{1b}[0m"),
        }
    }
}

/// The heading of a report.
pub fn heading(heading: &str) -> String {
    format!("{heading}\n{}\n", "-".repeat(heading.chars().count()))
}

/// One step.
pub fn line(line: &Line, style: Style) -> String {
    let below = line.details.iter().map(|detail| table::cell(detail));
    let hint = line.hint.iter().map(|hint| format!("hint: {}", table::cell(hint)));
    std::iter::once(format!("{} {}\n", style.mark(line.mark), table::cell(&line.text)))
        .chain(below.chain(hint).map(|text| format!("    {text}\n")))
        .collect()
}

/// All that was found of one target at once.
pub fn report(report: &Report, style: Style) -> String {
    let lines = report.lines.iter().map(|found| line(found, style));
    heading(&report.heading) + &lines.collect::<String>() + "\n"
}

/// The last line.
pub fn verdict(mark: Mark, style: Style) -> String {
    let words = match mark {
        Mark::Well | Mark::Warning => "every step passed",
        Mark::Unknown => "could not check every step",
        Mark::Failed => "a step failed",
    };
    format!("{} {words}\n", style.mark(mark))
}

/// Everything, for machines.
pub fn document(reports: &[Report], verdict: Mark) -> Value {
    let step = |line: &Line| {
        json!({
            "step": line.step,
            "result": word(line.mark),
            "text": line.text,
            "details": line.details,
            "hint": line.hint,
        })
    };
    let plan = |report: &Report| {
        json!({
            "target": report.heading,
            "steps": report.lines.iter().map(step).collect::<Vec<_>>(),
        })
    };
    json!({
        "result": word(verdict),
        "targets": reports.iter().map(plan).collect::<Vec<_>>(),
    })
}

fn word(mark: Mark) -> &'static str {
    match mark {
        Mark::Well => "ok",
        Mark::Warning => "warning",
        Mark::Unknown => "unknown",
        Mark::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> Line {
        Line {
            step: "tls",
            mark: Mark::Failed,
            text: "shows no certificate that can be trusted".to_owned(),
            details: vec!["GET https://r.test/v2/: TLS:\n\u{1b}[31mUnknownIssuer".to_owned()],
            hint: Some("give the CA's certificate by --ca-file".to_owned()),
        }
    }

    #[test]
    fn details_and_hints_stand_below_and_foreign_text_stays_in_its_line() {
        let expected = "× shows no certificate that can be trusted\n    \
            GET https://r.test/v2/: TLS:  [31mUnknownIssuer\n    \
            hint: give the CA's certificate by --ca-file\n";
        assert_eq!(line(&failing(), Style::Plain), expected);
    }

    #[test]
    fn only_the_mark_is_coloured() {
        let coloured = line(&failing(), Style::Coloured);
        assert!(coloured.starts_with("\u{1b}[31m×\u{1b}[0m shows"), "{coloured:?}");
        assert_eq!(coloured.matches('\u{1b}').count(), 2);
    }
}
