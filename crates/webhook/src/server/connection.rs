//! One connection, from the handshake to its end.

use std::sync::Arc;
use std::time::Instant;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::request;
use super::shared::Shared;
use super::watch::{Phase, Progress, TICK, Watch, Watched};
use crate::metrics::Refusal;

/// Counts a connection for as long as it is open, however its task ends.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn count(shared: &'a Shared) -> Self {
        shared.admission.metrics().opened();
        Open(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.admission.metrics().closed();
    }
}

/// Serves one connection to its end.
pub(super) async fn run(stream: TcpStream, acceptor: &TlsAcceptor, shared: &Shared) {
    let _open = Open::count(shared);
    // An answer is one small write: waiting for more to send would only delay it. Where the option can't be set, the
    // connection is broken already and the handshake will tell.
    let _ = stream.set_nodelay(true);
    let handshake = tokio::time::timeout(shared.limits.handshake, acceptor.accept(stream));
    let handshake = tokio::select! {
        biased;
        handshake = handshake => handshake,
        () = shared.abort.cancelled() => return,
    };
    match handshake {
        Ok(Ok(stream)) => serve(stream, shared).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            shared.refused(Refusal::HandshakeFailed);
        }
        Err(_) => shared.refused(Refusal::HandshakeTimeout),
    }
}

async fn serve(stream: TlsStream<TcpStream>, shared: &Shared) {
    let progress = Arc::new(Progress::default());
    let service = service_fn(|request| {
        let progress = &progress;
        async move {
            progress.enter(Phase::Request);
            let response = request::answer(request, shared).await;
            progress.enter(Phase::Write);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let io = TokioIo::new(Watched {
        stream,
        progress: Arc::clone(&progress),
    });
    let connection = http1::Builder::new()
        .max_header_size(shared.limits.head)
        .serve_connection(io, service);
    tokio::pin!(connection);

    let finish = shared.finish.cancelled();
    let abort = shared.abort.cancelled();
    tokio::pin!(finish, abort);
    let mut finishing = false;
    let mut watch = Watch::new(&progress);
    let mut ticks = tokio::time::interval_at((Instant::now() + TICK).into(), TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                    shared.refused(Refusal::ConnectionBroken);
                }
                return;
            }
            () = &mut abort => return,
            () = &mut finish, if !finishing => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => {
                if watch.overdue(&progress, &shared.limits) {
                    shared.refused(Refusal::ConnectionTimeout);
                    return;
                }
            }
        }
    }
}
