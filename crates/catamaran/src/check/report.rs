//! What checking one target found.

use super::line::Line;

/// What checking one target found.
#[derive(Debug)]
pub struct Report {
    /// What it leads to.
    pub heading: String,
    /// What was seen, step by step.
    pub lines: Vec<Line>,
    /// Whether it counts in the exit code. What was not asked for is advice.
    pub counts: bool,
}
