//! Client certificates over TLS: shown to the registry and its token hosts, to nobody else; what is wrong is said.

use catamaran_core::endpoint::Outcome;
use catamaran_core::policy::Provider;
use catamaran_registry::{
    Class, Client, ClientError, ClientIdentity, Connection, DiagnosisTarget, ProbeTarget, Secret,
};
use catamaran_scripted_registry::{Auth, Clients, Registry};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::limits;

const HOST: &str = "registry.test";

/// An RSA key as `openssl genrsa` writes them: PKCS #1 and PKCS #8 of the same key; nothing secret.
const RSA_PKCS1: &str = include_str!("keys/rsa.pkcs1.pem");
const RSA_PKCS8: &str = include_str!("keys/rsa.pkcs8.pem");
/// A P-256 key as `openssl ecparam -genkey` writes it, with the curve's name in front, and the same as PKCS #8.
const EC_SEC1: &str = include_str!("keys/ec.sec1.pem");
const EC_PKCS8: &str = include_str!("keys/ec.pkcs8.pem");

/// An authority for clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for the key that `pkcs8` holds, shown with the same key as `key` has it.
    fn identity(&self, pkcs8: &str, key: &str) -> ClientIdentity {
        self.identity_until(pkcs8, key, 2040)
    }

    fn identity_until(&self, pkcs8: &str, key: &str, year: i32) -> ClientIdentity {
        let pair = KeyPair::from_pem(pkcs8).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "catamaran");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        ClientIdentity {
            certificates: certificate.pem().into_bytes(),
            key: Secret::new(key.as_bytes().to_vec()),
        }
    }
}

async fn registry(clients: Clients, authority: &Authority) -> Registry {
    let registry = Registry::start_for(clients, &authority.pem).await.unwrap();
    registry.push("krateo/web", "1.0", "first");
    registry
}

fn connection(registry: &Registry, identity: Option<ClientIdentity>) -> Connection {
    Connection {
        client_identity: identity,
        ..registry.connection(HOST, Provider::Generic)
    }
}

#[tokio::test]
async fn every_kind_of_key_opens_a_registry_that_wants_a_certificate() {
    let authority = Authority::new();
    let registry = registry(Clients::Required, &authority).await;
    let kinds = [
        ("RSA, PKCS #1", RSA_PKCS8, RSA_PKCS1),
        ("RSA, PKCS #8", RSA_PKCS8, RSA_PKCS8),
        ("P-256, SEC 1", EC_PKCS8, EC_SEC1),
        ("P-256, PKCS #8", EC_PKCS8, EC_PKCS8),
    ];
    for (name, pkcs8, key) in kinds {
        let client = Client::new(connection(&registry, Some(authority.identity(pkcs8, key))), limits()).unwrap();
        let digest = client
            .resolve("krateo/web", "1.0")
            .await
            .unwrap_or_else(|failure| panic!("{name}: {failure}"))
            .digest;
        assert_eq!(client.list_tags("krateo/web").await.unwrap().len(), 1, "{name}");
        let target = ProbeTarget {
            canary: Some(("krateo/web".to_owned(), digest)),
            blob: true,
            fresh_token: true,
        };
        let report = client.probe(&target, limits().total).await;
        assert_eq!(report.outcome, Outcome::Reachable, "{name}: {report:?}");
    }
    assert!(registry.requests().iter().all(|request| request.certified));
}

#[tokio::test]
async fn a_missing_or_unwelcome_certificate_is_told_and_is_no_outage() {
    let (authority, other) = (Authority::new(), Authority::new());
    let registry = registry(Clients::Required, &authority).await;
    let cases = [
        ("none", None, "the server wants a client certificate, and there is none"),
        (
            "another authority's",
            Some(other.identity(EC_PKCS8, EC_SEC1)),
            "the server does not accept our client certificate",
        ),
        (
            "expired",
            Some(authority.identity_until(EC_PKCS8, EC_SEC1, 2001)),
            "the server does not accept our client certificate",
        ),
    ];
    for (name, identity, words) in cases {
        let client = Client::new(connection(&registry, identity), limits()).unwrap();
        let failure = client.resolve("krateo/web", "1.0").await.unwrap_err();
        assert_eq!(failure.class, Class::Unauthorized, "{name}: {failure}");
        assert!(failure.message.contains(words), "{name}: {failure}");
        let report = client.probe(&ProbeTarget::default(), limits().total).await;
        assert_eq!(report.outcome, Outcome::Unauthorized, "{name}: {report:?}");
        let mut last = None;
        client
            .diagnose(&DiagnosisTarget::default(), |stage| last = Some(stage))
            .await;
        let told = last.unwrap().failure.unwrap();
        assert!(told.message.contains(words), "{name}: {told}");
    }
    assert_eq!(registry.requests(), []);
}

