//! Credentials as `docker login` leaves them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use catamaran_core::reference::parse_registry;
use catamaran_registry::{CredentialsError, Keyring};
use serde::Deserialize;

/// One byte more than the library takes, so that it sees what is too large.
const MOST: u64 = (1 << 20) + 1;

/// What stands in a Docker configuration besides credentials.
#[derive(Deserialize)]
struct Outline {
    auths: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

/// The credentials for a registry: from the file that was named, or from Docker's own. Anonymous where there are none,
/// or no file in the usual place.
pub fn find(named: Option<&Path>, registry: &str) -> anyhow::Result<Keyring> {
    let Some(path) = named.map(Path::to_owned).or_else(usual_place) else {
        return Ok(Keyring::default());
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => return Ok(Keyring::default()),
        opened => opened,
    };
    let shown = path.display();
    let mut content = Vec::new();
    file.and_then(|file| file.take(MOST).read_to_end(&mut content))
        .with_context(|| format!("failed to read '{shown}'"))?;
    read(&content, registry).with_context(|| format!("failed to take the credentials for {registry} from '{shown}'"))
}

fn usual_place() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
    Some(folder.join("config.json"))
}

fn read(content: &[u8], registry: &str) -> anyhow::Result<Keyring> {
    let error = match Keyring::from_docker_config_json(content, registry) {
        Ok(keyring) => return Ok(keyring),
        Err(error) => error,
    };
    let Ok(outline) = serde_json::from_slice::<Outline>(content) else {
        return Err(error.into());
    };
    // A helper that keeps everything leaves an empty entry behind for each registry it knows.
    let empty = error == CredentialsError::Empty;
    if let Some(helper) = outline
        .helper(registry)
        .or_else(|| outline.store.as_deref().filter(|_| empty))
    {
        bail!(
            "the helper program docker-credential-{helper} keeps them, and helpers are not run; \
             give a file that holds them by --docker-config"
        );
    }
    // No entry means no credentials; so does a file that has no entries at all.
    match error {
        CredentialsError::NoEntry => Ok(Keyring::default()),
        CredentialsError::NotADockerConfig if outline.auths.is_none() => Ok(Keyring::default()),
        _ => Err(error.into()),
    }
}

impl Outline {
    fn helper(&self, registry: &str) -> Option<&str> {
        let wanted = parse_registry(&registry.to_ascii_lowercase()).ok()?;
        let of = |key: &str| {
            let host = key.trim_start_matches("https://").split('/').next().unwrap_or_default();
            parse_registry(&host.to_ascii_lowercase()).ok()
        };
        let found = self.helpers.iter().find(|(key, _)| of(key).as_ref() == Some(&wanted));
        found.map(|(_, helper)| helper.as_str())
    }
}

#[cfg(test)]
mod tests {
    use catamaran_registry::Credentials;

    use super::*;

    /// `user:pass`
    const PLAIN: &str = r#"{"auth":"dXNlcjpwYXNz"}"#;

    #[test]
    fn a_configuration_without_the_registry_means_anonymous() {
        let other = format!(r#"{{"auths":{{"other.example":{PLAIN}}}}}"#);
        let cases = [
            "{}",
            r#"{"auths":{}}"#,
            r#"{"auths":null}"#,
            r#"{"currentContext":"colima"}"#,
            r#"{"auths":{},"credsStore":"desktop"}"#,
            r#"{"auths":{},"credHelpers":{"other.example":"x"}}"#,
            &other,
        ];
        for content in cases {
            assert_eq!(
                read(content.as_bytes(), "ghcr.io").unwrap().credentials,
                Credentials::Anonymous,
                "{content}"
            );
        }
    }

    #[test]
    fn an_entry_for_exactly_this_registry_is_used() {
        let hub = format!(r#"{{"auths":{{"https://index.docker.io/v1/":{PLAIN}}},"credsStore":"desktop"}}"#);
        let host = format!(r#"{{"auths":{{"ghcr.io":{PLAIN}}}}}"#);
        for (content, registry) in [(&hub, "docker.io"), (&host, "ghcr.io")] {
            let found = read(content.as_bytes(), registry).unwrap();
            assert!(
                matches!(found.credentials, Credentials::Basic { username, .. } if username == "user"),
                "{content}"
            );
            assert_eq!(
                read(content.as_bytes(), "x.ghcr.io").unwrap(),
                Credentials::Anonymous.into(),
                "{content}"
            );
        }
    }

    #[test]
    fn credentials_that_only_a_helper_has_are_an_error_that_says_so() {
        let cases = [
            (
                r#"{"auths":{"ghcr.io":{}},"credsStore":"desktop"}"#,
                "ghcr.io",
                "docker-credential-desktop",
            ),
            (r#"{"credHelpers":{"ghcr.io":"gh"}}"#, "ghcr.io", "docker-credential-gh"),
            (
                r#"{"auths":{},"credHelpers":{"ghcr.io":"gh"}}"#,
                "GHCR.io",
                "docker-credential-gh",
            ),
            (
                r#"{"credHelpers":{"https://index.docker.io/v1/":"pass"}}"#,
                "docker.io",
                "docker-credential-pass",
            ),
        ];
        for (content, registry, helper) in cases {
            let error = read(content.as_bytes(), registry).unwrap_err().to_string();
            assert!(
                error.contains(helper) && error.contains("--docker-config"),
                "{content}: {error}"
            );
        }
    }

    #[test]
    fn a_broken_configuration_is_an_error_and_shows_nothing_of_itself() {
        let large = format!(r#"{{"auths":{{"ghcr.io":{{"auth":"{}"}}}}}}"#, "s3cret".repeat(200_000));
        let cases = [
            "",
            "s3cret",
            r#"["s3cret"]"#,
            r#"{"auths":"s3cret"}"#,
            r#"{"auths":{"ghcr.io":{"auth":"s3cret!"}}}"#,
            r#"{"auths":{"ghcr.io":{"password":"s3cret"}}}"#,
            &large,
        ];
        for content in cases {
            let error = format!("{:?}", read(content.as_bytes(), "ghcr.io").unwrap_err());
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
