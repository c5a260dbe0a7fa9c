//! What to do about a rung that failed: what a person who knows the registry would say.

use catamaran_core::policy::Provider;
use catamaran_registry::ladder::{CredentialKind, Identity, Step};
use catamaran_registry::{Class, Failure};

use super::ladder::Whose;

/// What advice depends on.
pub struct About<'a> {
    /// Whose registry it is.
    pub provider: Provider,
    /// `host[:port]`.
    pub registry: &'a str,
    /// The repository's full path.
    pub repository: Option<&'a str>,
    /// For whom the ladder is climbed.
    pub whose: &'a Whose,
    /// What was authenticated with, if it came to that.
    pub identity: Option<&'a Identity>,
    /// Whether one of the registry's addresses is private.
    pub private: bool,
}

/// The advice for a failed rung, if there is any that the failure does not give itself.
pub fn hint(about: &About<'_>, step: Step, failure: &Failure) -> Option<String> {
    if let Class::Throttled { retry_after } = &failure.class {
        return Some(match retry_after {
            Some(wait) => format!("try again in {} s", wait.as_secs().max(1)),
            None => "try again in a minute; a credential usually has a higher limit than a stranger".to_owned(),
        });
    }
    if let Some(on_the_way) = on_the_way(about, &failure.message) {
        return Some(on_the_way);
    }
    match failure.class {
        Class::NetworkDenied => return Some(firewall(about, &failure.message)),
        Class::UntrustedCertificate => return Some(untrusted(about.whose)),
        _ => {}
    }
    match step {
        Step::Dns => Some(dns(about, &failure.class)),
        Step::Connect => Some(connect(about)),
        Step::Tls => Some(tls(&failure.message)),
        Step::Challenge => Some(challenge(about, failure)),
        Step::Credential => None,
        Step::Token => Some(admission(about)),
        Step::Tags | Step::Manifest => Some(content(about, step, failure)),
        Step::Blob => Some(blob(about, failure)),
    }
}

/// What a proxy or a client certificate needs, whatever the rung.
fn on_the_way(about: &About<'_>, message: &str) -> Option<String> {
    if message.contains("the proxy wants a user name and password") {
        return Some("write them into the proxy's URL: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT".to_owned());
    }
    if message.contains("(through the proxy ") {
        return Some(format!(
            "is HTTPS_PROXY right, and may this machine reach {0} through it? If it shall go directly, name {0} in NO_PROXY",
            about.registry
        ));
    }
    if message.contains("client certificate") {
        return Some(match about.whose {
            Whose::Own => "this command shows no client certificate; a mirror does, by certSecretRef".to_owned(),
            Whose::Operator { namespace, .. } => format!(
                "put a certificate that the registry accepts into the Secret that certSecretRef names: \
                 `kubectl -n {namespace} create secret tls registry-client --cert=tls.crt --key=tls.key`"
            ),
        });
    }
    None
}

/// The registry's name in Azure.
fn azure_name(registry: &str) -> &str {
    registry.split('.').next().unwrap_or(registry)
}

fn dns(about: &About<'_>, class: &Class) -> String {
    let registry = about.registry;
    if *class == Class::RefusedAddress {
        return format!(
            "look at `nslookup {registry}`: link-local, metadata and loopback addresses are never connected to"
        );
    }
    match about.provider {
        Provider::Azure => {
            let name = azure_name(registry);
            format!(
                "is the name right (`az acr show --name {name} --query loginServer`)? With a private endpoint, link the \
                 private DNS zone privatelink.azurecr.io to this network"
            )
        }
        _ => format!("is the name right, and does this machine's resolver know it? `nslookup {registry}`"),
    }
}

fn connect(about: &About<'_>) -> String {
    let registry = about.registry;
    match about.provider {
        Provider::Azure if about.private => format!(
            "the address is private: is the private endpoint approved, and does the network lead there? \
             `az acr private-endpoint-connection list --registry-name {}`",
            azure_name(registry)
        ),
        _ => format!(
            "let connections out to {registry} in the firewall, the network policy or the security group; \
             behind a proxy set HTTPS_PROXY"
        ),
    }
}

fn tls(message: &str) -> String {
    if message.contains("Expired") || message.contains("expired") {
        return "renew the certificate at the registry; if it is good elsewhere, look at this machine's clock"
            .to_owned();
    }
    if message.contains("NotValidForName") || message.contains("not valid for name") {
        return "the certificate belongs to another name: something else answers for this host, such as a proxy or a \
                wrong DNS record"
            .to_owned();
    }
    "the TLS handshake was aborted: a TLS-inspecting firewall, or the port does not serve TLS".to_owned()
}

