//! Google: identities of the metadata server and of workload identity federation, lists with digests, and uploads by one request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_core::digest::Digest;
use catamaran_core::endpoint::Outcome;
use catamaran_core::policy::{IdentityPolicy, Provider};
use catamaran_emulators::{Clock, Gar, Google, Hosts, Memory, Options, Server, Tls, google, jwt};
use catamaran_registry::copy::Placed;
use catamaran_registry::{
    Budget, Budgets, Class, Client, ClientError, Connection, Copied, Copier, CopyBudget, CopyError, CopyLimits,
    CopySettings, Credentials, Failure, Identities, Image, Limits, ProbeTarget, PullError, Stage, Surroundings,
};
use catamaran_scripted_registry::{Fault, IMAGE_MANIFEST, Registry, What};
use serde_json::{Value, json};

use super::{basic, connection, limits};

const HOST: &str = "europe-west4-docker.pkg.dev";
const WEB: &str = "project/images/web";
const ACCOUNT: &str = "catamaran@project.iam.gserviceaccount.com";
const PRINCIPAL: &str = "principal://iam.googleapis.com/pool/subject/catamaran";
const AUDIENCE: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster";
const SUBJECT: &str = "system:serviceaccount:catamaran-system:catamaran";

/// Google on loopback.
struct Ground {
    clock: Clock,
    memory: Arc<Memory>,
    google: Arc<Google>,
    gar: Arc<Gar>,
    server: Server,
    metadata: Server,
    files: tempfile::TempDir,
}

impl Ground {
    async fn start() -> Ground {
        let clock = Clock::new();
        let memory = Arc::new(Memory::new(clock.clone()));
        let google = Arc::new(Google::new(clock.clone()));
        let gar = Arc::new(Gar::new(HOST, memory.clone(), google.clone(), clock.clone()));
        let hosts = Hosts::new()
            .with(HOST, gar.clone())
            .with(google::STS, google.clone())
            .with(google::IAM, google.clone());
        let options = |tls| Options {
            tls,
            clock: clock.clone(),
            ..Options::default()
        };
        let server = Server::start(Arc::new(hosts), options(None)).await.unwrap();
        let metadata = Server::start(google.clone(), options(Some(Tls::Off))).await.unwrap();
        Ground {
            clock,
            memory,
            google,
            gar,
            server,
            metadata,
            files: tempfile::tempdir().unwrap(),
        }
    }

    /// The service account of the pod, which may read, or write.
    async fn granted(writes: bool) -> Ground {
        let ground = Ground::start().await;
        ground.google.attach(ACCOUNT);
        ground.gar.grant(ACCOUNT, writes);
        ground
    }

    fn surroundings(&self, variables: &[(&str, String)]) -> Surroundings {
        let pair = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
        Surroundings {
            variables: variables.iter().map(pair).collect(),
            extra_ca: Some(self.server.ca_pem().unwrap().as_bytes().to_vec()),
            resolve: [google::STS, google::IAM]
                .map(|host| (host.to_owned(), self.server.address()))
                .to_vec(),
            metadata: Some(self.metadata.address()),
            machine: Some("Google Compute Engine".to_owned()),
        }
    }

