//! From Secrets and identities to registry clients.
//!
//! A client is made once for each side and made again when its Secrets change; they are read by `get` only, at most
//! once in [`REREAD`], and sooner after the registry refused the credential.

mod contents;
mod error;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use catamaran_core::policy::{IdentityPolicy, ManagedIdentity, MirrorId, MirrorPolicy, Provider, SidePolicy};
use catamaran_core::side::Side;
use catamaran_registry::{
    AzureIdentity, Budgets, Client, ClientIdentity, Connection, CopyBudget, Credentials, Endpoints, Identities, Limits,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

pub use contents::{certificates, credentials};
pub use error::{ConnectionError, Problem};

use crate::secrets;

/// How long a Secret's content is believed.
pub const REREAD: Duration = Duration::from_mins(1);

struct Cached {
    client: Client,
    version: Vec<Option<String>>,
    read: Instant,
    side: SidePolicy,
}

/// All registry clients of this process.
pub struct Connections {
    secrets: Api<Secret>,
    namespace: String,
    budgets: Arc<Budgets>,
    identities: Identities,
    cache: Mutex<HashMap<(Arc<str>, Side), Cached>>,
    /// Where hosts are, for tests whose registries are on this machine.
    #[cfg(test)]
    pub(crate) pinned: Vec<(String, std::net::SocketAddr)>,
}

impl Connections {
    /// Clients whose Secrets live in `namespace`, and which share `budgets` and the identities that this process' environment
    /// offers.
    pub fn new(client: kube::Client, namespace: &str, budgets: Arc<Budgets>) -> Connections {
        Connections {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            budgets,
            identities: Identities::new(Endpoints::from_environment()),
            cache: Mutex::default(),
            #[cfg(test)]
            pinned: Vec::new(),
        }
    }

    /// The client for one side of a mirror. The last good client is kept while the API server can't be asked.
    pub async fn client(&self, policy: &MirrorPolicy, side: Side) -> Result<Client, ConnectionError> {
        let key = (Arc::clone(&policy.id.uid), side);
        let wanted = &policy.sides[side];
        if let Some(client) = self.cached(&key, wanted, |cached| cached.read.elapsed() < REREAD) {
            return Ok(client);
        }
        match self.read(wanted).await {
            Ok(material) => self.keep(key, wanted, material),
            Err(error) if !error.needs_a_person() => self.cached(&key, wanted, |_| true).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// What copying may ask of a side, over all mirrors.
    pub fn copy_budget(&self, side: &SidePolicy) -> CopyBudget {
        self.budgets.for_copies(&side.registry, side.provider)
    }

    /// Has the Secrets of a side read again before its next use: its credential was refused.
    pub fn distrust(&self, id: &MirrorId, side: Side) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cache.get_mut(&(Arc::clone(&id.uid), side)) {
            // Not at every probe: a refused credential is looked at again every ten seconds.
            let earlier = Instant::now().checked_sub(REREAD.saturating_sub(Duration::from_secs(10)));
            cached.read = earlier.map_or(cached.read, |earlier| cached.read.min(earlier));
        }
    }

    /// Drops the clients of mirrors that are gone.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.budgets.retain(&mut keep);
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(uid, _), _| keep(uid));
    }

    /// Puts a client in, as if it had been made from Secrets just now.
    #[cfg(test)]
    pub(crate) fn seat(&self, policy: &MirrorPolicy, side: Side, client: Client) {
        let cached = Cached {
            client,
            version: Vec::new(),
            read: Instant::now(),
            side: policy.sides[side].clone(),
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert((Arc::clone(&policy.id.uid), side), cached);
    }

    fn cached(&self, key: &(Arc<str>, Side), wanted: &SidePolicy, fresh: impl Fn(&Cached) -> bool) -> Option<Client> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cache.get(key).filter(|cached| cached.side == *wanted && fresh(cached));
        cached.map(|cached| cached.client.clone())
    }

    fn keep(&self, key: (Arc<str>, Side), side: &SidePolicy, material: Material) -> Result<Client, ConnectionError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cache.get_mut(&key)
            && cached.side == *side
            && cached.version == material.version
        {
            // The same content: keep the client and the tokens it holds.
            cached.read = Instant::now();
            return Ok(cached.client.clone());
        }
        let connection = Connection {
            credentials: material.credentials,
            extra_ca: material.extra_ca,
            client_identity: material.client_identity,
            registry: side.registry.clone(),
            provider: side.provider,
            token_hosts: side.token_hosts.clone(),
            pull_through: side.pull_through_cache,
            #[cfg(test)]
            resolve: self.pinned.clone(),
            ..Connection::default()
        };
        let failed = |cause: String| ConnectionError::Client {
            registry: side.registry.clone(),
            cause,
        };
        let client = Client::with_wish(connection, limits(), &self.budgets, &key.0, side.requests_per_minute);
        let client = client.map_err(|error| failed(error.to_string()))?;
        let version = material.version;
        cache.insert(
            key,
            Cached {
                client: client.clone(),
                version,
                read: Instant::now(),
                side: side.clone(),
            },
        );
        Ok(client)
    }

    async fn read(&self, side: &SidePolicy) -> Result<Material, ConnectionError> {
        let mut version = Vec::new();
        let credentials = match &side.credentials_secret {
            None => ambient(&self.identities, side)?,
            Some(name) => {
                let secret = self.get(name).await?;
                version.push(secret.metadata.resource_version.clone());
                let name = name.clone();
                match credentials(&secret, &side.registry) {
                    Err(problem) => return Err(ConnectionError::Unusable { name, problem }),
                    Ok(credentials) => match credentials.unsupported_by(side.provider) {
                        Some(problem) => return Err(ConnectionError::UnsupportedCredentials { name, problem }),
                        None => credentials,
                    },
                }
            }
        };
        let (extra_ca, client_identity) = match &side.ca_secret {
            None => (None, None),
            Some(name) => {
                let secret = self.get(name).await?;
                version.push(secret.metadata.resource_version.clone());
                certificates(&secret).map_err(|problem| ConnectionError::Unusable {
                    name: name.clone(),
                    problem,
                })?
            }
        };
        Ok(Material {
            credentials,
            extra_ca,
            client_identity,
            version,
        })
    }

    async fn get(&self, name: &str) -> Result<Secret, ConnectionError> {
        match secrets::get_opt(&self.secrets, name).await {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => Err(ConnectionError::NotFound {
                name: name.to_owned(),
                namespace: self.namespace.clone(),
            }),
            Err(error) => Err(ConnectionError::Unreadable {
                name: name.to_owned(),
                cause: error.to_string(),
            }),
        }
    }
}

