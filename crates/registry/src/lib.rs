//! A bounded OCI distribution client: probing, listing and resolving tags.
//!
//! It talks to registries, and to the services that say who we are to them: no Kubernetes, no decisions about mirrors, no
//! files but the tokens that such a service is shown. Whatever a registry
//! answers, the cost is bounded: every body, page, header, wait and redirect has a cap, see [`Limits`]. A credential goes
//! to the registry it belongs to and to the token endpoints admitted for it, never anywhere else.
//!
//! Reading order: [`connection`] is what one side of a mirror is, [`credentials`] and [`secret`] what it authenticates with;
//! [`failure`] names everything that can go wrong; `address`, `dns` and `tls` guard the way to a host, `transport` makes
//! one bounded request; `challenge`, `provider` and `token` authenticate; `session` joins them; [`budget`] paces them;
//! [`client`] lists and resolves, [`probe`] climbs the ladder that a kubelet would. `scripted` (a feature) is an
//! in-process registry for tests and benchmarks.

mod address;
mod answer;
mod blob;
mod broken;
pub mod budget;
mod challenge;
pub mod client;
pub mod connection;
pub mod credentials;
mod dns;
pub mod failure;
mod listing;
mod manifest;
mod path;
pub mod probe;
mod provider;
#[cfg(feature = "scripted")]
pub mod scripted;
pub mod secret;
mod session;
mod tls;
mod token;
mod transport;
mod wait;

pub use budget::{Budget, Budgets};
pub use client::{Client, ClientError, ListedTag, Manifest, Resolved};
pub use connection::{ClientIdentity, Connection, Limits};
pub use credentials::{Credentials, CredentialsError, UnsupportedCredentials};
pub use failure::{Class, Failure, Rung};
pub use probe::{ProbeReport, ProbeTarget};
#[cfg(feature = "aws")]
pub use provider::aws::AwsIdentity;
pub use secret::Secret;