    /// What a pod without variables has.
    fn ambient(&self) -> Credentials {
        ambient(self.surroundings(&[]))
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What a pod has whose configuration is this one.
    fn configured(&self, configuration: &Value) -> Credentials {
        let file = self.write("configuration.json", &configuration.to_string());
        ambient(self.surroundings(&[("GOOGLE_APPLICATION_CREDENTIALS", file)]))
    }

    /// A configuration of workload identity federation whose projected token is of this subject.
    fn federation(&self, subject: &str) -> Value {
        let now = self.clock.seconds();
        let token = jwt::encode(&json!({"sub": subject, "iat": now, "exp": now + 3600}));
        json!({
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": self.write("token", &format!("{token}\n")), "format": {"type": "text"}},
        })
    }

    fn connection(&self, credentials: Credentials) -> Connection {
        let mut connection = connection(&self.server, HOST, &[HOST]);
        connection.provider = Provider::Google;
        connection.credentials = credentials;
        connection
    }

    fn client(&self, credentials: Credentials) -> Client {
        Client::with_budgets(self.connection(credentials), limits(), &Budgets::new()).unwrap()
    }

    fn count(&self, kind: &str) -> usize {
        self.server.log().count(kind) + self.metadata.log().count(kind)
    }
}

fn ambient(surroundings: Surroundings) -> Credentials {
    let identities = Identities::new(surroundings);
    let credentials = identities.credentials(Provider::Google, HOST, &IdentityPolicy::Ambient);
    credentials.unwrap()
}

async fn refused(client: &Client) -> Failure {
    client.list_tags(WEB).await.unwrap_err()
}

fn impersonating(mut configuration: Value) -> Value {
    let url =
        format!("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken");
    configuration["service_account_impersonation_url"] = url.into();
    configuration
}

#[tokio::test]
async fn one_list_has_every_tag_with_its_digest() {
    let ground = Ground::granted(false).await;
    let mut pushed = Vec::new();
    for n in 0..35 {
        let digest = ground.memory.push(WEB, &format!("t{n:02}"), &format!("{}", n / 2));
        pushed.push((format!("t{n:02}"), Some(digest)));
    }
    let client = ground.client(ground.ambient());
    let listed = client.list_tags(WEB).await.unwrap();
    let listed: Vec<_> = listed
        .into_iter()
        .map(|tag| (tag.name, tag.digest.map(|digest| digest.to_string())))
        .collect();
    assert_eq!(listed, pushed);
    assert_eq!((ground.count("tags"), ground.count("manifest")), (1, 0));
    assert_eq!((ground.count("metadata"), ground.count("token")), (1, 1));
}

#[tokio::test]
async fn probe_with_the_pods_identity_reads_a_blob() {
    let ground = Ground::granted(false).await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    let target = ProbeTarget {
        canary: Some((WEB.to_owned(), digest.parse().unwrap())),
        blob: true,
        fresh_token: true,
    };
    let client = ground.client(ground.ambient());
    for _ in 0..3 {
        let report = client.probe(&target, Duration::from_secs(20)).await;
        assert_eq!(
            (report.outcome, report.stage),
            (Outcome::Reachable, Stage::Blob),
            "{}",
            report.message
        );
    }
    assert_eq!(ground.count("metadata"), 1, "one access token for all");
}

#[tokio::test]
async fn public_image_is_read_without_a_credential() {
    let ground = Ground::start().await;
    let digest = ground.memory.push(WEB, "1.0", "first");
    ground.gar.grant("allUsers", false);
    let client = ground.client(Credentials::Anonymous);
    assert_eq!(client.resolve(WEB, "1.0").await.unwrap().digest.to_string(), digest);
    assert_eq!(ground.count("metadata"), 0);
}

#[tokio::test]
async fn projected_token_is_exchanged_and_a_service_account_impersonated() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.google.federate(AUDIENCE, SUBJECT, PRINCIPAL);
    ground.gar.grant(PRINCIPAL, false);
    let direct = ground.client(ground.configured(&ground.federation(SUBJECT)));
    assert_eq!(direct.list_tags(WEB).await.unwrap().len(), 1);
    assert_eq!((ground.count("exchange"), ground.count("impersonate")), (1, 0));
    ground.gar.grant(ACCOUNT, false);
    ground.google.let_impersonate(PRINCIPAL, ACCOUNT);
    let configuration = impersonating(ground.federation(SUBJECT));
    let impersonator = ground.client(ground.configured(&configuration));
    assert_eq!(impersonator.list_tags(WEB).await.unwrap().len(), 1);
    assert_eq!((ground.count("exchange"), ground.count("impersonate")), (2, 1));
    assert_eq!(ground.count("metadata"), 0);
}

#[tokio::test]
async fn projected_token_may_stand_in_a_json_file() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.google.federate(AUDIENCE, SUBJECT, PRINCIPAL);
    ground.gar.grant(PRINCIPAL, false);
    let mut configuration = ground.federation(SUBJECT);
    let token = std::fs::read_to_string(ground.files.path().join("token")).unwrap();
    let file = ground.write("token.json", &json!({"id_token": token.trim()}).to_string());
    configuration["credential_source"] =
        json!({"file": file, "format": {"type": "json", "subject_token_field_name": "id_token"}});
    let client = ground.client(ground.configured(&configuration));
    assert_eq!(client.list_tags(WEB).await.unwrap().len(), 1);
}

