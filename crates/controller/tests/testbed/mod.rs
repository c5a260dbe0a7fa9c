//! A replica for tests: everything that parts share, with an API server that the test plays.

use std::sync::Arc;
use std::time::Duration;

use catamaran_core::routes::RouteTable;
use catamaran_lease::Leadership;
use catamaran_registry::Budgets;
use kube::client::Body;
use tokio::sync::{mpsc, watch};
use tower::service_fn;

use crate::clock::Clock;
use crate::connections::Connections;
use crate::context::{Context, excluded_namespaces, recorder};
use crate::crews::Crews;
use crate::memory::Memories;
use crate::readings::Readings;

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
pub(crate) fn replica(client: kube::Client, table: Arc<RouteTable>, leads: bool) -> Arc<Context> {
    let (publish, leadership) = catamaran_lease::channel();
    if leads {
        let hour = tokio::time::Instant::now() + Duration::from_hours(1);
        publish.send_replace(Leadership::until(hour));
    }
    Arc::new(Context {
        identity: "catamaran-0".to_owned(),
        namespace: "catamaran-system".to_owned(),
        excluded_namespaces: excluded_namespaces("catamaran-system", &["legacy".to_owned()]),
        clock: Clock::start(),
        leadership,
        memories: Memories::default(),
        connections: Connections::new(client.clone(), "catamaran-system", Arc::new(Budgets::new())),
        readings: Readings::default(),
        crews: Crews::default(),
        table: watch::channel(table).1,
        triggers: mpsc::unbounded_channel().0,
        turns: watch::channel(0).0,
        recorder: recorder(client.clone(), "catamaran-0"),
        metrics: Arc::default(),
        client,
    })
}
