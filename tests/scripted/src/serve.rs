//! Connections and requests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::Authority;
use crate::body::{End, Scripted};
use crate::fault::What;
use crate::state::{Recorded, State, Wire};

mod answers;
mod plain;
mod tokens;
mod uploads;

/// Serves until it is dropped, and every connection with it.
pub(crate) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    authority: Arc<Authority>,
    clients: Arc<dyn ClientCertVerifier>,
) {
    let acceptors = Arc::new(Acceptors::new(&authority, &clients));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                state.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(connection(stream, state.clone(), acceptors.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What ends TLS, by what happens below HTTP.
struct Acceptors {
    normal: TlsAcceptor,
    tls12: TlsAcceptor,
    http2: TlsAcceptor,
}

impl Acceptors {
    fn new(authority: &Arc<Authority>, clients: &Arc<dyn ClientCertVerifier>) -> Acceptors {
        let config = |versions: &[&'static SupportedProtocolVersion]| {
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)
                .expect("the provider supports both versions")
                .with_client_cert_verifier(clients.clone())
                .with_cert_resolver(authority.clone())
        };
        let both = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut http2 = config(&both);
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Acceptors {
            normal: TlsAcceptor::from(Arc::new(config(&both))),
            tls12: TlsAcceptor::from(Arc::new(config(&[&rustls::version::TLS12]))),
            http2: TlsAcceptor::from(Arc::new(http2)),
        }
    }

    fn of(&self, wire: Wire) -> TlsAcceptor {
        match wire {
            Wire::Tls12 => self.tls12.clone(),
            Wire::BrokenHttp2 => self.http2.clone(),
            _ => self.normal.clone(),
        }
    }
}

/// An empty SETTINGS frame, and a GOAWAY frame: no stream was worked on, and an internal error.
const GOING_AWAY: &[u8] = &[
    0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
];

async fn connection(mut stream: TcpStream, state: Arc<State>, acceptors: Arc<Acceptors>) {
    let _ = stream.set_nodelay(true);
    let wire = state.behaviour(|behaviour| behaviour.wire);
    match wire {
        Wire::Normal | Wire::Tls12 | Wire::BrokenHttp2 | Wire::Garbage => {}
        Wire::PlainToo => {
            let mut first = [0];
            if stream.peek(&mut first).await.is_ok() && first[0].is_ascii_uppercase() {
                return serve_http(stream, false, state).await;
            }
        }
        Wire::Silent => std::future::pending().await,
        Wire::Close => {
            // Closing with unread input would reset the connection.
            let _ = stream.read(&mut [0; 16 * 1024]).await;
            return;
        }
        Wire::Reset => {
            let _ = stream.set_zero_linger();
            return;
        }
        Wire::Plain => {
            let _ = stream.read(&mut [0; 16 * 1024]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await;
            return;
        }
    }
    if state.behaviour(|behaviour| behaviour.resets()) {
        let _ = stream.set_zero_linger();
    }
    let stream = match acceptors.of(wire).accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut stream)) => {
            // Closing with unread input would reset the connection, and the alert would be lost.
            let _ = stream.shutdown().await;
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 16 * 1024])).await;
            return;
        }
    };
    let certified = stream.get_ref().1.peer_certificates().is_some();
    match wire {
        Wire::BrokenHttp2 if stream.get_ref().1.alpn_protocol() == Some(b"h2") => say(stream, GOING_AWAY).await,
        Wire::Garbage => say(stream, b"220 mail.test ESMTP\r\n").await,
        _ => serve_http(stream, certified, state).await,
    }
}

/// Takes what comes first, says this, and ends the connection.
async fn say(mut stream: TlsStream<TcpStream>, words: &[u8]) {
    let _ = stream.read(&mut [0; 1024]).await;
    let _ = stream.write_all(words).await;
    let _ = stream.shutdown().await;
}

