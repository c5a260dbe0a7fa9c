//! The two sides of a mirror, with the credentials in its Secrets, as far as the user may read them.

use anyhow::{Context as _, anyhow};
use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_controller::connections;
use catamaran_core::policy::{MirrorPolicy, Repositories, SidePolicy};
use catamaran_core::side::Side;
use catamaran_registry::advice::Whose;
use catamaran_registry::{
    Client, ClientIdentity, Connection, DiagnosisTarget, Identities, Keyring, Limits, Surroundings,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::describe::{about_identity, about_secret};
use super::line::{Line, Mark};
use super::plan::Plan;
use super::target::extra_ca;
use crate::cli::CheckArguments;
use crate::cluster::Cluster;
use crate::diff::place;

/// One plan for each side.
pub async fn plans(arguments: &CheckArguments, cluster: &Cluster, name: &str) -> anyhow::Result<Vec<Plan>> {
    let mirror = cluster.mirror(name).await?;
    let policy = policy(&mirror).map_err(|error| anyhow!("the mirror '{name}' makes no sense: {error}"))?;
    let mut plans = Vec::new();
    for side in Side::ALL {
        plans.push(plan(arguments, cluster, &mirror, &policy, side).await?);
    }
    Ok(plans)
}

async fn plan(
    arguments: &CheckArguments,
    cluster: &Cluster,
    mirror: &RegistryMirror,
    policy: &MirrorPolicy,
    side: Side,
) -> anyhow::Result<Plan> {
    let place = &policy.sides[side];
    let target = target(mirror, policy, side);
    let secrets = Api::namespaced(cluster.client.clone(), &arguments.namespace);
    let (material, notes) = material(&secrets, place, arguments).await;
    let client = material
        .map(|material| connect(arguments, place, material))
        .transpose()?;
    let path = target
        .repository
        .as_deref()
        .map_or_else(String::new, |path| format!("/{path}"));
    Ok(Plan {
        heading: format!("{}, {side}: {}{path}", policy.id, place.registry),
        registry: place.registry.clone(),
        provider: place.provider,
        whose: Whose::Operator {
            namespace: arguments.namespace.clone(),
            subject: format!(
                "system:serviceaccount:{}:{}",
                arguments.namespace, arguments.service_account
            ),
            exec: exec(arguments, place, &policy.id.name),
        },
        notes,
        client,
        target,
    })
}

/// How to check with the operator's own identity, where it has one and this command is not to use that of its surroundings.
fn exec(arguments: &CheckArguments, place: &SidePolicy, mirror: &str) -> Option<String> {
    let own = place.credentials_secret.is_none() && place.provider.facts().has_identities;
    let (namespace, operator) = (&arguments.namespace, &arguments.service_account);
    (own && !arguments.with_identity).then(|| {
        format!(
            "kubectl -n {namespace} exec deployment/{operator} -- /catamaran check {mirror} --namespace {namespace} \
             --with-identity"
        )
    })
}

/// What is probed with, else the first repository that is listed.
fn target(mirror: &RegistryMirror, policy: &MirrorPolicy, side: Side) -> DiagnosisTarget {
    let canary = mirror.status.as_ref().and_then(|status| status.canary.as_ref());
    if let Some(canary) = canary {
        return DiagnosisTarget {
            repository: Some(policy.path(side, &canary.repository).into_owned()),
            tag: Some(canary.tag.clone()),
        };
    }
    let first = match &policy.repositories {
        Repositories::Listed(rules) => rules.first(),
        Repositories::InUse => None,
    };
    DiagnosisTarget {
        repository: first.map(|rule| rule.paths[side].clone()),
        tag: None,
    }
}

fn connect(arguments: &CheckArguments, place: &SidePolicy, material: Material) -> anyhow::Result<Client> {
    let mut authorities = extra_ca(arguments)?.unwrap_or_default();
    authorities.extend(material.authorities);
    let connection = Connection {
        registry: place.registry.clone(),
        provider: place.provider,
        credentials: material.keyring.credentials,
        below: material.keyring.below,
        extra_ca: Some(authorities).filter(|pem| !pem.is_empty()),
        client_identity: material.client_identity,
        token_hosts: [&place.token_hosts[..], &arguments.token_hosts].concat(),
        allow_loopback: place::is_loopback(&place.registry),
        ..Connection::default()
    };
    Client::new(connection, Limits::default())
        .with_context(|| format!("failed to set up the client for {}", place.registry))
}

#[derive(Default)]
struct Material {
    keyring: Keyring,
    authorities: Vec<u8>,
    client_identity: Option<ClientIdentity>,
}

/// What the Secrets of a side hold. Without the right to read them requests are anonymous; what is missing or wrong leaves no client.
async fn material(
    secrets: &Api<Secret>,
    place: &SidePolicy,
    arguments: &CheckArguments,
) -> (Option<Material>, Vec<Line>) {
    let namespace = &arguments.namespace;
    let mut material = Material::default();
    let mut notes = Vec::new();
    if place.credentials_secret.is_none() && arguments.with_identity {
        match connections::ambient(&Identities::new(Surroundings::from_environment()), place) {
            Ok(credentials) => material.keyring = credentials.into(),
            Err(error) => notes.push(about_identity(error.to_string())),
        }
    }
    if let Some(name) = &place.credentials_secret {
        let read = |secret: &Secret| connections::credentials(secret, &place.registry);
        match read_secret(secrets, name, namespace, read).await {
            Ok(keyring) => material.keyring = keyring,
            Err(line) => notes.push(line),
        }
    }
    if let Some(name) = &place.ca_secret {
        match read_secret(secrets, name, namespace, connections::certificates).await {
            Ok((pem, identity)) => {
                material.authorities = pem.unwrap_or_default();
                material.client_identity = identity;
            }
            Err(line) => notes.push(line),
        }
    }
    let broken = notes.iter().any(|line| line.mark == Mark::Failed);
    (Some(material).filter(|_| !broken), notes)
}

async fn read_secret<T>(
    secrets: &Api<Secret>,
    name: &str,
    namespace: &str,
    read: impl Fn(&Secret) -> Result<T, String>,
) -> Result<T, Line> {
    let told = |mark, problem: String, hint: String| about_secret(mark, format!("secret '{name}': {problem}"), hint);
    match catamaran_secrets::get_opt(secrets, name).await {
        Ok(Some(secret)) => read(&secret).map_err(|problem| {
            let hint = format!("look at its keys: `kubectl -n {namespace} describe secret {name}`");
            told(Mark::Failed, problem, hint)
        }),
        Ok(None) => Err(told(
            Mark::Failed,
            format!("was not found in namespace '{namespace}'"),
            "create it, correct the reference, or name the operator's namespace by --namespace".to_owned(),
        )),
        Err(error) => Err(told(
            Mark::Unknown,
            format!("may not be read in namespace '{namespace}': {}", reason(&error)),
            "goes on without it; the right to get this Secret is needed to check as the operator does".to_owned(),
        )),
    }
}

fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use catamaran_api::mirror::RegistryMirrorSpec;
    use serde_json::json;

    use super::*;

    fn mirror(repositories: &serde_json::Value, canary: &serde_json::Value) -> RegistryMirror {
        let spec: RegistryMirrorSpec = serde_json::from_value(json!({
            "primary": {"registry": "kracr.azurecr.io"},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
            "repositories": repositories,
        }))
        .unwrap();
        let mut mirror = RegistryMirror::new("images", spec);
        mirror.status = Some(serde_json::from_value(json!({"canary": canary})).unwrap());
        mirror
    }

    #[test]
    fn target_is_canary_else_first_repository_else_token() {
        let canary = json!({"repository": "web", "tag": "3f2a91c", "digest": "sha256:0"});
        let listed = json!([{"name": "api"}, {"name": "web", "fallback": "devopskev/site"}]);
        let null = serde_json::Value::Null;
        let cases = [
            (listed.clone(), canary.clone(), Some("devopskev/site"), Some("3f2a91c")),
            (listed, null.clone(), Some("devopskev/api"), None),
            (null.clone(), canary, Some("devopskev/web"), Some("3f2a91c")),
            (null.clone(), null, None, None),
        ];
        for (repositories, canary, repository, tag) in cases {
            let mirror = mirror(&repositories, &canary);
            let found = target(&mirror, &policy(&mirror).unwrap(), Side::Fallback);
            assert_eq!((found.repository.as_deref(), found.tag.as_deref()), (repository, tag));
        }
    }
}
