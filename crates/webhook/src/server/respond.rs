//! One request, one answer.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::body;
use crate::admission::Admission;
use crate::metrics::Refusal;

/// Where reviews are posted to.
pub const PATH: &str = "/mutate";

/// Answers one request; `closing` asks the peer to use another connection next time.
pub(super) async fn respond(request: Request<Incoming>, admission: &Admission, closing: bool) -> Response<Full<Bytes>> {
    let mut response = match review(request, admission).await {
        Ok(review) => {
            let mut response = Response::new(Full::new(Bytes::from(review)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(refusal) => {
            admission.metrics().refused(refusal);
            refuse(refusal)
        }
    };
    if closing {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn review(request: Request<Incoming>, admission: &Admission) -> Result<Vec<u8>, Refusal> {
    if request.uri().path() != PATH {
        return Err(Refusal::NotFound);
    }
    if request.method() != Method::POST {
        return Err(Refusal::MethodNotAllowed);
    }
    if request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Refusal::EncodedBody);
    }
    let body = body::read(request.into_body()).await?;
    Ok(admission.review(&body, Instant::now()).response)
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, text) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "reviews are posted to /mutate\n"),
        Refusal::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "reviews are posted\n"),
        Refusal::EncodedBody => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "bodies are taken as they are, not encoded\n"),
        Refusal::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the review is larger than 7 MiB\n"),
        Refusal::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "the review did not arrive in time\n"),
        _ => (StatusCode::BAD_REQUEST, "the review did not arrive whole\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match refusal {
        Refusal::MethodNotAllowed => {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        // What is left of such a body is not read.
        Refusal::BodyTooLarge | Refusal::BodyTimeout | Refusal::BodyBroken | Refusal::EncodedBody => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}
