use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// The leader as an API server has it: one Lease, held by `holder`, and one Pod, `catamaran-1`, at `address`; and how often
/// the API server was asked.
pub(in crate::notifications) fn leader(holder: &Value, address: SocketAddr) -> (LeaderAddress, Arc<AtomicUsize>) {
    let lease = json!({"metadata": {}, "spec": {"holderIdentity": holder}});
    let pod = json!({"metadata": {}, "status": {"podIP": address.ip().to_string()}});
    let missing = json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "x"});
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::Relaxed);
        let (code, body) = match request.uri().path() {
            "/apis/coordination.k8s.io/v1/namespaces/ns/leases/catamaran" => (200, &lease),
            "/api/v1/namespaces/ns/pods/catamaran-1" => (200, &pod),
            _ => (404, &missing),
        };
        let answer = http::Response::builder().status(code);
        let answer = answer.body(Body::from(body.to_string().into_bytes())).unwrap();
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let lookup = LeaderLookup {
        client: kube::Client::new(service, "ns"),
        namespace: "ns".to_owned(),
        lease: "catamaran".to_owned(),
        own: "catamaran-0".to_owned(),
        port: address.port(),
    };
    (LeaderAddress::new(lookup), asked)
}

#[tokio::test]
async fn leader_is_the_other_pod_that_holds_the_lease() {
    let address = "10.0.0.7:8081".parse().unwrap();
    let cases = [
        (json!("catamaran-1"), Some(address), 2),
        (json!("catamaran-0"), None, 1),
        (json!("catamaran-2"), None, 2),
        (json!(""), None, 1),
        (Value::Null, None, 1),
    ];
    for (holder, expected, requests) in cases {
        let (leader, asked) = leader(&holder, address);
        // A flood asks the API server no more often than one notification does.
        for _ in 0..100 {
            assert_eq!(leader.get().await, expected, "{holder}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), requests, "{holder}");
    }
}
