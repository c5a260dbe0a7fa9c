//! From Secrets and identities to registry clients.
//!
//! A client is made once for each side and made again when its Secrets change; they are read by `get` only, at most
//! once in [`REREAD`], and sooner after the registry refused the credential.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use catamaran_api::conditions::reason;
use catamaran_core::policy::{IdentityPolicy, ManagedIdentity, MirrorId, MirrorPolicy, Provider, SidePolicy};
use catamaran_core::side::Side;
use catamaran_registry::{
    AzureIdentity, Budgets, Client, ClientIdentity, Connection, CopyBudget, Credentials, Endpoints, Identities, Limits,
    Secret as Redacted, UnsupportedCredentials,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::secrets;

/// How long a Secret's content is believed.
pub const REREAD: Duration = Duration::from_mins(1);

/// Why a side has no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The Secret does not exist.
    #[error("secret '{name}' was not found in namespace '{namespace}'; create it or correct the reference")]
    NotFound {
        /// The Secret's name.
        name: String,
        /// The operator's namespace.
        namespace: String,
    },
    /// The Secret exists but does not hold what is needed.
    #[error("secret '{name}': {problem}")]
    Unusable {
        /// The Secret's name.
        name: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The provider does not take credentials of this kind: they are not sent.
    #[error("secret '{name}': {problem}")]
    UnsupportedCredentials {
        /// The Secret's name.
        name: String,
        /// Why, and what to create instead.
        problem: UnsupportedCredentials,
    },
    /// The API server did not hand it out.
    #[error("failed to read secret '{name}': {cause}")]
    Unreadable {
        /// The Secret's name.
        name: String,
        /// Why.
        cause: String,
    },
    /// The client can't be built from it.
    #[error("failed to set up the client for '{registry}': {cause}")]
    Client {
        /// The registry.
        registry: String,
        /// Why.
        cause: String,
    },
}

impl ConnectionError {
    /// Whether a person must change the spec or a Secret.
    pub fn needs_a_person(&self) -> bool {
        !matches!(self, ConnectionError::Unreadable { .. })
    }

    /// What to report until a person has changed it; `None` for what may pass by itself.
    pub fn problem(&self) -> Option<Problem> {
        let reason = match self {
            ConnectionError::Unreadable { .. } => return None,
            ConnectionError::NotFound { .. } => reason::SECRET_NOT_FOUND,
            ConnectionError::UnsupportedCredentials { .. } => reason::UNSUPPORTED_CREDENTIALS,
            ConnectionError::Unusable { .. } | ConnectionError::Client { .. } => reason::SECRET_INVALID,
        };
        Some(Problem {
            reason,
            message: self.to_string(),
        })
    }
}

/// Why a side has no client, where a person must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason of `Stalled`.
    pub reason: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

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
fn ambient(identities: &Identities, side: &SidePolicy) -> Result<Credentials, ConnectionError> {
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

fn value<'s>(secret: &'s Secret, key: &str) -> Option<&'s [u8]> {
    secret
        .data
        .as_ref()?
        .get(key)
        .map(|value| value.0.as_slice())
        .filter(|value| !value.is_empty())
}

/// The certificates in a Secret: authorities to trust, and a client certificate with its key; at least one of the two. Else
/// what is wrong with it.
pub fn certificates(secret: &Secret) -> Result<(Option<Vec<u8>>, Option<ClientIdentity>), String> {
    let authorities = value(secret, "ca.crt").map(<[u8]>::to_vec);
    let identity = match (value(secret, "tls.crt"), value(secret, "tls.key")) {
        (Some(certificates), Some(key)) => Some(ClientIdentity {
            certificates: certificates.to_vec(),
            key: Redacted::new(key.to_vec()),
        }),
        (None, None) if authorities.is_some() => None,
        (None, None) => {
            return Err("it has neither 'ca.crt' with PEM certificates nor 'tls.crt' and 'tls.key'".to_owned());
        }
        (Some(_), None) => return Err("it has 'tls.crt' without 'tls.key'; a client certificate needs both".to_owned()),
        (None, Some(_)) => return Err("it has 'tls.key' without 'tls.crt'; a client certificate needs both".to_owned()),
    };
    Ok((authorities, identity))
}

