//! One request: routed, read, reviewed, answered.

use std::time::Instant;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::body::{self, BodyError};
use super::shared::Shared;
use crate::metrics::Refusal;

/// The path that reviews are posted to.
pub const PATH: &str = "/mutate";

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let mut response = match review(request, shared).await {
        Ok(response) => response,
        Err(refusal) => {
            shared.refused(refusal);
            refuse(refusal)
        }
    };
    if shared.closing.is_cancelled() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn review(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>, Refusal> {
    if request.uri().path() != PATH {
        return Err(Refusal::NotFound);
    }
    if request.method() != Method::POST {
        return Err(Refusal::MethodNotAllowed);
    }
    // Inflating is where a small request becomes a large one; the API server never compresses.
    if request
        .headers()
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| encoding != "identity")
    {
        return Err(Refusal::EncodedBody);
    }
    let body = body::read(request, shared).await.map_err(|error| match error {
        BodyError::TooLarge => Refusal::BodyTooLarge,
        BodyError::TimedOut => Refusal::BodyTimeout,
        BodyError::Broken => Refusal::BodyBroken,
    })?;
    let reviewed = shared.admission.review(&body.bytes, Instant::now());
    let mut response = Response::new(Full::new(Bytes::from(reviewed.response)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The answer to a request that is no review. What was not read of it is not worth reading: the connection is closed.
fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, text) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "reviews are posted to /mutate\n"),
        Refusal::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "reviews are posted\n"),
        Refusal::EncodedBody => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed\n"),
        Refusal::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
        Refusal::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        _ => (StatusCode::BAD_REQUEST, "the body ended early\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if refusal == Refusal::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}
