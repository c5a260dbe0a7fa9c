//! The two registries.

use catamaran_core::policy::{IdentityPolicy, ManagedIdentity, Provider, SidePolicy};
use catamaran_core::reference::{is_repository_path, parse_registry};
use catamaran_core::side::Sides;

use super::checks::{PolicyError, at_most, check_unique, is_dns_subdomain, within};
use super::repositories;
use crate::mirror::{IdentityKind, PullSecret, RegistrySide, SecretName, SideIdentity};
use crate::rules::{
    MAX_ID, MAX_PREFIX, MAX_PULL_SECRETS, MAX_REGISTRY, MAX_RESOURCE_ID, MAX_TOKEN_HOSTS, REQUESTS_PER_MINUTE,
};

pub(super) fn side(side: &RegistrySide, field: &str) -> Result<SidePolicy, PolicyError> {
    Ok(SidePolicy {
        registry: registry(&side.registry, field)?,
        prefix: prefix(&side.prefix, field)?,
        provider: side.provider.into(),
        pull_through_cache: side.pull_through_cache,
        prewarm: prewarm(side, field)?,
        identity: identity(side, field)?,
        credentials_secret: secret(side.secret_ref.as_ref(), &format!("{field}.secretRef"))?,
        token_hosts: token_hosts(&side.token_hosts, &format!("{field}.tokenHosts"))?,
        ca_secret: secret(side.cert_secret_ref.as_ref(), &format!("{field}.certSecretRef"))?,
        image_pull_secrets: pull_secrets(&side.image_pull_secrets, &format!("{field}.imagePullSecrets"))?,
        requests_per_minute: side
            .requests_per_minute
            .map(|most| within(most, &REQUESTS_PER_MINUTE, &format!("{field}.requestsPerMinute")))
            .transpose()?,
        minted_pull_secrets: minted(side, field)?,
    })
}

fn prewarm(side: &RegistrySide, field: &str) -> Result<bool, PolicyError> {
    if side.prewarm && !side.pull_through_cache {
        return Err(PolicyError::new(
            format!("{field}.prewarm"),
            "is for a side with pullThroughCache: only a cache fills when it is pulled from",
        ));
    }
    Ok(side.prewarm)
}

/// What can only be judged with both sides at hand.
pub(super) fn check_pair(sides: &Sides<SidePolicy>) -> Result<(), PolicyError> {
    let Sides { primary, fallback } = sides;
    if primary.registry == fallback.registry && primary.prefix == fallback.prefix {
        return Err(PolicyError::new(
            "spec.fallback",
            "must differ from the primary in registry or prefix",
        ));
    }
    if primary.pull_through_cache && fallback.pull_through_cache {
        return Err(PolicyError::new(
            "spec.fallback.pullThroughCache",
            "may be true on one side only: two subsets can't be compared",
        ));
    }
    let claims = |one: &SidePolicy, other: &SidePolicy| {
        let taken = |name: &&String| other.image_pull_secrets.contains(name);
        one.minted_pull_secrets.iter().find(taken).cloned()
    };
    if let Some(name) = claims(primary, fallback).or_else(|| claims(fallback, primary)) {
        return Err(PolicyError::new(
            "spec.fallback.imagePullSecrets",
            format!("{name:?} is minted for one side and must have another name on the other"),
        ));
    }
    Ok(())
}

/// The registry in its canonical spelling. Upper case is refused: kubelets and credential helpers compare hosts byte by byte.
fn registry(text: &str, field: &str) -> Result<String, PolicyError> {
    let error = |message: String| PolicyError::new(format!("{field}.registry"), message);
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(error(format!("must be lower case, not {text:?}")));
    }
    if text.len() > MAX_REGISTRY {
        return Err(error(format!("must have at most {MAX_REGISTRY} characters")));
    }
    parse_registry(text).map_err(|reason| error(format!("must be host or host:port, not {text:?}: {reason}")))
}

/// Spelled as a registry is, but taken as it stands: `index.docker.io` is not `docker.io` here.
fn token_hosts(hosts: &[String], field: &str) -> Result<Vec<String>, PolicyError> {
    at_most(hosts.len(), MAX_TOKEN_HOSTS, field)?;
    check_unique(hosts.iter().map(String::as_str), |index| format!("{field}[{index}]"))?;
    for (index, host) in hosts.iter().enumerate() {
        registry(host, &format!("{field}[{index}]")).map_err(|error| PolicyError {
            field: format!("{field}[{index}]"),
            ..error
        })?;
    }
    Ok(hosts.to_vec())
}

