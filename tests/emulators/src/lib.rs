//! Registries and identity services as the clouds run them, small enough for a test.
//!
//! Each emulator speaks its service's own protocol, with its limits, refusals and oddities, and knows nothing of the
//! crates that are tested against it: what both sides believe must come from the services' documentation.
//!
//! Reading order: [`server`] is an HTTPS (or plain HTTP) server on loopback that hands each [`Request`] to a [`Service`]
//! and keeps a [`Log`] of it; [`authority`] makes its certificates; [`clock`] is the time that tokens expire by, moved by
//! tests; [`store`] holds repositories, in memory or in a real distribution registry behind it; [`jwt`] makes tokens.
//! Emulators are [`Service`]s in files of their own: [`acr`] (Azure Container Registry), [`entra`] (the token endpoint of
//! Microsoft Entra ID, for federated credentials) and [`managed`] (managed identities: App Service and instance metadata);
//! [`ghcr`] (GitHub Container Registry) and [`github_rest`] (its list of package versions); [`ecr`] (Amazon Elastic
//! Container Registry with the account's interface) and [`aws`] (identities at Amazon: STS, Pod Identity, instance metadata);
//! [`gar`] (Google Artifact Registry) and [`google`] (identities at Google: metadata server, Security Token Service, impersonation).
//! [`hosts`] puts several of them behind one address, by the name that the client asks for.
//!
//! The program `emulator` ([`program`]) serves one of them in a process of its own; see [`control`] for what it is told while it
//! runs.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use std::sync::Arc;
//! use catamaran_emulators::{Acr, Clock, Memory, Options, Server};
//!
//! let clock = Clock::new();
//! let memory = Arc::new(Memory::new(clock.clone()));
//! memory.push("web", "1.0", "first");
//! let acr = Arc::new(Acr::new("kracr.azurecr.io", memory, clock.clone()));
//! let server = Server::start(acr.clone(), Options { clock, ..Options::default() }).await?;
//! assert_eq!(server.log().count("token"), 0);
//! # Ok(())
//! # }
//! ```

pub mod acr;
pub mod authority;
pub mod aws;
pub mod clock;
pub mod control;
pub mod ecr;
pub mod entra;
pub mod gar;
pub mod ghcr;
pub mod github_rest;
pub mod google;
pub mod hosts;
pub mod jwt;
pub mod log;
pub mod managed;
pub mod message;
pub mod program;
pub mod server;
pub mod store;

pub use acr::Acr;
pub use authority::Authority;
pub use aws::Aws;
pub use clock::Clock;
pub use ecr::Ecr;
pub use gar::Gar;
pub use ghcr::Ghcr;
pub use github_rest::GithubRest;
pub use google::Google;
pub use hosts::Hosts;
pub use log::{Log, Recorded};
pub use message::{Answer, Request};
pub use server::{Answering, Options, Server, Service, Tls, Wire};
pub use store::{Memory, Proxy, Storage, Tag};