/// What a side without a Secret authenticates with.
///
/// # Errors
/// [`ConnectionError::Client`] for an identity that no registry of this name takes, or that nothing here offers.
pub fn ambient(identities: &Identities, side: &SidePolicy) -> Result<Credentials, ConnectionError> {
    let wanted = match &side.identity {
        IdentityPolicy::Ambient
            if side.provider == Provider::Azure && identities.offers_workload_identity(&side.registry) =>
        {
            AzureIdentity::Workload {
                client_id: None,
                tenant_id: None,
            }
        }
        IdentityPolicy::Ambient => return Ok(Credentials::ambient(side.provider, &side.registry)),
        IdentityPolicy::Anonymous => return Ok(Credentials::Anonymous),
        IdentityPolicy::Workload { client_id, tenant_id } => AzureIdentity::Workload {
            client_id: client_id.clone(),
            tenant_id: tenant_id.clone(),
        },
        IdentityPolicy::Managed(ManagedIdentity::System) => AzureIdentity::System,
        IdentityPolicy::Managed(ManagedIdentity::Client(id)) => AzureIdentity::Client(id.clone()),
        IdentityPolicy::Managed(ManagedIdentity::Object(id)) => AzureIdentity::Object(id.clone()),
        IdentityPolicy::Managed(ManagedIdentity::Resource(id)) => AzureIdentity::Resource(id.clone()),
    };
    let identity = identities.azure(&wanted, &side.registry);
    identity
        .map(Credentials::Azure)
        .map_err(|error| ConnectionError::Client {
            registry: side.registry.clone(),
            cause: error.to_string(),
        })
}

/// A pass over a registry that has gone silent should be told as that before the next one is due, so one request may take
/// much less than the client's own limit.
fn limits() -> Limits {
    Limits {
        read: Duration::from_secs(5),
        total: Duration::from_secs(10),
        ..Limits::default()
    }
}

struct Material {
    credentials: Credentials,
    extra_ca: Option<Vec<u8>>,
    client_identity: Option<ClientIdentity>,
    version: Vec<Option<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_secret_the_spec_or_the_environment_says_who_we_are() {
        let offering = Endpoints {
            federated_token_file: Some("/var/run/secrets/azure/tokens/azure-identity-token".into()),
            client_id: Some("env".to_owned()),
            ..Endpoints::default()
        };
        let (offering, bare) = (Identities::new(offering), Identities::new(Endpoints::default()));
        let workload = |client_id: Option<&str>| IdentityPolicy::Workload {
            client_id: client_id.map(str::to_owned),
            tenant_id: None,
        };
        let managed = IdentityPolicy::Managed;
        let (azure, generic) = (Provider::Azure, Provider::Generic);
        let cases = [
            (&bare, azure, IdentityPolicy::Ambient, "Anonymous"),
            (
                &offering,
                azure,
                IdentityPolicy::Ambient,
                "Azure(Identity(\"workload identity env\"))",
            ),
            (&offering, generic, IdentityPolicy::Ambient, "Anonymous"),
            (&offering, azure, IdentityPolicy::Anonymous, "Anonymous"),
            (
                &offering,
                azure,
                workload(Some("a")),
                "Azure(Identity(\"workload identity a\"))",
            ),
            (&bare, azure, workload(None), "Azure(Identity(\"workload identity\"))"),
            (
                &bare,
                azure,
                managed(ManagedIdentity::System),
                "Azure(Identity(\"system-assigned managed identity\"))",
            ),
            (
                &bare,
                azure,
                managed(ManagedIdentity::Object("o".to_owned())),
                "Azure(Identity(\"managed identity o\"))",
            ),
        ];
        for (identities, provider, identity, expected) in cases {
            let side = SidePolicy {
                registry: "kracr.azurecr.io".to_owned(),
                provider,
                identity: identity.clone(),
                ..SidePolicy::default()
            };
            let found = ambient(identities, &side).unwrap();
            assert_eq!(format!("{found:?}"), expected, "{identity:?}");
            assert_eq!(found, ambient(identities, &side).unwrap(), "shared by every mirror");
        }
    }
}
