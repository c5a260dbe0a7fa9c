//! What Azure's workload identity gives to a pod.

use std::path::PathBuf;

use crate::auth::identity::Surroundings;

/// What the webhook of Azure workload identity puts into a pod's environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoints {
    /// `AZURE_AUTHORITY_HOST`: `https://host/` of Microsoft Entra ID; absent: by the registry's cloud.
    pub(super) authority: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`: the service account's token, projected into the pod.
    pub(super) federated_token_file: Option<PathBuf>,
    /// `AZURE_CLIENT_ID`: the client id where none is given.
    pub(super) client_id: Option<String>,
    /// `AZURE_TENANT_ID`: the tenant where none is given.
    pub(super) tenant_id: Option<String>,
}

impl Endpoints {
    pub(super) fn of(surroundings: &Surroundings) -> Endpoints {
        let variable = |name: &str| surroundings.variable(name).cloned();
        Endpoints {
            authority: variable("AZURE_AUTHORITY_HOST"),
            federated_token_file: variable("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            client_id: variable("AZURE_CLIENT_ID"),
            tenant_id: variable("AZURE_TENANT_ID"),
        }
    }
}
