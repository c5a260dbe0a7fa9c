//! Identities that a cloud vouches for: no stored secret, only tokens that expire.
//!
//! An [`Identity`] gives the cloud's own token and remembers what each registry gave for it. It is shared by every client
//! and probe of a process, so that a registry sees one exchange in hours, not one for each probe.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::{Class, Failure, Rung, one_line};
use crate::renewed::{Fresh, Renewed};
use crate::secret::Secret;

pub mod azure;

pub use azure::{AzureIdentity, Endpoints, Identities};

/// Repositories that are remembered as readable.
const MOST_PROVEN: usize = 4096;

/// A token of a cloud's identity service.
#[derive(Clone, Debug)]
pub struct CloudToken {
    /// The token.
    pub token: Secret<String>,
    /// How long it is good for.
    pub life: Duration,
}

/// Why there is no token: one line that says what to do, without any secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(pub String);

/// A token on its way.
pub type CloudTokens = Pin<Box<dyn Future<Output = Result<CloudToken, IdentityError>> + Send>>;

/// Where tokens come from. It need not cache, nor retry.
pub trait TokenSource: Send + Sync {
    /// Asks for a new token. Bounded in time.
    fn fetch(&self) -> CloudTokens;
}

/// One identity: cheap to clone, clones share its tokens. Equal only to its clones.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    source: Arc<dyn TokenSource>,
    token: Renewed<Secret<String>>,
    registries: Mutex<HashMap<String, Membership>>,
}

/// What one registry gave to an identity. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    pub(crate) token: Renewed<RefreshToken>,
    proven: Arc<Mutex<HashSet<String>>>,
}

/// A registry's long-lived token, good only for getting others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) token: Secret<String>,
    /// Whether the registry grants by repository.
    pub(crate) abac: bool,
}

impl Identity {
    /// An identity that messages call `name`: `workload identity 1b4f… of tenant 72f9…`.
    pub fn new(name: impl Into<String>, source: Arc<dyn TokenSource>) -> Identity {
        let shared = Shared {
            name: name.into(),
            source,
            token: Renewed::default(),
            registries: Mutex::default(),
        };
        Identity {
            shared: Arc::new(shared),
        }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The cloud's token: fetched once for everyone, renewed at half of its life, used to its end while that fails.
    pub(crate) async fn token(&self) -> Result<Secret<String>, Failure> {
        let shared = &self.shared;
        let fetch = || {
            let (fetching, name) = (shared.source.fetch(), shared.name.clone());
            let fetched = async move {
                let fetched = fetching.await.map_err(|error| {
                    tracing::warn!(identity = %name, %error, "failed to get a token");
                    let message = format!("{name}: {}", one_line(&error.0));
                    Failure::new(Rung::Identity, Class::CredentialsUnavailable, message)
                })?;
                Ok(Fresh {
                    value: fetched.token,
                    life: fetched.life,
                })
            };
            Box::pin(fetched) as Pin<Box<_>>
        };
        shared.token.get(fetch).await
    }

    /// Has the next token fetched anew: this one was refused as one that is not good.
    pub(crate) fn distrust(&self, refused: &Secret<String>) {
        self.shared.token.distrust(refused);
    }

    /// What the registry at `host` (`host[:port]`) gave us.
    pub(crate) fn membership(&self, host: &str) -> Membership {
        let mut registries = self.shared.registries.lock().unwrap_or_else(PoisonError::into_inner);
        registries.entry(host.to_owned()).or_default().clone()
    }
}

impl Membership {
    fn proven(&self) -> MutexGuard<'_, HashSet<String>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the identity may read a repository.
    pub(crate) fn prove(&self, repository: &str) {
        let mut proven = self.proven();
        if !proven.contains(repository) && proven.len() < MOST_PROVEN {
            proven.insert(repository.to_owned());
        }
    }

    /// Whether the identity was ever let in: to the repository, or to the registry when none is named.
    pub(crate) fn is_proven(&self, repository: Option<&str>) -> bool {
        match repository {
            Some(repository) => self.proven().contains(repository),
            None => self.token.succeeded(),
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.shared.name).finish()
    }
}
