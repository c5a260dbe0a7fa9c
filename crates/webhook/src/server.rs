//! HTTP/1.1 over TLS around [`Admission`]: what the API server speaks, and nothing else.
//!
//! Everything that a peer can make grow has a bound ([`Limits`]), and every wait has an end, so that descriptors and memory
//! stay flat whatever connects.

mod body;
mod connection;
mod limits;
mod request;
mod shared;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use self::limits::Limits;
pub use self::request::PATH;
use self::shared::Shared;
use crate::admission::Admission;

/// Serves reviews with the production limits until `shutdown` is cancelled and what was begun has been answered; see
/// [`serve_within`]. `linger` replaces that of the limits.
pub async fn serve(
    listener: TcpListener,
    certificates: Arc<dyn ResolvesServerCert>,
    admission: Arc<Admission>,
    shutdown: CancellationToken,
    linger: Duration,
) {
    serve_within(
        Limits {
            linger,
            ..Limits::default()
        },
        listener,
        certificates,
        admission,
        shutdown,
    )
    .await;
}

/// Serves reviews until `shutdown` is cancelled and what was begun has been answered.
///
/// From the cancellation on it goes on serving for `limits.linger`, closing each connection after its next answer; then it
/// stops listening, closes idle connections, gives the rest `limits.drain` and returns.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    certificates: Arc<dyn ResolvesServerCert>,
    admission: Arc<Admission>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls(certificates)));
    let slots = Arc::new(Semaphore::new(limits.connections));
    let shared = Arc::new(Shared::new(admission, limits, shutdown.clone()));
    let limits = &shared.limits;

    let lingered = async {
        shutdown.cancelled().await;
        tokio::time::sleep(limits.linger).await;
    };
    accept_until(lingered, &listener, &slots, |stream, slot| {
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            connection::run(stream, &acceptor, &shared).await;
            drop(slot);
        });
    })
    .await;
    drop(listener);

    shared.finish.cancel();
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits.drain, slots.acquire_many(all))
        .await
        .is_err()
    {
        tracing::warn!(
            connections = shared.admission.metrics().connections(),
            "aborting connections that did not drain"
        );
        shared.abort.cancel();
        // Aborted tasks end at their next poll; their descriptors are closed when this returns.
        drop(slots.acquire_many(all).await);
    }
}

/// TLS without client certificates and without resumption: a resumed session would outlive a rotated certificate, and its
/// ticket would cost memory for each connection.
fn tls(certificates: Arc<dyn ResolvesServerCert>) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs supports the default TLS versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// Hands accepted connections to `handle`, each with its slot, until `end` is ready. Without a free slot nothing is
/// accepted: peers wait in the backlog rather than being refused.
async fn accept_until(
    end: impl Future<Output = ()>,
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    handle: impl Fn(TcpStream, OwnedSemaphorePermit),
) {
    tokio::pin!(end);
    loop {
        let next = async {
            let slot = Arc::clone(slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            biased;
            () = &mut end => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => handle(stream, slot),
            // Out of descriptors or memory, or a peer that is gone already: the next one may fare better.
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
