//! The server over real TLS on loopback, with clients that behave and clients that don't.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_core::side::Side;
use catamaran_listener::Closed;
use catamaran_webhook::metrics::{Metrics, Outcome, Refusal};
use catamaran_webhook::server::{Limits, Tls, connection_limits, serve_within};
use catamaran_webhook::{Admission, View};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::Value;
use support::CREATE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn with_connections(connections: catamaran_listener::Limits) -> Limits {
    Limits {
        connections,
        ..Limits::default()
    }
}

/// A server with a fresh view in which the fallback is active, and what a client needs to reach it.
struct Server {
    address: SocketAddr,
    connector: TlsConnector,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Server {
        let issued = rcgen::generate_simple_self_signed(["webhook".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = CertifiedKey::from_der(vec![issued.cert.der().clone()], key, &provider).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();

        let view = Arc::new(View::new(Instant::now()));
        view.publish(support::table(Side::Fallback).into());
        view.touch(Instant::now());
        let metrics = Arc::new(Metrics::default());
        let admission = Arc::new(Admission::new(
            Arc::clone(&view),
            support::OWN_USER.to_owned(),
            Arc::clone(&metrics),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let tls = Tls {
            certificates: Arc::new(Always(Arc::new(key))),
            clients: None,
        };
        let task = tokio::spawn(serve_within(limits, listener, tls, admission, shutdown.clone()));
        Server {
            address,
            connector: TlsConnector::from(Arc::new(client)),
            view,
            metrics,
            shutdown,
            task,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.connector
            .connect(ServerName::try_from("webhook").unwrap(), stream)
            .await
            .unwrap()
    }

    async fn ask(&self, request: &[u8]) -> Response {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        Response::read(&mut stream).await.unwrap()
    }

    /// Waits until no connection is open any more.
    async fn quiet(&self) {
        let closed = async {
            while self.metrics.listener().open() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed)
            .await
            .expect("connections stay open");
    }
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    /// Reads one response; `None` when the connection ends instead.
    async fn read(stream: &mut TlsStream<TcpStream>) -> Option<Response> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or("0", |rest| rest.split("\r\n").next().unwrap());
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.ok()?;
        Some(Response {
            status: head[9..12].parse().unwrap(),
            head,
            body,
        })
    }

    fn is_review(&self) -> bool {
        let Ok(answer) = serde_json::from_slice::<Value>(&self.body) else {
            return false;
        };
        self.status == 200
            && self.head.contains("content-type: application/json\r\n")
            && answer["response"]["uid"] == "0df28fbd-5f5f-11e8-bc74-36e6bb280816"
            && answer["response"]["patchType"] == "JSONPatch"
    }

    fn closes(&self) -> bool {
        self.head.contains("connection: close\r\n")
    }
}

fn request(head: &str, body: &str) -> Vec<u8> {
    format!(
        "{head}\r\nhost: webhook\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn review() -> Vec<u8> {
    request("POST /mutate?timeout=2s HTTP/1.1", CREATE)
}

/// A review of exactly this size.
fn padded(size: usize) -> String {
    format!("{CREATE}{}", " ".repeat(size - CREATE.len()))
}

#[tokio::test]
async fn one_connection_answers_review_after_review() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(&review()).await.unwrap();
        let response = Response::read(&mut stream).await.unwrap();
        assert!(response.is_review() && !response.closes(), "{response:?}");
    }
    assert_eq!(server.metrics.reviews(Outcome::Patched), 3);
    assert_eq!(server.metrics.durations().snapshot().buckets.iter().sum::<u64>(), 3);
    assert_eq!(
        (server.metrics.listener().accepted(), server.metrics.listener().open()),
        (1, 1)
    );
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(&request("POST /mutate HTTP/1.0", CREATE))
        .await
        .unwrap();
    assert!(Response::read(&mut stream).await.unwrap().is_review());
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the connection ends");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect().await;
    let mut requests = review();
    requests.extend(request("POST /mutate HTTP/1.1", "{}"));
    requests.extend(review());
    stream.write_all(&requests).await.unwrap();
    assert!(Response::read(&mut stream).await.unwrap().is_review());
    let second = Response::read(&mut stream).await.unwrap();
    assert!(second.status == 200 && !second.is_review());
    assert!(Response::read(&mut stream).await.unwrap().is_review());
    assert_eq!(server.metrics.reviews(Outcome::Unreadable), 1);
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_closed() {
    let server = Server::start(Limits::default()).await;
    let long = format!("POST /mutate HTTP/1.1\r\nx: {}", "y".repeat(17 << 10));
    let refused = |refusal| server.metrics.refusals(refusal);
    for (head, status, refusal) in [
        ("POST / HTTP/1.1", 404, Some(Refusal::NotFound)),
        ("POST /mutate/ HTTP/1.1", 404, Some(Refusal::NotFound)),
        ("GET /mutate HTTP/1.1", 405, Some(Refusal::MethodNotAllowed)),
        (
            "POST /mutate HTTP/1.1\r\ncontent-encoding: gzip",
            415,
            Some(Refusal::EncodedBody),
        ),
        (
            "POST /mutate HTTP/1.1\r\ncontent-encoding: identity\r\ncontent-encoding: br",
            415,
            Some(Refusal::EncodedBody),
        ),
        (&long, 431, None),
        ("nonsense", 400, None),
    ] {
        let counted = || refusal.map_or_else(|| server.metrics.listener().closed(Closed::Broken), refused);
        let before = counted();
        let response = server.ask(&request(head, "x")).await;
        assert_eq!(response.status, status, "{response:?}");
        assert!(response.closes(), "{response:?}");
        server.quiet().await;
        assert_eq!(counted() - before, 1, "{head}");
    }
    assert!(
        server
            .ask(&request("POST /mutate HTTP/1.1\r\ncontent-encoding: identity", CREATE))
            .await
            .is_review()
    );
}

#[tokio::test]
async fn seven_mebibytes_are_read_and_one_byte_more_is_not() {
    let server = Server::start(Limits::default()).await;
    let limit = Limits::default().body;
    let chunked = |body: &str| {
        format!(
            "POST /mutate HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
        .into_bytes()
    };
    assert!(
        server
            .ask(&request("POST /mutate HTTP/1.1", &padded(limit)))
            .await
            .is_review()
    );
    assert!(server.ask(&chunked(&padded(limit))).await.is_review());
    for request in [
        request("POST /mutate HTTP/1.1", &padded(limit + 1)),
        chunked(&padded(limit + 1)),
    ] {
        let response = server.ask(&request).await;
        assert_eq!((response.status, response.closes()), (413, true));
    }
    // One who asks first is answered before a byte of it is sent.
    let asks = format!(
        "POST /mutate HTTP/1.1\r\nhost: w\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        limit + 1
    );
    assert_eq!(server.ask(asks.as_bytes()).await.status, 413);
    let endless = "POST /mutate HTTP/1.1\r\nhost: w\r\nexpect: 100-continue\r\ncontent-length: 1099511627776\r\n\r\n";
    assert_eq!(server.ask(endless.as_bytes()).await.status, 413);
    assert_eq!(server.metrics.refusals(Refusal::BodyTooLarge), 4);
}

#[tokio::test]
async fn a_body_may_come_in_pieces_but_not_for_ever() {
    let limits = Limits {
        body_read: Duration::from_millis(600),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let head = b"POST /mutate HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(head).await.unwrap();
    for piece in CREATE.as_bytes().chunks(1000) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        stream
            .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
            .await
            .unwrap();
        stream.write_all(piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.write_all(b"0\r\ntrailer: x\r\n\r\n").await.unwrap();
    assert!(Response::read(&mut stream).await.unwrap().is_review());
    drop(stream);

    let response = server.ask(&[&head[..], b"1\r\n{\r\n"].concat()).await;
    assert_eq!((response.status, response.closes()), (408, true));
    let mut stream = server.connect().await;
    stream.write_all(&review()[..2000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let broken = Response::read(&mut stream).await;
    assert!(broken.is_none_or(|response| response.status == 400));
    server.quiet().await;
    assert_eq!(server.metrics.refusals(Refusal::BodyTimeout), 1);
}

#[tokio::test]
async fn large_review_without_room_is_admitted_unchanged() {
    let limits = Limits {
        bodies: 7 << 20,
        body_read: Duration::from_secs(20),
        patience: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut hog = server.connect().await;
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: w\r\ncontent-length: {}\r\n\r\n{{",
        7 << 20
    );
    hog.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(server.ask(&review()).await.is_review(), "a small one goes by");
    let large = server.ask(&request("POST /mutate HTTP/1.1", &padded(100_000))).await;
    let answer: Value = serde_json::from_slice(&large.body).unwrap();
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["uid"], "0df28fbd-5f5f-11e8-bc74-36e6bb280816");
    assert_eq!(answer["response"]["patch"], Value::Null);
    assert!(answer["response"]["warnings"][0].as_str().unwrap().contains("no time"));
    assert_eq!(server.metrics.reviews(Outcome::Overloaded), 1);
    drop(hog);
    server.quiet().await;
    let large = server.ask(&request("POST /mutate HTTP/1.1", &padded(100_000))).await;
    assert!(large.is_review(), "room is given back");
}

#[tokio::test]
async fn large_review_without_a_turn_is_admitted_unchanged() {
    let limits = Limits {
        reviews: 0,
        patience: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let large = server.ask(&request("POST /mutate HTTP/1.1", &padded(100_000))).await;
    assert!(!large.is_review() && large.status == 200, "{large:?}");
    assert_eq!(server.metrics.reviews(Outcome::Overloaded), 1);
    assert!(server.ask(&review()).await.is_review(), "a small one needs none");
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_let_go() {
    let limits = with_connections(catamaran_listener::Limits {
        handshake: Duration::from_millis(300),
        head: Duration::from_secs(1),
        idle: Duration::from_secs(2),
        ..connection_limits()
    });
    let server = Server::start(limits).await;
    let mut half_open = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(half_open.read(&mut [0]).await.unwrap(), 0, "no handshake");
    assert_eq!(server.metrics.listener().closed(Closed::Timeout), 1);
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"POST /mutate HTTP/1.1\r\n\r\n").await.unwrap();
    plain.read_to_end(&mut Vec::new()).await.unwrap();
    server.quiet().await;
    assert_eq!(server.metrics.listener().closed(Closed::HandshakeFailed), 1);

    for begun in [&b""[..], b"POST /mutate HTTP/1.1\r\nhost: "] {
        let mut stream = server.connect().await;
        stream.write_all(begun).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(8), stream.read(&mut [0])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
    // A head that trickles in is no progress.
    let mut slow = server.connect().await;
    let begun = Instant::now();
    for byte in std::iter::repeat_n(b"POST /mutate HTTP/1.1\r\nx: y", 20).flatten() {
        if slow.write_all(&[*byte]).await.is_err() || server.metrics.listener().open() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.quiet().await;
    assert_eq!(server.metrics.listener().closed(Closed::Timeout), 4);
}

#[tokio::test]
async fn a_peer_that_does_not_take_its_answers_is_let_go() {
    let server = Server::start(with_connections(catamaran_listener::Limits {
        write: Duration::from_secs(1),
        ..connection_limits()
    }))
    .await;
    let mut stream = server.connect().await;
    let mut requests = Vec::new();
    for _ in 0..200 {
        requests.extend(review());
    }
    // Never reads: once the buffers are full the server can't write on, and one day it must not wait any longer.
    let flood = async { while stream.write_all(&requests).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), flood)
        .await
        .expect("the connection is ended");
    server.quiet().await;
    assert_eq!(server.metrics.listener().closed(Closed::Timeout), 1);
}

#[tokio::test]
async fn connection_too_many_takes_the_place_of_the_longest_idle() {
    let server = Server::start(with_connections(catamaran_listener::Limits {
        connections: 2,
        per_address: 2,
        ..connection_limits()
    }))
    .await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    tokio::time::sleep(Duration::from_millis(20)).await;
    second.write_all(&review()).await.unwrap();
    assert!(Response::read(&mut second).await.unwrap().is_review());
    assert!(server.ask(&review()).await.is_review(), "it does not wait");
    assert_eq!(
        first.read(&mut [0]).await.unwrap_or_default(),
        0,
        "the first has made room"
    );
    second.write_all(&review()).await.unwrap();
    assert!(Response::read(&mut second).await.unwrap().is_review());
}

#[tokio::test]
async fn shutdown_goes_on_serving_then_drains_and_returns() {
    let limits = Limits {
        linger: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let (mut known, mut idle, mut busy) = (server.connect().await, server.connect().await, server.connect().await);
    known.write_all(&review()).await.unwrap();
    assert!(!Response::read(&mut known).await.unwrap().closes());
    server.shutdown.cancel();
    known.write_all(&review()).await.unwrap();
    let response = Response::read(&mut known).await.unwrap();
    assert!(
        response.is_review() && response.closes(),
        "still served, and told to go"
    );
    let response = server.ask(&review()).await;
    assert!(response.is_review() && response.closes(), "new connections too");

    let request = review();
    busy.write_all(&request[..3000]).await.unwrap();
    assert_eq!(
        idle.read(&mut [0]).await.unwrap(),
        0,
        "idle ones are closed when the linger is over"
    );
    assert!(!server.task.is_finished(), "one request is under way");
    busy.write_all(&request[3000..]).await.unwrap();
    assert!(Response::read(&mut busy).await.unwrap().is_review());
    server.task.await.unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "nobody listens any more"
    );
    assert_eq!(server.metrics.listener().open(), 0);
}

#[tokio::test]
async fn what_does_not_drain_is_aborted() {
    let limits = Limits {
        linger: Duration::ZERO,
        drain: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut stuck = server.connect().await;
    stuck.write_all(&review()[..3000]).await.unwrap();
    let handshaking = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(3), server.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.metrics.listener().open(), 0);
    drop(handshaking);
}

#[tokio::test]
async fn a_view_that_is_published_counts_for_the_next_review() {
    let server = Server::start(Limits::default()).await;
    server.view.publish(catamaran_core::routing::RouteTable::empty().into());
    assert_eq!(server.ask(&review()).await.status, 200);
    assert_eq!(server.metrics.reviews(Outcome::Unchanged), 1);
}

/// Descriptors and resident memory, in bytes, of this process.
#[cfg(target_os = "linux")]
fn footprint() -> (usize, u64) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    (descriptors, kibibytes * 1024)
}

/// In a process of its own: other tests open descriptors too.
#[cfg(target_os = "linux")]
#[test]
fn thousands_of_connections_leave_nothing_behind() {
    if std::env::var_os("CATAMARAN_ALONE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "thousands_of_connections_leave_nothing_behind"])
            .env("CATAMARAN_ALONE", "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        // All of them are from one address.
        let rate = catamaran_listener::Rate {
            burst: 10_000,
            per_second: 10_000,
        };
        let connections = catamaran_listener::Limits {
            rate,
            ..connection_limits()
        };
        let server = Server::start(with_connections(connections)).await;
        let round = async |connections: usize| {
            for number in 0..connections {
                match number % 4 {
                    // Well-behaved, gone in the middle of a request, gone in the middle of the handshake, silent.
                    0 => assert!(server.ask(&review()).await.is_review()),
                    1 => server.connect().await.write_all(&review()[..2000]).await.unwrap(),
                    2 => TcpStream::connect(server.address)
                        .await
                        .unwrap()
                        .write_all(b"\x16\x03\x01")
                        .await
                        .unwrap(),
                    _ => drop(server.connect().await),
                }
            }
            server.quiet().await;
        };
        round(400).await;
        let before = footprint();
        round(3000).await;
        let after = footprint();
        assert_eq!(after.0, before.0, "descriptors");
        assert!(
            after.1 < before.1 + (2 << 20),
            "memory grew from {} to {} bytes",
            before.1,
            after.1
        );
    });
}
