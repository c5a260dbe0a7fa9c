//! The accept loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{self, Shared};
use crate::counts::Counts;
use crate::limits::{Limits, Shutdown};
use crate::places::{PeerAddress, Places};
use crate::progress::Phase;

/// Connections that the kernel completes before they are accepted. The loop never waits for anything else, so these are few.
const BACKLOG: u32 = 1024;

/// The time without another attempt when descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(50);

/// What a listener serves by.
pub struct Settings {
    /// What it bears.
    pub limits: Limits,
    /// TLS; plain HTTP without.
    pub tls: Option<TlsAcceptor>,
    /// What it counts into.
    pub counts: Arc<Counts>,
    /// When it ends.
    pub shutdown: Shutdown,
}

/// Listens on an address. Sockets that are accepted inherit the size of the kernel's buffers.
pub fn bind(address: SocketAddr, kernel_buffers: u32) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_recv_buffer_size(kernel_buffers)?;
    socket.set_send_buffer_size(kernel_buffers)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers requests until the shutdown has begun and what was begun has been answered.
///
/// From its beginning on it goes on serving for [`Shutdown::linger`], closing each connection after its next answer; then it
/// stops listening, closes idle connections, gives the rest [`Shutdown::drain`] and returns.
pub async fn serve<A, R>(listener: TcpListener, settings: Settings, answer: A)
where
    A: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let Shutdown { begin, linger, drain } = settings.shutdown;
    let places = Places::new(&settings.limits, Arc::clone(&settings.counts));
    let shared = Arc::new(Shared {
        answer,
        limits: settings.limits,
        tls: settings.tls,
        counts: settings.counts,
        closing: begin.clone(),
        finish: CancellationToken::new(),
        abort: CancellationToken::new(),
    });
    let tasks = TaskTracker::new();
    let lingered = async {
        begin.cancelled().await;
        tokio::time::sleep(linger).await;
    };
    accept_until(lingered, &listener, |stream, address| {
        admit(stream, address, &places, &shared, &tasks);
    })
    .await;
    drop(listener);
    shared.finish.cancel();
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "aborting connections that did not drain");
        shared.abort.cancel();
        tasks.wait().await;
    }
}

/// Hands accepted connections to `handle` until `end` is ready. Waits for nothing but the next one.
async fn accept_until(end: impl Future<Output = ()>, listener: &TcpListener, handle: impl Fn(TcpStream, PeerAddress)) {
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => handle(stream, PeerAddress(address.ip().to_canonical())),
            // Out of descriptors or memory, or a peer that is gone already: the next one may fare better.
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn admit<A, R>(
    stream: TcpStream,
    address: PeerAddress,
    places: &Arc<Places>,
    shared: &Arc<Shared<A>>,
    tasks: &TaskTracker,
) where
    A: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let phase = match shared.tls {
        Some(_) => Phase::Handshake,
        None => Phase::Idle,
    };
    match places.take(address.0, phase) {
        Ok(place) => {
            let shared = Arc::clone(shared);
            tasks.spawn(async move { connection::run(stream, address, place, &shared).await });
        }
        Err(closed) => {
            shared.counts.close(closed);
            // A reset leaves nothing behind in the kernel.
            let _ = stream.set_zero_linger();
        }
    }
}
