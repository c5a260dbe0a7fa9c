//! Identities that a cloud vouches for: no stored secret, only what expires.
//!
//! What an identity is to its cloud, only the folder of its provider knows: here it is something with a name. Most are sources of
//! tokens; [`IdentityTokens`] keeps what such a source gives. An identity is shared by every client and probe of a process, so that
//! its cloud is asked once in hours, not once for each probe.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::auth::renewed::{Fresh, Renewed};
use crate::wire::error::ClientError;
use crate::wire::failure::{Class, Failure, Stage, one_line};
use crate::wire::secret::Secret;

/// What an identity is to its provider's folder.
pub(crate) trait CloudIdentity: Any + Send + Sync {
    /// What messages call it: `workload identity 1b4f…`.
    fn name(&self) -> &str;
}

/// One identity: cheap to clone, clones share its tokens. Equal only to its clones.
#[derive(Clone)]
pub struct Identity(Arc<dyn CloudIdentity>);

impl Identity {
    pub(crate) fn new(identity: impl CloudIdentity) -> Identity {
        Identity(Arc::new(identity))
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The identity as a provider has it; `None` when it is another provider's.
    pub(crate) fn of<T: CloudIdentity>(&self) -> Option<Arc<T>> {
        let identity: Arc<dyn Any + Send + Sync> = self.0.clone();
        identity.downcast().ok()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name()).finish()
    }
}

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

/// The tokens of one identity.
pub(crate) struct IdentityTokens {
    name: String,
    source: Arc<dyn TokenSource>,
    token: Renewed<Secret<String>>,
}

impl IdentityTokens {
    pub(crate) fn new(name: impl Into<String>, source: Arc<dyn TokenSource>) -> IdentityTokens {
        IdentityTokens {
            name: name.into(),
            source,
            token: Renewed::default(),
        }
    }

    /// What messages call the identity.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The token, if one is known that is good now.
    pub(crate) fn current(&self) -> Option<Secret<String>> {
        self.token.current()
    }

    /// The cloud's token: fetched once for everyone, renewed at half of its life, used to its end while that fails.
    pub(crate) async fn token(&self) -> Result<Secret<String>, Failure> {
        let fetch = || {
            let (fetching, name) = (self.source.fetch(), self.name.clone());
            let fetched = async move {
                let fetched = fetching.await.map_err(|error| {
                    tracing::warn!(identity = %name, %error, "failed to get a token");
                    let message = format!("{name}: {}", one_line(&error.0));
                    Failure::new(Stage::Identity, Class::CredentialsUnavailable, message)
                })?;
                Ok(Fresh {
                    value: fetched.token,
                    life: fetched.life,
                })
            };
            Box::pin(fetched) as Pin<Box<_>>
        };
        self.token.get(fetch).await
    }

    /// Has the next token fetched anew: this one was refused as one that is not good. Whether another can be had.
    pub(crate) fn distrust(&self, refused: &Secret<String>) -> bool {
        self.token.distrust(refused)
    }
}

/// What a cloud gives to this process besides the network. The default has nothing of this process' environment.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Variables of the environment that a provider reads.
    pub variables: BTreeMap<String, String>,
    /// Certificates (PEM) that are trusted besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Fixed addresses of identity services, by host name, instead of DNS.
    pub resolve: Vec<(String, SocketAddr)>,
    /// Where instance metadata is served, if not at its usual address.
    pub metadata: Option<SocketAddr>,
    /// What the machine's firmware calls it: clouds put their names there.
    pub machine: Option<String>,
}

impl Surroundings {
    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&String> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be keys.
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Surroundings")
            .field("variables", &names)
            .finish_non_exhaustive()
    }
}

/// All identities of a process, each once.
#[derive(Debug)]
pub struct Identities {
    pub(crate) surroundings: Surroundings,
    pool: Mutex<HashMap<String, Identity>>,
}

impl Identities {
    /// None yet.
    pub fn new(surroundings: Surroundings) -> Identities {
        Identities {
            surroundings,
            pool: Mutex::default(),
        }
    }

    /// The identity of this name, which says everything about it; made once.
    pub(crate) fn once(
        &self,
        name: String,
        make: impl FnOnce(&Surroundings) -> Result<Identity, ClientError>,
    ) -> Result<Identity, ClientError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = pool.get(&name) {
            return Ok(identity.clone());
        }
        let identity = make(&self.surroundings)?;
        pool.insert(name, identity.clone());
        Ok(identity)
    }
}
