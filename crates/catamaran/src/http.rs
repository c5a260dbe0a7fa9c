//! What is served in plain HTTP, each on a port of its own: `/livez` and `/readyz` for the kubelet, `/metrics` for Prometheus.
//!
//! Apart, so that nothing that reads metrics can keep the kubelet out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use catamaran_listener::{Counts, KeepAlive, Limits, Rate, Settings, Shutdown};
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod health;
pub mod metrics;

/// How long requests may take that are under way when everything else has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// Bytes that the kernel keeps for each connection in each direction: requests are small.
pub const KERNEL_BUFFERS: u32 = 32 << 10;

/// A port with its bounds and its counters.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    limits: Limits,
    counts: Arc<Counts>,
}

impl Port {
    /// Listens on an address.
    pub fn bind(address: SocketAddr, limits: Limits) -> anyhow::Result<Port> {
        Ok(Port {
            listener: bind(address, &limits)?,
            limits,
            counts: Arc::default(),
        })
    }

    /// What it counts.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// What it is served with until `shutdown`.
    fn settings(self, shutdown: CancellationToken) -> (TcpListener, Settings) {
        let settings = Settings {
            limits: self.limits,
            tls: None,
            counts: self.counts,
            shutdown: Shutdown {
                begin: shutdown,
                linger: Duration::ZERO,
                drain: DRAIN,
            },
        };
        (self.listener, settings)
    }

    /// Serves what answers at once, until `shutdown`.
    pub async fn serve<A, R>(self, shutdown: CancellationToken, answer: A)
    where
        A: Fn(hyper::Request<hyper::body::Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let (listener, settings) = self.settings(shutdown);
        catamaran_listener::serve(listener, settings, answer).await;
    }
}

/// Listens on an address, with the buffers of these limits.
pub fn bind(address: SocketAddr, limits: &Limits) -> anyhow::Result<TcpListener> {
    catamaran_listener::bind(address, limits.kernel_buffers).with_context(|| format!("failed to listen on {address}"))
}

/// Bounds of a port whose requests have no body and are answered at once: one request, and the connection is closed.
fn limits(connections: usize, per_address: usize, rate: Rate) -> Limits {
    let patience = Duration::from_secs(5);
    Limits {
        connections,
        per_address,
        rate,
        handshake: patience,
        head: patience,
        request: patience,
        write: 2 * patience,
        idle: patience,
        keep_alive: KeepAlive::Off,
        head_size: 16 << 10,
        kernel_buffers: KERNEL_BUFFERS,
    }
}

/// An answer for a method that only reads; `None` for one that may go on.
fn refuse(method: &Method) -> Option<Response<Full<Bytes>>> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(response)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests;
