//! What Secrets hold, in the forms that Kubernetes and its users give them.

use catamaran_registry::{ClientIdentity, Credentials, Keyring, Secret as Redacted};
use k8s_openapi::api::core::v1::Secret;

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

/// The credentials in a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/basic-auth`; else what is wrong
/// with it.
pub fn credentials(secret: &Secret, registry: &str) -> Result<Keyring, String> {
    if let Some(config) = value(secret, ".dockerconfigjson") {
        return Keyring::from_docker_config_json(config, registry).map_err(|error| error.to_string());
    }
    match (value(secret, "username"), value(secret, "password")) {
        (Some(username), Some(password)) => {
            let text = |bytes: &[u8], key: &str| {
                let text = std::str::from_utf8(bytes).map_err(|_| format!("the value of '{key}' is not UTF-8"))?;
                Ok::<_, String>(text.trim_end_matches('\n').to_owned())
            };
            let password = Redacted::new(text(password, "password")?);
            let credentials = Credentials::Basic {
                username: text(username, "username")?,
                password,
            };
            Ok(credentials.into())
        }
        _ => Err(format!(
            "it is of type '{}', and has neither '.dockerconfigjson' nor 'username' and 'password'; \
             create one with `kubectl create secret docker-registry`",
            secret.type_.as_deref().unwrap_or("Opaque")
        )),
    }
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

    #[test]
    fn a_basic_auth_secret_gives_credentials() {
        let read = credentials(&secret(&[("username", "bot"), ("password", "hush\n")]), "ghcr.io").unwrap();
        assert!(matches!(read.credentials, Credentials::Basic { ref username, .. } if username == "bot"));
        assert!(!format!("{read:?}").contains("hush"));
    }

    #[test]
    fn a_docker_config_gives_credentials_of_exactly_this_registry() {
        let config = r#"{"auths":{"ghcr.io":{"username":"bot","password":"hush"}}}"#;
        assert!(credentials(&secret(&[(".dockerconfigjson", config)]), "ghcr.io").is_ok());
        let error = credentials(&secret(&[(".dockerconfigjson", config)]), "evil.example").unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn docker_config_with_an_entry_for_each_path_is_of_use() {
        let entry = r#"{"username":"bot","password":"hush"}"#;
        let other = r#"{"username":"other","password":"hush"}"#;
        let config = format!(r#"{{"auths":{{"registry.test/g/p1":{entry},"registry.test/g/p2":{other}}}}}"#);
        let read = credentials(&secret(&[(".dockerconfigjson", &config)]), "registry.test").unwrap();
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
    fn a_secret_of_another_kind_says_what_to_create() {
        let error = credentials(&secret(&[("token", "x")]), "ghcr.io").unwrap_err();
        assert!(error.contains("kubectl create secret docker-registry"), "{error}");
    }
}
