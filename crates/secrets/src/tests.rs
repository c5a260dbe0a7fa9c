use std::convert::Infallible;

use http::{Method, Response};
use kube::client::Body;
use tower::service_fn;

use super::*;

/// Secrets of an API server that gives this answer to every request.
fn secrets(code: u16, answer: &'static [u8]) -> Api<Secret> {
    let service = service_fn(move |request: http::Request<Body>| async move {
        assert!(request.uri().path().starts_with("/api/v1/namespaces/apps/secrets"));
        let echoes = request.method() != Method::GET && answer == b"echo";
        let body = if echoes {
            request.into_body()
        } else {
            Body::from(answer.to_vec())
        };
        Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
    });
    Api::namespaced(kube::Client::new(service, "apps"), "apps")
}

fn secret() -> Secret {
    serde_json::from_str(r#"{"metadata": {"name": "login"}, "data": {"password": "aHVudGVyMg=="}}"#).unwrap()
}

#[tokio::test]
async fn get_of_missing_secret_is_none() {
    let answer = br#"{"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404}"#;
    assert_eq!(get_opt(&secrets(404, answer), "login").await.unwrap(), None);
}

#[tokio::test]
async fn get_of_refused_secret_is_the_error_of_the_server() {
    let answer = br#"{"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "", "code": 403}"#;
    let error = get_opt(&secrets(403, answer), "login").await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 403));
}

#[tokio::test]
async fn create_and_replace_return_the_stored_secret() {
    let (api, params) = (secrets(200, b"echo"), PostParams::default());
    assert_eq!(create(&api, &params, &secret()).await.unwrap(), secret());
    assert_eq!(replace(&api, "login", &params, &secret()).await.unwrap(), secret());
}

#[tokio::test]
async fn unreadable_answer_is_an_error_that_quotes_nothing() {
    let params = PostParams::default();
    for answer in [
        &br#"{"data": {"password": "hunter2 is not base64"}}"#[..],
        br#"{"data": "hunter2"}"#,
        b"hunter2",
        b"hunter2 \xff",
    ] {
        let api = secrets(200, answer);
        for error in [
            get_opt(&api, "login").await.unwrap_err(),
            create(&api, &params, &secret()).await.unwrap_err(),
            replace(&api, "login", &params, &secret()).await.unwrap_err(),
        ] {
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("104, 117, 110"),
                "{shown}"
            );
        }
    }
}
