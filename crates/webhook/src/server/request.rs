//! One request: routed, read, reviewed, answered.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::body::{self, BodyError, Held, Read};
use super::shared::Shared;
use crate::metrics::Refusal;
use crate::review::Reviewed;

/// The path that reviews are posted to.
pub const PATH: &str = "/mutate";

/// Answers one request.
pub(super) async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    review(request, shared).await.unwrap_or_else(|refusal| {
        shared.refused(refusal);
        refuse(refusal)
    })
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
    let reviewed = match body {
        Read::NoRoom(beginning) => shared.admission.overloaded(&beginning, Instant::now()),
        Read::Whole(body) if body.is_large() => in_turn(body, shared).await,
        Read::Whole(body) => shared.admission.review(&body.bytes, Instant::now()),
    };
    let mut response = Response::new(Full::new(Bytes::from(reviewed.response)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Reviews a large body beside the threads that answer, so that a small one never waits for it: so many at a time.
async fn in_turn(body: Held, shared: &Shared) -> Reviewed {
    let begun = Instant::now();
    let turn = tokio::time::timeout(shared.limits.patience, Arc::clone(&shared.turns).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return shared.admission.overloaded(&body.bytes, begun);
    };
    let (admission, bytes) = (Arc::clone(&shared.admission), body.bytes.clone());
    let reviewed = tokio::task::spawn_blocking(move || {
        let _held = (turn, &body);
        admission.review(&body.bytes, Instant::now())
    });
    // A review never panics; what remains is a runtime that is about to end.
    reviewed
        .await
        .unwrap_or_else(|_| shared.admission.overloaded(&bytes, begun))
}

/// The answer to a request that is no review. What was not read of it is not worth reading: the connection is closed.
fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, text) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "reviews are posted to /mutate\n"),
        Refusal::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "reviews are posted\n"),
        Refusal::EncodedBody => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed\n"),
        Refusal::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
        Refusal::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        Refusal::BodyBroken => (StatusCode::BAD_REQUEST, "the body ended early\n"),
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
