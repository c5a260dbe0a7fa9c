//! One step in a line for people.

use catamaran_registry::steps::Step;

/// How a step is marked; the worse the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// It holds.
    Well,
    /// It holds, and something should be known.
    Warning,
    /// Whether it holds could not be told.
    Unknown,
    /// It does not hold.
    Failed,
}

/// One step for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The step in one word, for documents.
    pub step: &'static str,
    /// How it went.
    pub mark: Mark,
    /// In one line.
    pub text: String,
    /// More, where there is more.
    pub details: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Line {
    /// A step that passed.
    pub fn well(step: Step, text: impl Into<String>) -> Line {
        Line {
            step: step.as_str(),
            mark: Mark::Well,
            text: text.into(),
            details: Vec::new(),
            hint: None,
        }
    }

    /// It holds, and this should be known.
    pub fn warn(mut self, hint: impl Into<String>) -> Line {
        self.mark = Mark::Warning;
        self.hint = Some(hint.into());
        self
    }
}
