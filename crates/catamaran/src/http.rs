//! `/livez`, `/readyz` and `/metrics`, in plain HTTP for the kubelet and Prometheus.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::listener;

/// Connections served at a time; the kubelet and a few scrapers need a handful.
const CONNECTIONS: usize = 64;

/// How long the event loop may be silent before the process counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What is asked.
pub struct Status {
    /// Why this replica should get no traffic now, or `Ok`.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Why this process should be started anew, or `Ok`.
    pub live: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// What is measured.
    pub metrics: Registry,
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, status: Arc<Status>, shutdown: CancellationToken) {
    let serve = |stream| connection(stream, Arc::clone(&status));
    listener::accept(listener, CONNECTIONS, shutdown, serve).await;
}

async fn connection(stream: TcpStream, status: Arc<Status>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let status = Arc::clone(&status);
        async move { Ok::<_, Infallible>(respond(&request, &status)) }
    });
    if let Err(error) = listener::http().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "an http connection broke");
    }
}

fn respond(request: &Request<Incoming>, status: &Status) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" => verdict((status.live)()),
        "/readyz" => verdict((status.ready)()),
        "/metrics" => metrics(&status.metrics),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /livez, /readyz and /metrics\n".to_owned(),
        ),
    }
}

fn verdict(verdict: Result<(), String>) -> Response<Full<Bytes>> {
    match verdict {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut body = String::new();
    if prometheus_client::encoding::text::encode(&mut body, registry).is_err() {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed to write the metrics\n".to_owned(),
        );
    }
    let mut response = text(StatusCode::OK, body);
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(open_metrics));
    response
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
