//! One of the two repositories, and how it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use catamaran_core::digest::Digest;
use catamaran_core::endpoint::Unavailable;
use catamaran_core::side::Sides;
use catamaran_core::tags::TagFilter;
use catamaran_registry::{Budgets, Class, Client, Connection, Credentials, Failure, Limits};

use super::credentials;
use super::target::{Repository, Targets};
use crate::cli::DiffArguments;

/// How often one request is made before its failure counts.
const ATTEMPTS: u32 = 3;
/// Before a request is made again. A registry that throttles names a longer wait, which the budget keeps.
const PAUSE: Duration = Duration::from_secs(1);

/// The tags of a repository, with the digests that their listing told.
pub type Listed = BTreeMap<String, Option<Digest>>;

/// A repository with the client of its registry.
pub struct Place {
    pub(super) path: String,
    pub(super) registry: String,
    pub(super) client: Client,
    pub(super) anonymous: bool,
}

/// What a registry says about one tag.
pub enum Found {
    /// It has the tag.
    Digest(Digest),
    /// It has the repository, but not the tag.
    NoTag,
    /// It does not have the repository.
    NoRepository,
}

/// The clients of both sides. If both are on one registry they share its budget.
///
/// Must be called within a tokio runtime.
pub fn both(arguments: &DiffArguments, targets: &Targets) -> anyhow::Result<Sides<Place>> {
    let extra_ca = arguments.ca_file.as_ref().map(|path| {
        std::fs::read(path).with_context(|| format!("failed to read the certificates in '{}'", path.display()))
    });
    let extra_ca = extra_ca.transpose()?;
    let budgets = Budgets::new();
    let place = |repository: &Repository| -> anyhow::Result<Place> {
        let registry = &repository.registry;
        let provider = Credentials::provider_of(registry);
        if let Some(limit) = arguments.per_minute {
            budgets.set_limit(registry, limit);
        }
        let keyring = credentials::find(arguments.docker_config.as_deref(), registry)?;
        let credentials = keyring.of_repository(&repository.path).clone();
        let anonymous = credentials == Credentials::Anonymous;
        if let Some(why) = credentials.unsupported_by(provider) {
            // Within Actions the workflow's own token reads what was shared with it, so it is tried.
            eprintln!("warning: the credentials for {registry}: {why}");
        }
        let connection = Connection {
            registry: registry.clone(),
            provider,
            credentials,
            extra_ca: extra_ca.clone(),
            token_hosts: arguments.token_hosts.clone(),
            allow_loopback: is_loopback(registry),
            ..Connection::default()
        };
        let client = Client::with_budgets(connection, Limits::default(), &budgets)?;
        Ok(Place {
            path: repository.path.clone(),
            registry: registry.clone(),
            client,
            anonymous,
        })
    };
    Ok(Sides {
        primary: place(&targets.repositories.primary)?,
        fallback: place(&targets.repositories.fallback)?,
    })
}

impl Place {
    /// The selected tags; none when the repository does not exist.
    pub async fn list(&self, filter: &TagFilter) -> anyhow::Result<Option<Listed>> {
        match patiently(async || self.client.list_tags(&self.path).await).await {
            Ok(tags) => {
                let selected = tags.into_iter().filter(|tag| filter.selects(&tag.name));
                Ok(Some(selected.map(|tag| (tag.name, tag.digest)).collect()))
            }
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(self.explain(&failure)),
        }
    }

    /// What a tag stands for.
    pub async fn resolve(&self, tag: &str) -> anyhow::Result<Found> {
        match patiently(async || self.client.resolve(&self.path, tag).await).await {
            Ok(resolved) => Ok(Found::Digest(resolved.digest)),
            Err(failure) if failure.is_absent() && failure.code.as_deref() == Some("NAME_UNKNOWN") => {
                Ok(Found::NoRepository)
            }
            Err(failure) if failure.is_absent() => Ok(Found::NoTag),
            Err(failure) => Err(self.explain(&failure)),
        }
    }

    fn explain(&self, failure: &Failure) -> anyhow::Error {
        let registry = &self.registry;
        match failure.class {
            Class::Unauthorized | Class::Forbidden if self.anonymous => {
                anyhow!("{failure}; no credentials were given for {registry}: `docker login`, or --docker-config")
            }
            Class::ForeignRealm => anyhow!("{failure}; give --token-host to send it the credentials of {registry}"),
            _ => anyhow!("{failure}"),
        }
    }
}

/// Makes a request again when its failure may pass by itself within seconds.
pub(super) async fn patiently<T>(request: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        match request().await {
            Err(failure) if attempt < ATTEMPTS && may_pass(&failure.class) => tokio::time::sleep(PAUSE).await,
            settled => return settled,
        }
        attempt += 1;
    }
}

/// Timeouts have had their patience, and names and certificates are not fixed in seconds.
fn may_pass(class: &Class) -> bool {
    matches!(
        class,
        Class::Throttled { .. } | Class::Unavailable(Unavailable::ServerError | Unavailable::ConnectionFailed)
    )
}

/// A registry on this machine is meant when it is named so, and only then.
pub fn is_loopback(registry: &str) -> bool {
    let port = registry
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let host = port.map_or(registry, |(host, _)| host);
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_on_this_machine_only_when_its_name_says_so() {
        for here in [
            "localhost",
            "LOCALHOST:5000",
            "127.0.0.1:5000",
            "127.0.0.1",
            "[::1]",
            "[::1]:5000",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in [
            "localhost.example",
            "ghcr.io",
            "127.0.0.1.nip.io",
            "[::2]:1",
            "10.0.0.1:5000",
            "my-localhost",
        ] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again_and_not_for_ever() {
        let throttled = Class::Throttled { retry_after: None };
        let cases = [
            (throttled, ATTEMPTS),
            (Class::Unavailable(Unavailable::ServerError), ATTEMPTS),
            (Class::Unavailable(Unavailable::ConnectionFailed), ATTEMPTS),
            (Class::Unavailable(Unavailable::Timeout), 1),
            (Class::Unavailable(Unavailable::TlsError), 1),
            (Class::Unavailable(Unavailable::DnsFailure), 1),
            (Class::Unauthorized, 1),
            (Class::Absent, 1),
        ];
        for (class, expected) in cases {
            let asked = std::cell::Cell::new(0);
            let failed: Result<(), Failure> = patiently(async || {
                asked.set(asked.get() + 1);
                Err(failure(class.clone()))
            })
            .await;
            assert_eq!(failed, Err(failure(class.clone())));
            assert_eq!(asked.get(), expected, "{class:?}");
        }
    }

    fn failure(class: Class) -> Failure {
        Failure {
            stage: catamaran_registry::Stage::Tags,
            class,
            status: None,
            code: None,
            message: String::new(),
        }
    }
}
