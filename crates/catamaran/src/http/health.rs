//! `/livez` and `/readyz`, for the kubelet.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_listener::{Limits, Rate};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::Port;

/// How long the event loop may be silent before the process counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Whether something is so, or why not.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the kubelet asks.
pub struct Health {
    /// Why this replica should get no traffic now, or `Ok`.
    pub ready: Check,
    /// Why this process should be started anew, or `Ok`.
    pub live: Check,
}

/// A kubelet asks twice a second at most, on a new connection each time.
pub fn limits() -> Limits {
    let rate = Rate {
        burst: 64,
        per_second: 10,
    };
    super::limits(64, 16, rate)
}

/// Serves until `shutdown`.
pub async fn serve(port: Port, health: Health, shutdown: CancellationToken) {
    let health = Arc::new(health);
    port.serve(shutdown, move |request| std::future::ready(health.respond(&request)))
        .await;
}

impl Health {
    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if let Some(refused) = super::refuse(request.method()) {
            return refused;
        }
        match request.uri().path() {
            "/livez" => verdict((self.live)()),
            "/readyz" => verdict((self.ready)()),
            _ => super::text(StatusCode::NOT_FOUND, "there are /livez and /readyz\n"),
        }
    }
}

fn verdict(verdict: Result<(), String>) -> Response<Full<Bytes>> {
    match verdict {
        Ok(()) => super::text(StatusCode::OK, "ok\n"),
        Err(reason) => super::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
