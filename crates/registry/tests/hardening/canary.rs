//! A canary for each kind of credential, sent to registries that repeat whatever they are sent: it is looked for in every
//! failure, report and stage, in `Debug` of everything, and in the log with everything switched on.

use std::fmt::{Debug, Write as _};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use catamaran_core::policy::Provider;
use catamaran_registry::aws::AwsIdentity;
use catamaran_registry::identity::{CloudToken, CloudTokens, TokenSource};
use catamaran_registry::{
    Budget, Client, ClientIdentity, Connection, Copier, CopyBudget, CopySettings, Credentials, DiagnosisTarget, Image,
    Keyring, ProbeTarget, Secret, azure, google,
};
use catamaran_scripted_registry::{Auth, Fault, Registry, What};
use tracing_subscriber::filter::LevelFilter;

use crate::{basic, limits};

const REPOSITORY: &str = "krateo/web";
const AZURE: &str = "kracr.azurecr.io";
const ECR: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const ECR_API: &str = "api.ecr.eu-central-1.amazonaws.com";
/// The user name that stands for "the password is a refresh token".
const NULL_USER: &str = "00000000-0000-0000-0000-000000000000";

const PASSWORD: &str = "canary/Password+8f1c ünd";
const CLASSIC: &str = "ghp_canaryClassicToken0123456789abcdef00";
const REFRESH: &str = "canary-refresh-token-77aa01";
/// What an identity service gives.
const ENTRA: &str = "canary-entra-token-19bd";
const EXCHANGED: &str = "canary-exchanged-token-c0de";
const KEY: &str = "canarySecretAccessKey/0123456789+abcdef";
const SESSION: &str = "canary-session-token-41ee";
const ECR_PASSWORD: &str = "canary-ecr-password-5a5a";
const CLIENT_KEY: &str = include_str!("keys/ec.pkcs8.pem");

/// Everything that was logged, by everyone in this process.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged() -> &'static Logged {
    static LOGGED: OnceLock<Logged> = OnceLock::new();
    LOGGED.get_or_init(|| {
        let logged = Logged::default();
        let writer = logged.clone();
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        logged
    })
}

/// The secret in the forms in which it could stand somewhere.
fn forms(secret: &str) -> Vec<String> {
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    vec![
        secret.to_owned(),
        secret.to_ascii_lowercase(),
        encoded,
        BASE64_STANDARD_NO_PAD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
        // As it is in memory dumps that `Debug` of bytes gives.
        format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned(),
    ]
}

struct Fixed;

impl TokenSource for Fixed {
    fn fetch(&self) -> CloudTokens {
        Box::pin(async {
            Ok(CloudToken {
                token: Secret::new(ENTRA.to_owned()),
                life: Duration::from_hours(1),
            })
        })
    }
}

struct Case {
    name: &'static str,
    registry: &'static str,
    provider: Provider,
    credentials: fn() -> Credentials,
    auth: Auth,
    secrets: &'static [&'static str],
}

#[expect(clippy::too_many_lines, reason = "one table")]
fn cases() -> Vec<Case> {
    let bearer = Auth::default;
    let case = |name, registry, provider, credentials, auth, secrets| Case {
        name,
        registry,
        provider,
        credentials,
        auth,
        secrets,
    };
    vec![
        case(
            "password for a token",
            "registry.test",
            Provider::Generic,
            || basic("bot", PASSWORD),
            bearer(),
            &[PASSWORD],
        ),
        case(
            "password itself",
            "registry.test",
            Provider::Generic,
            || basic("bot", PASSWORD),
            Auth::Basic,
            &[PASSWORD],
        ),
        case(
            "classic token",
            "ghcr.io",
            Provider::GitHub,
            || basic("bot", CLASSIC),
            bearer(),
            &[CLASSIC],
        ),
        case(
            "service principal",
            AZURE,
            Provider::Azure,
            || basic("app", PASSWORD),
            bearer(),
            &[PASSWORD],
        ),
        case(
            "refresh token",
            AZURE,
            Provider::Azure,
            || basic(NULL_USER, REFRESH),
            bearer(),
            &[REFRESH],
        ),
        case(
            "identity at Azure",
            AZURE,
            Provider::Azure,
            || Credentials::Identity(azure::identity("workload identity", Arc::new(Fixed))),
            bearer(),
            &[ENTRA, EXCHANGED],
        ),
        case(
            "identity at Google",
            "us-docker.pkg.dev",
            Provider::Google,
            || Credentials::Identity(google::identity("federated identity", Arc::new(Fixed))),
            bearer(),
            &[ENTRA],
        ),
        case(
            "keys of Amazon",
            ECR,
            Provider::Aws,
            || {
                let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                let variables = [
                    ("AWS_ACCESS_KEY_ID", "AKIACANARY"),
                    ("AWS_SECRET_ACCESS_KEY", KEY),
                    ("AWS_SESSION_TOKEN", SESSION),
                ];
                AwsIdentity::from_variables(variables.map(pair)).into()
            },
            Auth::Basic,
            &[KEY, SESSION, ECR_PASSWORD],
        ),
    ]
}

