//! The HTTP server that registries notify, behind whatever ends TLS: `/azure`, `/github` and `/events`.
//!
//! Every replica takes notifications. One that does not lead forwards them to the leader, because only the leader's reads
//! count. What can't be forwarded is answered with 503, for senders that try again; the next pass finds the rest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER as RETRY_AFTER_HEADER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::leader::{self, FORWARDED, LeaderAddress};
use super::{Answer, Inbox, KeyFile, LARGEST, RETRY_AFTER, Sender};
use crate::context::Context;
use crate::mirrors::MirrorTasks;

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer origin is no host.
const LONGEST_ORIGIN: usize = 253;

const NO_LEADER: &str = "no replica leads at the moment\n";
const TOO_MANY: &str = "too many at once; the next pass finds what was not taken\n";

/// Answers one notification.
type Judge = Box<dyn Fn(Sender, &HeaderMap, &[u8]) -> Answer + Send + Sync>;

/// Answers registries' notifications over HTTP.
pub struct NotificationServer {
    /// Has tags read if this replica leads.
    judge: Judge,
    /// Where to forward to if it does not.
    leader: LeaderAddress,
}

impl NotificationServer {
    /// A server for the holders of the secrets in `keys`, which has the tags of `tasks` read.
    pub fn new(
        context: Arc<Context>,
        tasks: Arc<MirrorTasks>,
        keys: KeyFile,
        leader: LeaderAddress,
    ) -> NotificationServer {
        let inbox = Inbox::default();
        let judge = Box::new(move |sender, headers: &HeaderMap, body: &[u8]| match keys.keys() {
            Some(keys) => inbox.take(&context, &tasks, &keys, sender, headers, body),
            None => Answer::Refused,
        });
        NotificationServer { judge, leader }
    }

    /// Answers one request.
    pub async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(sender) = Sender::of_path(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "there are /azure, /github and /events\n");
        };
        if request.method() == Method::OPTIONS && sender == Sender::Events {
            return permit(request.headers());
        }
        if request.method() != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let path = request.uri().path().to_owned();
        let (parts, body) = request.into_parts();
        let body = match read(body).await {
            Ok(body) => body,
            Err(status) => return text(status, "the body is larger than 256 kB, or did not come in time\n"),
        };
        match (self.judge)(sender, &parts.headers, &body) {
            Answer::NotLeading if parts.headers.contains_key(FORWARDED) => unavailable(NO_LEADER),
            Answer::NotLeading => self.forward(&path, &parts.headers, body).await,
            answer => response(&answer),
        }
    }

    async fn forward(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
        let Some(leader) = self.leader.get().await else {
            return unavailable(NO_LEADER);
        };
        match leader::forward(leader, path, headers, body).await {
            Ok(StatusCode::NO_CONTENT) => empty(StatusCode::NO_CONTENT),
            Ok(StatusCode::SERVICE_UNAVAILABLE) => unavailable(NO_LEADER),
            Ok(StatusCode::TOO_MANY_REQUESTS) => later(text(StatusCode::TOO_MANY_REQUESTS, TOO_MANY)),
            Ok(status) => text(status, "forwarded to the leader\n"),
            Err(error) => {
                tracing::debug!(%error, %leader, "a notification was not forwarded");
                unavailable("the leader can't be reached\n")
            }
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, StatusCode> {
    let whole = Limited::new(body, LARGEST).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

fn response(answer: &Answer) -> Response<Full<Bytes>> {
    let status = answer.status();
    match answer {
        Answer::Accepted(count) => text(status, format!("{count} to verify\n")),
        Answer::Nothing => empty(status),
        Answer::Handshake(code) => {
            let body = serde_json::json!({ "validationResponse": code }).to_string();
            let mut response = text(status, body);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Answer::Refused => text(status, "the shared secret is missing or wrong\n"),
        Answer::Unreadable(error) => text(status, format!("{error}\n")),
        Answer::TooMany => later(text(status, TOO_MANY)),
        Answer::NotLeading => unavailable(NO_LEADER),
    }
}

/// Abuse protection of webhooks for `CloudEvents`: the sender asks whether it may. It may; each delivery needs the secret.
fn permit(headers: &HeaderMap) -> Response<Full<Bytes>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let origin = headers.get("webhook-request-origin").filter(|origin| {
        let bytes = origin.as_bytes();
        (1..=LONGEST_ORIGIN).contains(&bytes.len()) && bytes.iter().copied().all(plain)
    });
    let Some(origin) = origin else {
        return text(
            StatusCode::BAD_REQUEST,
            "WebHook-Request-Origin is missing or no host\n",
        );
    };
    let mut response = text(StatusCode::OK, "");
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert("webhook-allowed-origin", origin.clone());
    headers.insert("webhook-allowed-rate", HeaderValue::from_static("120"));
    response
}

fn unavailable(why: &'static str) -> Response<Full<Bytes>> {
    later(text(StatusCode::SERVICE_UNAVAILABLE, why))
}

fn later(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
    response.headers_mut().insert(RETRY_AFTER_HEADER, seconds);
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests;
