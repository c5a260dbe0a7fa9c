//! What Secrets hold, in the forms that Kubernetes and its users give them.

use catamaran_api::annotations::REGISTRY_HOST;
use catamaran_registry::{ClientIdentity, Credentials, Keyring, Secret as Redacted, names_host};
use k8s_openapi::api::core::v1::Secret;

/// The types of Secrets that hold credentials.
const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";

fn value<'s>(secret: &'s Secret, key: &str) -> Option<&'s [u8]> {
    secret
        .data
        .as_ref()?
        .get(key)
        .map(|value| value.0.as_slice())
        .filter(|value| !value.is_empty())
}

/// The certificates in a Secret: authorities to trust, and a client certificate with its key; at least one of the two. Else
/// what is wrong with it.
pub fn certificates(secret: &Secret) -> Result<(Option<Vec<u8>>, Option<ClientIdentity>), String> {
    let authorities = value(secret, "ca.crt").map(<[u8]>::to_vec);
    let identity = match (value(secret, "tls.crt"), value(secret, "tls.key")) {
        (Some(certificates), Some(key)) => Some(ClientIdentity {
            certificates: certificates.to_vec(),
            key: Redacted::new(key.to_vec()),
        }),
        (None, None) if authorities.is_some() => None,
        (None, None) => {
            return Err("it has neither 'ca.crt' with PEM certificates nor 'tls.crt' and 'tls.key'".to_owned());
        }
        (Some(_), None) => return Err("it has 'tls.crt' without 'tls.key'; a client certificate needs both".to_owned()),
        (None, Some(_)) => return Err("it has 'tls.key' without 'tls.crt'; a client certificate needs both".to_owned()),
    };
    Ok((authorities, identity))
}

/// The credentials for `registry` in a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/basic-auth`; else what is
/// wrong with it. The Secret itself must say that it is for this registry: who writes a mirror chooses both the host and the Secret.
pub fn credentials(secret: &Secret, registry: &str) -> Result<Keyring, String> {
    match secret.type_.as_deref().unwrap_or("Opaque") {
        DOCKER_CONFIG => {
            let config = value(secret, ".dockerconfigjson").ok_or("'.dockerconfigjson' is empty")?;
            Keyring::from_docker_config_json(config, registry).map_err(|error| error.to_string())
        }
        BASIC_AUTH => {
            is_for(secret, registry)?;
            basic_auth(secret)
        }
        other => Err(format!(
            "it is of type '{other}', and only '{DOCKER_CONFIG}' and '{BASIC_AUTH}' are read; \
             create one with `kubectl create secret docker-registry`"
        )),
    }
}

/// Whether a Secret names the registry in its annotation; else what to do.
fn is_for(secret: &Secret, registry: &str) -> Result<(), String> {
    let annotations = secret.metadata.annotations.as_ref();
    let named = annotations
        .and_then(|all| all.get(REGISTRY_HOST))
        .map_or("", String::as_str);
    let hosts: Vec<&str> = named
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .collect();
    if hosts.iter().any(|host| names_host(host, registry)) {
        return Ok(());
    }
    let state = if hosts.is_empty() {
        format!("its annotation '{REGISTRY_HOST}' names no registry")
    } else {
        format!("its annotation '{REGISTRY_HOST}' names {} only", hosts.join(", "))
    };
    let all = [&hosts[..], &[registry]].concat().join(",");
    let name = secret.metadata.name.as_deref().unwrap_or("NAME");
    let namespace = secret.metadata.namespace.as_deref().unwrap_or("NAMESPACE");
    Err(format!(
        "{state}, so it is not sent to '{registry}'; if it is for that registry, run \
         `kubectl -n {namespace} annotate --overwrite secret {name} {REGISTRY_HOST}={all}`"
    ))
}

