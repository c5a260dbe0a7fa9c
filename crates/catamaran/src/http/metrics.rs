//! `/metrics`, for Prometheus.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catamaran_listener::{Limits, Rate};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::Port;

/// Nobody needs them more often, and writing those of a thousand mirrors costs time that leases and probes need.
const FRESH: Duration = Duration::from_secs(1);

/// A few scrapers, and people who look through the API server's proxy.
pub fn limits() -> Limits {
    let rate = Rate {
        burst: 64,
        per_second: 10,
    };
    super::limits(32, 8, rate)
}

/// What is measured, and how it was written last: all who read at a time share one text.
pub struct Exposition {
    registry: Registry,
    written: Mutex<Option<(Instant, Bytes)>>,
}

/// Serves until `shutdown`.
pub async fn serve(port: Port, registry: Registry, shutdown: CancellationToken) {
    let exposition = Arc::new(Exposition::new(registry));
    port.serve(shutdown, move |request| {
        std::future::ready(exposition.respond(&request, Instant::now()))
    })
    .await;
}

impl Exposition {
    /// Of these metrics.
    pub fn new(registry: Registry) -> Self {
        Exposition {
            registry,
            written: Mutex::default(),
        }
    }

    /// Answers one request.
    pub fn respond<B>(&self, request: &Request<B>, now: Instant) -> Response<Full<Bytes>> {
        if let Some(refused) = super::refuse(request.method()) {
            return refused;
        }
        if request.uri().path() != "/metrics" {
            return super::text(StatusCode::NOT_FOUND, "there is /metrics\n");
        }
        let Ok(body) = self.text(now) else {
            return super::text(StatusCode::INTERNAL_SERVER_ERROR, "failed to write the metrics\n");
        };
        let mut response = super::text(StatusCode::OK, body);
        let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(open_metrics));
        response
    }

    fn text(&self, now: Instant) -> Result<Bytes, std::fmt::Error> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = written.as_ref()
            && now.saturating_duration_since(*at) < FRESH
        {
            return Ok(text.clone());
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        let text = Bytes::from(text);
        *written = Some((now, text.clone()));
        Ok(text)
    }
}
