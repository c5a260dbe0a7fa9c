//! How many hints of a sender count: a burst, and then a few a second.

use std::collections::HashMap;

use jiff::Timestamp;

use super::sender::Sender;

/// Hints that count at once: the tags of a large push.
pub const BURST: usize = 120;
/// Hints a second that count after that.
pub const PER_SECOND: f64 = 2.0;

/// A token bucket for each sender.
#[derive(Clone, Debug, Default)]
pub struct Pace(HashMap<Sender, Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Pace {
    /// Of so many hints of a sender, those that count now.
    pub fn take(&mut self, sender: Sender, wanted: usize, now: Timestamp) -> usize {
        let full = Bucket {
            tokens: BURST as f64,
            at: now,
        };
        let bucket = self.0.entry(sender).or_insert(full);
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed * PER_SECOND).min(BURST as f64);
        bucket.at = now;
        // Between 0 and BURST, so nothing is lost or turned round.
        #[expect(clippy::cast_sign_loss, reason = "a bucket never holds less than nothing")]
        let whole = bucket.tokens.floor() as usize;
        let allowed = wanted.min(whole);
        bucket.tokens -= allowed as f64;
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn ten_thousand_at_once_cost_a_burst_and_then_two_a_second() {
        let mut pace = Pace::default();
        let counted: usize = (0..10_000).map(|_| pace.take(Sender::Azure, 1, at(0))).sum();
        assert_eq!(counted, BURST);
        assert_eq!(pace.take(Sender::Azure, 100, at(1)), 2);
        assert_eq!(pace.take(Sender::Azure, 100, at(11)), 20);
        assert_eq!(pace.take(Sender::Azure, 1000, at(3600)), BURST);
    }

    #[test]
    fn one_sender_does_not_use_up_anothers() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(Sender::Azure, 10_000, at(0)), BURST);
        assert_eq!(pace.take(Sender::GitHub, 3, at(0)), 3);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(Sender::Events, BURST, at(0)), BURST);
        assert_eq!(pace.take(Sender::Events, 1, at(-3600)), 0);
        assert_eq!(pace.take(Sender::Events, 10, at(-3599)), 2);
    }
}
