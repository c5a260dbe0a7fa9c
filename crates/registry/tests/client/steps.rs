//! Diagnosis of the scripted registry: what is found at each step, and where it ends.

use catamaran_core::endpoint::Unavailable;
use catamaran_core::policy::Provider;
use catamaran_registry::steps::{Finding, Step, StepResult, Wants};
use catamaran_registry::{Class, Client, Connection, CredentialKind, DiagnosisTarget};
use catamaran_scripted_registry::{Auth, Certificate, Fault, Registry, What, Wire};

use crate::{AZURE, GENERIC, GITHUB, basic, brief, limits, registry_with_image, unavailable};

async fn diagnose(connection: Connection, limits: catamaran_registry::Limits) -> Vec<StepResult> {
    let target = DiagnosisTarget {
        repository: Some("krateo/web".to_owned()),
        tag: None,
    };
    diagnose_to(connection, limits, &target).await
}

async fn diagnose_to(
    connection: Connection,
    limits: catamaran_registry::Limits,
    target: &DiagnosisTarget,
) -> Vec<StepResult> {
    let client = Client::new(connection, limits).unwrap();
    let mut seen = Vec::new();
    client.diagnose(target, |step| seen.push(step)).await;
    seen
}

fn finding(seen: &[StepResult], step: Step) -> &Finding {
    let result = seen.iter().find(|result| result.step == step).unwrap();
    result.finding.as_ref().unwrap()
}

const ALL: [Step; 9] = [
    Step::Dns,
    Step::Connect,
    Step::Tls,
    Step::Challenge,
    Step::Credential,
    Step::Token,
    Step::Tags,
    Step::Manifest,
    Step::Blob,
];

#[tokio::test]
async fn diagnosis_of_a_good_registry_ends_with_a_byte_of_a_blob() {
    let registry = registry_with_image().await;
    let digest = registry.push("krateo/web", "latest", "second");
    registry.set_account(Some(("bot", "hunter2")));
    let mut connection = registry.connection(AZURE, Provider::Azure);
    connection.credentials = basic("bot", "hunter2");
    let seen = diagnose(connection, limits()).await;
    assert_eq!(
        seen.iter().map(|result| result.step).collect::<Vec<_>>(),
        ALL,
        "{seen:#?}"
    );
    assert!(seen.iter().all(|result| result.failure.is_none()), "{seen:#?}");
    let Finding::Addresses { addresses, .. } = finding(&seen, Step::Dns) else {
        panic!()
    };
    assert_eq!(addresses[0].address, registry.address().ip());
    assert!(addresses[0].private);
    let Finding::Certificates(chain) = finding(&seen, Step::Tls) else {
        panic!()
    };
    assert!(chain[0].subject.contains(AZURE), "{chain:?}");
    assert!(chain[0].issuer.contains("scripted registry"), "{chain:?}");
    let wants = Wants::Bearer {
        realm: format!("https://{AZURE}/oauth2/token"),
        service: Some(AZURE.to_owned()),
    };
    assert_eq!(*finding(&seen, Step::Challenge), Finding::Wants(wants));
    let Finding::Presented(presented) = finding(&seen, Step::Credential) else {
        panic!()
    };
    assert_eq!(
        (presented.kind, presented.username.as_deref()),
        (CredentialKind::PASSWORD, Some("bot"))
    );
    let Finding::Admitted { scope, .. } = finding(&seen, Step::Token) else {
        panic!()
    };
    assert_eq!(scope.as_deref(), Some("repository:krateo/web:pull,metadata_read"));
    assert_eq!(*finding(&seen, Step::Tags), Finding::Tags(2));
    let Finding::Manifest { tag, digest: found, .. } = finding(&seen, Step::Manifest) else {
        panic!()
    };
    assert_eq!((tag.as_str(), found), ("latest", &digest));
    assert!(!format!("{seen:?}").contains("hunter2"), "{seen:#?}");
}

#[tokio::test]
async fn diagnosis_without_repository_ends_with_the_token() {
    for (auth, wants) in [
        (Auth::Open, Some(Wants::Nothing)),
        (Auth::Basic, Some(Wants::Basic)),
        (Auth::default(), None),
    ] {
        let registry = registry_with_image().await;
        registry.set_auth(auth.clone());
        registry.set_account(Some(("bot", "hunter2")));
        let mut connection = registry.connection(GENERIC, Provider::Generic);
        connection.credentials = basic("bot", "hunter2");
        let seen = diagnose_to(connection, limits(), &DiagnosisTarget::default()).await;
        let last = seen.last().unwrap();
        assert_eq!((last.step, &last.failure), (Step::Token, &None), "{auth:?}");
        if let Some(wants) = wants {
            assert_eq!(*finding(&seen, Step::Challenge), Finding::Wants(wants));
        }
    }
}

