//! The webhook's certificates: the operator's own CA, the leaf that it serves with, and their rotation.
//!
//! Everything lives in **one named Secret** of the operator's namespace: `ca.crt` (a bundle, newest first), `ca.key` (the
//! key of the newest), `tls.crt`, `tls.key`. The first replica creates it. The leader publishes `ca.crt` as `caBundle`
//! in the webhook configuration and rotates; every replica reads both objects by name every [`Schedule::poll`] and serves
//! what it finds, keeping its last good pair when it finds nothing usable.
//!
//! A rotation of the CA never leaves an API server with a bundle that lacks the CA of a leaf some replica
//! may still serve:
//!
//! 1. the new CA joins the bundle in the Secret (the leaf stays),
//! 2. the bundle is published,
//! 3. [`Schedule::propagation`] after it was *seen* in the configuration, a leaf of the new CA replaces the old one,
//! 4. when the last leaf of the old CA has expired, the old CA leaves the bundle.
//!
//! Each step is one guarded write, and the next one is derived from what is stored alone: a crash between any two of them
//! only delays the rest. Its private key is gone since step 1, so keeping an old CA trusted costs nothing.
//!
//! An administrator or cert-manager may manage the Secret instead ([`Source`]): then nothing is issued and the Secret is never
//! written. While a release changes from one manager to another, old and new replicas serve under different CAs: a new one adds
//! its CA to the published bundle after 15 s (`plan::JOIN_AFTER`), and the leader keeps CAs there that it doesn't know for ten
//! minutes (`plan::FOREIGN_KEPT`).
//!
//! Reading order: `plan` decides, `material` is what the Secret holds, `issue` makes keys and certificates,
//! [`ServingCertificate`] is what the TLS server and the readiness probe use, [`run`] does the I/O.

mod issue;
mod manager;
mod material;
mod plan;
mod schedule;
mod serving;
mod settings;

pub use manager::run;
pub use material::VerifyError;
pub use schedule::{Schedule, ScheduleError};
pub use serving::{NotReady, ServingCertificate};
pub use settings::{CertificateSettings, Source};

#[cfg(test)]
mod tests;
