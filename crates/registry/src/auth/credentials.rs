//! What we authenticate with.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::auth::identity::Identity;
use crate::wire::mask;
use crate::wire::secret::Secret;

/// A larger `.dockerconfigjson` is refused; the API server's own limit for a Secret is 1 MiB.
const LARGEST_CONFIG: usize = 1 << 20;
/// Longer user names and passwords are refused: they would not fit a request's header.
const LONGEST_CREDENTIAL: usize = 16 * 1024;
/// The user name that stands for "the password is a refresh token".
pub(crate) const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// A registry's credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// None: public images only.
    #[default]
    Anonymous,
    /// A user name and a password or token.
    Basic {
        /// The user name.
        username: String,
        /// The password, personal access token or refresh token.
        password: Secret<String>,
    },
    /// An identity that a cloud vouches for, for that cloud's own registries.
    Identity(Identity),
}

/// Why a `.dockerconfigjson` gives no credential. No message holds anything of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// More than 1 MiB.
    #[error("failed to read the docker config: larger than 1 MiB")]
    TooLarge,
    /// Not JSON with an object `auths`.
    #[error("failed to read the docker config: not JSON with an object \"auths\"")]
    NotADockerConfig,
    /// No entry for exactly this host.
    #[error("failed to find credentials: the docker config has no entry for this registry's host")]
    NoEntry,
    /// Two entries for this host disagree.
    #[error("failed to choose credentials: two entries of the docker config for this registry's host differ")]
    Ambiguous,
    /// The entry's `auth` is not the Base64 of `user:password`.
    #[error("failed to read the docker config: \"auth\" is not the Base64 of user:password")]
    BadAuth,
    /// The entry has neither `auth` nor `username` and `password`.
    #[error("failed to read the docker config: the entry has neither \"auth\" nor \"username\" and \"password\"")]
    Empty,
    /// The user name holds a colon or a control character, or one of the two is longer than 16 KiB.
    #[error("failed to read the docker config: the user name or password can't stand in a request")]
    Unusable,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// Reads the credential for `registry` (`host[:port]`) from a `.dockerconfigjson`.
    ///
    /// Keys of `auths` may be written as `host`, `https://host`, `host/v1/` and the like; only the exact host and port
    /// match: no suffixes, no wildcards. Docker Hub's many names are one.
    pub fn from_docker_config_json(bytes: &[u8], registry: &str) -> Result<Credentials, CredentialsError> {
        if bytes.len() > LARGEST_CONFIG {
            return Err(CredentialsError::TooLarge);
        }
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(CredentialsError::NotADockerConfig);
        }
        let config: DockerConfig = serde_json::from_slice(bytes).map_err(|_| CredentialsError::NotADockerConfig)?;
        let wanted = host_of(registry);
        let mut found = None;
        for (_, entry) in config.auths.into_iter().filter(|(key, _)| host_of(key) == wanted) {
            let credentials = entry.credentials()?;
            if found.as_ref().is_some_and(|other| *other != credentials) {
                return Err(CredentialsError::Ambiguous);
            }
            found = Some(credentials);
        }
        found.ok_or(CredentialsError::NoEntry)
    }

    /// The value of an `Authorization: Basic` header, without the scheme.
    pub(crate) fn basic(&self) -> Option<Secret<String>> {
        match self {
            Credentials::Basic { username, password } => Some(Secret::new(
                BASE64_STANDARD.encode(format!("{username}:{}", password.expose())),
            )),
            _ => None,
        }
    }

    /// The identity, where the credential is one.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match self {
            Credentials::Identity(identity) => Some(identity),
            _ => None,
        }
    }

    /// Takes our own credential out of a text that a registry wrote, should it echo what it was sent.
    pub(crate) fn scrub(&self, text: String) -> String {
        let Credentials::Basic { password, .. } = self else {
            return text;
        };
        let secrets: Vec<_> = self.basic().into_iter().chain([password.clone()]).collect();
        mask::hide(&text, &secrets)
    }
}

