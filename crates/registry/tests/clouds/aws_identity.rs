//! Who we are at Amazon: each source of keys, and what its failure says.

use catamaran_core::endpoint::Outcome;
use catamaran_core::policy::{IdentityPolicy, Provider};
use catamaran_emulators::{Answer, Options, Server, Tls, jwt};
use catamaran_registry::{Class, Client, ClientError, Connection, Credentials, Identities, Limits, Surroundings};
use serde_json::json;

use super::aws::{Ground, SECRET, STS, identity};

const WEB: &str = "krateo/web";
const ROLE: &str = "arn:aws:iam::123456789012:role/catamaran";
const SUBJECT: &str = "system:serviceaccount:catamaran-system:catamaran";

/// The machine's own endpoints, in plain HTTP.
async fn machine(ground: &Ground) -> (Server, String) {
    let options = Options {
        tls: Some(Tls::Off),
        clock: ground.server.clock().clone(),
        ..Options::default()
    };
    let server = Server::start(ground.aws.clone(), options).await.unwrap();
    let base = format!("http://{}", server.address());
    (server, base)
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

fn service_account(ground: &Ground, subject: &str) -> tempfile::NamedTempFile {
    let now = ground.server.clock().seconds();
    file(&jwt::encode(
        &json!({"aud": "sts.amazonaws.com", "sub": subject, "iat": now, "exp": now + 3600}),
    ))
}

fn shown(path: &tempfile::NamedTempFile) -> &str {
    path.path().to_str().unwrap()
}

#[tokio::test]
async fn each_source_of_keys_lists_and_logs_in() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    ground.aws.add_role(ROLE, SUBJECT);
    ground.aws.set_container("pod-token");
    ground.aws.set_instance("node-role");
    let (_machine, base) = machine(&ground).await;
    let (account, pod) = (service_account(&ground, SUBJECT), file("pod-token\n"));
    let credentials = format!("{base}/v1/credentials");
    let cases: [(&str, &[(&str, &str)]); 4] = [
        (
            "environment",
            &[("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", SECRET)],
        ),
        (
            "web identity",
            &[("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", shown(&account))],
        ),
        (
            "pod identity",
            &[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &credentials),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", shown(&pod)),
            ],
        ),
        ("instance", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &base)]),
    ];
    for (name, variables) in cases {
        let client = ground.client(identity(variables), false);
        let tags = client
            .list_tags(WEB)
            .await
            .unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert_eq!(tags.len(), 1, "{name}");
        assert_eq!(
            client.resolve(WEB, "1.0").await.unwrap().digest.to_string(),
            digest,
            "{name}"
        );
    }
    let asked = ground
        .server
        .log()
        .requests()
        .into_iter()
        .filter(|request| request.host == STS)
        .count();
    assert_eq!(asked, 1, "the keys of a role are kept");
}

#[tokio::test]
async fn a_source_that_is_configured_and_fails_is_told_and_is_no_outage() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.aws.add_role(ROLE, SUBJECT);
    ground.aws.set_container("pod-token");
    let (_machine, base) = machine(&ground).await;
    let (other, pod) = (
        service_account(&ground, "system:serviceaccount:default:x"),
        file("wrong-token"),
    );
    let (credentials, nowhere) = (format!("{base}/v1/credentials"), format!("{base}/v1/none"));
    let cases: [(&str, &[(&str, &str)]); 6] = [
        ("nobody", &[("AWS_EC2_METADATA_DISABLED", "true")]),
        (
            "another subject",
            &[("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", shown(&other))],
        ),
        (
            "no file",
            &[
                ("AWS_ROLE_ARN", ROLE),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"),
            ],
        ),
        (
            "wrong pod token",
            &[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &credentials),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", shown(&pod)),
            ],
        ),
        ("no such endpoint", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &nowhere)]),
        (
            "an endpoint elsewhere",
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/v1/credentials")],
        ),
    ];
    for (name, variables) in cases {
        let failure = ground
            .client(identity(variables), false)
            .resolve(WEB, "1.0")
            .await
            .unwrap_err();
        assert_eq!(failure.class, Class::CredentialsUnavailable, "{name}: {failure}");
        assert_eq!(failure.outcome(), Outcome::CredentialsUnavailable, "{name}");
        assert!(failure.message.contains("no identity at Amazon: "), "{name}: {failure}");
        assert!(!failure.message.contains("wrong-token"), "{name}: {failure}");
    }
}

#[tokio::test]
async fn an_outage_of_the_identity_is_not_noticed_while_keys_and_password_last() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.aws.add_role(ROLE, SUBJECT);
    let account = service_account(&ground, SUBJECT);
    let variables = [("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", shown(&account))];
    let client = ground.client(identity(&variables), false);
    client.resolve(WEB, "1.0").await.unwrap();
    ground.aws.set_broken(Some(Answer::status("sts", 503)));
    client.list_tags(WEB).await.unwrap();
    client.resolve(WEB, "1.0").await.unwrap();
}

#[test]
fn an_identity_at_amazon_is_for_amazons_registries_only() {
    let cases = [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", true),
        ("public.ecr.aws", false),
        ("registry.test", false),
    ];
    for (registry, expected) in cases {
        let identities = Identities::new(Surroundings::default());
        let ambient = |provider| {
            identities
                .credentials(provider, registry, &IdentityPolicy::Ambient)
                .unwrap()
        };
        let found = ambient(Provider::Aws);
        assert_eq!(matches!(found, Credentials::Identity(_)), expected, "{registry}");
        assert_eq!(ambient(Provider::Generic), Credentials::Anonymous, "{registry}");
        let connection = Connection {
            registry: registry.to_owned(),
            provider: Provider::Aws,
            credentials: identity(&[]),
            ..Connection::default()
        };
        let refused = matches!(
            Client::new(connection, Limits::default()),
            Err(ClientError::ForeignIdentity { .. })
        );
        assert_eq!(refused, !expected, "{registry}");
    }
}
