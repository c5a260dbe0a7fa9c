//! Which sides of mirrors are the same endpoint.

use std::time::Duration;

use catamaran_core::digest::Digest;
use catamaran_core::policy::{MirrorPolicy, SidePolicy};
use catamaran_core::side::Side;

/// A registry, how it is reached, the credential, and how long a probe may take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointKey {
    pub(crate) side: SidePolicy,
    pub(crate) timeout: Duration,
}

impl EndpointKey {
    pub(crate) fn of(policy: &MirrorPolicy, side: Side) -> EndpointKey {
        EndpointKey {
            side: policy.sides[side].endpoint(),
            timeout: policy.health.timeout,
        }
    }

    /// The same in every replica of one version: the registry, and a sum of all the rest.
    pub(crate) fn id(&self) -> String {
        let sum = Digest::of(format!("{self:?}").as_bytes()).to_string();
        let sum = sum.rsplit(':').next().unwrap_or_default();
        format!("{}/{}", self.side.registry, &sum[..sum.len().min(12)])
    }

    /// By which part of an interval, in thousandths, this endpoint is probed later than others of this process.
    pub(crate) fn phase(&self) -> u32 {
        let sum = self
            .side
            .registry
            .bytes()
            .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        sum % 1_000
    }
}
