//! Whose certificates let a client in, over real TLS on loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use catamaran_listener::Closed;
use catamaran_webhook::metrics::Metrics;
use catamaran_webhook::server::{AllowedClients, Limits, Tls, serve_within};
use catamaran_webhook::{Admission, View};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this common name, with its key.
fn issue(
    by: &Authority,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["webhook".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, by).unwrap();
    (
        certificate.der().clone(),
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

struct Server {
    address: SocketAddr,
    authority: Authority,
    metrics: Arc<Metrics>,
}

impl Server {
    async fn start(clients: AllowedClients) -> Server {
        let authority = authority("server");
        let (certificate, key) = issue(&authority, "webhook", ExtendedKeyUsagePurpose::ServerAuth);
        let key = CertifiedKey::from_der(vec![certificate], key, &aws_lc_rs::default_provider()).unwrap();
        let tls = Tls {
            certificates: Arc::new(Always(Arc::new(key))),
            clients: Some(clients),
        };
        let metrics = Arc::<Metrics>::default();
        let view = Arc::new(View::new(Instant::now()));
        let admission = Admission::new(view, support::OWN_USER.to_owned(), Arc::clone(&metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        tokio::spawn(serve_within(Limits::default(), listener, tls, Arc::new(admission), end));
        Server {
            address,
            authority,
            metrics,
        }
    }

    /// Whether a client with this certificate gets an answer.
    async fn lets_in(&self, client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("webhook").unwrap();
        // With TLS 1.3 a client learns of a refusal only when it reads.
        let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else {
            return false;
        };
        let request = format!(
            "POST /mutate HTTP/1.1\r\nhost: w\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}",
            support::CREATE.len(),
            support::CREATE
        );
        let mut answer = Vec::new();
        stream.write_all(request.as_bytes()).await.is_ok()
            && stream.read_to_end(&mut answer).await.is_ok()
            && answer.starts_with(b"HTTP/1.1 200 OK")
    }
}

#[tokio::test]
async fn only_certificates_of_the_authority_are_let_in() {
    let (own, foreign) = (authority("clients"), authority("clients"));
    let client = |by: &Authority, name| Some(issue(by, name, ExtendedKeyUsagePurpose::ClientAuth));
    let server = Server::start(AllowedClients::new(own.pem().as_bytes(), &[]).unwrap()).await;
    assert!(server.lets_in(client(&own, "anyone")).await);
    assert!(!server.lets_in(None).await);
    assert!(!server.lets_in(client(&foreign, "anyone")).await);
    let for_servers = issue(&own, "anyone", ExtendedKeyUsagePurpose::ServerAuth);
    assert!(!server.lets_in(Some(for_servers)).await);
    assert_eq!(server.metrics.listener().closed(Closed::HandshakeFailed), 3);
}

#[tokio::test]
async fn only_listed_names_are_let_in() {
    let own = authority("clients");
    let client = |name| Some(issue(&own, name, ExtendedKeyUsagePurpose::ClientAuth));
    let names = ["api-server".to_owned(), "another".to_owned()];
    let server = Server::start(AllowedClients::new(own.pem().as_bytes(), &names).unwrap()).await;
    for (name, expected) in [
        ("api-server", true),
        ("another", true),
        ("system:node:a", false),
        ("", false),
    ] {
        assert_eq!(server.lets_in(client(name)).await, expected, "{name:?}");
    }
}

#[test]
fn file_without_a_certificate_is_an_error_that_says_so() {
    for pem in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = AllowedClients::new(pem.as_bytes(), &[]).unwrap_err().to_string();
        assert!(error.contains("CA certificates of the webhook's clients"), "{error}");
    }
}
