//! What is to be checked, as it was typed.

use anyhow::{Context as _, bail};
use catamaran_core::reference::Reference;
use catamaran_registry::advice::Whose;
use catamaran_registry::{Client, Connection, Credentials, DiagnosisTarget, Limits};

use super::plan::Plan;
use crate::cli::CheckArguments;
use crate::diff::{credentials, place};

/// One of the things that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// A repository anywhere.
    Repository(Repository),
    /// A mirror of the cluster.
    Mirror(String),
}

/// A repository, perhaps with a tag.
#[derive(Debug, PartialEq, Eq)]
pub struct Repository {
    typed: String,
    registry: String,
    path: String,
    tag: Option<String>,
}

/// Reads the arguments. What has a slash is a repository, everything else a mirror's name.
pub fn parse(arguments: &CheckArguments) -> anyhow::Result<Vec<Target>> {
    arguments.targets.iter().map(|typed| target(typed)).collect()
}

fn target(typed: &str) -> anyhow::Result<Target> {
    if !typed.contains('/') {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        if typed.is_empty() || typed.len() > 253 || !typed.bytes().all(is_name) {
            bail!("'{typed}' is neither a repository such as ghcr.io/devopskev/kevinryan-io nor the name of a mirror");
        }
        return Ok(Target::Mirror(typed.to_owned()));
    }
    let reference = Reference::parse(typed)
        .with_context(|| format!("failed to read '{typed}' as a repository such as ghcr.io/devopskev/kevinryan-io"))?;
    if reference.digest().is_some() {
        bail!("'{typed}' names content by its digest; give a repository, or a tag");
    }
    Ok(Target::Repository(Repository {
        typed: typed.to_owned(),
        registry: reference.registry().to_owned(),
        path: reference.repository().to_owned(),
        tag: reference.tag().map(str::to_owned),
    }))
}

/// The plan for a repository, with the credentials that `docker login` left.
///
/// Must be called within a tokio runtime.
pub fn plan(arguments: &CheckArguments, repository: Repository) -> anyhow::Result<Plan> {
    let registry = repository.registry;
    let provider = Credentials::provider_of(&registry);
    let keyring = credentials::find(arguments.docker_config.as_deref(), &registry)?;
    let connection = Connection {
        registry: registry.clone(),
        provider,
        credentials: keyring.of_repository(&repository.path).clone(),
        extra_ca: extra_ca(arguments)?,
        token_hosts: arguments.token_hosts.clone(),
        allow_loopback: place::is_loopback(&registry),
        ..Connection::default()
    };
    let client = Client::new(connection, Limits::default())
        .with_context(|| format!("failed to set up the client for {registry}"))?;
    Ok(Plan {
        heading: repository.typed,
        registry,
        provider,
        whose: Whose::Own,
        notes: Vec::new(),
        client: Some(client),
        target: DiagnosisTarget {
            repository: Some(repository.path),
            tag: repository.tag,
        },
    })
}

/// The certificates that were named.
pub fn extra_ca(arguments: &CheckArguments) -> anyhow::Result<Option<Vec<u8>>> {
    let read = arguments.ca_file.as_ref().map(|path| {
        std::fs::read(path).with_context(|| format!("failed to read the certificates in '{}'", path.display()))
    });
    read.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_slash_is_a_repository_and_the_rest_are_mirrors() {
        assert_eq!(target("images").unwrap(), Target::Mirror("images".to_owned()));
        let repository = |registry: &str, path: &str, tag: Option<&str>, typed: &str| {
            Target::Repository(Repository {
                typed: typed.to_owned(),
                registry: registry.to_owned(),
                path: path.to_owned(),
                tag: tag.map(str::to_owned),
            })
        };
        let cases = [
            ("ghcr.io/devopskev/web", "ghcr.io", "devopskev/web", None),
            ("localhost:5000/web:1", "localhost:5000", "web", Some("1")),
            ("library/nginx", "docker.io", "library/nginx", None),
        ];
        for (typed, registry, path, tag) in cases {
            assert_eq!(
                target(typed).unwrap(),
                repository(registry, path, tag, typed),
                "{typed}"
            );
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_an_example() {
        let digest = format!("a.example/web@sha256:{}", "0".repeat(64));
        let cases = [
            ("", "is neither a repository"),
            ("Images", "is neither a repository"),
            ("web:1", "is neither a repository"),
            ("https://ghcr.io/web", "failed to read 'https://ghcr.io/web'"),
            (&digest, "by its digest"),
        ];
        for (typed, advice) in cases {
            let error = format!("{:#}", target(typed).unwrap_err());
            assert!(error.contains(advice), "{typed}: {error}");
        }
    }
}
