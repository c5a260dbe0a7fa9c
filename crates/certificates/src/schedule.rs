//! How long certificates last, and what a rotation waits for.

use std::time::Duration;

/// X.509 counts whole seconds: a shorter life could be due as soon as it begins.
const SHORTEST_LEAF: Duration = Duration::from_secs(10);

/// Lifetimes and pauses. [`Default`]: CA 1 year, leaf 30 days, propagation 1 minute, poll 10 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    ca: Duration,
    leaf: Duration,
    propagation: Duration,
    poll: Duration,
}

impl Schedule {
    /// A CA and a leaf are replaced when a third of their life is left, so a leaf may last a third of an
    /// CA's life at most, six propagations and 10 s at least, and a poll no longer than a propagation.
    pub fn new(ca: Duration, leaf: Duration, propagation: Duration, poll: Duration) -> Result<Self, ScheduleError> {
        let bounded = ca <= Duration::from_hours(24 * 3650) && leaf >= SHORTEST_LEAF;
        if bounded && leaf * 3 <= ca && propagation * 6 <= leaf && poll <= propagation && !poll.is_zero() {
            Ok(Self {
                ca,
                leaf,
                propagation,
                poll,
            })
        } else {
            Err(ScheduleError {
                ca,
                leaf,
                propagation,
                poll,
            })
        }
    }

    /// A schedule for these lives, with the usual pauses or, for lives of minutes, shorter ones. Below an hour the clocks of all
    /// replicas and API servers must agree to the second.
    pub fn lasting(ca: Duration, leaf: Duration) -> Result<Self, ScheduleError> {
        let usual = Self::default();
        let propagation = usual.propagation.min(leaf / 6);
        Self::new(ca, leaf, propagation, usual.poll.min(propagation))
    }

    /// How long a CA lasts.
    pub fn ca(&self) -> Duration {
        self.ca
    }

    /// How long a leaf lasts.
    pub fn leaf(&self) -> Duration {
        self.leaf
    }

    /// From seeing a bundle in the configuration to relying on it: every API server has it by then, every replica has read
    /// the Secret.
    pub fn propagation(&self) -> Duration {
        self.propagation
    }

    /// The pause between two reads of the Secret and the configuration.
    pub fn poll(&self) -> Duration {
        self.poll
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            ca: Duration::from_hours(24 * 365),
            leaf: Duration::from_hours(24 * 30),
            propagation: Duration::from_mins(1),
            poll: Duration::from_secs(10),
        }
    }
}

/// Lengths with which a rotation could not end before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to accept the certificate schedule: poll {poll:?} must not exceed propagation {propagation:?}, six propagations \
     and 10 s must fit into leaf {leaf:?}, three leaves into CA {ca:?}, that into ten years"
)]
pub struct ScheduleError {
    /// The refused lifetime of a CA.
    pub ca: Duration,
    /// The refused lifetime of a leaf.
    pub leaf: Duration,
    /// The refused propagation time.
    pub propagation: Duration,
    /// The refused pause between two reads.
    pub poll: Duration,
}
