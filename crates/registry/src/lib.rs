//! A bounded OCI distribution client: probing, listing, resolving and copying tags.
//!
//! It talks to registries, and to the services that say who we are to them: no Kubernetes, no decisions about mirrors, no
//! files but the tokens that such a service is shown. Whatever a registry
//! answers, the cost is bounded: every body, page, header, wait and redirect has a cap, see [`Limits`]. A credential goes
//! to the registry it belongs to and to the token endpoints admitted for it, never anywhere else.
//!
//! Its modules are layers: each uses only those above it in this list. `wire` makes one bounded request; `auth` is what we authenticate
//! with, `tags` what a registry says of its tags, `budget` how many requests it gets; [`Connection`] is what one side of a mirror is.
//! `protocol` says what a provider is, and `providers` has one folder for each. `session` makes authenticated requests, `content`
//! reads tags, manifests and blobs by them, `client` is the face of that; `diagnose` says what stands between us and an image, and
//! [`copy`](mod@copy) brings a tag to another registry.

mod auth;
mod budget;
mod client;
mod connection;
mod content;
pub mod copy;
mod diagnose;
mod protocol;
mod providers;
mod session;
mod tags;
mod wire;

pub use auth::credentials::Credentials;
pub use auth::identity::{self, Identities, Identity, Surroundings};
pub use auth::keyring::{CredentialsError, Keyring, names_host};
pub use auth::kind::{CredentialKind, Presented, UnsupportedCredentials};
pub use auth::pull::{PullCredential, PullError};
pub use budget::{Budget, Budgets, CopyBudget};
pub use client::Client;
pub use connection::Connection;
pub use content::manifest::Manifest;
pub use copy::{Copied, Copier, CopyError, CopyLimits, CopySettings, Image};
pub use diagnose::probe::{ProbeReport, ProbeTarget};
pub use diagnose::steps::{self, DiagnosisTarget, StepResult};
pub use protocol::advice;
pub use providers::{advice as advice_for, aws, azure, github, google};
pub use tags::{ListedTag, Lock, Resolved};
pub use wire::error::ClientError;
pub use wire::failure::{Class, Failure, Stage};
pub use wire::limits::Limits;
pub use wire::secret::Secret;
pub use wire::tls::ClientIdentity;