impl Entry {
    fn credentials(self) -> Result<Credentials, CredentialsError> {
        let (mut username, mut password) =
            match (self.auth.filter(|auth| !auth.is_empty()), self.username, self.password) {
                (Some(auth), _, _) => decode(&auth)?,
                (None, Some(username), Some(password)) => (username, password),
                (None, _, _) if self.identitytoken.is_some() => (TOKEN_USER.to_owned(), String::new()),
                _ => return Err(CredentialsError::Empty),
            };
        // `az acr login` leaves the refresh token here and a placeholder in `auth`.
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            TOKEN_USER.clone_into(&mut username);
            password = token;
        }
        if username.is_empty() && password.is_empty() {
            return Ok(Credentials::Anonymous);
        }
        let unusable = username.contains(':')
            || username.chars().any(char::is_control)
            || password.chars().any(char::is_control)
            || username.len().max(password.len()) > LONGEST_CREDENTIAL;
        if unusable {
            return Err(CredentialsError::Unusable);
        }
        Ok(Credentials::Basic {
            username,
            password: Secret::new(password),
        })
    }
}

fn decode(auth: &str) -> Result<(String, String), CredentialsError> {
    let auth = auth.trim();
    let bytes = BASE64_STANDARD
        .decode(auth)
        .or_else(|_| BASE64_STANDARD_NO_PAD.decode(auth))
        .map_err(|_| CredentialsError::BadAuth)?;
    let text = String::from_utf8(bytes).map_err(|_| CredentialsError::BadAuth)?;
    // Docker pads old passwords with NUL bytes.
    let text = text.trim_end_matches('\0');
    let (username, password) = text.split_once(':').ok_or(CredentialsError::BadAuth)?;
    Ok((username.to_owned(), password.to_owned()))
}

