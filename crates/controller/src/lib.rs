//! The controller: carries out what `catamaran-core` decides.
//!
//! Every replica probes the registries of all mirrors and publishes a snapshot for its webhook; only the holder of the lease
//! compares tags, writes status and evidence, and rescues pods.
//!
//! Modules in reading order: [`publish`] watches mirrors and keeps the snapshot and the evidence; [`mirrors`] runs one task for each
//! mirror, which feeds its machine and carries out its effects; [`endpoints`] probes each registry once for all of them; [`pods`] reads pods, rescues those that wait for an image, and says
//! what is in use; [`proofs`] makes pods that pull from the fallback; [`pull_secrets`] mints credentials for pods; [`notifications`] takes a registry's notification as a reason to look
//! at a tag. [`connections`] turns Secrets into registry clients; [`writes`] limits how many writes are under way; [`reviews`] notices when the webhook is not asked; [`context`], [`clock`], [`events`] and [`metrics`] are shared.

pub mod clock;
pub mod connections;
pub mod context;
// Its parts are in tests/ and see what is private, which an integration test could not.
#[cfg(test)]
#[path = "../tests/disclosure/mod.rs"]
mod disclosure;
pub mod endpoints;
pub mod events;
pub mod metrics;
pub mod mirrors;
pub mod notifications;
pub mod pods;
pub mod proofs;
pub mod publish;
pub mod pull_secrets;
pub mod reviews;
#[cfg(test)]
#[path = "../tests/testbed/mod.rs"]
mod testbed;
pub mod writes;
