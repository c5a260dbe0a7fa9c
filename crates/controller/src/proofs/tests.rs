use catamaran_core::mirror::proof::reading::ContainerState;
use catamaran_core::mirror::proof::usage::Place;
use serde_json::{Value, json};

use super::sweep::is_left;
use super::*;
use crate::testbed;

fn wanted() -> ProofPod {
    ProofPod {
        request: catamaran_core::mirror::RequestId::default(),
        node: "node-1".to_owned(),
        place: Place {
            namespace: "shop".to_owned(),
            service_account: "web".to_owned(),
            pull_secrets: vec!["own".to_owned()],
        },
        images: vec!["ghcr.io/a/web:1".to_owned(), "ghcr.io/a/api:1".to_owned()],
    }
}

fn id() -> MirrorId {
    MirrorId {
        name: "apps".into(),
        uid: "u1".into(),
    }
}

/// What the API server answers to a request, and all requests that it has had, as `METHOD path`.
type Asked = Arc<Mutex<Vec<String>>>;

fn server(answer: impl Fn(&str, &str, &Value) -> (u16, Value) + Send + Sync + 'static) -> (Context, Asked) {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let client = testbed::api_server(move |method, uri, body| {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        noted.lock().unwrap().push(format!("{method} {}", uri.path()));
        let (code, said) = answer(method, uri.path(), &body);
        (code, said.to_string().into_bytes())
    });
    (testbed::replica(client, Arc::default(), true), asked)
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": "Forbidden"}),
    )
}

fn proofs() -> Proofs {
    Proofs::new("replica", ["shop".to_owned()], jiff::Timestamp::UNIX_EPOCH)
}

/// A pod as the API server has it, with a state of its first container.
fn made(body: &Value, state: &Value) -> Value {
    let mut pod = body.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("catamaran-proof-apps-x");
    pod["metadata"]["uid"] = json!("p1");
    pod["metadata"]["resourceVersion"] = json!("5");
    let status = |index: usize| json!({"name": format!("image-{index}"), "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    pod["status"] =
        json!({"startTime": "2026-01-01T00:00:00Z", "phase": "Pending", "containerStatuses": [status(0), status(1)]});
    pod
}

async fn prove(context: &Context) -> Option<Outcome> {
    proofs()
        .prove(context, &id(), &wanted(), &CancellationToken::new())
        .await
}

#[tokio::test]
async fn pod_is_made_read_and_deleted() {
    let denied = json!({"waiting": {"reason": "ErrImagePull", "message": "unexpected status: 401 Unauthorized"}});
    let created = Arc::new(Mutex::new(Value::Null));
    let (context, asked) = server(move |method, path, body| match (method, path) {
        ("POST", "/api/v1/namespaces/shop/pods") => {
            *created.lock().unwrap() = made(body, &denied);
            (201, created.lock().unwrap().clone())
        }
        ("GET", "/api/v1/namespaces/shop/pods") => {
            let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": [created.lock().unwrap().clone()]});
            (200, list)
        }
        ("DELETE", _) => {
            assert_eq!(body["preconditions"]["uid"], "p1");
            assert_eq!(body["gracePeriodSeconds"], 0);
            (200, created.lock().unwrap().clone())
        }
        _ => refusal(404, "not found"),
    });
    let outcome = prove(&context).await.unwrap();
    let Outcome::Pulls(pulls) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(pulls.len(), 2);
    assert!(
        pulls
            .iter()
            .all(|pull| pull.as_ref().is_err_and(|it| it.cause.as_str() == "Unauthorized")),
        "{pulls:?}"
    );
    let last = asked.lock().unwrap().last().cloned();
    assert_eq!(
        last.as_deref(),
        Some("DELETE /api/v1/namespaces/shop/pods/catamaran-proof-apps-x")
    );
}

#[tokio::test]
async fn refusal_of_a_policy_is_told_from_a_right_that_is_missing() {
    for (allowed, cause) in [(true, Cause::Refused), (false, Cause::NotPermitted)] {
        let (context, _) = server(move |_, path, _| match path {
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => (
                201,
                json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {}, "status": {"allowed": allowed}}),
            ),
            _ => refusal(
                403,
                "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'acr-only' denied request",
            ),
        });
        let outcome = prove(&context).await;
        assert!(
            matches!(&outcome, Some(Outcome::Whole(problem)) if problem.cause == cause),
            "{outcome:?}"
        );
    }
    let (context, _) = server(|_, _, _| refusal(422, "ValidatingAdmissionPolicy 'acr-only' denied request"));
    let outcome = prove(&context).await;
    assert!(
        matches!(&outcome, Some(Outcome::Whole(problem)) if problem.cause == Cause::Refused),
        "{outcome:?}"
    );
    let (context, _) = server(|_, _, _| refusal(500, "etcd is away"));
    let outcome = prove(&context).await;
    assert!(
        matches!(&outcome, Some(Outcome::Whole(problem)) if problem.cause == Cause::NotStarted),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn cancelled_pod_is_deleted_and_not_reported() {
    let cancelled = CancellationToken::new();
    let cancel = cancelled.clone();
    let (context, asked) = server(move |method, path, body| match (method, path) {
        ("POST", _) => {
            cancel.cancel();
            (201, made(body, &json!({"waiting": {"reason": "ContainerCreating"}})))
        }
        ("DELETE", _) => (
            200,
            made(&json!({"metadata": {}, "spec": {"containers": []}}), &Value::Null),
        ),
        _ => refusal(404, "not found"),
    });
    let outcome = proofs().prove(&context, &id(), &wanted(), &cancelled).await;
    assert_eq!(outcome, None);
    let last = asked.lock().unwrap().last().cloned().unwrap();
    assert!(last.starts_with("DELETE "), "{last}");
    let outcome = proofs().prove(&context, &id(), &wanted(), &cancelled).await;
    assert_eq!(
        (
            outcome,
            asked
                .lock()
                .unwrap()
                .iter()
                .filter(|asked| asked.starts_with("POST"))
                .count()
        ),
        (None, 1)
    );
}

#[test]
fn pod_pulls_as_the_workload_does_and_can_do_nothing_else() {
    let pod = Maker::new("replica@0".to_owned()).pod(&id(), &wanted());
    let pod = serde_json::to_value(pod).unwrap();
    let spec = &pod["spec"];
    assert_eq!(
        (&spec["nodeName"], &spec["serviceAccountName"]),
        (&json!("node-1"), &json!("web"))
    );
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "own"}]));
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(
        (&spec["restartPolicy"], &spec["activeDeadlineSeconds"]),
        (&json!("Never"), &json!(600))
    );
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    let containers = spec["containers"].as_array().unwrap();
    let images: Vec<&Value> = containers.iter().map(|container| &container["image"]).collect();
    assert_eq!(images, ["ghcr.io/a/web:1", "ghcr.io/a/api:1"]);
    for container in containers {
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["command"], json!(["/catamaran-proof/never-runs"]));
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    }
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"], &owner["controller"]),
        (&json!("RegistryMirror"), &json!("u1"), &json!(true))
    );
    assert_eq!(pod["metadata"]["labels"]["sidecar.istio.io/inject"], "false");
    assert_eq!(pod["metadata"]["annotations"]["linkerd.io/inject"], "disabled");
    let mut plain = wanted();
    plain.place.pull_secrets.clear();
    let pod = serde_json::to_value(Maker::new(String::new()).pod(&id(), &plain)).unwrap();
    assert!(
        pod["spec"].get("imagePullSecrets").is_none(),
        "or admission would not give it those of the account"
    );
}

