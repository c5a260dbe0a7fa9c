//! Listing and resolving.

use std::sync::Arc;

use bytes::Bytes;
use catamaran_core::digest::Digest;
use catamaran_core::health::Unavailable;
use rustls::client::danger::ServerCertVerifier;

use crate::budget::{Budget, CopyBudget};
use crate::connection::{Connection, Limits};
use crate::dns::{self, Guard};
use crate::exchange::Exchange;
use crate::failure::{Class, Failure, Rung};
use crate::listing::{Lock, Marker};
use crate::provider::{Access, Site};
use crate::session::Session;
use crate::tls;
use crate::token::Tokens;
use crate::transport::Http;

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The registry or one of its token hosts is not `host[:port]`.
    #[error("failed to read the registry {registry:?} or one of its token hosts: not host[:port]")]
    BadRegistry {
        /// The registry as given.
        registry: String,
    },
    /// The extra certificates can't be used, or no certificate is trusted at all.
    #[error("failed to load the trusted certificates: {0}")]
    BadCa(String),
    /// The HTTP client can't be built.
    #[error("failed to build the HTTP client: {0}")]
    Http(String),
}

/// A tag as a registry lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTag {
    /// The tag.
    pub name: String,
    /// Its digest, where the registry lists digests.
    pub digest: Option<Digest>,
    /// What the registry forbids about it, where it says so.
    pub locked: Option<Lock>,
}

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The manifest's digest.
    pub digest: Digest,
    /// Whether the content was hashed; otherwise the registry's word stands for it.
    pub verified: bool,
}

/// A manifest whose content has the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// `Content-Type`, as the registry gave it.
    pub media_type: Option<String>,
    /// The content, at most 4 MiB by default.
    pub body: Bytes,
}

/// A registry's client. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) session: Session,
    pub(crate) guard: Arc<Guard>,
    pub(crate) verifier: Arc<dyn ServerCertVerifier>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("site", &self.shared.session.site)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with a budget of its own, the provider's default.
    ///
    /// Reads the system's certificates; makes no connection.
    pub fn new(connection: Connection, limits: Limits) -> Result<Client, ClientError> {
        let budget = Budget::per_minute(Budget::default_for(connection.provider));
        Client::with_budget(connection, limits, Arc::new(budget))
    }

    /// A client that shares a budget with others of the same registry; see [`crate::Budgets`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a connection holds credentials: it is given away, not kept around"
    )]
    pub fn with_budget(connection: Connection, limits: Limits, budget: Arc<Budget>) -> Result<Client, ClientError> {
        Client::resolving_by(&connection, limits, budget, dns::system)
    }

    pub(crate) fn resolving_by(
        connection: &Connection,
        limits: Limits,
        budget: Arc<Budget>,
        lookup: dns::Lookup,
    ) -> Result<Client, ClientError> {
        let site = Site::new(connection).ok_or_else(|| ClientError::BadRegistry {
            registry: connection.registry.chars().take(255).collect(),
        })?;
        let site = Arc::new(site);
        let guard = Arc::new(Guard::new(connection, &site.base, lookup));
        let verifier = tls::verifier(connection.extra_ca.as_deref())?;
        let http = Http::new(guard.clone(), verifier.clone(), limits)?;
        let tokens = Tokens::new(site.scheme());
        let exchange = Exchange::new(&site, &http);
        let session = Session {
            site,
            http,
            tokens,
            exchange,
            budget: Some(budget),
            writes: None,
            access: Access::Read,
        };
        Ok(Client {
            shared: Arc::new(Shared {
                session,
                guard,
                verifier,
            }),
        })
    }

    /// A client of the same registry for copying: with budgets and limits of its own, and the same guards.
    pub(crate) fn for_copies(&self, budget: CopyBudget, limits: Limits, access: Access) -> Result<Client, ClientError> {
        let Shared {
            session,
            guard,
            verifier,
        } = &*self.shared;
        let session = Session {
            site: session.site.clone(),
            http: Http::new(guard.clone(), verifier.clone(), limits)?,
            tokens: Tokens::new(session.site.scheme()),
            exchange: session.exchange.clone(),
            budget: Some(budget.reads),
            writes: Some(budget.writes),
            access,
        };
        Ok(Client {
            shared: Arc::new(Shared {
                session,
                guard: guard.clone(),
                verifier: verifier.clone(),
            }),
        })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// All tags of a repository (full path), sorted by name, each once; with digests where the registry lists them.
    ///
    /// A repository that does not exist is a [`Failure::is_absent`].
    pub async fn list_tags(&self, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        let limit = self.shared.session.http.limits.listing;
        tokio::time::timeout(limit, self.shared.session.list_tags(repository))
            .await
            .unwrap_or_else(|_| {
                let message = format!("failed to list the tags of {repository:?} within {} s", limit.as_secs());
                Err(Failure::new(
                    Rung::Tags,
                    Class::Unavailable(Unavailable::Timeout),
                    message,
                ))
            })
    }

    /// What a repository looks like now, in one request; `None` where the registry does not tell (all but Azure).
    ///
    /// A marker equal to the one taken before the last listing says that the listing still holds, as far as the registry
    /// counts its changes; see [`Marker`]. A repository that does not exist is a [`Failure::is_absent`].
    pub async fn marker(&self, repository: &str) -> Result<Option<Marker>, Failure> {
        self.shared.session.marker(repository).await
    }

    /// Whether a repository differs from `last`, in one request; `true` where the registry does not tell.
    pub async fn changed_since(&self, repository: &str, last: &Marker) -> Result<bool, Failure> {
        Ok(self.marker(repository).await?.as_ref() != Some(last))
    }

    /// Why a tag that exists can't be pulled, listed or overwritten, in two requests; `None` when nothing is locked, or
    /// where the registry has no locks (all but Azure). A tag that does not exist is a failure.
    pub async fn lock_of(&self, repository: &str, tag: &str) -> Result<Option<Lock>, Failure> {
        self.shared.session.lock_of(repository, tag).await
    }

    /// The digest of a tag, or of a digest if the registry has it.
    ///
    /// The registry's word is taken for it (`verified: false`) unless it gives none. A manifest that does not exist is a
    /// [`Failure::is_absent`].
    pub async fn resolve(&self, repository: &str, reference: &str) -> Result<Resolved, Failure> {
        self.shared.session.resolve(repository, reference).await
    }

    /// The same from the content: for samples. A registry whose word and content differ is a [`Class::LyingDigest`].
    pub async fn resolve_verified(&self, repository: &str, reference: &str) -> Result<Resolved, Failure> {
        self.shared.session.resolve_by_content(repository, reference).await
    }

    /// A manifest or index, its content checked against its digest.
    pub async fn fetch_manifest(&self, repository: &str, reference: &str) -> Result<Manifest, Failure> {
        self.shared.session.manifest(repository, reference).await
    }
}
