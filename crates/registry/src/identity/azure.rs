//! Identities of Microsoft Entra ID, through `azure_identity`: workload identity and managed identities.
//!
//! Its credentials cache badly for us (a failed renewal is an error although the old token is still good), so each token is
//! asked for by a new credential and kept by [`Identity`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, RetryOptions, Transport as AzureTransport};
use azure_identity::{
    ClientAssertionCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};

use super::{CloudToken, CloudTokens, Identity, IdentityError, TokenSource};
use crate::error::ClientError;
use crate::failure::one_line;
use crate::jwt::Claims;
use crate::mask::without_tokens;
use crate::secret::Secret;

mod endpoints;
mod transport;

pub use self::endpoints::Endpoints;
use self::transport::Transport;

/// What a token for any Azure registry is asked for, in every cloud. Audiences of single registries do not exist.
const SCOPE: &str = "https://containerregistry.azure.net/.default";
/// One attempt with everything that `azure_identity` repeats by itself.
const LONGEST: Duration = Duration::from_secs(30);

/// Which identity to use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AzureIdentity {
    /// The service account's own token is exchanged for one of an application or user-assigned identity that trusts it.
    Workload {
        /// The application's or identity's client id; absent: `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// Its tenant; absent: `AZURE_TENANT_ID`.
        tenant_id: Option<String>,
    },
    /// The identity of the machine itself.
    System,
    /// An identity that is assigned to the machine, by client id.
    Client(String),
    /// The same, by object (principal) id.
    Object(String),
    /// The same, by resource id (`/subscriptions/…`). App Service does not know it.
    Resource(String),
}

/// All identities of a process, each once.
#[derive(Debug)]
pub struct Identities {
    endpoints: Endpoints,
    pool: Mutex<HashMap<(AzureIdentity, String), Identity>>,
}

impl Identities {
    /// None yet.
    pub fn new(endpoints: Endpoints) -> Identities {
        Identities {
            endpoints,
            pool: Mutex::default(),
        }
    }

    /// Whether this process was given a service account token for workload identity that this registry (`host[:port]`) may see.
    pub fn offers_workload_identity(&self, registry: &str) -> bool {
        self.endpoints.federated_token_file.is_some() && is_azures(registry)
    }

    /// The identity for a registry (`host[:port]`): the same for everyone who asks for the same. Nothing is asked yet.
    ///
    /// # Errors
    /// For registries that are not Azure's: whoever is shown a token can use it at every registry of the tenant.
    pub fn azure(&self, wanted: &AzureIdentity, registry: &str) -> Result<Identity, ClientError> {
        if !is_azures(registry) {
            let registry = registry.to_owned();
            return Err(ClientError::NotAzures { registry });
        }
        let authority = self
            .endpoints
            .authority
            .clone()
            .unwrap_or_else(|| authority_of(registry).to_owned());
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (wanted.clone(), authority);
        if let Some(identity) = pool.get(&key) {
            return Ok(identity.clone());
        }
        let proxied = matches!(wanted, AzureIdentity::Workload { .. });
        let source = Source {
            wanted: wanted.clone(),
            authority: key.1.clone(),
            transport: Arc::new(Transport::new(&self.endpoints, proxied)?),
            endpoints: self.endpoints.clone(),
        };
        let identity = Identity::new(source.name(), Arc::new(source));
        pool.insert(key, identity.clone());
        Ok(identity)
    }
}

/// Whether a registry is one of Azure's, by its name: registries have no other names there.
fn is_azures(registry: &str) -> bool {
    let host = registry.strip_suffix(":443").unwrap_or(registry);
    [".azurecr.io", ".azurecr.cn", ".azurecr.us"]
        .iter()
        .any(|cloud| host.ends_with(cloud))
}

/// Microsoft Entra ID of a registry's cloud.
fn authority_of(registry: &str) -> &'static str {
    let host = registry.split(':').next().unwrap_or_default();
    if host.ends_with(".azurecr.cn") {
        "https://login.chinacloudapi.cn"
    } else if host.ends_with(".azurecr.us") {
        "https://login.microsoftonline.us"
    } else {
        "https://login.microsoftonline.com"
    }
}

#[derive(Clone)]
struct Source {
    wanted: AzureIdentity,
    authority: String,
    transport: Arc<Transport>,
    endpoints: Endpoints,
}

