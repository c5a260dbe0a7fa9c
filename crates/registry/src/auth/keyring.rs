//! The entries of a docker config for one registry, chosen as a kubelet chooses them.
//!
//! A key of `auths` is a host with a port, if it has one, and perhaps a path: its credential is for the images below that
//! (Kubernetes, "Images", "Interpretation of config.json"; `pkg/credentialprovider/keyring.go`). Labels of the host may have
//! wildcards. A kubelet tries all keys that match, the longest first; the first of them is taken here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use serde::Deserialize;

use crate::auth::credentials::{Credentials, TOKEN_USER};
use crate::wire::secret::Secret;

/// A larger `.dockerconfigjson` is refused; the API server's own limit for a Secret is 1 MiB.
const LARGEST_CONFIG: usize = 1 << 20;
/// Longer user names and passwords are refused: they would not fit a request's header.
const LONGEST_CREDENTIAL: usize = 16 * 1024;
/// Entries for one registry that are kept.
const MOST_ENTRIES: usize = 256;
/// What Docker Hub is called in keys, in the order in which they count for images of `docker.io`.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Why a `.dockerconfigjson` gives no credential. No message holds anything of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// More than 1 MiB.
    #[error("failed to read the docker config: larger than 1 MiB")]
    TooLarge,
    /// Not JSON with an object `auths`.
    #[error("failed to read the docker config: not JSON with an object \"auths\"")]
    NotADockerConfig,
    /// No entry for this host.
    #[error("failed to find credentials: the docker config has no entry for this registry's host")]
    NoEntry,
    /// Two entries for the same host and path disagree.
    #[error("failed to choose credentials: two entries of the docker config for the same host and path differ")]
    Ambiguous,
    /// More entries for one registry than are kept.
    #[error("failed to read the docker config: more than {MOST_ENTRIES} entries for this registry")]
    TooMany,
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

/// The credentials of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    /// For every image that none of the others is for.
    pub credentials: Credentials,
    /// For the images whose repository begins with a path, in the order in which they count.
    pub below: Vec<(String, Credentials)>,
}

impl From<Credentials> for Keyring {
    fn from(credentials: Credentials) -> Keyring {
        Keyring {
            credentials,
            below: Vec::new(),
        }
    }
}

/// A key of `auths` that is about the registry in question.
struct Key {
    /// What decides which of several counts first.
    rank: usize,
    /// Host and path, as a kubelet sorts them.
    whole: String,
    /// What the repository must begin with.
    path: String,
}

impl Keyring {
    /// Reads the credentials for `registry` (`host[:port]`) from a `.dockerconfigjson`.
    ///
    /// Keys may be written as `host`, `https://host`, `host/v1/` and the like; `*` stands for any text within one label of the host, so
    /// that `*.azurecr.io` is for each registry there. Without an entry for all of the registry, images that no entry is for are asked
    /// for without a credential.
    pub fn from_docker_config_json(bytes: &[u8], registry: &str) -> Result<Keyring, CredentialsError> {
        if bytes.len() > LARGEST_CONFIG {
            return Err(CredentialsError::TooLarge);
        }
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(CredentialsError::NotADockerConfig);
        }
        let config: DockerConfig = serde_json::from_slice(bytes).map_err(|_| CredentialsError::NotADockerConfig)?;
        let named = config.auths.into_iter();
        let mut found: Vec<_> = named
            .filter_map(|(key, entry)| Some((Key::of(&key, registry)?, entry)))
            .collect();
        found.sort_by(|(one, _), (other, _)| one.rank.cmp(&other.rank).then_with(|| other.whole.cmp(&one.whole)));
        if found.len() > MOST_ENTRIES {
            return Err(CredentialsError::TooMany);
        }
        Keyring::of(found)
    }

    /// `found`: what counts first comes first.
    fn of(found: Vec<(Key, Entry)>) -> Result<Keyring, CredentialsError> {
        if found.is_empty() {
            return Err(CredentialsError::NoEntry);
        }
        let mut keyring = Keyring::default();
        let mut before: Option<(String, Credentials)> = None;
        let mut is_complete = false;
        for (key, entry) in found {
            let is_same = before.as_ref().is_some_and(|(whole, _)| *whole == key.whole);
            if is_complete && !is_same {
                break;
            }
            let credentials = entry.credentials()?;
            if is_same {
                if before.is_some_and(|(_, other)| other != credentials) {
                    return Err(CredentialsError::Ambiguous);
                }
            } else if key.path.is_empty() {
                // What comes after it is never looked at.
                is_complete = true;
                keyring.credentials = credentials.clone();
            } else {
                keyring.below.push((key.path, credentials.clone()));
            }
            before = Some((key.whole, credentials));
        }
        Ok(keyring)
    }

    /// The credential for a repository.
    pub fn of_repository(&self, repository: &str) -> &Credentials {
        let found = self
            .below
            .iter()
            .find(|(path, _)| repository.starts_with(path.as_str()));
        found.map_or(&self.credentials, |(_, credentials)| credentials)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Credentials> {
        let below = self.below.iter().map(|(_, credentials)| credentials);
        [&self.credentials].into_iter().chain(below)
    }
}

