//! One rung in a line for people.

use catamaran_registry::ladder::Step;

/// How a rung is marked; the worse the greater.
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

/// One rung for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The rung in one word, for documents.
    pub rung: &'static str,
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
    /// A rung that holds.
    pub fn well(step: Step, text: impl Into<String>) -> Line {
        Line {
            rung: step.as_str(),
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
