//! How many tags of a sender count: a burst, and then a few a second.

use std::collections::HashMap;

use jiff::Timestamp;

use super::sender::Sender;

/// Tags that count at once: the tags of a large push.
pub const BURST: usize = 120;
/// Tags a second that count after that.
pub const PER_SECOND: f64 = 2.0;

/// A token bucket for each sender.
#[derive(Clone, Debug, Default)]
pub struct RateLimit(HashMap<Sender, Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl RateLimit {
    /// Of so many tags of a sender, how many count now.
    pub fn take(&mut self, sender: Sender, wanted: usize, now: Timestamp) -> usize {
        let full = Bucket {
            tokens: BURST as f64,
            at: now,
        };
        let bucket = self.0.entry(sender).or_insert(full);
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed * PER_SECOND).min(BURST as f64);
        bucket.at = now;
        // Between 0 and BURST, so the cast is exact but for the fraction.
        #[expect(clippy::cast_sign_loss, reason = "a bucket never holds less than zero")]
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
    fn flood_counts_a_burst_then_two_a_second() {
        let mut limit = RateLimit::default();
        let counted: usize = (0..10_000).map(|_| limit.take(Sender::Azure, 1, at(0))).sum();
        assert_eq!(counted, BURST);
        assert_eq!(limit.take(Sender::Azure, 100, at(1)), 2);
        assert_eq!(limit.take(Sender::Azure, 100, at(11)), 20);
        assert_eq!(limit.take(Sender::Azure, 1000, at(3600)), BURST);
    }

    #[test]
    fn sender_does_not_use_up_limit_of_another() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.take(Sender::Azure, 10_000, at(0)), BURST);
        assert_eq!(limit.take(Sender::GitHub, 3, at(0)), 3);
    }

    #[test]
    fn clock_step_back_adds_no_tokens() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.take(Sender::Events, BURST, at(0)), BURST);
        assert_eq!(limit.take(Sender::Events, 1, at(-3600)), 0);
        assert_eq!(limit.take(Sender::Events, 10, at(-3599)), 2);
    }
}