impl Key {
    fn of(key: &str, registry: &str) -> Option<Key> {
        let (host, path) = split(key);
        let registry = split(registry).0;
        let rank = match DOCKER_HUB.iter().position(|name| *name == host) {
            // Docker Hub's other names have no paths that are images'.
            Some(rank) if DOCKER_HUB.contains(&registry.as_str()) && (rank == 0 || path.is_empty()) => rank,
            _ if matches(&host, &registry) => 0,
            _ => return None,
        };
        Some(Key {
            rank,
            whole: format!("{host}/{path}"),
            path,
        })
    }
}

/// Whether `named`, written in any of the ways in which keys of a docker config are, is the host of `registry` (`host[:port]`): without
/// wildcards and without a path. Docker Hub's names are one host.
pub fn names_host(named: &str, registry: &str) -> bool {
    !named.contains('*') && Key::of(named, registry).is_some_and(|key| key.path.is_empty())
}

/// The lower-case `host[:port]` of a key, without scheme and the port that https has anyway, and its path without the slash before it.
fn split(key: &str) -> (String, String) {
    let key = key.trim();
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host).to_owned();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    // The versions of the protocol stand for the host itself.
    let path = ["v1", "v2"]
        .iter()
        .find_map(|version| path.strip_prefix(version))
        .and_then(|rest| rest.strip_prefix('/').or_else(|| rest.is_empty().then_some("")))
        .unwrap_or(path);
    (host, path.to_owned())
}

