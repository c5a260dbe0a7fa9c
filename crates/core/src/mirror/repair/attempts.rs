//! What was tried in vain, so that it is not tried after every pass.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Errand;
use crate::digest::Digest;
use crate::side::Side;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(6);
/// Failures beyond this number are not remembered: those tags are tried after every pass.
const MOST_REMEMBERED: usize = 10_000;

/// Failed copies and when each may be tried again: after 1 min, 2 min, 4 min and so on, at most 6 h.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    failed: HashMap<(String, String), Failed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    to: Side,
    digest: Digest,
    times: u32,
    not_before: Timestamp,
}

impl Attempts {
    /// Whether the pause after the last failure is over. Another digest or direction is another errand.
    pub fn may_try(&self, errand: &Errand, now: Timestamp) -> bool {
        self.of(errand).is_none_or(|failed| now >= failed.not_before)
    }

    /// Notes a failure.
    pub fn failed(&mut self, errand: &Errand, now: Timestamp) {
        let times = self.of(errand).map_or(1, |failed| failed.times.saturating_add(1));
        let key = key(errand);
        if self.failed.len() >= MOST_REMEMBERED && !self.failed.contains_key(&key) {
            return;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1u32.checked_shl(times - 1).unwrap_or(u32::MAX))
            .min(LONGEST_PAUSE);
        let failed = Failed {
            to: errand.to,
            digest: errand.digest.clone(),
            times,
            not_before: now.checked_add(pause).unwrap_or(Timestamp::MAX),
        };
        self.failed.insert(key, failed);
    }

    /// Notes a success.
    pub fn succeeded(&mut self, errand: &Errand) {
        self.failed.remove(&key(errand));
    }

    /// Forgets the tags that `keep` does not name: those that are no longer missing.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.failed.retain(|(repository, tag), _| keep(repository, tag));
    }

    /// Tags whose last copy failed.
    pub fn len(&self) -> usize {
        self.failed.len()
    }

    /// Whether none failed.
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    fn of(&self, errand: &Errand) -> Option<&Failed> {
        if self.is_empty() {
            return None;
        }
        self.failed
            .get(&key(errand))
            .filter(|failed| failed.to == errand.to && failed.digest == errand.digest)
    }
}

fn key(errand: &Errand) -> (String, String) {
    (errand.repository.clone(), errand.tag.clone())
}