impl Source {
    fn name(&self) -> String {
        match &self.wanted {
            AzureIdentity::Workload { client_id, .. } => {
                let client_id = client_id.as_ref().or(self.endpoints.client_id.as_ref());
                client_id.map_or_else(
                    || "workload identity".to_owned(),
                    |id| format!("workload identity {id}"),
                )
            }
            AzureIdentity::System => "system-assigned managed identity".to_owned(),
            AzureIdentity::Client(id) | AzureIdentity::Object(id) | AzureIdentity::Resource(id) => {
                format!("managed identity {id}")
            }
        }
    }

    fn options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host.clone_from(&self.authority);
        ClientOptions {
            // Whoever keeps the token repeats; instance metadata has a rhythm of its own that azure_identity knows.
            retry: RetryOptions::none(),
            transport: Some(AzureTransport::new(self.transport.clone())),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }

    fn credential(&self) -> Result<Arc<dyn TokenCredential>, IdentityError> {
        let assigned = match &self.wanted {
            AzureIdentity::Workload { client_id, tenant_id } => {
                return self.workload(client_id.as_ref(), tenant_id.as_ref());
            }
            AzureIdentity::System => None,
            AzureIdentity::Client(id) => Some(UserAssignedId::ClientId(id.clone())),
            AzureIdentity::Object(id) => Some(UserAssignedId::ObjectId(id.clone())),
            AzureIdentity::Resource(id) => Some(UserAssignedId::ResourceId(id.clone())),
        };
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: assigned,
            client_options: self.options(),
        };
        let credential = ManagedIdentityCredential::new(Some(options)).map_err(|error| told(&error))?;
        Ok(credential)
    }

    fn workload(
        &self,
        client_id: Option<&String>,
        tenant_id: Option<&String>,
    ) -> Result<Arc<dyn TokenCredential>, IdentityError> {
        let needs = |what: &str, field: &str, variable: &str| {
            IdentityError(format!(
                "workload identity needs {what}: set {field}, or annotate the operator's service account so that \
                 {variable} is set in its pods"
            ))
        };
        let endpoints = &self.endpoints;
        let file = endpoints.federated_token_file.clone().ok_or_else(|| {
            IdentityError(
                "workload identity needs a service account token: label the operator's pods \
                 'azure.workload.identity/use: \"true\"', so that AZURE_FEDERATED_TOKEN_FILE is set"
                    .to_owned(),
            )
        })?;
        let client_id = client_id.or(endpoints.client_id.as_ref());
        let client_id = client_id.ok_or_else(|| needs("a client id", "identity.clientID", "AZURE_CLIENT_ID"))?;
        let tenant_id = tenant_id.or(endpoints.tenant_id.as_ref());
        let tenant_id = tenant_id.ok_or_else(|| needs("a tenant", "identity.tenantID", "AZURE_TENANT_ID"))?;
        let options = WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions {
                client_options: self.options(),
            },
            client_id: Some(client_id.clone()),
            tenant_id: Some(tenant_id.clone()),
            token_file_path: Some(file),
        };
        let credential = WorkloadIdentityCredential::new(Some(options)).map_err(|error| told(&error))?;
        Ok(credential)
    }

    async fn token(&self) -> Result<CloudToken, IdentityError> {
        let credential = self.credential()?;
        let asked = tokio::time::timeout(LONGEST, credential.get_token(&[SCOPE], None)).await;
        let token = match asked {
            Ok(Ok(token)) => token,
            Ok(Err(error)) => return Err(self.explained(told(&error))),
            Err(_) => return Err(self.silent()),
        };
        let text = token.token.secret().to_owned();
        if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(IdentityError(
                "the identity service answered with something that is no token".to_owned(),
            ));
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let left = u64::try_from(token.expires_on.unix_timestamp())
            .unwrap_or_default()
            .saturating_sub(now);
        // Both must agree: a token may come from the service's own cache, and its clock need not be ours.
        let claimed = Claims::of(&text).and_then(|claims| claims.life());
        Ok(CloudToken {
            life: claimed.unwrap_or(Duration::MAX).min(Duration::from_secs(left)),
            token: Secret::new(text),
        })
    }

    fn silent(&self) -> IdentityError {
        let cause = self.transport.last_failure();
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        IdentityError(format!(
            "no token from the identity service within {} s{cause}",
            LONGEST.as_secs()
        ))
    }

    /// Adds whom the federated credential has to trust, where it does not.
    fn explained(&self, error: IdentityError) -> IdentityError {
        let IdentityError(mut message) = error;
        // 70021, 700211, 700213: no federated credential fits.
        if message.contains("AADSTS70021") {
            let file = self.endpoints.federated_token_file.as_ref();
            let token = file.and_then(|file| std::fs::read_to_string(file).ok());
            if let Some(subject) = token.and_then(|token| Claims::of(token.trim())?.sub) {
                message += "; its federated credential must have the subject '";
                message += &one_line(&subject);
                message.push('\'');
            }
        }
        IdentityError(message)
    }
}

