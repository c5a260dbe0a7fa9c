//! HTTP/1.1 over TLS around [`Admission`]: what the API server speaks, and nothing else.
//!
//! Who may hold a connection, and for how long, is the listener's business (`catamaran-listener`). Here are the bounds of what
//! bodies hold ([`Limits`]), and of how many large reviews are worked on at a time: what can't be had in time is answered as
//! allowed, unchanged.

mod body;
mod clients;
mod limits;
mod request;
mod room;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use catamaran_listener::{Settings, Shutdown};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ResolvesServerCert};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use self::clients::{AllowedClients, ClientsError};
pub use self::limits::{Limits, connection_limits};
pub use self::request::PATH;
use self::shared::Shared;
use crate::admission::Admission;

/// By whom reviews are taken, and by what this side proves itself.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate that is served, read by every handshake.
    pub certificates: Arc<dyn ResolvesServerCert>,
    /// Whose certificates clients must have; without, anybody may ask.
    pub clients: Option<AllowedClients>,
}

/// Serves reviews with the production limits until `shutdown` is cancelled and what was begun has been answered; see
/// [`serve_within`]. `linger` replaces that of the limits.
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    admission: Arc<Admission>,
    shutdown: CancellationToken,
    linger: Duration,
) {
    let limits = Limits {
        linger,
        ..Limits::default()
    };
    serve_within(limits, listener, tls, admission, shutdown).await;
}

/// Serves reviews until `shutdown` is cancelled and what was begun has been answered, as [`catamaran_listener::serve`] does.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    tls: Tls,
    admission: Arc<Admission>,
    shutdown: CancellationToken,
) {
    let settings = Settings {
        limits: limits.connections.clone(),
        tls: Some(TlsAcceptor::from(Arc::new(configuration(tls)))),
        counts: admission.metrics().listener(),
        shutdown: Shutdown {
            begin: shutdown,
            linger: limits.linger,
            drain: limits.drain,
        },
    };
    let shared = Arc::new(Shared::new(admission, limits));
    catamaran_listener::serve(listener, settings, move |request| {
        let shared = Arc::clone(&shared);
        async move { request::answer(request, &shared).await }
    })
    .await;
}

/// TLS without resumption: a resumed session would outlive a rotated certificate, and its ticket would cost memory for each
/// connection.
fn configuration(tls: Tls) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients: Arc<dyn ClientCertVerifier> = match tls.clients {
        Some(allowed) => Arc::new(allowed),
        None => Arc::new(NoClientAuth),
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs supports the default TLS versions")
        .with_client_cert_verifier(clients)
        .with_cert_resolver(tls.certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}