fn untrusted(whose: &Whose) -> String {
    match whose {
        Whose::Own => "give the CA's certificate by --ca-file".to_owned(),
        Whose::Operator { namespace, .. } => format!(
            "put the CA's certificate into a Secret and name it in certSecretRef: \
             `kubectl -n {namespace} create secret generic registry-ca --from-file=ca.crt`"
        ),
    }
}

fn challenge(about: &About<'_>, failure: &Failure) -> String {
    match (&failure.class, about.whose) {
        (Class::ForeignRealm, Whose::Own) => {
            "if that host is the registry's own token service, admit it by --token-host".to_owned()
        }
        (Class::ForeignRealm, Whose::Operator { .. }) => {
            "credentials are not sent there; is this the registry, and is `provider` right?".to_owned()
        }
        _ if failure.message.contains("web page") => {
            "a sign-in page or a proxy answers instead of the registry: look at HTTPS_PROXY and NO_PROXY, and at the name"
                .to_owned()
        }
        _ => match about.provider {
            Provider::Azure => "the registry is failing; look at https://azure.status.microsoft".to_owned(),
            Provider::GitHub => "the registry is failing; look at https://www.githubstatus.com".to_owned(),
            Provider::Aws => "the registry is failing; look at https://health.aws.amazon.com".to_owned(),
            Provider::Generic => "is this a registry, and is it well?".to_owned(),
        },
    }
}

/// What a firewall's refusal needs. Azure names the address that it saw.
fn firewall(about: &About<'_>, message: &str) -> String {
    let address = message
        .split('\'')
        .find(|part| part.parse::<std::net::IpAddr>().is_ok());
    match about.provider {
        Provider::Azure => format!(
            "let this network in: `az acr network-rule add --name {} --ip-address {}`; or use a private endpoint",
            azure_name(about.registry),
            address.unwrap_or("ADDRESS")
        ),
        _ => "let this network in at the registry's firewall".to_owned(),
    }
}

/// What the identity of the operator needs, where it is the operator's that counts and not ours.
fn operators_identity(about: &About<'_>) -> Option<String> {
    let Whose::Operator {
        namespace,
        subject,
        exec: Some(exec),
    } = about.whose
    else {
        return None;
    };
    Some(match about.provider {
        Provider::Aws => format!(
            "the operator uses its own identity: climb with it by `{exec}`. Let the role trust '{subject}' and give it \
             AmazonEC2ContainerRegistryReadOnly"
        ),
        _ => format!(
            "the operator uses its own identity: climb with it by `{exec}`. Give it a federated credential with the subject '{subject}' \
             (`az identity federated-credential create --subject {subject} ...`), and {}; or name a Secret of \
             namespace '{namespace}' in secretRef",
            roles(about.registry)
        ),
    })
}

fn admission(about: &About<'_>) -> String {
    let registry = about.registry;
    let kind = about
        .identity
        .map_or(CredentialKind::Anonymous, |identity| identity.kind);
    if kind == CredentialKind::Anonymous
        && let Some(hint) = operators_identity(about)
    {
        return hint;
    }
    match (about.provider, kind) {
        (Provider::Azure, CredentialKind::Anonymous) => {
            let name = azure_name(registry);
            match about.whose {
                Whose::Own => format!(
                    "`az acr login --name {name}`, or `az acr update --name {name} --anonymous-pull-enabled` for public images"
                ),
                Whose::Operator { .. } => create_secret(about),
            }
        }
        (Provider::Azure, CredentialKind::AzureRefreshToken) => format!(
            "{}; if it did work before: {}",
            azure_roles(registry, about.whose),
            renew(about.provider, registry, about.whose)
        ),
        (Provider::Azure, _) => azure_roles(registry, about.whose),
        (Provider::GitHub, CredentialKind::GitHubFineGrained | CredentialKind::GitHubApp) => {
            "GitHub's packages take classic personal access tokens only: make one with the scope read:packages"
                .to_owned()
        }
        (Provider::GitHub, CredentialKind::Anonymous) => format!(
            "the image is private or does not exist: {} with a classic personal access token that has the scope read:packages",
            log_in(about)
        ),
        (Provider::GitHub, _) => {
            "the token has ended, lacks the scope read:packages, or is not authorised for the organisation's single \
             sign-on; it must be a classic one (ghp_...)"
                .to_owned()
        }
        (Provider::Aws, CredentialKind::AwsIdentity) => {
            "give the identity AmazonEC2ContainerRegistryReadOnly, and let the repository's policy allow it if it is another \
             account's"
                .to_owned()
        }
        (Provider::Aws, _) => format!(
            "`aws ecr get-login-password | docker login --username AWS --password-stdin {registry}`; such a password ends \
             after 12 hours"
        ),
        (Provider::Generic, CredentialKind::Anonymous) => log_in(about),
        (Provider::Generic, _) => format!("the credential is refused: {} with another", log_in(about)),
    }
}