/// Whether a host is the one that is meant: the same port, and each label is the same or matches one with wildcards.
fn matches(pattern: &str, host: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == host;
    }
    let parts = |text: &str| match text.rsplit_once(':') {
        Some((name, port)) => (name.to_owned(), port.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    let ((pattern, wanted), (host, port)) = (parts(pattern), parts(host));
    let mut labels = pattern.split('.').zip(host.split('.'));
    wanted == port
        && labels.all(|(pattern, label)| matches_label(pattern, label))
        && pattern.split('.').count() == host.split('.').count()
}

/// Whether a label fits a pattern in which `*` stands for any text.
fn matches_label(pattern: &str, label: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = label.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<_> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
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

    /// The credential for an image of nobody in particular.
    fn read(bytes: &[u8], registry: &str) -> Result<Credentials, CredentialsError> {
        let keyring = Keyring::from_docker_config_json(bytes, registry)?;
        Ok(keyring.of_repository("nobody/image").clone())
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
            ("*.azurecr.io", "kracr.azurecr.io", true),
            ("https://*.azurecr.io/v2/", "kracr.azurecr.io", true),
            ("kr*.azurecr.*", "kracr.azurecr.io", true),
            ("*.*.io", "kracr.azurecr.io", true),
            ("kr*r.azurecr.io", "kracr.azurecr.io", true),
            ("kra*acr.azurecr.io", "kracr.azurecr.io", false),
            ("*.io", "kracr.azurecr.io", false),
            ("*", "kracr.azurecr.io", false),
            ("*.*.azurecr.io", "kracr.azurecr.io", false),
            ("*.azurecr.io:8443", "kracr.azurecr.io", false),
            ("*.azurecr.io", "kracr.azurecr.io:8443", false),
            ("*.azurecr.io:*", "kracr.azurecr.io:8443", false),
            ("*.azurecr.io.evil.com", "kracr.azurecr.io", false),
            ("user@ghcr.io", "ghcr.io", false),
            ("azurecr.io", "kracr.azurecr.io", false),
        ];
        for (key, registry, matches) in cases {
            let expected = if matches {
                Ok(basic("user", "pass"))
            } else {
                Err(CredentialsError::NoEntry)
            };
            assert_eq!(read(&config(key, ENTRY), registry), expected, "{key}");
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
            assert_eq!(read(&config("r.io", entry), "r.io"), expected, "{entry}");
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
            let error = read(bytes, "r.io").unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    /// Who is asked for an image, by the user name of the entry; `None`: nobody.
    fn user_for(keys: &[&str], registry: &str, repository: &str) -> Option<String> {
        let entries = keys.iter().map(|key| {
            let entry = serde_json::json!({ "username": key.replace(':', "-"), "password": "p" });
            ((*key).to_owned(), entry)
        });
        let auths: serde_json::Map<_, _> = entries.collect();
        let config = serde_json::json!({ "auths": auths }).to_string();
        let keyring = Keyring::from_docker_config_json(config.as_bytes(), registry).unwrap();
        match keyring.of_repository(repository) {
            Credentials::Basic { username, .. } => Some(username.clone()),
            _ => None,
        }
    }

    #[test]
    fn entry_with_the_longest_path_is_taken_as_a_kubelet_takes_it() {
        let paths = [
            "r.test",
            "r.test/g/p1",
            "r.test/g",
            "https://r.test/g/p1/web",
            "other.test/g/p1",
        ];
        let parts = ["r.test/g/p1", "r.test/g/p2"];
        let stars = ["*.azurecr.io", "*.azurecr.io/team", "kracr.azurecr.io/team/a"];
        let shadowed = ["*.azurecr.io/team/a", "kracr.azurecr.io"];
        let hub = ["https://index.docker.io/v1/", "docker.io/team"];
        let versions = ["r.test/v2/team", "r.test/v2/"];
        let (azure, r) = ("kracr.azurecr.io", "r.test");
        let cases: [(&[&str], &str, &str, Option<&str>); 16] = [
            (&paths, r, "web", Some("r.test")),
            (&paths, r, "g/p3/api", Some("r.test/g")),
            (&paths, r, "g/p1/api", Some("r.test/g/p1")),
            (&paths, r, "g/p1/web", Some("https-//r.test/g/p1/web")),
            (&parts, r, "g/p1/web", Some("r.test/g/p1")),
            (&parts, r, "g/p2/web", Some("r.test/g/p2")),
            (&parts, r, "g/p3/web", None),
            (&stars, azure, "web", Some("*.azurecr.io")),
            (&stars, azure, "team/b", Some("*.azurecr.io/team")),
            (&stars, azure, "team/a/x", Some("kracr.azurecr.io/team/a")),
            (&shadowed, azure, "team/a", Some("kracr.azurecr.io")),
            (&hub, "docker.io", "library/web", Some("https-//index.docker.io/v1/")),
            (&hub, "docker.io", "team/web", Some("docker.io/team")),
            (&["docker.io", "index.docker.io"], "docker.io", "a/b", Some("docker.io")),
            (&versions, r, "team/web", Some("r.test/v2/team")),
            (&versions, r, "web", Some("r.test/v2/")),
        ];
        for (keys, registry, repository, expected) in cases {
            assert_eq!(
                user_for(keys, registry, repository).as_deref(),
                expected,
                "{keys:?} {repository}"
            );
        }
    }

    #[test]
    fn entries_for_one_registry_are_bounded() {
        let of = |count: usize| {
            let entries = (0..count)
                .map(|n| format!(r#""r.test/p{n}":{ENTRY}"#))
                .collect::<Vec<_>>();
            let config = format!(r#"{{"auths":{{{}}}}}"#, entries.join(","));
            Keyring::from_docker_config_json(config.as_bytes(), "r.test").map(|keyring| keyring.all().count())
        };
        assert_eq!(of(MOST_ENTRIES), Ok(MOST_ENTRIES + 1));
        assert_eq!(of(MOST_ENTRIES + 1), Err(CredentialsError::TooMany));
    }

    #[test]
    fn two_entries_for_one_host_must_agree() {
        let same = br#"{"auths":{"r.io":{"auth":"dXNlcjpwYXNz"},"https://r.io":{"auth":"dXNlcjpwYXNz"}}}"#;
        assert_eq!(read(same, "r.io"), Ok(basic("user", "pass")));
        let other = br#"{"auths":{"r.io":{"auth":"dXNlcjpwYXNz"},"https://r.io":{"auth":"dTpw"}}}"#;
        assert_eq!(read(other, "r.io"), Err(CredentialsError::Ambiguous));
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
            match read(&input, "ghcr.io") {
                Ok(Credentials::Basic { username, password }) => {
                    let usable = |text: &str| !text.chars().any(char::is_control) && text.len() <= LONGEST_CREDENTIAL;
                    prop_assert!(usable(&username) && usable(password.expose()) && !username.contains(':'));
                    let entry = serde_json::json!({ "username": username, "password": password.expose() });
                    let written = serde_json::json!({ "auths": { "ghcr.io": entry } }).to_string();
                    let credentials = Credentials::Basic { username, password };
                    let shown = format!("{credentials:?}");
                    prop_assert!(!shown.contains("canary-password"));
                    let again = read(written.as_bytes(), "ghcr.io");
                    prop_assert_eq!(again, Ok(credentials));
                }
                Ok(other) => prop_assert_eq!(other, Credentials::Anonymous),
                Err(error) => prop_assert!(!error.to_string().contains("canary")),
            }
            let other = Keyring::from_docker_config_json(&input, "nobody.invalid");
            let names_it = input.contains(&b'*') || input.windows(6).any(|part| part.eq_ignore_ascii_case(b"nobody"));
            prop_assert!(other.is_err() || names_it);
            Ok(())
        };
        catamaran_fuzz::run(file!(), "docker_configs", &catamaran_fuzz::mutated(&samples), property);
    }
}
