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

use catamaran_core::policy::{IdentityPolicy, ManagedIdentity};

use super::exchange::Membership;
use crate::auth::identity::{
    CloudIdentity, CloudToken, CloudTokens, Identities, Identity, IdentityError, IdentityTokens, Surroundings,
    TokenSource,
};
use crate::auth::jwt::Claims;
use crate::wire::error::ClientError;
use crate::wire::failure::one_line;
use crate::wire::mask::without_tokens;
use crate::wire::secret::Secret;

mod endpoints;
mod transport;

use self::endpoints::Endpoints;
use self::transport::Transport;

/// What a token for any Azure registry is asked for, in every cloud. Audiences of single registries do not exist.
const SCOPE: &str = "https://containerregistry.azure.net/.default";
/// One attempt with everything that `azure_identity` repeats by itself.
const LONGEST: Duration = Duration::from_secs(30);

/// An identity at Microsoft Entra ID, and what each registry gave for its tokens.
pub(super) struct EntraIdentity {
    pub(super) tokens: IdentityTokens,
    registries: Mutex<HashMap<String, Membership>>,
}

impl EntraIdentity {
    pub(super) fn new(name: impl Into<String>, source: Arc<dyn TokenSource>) -> EntraIdentity {
        EntraIdentity {
            tokens: IdentityTokens::new(name, source),
            registries: Mutex::default(),
        }
    }

    /// What the registry at `host` (`host[:port]`) gave us.
    pub(super) fn membership(&self, host: &str) -> Membership {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        registries.entry(host.to_owned()).or_default().clone()
    }
}

impl CloudIdentity for EntraIdentity {
    fn name(&self) -> &str {
        self.tokens.name()
    }
}

/// The identity for a registry (`host[:port]`): the same for everyone who asks for the same. Nothing is asked yet.
///
/// # Errors
/// For registries that are not Azure's: anyone who is shown a token can use it at every registry of the tenant.
pub(super) fn identity(
    wanted: &IdentityPolicy,
    registry: &str,
    identities: &Identities,
) -> Result<Option<Identity>, ClientError> {
    let endpoints = Endpoints::of(&identities.surroundings);
    let wanted = match wanted {
        // This process was given a service account token for workload identity, which this registry may see.
        IdentityPolicy::Ambient if endpoints.federated_token_file.is_some() && is_azures(registry) => {
            Wanted::Workload {
                client_id: None,
                tenant_id: None,
            }
        }
        IdentityPolicy::Ambient | IdentityPolicy::Anonymous => return Ok(None),
        IdentityPolicy::Workload { client_id, tenant_id } => Wanted::Workload {
            client_id: client_id.clone(),
            tenant_id: tenant_id.clone(),
        },
        IdentityPolicy::Managed(managed) => Wanted::Managed(managed.clone()),
    };
    if !is_azures(registry) {
        return Err(ClientError::ForeignIdentity {
            registry: registry.to_owned(),
            wanted: "NAME.azurecr.io, or a name of another of Azure's clouds",
        });
    }
    let authority = endpoints
        .authority
        .clone()
        .unwrap_or_else(|| authority_of(registry).to_owned());
    let make = |surroundings: &Surroundings| {
        let proxied = matches!(wanted, Wanted::Workload { .. });
        let source = Source {
            wanted: wanted.clone(),
            authority: authority.clone(),
            transport: Arc::new(Transport::new(surroundings, proxied)?),
            endpoints,
        };
        Ok(Identity::new(EntraIdentity::new(source.name(), Arc::new(source))))
    };
    identities.once(format!("azure {authority} {wanted:?}"), make).map(Some)
}

/// Which identity.
#[derive(Clone, Debug)]
enum Wanted {
    /// The service account's own token is exchanged for one of an application or user-assigned identity that trusts it.
    Workload {
        /// The application's or identity's client id; absent: the environment's.
        client_id: Option<String>,
        /// Its tenant; absent: the environment's.
        tenant_id: Option<String>,
    },
    /// One of the machine that we run on.
    Managed(ManagedIdentity),
}