/// The roles that reading needs, in both of Azure's modes.
pub fn azure_roles(registry: &str, whose: &Whose) -> String {
    let propagation = "it takes a few minutes to work";
    match whose {
        Whose::Own => format!("{}; {propagation}", roles(registry)),
        Whose::Operator { subject, .. } => {
            format!(
                "{}; {propagation}. The operator's federated subject is '{subject}'",
                roles(registry)
            )
        }
    }
}

fn roles(registry: &str) -> String {
    let name = azure_name(registry);
    format!(
        "give it the role `AcrPull`, or `Container Registry Repository Reader` where the registry gives rights by \
         repository (ABAC): `az role assignment create --role AcrPull --assignee ID \
         --scope $(az acr show --name {name} --query id --output tsv)`"
    )
}

/// How to come by a fresh credential.
pub fn renew(provider: Provider, registry: &str, whose: &Whose) -> String {
    match (provider, whose) {
        (Provider::Azure, Whose::Own) => format!("`az acr login --name {}` again", azure_name(registry)),
        (_, Whose::Own) => format!("`docker login {registry}` again"),
        (_, Whose::Operator { namespace, .. }) => {
            format!("renew the Secret in namespace '{namespace}', or let the operator use its own identity")
        }
    }
}

fn log_in(about: &About<'_>) -> String {
    match about.whose {
        Whose::Own => format!("`docker login {}`", about.registry),
        Whose::Operator { .. } => create_secret(about),
    }
}

fn create_secret(about: &About<'_>) -> String {
    match about.whose {
        Whose::Own => format!("`docker login {}`", about.registry),
        Whose::Operator { namespace, .. } => format!(
            "name a Secret in secretRef: `kubectl -n {namespace} create secret docker-registry NAME \
             --docker-server={} --docker-username=... --docker-password=...`",
            about.registry
        ),
    }
}

fn content(about: &About<'_>, step: Step, failure: &Failure) -> String {
    let repository = about.repository.unwrap_or_default();
    match (&failure.class, step) {
        (Class::Unauthorized | Class::Forbidden, _) => admission(about),
        (Class::Absent | Class::NotFound, Step::Tags) => {
            format!(
                "is '{repository}' the whole path on {}, prefix included? Else push an image first",
                about.registry
            )
        }
        (Class::Absent | Class::NotFound, _) => {
            format!(
                "push an image to {}/{repository}, or name a tag that exists",
                about.registry
            )
        }
        (Class::Locked | Class::Blocked, _) => {
            "the registry has this image and does not serve it: look for a lock or a policy there".to_owned()
        }
        (Class::Misrouted, _) => "the registry sends elsewhere for this; is the repository's path right?".to_owned(),
        _ => "the registry is failing; try again, then ask whoever runs it".to_owned(),
    }
}

fn blob(about: &About<'_>, failure: &Failure) -> String {
    if matches!(failure.class, Class::Locked | Class::Blocked) {
        return content(about, Step::Blob, failure);
    }
    if failure.class == Class::RefusedAddress {
        return "blobs come from a private address while the registry's is public: give the registry's data endpoint a \
                public one, or both a private one"
            .to_owned();
    }
    match about.provider {
        Provider::Azure => format!(
            "blobs come from another host: let connections out to *.blob.core.windows.net, or to {}.REGION.data.azurecr.io \
             where dedicated data endpoints are on (`az acr show-endpoints --name {}`)",
            azure_name(about.registry),
            azure_name(about.registry)
        ),
        Provider::GitHub => {
            "blobs come from another host: let connections out to pkg-containers.githubusercontent.com".to_owned()
        }
        Provider::Aws => "blobs come from another host: let connections out to *.s3.amazonaws.com".to_owned(),
        Provider::Generic => "the manifest is there and its content is not: look at the registry's storage".to_owned(),
    }
}

#[cfg(test)]
mod tests;
