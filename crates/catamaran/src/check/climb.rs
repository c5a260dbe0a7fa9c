//! A ladder that was climbed.

use super::line::Line;

/// What came of one ladder.
#[derive(Debug)]
pub struct Climb {
    /// What it leads to.
    pub heading: String,
    /// What was seen, rung by rung.
    pub lines: Vec<Line>,
    /// Whether it counts in the exit code. What was not asked for is advice.
    pub counts: bool,
}
