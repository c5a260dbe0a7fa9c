//! How long something is waited for.

use std::time::Duration;

use jiff::Timestamp;

use crate::endpoint::{distance, later};

/// A stretch of time. A clock that jumps by more than its length, in either direction, ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    from: Timestamp,
    length: Duration,
}

impl Pause {
    pub(super) fn new(from: Timestamp, length: Duration) -> Pause {
        Pause { from, length }
    }

    pub(super) fn is_over(self, now: Timestamp) -> bool {
        distance(self.from, now) >= self.length
    }

    /// When it is over, if the clock does not jump.
    pub(super) fn end(self) -> Timestamp {
        later(self.from, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_ends_after_its_length_or_with_a_jump_of_the_clock() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let pause = Pause::new(at(100), Duration::from_secs(10));
        let over = [100, 109, 110, 95, 90, 0].map(|second| pause.is_over(at(second)));
        assert_eq!(over, [false, false, true, false, true, true]);
        assert_eq!(pause.end(), at(110));
    }
}