#[tokio::test]
async fn identity_that_gets_no_token_says_what_to_do() {
    let ground = Ground::start().await;
    ground.google.federate(AUDIENCE, SUBJECT, PRINCIPAL);
    let federation = ground.federation(SUBJECT);
    let unknown = {
        let mut configuration = federation.clone();
        configuration["audience"] = "//iam.googleapis.com/another".into();
        configuration
    };
    let elsewhere = {
        let mut configuration = federation.clone();
        configuration["token_url"] = "https://sts.googleapis.com.evil.test/v1/token".into();
        configuration
    };
    let from_a_url = {
        let mut configuration = federation.clone();
        configuration["credential_source"] = json!({"url": "http://169.254.169.254/token"});
        configuration
    };
    let no_file = {
        let mut configuration = federation.clone();
        configuration["credential_source"]["file"] = "/nonexistent/token".into();
        configuration
    };
    let cases = [
        (None, "iam.gke.io/gcp-service-account"),
        (Some(unknown), "the pool's provider must trust the issuer"),
        (Some(impersonating(federation)), "roles/iam.workloadIdentityUser"),
        (Some(elsewhere), "token_url"),
        (Some(from_a_url), "names no file"),
        (Some(no_file), "/nonexistent/token"),
        (Some(json!({"type": "service_account"})), "_json_key_base64"),
        (Some(json!({"type": "authorized_user"})), "not external_account"),
        (Some(json!([])), "no credential configuration"),
    ];
    for (configuration, words) in cases {
        let credentials =
            configuration.map_or_else(|| ground.ambient(), |configuration| ground.configured(&configuration));
        let client = ground.client(credentials);
        let failure = refused(&client).await;
        assert_eq!(failure.class, Class::CredentialsUnavailable, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
        let report = client.probe(&ProbeTarget::default(), Duration::from_secs(20)).await;
        assert_eq!(report.outcome, Outcome::CredentialsUnavailable, "{}", report.message);
        assert_eq!(report.stage, Stage::Identity, "{}", report.message);
    }
}

#[tokio::test]
async fn refusal_of_a_projected_token_does_not_repeat_it() {
    let ground = Ground::start().await;
    let configuration = ground.federation(SUBJECT);
    let now = ground.clock.seconds();
    let stale = jwt::encode(&json!({"sub": SUBJECT, "iat": now - 7200, "exp": now - 3600}));
    ground.write("token", &stale);
    let failure = refused(&ground.client(ground.configured(&configuration))).await;
    assert!(failure.message.contains("stale to sign-in"), "{failure}");
    assert!(!failure.message.contains(&stale[..20]), "{failure}");
}

#[tokio::test]
async fn metadata_server_is_known_by_its_header() {
    let ground = Ground::granted(false).await;
    let hosts = Hosts::new();
    let impostor = Server::start(
        Arc::new(hosts),
        Options {
            tls: Some(Tls::Off),
            ..Options::default()
        },
    );
    let impostor = impostor.await.unwrap();
    let surroundings = Surroundings {
        metadata: Some(impostor.address()),
        ..ground.surroundings(&[])
    };
    let failure = refused(&ground.client(ambient(surroundings))).await;
    assert!(failure.message.contains("is not Google's metadata server"), "{failure}");
}

#[tokio::test]
async fn missing_role_is_forbidden_and_named() {
    let ground = Ground::start().await;
    ground.memory.push(WEB, "1.0", "first");
    ground.google.attach(ACCOUNT);
    let failure = refused(&ground.client(ground.ambient())).await;
    assert_eq!(failure.class, Class::Forbidden, "{failure}");
    assert!(failure.message.contains("roles/artifactregistry.reader"), "{failure}");
    let failure = refused(&ground.client(basic("oauth2accesstoken", "ya29.wrong"))).await;
    assert_eq!(failure.class, Class::Unauthorized, "{failure}");
    assert!(!failure.message.contains("ya29"), "{failure}");
}

#[tokio::test]
async fn registry_token_that_was_taken_back_is_fetched_anew() {
    let ground = Ground::granted(false).await;
    ground.memory.push(WEB, "1.0", "first");
    let client = ground.client(ground.ambient());
    client.list_tags(WEB).await.unwrap();
    ground.gar.revoke();
    client.list_tags(WEB).await.unwrap();
    assert_eq!((ground.count("token"), ground.count("metadata")), (2, 1));
}

#[tokio::test]
async fn identity_at_google_is_shown_to_google_only() {
    let ground = Ground::granted(false).await;
    for (registry, provider) in [("registry.test", Provider::Google), (HOST, Provider::Generic)] {
        let connection = Connection {
            registry: registry.to_owned(),
            provider,
            ..ground.connection(ground.ambient())
        };
        let refused = Client::new(connection, Limits::default());
        assert!(
            matches!(refused, Err(ClientError::ForeignIdentity { .. })),
            "{registry}"
        );
    }
    let anonymous = Identities::new(ground.surroundings(&[]));
    let anonymous = anonymous.credentials(Provider::Google, HOST, &IdentityPolicy::Anonymous);
    assert_eq!(anonymous.unwrap(), Credentials::Anonymous);
}

#[tokio::test]
async fn pods_get_no_credential_that_may_end_in_minutes() {
    let ground = Ground::granted(false).await;
    let error = ground.client(ground.ambient()).pull_credential().await.unwrap_err();
    assert!(matches!(error, PullError::CannotMint(_)), "{error}");
}

const LAYER: usize = 300_000;

fn copier(source: &Registry, ground: &Ground) -> Copier {
    let plenty = || CopyBudget {
        reads: Arc::new(Budget::per_minute(6_000_000)),
        writes: Arc::new(Budget::per_minute(6_000_000)),
    };
    let settings = CopySettings {
        limits: CopyLimits {
            piece_bytes: 64 << 10,
            request: Duration::from_secs(20),
            ..CopyLimits::default()
        },
        ..CopySettings::default()
    };
    let from = Client::new(source.connection("registry.test", Provider::Generic), limits()).unwrap();
    let to = ground.client(ground.ambient());
    Copier::new(
        (&from, plenty()),
        (&to, plenty()),
        Arc::new(Placed::default()),
        settings,
    )
    .unwrap()
}

/// An image with one layer that takes several pieces elsewhere.
fn push(source: &Registry) -> (Image, Digest) {
    let layer: Bytes = (0..LAYER)
        .map(|n| u8::try_from(n * n % 251).unwrap())
        .collect::<Vec<_>>()
        .into();
    let descriptor = |body: Bytes| {
        let size = body.len();
        let digest = source.put_blob(body);
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": size})
    };
    let large = descriptor(layer);
    let digest: Digest = large["digest"].as_str().unwrap().parse().unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": descriptor(Bytes::from_static(b"{}")), "layers": [large],
    });
    let root = source.put_manifest("teams/web", Some("1.0"), IMAGE_MANIFEST, manifest.to_string());
    let image = Image {
        from: "teams/web".to_owned(),
        to: WEB.to_owned(),
        tag: "1.0".to_owned(),
        digest: root,
    };
    (image, digest)
}

