//! Where identity services are.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where identity services are. The default knows none of this process' environment.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// `https://host/` of Microsoft Entra ID; absent: by the registry's cloud.
    pub authority: Option<String>,
    /// The service account's token, projected into the pod.
    pub federated_token_file: Option<PathBuf>,
    /// The client id where none is given.
    pub client_id: Option<String>,
    /// The tenant where none is given.
    pub tenant_id: Option<String>,
    /// Certificates (PEM) that are trusted besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Fixed addresses, by host name, instead of DNS.
    pub resolve: Vec<(String, SocketAddr)>,
    /// Where instance metadata is served, if not at 169.254.169.254.
    pub metadata: Option<SocketAddr>,
}

impl Endpoints {
    /// What the webhook of Azure workload identity puts into a pod: `AZURE_AUTHORITY_HOST`, `AZURE_FEDERATED_TOKEN_FILE`,
    /// `AZURE_CLIENT_ID`, `AZURE_TENANT_ID`.
    pub fn from_environment() -> Endpoints {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Endpoints {
            authority: variable("AZURE_AUTHORITY_HOST"),
            federated_token_file: variable("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            client_id: variable("AZURE_CLIENT_ID"),
            tenant_id: variable("AZURE_TENANT_ID"),
            ..Endpoints::default()
        }
    }
}
