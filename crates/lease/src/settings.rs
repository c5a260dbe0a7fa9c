//! Where the lease is, who asks for it, and how long it lasts.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// Where the lease is and who asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSettings {
    /// The namespace of the Lease: the operator's own.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who this process is. It must differ between processes that live at the same time; the pod's name does. A
    /// restarted container with the name of its predecessor takes the lease over at once, which is what is wanted.
    pub identity: String,
    /// How long the lease lasts and how often it is renewed.
    pub timing: Timing,
    /// What a Lease that we create belongs to; absent, it stays behind when the operator is removed.
    pub owner: Option<OwnerReference>,
}

impl LeaseSettings {
    /// Settings with the default [`Timing`].
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            timing: Timing::default(),
            owner: None,
        }
    }

    /// The same, for a Lease that goes with its owner.
    #[must_use]
    pub fn owned_by(self, owner: Option<OwnerReference>) -> Self {
        Self { owner, ..self }
    }
}

/// The three lengths of an election. [`Default`]: 12 s, 8 s, 2 s, so that a leader that is gone is replaced within 15 s: it may
/// take [`Timing::retry`] until its last renewal is seen, and [`Timing::duration`] from there. The proportions, and with them
/// how much faster one machine's clock may run than another's, are client-go's (15 s, 10 s, 2 s).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    duration: Duration,
    renew_deadline: Duration,
    retry: Duration,
}

impl Timing {
    /// `duration` > `renew_deadline` > 1.2 × `retry` > 0, as client-go demands; `duration` at least 1 s, because the
    /// record holds whole seconds.
    pub fn new(duration: Duration, renew_deadline: Duration, retry: Duration) -> Result<Self, TimingError> {
        let ordered = duration > renew_deadline && renew_deadline > retry.mul_f64(1.2) && !retry.is_zero();
        if ordered && duration >= Duration::from_secs(1) && duration.as_secs() < i32::MAX as u64 {
            Ok(Self {
                duration,
                renew_deadline,
                retry,
            })
        } else {
            Err(TimingError {
                duration,
                renew_deadline,
                retry,
            })
        }
    }

    /// How long others leave a record alone that they don't see change.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// How long the holder acts after the beginning of its last successful renewal.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// The pause between two attempts.
    pub fn retry(&self) -> Duration {
        self.retry
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(12),
            renew_deadline: Duration::from_secs(8),
            retry: Duration::from_secs(2),
        }
    }
}

/// Lengths with which a holder could still act while another takes the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to accept the lease timing: duration {duration:?} must exceed renew deadline {renew_deadline:?}, \
     which must exceed 1.2 times retry {retry:?}"
)]
pub struct TimingError {
    /// The refused duration.
    pub duration: Duration,
    /// The refused renew deadline.
    pub renew_deadline: Duration,
    /// The refused retry period.
    pub retry: Duration,
}