#[tokio::test]
async fn the_certificate_is_shown_to_the_registry_and_its_token_host_and_to_no_blob_host() {
    let authority = Authority::new();
    let registry = registry(Clients::Required, &authority).await;
    let (tokens, blobs) = (
        Registry::start_for(Clients::Asked, &authority.pem).await.unwrap(),
        Registry::start_for(Clients::Asked, &authority.pem).await.unwrap(),
    );
    let digest = blobs.push("krateo/web", "1.0", "first");
    registry.set_blob_host(Some("blobs.test"));
    let mut connection = connection(&registry, Some(authority.identity(EC_PKCS8, EC_SEC1)));
    connection.extra_ca = Some([registry.ca_pem(), tokens.ca_pem(), blobs.ca_pem()].concat());
    connection.token_hosts = vec!["tokens.test".to_owned()];
    connection.resolve.extend([
        ("tokens.test".to_owned(), tokens.address()),
        ("blobs.test".to_owned(), blobs.address()),
    ]);
    registry.set_auth(Auth::Open);
    let client = Client::new(connection.clone(), limits()).unwrap();
    let target = ProbeTarget {
        canary: Some(("krateo/web".to_owned(), digest)),
        blob: true,
        fresh_token: true,
    };
    let report = client.probe(&target, limits().total).await;
    assert_eq!(report.outcome, Outcome::Reachable, "{report:?}");
    assert!(registry.requests().iter().all(|request| request.certified));
    assert_eq!(blobs.requests().len(), 1);
    assert!(!blobs.requests().iter().any(|request| request.certified));

    registry.set_auth(Auth::Bearer {
        realm: Some("https://tokens.test/token".to_owned()),
        expires_in: None,
    });
    let client = Client::new(connection.clone(), limits()).unwrap();
    // Its tokens are none of the registry's; who was shown what is all that counts.
    let _ = client.resolve("krateo/web", "1.0").await;
    assert!(!tokens.requests().is_empty() && tokens.requests().iter().all(|request| request.certified));

    // A token host that nobody admitted is not connected to, and shown nothing.
    tokens.forget_requests();
    connection.token_hosts.clear();
    let failure = Client::new(connection, limits())
        .unwrap()
        .resolve("krateo/web", "1.0")
        .await
        .unwrap_err();
    assert_eq!(failure.class, Class::ForeignRealm, "{failure}");
    assert_eq!(tokens.requests(), []);
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_is_refused_before_anything_is_sent() {
    let authority = Authority::new();
    let registry = registry(Clients::Required, &authority).await;
    let good = authority.identity(EC_PKCS8, EC_SEC1);
    let with = |change: fn(&mut ClientIdentity)| {
        let mut identity = good.clone();
        change(&mut identity);
        identity
    };
    let cases = [
        (
            with(|identity| identity.certificates.clear()),
            "there is no certificate in it",
        ),
        (
            with(|identity| identity.key = Secret::new(Vec::new())),
            "there is no PEM key in it",
        ),
        (
            with(|identity| identity.key = Secret::new(RSA_PKCS8.as_bytes().to_vec())),
            "the key can't be used, or is not the certificate's",
        ),
        (
            with(|identity| {
                identity.key = Secret::new(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec());
            }),
            "the key can't be used, or is not the certificate's",
        ),
    ];
    for (identity, words) in cases {
        let error = Client::new(connection(&registry, Some(identity)), limits()).unwrap_err();
        assert_eq!(error, ClientError::BadIdentity(words.to_owned()));
    }
    assert_eq!(registry.connections(), 0);
}

#[tokio::test]
async fn a_registry_that_does_not_ask_is_shown_nothing() {
    let authority = Authority::new();
    let registry = registry(Clients::Anyone, &authority).await;
    let identity = authority.identity(EC_PKCS8, EC_SEC1);
    let client = Client::new(connection(&registry, Some(identity)), limits()).unwrap();
    client.resolve("krateo/web", "1.0").await.unwrap();
    assert!(!registry.requests().iter().any(|request| request.certified));
}