/// The credentials in a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/basic-auth`; else what is wrong
/// with it.
pub fn credentials(secret: &Secret, registry: &str) -> Result<Credentials, String> {
    if let Some(config) = value(secret, ".dockerconfigjson") {
        return Credentials::from_docker_config_json(config, registry).map_err(|error| error.to_string());
    }
    match (value(secret, "username"), value(secret, "password")) {
        (Some(username), Some(password)) => {
            let text = |bytes: &[u8], key: &str| {
                let text = std::str::from_utf8(bytes).map_err(|_| format!("the value of '{key}' is not UTF-8"))?;
                Ok::<_, String>(text.trim_end_matches('\n').to_owned())
            };
            let password = Redacted::new(text(password, "password")?);
            Ok(Credentials::Basic {
                username: text(username, "username")?,
                password,
            })
        }
        _ => Err(format!(
            "it is of type '{}', and has neither '.dockerconfigjson' nor 'username' and 'password'; \
             create one with `kubectl create secret docker-registry`",
            secret.type_.as_deref().unwrap_or("Opaque")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let data = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

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

    #[test]
    fn a_basic_auth_secret_gives_credentials() {
        let read = credentials(&secret(&[("username", "bot"), ("password", "hush\n")]), "ghcr.io").unwrap();
        assert!(matches!(read, Credentials::Basic { ref username, .. } if username == "bot"));
        assert!(!format!("{read:?}").contains("hush"));
    }

    #[test]
    fn a_docker_config_gives_credentials_of_exactly_this_registry() {
        let config = r#"{"auths":{"ghcr.io":{"username":"bot","password":"hush"}}}"#;
        assert!(credentials(&secret(&[(".dockerconfigjson", config)]), "ghcr.io").is_ok());
        let error = credentials(&secret(&[(".dockerconfigjson", config)]), "evil.example").unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn certificates_are_authorities_or_a_client_certificate_with_its_key() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Result<(bool, bool), &'a str>);
        let cases: [Case<'_>; 6] = [
            (&[("ca.crt", "pem")], Ok((true, false))),
            (&[("tls.crt", "pem"), ("tls.key", "hush")], Ok((false, true))),
            (
                &[("ca.crt", "pem"), ("tls.crt", "pem"), ("tls.key", "hush")],
                Ok((true, true)),
            ),
            (&[("ca.crt", "pem"), ("tls.crt", "pem")], Err("without 'tls.key'")),
            (&[("tls.key", "hush")], Err("without 'tls.crt'")),
            (&[("ca.crt", "")], Err("neither 'ca.crt'")),
        ];
        for (entries, expected) in cases {
            match (certificates(&secret(entries)), expected) {
                (Ok((authorities, identity)), Ok(expected)) => {
                    assert!(!format!("{identity:?}").contains("hush"));
                    assert_eq!((authorities.is_some(), identity.is_some()), expected, "{entries:?}");
                }
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{entries:?}: {problem}"),
                (found, expected) => panic!("{entries:?}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn what_a_person_must_change_has_a_reason_and_an_outage_of_the_api_server_has_none() {
        let name = || "pull".to_owned();
        let cases = [
            (
                ConnectionError::NotFound {
                    name: name(),
                    namespace: "catamaran".to_owned(),
                },
                Some(reason::SECRET_NOT_FOUND),
            ),
            (
                ConnectionError::Unusable {
                    name: name(),
                    problem: "empty".to_owned(),
                },
                Some(reason::SECRET_INVALID),
            ),
            (
                ConnectionError::UnsupportedCredentials {
                    name: name(),
                    problem: UnsupportedCredentials::FineGrainedToken,
                },
                Some(reason::UNSUPPORTED_CREDENTIALS),
            ),
            (
                ConnectionError::Unreadable {
                    name: name(),
                    cause: "timeout".to_owned(),
                },
                None,
            ),
        ];
        for (error, expected) in cases {
            let problem = error.problem();
            assert_eq!(problem.as_ref().map(|problem| problem.reason), expected, "{error}");
            assert_eq!(error.needs_a_person(), problem.is_some(), "{error}");
        }
    }

    #[test]
    fn a_secret_of_another_kind_says_what_to_create() {
        let error = credentials(&secret(&[("token", "x")]), "ghcr.io").unwrap_err();
        assert!(error.contains("kubectl create secret docker-registry"), "{error}");
    }
}