/// A registry with one image that plays the clouds' services, too.
async fn registry(case: &Case) -> Registry {
    let registry = Registry::start().await.unwrap();
    registry.push(REPOSITORY, "1.0", "first");
    for n in 0..3 {
        registry.push(REPOSITORY, &format!("1.{n}"), "first");
    }
    registry.set_auth(case.auth.clone());
    if case.auth == Auth::Basic {
        registry.set_account(Some(match case.provider {
            Provider::Aws => ("AWS", ECR_PASSWORD),
            _ => ("bot", PASSWORD),
        }));
    }
    registry
}

fn clouds(registry: &Registry) {
    let exchanged = format!(r#"{{"refresh_token":"{EXCHANGED}"}}"#);
    registry.fault(Fault::on("/oauth2/exchange", What::json(&exchanged)));
    let pair = BASE64_STANDARD.encode(format!("AWS:{ECR_PASSWORD}"));
    let login = format!(r#"{{"authorizationData":[{{"authorizationToken":"{pair}"}}],"imageDetails":[]}}"#);
    registry.fault(Fault::on("/", What::json(&login)).host(ECR_API));
}

/// In turn everything goes well, and requests are answered by an error that repeats what they carried.
fn faults() -> impl Iterator<Item = (u16, &'static str)> {
    let paths = [
        "/v2/",
        "token",
        "/tags/list",
        "/manifests/",
        "/blobs/",
        "/acr/v1/",
        "exchange",
        "/",
    ];
    let each = [307, 401, 403]
        .into_iter()
        .flat_map(move |status| paths.map(|path| (status, path)));
    let all = [400, 404, 405, 429, 500].map(|status| (status, "/"));
    [(200, "")].into_iter().chain(each).chain(all)
}

fn connection(case: &Case, registry: &Registry) -> Connection {
    let mut connection = registry.connection(case.registry, case.provider);
    connection.credentials = (case.credentials)();
    for other in [ECR_API, "api.github.com", "evil.test"] {
        connection.resolve.push((other.to_owned(), registry.address()));
    }
    connection
}

/// Everything that a client can say.
async fn everything(client: &Client, shown: &mut String) {
    let mut show = |what: &dyn Debug| writeln!(shown, "{what:?} {what:#?}").unwrap();
    let resolved = client.resolve(REPOSITORY, "1.0").await;
    let canary = resolved
        .as_ref()
        .ok()
        .map(|resolved| (REPOSITORY.to_owned(), resolved.digest.clone()));
    show(&resolved);
    show(&resolved.err().map(|failure| failure.to_string()));
    show(&client.list_tags(REPOSITORY).await);
    show(&client.fetch_manifest(REPOSITORY, "1.0").await);
    show(&client.lock_of(REPOSITORY, "1.0").await);
    show(&client.pull_through_prefix("ghcr.io").await);
    for canary in [canary, None] {
        let target = ProbeTarget {
            canary,
            blob: true,
            fresh_token: true,
        };
        show(&client.probe(&target, Duration::from_secs(10)).await);
    }
    for repository in [Some(REPOSITORY.to_owned()), None] {
        let mut stages = Vec::new();
        let target = DiagnosisTarget { repository, tag: None };
        client.diagnose(&target, |stage| stages.push(stage)).await;
        show(&stages);
    }
    let minted = client.pull_credential().await;
    show(&minted);
    show(&minted.err().map(|error| error.to_string()));
    show(client);
}

#[tokio::test]
async fn no_credential_is_shown_or_logged_whatever_a_registry_repeats() {
    let logged = logged();
    for case in cases() {
        let mut shown = String::new();
        for (status, path) in faults() {
            let registry = registry(&case).await;
            if status != 200 {
                registry.fault(Fault::on(path, What::Echo(status)));
            }
            clouds(&registry);
            let connection = connection(&case, &registry);
            writeln!(shown, "{connection:?}").unwrap();
            let client = Client::new(connection, limits()).unwrap();
            everything(&client, &mut shown).await;
            // The registry's tokens are secrets, too: whatever was sent.
            let sent = registry
                .requests()
                .into_iter()
                .filter_map(|request| request.authorization);
            let mut sent: Vec<String> = sent
                .filter_map(|value| Some(value.split_once(' ')?.1.to_owned()))
                .collect();
            sent.sort();
            sent.dedup();
            assert!(!sent.is_empty() || !path.is_empty(), "{}: nothing was sent", case.name);
            let log = String::from_utf8_lossy(&std::mem::take(&mut *logged.0.lock().unwrap())).into_owned();
            assert!(log.contains("registry answered"), "nothing was logged");
            for secret in case.secrets.iter().map(|secret| (*secret).to_owned()).chain(sent) {
                for form in forms(&secret) {
                    for (where_, text) in [("shown", &shown), ("logged", &log)] {
                        if let Some(at) = text.find(&form) {
                            let (from, to) = (
                                text.floor_char_boundary(at.saturating_sub(300)),
                                text.ceil_char_boundary(at + 100),
                            );
                            panic!(
                                "{}, {status} at {path:?}: {form:?} was {where_}: {}",
                                case.name,
                                &text[from..to]
                            );
                        }
                    }
                }
            }
            shown.clear();
        }
    }
}

#[tokio::test]
async fn nothing_that_holds_a_credential_shows_it() {
    let identity = azure::identity("workload identity", Arc::new(Fixed));
    let token = Fixed.fetch().await.unwrap();
    let client_identity = ClientIdentity {
        certificates: b"-----BEGIN CERTIFICATE-----".to_vec(),
        key: Secret::new(CLIENT_KEY.as_bytes().to_vec()),
    };
    let mut shown = format!("{identity:?} {:?} {client_identity:?}", token.token);
    for case in cases() {
        write!(shown, "{:?} {:#?}", (case.credentials)(), (case.credentials)()).unwrap();
    }
    let config = format!(
        r#"{{"auths":{{"r.io":{{"auth":"{}"}}}}}}"#,
        BASE64_STANDARD.encode(format!("bot:{PASSWORD}"))
    );
    let read = Keyring::from_docker_config_json(config.as_bytes(), "r.io");
    write!(
        shown,
        "{read:?} {:?}",
        Keyring::from_docker_config_json(&config.as_bytes()[1..], "r.io")
    )
    .unwrap();
    let secrets = [
        PASSWORD,
        CLASSIC,
        REFRESH,
        ENTRA,
        EXCHANGED,
        KEY,
        SESSION,
        ECR_PASSWORD,
        CLIENT_KEY,
    ];
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        assert!(!shown.contains(&form), "{form:?} in {shown}");
    }
}

#[tokio::test]
async fn a_copy_that_fails_shows_no_credential_of_either_side() {
    logged();
    for path in ["/v2/", "/token", "/blobs/", "/blobs/uploads/", "/manifests/"] {
        for status in [400, 401, 403, 500] {
            let (source, target) = (Registry::start().await.unwrap(), Registry::start().await.unwrap());
            let digest = source.push(REPOSITORY, "1.0", "first");
            let client = |registry: &Registry, password: &str| {
                let mut connection = registry.connection("registry.test", Provider::Generic);
                connection.credentials = basic("bot", password);
                Client::new(connection, limits()).unwrap()
            };
            target.fault(Fault::on(path, What::Echo(status)));
            let budget = || CopyBudget {
                reads: Arc::new(Budget::per_minute(1_000_000)),
                writes: Arc::new(Budget::per_minute(1_000_000)),
            };
            let copier = Copier::new(
                (&client(&source, CLASSIC), budget()),
                (&client(&target, PASSWORD), budget()),
                Arc::default(),
                CopySettings::default(),
            );
            let image = Image {
                from: REPOSITORY.to_owned(),
                to: REPOSITORY.to_owned(),
                tag: "1.0".to_owned(),
                digest,
            };
            let failed = copier.unwrap().copy(&image).await.unwrap_err();
            let shown = format!("{failed} {failed:?}");
            for form in [PASSWORD, CLASSIC].iter().flat_map(|secret| forms(secret)) {
                assert!(!shown.contains(&form), "{status} at {path}: {form:?} in {shown}");
            }
        }
    }
}
