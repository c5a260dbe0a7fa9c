//! Which waiting pods are touched at all, by an API server that notes what is patched.

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::health::{Outcome, Probe, Unavailable};
use catamaran_core::routes::Route;
use catamaran_core::side::Side;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::testbed;

/// An API server that takes every write and notes where it went.
fn api_server(written: &Arc<Mutex<Vec<String>>>) -> kube::Client {
    let written = Arc::clone(written);
    testbed::api_server(move |method, uri, body| {
        written.lock().unwrap().push(uri.path().to_owned());
        if method == "POST" {
            return (201, body.to_vec());
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1"}});
        (200, serde_json::to_vec(&pod).unwrap())
    })
}

/// A leader that has left a primary which refuses connections.
fn leader(client: kube::Client) -> Arc<Context> {
    let mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "m1"},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io"},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
            "repositories": [{"name": "web"}],
        },
    }))
    .unwrap();
    let policy = Arc::new(policy(&mirror).unwrap());
    let route = Route {
        policy: Arc::clone(&policy),
        active: Side::Fallback,
        epoch: 2,
        evidence: Arc::default(),
    };
    let table = RouteTable::new(vec![route], Arc::default());
    let context = testbed::replica(client, Arc::new(table), true);
    let memory = context.memories.of(&policy.id);
    for second in 1000..1003 {
        let probe = Probe {
            at: Timestamp::from_second(second).unwrap(),
            outcome: Outcome::Unavailable(Unavailable::ConnectionFailed),
            message: String::new(),
        };
        memory.state().probes.primary.record(probe, &policy.health);
    }
    context
}

fn waiting_in(namespace: &str) -> Pod {
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image"});
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": namespace, "uid": namespace, "resourceVersion": "1"},
        "spec": {"containers": [{"name": "web", "image": "kracr.azurecr.io/web:1"}]},
        "status": {"phase": "Pending", "containerStatuses": [
            {"name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": waiting}},
        ]},
    }))
    .unwrap()
}

#[tokio::test]
async fn a_pod_that_admission_leaves_alone_by_its_namespace_is_left_alone_when_it_waits() {
    let cases = [
        ("shop", true),
        ("kube-public", true),
        ("kube-system", false),
        ("catamaran-system", false),
        // Excluded by the user.
        ("legacy", false),
    ];
    let patched = Arc::default();
    let context = leader(api_server(&patched));
    let (rescuer, _publisher) = Rescuer::new(&context);
    for (namespace, expected) in cases {
        rescuer.rescue(&waiting_in(namespace)).await;
        let asked = std::mem::take(&mut *patched.lock().unwrap());
        let path = format!("/api/v1/namespaces/{namespace}/pods/web-1");
        assert_eq!(asked, Vec::from_iter(expected.then_some(path)), "{namespace}");
    }
}

#[tokio::test]
async fn pods_are_told_of_it_when_there_is_time_and_not_before_others_are_re_pointed() {
    let written = Arc::default();
    let context = leader(api_server(&written));
    let (rescuer, publisher) = Rescuer::new(&context);
    let namespaces = ["shop", "blog", "search"];
    let pods = namespaces.map(|namespace| Arc::new(waiting_in(namespace)));
    rescuer.rescue_all(pods.to_vec()).await;
    let patches = namespaces.map(|namespace| format!("/api/v1/namespaces/{namespace}/pods/web-1"));
    assert_eq!(std::mem::take(&mut *written.lock().unwrap()), patches);
    // With nobody left who could say anything more, it ends.
    drop(rescuer);
    publisher.publish(&context.recorder).await;
    let events = namespaces.map(|namespace| format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
    assert_eq!(*written.lock().unwrap(), events);
}