async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin, certified: bool, state: Arc<State>) {
    let service = service_fn(|request| answer(request, certified, state.clone()));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An error ends the connection.
async fn answer(request: Request<Incoming>, certified: bool, state: Arc<State>) -> io::Result<Response<Scripted>> {
    let (mut recorded, body) = read(request).await;
    recorded.certified = certified;
    state.record(recorded.clone());
    let latency = state.behaviour(|behaviour| behaviour.latency);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let fault = state.fault(&recorded);
    let right = || answers::right(&recorded, &body, &state);
    match fault {
        Some(What::NoRange(status)) if recorded.range.is_some() => Ok(plain::plain(status, "text/plain", Bytes::new())),
        None | Some(What::NoRange(_)) => Ok(right()),
        Some(What::Answer { status, headers, body }) => {
            let mut response = plain::plain(status, "text/plain", body.into());
            apply(&mut response, &headers);
            Ok(response)
        }
        Some(What::Headers(headers)) => {
            let mut response = right();
            apply(&mut response, &headers);
            Ok(response)
        }
        Some(What::Slow(wait)) => {
            tokio::time::sleep(wait).await;
            Ok(right())
        }
        Some(What::Hang) => std::future::pending().await,
        Some(What::Reset | What::Close) => Err(io::Error::other("the script ends here")),
        Some(What::Truncated) => {
            let (parts, body) = whole(right()).await;
            let length = body.len().max(2);
            let half = body.slice(..body.len() / 2);
            Ok(announcing(parts, length as u64, Scripted::ending(half, End::Broken)))
        }
        Some(What::Drip(pause)) => {
            let (parts, body) = whole(right()).await;
            Ok(Response::from_parts(parts, Scripted::dripping(body, pause)))
        }
        Some(What::Announced(length)) => {
            let (parts, body) = whole(right()).await;
            Ok(announcing(parts, length, Scripted::ending(body, End::Silent)))
        }
        Some(What::EndlessPages) => Ok(answers::endless_page(&recorded)),
        Some(What::FatPages) => Ok(answers::fat_page(&recorded)),
        Some(What::EndlessBody) => {
            let (parts, _) = right().into_parts();
            let piece = Bytes::from(vec![b' '; 64 << 10]);
            Ok(Response::from_parts(parts, Scripted::ending(piece, End::Again)))
        }
        Some(What::Echo(_)) if recorded.authorization.is_none() && recorded.body.is_empty() => Ok(right()),
        Some(What::Echo(status)) => Ok(answers::echo(&recorded, status)),
        Some(What::CircularPages) => {
            let mut response = right();
            let link = format!("<{}?{}>; rel=\"next\"", recorded.path, recorded.query);
            apply(&mut response, &[("link".to_owned(), link)]);
            Ok(response)
        }
    }
}

/// A larger body, or one that is no text, is counted and not remembered.
const LONGEST_BODY: usize = 64 << 10;

async fn read(request: Request<Incoming>) -> (Recorded, Bytes) {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let text = Some(&body[..]).filter(|body| body.len() < LONGEST_BODY);
    let recorded = Recorded {
        host: header("host").unwrap_or_default(),
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        authorization: header("authorization"),
        accept: header("accept"),
        range: header("range"),
        content_type: header("content-type"),
        certified: false,
        body: text
            .and_then(|body| std::str::from_utf8(body).ok())
            .unwrap_or_default()
            .to_owned(),
        length: body.len(),
    };
    (recorded, body)
}

async fn whole(response: Response<Scripted>) -> (http::response::Parts, Bytes) {
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    (parts, body)
}

fn announcing(mut parts: http::response::Parts, length: u64, body: Scripted) -> Response<Scripted> {
    parts.headers.insert(http::header::CONTENT_LENGTH, length.into());
    Response::from_parts(parts, body)
}

fn apply(response: &mut Response<Scripted>, headers: &[(String, String)]) {
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in headers {
        let is_repeated = seen.contains(&name.as_str());
        seen.push(name);
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        if value.is_empty() && name != http::header::WWW_AUTHENTICATE {
            response.headers_mut().remove(name);
        } else if let Ok(value) = HeaderValue::from_str(value) {
            if is_repeated {
                response.headers_mut().append(name, value);
                continue;
            }
            response.headers_mut().insert(name, value);
        }
    }
}