fn prefix(text: &str, field: &str) -> Result<String, PolicyError> {
    let error = |message: &str| Err(PolicyError::new(format!("{field}.prefix"), message));
    if text.len() > MAX_PREFIX {
        return error(&format!("must have at most {MAX_PREFIX} characters"));
    }
    if !text.is_empty() && !is_repository_path(text) {
        return error(repositories::NOT_A_PATH);
    }
    Ok(text.to_owned())
}

fn identity(side: &RegistrySide, field: &str) -> Result<IdentityPolicy, PolicyError> {
    let Some(identity) = &side.identity else {
        return Ok(IdentityPolicy::Ambient);
    };
    let error = |field: String, message: &str| Err(PolicyError::new(field, message));
    let field = format!("{field}.identity");
    if !Provider::from(side.provider).facts().chooses_identity {
        return error(field, "is for provider azure; other registries take secretRef");
    }
    if side.secret_ref.is_some() {
        return error(field, "and secretRef exclude each other");
    }
    for (name, id, most) in [
        ("clientID", &identity.client_id, MAX_ID),
        ("tenantID", &identity.tenant_id, MAX_ID),
        ("objectID", &identity.object_id, MAX_ID),
        ("resourceID", &identity.resource_id, MAX_RESOURCE_ID),
    ] {
        let plain = |id: &String| (1..=most).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        if !id.as_ref().is_none_or(plain) {
            return error(
                format!("{field}.{name}"),
                &format!("must have 1 to {most} printable ASCII characters"),
            );
        }
    }
    match identity_of(identity) {
        Some(policy) => Ok(policy),
        None => error(
            field,
            "names more ids than its kind has: Workload has clientID and tenantID, Managed one of clientID, objectID and \
             resourceID, Anonymous none",
        ),
    }
}

/// The identity, if it names no id that its kind does not have.
fn identity_of(identity: &SideIdentity) -> Option<IdentityPolicy> {
    let SideIdentity {
        kind,
        client_id,
        tenant_id,
        object_id,
        resource_id,
    } = identity.clone();
    match (kind, client_id, tenant_id, object_id, resource_id) {
        (IdentityKind::Workload, client_id, tenant_id, None, None) => {
            Some(IdentityPolicy::Workload { client_id, tenant_id })
        }
        (IdentityKind::Managed, client_id, None, object_id, resource_id) => {
            let managed = match (client_id, object_id, resource_id) {
                (None, None, None) => ManagedIdentity::System,
                (Some(id), None, None) => ManagedIdentity::Client(id),
                (None, Some(id), None) => ManagedIdentity::Object(id),
                (None, None, Some(id)) => ManagedIdentity::Resource(id),
                _ => return None,
            };
            Some(IdentityPolicy::Managed(managed))
        }
        (IdentityKind::Anonymous, None, None, None, None) => Some(IdentityPolicy::Anonymous),
        _ => None,
    }
}

fn secret(reference: Option<&SecretName>, field: &str) -> Result<Option<String>, PolicyError> {
    reference
        .map(|reference| secret_name(&reference.name, field))
        .transpose()
}

fn pull_secrets(references: &[PullSecret], field: &str) -> Result<Vec<String>, PolicyError> {
    at_most(references.len(), MAX_PULL_SECRETS, field)?;
    check_unique(references.iter().map(|reference| reference.name.as_str()), |index| {
        format!("{field}[{index}].name")
    })?;
    references
        .iter()
        .enumerate()
        .map(|(index, reference)| secret_name(&reference.name, &format!("{field}[{index}]")))
        .collect()
}

fn minted(side: &RegistrySide, field: &str) -> Result<Vec<String>, PolicyError> {
    let mints = Provider::from(side.provider).facts().mints;
    let wanted = side.image_pull_secrets.iter().enumerate();
    wanted
        .filter(|(_, reference)| reference.mint)
        .map(|(index, reference)| {
            mints.then(|| reference.name.clone()).ok_or_else(|| {
                PolicyError::new(
                    format!("{field}.imagePullSecrets[{index}].mint"),
                    "needs provider azure or aws, whose tokens expire",
                )
            })
        })
        .collect()
}

fn secret_name(name: &str, field: &str) -> Result<String, PolicyError> {
    if !is_dns_subdomain(name) {
        return Err(PolicyError::new(
            format!("{field}.name"),
            format!("must be the name of a Secret (lower-case letters, digits, '-' and '.'), not {name:?}"),
        ));
    }
    Ok(name.to_owned())
}
