//! What the API server refused, so that it is not asked the same again and again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use catamaran_core::rescue::ImagePatch;
use tokio::time::Instant;

/// How long the same is not tried again for a pod that is refused for good: somebody may have changed the policy by then.
const REFUSED: Duration = Duration::from_mins(10);

/// The pause after a first failure that may pass; doubled with each further one.
const FAILED: Duration = Duration::from_secs(5);

/// The longest of those pauses.
const LONGEST: Duration = Duration::from_mins(5);

/// Failures in a row after which a pod is told of one that may pass.
const TOLD_AFTER: u32 = 3;

/// Pods whose refusal is remembered; those that may be tried again are forgotten first.
const MOST: usize = 20_000;

/// What was tried for a pod: a hash of what was to be changed, so that a changed pod or route is another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt(u64);

impl Attempt {
    /// These changes of images.
    pub(crate) fn patches(patches: &[ImagePatch]) -> Attempt {
        let mut hasher = DefaultHasher::new();
        for patch in patches {
            (patch.kind, patch.index, &patch.from, &patch.to, patch.epoch).hash(&mut hasher);
        }
        Attempt(hasher.finish())
    }
}

/// Pods for which something failed, by UID.
#[derive(Debug, Default)]
pub(crate) struct Refusals(HashMap<Box<str>, Refusal>);

#[derive(Debug)]
struct Refusal {
    attempt: Attempt,
    failures: u32,
    until: Instant,
}

impl Refusals {
    /// Whether this is not to be tried now.
    pub(crate) fn hold_back(&self, uid: &str, attempt: Attempt, now: Instant) -> bool {
        self.0
            .get(uid)
            .is_some_and(|refusal| refusal.attempt == attempt && now < refusal.until)
    }

    /// Notes that an attempt was refused, and will be unless something changes; whether this is the first time.
    pub(crate) fn refused(&mut self, uid: &str, attempt: Attempt, now: Instant) -> bool {
        self.note(uid, attempt, now + REFUSED) == 1
    }

    /// Notes that an attempt failed in a way that may pass; whether it is time to tell of it.
    pub(crate) fn failed(&mut self, uid: &str, attempt: Attempt, now: Instant) -> bool {
        let failures = self.failures(uid, attempt);
        let pause = FAILED.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST);
        self.note(uid, attempt, now + pause) == TOLD_AFTER
    }

    /// Forgets a pod for which something went well.
    pub(crate) fn clear(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    fn failures(&self, uid: &str, attempt: Attempt) -> u32 {
        let same = self.0.get(uid).filter(|refusal| refusal.attempt == attempt);
        same.map_or(0, |refusal| refusal.failures)
    }

    fn note(&mut self, uid: &str, attempt: Attempt, until: Instant) -> u32 {
        if self.0.len() >= MOST {
            let now = Instant::now();
            self.0.retain(|_, refusal| now < refusal.until);
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let failures = self.failures(uid, attempt).saturating_add(1);
        let refusal = Refusal {
            attempt,
            failures,
            until,
        };
        self.0.insert(uid.into(), refusal);
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_attempt_is_told_once_and_held_back() {
        let (now, attempt) = (Instant::now(), Attempt(1));
        let mut refusals = Refusals::default();
        assert!(!refusals.hold_back("u1", attempt, now));
        assert!(refusals.refused("u1", attempt, now));
        assert!(refusals.hold_back("u1", attempt, now + Duration::from_mins(9)));
        assert!(!refusals.hold_back("u2", attempt, now), "another pod");
        assert!(!refusals.hold_back("u1", Attempt(2), now), "another attempt");
        assert!(!refusals.hold_back("u1", attempt, now + REFUSED));
        assert!(!refusals.refused("u1", attempt, now + REFUSED), "told before");
    }

    #[test]
    fn failure_that_may_pass_is_tried_again_ever_later() {
        let (mut now, attempt) = (Instant::now(), Attempt(1));
        let mut refusals = Refusals::default();
        let mut pauses = Vec::new();
        let mut told = Vec::new();
        for _ in 0..9 {
            told.push(refusals.failed("u1", attempt, now));
            let mut pause = 0;
            while refusals.hold_back("u1", attempt, now) {
                now += Duration::from_secs(1);
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(told.iter().position(|told| *told), Some(2));
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        refusals.clear("u1");
        assert!(!refusals.failed("u1", attempt, now));
        assert!(refusals.hold_back("u1", attempt, now + Duration::from_secs(4)));
        assert!(!refusals.hold_back("u1", attempt, now + Duration::from_secs(5)));
    }
}
