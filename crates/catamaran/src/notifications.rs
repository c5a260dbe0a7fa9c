//! Where registries notify us, in plain HTTP behind whatever ends TLS: `/azure`, `/github` and `/events`.
//!
//! Every replica takes them; one that does not lead passes them on to the one that does, because only the leader's looks
//! count. What can't be passed on is answered with 503, for senders that try again; the next pass finds the rest.
//!
//! Reading order: [`Desk`] answers requests, `keyfile` holds the shared secrets, `leader` finds the leader and passes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_controller::notifications::{Answer, LARGEST, RETRY_AFTER, Sender};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER as RETRY_AFTER_HEADER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub mod keyfile;
pub mod leader;

use leader::{FORWARDED, Find};

use crate::listener;

/// Connections served at a time; with bodies at their cap that is 4 MiB.
const CONNECTIONS: usize = 16;
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may live: senders send one thing and go.
const LONGEST_CONNECTION: Duration = Duration::from_mins(1);
/// A longer origin is no host.
const LONGEST_ORIGIN: usize = 253;

/// Who judges a notification.
pub type Take = Box<dyn Fn(Sender, &HeaderMap, &[u8]) -> Answer + Send + Sync>;

/// Answers requests.
pub struct Desk {
    /// Judges, and verifies if this replica leads.
    pub take: Take,
    /// Where the leader is, if it is another replica.
    pub leader: Find,
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, desk: Arc<Desk>, shutdown: CancellationToken) {
    let serve = |stream| {
        let served = tokio::time::timeout(LONGEST_CONNECTION, connection(stream, Arc::clone(&desk)));
        async move {
            if served.await.is_err() {
                tracing::debug!("a sender of notifications took too long");
            }
        }
    };
    listener::accept(listener, CONNECTIONS, shutdown, serve).await;
}

async fn connection(stream: TcpStream, desk: Arc<Desk>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(respond(request, &desk).await) }
    });
    if let Err(error) = listener::http().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a sender's connection broke");
    }
}

async fn respond(request: Request<Incoming>, desk: &Desk) -> Response<Full<Bytes>> {
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
    match (desk.take)(sender, &parts.headers, &body) {
        Answer::NotLeading if parts.headers.contains_key(FORWARDED) => unavailable("no replica leads just now\n"),
        Answer::NotLeading => pass_on(desk, &path, &parts.headers, body).await,
        answer => told(&answer),
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

fn told(answer: &Answer) -> Response<Full<Bytes>> {
    let status = answer.status();
    match answer {
        Answer::Accepted(count) => text(status, format!("{count} to verify\n")),
        Answer::Nothing => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = status;
            response
        }
        Answer::Handshake(code) => {
            let body = serde_json::json!({ "validationResponse": code }).to_string();
            let mut response = text(status, body);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Answer::Refused => text(status, "the shared secret is missing or wrong\n"),
        Answer::Unreadable(error) => text(status, format!("{error}\n")),
        Answer::TooMany => later(text(
            status,
            "too many at once; the next pass finds what was not taken\n",
        )),
        Answer::NotLeading => unavailable("no replica leads just now\n"),
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

async fn pass_on(desk: &Desk, path: &str, headers: &HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
    let Some(leader) = (desk.leader)().await else {
        return unavailable("no replica leads just now\n");
    };
    match leader::pass_on(leader, path, headers, body).await {
        Ok(status) if status == StatusCode::NO_CONTENT => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = status;
            response
        }
        Ok(StatusCode::SERVICE_UNAVAILABLE) => unavailable("no replica leads just now\n"),
        Ok(StatusCode::TOO_MANY_REQUESTS) => later(text(StatusCode::TOO_MANY_REQUESTS, "too many at once\n")),
        Ok(status) => text(status, "passed on to the leader\n"),
        Err(error) => {
            tracing::debug!(%error, %leader, "a notification was not passed on");
            unavailable("the leader can't be reached\n")
        }
    }
}

fn unavailable(why: &'static str) -> Response<Full<Bytes>> {
    later(text(StatusCode::SERVICE_UNAVAILABLE, why))
}

fn later(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
    response.headers_mut().insert(RETRY_AFTER_HEADER, seconds);
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