/// Whether a registry is one of Azure's, by its name: registries have no other names there.
pub(super) fn is_azures(registry: &str) -> bool {
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
    wanted: Wanted,
    authority: String,
    transport: Arc<Transport>,
    endpoints: Endpoints,
}

impl Source {
    fn name(&self) -> String {
        match &self.wanted {
            Wanted::Workload { client_id, .. } => {
                let client_id = client_id.as_ref().or(self.endpoints.client_id.as_ref());
                client_id.map_or_else(
                    || "workload identity".to_owned(),
                    |id| format!("workload identity {id}"),
                )
            }
            Wanted::Managed(ManagedIdentity::System) => "system-assigned managed identity".to_owned(),
            Wanted::Managed(
                ManagedIdentity::Client(id) | ManagedIdentity::Object(id) | ManagedIdentity::Resource(id),
            ) => {
                format!("managed identity {id}")
            }
        }
    }

    fn options(&self) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host.clone_from(&self.authority);
        ClientOptions {
            // The owner of the token repeats; instance metadata has a rhythm of its own that azure_identity knows.
            retry: RetryOptions::none(),
            transport: Some(AzureTransport::new(self.transport.clone())),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }

    fn credential(&self) -> Result<Arc<dyn TokenCredential>, IdentityError> {
        let assigned = match &self.wanted {
            Wanted::Workload { client_id, tenant_id } => {
                return self.workload(client_id.as_ref(), tenant_id.as_ref());
            }
            Wanted::Managed(ManagedIdentity::System) => None,
            Wanted::Managed(ManagedIdentity::Client(id)) => Some(UserAssignedId::ClientId(id.clone())),
            Wanted::Managed(ManagedIdentity::Object(id)) => Some(UserAssignedId::ObjectId(id.clone())),
            Wanted::Managed(ManagedIdentity::Resource(id)) => Some(UserAssignedId::ResourceId(id.clone())),
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
    use super::*;

    fn identities(variables: &[(&str, &str)]) -> Identities {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Identities::new(Surroundings {
            variables: variables.iter().map(pair).collect(),
            ..Surroundings::default()
        })
    }

    const SYSTEM: IdentityPolicy = IdentityPolicy::Managed(ManagedIdentity::System);
    const FILE: (&str, &str) = ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token");

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
        let identities = identities(&[FILE]);
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
            let made = identity(&SYSTEM, registry, &identities);
            let refused = matches!(made, Err(ClientError::ForeignIdentity { .. }));
            assert_eq!(refused, !expected, "{registry}");
            let ambient = identity(&IdentityPolicy::Ambient, registry, &identities).unwrap();
            assert_eq!(ambient.is_some(), expected, "{registry}");
        }
    }

    #[test]
    fn the_same_wish_is_the_same_identity_and_another_cloud_is_another() {
        let identities = identities(&[]);
        let of = |registry| identity(&SYSTEM, registry, &identities).unwrap().unwrap();
        assert_eq!(of("a.azurecr.io"), of("b.azurecr.io"));
        assert_ne!(of("a.azurecr.io"), of("a.azurecr.cn"));
        let client = IdentityPolicy::Managed(ManagedIdentity::Client("id".to_owned()));
        let other = identity(&client, "a.azurecr.io", &identities).unwrap().unwrap();
        assert_ne!(of("a.azurecr.io"), other);
    }

    #[tokio::test]
    async fn what_workload_identity_lacks_is_named() {
        let wanted = IdentityPolicy::Workload {
            client_id: None,
            tenant_id: Some("tenant-1".to_owned()),
        };
        let client = ("AZURE_CLIENT_ID", "client-1");
        let cases: [(&[(&str, &str)], &str); 3] = [
            (&[], "azure.workload.identity/use"),
            (&[FILE], "identity.clientID"),
            (&[FILE, client], "/nonexistent/token"),
        ];
        for (variables, named) in cases {
            let identity = identity(&wanted, "a.azurecr.io", &identities(variables))
                .unwrap()
                .unwrap();
            let entra = identity.of::<EntraIdentity>().unwrap();
            let failure = entra.tokens.token().await.unwrap_err();
            assert_eq!(failure.class, crate::wire::failure::Class::CredentialsUnavailable);
            assert!(failure.message.contains(named), "{failure}");
        }
    }
}
