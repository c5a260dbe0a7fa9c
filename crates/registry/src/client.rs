//! Listing and resolving.

use std::sync::Arc;

use catamaran_core::endpoint::Unavailable;

use crate::auth::scheme::Scheme;
use crate::auth::token::Tokens;
use crate::budget::{Budget, Budgets, CopyBudget};
use crate::connection::Connection;
use crate::content::blob::Blobs;
use crate::content::manifest::Manifest;
use crate::protocol::Setup;
use crate::protocol::site::Site;
use crate::providers;
use crate::session::Session;
use crate::tags::{ListedTag, Lock, Resolved};
use crate::wire::ask::Access;
use crate::wire::dns::{self, Guard};
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::limits::Limits;
use crate::wire::tls::Trust;
use crate::wire::transport::Http;

mod pull;

/// A registry's client. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// For every repository that none of the others is for.
    pub(crate) session: Session,
    /// For the repositories that begin with a path, which have credentials of their own.
    below: Vec<(String, Session)>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) trust: Trust,
    /// What probes have learnt of authenticating, and the blob that each manifest leads to.
    pub(crate) probe_tokens: Arc<Tokens>,
    pub(crate) probe_blobs: Blobs,
}

impl Shared {
    fn new(session: Session, below: Vec<(String, Session)>, guard: Arc<Guard>, trust: Trust) -> Shared {
        Shared {
            session,
            below,
            guard,
            trust,
            probe_tokens: Arc::new(Tokens::new(Scheme::Unknown)),
            probe_blobs: Blobs::default(),
        }
    }
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
        Client::resolving_by(&connection, limits, &budget, &Budgets::new(), dns::system)
    }

    /// A client that shares the budgets of a process: the registry's, and those of the interfaces that list its tags in bulk.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a connection holds credentials: it is given away, not kept around"
    )]
    pub fn with_budgets(connection: Connection, limits: Limits, budgets: &Budgets) -> Result<Client, ClientError> {
        let budget = budgets.for_registry(&connection.registry, connection.provider);
        Client::resolving_by(&connection, limits, &budget, budgets, dns::system)
    }

    pub(crate) fn resolving_by(
        connection: &Connection,
        limits: Limits,
        budget: &Arc<Budget>,
        budgets: &Budgets,
        lookup: dns::Lookup,
    ) -> Result<Client, ClientError> {
        let site = Site::new(connection).ok_or_else(|| ClientError::BadRegistry {
            registry: connection.registry.chars().take(255).collect(),
        })?;
        let site = Arc::new(site);
        let guard = Arc::new(Guard::new(connection.addresses(), &site.base, lookup));
        let trust = Trust::new(connection.extra_ca.as_deref(), connection.client_identity.as_ref())?;
        let http = Arc::new(Http::new(guard.clone(), &trust, limits)?);
        let provider = providers::of(connection.provider);
        let tokens = Arc::new(Tokens::new(Scheme::Unknown));
        let session = |site: Arc<Site>| {
            let protocol = provider.connect(&Setup {
                site: &site,
                http: &http,
                budgets,
                trust: &trust,
            })?;
            Ok::<_, ClientError>(Session {
                site,
                http: http.clone(),
                tokens: tokens.clone(),
                provider,
                protocol,
                budget: Some(budget.clone()),
                writes: None,
                access: Access::Read,
                probes: false,
                spends: None,
            })
        };
        let own = session(site.clone())?;
        tokens.learn(own.protocol.known_scheme(&site));
        let below = connection.below.iter().map(|(path, credentials)| {
            let site = Arc::new(site.with(credentials.clone()));
            Ok((path.clone(), session(site)?))
        });
        let below = below.collect::<Result<_, ClientError>>()?;
        Ok(Client {
            shared: Arc::new(Shared::new(own, below, guard, trust)),
        })
    }

    /// A client of the same registry for copying: with budgets and limits of its own, and the same guards.
    pub(crate) fn for_copies(
        &self,
        budget: &CopyBudget,
        limits: Limits,
        access: &Access,
    ) -> Result<Client, ClientError> {
        let Shared {
            session,
            below,
            guard,
            trust,
            ..
        } = &*self.shared;
        let http = Arc::new(Http::new(guard.clone(), trust, limits)?);
        let tokens = Arc::new(Tokens::new(session.protocol.known_scheme(&session.site)));
        let copying = |session: &Session| Session {
            budget: Some(budget.reads.clone()),
            writes: Some(budget.writes.clone()),
            access: access.clone(),
            tokens: tokens.clone(),
            ..session.afresh(http.clone())
        };
        let below = below.iter().map(|(path, session)| (path.clone(), copying(session)));
        let shared = Shared::new(copying(session), below.collect(), guard.clone(), trust.clone());
        Ok(Client {
            shared: Arc::new(shared),
        })
    }

    /// What asks for a repository: with the credential that it has.
    pub(crate) fn session(&self, repository: &str) -> &Session {
        let Shared { session, below, .. } = &*self.shared;
        let found = below.iter().find(|(path, _)| repository.starts_with(path.as_str()));
        found.map_or(session, |(_, session)| session)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// All tags of a repository (full path), sorted by name, each once; with digests where the registry lists them.
    ///
    /// A repository that does not exist is a [`Failure::is_absent`].
    pub async fn list_tags(&self, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        let limit = self.session(repository).http.limits.listing;
        tokio::time::timeout(limit, self.session(repository).list_tags(repository))
            .await
            .unwrap_or_else(|_| {
                let message = format!("failed to list the tags of {repository:?} within {} s", limit.as_secs());
                Err(Failure::new(
                    Stage::Tags,
                    Class::Unavailable(Unavailable::Timeout),
                    message,
                ))
            })
    }

    /// Why a tag that exists can't be pulled, listed or overwritten, in two requests; `None` when nothing is locked, or
    /// where the registry has no locks (all but Azure). A tag that does not exist is a failure.
    pub async fn lock_of(&self, repository: &str, tag: &str) -> Result<Option<Lock>, Failure> {
        self.session(repository).lock_of(repository, tag).await
    }

    /// The digest of a tag, or of a digest if the registry has it.
    ///
    /// The registry's word is taken for it (`verified: false`) unless it gives none. A manifest that does not exist is a
    /// [`Failure::is_absent`].
    pub async fn resolve(&self, repository: &str, reference: &str) -> Result<Resolved, Failure> {
        self.session(repository).resolve(repository, reference).await
    }

    /// The same from the content: for samples. A registry whose word and content differ is a [`Class::LyingDigest`].
    pub async fn resolve_verified(&self, repository: &str, reference: &str) -> Result<Resolved, Failure> {
        let reference = self.session(repository).without_pulling(repository, reference).await?;
        self.session(repository)
            .resolve_by_content(repository, &reference)
            .await
    }

    /// A manifest or index, its content checked against its digest.
    pub async fn fetch_manifest(&self, repository: &str, reference: &str) -> Result<Manifest, Failure> {
        let reference = self.session(repository).without_pulling(repository, reference).await?;
        self.session(repository).manifest(repository, &reference).await
    }

    /// Has a pull-through cache import a tag, by asking for it as a kubelet would: the one request that is meant to. The
    /// registry imports everything that the manifest leads to by itself. With any other registry it only reads.
    pub async fn prewarm(&self, repository: &str, tag: &str) -> Result<Resolved, Failure> {
        self.session(repository).resolve_by_content(repository, tag).await
    }

    /// The path under which an account at Amazon caches an upstream registry (`ghcr.io`), by its pull-through cache rules;
    /// empty for the registry's root, `None` without a rule for all of the upstream.
    ///
    /// [`Class::CredentialsUnavailable`] for every client without an identity at Amazon.
    pub async fn pull_through_prefix(&self, upstream: &str) -> Result<Option<String>, Failure> {
        self.shared.session.protocol.cache_prefix(upstream).await
    }
}
