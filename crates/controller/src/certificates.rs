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
mod schedule;
mod serving;
mod settings;

pub use keeper::run;
pub use schedule::{Schedule, ScheduleError};
pub use serving::{NotReady, ServingCertificate};
pub use settings::{CertificateSettings, Source};

#[cfg(test)]
mod tests;