/// How one registry is made to fail.
type Script = fn(&Registry, &mut Connection);

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn each_failure_is_told_on_its_own_step() {
    let cases: [(&str, Script, Step, Class); 15] = [
        (
            "closed",
            |registry, _| registry.set_wire(Wire::Close),
            Step::Tls,
            unavailable(Unavailable::TlsError),
        ),
        (
            "silent",
            |registry, _| registry.set_wire(Wire::Silent),
            Step::Tls,
            unavailable(Unavailable::Timeout),
        ),
        (
            "unknown authority",
            |_, connection| connection.extra_ca = None,
            Step::Tls,
            Class::UntrustedCertificate,
        ),
        (
            "expired",
            |registry, _| registry.set_certificate(Certificate::Expired),
            Step::Tls,
            unavailable(Unavailable::TlsError),
        ),
        (
            "wrong name",
            |registry, _| registry.set_certificate(Certificate::WrongName),
            Step::Tls,
            unavailable(Unavailable::TlsError),
        ),
        (
            "web page",
            |registry, _| registry.fault(Fault::on("/v2/", What::html(200))),
            Step::Challenge,
            Class::Unexpected,
        ),
        (
            "5xx",
            |registry, _| registry.fault(Fault::on("/v2/", What::status(503))),
            Step::Challenge,
            unavailable(Unavailable::ServerError),
        ),
        (
            "firewall",
            |registry, _| {
                let denied = What::error(403, "DENIED", "client with IP '20.1.2.3' is not allowed access");
                registry.fault(Fault::on("/", denied));
            },
            Step::Challenge,
            Class::NetworkDenied,
        ),
        (
            "foreign realm",
            |registry, _| {
                let foreign = r#"Bearer realm="https://evil.test/token",service="x""#;
                registry.fault(Fault::on("/v2/", What::challenge(foreign)));
            },
            Step::Challenge,
            Class::ForeignRealm,
        ),
        (
            "wrong password",
            |registry, _| registry.set_account(Some(("bot", "other"))),
            Step::Token,
            Class::Unauthorized,
        ),
        (
            "denied token",
            |registry, _| registry.fault(Fault::on("/token", What::error(403, "DENIED", "denied"))),
            Step::Token,
            Class::Forbidden,
        ),
        (
            "throttled",
            |registry, _| registry.fault(Fault::on("/tags/list", What::throttled(None))),
            Step::Tags,
            Class::Throttled { retry_after: None },
        ),
        (
            "no such repository",
            |registry, _| registry.delete_repository("krateo/web"),
            Step::Tags,
            Class::Absent,
        ),
        (
            "no manifest",
            |registry, _| {
                let unknown = What::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
                registry.fault(Fault::on("/manifests/", unknown));
            },
            Step::Manifest,
            Class::Absent,
        ),
        (
            "no blob",
            |registry, _| registry.fault(Fault::on("/blobs/", What::status(404))),
            Step::Blob,
            Class::NotFound,
        ),
    ];
    for (name, script, step, class) in cases {
        let registry = registry_with_image().await;
        let mut connection = registry.connection(GITHUB, Provider::GitHub);
        connection.credentials = basic("bot", "hunter2");
        script(&registry, &mut connection);
        let seen = diagnose(connection, brief()).await;
        let last = seen.last().unwrap();
        let failure = last.failure.as_ref().unwrap_or_else(|| panic!("{name}: {seen:#?}"));
        assert_eq!((last.step, &failure.class), (step, &class), "{name}: {failure}");
        let below: Vec<Step> = seen.iter().map(|result| result.step).collect();
        assert_eq!(below, ALL[..below.len()], "{name}");
        assert!(
            seen[..seen.len() - 1].iter().all(|result| result.failure.is_none()),
            "{name}"
        );
        assert!(!format!("{seen:?}").contains("hunter2"), "{name}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_shown_all_the_same() {
    let registry = registry_with_image().await;
    registry.set_certificate(Certificate::Expired);
    let seen = diagnose(registry.connection(GITHUB, Provider::GitHub), brief()).await;
    let Finding::Certificates(chain) = finding(&seen, Step::Tls) else {
        panic!()
    };
    assert_eq!(chain[0].not_after.to_string(), "2001-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_fails_at_connect() {
    let registry = registry_with_image().await;
    let connection = registry.connection(GITHUB, Provider::GitHub);
    drop(registry);
    let seen = diagnose(connection, brief()).await;
    let last = seen.last().unwrap();
    assert_eq!(last.step, Step::Connect, "{seen:#?}");
    assert_eq!(
        last.failure.as_ref().unwrap().class,
        unavailable(Unavailable::ConnectionFailed)
    );
}

#[tokio::test]
async fn a_repository_without_tags_ends_at_the_manifest() {
    let registry = registry_with_image().await;
    registry.untag("krateo/web", "1.0");
    let seen = diagnose(registry.connection(GITHUB, Provider::GitHub), limits()).await;
    let last = seen.last().unwrap();
    assert_eq!(last.step, Step::Manifest, "{seen:#?}");
    assert_eq!(*finding(&seen, Step::Tags), Finding::Tags(0));
    assert!(last.failure.as_ref().unwrap().message.contains("has no tag"));
}
