//! How the copying of missing tags goes, in numbers and words.

use jiff::Timestamp;

use super::{Errand, Plan};

/// Planned copies that are named in status.
pub const MAX_PLANNED: usize = 20;

/// Characters of a failure that are reported.
const LONGEST_FAILURE: usize = 500;

/// The last round that had something to do, and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the round began.
    pub begun: Option<Timestamp>,
    /// Whether nothing is copied, only reported.
    pub dry_run: bool,
    /// Tags that the round copied.
    pub copied: usize,
    /// Tags whose last copy failed.
    pub failed: usize,
    /// Tags that are still to be copied, those that failed included.
    pub pending: usize,
    /// Missing tags that are not copied: their side is not written.
    pub left: usize,
    /// The last failure, with the tag it is about.
    pub failure: Option<String>,
    /// A sample of what a dry run would copy.
    pub would_copy: Vec<Errand>,
}

impl Progress {
    /// A round that begins.
    pub fn begun(plan: &Plan, failed: usize, now: Timestamp) -> Progress {
        Progress {
            begun: Some(now),
            failed,
            pending: plan.errands.len() + plan.later,
            left: plan.left,
            ..Progress::default()
        }
    }

    /// What a dry run would do.
    pub fn planned(plan: &Plan, now: Timestamp) -> Progress {
        Progress {
            dry_run: true,
            would_copy: plan.errands.iter().take(MAX_PLANNED).cloned().collect(),
            ..Progress::begun(plan, 0, now)
        }
    }

    /// After a pass with nothing to do: what the last round did is remembered.
    pub fn idle(before: Option<&Progress>, plan: &Plan, failed: usize, dry_run: bool) -> Progress {
        let before = before
            .filter(|before| before.dry_run == dry_run)
            .cloned()
            .unwrap_or_default();
        Progress {
            dry_run,
            failed,
            pending: plan.later,
            left: plan.left,
            failure: before.failure.clone().filter(|_| failed > 0),
            would_copy: Vec::new(),
            ..before
        }
    }

    /// Whether two dry runs say the same, whenever they did.
    pub fn plans_the_same(&self, other: &Progress) -> bool {
        let begun = other.begun;
        Progress { begun, ..self.clone() } == *other
    }

    /// Notes a tag that was copied.
    pub fn succeeded(&mut self, failed: usize) {
        self.copied += 1;
        self.pending = self.pending.saturating_sub(1);
        self.failed = failed;
        if failed == 0 {
            self.failure = None;
        }
    }

    /// Notes a failure.
    pub fn failed(&mut self, failed: usize, failure: &str) {
        self.failed = failed;
        self.failure = Some(failure.chars().take(LONGEST_FAILURE).collect());
    }

    /// All of it in a sentence.
    pub fn message(&self) -> String {
        let done = match (self.dry_run, self.pending) {
            (true, 0) => "nothing to copy".to_owned(),
            (false, 0) if self.begun.is_none() && self.copied == 0 => "nothing to copy".to_owned(),
            (true, n) => format!("would copy {}; set repair.missingTags to Copy to do so", tags(n)),
            (false, 0) => format!("copied {}", tags(self.copied)),
            (false, n) => format!("copied {}, {n} to go", tags(self.copied)),
        };
        let left = (self.left > 0).then(|| {
            format!(
                "{} left alone, because the side that lacks them is not written",
                tags(self.left)
            )
        });
        let failure = self.failure.as_ref();
        let failed = failure.map(|failure| format!("{} failed, the last: {failure}", self.failed));
        let parts: Vec<String> = [Some(done), left, failed].into_iter().flatten().collect();
        parts.join("; ")
    }

    /// A dry run's plan for an Event.
    pub fn planned_note(&self) -> String {
        let names: Vec<String> = self.would_copy.iter().take(5).map(name).collect();
        format!("{}: {}", self.message(), list(&names, self.pending))
    }
}

/// `web:1.0 to Fallback`.
pub(in crate::mirror) fn name(errand: &Errand) -> String {
    format!("{}:{} to {}", errand.repository, errand.tag, errand.to)
}

/// The first names, and how many more there are.
pub(in crate::mirror) fn list(names: &[String], of: usize) -> String {
    let listed = names.join(", ");
    match of.saturating_sub(names.len()) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// `1 tag`, `2 tags`.
pub(in crate::mirror) fn tags(count: usize) -> String {
    if count == 1 {
        "1 tag".to_owned()
    } else {
        format!("{count} tags")
    }
}
