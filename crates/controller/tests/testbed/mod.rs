//! A replica for tests: everything that parts share, with an API server that the test plays.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::routing::RouteTable;
use catamaran_lease::Leadership;
use catamaran_registry::Budgets;
use kube::client::Body;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tower::service_fn;

use crate::clock::Clock;
use crate::connections::Connections;
use crate::context::{Context, recorder};
use crate::metrics::Metrics;
use crate::publish::{EvidenceStore, FlipStore, LocalEvidence, Replica};

/// An API server that answers as `answer` says: from the method, the URI and the body to a status and a body.
pub(crate) fn api_server(
    answer: impl Fn(&str, &http::Uri, &[u8]) -> (u16, Vec<u8>) + Send + Sync + 'static,
) -> kube::Client {
    let answer = Arc::new(answer);
    let service = service_fn(move |request: http::Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let (code, body) = answer(parts.method.as_str(), &parts.uri, &body);
            let answer = http::Response::builder().status(code).body(Body::from(body)).unwrap();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    kube::Client::new(service, "catamaran-system")
}

/// An API server that answers everything with 503.
pub(crate) fn nobody() -> kube::Client {
    api_server(|_, _, _| (503, Vec::new()))
}

/// A replica that sees these routes; if it leads, then for an hour.
pub(crate) fn replica(client: kube::Client, table: Arc<RouteTable>, leads: bool) -> Context {
    let (publish, leadership) = catamaran_lease::channel();
    if leads {
        let hour = tokio::time::Instant::now() + Duration::from_hours(1);
        publish.send_replace(Leadership::until(hour));
    }
    context(client, lasting(watch::channel(table)), lasting((publish, leadership)))
}

/// A receiver whose sender stays as long as it does.
pub(crate) fn lasting<T: Send + Sync + 'static>(
    (sender, receiver): (watch::Sender<T>, watch::Receiver<T>),
) -> watch::Receiver<T> {
    tokio::spawn(async move { sender.closed().await });
    receiver
}

/// A replica that sees the routes of `table`, and leads as `leadership` has it.
pub(crate) fn context(
    client: kube::Client,
    table: watch::Receiver<Arc<RouteTable>>,
    leadership: watch::Receiver<Leadership>,
) -> Context {
    let replica = Replica {
        client: client.clone(),
        namespace: "catamaran-system".to_owned(),
        identity: "catamaran-0".to_owned(),
        leadership: leadership.clone(),
    };
    Context {
        namespace: "catamaran-system".to_owned(),
        clock: Clock::start(),
        connections: Connections::new(client.clone(), "catamaran-system", Arc::new(Budgets::new())),
        table,
        local: LocalEvidence::new(leadership.clone()),
        store: Arc::new(EvidenceStore::new(&replica)),
        flips: Arc::new(FlipStore::new(&replica)),
        recorder: recorder(client.clone(), "catamaran-0"),
        writes: crate::writes::WriteLimits::default(),
        metrics: Arc::default(),
        reviews: Arc::new(crate::reviews::Reviews::new("catamaran-0", || 0)),
        leadership,
        client,
    }
}

/// The value of a metric's line, by the line's begin; 0 for one that is not there.
pub(crate) fn metric(metrics: &Metrics, line: &str) -> u64 {
    let mut registry = Registry::with_prefix("catamaran");
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let value = text.lines().find_map(|there| there.strip_prefix(line));
    value.map_or(0, |value| value.trim().parse().unwrap())
}
