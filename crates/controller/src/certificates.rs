//! The webhook's certificates: the operator's own authority, the leaf it serves with, and their rotation.
//!
//! Everything lives in **one named Secret** of the operator's namespace: `ca.crt` (a bundle, newest first), `ca.key` (the
//! key of the newest), `tls.crt`, `tls.key`. Whoever comes first creates it. The leader publishes `ca.crt` as `caBundle`
//! in the webhook configuration and rotates; every replica reads both objects by name every [`Schedule::poll`] and serves
//! what it finds, keeping its last good pair when it finds nothing usable.
//!
//! A rotation of the authority never leaves an API server with a bundle that lacks the authority of a leaf some replica
//! may still serve:
//!
//! 1. the new authority joins the bundle in the Secret (the leaf stays),
//! 2. the bundle is published,
//! 3. [`Schedule::propagation`] after it was *seen* in the configuration, a leaf of the new authority replaces the old one,
//! 4. when the last leaf of the old authority has expired, the old authority leaves the bundle.
//!
//! Each step is one guarded write, and the next one is derived from what is stored alone: a crash between any two of them
//! only delays the rest. Its private key is gone since step 1, so keeping an old authority trusted costs nothing.
//!
//! Somebody else may keep the Secret instead ([`Source`]): then nothing is issued and the Secret is never written. While a
//! release goes over from one keeper to another, old and new replicas serve under different authorities: a new one adds its
//! authority to the published bundle ([`plan::JOIN_AFTER`]), and who leads leaves there what it doesn't know for a while
//! ([`plan::FOREIGN_KEPT`]).
//!
//! Reading order: [`plan`](mod@plan) decides, [`material`] is what the Secret holds, [`issue`] makes keys and certificates,
//! [`ServingCertificate`] is what the TLS server and the readiness probe use, [`run`] does the I/O.

pub mod issue;
mod keeper;
pub mod material;
pub mod plan;
mod serving;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
pub use keeper::run;
pub use serving::{NotReady, ServingCertificate};

/// Which objects, and how long things last.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateSettings {
    /// The operator's own namespace: of the Secret and of the Service.
    pub namespace: String,
    /// The Secret. Rights: `get`, `update` by name, and `create`.
    pub secret: String,
    /// What a Secret that we create belongs to; absent, it stays behind when the operator is removed.
    pub owner: Option<OwnerReference>,
    /// The `MutatingWebhookConfiguration` to publish into. Rights: `get`, `patch` by name.
    pub configuration: String,
    /// The Service in front of the webhook. Only webhooks that point at it are touched.
    pub service: String,
    /// Who keeps the Secret and the caBundle.
    pub source: Source,
    /// How long things last.
    pub schedule: Schedule,
}

/// Who keeps the Secret and the caBundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The operator keeps both.
    #[default]
    Own,
    /// Somebody keeps the Secret, with `tls.crt`, `tls.key` and `ca.crt`; the leader publishes its `ca.crt`, once that vouches
    /// for the certificate beside it. Rights: `get` on the Secret.
    Given,
    /// Somebody keeps both, as cert-manager and its cainjector do. Rights: `get` on both.
    Injected,
}

impl CertificateSettings {
    /// The DNS names of the leaf; the first is the one that the API server asks for.
    pub fn dns_names(&self) -> Vec<String> {
        dns_names(&self.service, &self.namespace)
    }
}

fn dns_names(service: &str, namespace: &str) -> Vec<String> {
    let short = format!("{service}.{namespace}");
    vec![format!("{short}.svc"), format!("{short}.svc.cluster.local"), short]
}

/// X.509 counts whole seconds: a shorter life could be due as soon as it begins.
const SHORTEST_LEAF: Duration = Duration::from_secs(10);

/// Lifetimes and pauses. [`Default`]: authority 1 year, leaf 30 days, propagation 1 minute, poll 10 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    authority: Duration,
    leaf: Duration,
    propagation: Duration,
    poll: Duration,
}

impl Schedule {
    /// An authority and a leaf are replaced when a third of their life is left, so a leaf may last a third of an
    /// authority's life at most, six propagations and 10 s at least, and a poll no longer than a propagation.
    pub fn new(
        authority: Duration,
        leaf: Duration,
        propagation: Duration,
        poll: Duration,
    ) -> Result<Self, ScheduleError> {
        let bounded = authority <= Duration::from_hours(24 * 3650) && leaf >= SHORTEST_LEAF;
        if bounded && leaf * 3 <= authority && propagation * 6 <= leaf && poll <= propagation && !poll.is_zero() {
            Ok(Self {
                authority,
                leaf,
                propagation,
                poll,
            })
        } else {
            Err(ScheduleError {
                authority,
                leaf,
                propagation,
                poll,
            })
        }
    }

    /// A schedule for these lives, with the usual pauses or, for lives of minutes, shorter ones. Below an hour the clocks of all
    /// replicas and API servers must agree to the second.
    pub fn lasting(authority: Duration, leaf: Duration) -> Result<Self, ScheduleError> {
        let usual = Self::default();
        let propagation = usual.propagation.min(leaf / 6);
        Self::new(authority, leaf, propagation, usual.poll.min(propagation))
    }

    /// How long an authority lasts.
    pub fn authority(&self) -> Duration {
        self.authority
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

    /// The pause between two looks at the Secret and the configuration.
    pub fn poll(&self) -> Duration {
        self.poll
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            authority: Duration::from_hours(24 * 365),
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
     and 10 s must fit into leaf {leaf:?}, three leaves into authority {authority:?}, that into ten years"
)]
pub struct ScheduleError {
    /// The refused lifetime of an authority.
    pub authority: Duration,
    /// The refused lifetime of a leaf.
    pub leaf: Duration,
    /// The refused propagation time.
    pub propagation: Duration,
    /// The refused pause between two looks.
    pub poll: Duration,
}

#[cfg(test)]
mod tests;