fn basic_auth(secret: &Secret) -> Result<Keyring, String> {
    let text = |key: &str| {
        let bytes = value(secret, key).ok_or(format!("'{key}' is missing or empty"))?;
        let text = std::str::from_utf8(bytes).map_err(|_| format!("the value of '{key}' is not UTF-8"))?;
        Ok::<_, String>(text.trim_end_matches('\n').to_owned())
    };
    let credentials = Credentials::Basic {
        username: text("username")?,
        password: Redacted::new(text("password")?),
    };
    Ok(credentials.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let data = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    fn of_type(kind: &str, entries: &[(&str, &str)]) -> Secret {
        Secret {
            type_: Some(kind.to_owned()),
            ..secret(entries)
        }
    }

    fn docker_config(config: &str) -> Secret {
        of_type(DOCKER_CONFIG, &[(".dockerconfigjson", config)])
    }

    fn basic_auth_for(hosts: Option<&str>) -> Secret {
        let mut secret = of_type(BASIC_AUTH, &[("username", "bot"), ("password", "hush\n")]);
        secret.metadata.annotations = hosts.map(|hosts| [(REGISTRY_HOST.to_owned(), hosts.to_owned())].into());
        secret
    }

    #[test]
    fn basic_auth_secret_is_used_for_the_hosts_that_it_names() {
        let cases = [
            ("ghcr.io", "ghcr.io"),
            ("https://GHCR.io/", "ghcr.io"),
            ("acme.azurecr.io, ghcr.io", "ghcr.io"),
            ("registry.test:5000", "registry.test:5000"),
            ("docker.io", "registry-1.docker.io"),
        ];
        for (hosts, registry) in cases {
            let read = credentials(&basic_auth_for(Some(hosts)), registry).unwrap();
            assert!(matches!(read.credentials, Credentials::Basic { ref username, .. } if username == "bot"));
            assert!(!format!("{read:?}").contains("hush"));
        }
    }

    #[test]
    fn basic_auth_secret_is_refused_for_other_hosts() {
        let cases = [
            (None, "names no registry", "registry-host=evil.example`"),
            (Some(" , "), "names no registry", "registry-host=evil.example`"),
            (Some("ghcr.io"), "names ghcr.io only", "=ghcr.io,evil.example`"),
            (Some("evil.example:5000"), " only, so it is not sent", "annotate"),
            (Some("evil.example/team"), " only, so it is not sent", "annotate"),
            (Some("*.example"), " only, so it is not sent", "annotate"),
            (Some("not-evil.example"), " only, so it is not sent", "annotate"),
        ];
        for (hosts, state, advice) in cases {
            let problem = credentials(&basic_auth_for(hosts), "evil.example").unwrap_err();
            assert!(
                problem.contains(state) && problem.contains(advice),
                "{hosts:?}: {problem}"
            );
            assert!(!problem.contains("hush") && !problem.contains("bot"), "{problem}");
        }
    }

    #[test]
    fn a_basic_auth_secret_with_an_empty_value_names_its_key() {
        let mut secret = basic_auth_for(Some("ghcr.io"));
        secret.data.as_mut().unwrap().remove("password");
        let problem = credentials(&secret, "ghcr.io").unwrap_err();
        assert!(problem.contains("'password' is missing or empty"), "{problem}");
    }

    #[test]
    fn a_docker_config_gives_credentials_of_exactly_this_registry() {
        let config = r#"{"auths":{"ghcr.io":{"username":"bot","password":"hush"}}}"#;
        assert!(credentials(&docker_config(config), "ghcr.io").is_ok());
        let error = credentials(&docker_config(config), "evil.example").unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn docker_config_with_an_entry_for_each_path_is_of_use() {
        let entry = r#"{"username":"bot","password":"hush"}"#;
        let other = r#"{"username":"other","password":"hush"}"#;
        let config = format!(r#"{{"auths":{{"registry.test/g/p1":{entry},"registry.test/g/p2":{other}}}}}"#);
        let read = credentials(&docker_config(&config), "registry.test").unwrap();
        for (path, user) in [
            ("g/p1/web", Some("bot")),
            ("g/p2/web", Some("other")),
            ("g/p3/web", None),
        ] {
            let found = match read.of_repository(path) {
                Credentials::Basic { username, .. } => Some(username.as_str()),
                _ => None,
            };
            assert_eq!(found, user, "{path}");
        }
    }

    #[test]
    fn certificates_are_authorities_or_a_client_certificate_with_its_key() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Result<(bool, bool), &'a str>);
        let cases: [Case<'_>; 6] = [
            (&[("ca.crt", "pem")], Ok((true, false))),
            (&[("tls.crt", "pem"), ("tls.key", "hush")], Ok((false, true))),
            (
                &[("ca.crt", "pem"), ("tls.crt", "pem"), ("tls.key", "hush")],
                Ok((true, true)),
            ),
            (&[("ca.crt", "pem"), ("tls.crt", "pem")], Err("without 'tls.key'")),
            (&[("tls.key", "hush")], Err("without 'tls.crt'")),
            (&[("ca.crt", "")], Err("neither 'ca.crt'")),
        ];
        for (entries, expected) in cases {
            match (certificates(&secret(entries)), expected) {
                (Ok((authorities, identity)), Ok(expected)) => {
                    assert!(!format!("{identity:?}").contains("hush"));
                    assert_eq!((authorities.is_some(), identity.is_some()), expected, "{entries:?}");
                }
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{entries:?}: {problem}"),
                (found, expected) => panic!("{entries:?}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_secret_of_another_type_is_refused_and_says_what_to_create() {
        let entries = [("username", "root"), ("password", "hush"), (".dockerconfigjson", "{}")];
        for (kind, told) in [
            (None, "'Opaque'"),
            (Some("kubernetes.io/ssh-auth"), "'kubernetes.io/ssh-auth'"),
        ] {
            let mut secret = secret(&entries);
            secret.type_ = kind.map(str::to_owned);
            secret.metadata.annotations = Some([(REGISTRY_HOST.to_owned(), "ghcr.io".to_owned())].into());
            let problem = credentials(&secret, "ghcr.io").unwrap_err();
            assert!(problem.contains(told), "{problem}");
            assert!(problem.contains("kubectl create secret docker-registry"), "{problem}");
            assert!(!problem.contains("hush"), "{problem}");
        }
    }
}