#[test]
fn container_of_an_injector_is_not_read() {
    let made = made(
        &serde_json::to_value(Maker::new(String::new()).pod(&id(), &wanted())).unwrap(),
        &json!({"running": {}}),
    );
    let mut pod: Pod = serde_json::from_value(made).unwrap();
    let spec = pod.spec.as_mut().unwrap();
    let sidecar = k8s_openapi::api::core::v1::Container {
        name: "istio-proxy".to_owned(),
        ..spec.containers[0].clone()
    };
    spec.containers.insert(0, sidecar);
    let state = state::of(&pod);
    assert_eq!(state.containers, [ContainerState::Started, ContainerState::Started]);
    assert!(state.is_taken);
}

#[test]
fn only_pods_of_mirrors_that_nobody_waits_for_are_swept() {
    let at = |second: i64| jiff::Timestamp::from_second(second).unwrap();
    let pod = |identity: &str, created: i64, owned: bool| {
        let mut pod = Maker::new(identity.to_owned()).pod(&id(), &wanted());
        pod.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(created)));
        if !owned {
            pod.metadata.owner_references = None;
        }
        pod
    };
    let cases = [
        ("of a replica that is gone", pod("old@1", 0, true), true),
        ("of the container before", pod("replica@1", 0, true), true),
        ("under way", pod("replica@2", 0, true), false),
        ("of a user who writes labels", pod("old@1", 0, false), false),
    ];
    for (name, pod, expected) in cases {
        assert_eq!(is_left(&pod, "replica@2", at(60)), expected, "{name}");
    }
    assert!(
        is_left(&pod("replica@2", 0, true), "replica@2", at(1000)),
        "too old for anyone to wait for"
    );
}

#[tokio::test(start_paused = true)]
async fn pod_that_nothing_is_seen_of_ends_with_its_time() {
    let outcome = follow(futures::stream::pending().boxed(), Duration::from_mins(10)).await;
    assert!(
        matches!(&outcome, Outcome::Whole(problem) if problem.cause == Cause::NotStarted),
        "{outcome:?}"
    );
}
