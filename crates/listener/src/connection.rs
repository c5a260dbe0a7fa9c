//! One connection, from the handshake to its end.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::counts::{Closed, Counts};
use crate::limits::{KeepAlive, Limits};
use crate::places::{PeerAddress, Place, Tenant};
use crate::progress::Phase;
use crate::stream::Watched;

/// The time between two looks at a connection.
const TICK: Duration = Duration::from_secs(1);

/// What hyper keeps of what was read and not asked for yet, and of what is to be written. More would let each peer of many hold
/// hundreds of kB with requests that it sends ahead.
const BUFFER: usize = 32 << 10;

/// What all connections of a listener share.
pub(crate) struct Shared<A> {
    pub(crate) answer: A,
    pub(crate) limits: Limits,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) counts: Arc<Counts>,
    /// Answers close their connections from here on.
    pub(crate) closing: CancellationToken,
    /// Idle connections are closed from here on.
    pub(crate) finish: CancellationToken,
    /// Connections are dropped as they are.
    pub(crate) abort: CancellationToken,
}

/// Serves one connection to its end.
pub(crate) async fn run<A, R>(stream: TcpStream, address: PeerAddress, place: Place, shared: &Shared<A>)
where
    A: Fn(Request<Incoming>) -> R + Send + Sync,
    R: Future<Output = Response<Full<Bytes>>> + Send,
{
    // An answer is one small write: waiting for more to send would only delay it. Where the option can't be set, the
    // connection is broken already and what follows will tell.
    let _ = stream.set_nodelay(true);
    let tenant = &place.tenant;
    let ended = match &shared.tls {
        None => serve(stream, address, tenant, shared).await,
        Some(acceptor) => match handshake(acceptor, stream, tenant, shared).await {
            Ok(Some(stream)) => {
                tenant.progress.enter(Phase::Idle);
                serve(stream, address, tenant, shared).await
            }
            Ok(None) => Ok(()),
            Err(closed) => Err(closed),
        },
    };
    if let Err(closed) = ended {
        shared.counts.close(closed);
    }
}

/// `None` when the place is gone, or the listener.
async fn handshake<A>(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    tenant: &Tenant,
    shared: &Shared<A>,
) -> Result<Option<tokio_rustls::server::TlsStream<TcpStream>>, Closed> {
    let handshake = tokio::time::timeout(shared.limits.handshake, acceptor.accept(stream));
    let ended = tokio::select! {
        biased;
        () = shared.abort.cancelled() => return Ok(None),
        () = tenant.evicted.cancelled() => return Ok(None),
        ended = handshake => ended,
    };
    match ended {
        Ok(Ok(stream)) => Ok(Some(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            Err(Closed::HandshakeFailed)
        }
        Err(_) => Err(Closed::Timeout),
    }
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.max_buf_size(BUFFER)
        .max_header_size(limits.head_size)
        .keep_alive(limits.keep_alive != KeepAlive::Off);
    http
}

async fn serve<A, R>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: PeerAddress,
    tenant: &Arc<Tenant>,
    shared: &Shared<A>,
) -> Result<(), Closed>
where
    A: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(|mut request: Request<Incoming>| async move {
        tenant.progress.enter(Phase::Request);
        request.extensions_mut().insert(address);
        let mut response = (shared.answer)(request).await;
        if shared.closing.is_cancelled() || is_old(tenant, &shared.limits) {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        tenant.progress.enter(Phase::Write);
        Ok::<_, Infallible>(response)
    });
    let io = TokioIo::new(Watched {
        stream,
        tenant: Arc::clone(tenant),
    });
    let connection = http(&shared.limits).serve_connection(io, service);
    tokio::pin!(connection);
    let finish = shared.finish.cancelled();
    let abort = shared.abort.cancelled();
    let evicted = tenant.evicted.cancelled();
    tokio::pin!(finish, abort, evicted);
    let mut finishing = false;
    let mut ticks = tokio::time::interval_at(Instant::now() + TICK.min(shortest(&shared.limits)), TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = &mut abort => return Ok(()),
            () = &mut evicted => return Ok(()),
            ended = &mut connection => return ended.map_err(|error| broken(&error)),
            () = &mut finish, if !finishing => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            now = ticks.tick() => {
                if tenant.progress.is_overdue(&shared.limits, now) {
                    return Err(Closed::Timeout);
                }
            }
        }
    }
}

fn is_old(tenant: &Tenant, limits: &Limits) -> bool {
    matches!(limits.keep_alive, KeepAlive::For(longest) if tenant.progress.age(Instant::now()) >= longest)
}

fn shortest(limits: &Limits) -> Duration {
    [limits.head, limits.request, limits.write, limits.idle]
        .into_iter()
        .min()
        .unwrap_or(TICK)
}

fn broken(error: &hyper::Error) -> Closed {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    tracing::debug!(%error, ?cause, "a connection broke");
    Closed::Broken
}
