//! Answers by status, header and body.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use crate::body::Scripted;

/// A response with a body.
pub(crate) fn plain(status: u16, media_type: &str, body: Bytes) -> Response<Scripted> {
    let mut response = Response::new(Scripted::whole(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    insert(&mut response, CONTENT_TYPE, media_type);
    response
}

pub(crate) fn error(status: u16, code: &str, message: &str) -> Response<Scripted> {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    plain(status, "application/json", body.to_string().into())
}

pub(crate) fn insert(response: &mut Response<Scripted>, name: impl http::header::IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
