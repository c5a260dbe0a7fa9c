//! The two servers, each run in a process of its own.

use std::convert::Infallible;
use std::io::Write as _;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use catamaran_core::side::Side;
use catamaran_webhook::metrics::Metrics;
use catamaran_webhook::server::{Limits, Tls, serve_within};
use catamaran_webhook::{Admission, View};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::support;

/// Which server.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Noop,
    Catamaran,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Noop => "noop",
            Kind::Catamaran => "catamaran",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |kind: &Kind| kind.as_str() == text;
        [Kind::Noop, Kind::Catamaran]
            .into_iter()
            .find(named)
            .ok_or_else(|| format!("no server is called {text:?}"))
    }
}

/// Serves until standard input ends; prints the port and the certificate first.
pub fn run(kind: Kind) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let issued = rcgen::generate_simple_self_signed(["webhook".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let key = CertifiedKey::from_der(vec![issued.cert.der().clone()], key, &aws_lc_rs::default_provider()).unwrap();
        let resolver = Arc::new(Always(Arc::new(key)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        println!("{port} {}", STANDARD.encode(issued.cert.der()));
        std::io::stdout().flush().unwrap();
        std::thread::spawn(|| {
            // The process that started this one is gone, or is done.
            let _ = std::io::stdin().read_line(&mut String::new());
            std::process::exit(0);
        });
        match kind {
            Kind::Noop => noop(listener, resolver).await,
            Kind::Catamaran => catamaran(listener, resolver).await,
        }
    });
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

async fn catamaran(listener: TcpListener, resolver: Arc<Always>) {
    let view = Arc::new(View::new(Instant::now()));
    view.publish(support::table(Side::Fallback).into());
    view.touch(Instant::now());
    let feed = Arc::clone(&view);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            feed.touch(Instant::now());
        }
    });
    let admission = Arc::new(Admission::new(
        view,
        support::OWN_USER.to_owned(),
        Arc::new(Metrics::default()),
    ));
    serve_within(
        Limits::default(),
        listener,
        Tls {
            certificates: resolver,
            clients: None,
        },
        admission,
        CancellationToken::new(),
    )
    .await;
}

/// The least that an HTTPS server can do with a review.
async fn noop(listener: TcpListener, resolver: Arc<Always>) {
    const ANSWER: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"0df28fbd-5f5f-11e8-bc74-36e6bb280816","allowed":true}}"#;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request: Request<Incoming>| async {
                // A body that breaks off ends its connection, and with it this benchmark's client.
                let _ = request.into_body().collect().await;
                let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
                response
                    .headers_mut()
                    .insert("content-type", "application/json".parse().unwrap());
                Ok::<_, Infallible>(response)
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