/// The lower-case `host[:port]` of a key: without scheme, path and the port that https has anyway.
fn host_of(key: &str) -> String {
    let key = key.trim();
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = key.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(key: &str, entry: &str) -> Vec<u8> {
        format!(r#"{{"auths":{{"{key}":{entry}}}}}"#).into_bytes()
    }

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        }
    }

    const ENTRY: &str = r#"{"auth":"dXNlcjpwYXNz"}"#;

    #[test]
    fn every_usual_spelling_of_a_host_matches_and_no_other_host_does() {
        let cases = [
            ("ghcr.io", "ghcr.io", true),
            ("https://ghcr.io", "ghcr.io", true),
            ("https://ghcr.io/", "ghcr.io", true),
            ("http://ghcr.io/v1/", "ghcr.io", true),
            ("ghcr.io/v2/", "ghcr.io", true),
            ("GHCR.IO", "ghcr.io", true),
            ("ghcr.io:443", "ghcr.io", true),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("localhost:5000", "localhost:5000", true),
            ("localhost:5000", "localhost:5001", false),
            ("localhost", "localhost:5000", false),
            ("evil-ghcr.io", "ghcr.io", false),
            ("ghcr.io.evil.com", "ghcr.io", false),
            ("evil.com/ghcr.io", "ghcr.io", false),
            ("io", "ghcr.io", false),
            ("*.azurecr.io", "kracr.azurecr.io", false),
            ("azurecr.io", "kracr.azurecr.io", false),
        ];
        for (key, registry, matches) in cases {
            let expected = if matches {
                Ok(basic("user", "pass"))
            } else {
                Err(CredentialsError::NoEntry)
            };
            assert_eq!(
                Credentials::from_docker_config_json(&config(key, ENTRY), registry),
                expected,
                "{key}"
            );
        }
    }

    #[test]
    fn each_form_of_an_entry_is_read() {
        let null = TOKEN_USER;
        let cases = [
            (ENTRY, Ok(basic("user", "pass"))),
            (r#"{"username":"u","password":"p:q"}"#, Ok(basic("u", "p:q"))),
            (r#"{"auth":"","username":"u","password":"p"}"#, Ok(basic("u", "p"))),
            (r#"{"auth":"dTpwOnE="}"#, Ok(basic("u", "p:q"))),
            (r#"{"auth":"dTpwOnE"}"#, Ok(basic("u", "p:q"))),
            (
                r#"{"auth":"MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOg==","identitytoken":"r"}"#,
                Ok(basic(null, "r")),
            ),
            (r#"{"identitytoken":"r"}"#, Ok(basic(null, "r"))),
            (r#"{"auth":"Og=="}"#, Ok(Credentials::Anonymous)),
            ("{}", Err(CredentialsError::Empty)),
            (r#"{"username":"u"}"#, Err(CredentialsError::Empty)),
            (r#"{"auth":"!!!"}"#, Err(CredentialsError::BadAuth)),
            (r#"{"auth":"dXNlcg=="}"#, Err(CredentialsError::BadAuth)),
            (r#"{"auth":"//86cA=="}"#, Err(CredentialsError::BadAuth)),
            (r#"{"username":"u\n","password":"p"}"#, Err(CredentialsError::Unusable)),
            (r#"{"username":"a:b","password":"p"}"#, Err(CredentialsError::Unusable)),
        ];
        for (entry, expected) in cases {
            assert_eq!(
                Credentials::from_docker_config_json(&config("r.io", entry), "r.io"),
                expected,
                "{entry}"
            );
        }
    }

    #[test]
    fn what_is_no_docker_config_is_refused_without_repeating_it() {
        let hunter2 = br#"{"auths":{"r.io":{"auth":hunter2}}}"#;
        let large = vec![b' '; LARGEST_CONFIG + 1];
        let cases: [(&[u8], CredentialsError); 6] = [
            (b"", CredentialsError::NotADockerConfig),
            (b"[]", CredentialsError::NotADockerConfig),
            (b"[{}]", CredentialsError::NotADockerConfig),
            (b"{}", CredentialsError::NotADockerConfig),
            (hunter2, CredentialsError::NotADockerConfig),
            (&large, CredentialsError::TooLarge),
        ];
        for (bytes, expected) in cases {
            let error = Credentials::from_docker_config_json(bytes, "r.io").unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn two_entries_for_one_host_must_agree() {
        let same = br#"{"auths":{"r.io":{"auth":"dXNlcjpwYXNz"},"https://r.io":{"auth":"dXNlcjpwYXNz"}}}"#;
        assert_eq!(
            Credentials::from_docker_config_json(same, "r.io"),
            Ok(basic("user", "pass"))
        );
        let other = br#"{"auths":{"r.io":{"auth":"dXNlcjpwYXNz"},"https://r.io":{"auth":"dTpw"}}}"#;
        assert_eq!(
            Credentials::from_docker_config_json(other, "r.io"),
            Err(CredentialsError::Ambiguous)
        );
    }

    #[test]
    fn debug_and_scrubbed_text_hold_no_password() {
        let credentials = basic("user", "hunter22");
        assert!(!format!("{credentials:?}").contains("hunter22"));
        let basic = credentials.basic().unwrap();
        let echoed = credentials.scrub(format!("bad password hunter22 in Basic {}", basic.expose()));
        assert_eq!(echoed, "bad password [redacted] in Basic [redacted]");
    }

    #[test]
    fn fuzzed_docker_configs_give_a_usable_credential_for_their_own_host_or_none() {
        use proptest::prelude::*;

        let samples = [
            r#"{"auths":{"ghcr.io":{"auth":"dXNlcjpjYW5hcnktcGFzc3dvcmQ="}}}"#,
            r#"{"auths":{"https://ghcr.io/v1/":{"username":"user","password":"canary-password"},"x":{"auth":"!"}},"credsStore":"x"}"#,
            r#"{"auths":{"GHCR.io:443":{"auth":"","identitytoken":"canary-password","username":"u","password":"p"}}}"#,
            r#"{"auths":{"index.docker.io":{}}}"#,
        ];
        let property = |input: Vec<u8>| {
            match Credentials::from_docker_config_json(&input, "ghcr.io") {
                Ok(Credentials::Basic { username, password }) => {
                    let usable = |text: &str| !text.chars().any(char::is_control) && text.len() <= LONGEST_CREDENTIAL;
                    prop_assert!(usable(&username) && usable(password.expose()) && !username.contains(':'));
                    let entry = serde_json::json!({ "username": username, "password": password.expose() });
                    let written = serde_json::json!({ "auths": { "ghcr.io": entry } }).to_string();
                    let credentials = Credentials::Basic { username, password };
                    let shown = format!("{credentials:?}");
                    prop_assert!(!shown.contains("canary-password"));
                    let again = Credentials::from_docker_config_json(written.as_bytes(), "ghcr.io");
                    prop_assert_eq!(again, Ok(credentials));
                }
                Ok(other) => prop_assert_eq!(other, Credentials::Anonymous),
                Err(error) => prop_assert!(!error.to_string().contains("canary")),
            }
            let stranger = Credentials::from_docker_config_json(&input, "nobody.invalid");
            prop_assert!(stranger.is_err() || input.windows(6).any(|part| part.eq_ignore_ascii_case(b"nobody")));
            Ok(())
        };
        catamaran_fuzz::run(file!(), "docker_configs", &catamaran_fuzz::mutated(&samples), property);
    }
}
