//! What people are told about registries of Azure's.

use super::REFRESH_TOKEN;
use crate::auth::kind::CredentialKind;
use crate::protocol::advice::{About, Advice, OwnIdentity, Plain, Whose, log_in};

pub(super) struct AzureAdvice;

impl Advice for AzureAdvice {
    fn unresolved(&self, about: &About<'_>) -> String {
        let name = name(about.registry);
        format!(
            "is the name right (`az acr show --name {name} --query loginServer`)? With a private endpoint, link the \
             private DNS zone privatelink.azurecr.io to this network"
        )
    }

    fn unconnected(&self, about: &About<'_>) -> String {
        if !about.private {
            return Plain.unconnected(about);
        }
        format!(
            "the address is private: is the private endpoint approved, and does the network lead there? \
             `az acr private-endpoint-connection list --registry-name {}`",
            name(about.registry)
        )
    }

    fn failing(&self) -> String {
        "the registry is failing; look at https://azure.status.microsoft".to_owned()
    }

    fn firewall(&self, about: &About<'_>, address: Option<&str>) -> String {
        format!(
            "let this network in: `az acr network-rule add --name {} --ip-address {}`; or use a private endpoint",
            name(about.registry),
            address.unwrap_or("ADDRESS")
        )
    }

    fn refused(&self, about: &About<'_>) -> String {
        if about.kind == CredentialKind::ANONYMOUS {
            let name = name(about.registry);
            return match about.whose {
                Whose::Own => format!(
                    "`az acr login --name {name}`, or `az acr update --name {name} --anonymous-pull-enabled` for public images"
                ),
                Whose::Operator { .. } => log_in(about),
            };
        }
        if about.kind == REFRESH_TOKEN {
            return format!("{}; if it did work before: {}", self.lacks(about), self.renew(about));
        }
        self.lacks(about)
    }

    fn own_identity(&self, own: &OwnIdentity<'_>, about: &About<'_>) -> String {
        let OwnIdentity {
            namespace,
            subject,
            exec,
        } = own;
        format!(
            "the operator uses its own identity: check with it by `{exec}`. Give it a federated credential with the subject '{subject}' \
             (`az identity federated-credential create --subject {subject} ...`), and {}; or name a Secret of \
             namespace '{namespace}' in secretRef",
            roles(about.registry)
        )
    }

    /// The roles that reading needs, in both of Azure's modes.
    fn lacks(&self, about: &About<'_>) -> String {
        let roles = roles(about.registry);
        match about.whose {
            Whose::Own => format!("{roles}; it takes a few minutes to work"),
            Whose::Operator { subject, .. } => {
                format!("{roles}; it takes a few minutes to work. The operator's federated subject is '{subject}'")
            }
        }
    }

    fn renew(&self, about: &About<'_>) -> String {
        match about.whose {
            Whose::Own => format!("`az acr login --name {}` again", name(about.registry)),
            Whose::Operator { .. } => Plain.renew(about),
        }
    }

    fn blobs(&self, about: &About<'_>) -> String {
        let name = name(about.registry);
        format!(
            "blobs come from another host: let connections out to *.blob.core.windows.net, or to {name}.REGION.data.azurecr.io \
             where dedicated data endpoints are on (`az acr show-endpoints --name {name}`)"
        )
    }
}

/// The registry's name in Azure.
fn name(registry: &str) -> &str {
    registry.split('.').next().unwrap_or(registry)
}

fn roles(registry: &str) -> String {
    let name = name(registry);
    format!(
        "give it the role `AcrPull`, or `Container Registry Repository Reader` where the registry gives rights by \
         repository (ABAC): `az role assignment create --role AcrPull --assignee ID \
         --scope $(az acr show --name {name} --query id --output tsv)`"
    )
}
