//! A server on loopback that hands requests to one emulator.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::clock::Clock;
use crate::log::Log;
use crate::message::{Answer, Request};

/// The largest body that is read.
const LARGEST_BODY: usize = 256 << 20;

/// An answer on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// An emulator: turns requests into answers.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. [`Answer::kind`] says what it was counted as.
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a>;
}

/// What a server shows to its clients.
#[derive(Clone, Debug)]
pub enum Tls {
    /// A certificate for any name, by this authority.
    By(Arc<Authority>),
    /// None: plain HTTP, as metadata services have it.
    Off,
}

/// What happens below HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Requests are answered.
    #[default]
    Normal,
    /// Connections are reset, those that are open too.
    Reset,
    /// Connections are accepted, and nothing more is heard; those that are open are reset.
    Silent,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen. At first a free port of 127.0.0.1.
    pub address: SocketAddr,
    /// TLS. `None`: an authority is made for this server.
    pub tls: Option<Tls>,
    /// The time before each answer. At first none.
    pub latency: Duration,
    /// The emulators' time.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            latency: Duration::ZERO,
            clock: Clock::new(),
        }
    }
}

struct Shared {
    service: Arc<dyn Service>,
    log: Log,
    latency: Mutex<Duration>,
    wire: watch::Sender<Wire>,
}

/// A running server; it ends, with every connection, when it is dropped.
pub struct Server {
    address: SocketAddr,
    authority: Option<Arc<Authority>>,
    clock: Clock,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts to listen.
    pub async fn start(service: Arc<dyn Service>, options: Options) -> io::Result<Server> {
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let authority = match options.tls {
            None => Some(Arc::new(Authority::new()?)),
            Some(Tls::By(authority)) => Some(authority),
            Some(Tls::Off) => None,
        };
        let shared = Arc::new(Shared {
            service,
            log: Log::default(),
            latency: Mutex::new(options.latency),
            wire: watch::Sender::new(Wire::Normal),
        });
        let acceptor = authority.clone().map(acceptor);
        let task = tokio::spawn(serve(listener, shared.clone(), acceptor));
        Ok(Server {
            address,
            authority,
            clock: options.clock,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients must trust, as PEM; nothing for plain HTTP.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_deref().map(Authority::pem)
    }

    /// What was asked so far.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// The emulators' time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time before each answer, from now on.
    pub fn set_latency(&self, latency: Duration) {
        *self.shared.latency.lock().unwrap_or_else(PoisonError::into_inner) = latency;
    }

    /// What happens below HTTP, from now on.
    pub fn set_wire(&self, wire: Wire) {
        self.shared.wire.send_replace(wire);
    }

    /// Ends when the server does: for a program that only serves.
    pub async fn join(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn acceptor(authority: Arc<Authority>) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider supports both versions")
        .with_no_client_auth()
        .with_cert_resolver(authority);
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else { continue };
                shared.log.connected();
                connections.spawn(connection(stream, peer, shared.clone(), acceptor.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let mut wire = shared.wire.subscribe();
    let now = *wire.borrow_and_update();
    match now {
        Wire::Normal => {}
        Wire::Reset => {
            let _ = stream.set_zero_linger();
            return;
        }
        Wire::Silent => std::future::pending().await,
    }
    let served = async {
        match acceptor {
            None => http(stream, peer, &shared).await,
            Some(acceptor) => {
                if let Ok(stream) = acceptor.accept(stream).await {
                    http(stream, peer, &shared).await;
                }
            }
        }
    };
    tokio::select! {
        () = served => {}
        _ = wire.wait_for(|wire| *wire != Wire::Normal) => {}
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: SocketAddr, shared: &Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, peer, &shared).await) }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: hyper::Request<Incoming>, peer: SocketAddr, shared: &Shared) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_BODY).collect().await;
    let request = Request {
        host: host(&parts).to_ascii_lowercase(),
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
        peer,
    };
    let latency = *shared.latency.lock().unwrap_or_else(PoisonError::into_inner);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let answer = shared.service.answer(&request).await;
    shared.log.record(&request, &answer);
    response(answer, &request.method)
}

fn host(parts: &http::request::Parts) -> &str {
    let header = parts.headers.get(http::header::HOST);
    header.and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn response(answer: Answer, method: &Method) -> Response<Full<Bytes>> {
    let length = answer.body.len();
    let body = if *method == Method::HEAD {
        Bytes::new()
    } else {
        answer.body
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = answer.headers;
    if *method == Method::HEAD {
        response
            .headers_mut()
            .entry(http::header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    response
}
