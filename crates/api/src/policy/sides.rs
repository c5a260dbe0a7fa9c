//! The two registries.

use catamaran_core::policy::{Provider, SidePolicy};
use catamaran_core::reference::{is_repository_path, parse_registry};
use catamaran_core::side::Sides;

use super::{PolicyError, check_unique, repositories};
use crate::mirror::{ProviderName, RegistrySide, SecretName};
use crate::rules::{MAX_PREFIX, MAX_PULL_SECRETS, MAX_REGISTRY, MAX_TOKEN_HOSTS};

pub(super) fn side(side: &RegistrySide, field: &str) -> Result<SidePolicy, PolicyError> {
    Ok(SidePolicy {
        registry: registry(&side.registry, field)?,
        prefix: prefix(&side.prefix, field)?,
        provider: match side.provider {
            ProviderName::Generic => Provider::Generic,
            ProviderName::GitHub => Provider::GitHub,
            ProviderName::Azure => Provider::Azure,
            ProviderName::Aws => Provider::Aws,
        },
        pull_through_cache: side.pull_through_cache,
        credentials_secret: secret(side.secret_ref.as_ref(), &format!("{field}.secretRef"))?,
        token_hosts: token_hosts(&side.token_hosts, &format!("{field}.tokenHosts"))?,
        ca_secret: secret(side.cert_secret_ref.as_ref(), &format!("{field}.certSecretRef"))?,
        image_pull_secrets: pull_secrets(&side.image_pull_secrets, &format!("{field}.imagePullSecrets"))?,
    })
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
    if hosts.len() > MAX_TOKEN_HOSTS {
        return Err(PolicyError::new(
            field,
            format!("must have at most {MAX_TOKEN_HOSTS} entries"),
        ));
    }
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

fn secret(reference: Option<&SecretName>, field: &str) -> Result<Option<String>, PolicyError> {
    reference.map(|reference| secret_name(reference, field)).transpose()
}

fn pull_secrets(references: &[SecretName], field: &str) -> Result<Vec<String>, PolicyError> {
    if references.len() > MAX_PULL_SECRETS {
        return Err(PolicyError::new(
            field,
            format!("must have at most {MAX_PULL_SECRETS} entries"),
        ));
    }
    check_unique(references.iter().map(|reference| reference.name.as_str()), |index| {
        format!("{field}[{index}].name")
    })?;
    references
        .iter()
        .enumerate()
        .map(|(index, reference)| secret_name(reference, &format!("{field}[{index}]")))
        .collect()
}

/// A DNS-1123 subdomain.
fn secret_name(reference: &SecretName, field: &str) -> Result<String, PolicyError> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        label
            .bytes()
            .next()
            .zip(label.bytes().last())
            .is_some_and(|(first, last)| is_word(first) && is_word(last))
            && label.bytes().all(|byte| is_word(byte) || byte == b'-')
    };
    let name = &reference.name;
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(PolicyError::new(
            format!("{field}.name"),
            format!("must be the name of a Secret (lower-case letters, digits, '-' and '.'), not {name:?}"),
        ));
    }
    Ok(name.clone())
}