#[tokio::test]
async fn large_blob_is_uploaded_by_one_request() {
    let ground = Ground::granted(true).await;
    let source = Registry::start().await.unwrap();
    let (image, _) = push(&source);
    assert_eq!(copier(&source, &ground).copy(&image).await.unwrap(), Copied::Written);
    assert_eq!(
        (ground.count("upload"), ground.count("piece")),
        (2, 0),
        "a layer and a config"
    );
    let (_, body) = ground.memory.manifest(WEB, "1.0").unwrap();
    assert_eq!(Digest::of(&body), image.digest);
}

#[tokio::test]
async fn damaged_content_is_broken_off_before_its_end() {
    let ground = Ground::granted(true).await;
    let source = Registry::start().await.unwrap();
    let (image, layer) = push(&source);
    source.fault(Fault::on(&format!("/blobs/{layer}"), What::json(&"x".repeat(LAYER))).method(http::Method::GET));
    let error = copier(&source, &ground).copy(&image).await.unwrap_err();
    assert!(matches!(error, CopyError::Corrupt(_)), "{error}");
    assert_eq!(ground.memory.manifest(WEB, "1.0"), None);
    source.clear_faults();
    assert_eq!(copier(&source, &ground).copy(&image).await.unwrap(), Copied::Written);
}

#[tokio::test]
async fn credential_that_may_only_read_is_denied_writing() {
    let ground = Ground::granted(false).await;
    let source = Registry::start().await.unwrap();
    let (image, _) = push(&source);
    let error = copier(&source, &ground).copy(&image).await.unwrap_err();
    assert!(matches!(error, CopyError::Denied(_)), "{error}");
}
