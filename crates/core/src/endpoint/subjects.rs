//! What of a registry fails: all of it, its token endpoint, its blob host, or one repository.
//!
//! A success says nothing of a part that its probe did not ask. So a dead blob host is not forgotten for each manifest that comes
//! through, and a dead repository is an outage for the mirrors that use it, and for no other.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Repositories that fail at a time, as far as they are told apart.
const MOST_PATHS: usize = 32;

/// A part of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The way to it.
    Host,
    /// What gives out its tokens.
    Token,
    /// What serves its blobs.
    Blobs,
    /// One repository.
    Path(String),
}

/// What fails of one registry, and when the probe of its latest failure began.
#[derive(Clone, Debug, Default)]
pub(super) struct Failing {
    subjects: BTreeMap<Subject, Timestamp>,
    /// When the probe of the latest success began.
    last_success: Option<Timestamp>,
}

impl Failing {
    pub(super) fn failed(&mut self, subject: Subject, begun: Timestamp) {
        let is_path = matches!(subject, Subject::Path(_));
        if is_path && self.subjects.len() >= MOST_PATHS && !self.subjects.contains_key(&subject) {
            return;
        }
        self.subjects.insert(subject, begun);
    }

    /// A probe that began then, and asked these parts, succeeded.
    pub(super) fn succeeded(&mut self, begun: Timestamp, asked: &[Subject]) {
        self.last_success = Some(begun);
        self.subjects.retain(|subject, _| !asked.contains(subject));
    }

    /// A part that no probe can ask any more says nothing.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.subjects.remove(subject);
    }

    /// Repositories that nobody asks for any more are forgotten.
    pub(super) fn retain_paths(&mut self, keep: impl Fn(&str) -> bool) {
        self.subjects.retain(|subject, _| match subject {
            Subject::Path(path) => keep(path),
            _ => true,
        });
    }

    /// Whether what fails is more than single repositories.
    pub(super) fn is_general(&self, only_one_path: bool) -> bool {
        let since = |begun: &Timestamp| self.last_success.is_none_or(|success| *begun > success);
        let paths = self
            .subjects
            .iter()
            .filter(|(subject, begun)| matches!(subject, Subject::Path(_)) && since(begun));
        let general = self.subjects.keys().any(|subject| !matches!(subject, Subject::Path(_)));
        general || paths.count() >= if only_one_path { 1 } else { 2 }
    }

    pub(super) fn is(&self, subject: &Subject) -> bool {
        self.subjects.contains_key(subject)
    }

    pub(super) fn is_path(&self, path: &str) -> bool {
        self.subjects
            .keys()
            .any(|subject| matches!(subject, Subject::Path(failing) if failing == path))
    }

    /// Repositories that fail.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.subjects.keys().filter_map(|subject| match subject {
            Subject::Path(path) => Some(path.as_str()),
            _ => None,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// The repository whose latest failure is the oldest.
    pub(super) fn path(&self) -> Option<&str> {
        let paths = self.subjects.iter().filter_map(|(subject, begun)| match subject {
            Subject::Path(path) => Some((begun, path.as_str())),
            _ => None,
        });
        paths.min().map(|(_, path)| path)
    }
}
