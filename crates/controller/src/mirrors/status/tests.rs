//! Writes of a status to an API server that the test plays.

use std::sync::{Mutex, PoisonError};

use catamaran_core::mirror::Mirror;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::testbed::{api_server, metric, replica};

/// Each request, as method and path, and what was sent.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// A replica whose API server answers each request with `code`, and for 200 with what can't be decoded.
fn ground(leads: bool, code: u16) -> (Context, Requests) {
    let requests = Requests::default();
    let noted = Arc::clone(&requests);
    let api = api_server(move |method, uri, body| {
        let sent = serde_json::from_slice(body).unwrap_or_default();
        noted.lock().unwrap().push((format!("{method} {}", uri.path()), sent));
        let answer = match code {
            200 => json!({"kind": "RegistryMirror", "spec": "no object"}),
            code => json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code}),
        };
        (code, answer.to_string().into_bytes())
    });
    (replica(api, Arc::default(), leads), requests)
}

fn invalid() -> InvalidObject {
    InvalidObject {
        error: "spec.parity.interval: invalid type: map".to_owned(),
        metadata: ObjectMeta {
            name: Some("apps".to_owned()),
            generation: Some(7),
            resource_version: Some("41".to_owned()),
            creation_timestamp: Some(Time("2026-01-01T00:00:00Z".parse().unwrap())),
            ..ObjectMeta::default()
        },
    }
}

fn failed(context: &Context) -> u64 {
    metric(&context.metrics, r#"catamaran_reconcile_errors_total{error="status"}"#)
}

#[tokio::test]
async fn unreadable_mirror_is_reported_in_the_version_that_was_read() {
    let (context, requests) = ground(true, 200);
    assert!(
        refuse(&context, &invalid(), false).await,
        "the answer can't be decoded either"
    );
    assert!(refuse(&context, &invalid(), false).await);
    let requests = requests.lock().unwrap();
    let [(request, sent), (_, again)] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(
        request,
        "PATCH /apis/catamaran.dev/v1alpha1/registrymirrors/apps/status"
    );
    assert_eq!(sent, again, "reporting it again changes nothing");
    assert_eq!(sent["metadata"]["resourceVersion"], "41");
    assert_eq!(sent["status"]["observedGeneration"], 7);
    let conditions = sent["status"]["conditions"].as_array().unwrap();
    let said: Vec<_> = conditions
        .iter()
        .map(|condition| ["type", "status", "reason"].map(|field| condition[field].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        said,
        [["Ready", "False", "InvalidSpec"], ["Stalled", "True", "InvalidSpec"]]
    );
    for condition in conditions {
        let message = condition["message"].as_str().unwrap();
        assert!(
            message.contains("spec.parity.interval") && message.ends_with("correct the spec"),
            "{message}"
        );
        assert_eq!(condition["observedGeneration"], 7);
    }
    assert_eq!(failed(&context), 0);
}

#[tokio::test]
async fn report_that_the_api_server_refuses_is_counted_and_tried_again() {
    for code in [409, 403, 500] {
        let (context, _) = ground(true, code);
        assert!(!refuse(&context, &invalid(), false).await, "{code}");
        assert_eq!(failed(&context), 1, "{code}");
    }
}

/// A mirror that is suspended, which its status does not say yet.
fn suspended() -> (Arc<MirrorObject>, View) {
    let mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1", "generation": 3, "resourceVersion": "41"},
        "spec": {"primary": {"registry": "kracr.azurecr.io"}, "fallback": {"registry": "ghcr.io"}, "suspend": true},
    }))
    .unwrap();
    let policy = Arc::new(catamaran_api::policy::policy(&mirror).unwrap());
    let mut machine = Mirror::new(policy.id.clone());
    let event = catamaran_core::mirror::Event::Spec { policy, generation: 3 };
    machine.handle(event, "2026-11-01T12:00:00Z".parse().unwrap());
    let view = machine.view().unwrap();
    (Arc::new(MirrorObject::of(&mirror).unwrap()), view)
}

async fn write_at_once(context: &Context, mirror: Arc<MirrorObject>, view: &View, again: bool) -> Written {
    let report = news(context, &mirror, view).unwrap().expect("it is news");
    write(context, mirror, report, context.writes.other().await, again).await
}

#[tokio::test]
async fn replica_that_lost_the_lease_sends_no_status() {
    let (context, requests) = ground(false, 200);
    let (mirror, view) = suspended();
    let written = write_at_once(&context, mirror, &view, false).await;
    assert!(matches!(written, Written::Conflict(None)), "{written:?}");
    assert!(!refuse(&context, &invalid(), false).await);
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn status_is_replaced_in_the_version_that_was_decided_on() {
    let (context, requests) = ground(true, 409);
    let (mirror, view) = suspended();
    let written = write_at_once(&context, mirror, &view, false).await;
    assert!(matches!(written, Written::Conflict(None)), "{written:?}");
    let requests = requests.lock().unwrap();
    let [(put, sent), (read, _)] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(put, "PUT /apis/catamaran.dev/v1alpha1/registrymirrors/apps/status");
    assert_eq!(sent["metadata"]["resourceVersion"], "41");
    let mirrors = "GET /apis/catamaran.dev/v1alpha1/registrymirrors";
    assert!(read.starts_with(mirrors), "{read}");
    let conflicts = r#"catamaran_reconcile_errors_total{error="conflict"}"#;
    assert_eq!(metric(&context.metrics, conflicts), 1);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn status_that_is_refused_again_is_counted_and_complained_of_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    let _heard = tracing::subscriber::set_default(subscriber);
    let (context, _) = ground(true, 403);
    for again in [false, true, true] {
        let (mirror, view) = suspended();
        let written = write_at_once(&context, mirror, &view, again).await;
        assert!(matches!(written, Written::Refused), "{written:?}");
        assert!(!refuse(&context, &invalid(), again).await);
    }
    assert_eq!(failed(&context), 6);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("failed to write the status").count(), 2, "{log}");
}