impl TokenSource for Source {
    fn fetch(&self) -> CloudTokens {
        let source = self.clone();
        Box::pin(async move { source.token().await })
    }
}

/// The first line of an error, without tokens that the service repeats: what follows is advice for users of the library.
fn told(error: &azure_core::Error) -> IdentityError {
    let text = error.to_string();
    IdentityError(without_tokens(text.lines().next().unwrap_or_default().trim()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn each_cloud_has_its_own_authority() {
        let cases = [
            ("kracr.azurecr.io", "https://login.microsoftonline.com"),
            ("kracr.azurecr.cn", "https://login.chinacloudapi.cn"),
            ("kracr.azurecr.us", "https://login.microsoftonline.us"),
            ("kracr.azurecr.us:443", "https://login.microsoftonline.us"),
            ("kracr.azurecr.us.evil.test", "https://login.microsoftonline.com"),
        ];
        for (registry, authority) in cases {
            assert_eq!(authority_of(registry), authority, "{registry}");
        }
    }

    #[test]
    fn an_identity_at_azure_is_for_azures_registries_only() {
        let endpoints = Endpoints {
            federated_token_file: Some(PathBuf::from("/nonexistent/token")),
            ..Endpoints::default()
        };
        let identities = Identities::new(endpoints);
        for (registry, expected) in [
            ("kracr.azurecr.io", true),
            ("kracr.westeurope.geo.azurecr.io:443", true),
            ("kracr.azurecr.cn", true),
            ("kracr.azurecr.us", true),
            ("kracr.azurecr.io:8443", false),
            ("azurecr.io", false),
            ("kracr.azurecr.io.evil.test", false),
            ("evil.test", false),
            ("evil-azurecr.io", false),
        ] {
            let made = identities.azure(&AzureIdentity::System, registry);
            let refused = matches!(made, Err(ClientError::NotAzures { .. }));
            assert_eq!(refused, !expected, "{registry}");
            assert_eq!(identities.offers_workload_identity(registry), expected, "{registry}");
        }
    }

    #[test]
    fn the_same_wish_is_the_same_identity_and_another_cloud_is_another() {
        let identities = Identities::new(Endpoints::default());
        let of = |registry| identities.azure(&AzureIdentity::System, registry).unwrap();
        assert_eq!(of("a.azurecr.io"), of("b.azurecr.io"));
        assert_ne!(of("a.azurecr.io"), of("a.azurecr.cn"));
        let other = identities
            .azure(&AzureIdentity::Client("id".to_owned()), "a.azurecr.io")
            .unwrap();
        assert_ne!(of("a.azurecr.io"), other);
    }

    #[tokio::test]
    async fn what_workload_identity_lacks_is_named() {
        let wanted = AzureIdentity::Workload {
            client_id: None,
            tenant_id: Some("tenant-1".to_owned()),
        };
        let file = Some(PathBuf::from("/nonexistent/token"));
        let cases = [
            (Endpoints::default(), "azure.workload.identity/use"),
            (
                Endpoints {
                    federated_token_file: file.clone(),
                    ..Endpoints::default()
                },
                "identity.clientID",
            ),
            (
                Endpoints {
                    federated_token_file: file,
                    client_id: Some("client-1".to_owned()),
                    ..Endpoints::default()
                },
                "/nonexistent/token",
            ),
        ];
        for (endpoints, named) in cases {
            let identity = Identities::new(endpoints).azure(&wanted, "a.azurecr.io").unwrap();
            let failure = identity.token().await.unwrap_err();
            assert_eq!(failure.class, crate::Class::CredentialsUnavailable);
            assert!(failure.message.contains(named), "{failure}");
        }
    }
}
