//! A bounded OCI distribution client: probing, listing, resolving and copying tags.
//!
//! It talks to registries, and to the services that say who we are to them: no Kubernetes, no decisions about mirrors, no
//! files but the tokens that such a service is shown. Whatever a registry
//! answers, the cost is bounded: every body, page, header, wait and redirect has a cap, see [`Limits`]. A credential goes
//! to the registry it belongs to and to the token endpoints admitted for it, never anywhere else.
//!
//! Reading order: [`connection`] is what one side of a mirror is, [`limits`] what a request to it may cost, [`credentials`] and
//! [`secret`] what it authenticates with; [`identity`] what it gets from its cloud instead. [`failure`] names everything that can
//! go wrong, [`error`] why there is no client at all. `address`, `dns` and `tls` guard the way to a host; `transport` makes of one
//! `ask` one bounded `reply`, and `mask` keeps what was asked with out of messages. `challenge`, `provider`, `exchange` and `token`
//! authenticate (`renewed` keeps what expires, `jwt` reads how soon, `json` what strangers write); `session` joins them;
//! [`budget`] paces them. `listing`, `manifest` and `blob` are what it is for. [`client`] is the face of all that, [`probe`] climbs
//! the ladder that a kubelet would, [`ladder`] does so for a person; [`pull`] makes credentials for pods, [`copy`](mod@copy) brings
//! a tag to another registry.

mod address;
mod answer;
mod ask;
mod blob;
mod broken;
pub mod budget;
mod challenge;
pub mod client;
pub mod connection;
pub mod copy;
pub mod credentials;
mod dns;
pub mod error;
mod exchange;
pub mod failure;
pub mod identity;
mod json;
mod jwt;
pub mod ladder;
pub mod limits;
mod listing;
mod manifest;
mod mask;
mod path;
pub mod probe;
mod provider;
pub mod pull;
mod renewed;
mod reply;
pub mod secret;
mod session;
mod tls;
mod token;
mod transport;
mod wait;

pub use budget::{Budget, Budgets, CopyBudget};
pub use client::Client;
pub use connection::{ClientIdentity, Connection};
pub use copy::{Copied, Copier, CopyError, CopyLimits, CopySettings, Image};
pub use credentials::{Credentials, CredentialsError, UnsupportedCredentials};
pub use error::ClientError;
pub use failure::{Class, Failure, Rung};
pub use identity::{AzureIdentity, Endpoints, Identities, Identity};
pub use ladder::{Climbed, LadderTarget};
pub use limits::Limits;
pub use listing::{ListedTag, Lock};
pub use manifest::{Manifest, Resolved};
pub use probe::{ProbeReport, ProbeTarget};
#[cfg(feature = "aws")]
pub use provider::aws::identity::AwsIdentity;
pub use pull::{PullCredential, PullError};
pub use secret::Secret;
