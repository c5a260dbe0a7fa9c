//! HTTP/1.1 over TLS around the reviews, with a bound on everything a peer may do.
//!
//! HTTP/1.1 only, because that is what API servers speak to webhooks. A peer that is slow, silent or greedy costs one of
//! [`CONNECTIONS`] places for a bounded time; when all are taken, new peers wait in the listener's backlog.

mod body;
mod patience;
mod respond;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::metrics::Refusal;
use patience::Patience;

/// Connections served at a time.
pub const CONNECTIONS: usize = 256;
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take to arrive: its headers, and again its body.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between two requests. Longer than the 90 s for which the API server's client keeps
/// one, so that a connection is never closed under a request that is just being sent.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// The largest body: an `AdmissionReview` with two objects of etcd's limit, and room.
pub const BODY_BYTES: usize = 7 << 20;
/// The largest head of a request, in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// How long requests under way may take to end after the drain.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Serves until `shutdown` and for `drain` after it, because the API server learns only then that this endpoint is gone.
/// Answers ask for their connection to be closed in that time; what is still open afterwards ends with its request.
pub async fn serve(
    listener: TcpListener,
    certificate: Arc<dyn ResolvesServerCert>,
    admission: Arc<Admission>,
    shutdown: CancellationToken,
    drain: Duration,
) {
    let door = Door {
        acceptor: TlsAcceptor::from(Arc::new(tls(certificate))),
        admission,
        closing: shutdown.clone(),
        end: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = door.accept(listener) => {}
        () = drained => {}
    }
    door.end.cancel();
    door.tasks.close();
    // Whatever takes longer than this is cut off with the process.
    let _ = tokio::time::timeout(LAST_REQUESTS, door.tasks.wait()).await;
}

fn tls(certificate: Arc<dyn ResolvesServerCert>) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions
        .expect("aws-lc-rs supports the default TLS versions")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// What every connection needs.
struct Door {
    acceptor: TlsAcceptor,
    admission: Arc<Admission>,
    /// Answers ask for the connection to be closed.
    closing: CancellationToken,
    /// Connections end with their request.
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Door {
    async fn accept(&self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.admit(stream, place),
                Err(error) => {
                    // Out of descriptors, most likely: give it a moment instead of spinning.
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let visit = Visit {
            acceptor: self.acceptor.clone(),
            admission: Arc::clone(&self.admission),
            closing: self.closing.clone(),
            end: self.end.clone(),
        };
        self.tasks.spawn(async move {
            visit.admission.metrics().opened();
            if let Err(refusal) = visit.serve(stream).await {
                visit.admission.metrics().refused(refusal);
            }
            visit.admission.metrics().closed();
            drop(place);
        });
    }
}

/// One connection.
struct Visit {
    acceptor: TlsAcceptor,
    admission: Arc<Admission>,
    closing: CancellationToken,
    end: CancellationToken,
}

impl Visit {
    async fn serve(&self, stream: TcpStream) -> Result<(), Refusal> {
        // An answer is one small write: it should not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await;
        let stream = handshake.map_err(|_| Refusal::HandshakeTimeout)?.map_err(|_| Refusal::HandshakeFailed)?;
        let (stream, activity) = Patience::new(stream, REQUEST_TIMEOUT, IDLE_TIMEOUT);
        let respond = service_fn(|request: Request<Incoming>| {
            let activity = Arc::clone(&activity);
            async move {
                let response = respond::respond(request, &self.admission, self.closing.is_cancelled()).await;
                activity.store(false, Ordering::Relaxed);
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        http.max_buf_size(HEAD_BYTES).half_close(false);
        let connection = http.serve_connection(TokioIo::new(stream), respond);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.end.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.map_err(|error| refusal(&error))
    }
}

fn refusal(error: &hyper::Error) -> Refusal {
    let timed_out = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut);
    if timed_out { Refusal::ConnectionTimeout } else { Refusal::ConnectionBroken }
}

