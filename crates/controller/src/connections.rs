//! From Secrets and identities to registry clients.
//!
//! A client is made once for all sides that reach a registry in the same way, and made again when its Secrets change; they are read by `get` only, at most
//! once in [`REREAD`], and sooner after the registry refused the credential.

mod contents;
mod error;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_core::policy::{MirrorPolicy, SidePolicy};
use catamaran_core::side::Side;
use catamaran_registry::{
    Budgets, Client, ClientIdentity, Connection, CopyBudget, Credentials, Identities, Keyring, Limits, Surroundings,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use contents::{certificates, credentials};
pub use error::{ConnectionError, Problem};

/// How long a Secret's content is believed.
pub(crate) const REREAD: Duration = Duration::from_mins(1);

/// How long it is believed that a side has no client, because its Secret is missing or is of no use: every probe asks.
const RETRY: Duration = Duration::from_secs(10);

/// Sides whose Secrets are read for the first time at a time. When the operator starts, all tasks of all mirrors ask at once,
/// each on a connection of its own: ten mirrors opened two dozen, and what connections take in memory stays with the process.
const FIRST_AT_A_TIME: usize = 4;

struct Cached {
    client: Client,
    version: Vec<Option<String>>,
    read: Instant,
}

/// Why there is no client.
struct Failed {
    error: ConnectionError,
    at: Instant,
}

/// Which client each side of each mirror uses, by the mirror's UID.
type Users = HashMap<(Arc<str>, Side), User>;

/// A side as its mirror's spec has it, and what of that says which client it uses.
struct User {
    side: SidePolicy,
    endpoint: Arc<SidePolicy>,
}

/// All registry clients of this process.
pub struct Connections {
    secrets: Api<Secret>,
    namespace: String,
    budgets: Arc<Budgets>,
    identities: Identities,
    /// Which client each side of each mirror uses.
    users: Mutex<Users>,
    cache: Mutex<HashMap<Arc<SidePolicy>, Cached>>,
    failed: Mutex<HashMap<Arc<SidePolicy>, Failed>>,
    /// Places for those who read Secrets for the first time, of which one does so for each registry.
    first: Semaphore,
    first_of: Mutex<HashMap<Arc<SidePolicy>, Arc<tokio::sync::Mutex<()>>>>,
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
            identities: Identities::new(Surroundings::from_environment()),
            users: Mutex::default(),
            cache: Mutex::default(),
            failed: Mutex::default(),
            first: Semaphore::new(FIRST_AT_A_TIME),
            first_of: Mutex::default(),
            #[cfg(test)]
            pinned: Vec::new(),
        }
    }

    /// The client for one side of a mirror. The last good client is kept while the API server can't be asked.
    pub async fn client(&self, policy: &MirrorPolicy, side: Side) -> Result<Client, ConnectionError> {
        let wanted = self.used_by(policy, side);
        if let Some(client) = self.cached(&wanted, |cached| cached.read.elapsed() < REREAD) {
            return Ok(client);
        }
        // Who asks the API server nothing has nobody to wait for.
        let reads = wanted.credentials_secret.is_some() || wanted.ca_secret.is_some();
        if !reads || self.cached(&wanted, |_| true).is_some() {
            return self.renewed(wanted).await;
        }
        // What another task has made meanwhile is as good.
        let alone = Arc::clone(self.first_of().entry(Arc::clone(&wanted)).or_default());
        let _alone = alone.lock().await;
        if let Some(client) = self.cached(&wanted, |_| true) {
            return Ok(client);
        }
        // Never closed.
        let _place = self.first.acquire().await;
        self.renewed(wanted).await
    }

    fn first_of(&self) -> MutexGuard<'_, HashMap<Arc<SidePolicy>, Arc<tokio::sync::Mutex<()>>>> {
        self.first_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What client a side uses. Notes that it does, and what it wants its registry's limit to be.
    fn used_by(&self, policy: &MirrorPolicy, side: Side) -> Arc<SidePolicy> {
        let of = &policy.sides[side];
        let key = (Arc::clone(&policy.id.uid), side);
        let mut users = self.users();
        if let Some(same) = users.get(&key).filter(|user| user.side == *of) {
            return Arc::clone(&same.endpoint);
        }
        let endpoint = of.endpoint();
        let shared = users.values().map(|user| &user.endpoint).find(|one| ***one == endpoint);
        let endpoint = shared.cloned().unwrap_or_else(|| Arc::new(endpoint));
        let user = User {
            side: of.clone(),
            endpoint: Arc::clone(&endpoint),
        };
        let before = users.insert(key, user);
        drop(users);
        if before.is_some() {
            self.drop_unused();
        }
        self.budgets
            .wish(&of.registry, of.provider, &policy.id.uid, of.requests_per_minute);
        endpoint
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renewed(&self, wanted: Arc<SidePolicy>) -> Result<Client, ConnectionError> {
        match self.read_at_most_every_retry(&wanted).await {
            Ok(material) => self.keep(wanted, material),
            Err(error) if !error.needs_a_person() => self.cached(&wanted, |_| true).ok_or(error),
            Err(error) => Err(error),
        }
    }

    async fn read_at_most_every_retry(&self, wanted: &Arc<SidePolicy>) -> Result<Material, ConnectionError> {
        let fresh = |failed: &&Failed| failed.at.elapsed() < RETRY;
        let failed = self
            .failed()
            .get(wanted)
            .filter(fresh)
            .map(|failed| failed.error.clone());
        if let Some(error) = failed {
            return Err(error);
        }
        let read = self.read(wanted).await;
        match &read {
            Ok(_) => self.failed().remove(wanted),
            Err(error) => self.failed().insert(
                Arc::clone(wanted),
                Failed {
                    error: error.clone(),
                    at: Instant::now(),
                },
            ),
        };
        read
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<Arc<SidePolicy>, Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What copying may ask of a side, over all mirrors.
    pub(crate) fn copy_budget(&self, side: &SidePolicy) -> CopyBudget {
        self.budgets.for_copies(&side.registry, side.provider)
    }

    /// Has the Secrets of a side read again before its next use: its credential was refused.
    pub fn distrust(&self, policy: &MirrorPolicy, side: Side) {
        let mut cache = self.cache();
        if let Some(cached) = cache.get_mut(&policy.sides[side].endpoint()) {
            // Not at every probe: a refused credential is looked at again every ten seconds.
            let earlier = Instant::now().checked_sub(REREAD.saturating_sub(Duration::from_secs(10)));
            cached.read = earlier.map_or(cached.read, |earlier| cached.read.min(earlier));
        }
    }

    /// Drops the clients that only mirrors use that are gone.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.budgets.retain(&mut keep);
        self.users().retain(|(uid, _), _| keep(uid));
        self.drop_unused();
    }

    fn drop_unused(&self) {
        let used: HashSet<Arc<SidePolicy>> = self.users().values().map(|user| Arc::clone(&user.endpoint)).collect();
        self.failed().retain(|of, _| used.contains(of));
        self.first_of().retain(|of, _| used.contains(of));
        self.cache().retain(|of, _| used.contains(of));
    }

    /// Puts a client in, as if it had been made from Secrets just now.
    #[cfg(test)]
    pub(crate) fn seat(&self, policy: &MirrorPolicy, side: Side, client: Client) {
        let cached = Cached {
            client,
            version: Vec::new(),
            read: Instant::now(),
        };
        let of = self.used_by(policy, side);
        self.cache().insert(of, cached);
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<Arc<SidePolicy>, Cached>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, wanted: &SidePolicy, fresh: impl Fn(&Cached) -> bool) -> Option<Client> {
        let cache = self.cache();
        let cached = cache.get(wanted).filter(|cached| fresh(cached));
        cached.map(|cached| cached.client.clone())
    }

    fn keep(&self, side: Arc<SidePolicy>, material: Material) -> Result<Client, ConnectionError> {
        let mut cache = self.cache();
        if let Some(cached) = cache.get_mut(&side)
            && cached.version == material.version
        {
            // The same content: keep the client and the tokens it holds.
            cached.read = Instant::now();
            return Ok(cached.client.clone());
        }
        let connection = Connection {
            credentials: material.keyring.credentials,
            below: material.keyring.below,
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
        let client = Client::with_budgets(connection, limits(), &self.budgets);
        let client = client.map_err(|error| failed(error.to_string()))?;
        let version = material.version;
        cache.insert(
            side,
            Cached {
                client: client.clone(),
                version,
                read: Instant::now(),
            },
        );
        Ok(client)
    }

    async fn read(&self, side: &SidePolicy) -> Result<Material, ConnectionError> {
        let mut version = Vec::new();
        let keyring = match &side.credentials_secret {
            None => ambient(&self.identities, side)?.into(),
            Some(name) => {
                let secret = self.get(name).await?;
                version.push(secret.metadata.resource_version.clone());
                let name = name.clone();
                match credentials(&secret, &side.registry) {
                    Err(problem) => return Err(ConnectionError::Unusable { name, problem }),
                    Ok(keyring) => {
                        let problem = keyring.all().find_map(|one| one.unsupported_by(side.provider));
                        match problem {
                            Some(problem) => return Err(ConnectionError::UnsupportedCredentials { name, problem }),
                            None => keyring,
                        }
                    }
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
            keyring,
            extra_ca,
            client_identity,
            version,
        })
    }

    async fn get(&self, name: &str) -> Result<Secret, ConnectionError> {
        match catamaran_secrets::get_opt(&self.secrets, name).await {
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
    let credentials = identities.credentials(side.provider, &side.registry, &side.identity);
    credentials.map_err(|error| ConnectionError::Client {
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
    keyring: Keyring,
    extra_ca: Option<Vec<u8>>,
    client_identity: Option<ClientIdentity>,
    version: Vec<Option<String>>,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use catamaran_core::policy::{IdentityPolicy, ManagedIdentity, Provider};
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn secrets_at_start_are_read_once_and_few_at_a_time() {
        let named = |uid: usize| format!("pull-{uid}");
        assert_eq!(reads_at_start(named).await, 20);
        assert_eq!(
            reads_at_start(|_| "pull".to_owned()).await,
            2,
            "mirrors of one registry share a client"
        );
    }

    /// How often Secrets are read for ten mirrors, each of which names this one for both sides.
    async fn reads_at_start(secret: impl Fn(usize) -> String) -> usize {
        let (under_way, most, reads) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counts = (Arc::clone(&under_way), Arc::clone(&most), Arc::clone(&reads));
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let (under_way, most, reads) = counts.clone();
            async move {
                reads.fetch_add(1, Ordering::Relaxed);
                most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret",
                    "metadata": {
                        "name": "pull", "resourceVersion": "1",
                        "annotations": {"catamaran.dev/registry-host": "kracr.azurecr.io,ghcr.io"},
                    },
                    "type": "kubernetes.io/basic-auth", "data": {"username": "Ym90", "password": "aHVzaA=="},
                });
                let body = kube::client::Body::from(secret.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            }
        });
        let client = kube::Client::new(service, "catamaran-system");
        let connections = Connections::new(client, "catamaran-system", Arc::new(Budgets::new()));
        let policies: Vec<_> = (0..10).map(|uid| with_secret(&uid.to_string(), &secret(uid))).collect();
        let ask = |side| {
            let connections = &connections;
            policies.iter().map(move |policy| connections.client(policy, side))
        };
        // A prober and a scanner of each side.
        let asked = Side::ALL.into_iter().chain(Side::ALL).flat_map(ask);
        for client in futures::future::join_all(asked).await {
            client.unwrap();
        }
        let reads = reads.load(Ordering::Relaxed);
        assert_eq!(most.load(Ordering::Relaxed), FIRST_AT_A_TIME.min(reads));
        reads
    }

    #[tokio::test(start_paused = true)]
    async fn missing_secret_is_read_every_ten_seconds() {
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let client = crate::testbed::api_server(move |_, _, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                "reason": "NotFound", "message": "none", "code": 404});
            (404, status.to_string().into_bytes())
        });
        let connections = Connections::new(client, "catamaran-system", Arc::new(Budgets::new()));
        let policy = with_secret("1", "pull");
        for _ in 0..10 {
            let error = connections.client(&policy, Side::Primary).await.unwrap_err();
            assert!(matches!(error, ConnectionError::NotFound { .. }), "{error}");
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        assert_eq!(reads.load(Ordering::Relaxed), 2, "in twenty seconds");
        connections.client(&policy, Side::Fallback).await.unwrap_err();
        assert_eq!(reads.load(Ordering::Relaxed), 3, "the other side is read for itself");
    }

    fn with_secret(uid: &str, secret: &str) -> MirrorPolicy {
        let mirror = json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": format!("apps-{uid}"), "uid": uid},
            "spec": {
                "primary": {"registry": "kracr.azurecr.io", "secretRef": {"name": secret}},
                "fallback": {"registry": "ghcr.io", "secretRef": {"name": secret}},
                "repositories": [{"name": "web"}],
            },
        });
        catamaran_api::policy::policy(&serde_json::from_value(mirror).unwrap()).unwrap()
    }

    /// What a pod with Azure's workload identity has.
    fn offering() -> Surroundings {
        let variables = [
            (
                "AZURE_FEDERATED_TOKEN_FILE",
                "/var/run/secrets/azure/tokens/azure-identity-token",
            ),
            ("AZURE_CLIENT_ID", "env"),
        ];
        Surroundings {
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Surroundings::default()
        }
    }

    #[test]
    fn without_a_secret_the_spec_or_the_environment_says_who_we_are() {
        let (offering, bare) = (Identities::new(offering()), Identities::new(Surroundings::default()));
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
                "Identity(Identity(\"workload identity env\"))",
            ),
            (&offering, generic, IdentityPolicy::Ambient, "Anonymous"),
            (&offering, azure, IdentityPolicy::Anonymous, "Anonymous"),
            (
                &offering,
                azure,
                workload(Some("a")),
                "Identity(Identity(\"workload identity a\"))",
            ),
            (
                &bare,
                azure,
                workload(None),
                "Identity(Identity(\"workload identity\"))",
            ),
            (
                &bare,
                azure,
                managed(ManagedIdentity::System),
                "Identity(Identity(\"system-assigned managed identity\"))",
            ),
            (
                &bare,
                azure,
                managed(ManagedIdentity::Object("o".to_owned())),
                "Identity(Identity(\"managed identity o\"))",
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
