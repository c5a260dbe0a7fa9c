use super::*;
use catamaran_registry::{azure, github};

const EXEC: &str = "kubectl -n catamaran-system exec deployment/catamaran -- /catamaran check apps --with-identity";

fn failure(class: Class, message: &str) -> Failure {
    Failure {
        stage: catamaran_registry::Stage::Challenge,
        class,
        status: None,
        code: None,
        message: message.to_owned(),
    }
}

/// The operator; whether it has an identity that this command does not.
fn operator(identity: bool) -> Whose {
    Whose::Operator {
        namespace: "catamaran-system".to_owned(),
        subject: "system:serviceaccount:catamaran-system:catamaran".to_owned(),
        exec: identity.then(|| EXEC.to_owned()),
    }
}

struct Case {
    name: &'static str,
    provider: Provider,
    whose: Whose,
    kind: CredentialKind,
    step: Step,
    failure: Failure,
    says: &'static [&'static str],
}

fn case(name: &'static str, provider: Provider, step: Step, class: Class, says: &'static [&'static str]) -> Case {
    Case {
        name,
        provider,
        whose: Whose::Own,
        kind: CredentialKind::ANONYMOUS,
        step,
        failure: failure(class, ""),
        says,
    }
}

impl Case {
    fn of(mut self, whose: Whose) -> Case {
        self.whose = whose;
        self
    }

    fn with(mut self, kind: CredentialKind) -> Case {
        self.kind = kind;
        self
    }

    fn saying(mut self, message: &str) -> Case {
        message.clone_into(&mut self.failure.message);
        self
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_failing_step_says_what_to_run() {
    use catamaran_core::endpoint::Unavailable;
    let down = |why| Class::Unavailable(why);
    let (on_azure, on_github, generic, aws) = (Provider::Azure, Provider::GitHub, Provider::Generic, Provider::Aws);
    let cases = [
        case(
            "proxy wants a password",
            generic,
            Step::Connect,
            Class::NetworkDenied,
            &["HTTPS_PROXY=http://USER"],
        )
        .saying("GET https://r/v2/: the proxy wants a user name and password (through the proxy p)"),
        case(
            "proxy refuses",
            generic,
            Step::Connect,
            down(Unavailable::ConnectionFailed),
            &["is HTTPS_PROXY right", "NO_PROXY"],
        )
        .saying("GET https://r/v2/: the proxy gives no connection to it (through the proxy p)"),
        case(
            "client certificate",
            generic,
            Step::Challenge,
            Class::Unauthorized,
            &["shows no client certificate"],
        )
        .saying("GET https://r/v2/: TLS: the server wants a client certificate, and there is none"),
        case(
            "the operator's",
            generic,
            Step::Challenge,
            Class::Unauthorized,
            &["create secret tls registry-client"],
        )
        .of(operator(false))
        .saying("GET https://r/v2/: TLS: the server does not accept our client certificate"),
        case(
            "azure dns",
            on_azure,
            Step::Dns,
            down(Unavailable::DnsFailure),
            &["privatelink.azurecr.io", "az acr show"],
        ),
        case(
            "dns",
            generic,
            Step::Dns,
            down(Unavailable::DnsFailure),
            &["nslookup kracr.azurecr.io"],
        ),
        case(
            "refused address",
            generic,
            Step::Dns,
            Class::RefusedAddress,
            &["link-local"],
        ),
        case(
            "connect",
            on_github,
            Step::Connect,
            down(Unavailable::Timeout),
            &["HTTPS_PROXY"],
        ),
        case(
            "unknown issuer",
            generic,
            Step::Tls,
            Class::UntrustedCertificate,
            &["--ca-file"],
        )
        .saying("TLS: UnknownIssuer"),
        case(
            "a blob host's unknown issuer",
            on_azure,
            Step::Blob,
            Class::UntrustedCertificate,
            &["--ca-file"],
        ),
        case(
            "blocked by a policy",
            generic,
            Step::Manifest,
            Class::Blocked,
            &["a lock or a policy"],
        ),
        case(
            "unknown issuer of a mirror",
            generic,
            Step::Tls,
            Class::UntrustedCertificate,
            &["certSecretRef", "ca.crt"],
        )
        .saying("TLS: UnknownIssuer")
        .of(operator(false)),
        case(
            "expired",
            generic,
            Step::Tls,
            down(Unavailable::TlsError),
            &["renew", "clock"],
        )
        .saying("TLS: certificate expired: verification time ..."),
        case(
            "another name",
            generic,
            Step::Tls,
            down(Unavailable::TlsError),
            &["another name"],
        )
        .saying("TLS: certificate not valid for name \"x\""),
        case(
            "cut off",
            generic,
            Step::Tls,
            down(Unavailable::TlsError),
            &["TLS-inspecting firewall"],
        ),
        case(
            "foreign realm",
            generic,
            Step::Challenge,
            Class::ForeignRealm,
            &["--token-host"],
        ),
        case("web page", generic, Step::Challenge, Class::Unexpected, &["NO_PROXY"])
            .saying("not a registry's answer: a web page"),
        case(
            "github fails",
            on_github,
            Step::Challenge,
            down(Unavailable::ServerError),
            &["githubstatus.com"],
        ),
        case(
            "firewall",
            on_azure,
            Step::Challenge,
            Class::NetworkDenied,
            &["az acr network-rule add --name kracr --ip-address 20.1.2.3"],
        )
        .saying("403 DENIED: client with IP '20.1.2.3' is not allowed access"),
        case(
            "azure anonymous",
            on_azure,
            Step::Token,
            Class::Unauthorized,
            &["az acr login --name kracr"],
        ),
        case(
            "azure identity",
            on_azure,
            Step::Token,
            Class::Unauthorized,
            &[
                "AcrPull",
                "Container Registry Repository Reader",
                "system:serviceaccount:catamaran-system:catamaran",
                "federated-credential",
                EXEC,
            ],
        )
        .of(operator(true)),
        case(
            "azure password",
            on_azure,
            Step::Token,
            Class::Unauthorized,
            &[
                "AcrPull",
                "Container Registry Repository Reader",
                "az role assignment create",
            ],
        )
        .with(CredentialKind::PASSWORD),
        case(
            "azure token",
            on_azure,
            Step::Token,
            Class::Unauthorized,
            &["AcrPull", "az acr login"],
        )
        .with(azure::REFRESH_TOKEN),
        case(
            "github anonymous",
            on_github,
            Step::Token,
            Class::Unauthorized,
            &["docker login", "read:packages"],
        ),
        case(
            "github classic",
            on_github,
            Step::Token,
            Class::Forbidden,
            &["read:packages", "ended"],
        )
        .with(github::CLASSIC_TOKEN),
        case(
            "github fine-grained",
            on_github,
            Step::Token,
            Class::Forbidden,
            &["classic"],
        )
        .with(github::FINE_GRAINED_TOKEN),
        case(
            "aws",
            aws,
            Step::Token,
            Class::Unauthorized,
            &["aws ecr get-login-password"],
        ),
        case(
            "generic anonymous",
            generic,
            Step::Token,
            Class::Unauthorized,
            &["docker login"],
        ),
        case(
            "secret of a mirror",
            generic,
            Step::Token,
            Class::Unauthorized,
            &["create secret docker-registry"],
        )
        .of(operator(false)),
        case("no right to list", on_azure, Step::Tags, Class::Forbidden, &["AcrPull"]).with(CredentialKind::PASSWORD),
        case(
            "no repository",
            generic,
            Step::Tags,
            Class::Absent,
            &["'team/web'", "prefix"],
        ),
        case(
            "no manifest",
            generic,
            Step::Manifest,
            Class::Absent,
            &["push an image"],
        ),
        case(
            "azure blobs",
            on_azure,
            Step::Blob,
            down(Unavailable::Timeout),
            &["blob.core.windows.net", "data.azurecr.io"],
        ),
        case(
            "github blobs",
            on_github,
            Step::Blob,
            down(Unavailable::Timeout),
            &["pkg-containers.githubusercontent.com"],
        ),
        case("generic blobs", generic, Step::Blob, Class::NotFound, &["storage"]),
        case(
            "throttled",
            generic,
            Step::Tags,
            Class::Throttled { retry_after: None },
            &["in a minute"],
        ),
    ];
    for case in cases {
        let about = About {
            provider: case.provider,
            repository: Some("team/web"),
            registry: advice::About {
                registry: "kracr.azurecr.io",
                whose: &case.whose,
                kind: case.kind,
                private: false,
            },
        };
        let hint = hint(&about, case.step, &case.failure).unwrap_or_default();
        for words in case.says {
            assert!(hint.contains(words), "{}: {hint}", case.name);
        }
        assert!(!hint.contains("  "), "{}: {hint}", case.name);
    }
}

#[test]
fn a_private_address_that_takes_no_connection_is_a_private_endpoint() {
    let about = advice::About {
        registry: "kracr.azurecr.io",
        whose: &Whose::Own,
        kind: CredentialKind::ANONYMOUS,
        private: true,
    };
    let words = "az acr private-endpoint-connection list --registry-name kracr";
    assert!(advice_for(Provider::Azure).unconnected(&about).contains(words));
}
