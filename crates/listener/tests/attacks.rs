//! What one address can do to a port, over real sockets: each attack by 127.0.0.2, while 127.0.0.3 asks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catamaran_listener::{Closed, Counts, KeepAlive, Limits, PeerAddress, Rate, Settings, Shutdown, bind, serve};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

const ATTACKER: u8 = 2;
const OTHER: u8 = 3;
const PLACES: usize = 8;
/// More than the buffers between the two take.
const LARGE: usize = 4 << 20;

const GET: &[u8] = b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n";
const GET_LARGE: &[u8] = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";

fn limits() -> Limits {
    Limits {
        connections: PLACES,
        per_address: PLACES,
        rate: Rate {
            burst: 10_000,
            per_second: 10_000,
        },
        handshake: Duration::from_mins(1),
        head: Duration::from_mins(1),
        request: Duration::from_mins(1),
        write: Duration::from_mins(1),
        idle: Duration::from_mins(1),
        keep_alive: KeepAlive::For(Duration::from_mins(1)),
        head_size: 16 << 10,
        kernel_buffers: 64 << 10,
    }
}

/// A server that answers with a little, or with a lot, and reads what is posted.
struct Server {
    address: SocketAddr,
    counts: Arc<Counts>,
    begin: CancellationToken,
    connector: TlsConnector,
    task: JoinHandle<()>,
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let size = if request.uri().path() == "/large" { LARGE } else { 5 };
    let PeerAddress(peer) = *request.extensions().get().unwrap();
    assert!(matches!(peer, IpAddr::V4(_)));
    let read = request.into_body().collect().await.is_ok();
    Response::new(Full::new(Bytes::from(vec![if read { b'.' } else { b'!' }; size])))
}

fn tls() -> (TlsAcceptor, TlsConnector) {
    let issued = rcgen::generate_simple_self_signed(["listener".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

impl Server {
    fn start(limits: Limits, encrypted: bool) -> Server {
        let (acceptor, connector) = tls();
        let listener = bind(([127, 0, 0, 1], 0).into(), limits.kernel_buffers).unwrap();
        let address = listener.local_addr().unwrap();
        let (counts, begin) = (Arc::<Counts>::default(), CancellationToken::new());
        let settings = Settings {
            limits,
            tls: encrypted.then_some(acceptor),
            counts: Arc::clone(&counts),
            shutdown: Shutdown {
                begin: begin.clone(),
                linger: Duration::from_millis(300),
                drain: Duration::from_millis(500),
            },
        };
        let task = tokio::spawn(serve(listener, settings, answer));
        Server {
            address,
            counts,
            begin,
            connector,
            task,
        }
    }

    /// A connection from 127.0.0.`from`.
    async fn connect(&self, from: u8) -> TcpStream {
        self.try_connect(from).await.unwrap()
    }

    /// The same, where the server may reset it before it is known to be there.
    async fn try_connect(&self, from: u8) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
        socket.connect(self.address).await
    }

    /// Connections of the attacker that have each sent this much, and a few more than there are places.
    async fn flood(&self, sent: &[u8]) -> Vec<TcpStream> {
        let mut all = Vec::new();
        for _ in 0..PLACES + 4 {
            // One that has lost its place already can't be written to.
            if let Ok(mut stream) = self.try_connect(ATTACKER).await {
                let _ = stream.write_all(sent).await;
                all.push(stream);
            }
        }
        all
    }

    /// Whether somebody else gets an answer.
    async fn serves_others(&self) {
        for _ in 0..3 {
            let stream = self.connect(OTHER).await;
            assert!(ask(stream, GET).await.ends_with("....."));
        }
    }

    /// Waits until this many connections were closed for this reason.
    async fn closed(&self, reason: Closed, wanted: u64) {
        let closed = async {
            while self.counts.closed(reason) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), closed)
            .await
            .unwrap_or_else(|_| panic!("{} closed as {reason:?}", self.counts.closed(reason)));
    }
}

/// Asks, and reads until the body of five bytes has come.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    let asked = async {
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b".....") {
            let byte = stream.read_u8().await;
            answer.push(byte.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&answer))));
        }
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(Duration::from_secs(20), asked)
        .await
        .expect("no answer")
}

#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let server = Server::start(limits(), false);
    let _flood = server.flood(b"").await;
    server.serves_others().await;
    assert!(server.counts.closed(Closed::Evicted) >= 4);
}

#[tokio::test]
async fn half_sent_heads_and_bodies_keep_nobody_out() {
    for sent in [
        &b"GET / HTTP/1.1\r\nhost: "[..],
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nx",
    ] {
        let server = Server::start(limits(), false);
        let mut flood = Vec::new();
        for _ in 0..PLACES {
            let mut stream = server.connect(ATTACKER).await;
            stream.write_all(sent).await.unwrap();
            flood.push(stream);
        }
        // A body that is younger than a second may be about to come.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        server.serves_others().await;
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_keep_nobody_out() {
    let server = Server::start(limits(), false);
    let _flood = server.flood(&GET_LARGE.repeat(100)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.serves_others().await;
}

#[tokio::test]
async fn half_done_handshakes_keep_nobody_out() {
    let server = Server::start(limits(), true);
    let _flood = server.flood(b"\x16\x03\x01").await;
    for _ in 0..3 {
        let stream = server.connect(OTHER).await;
        let name = ServerName::try_from("listener").unwrap();
        let stream = server.connector.connect(name, stream).await.unwrap();
        assert!(ask(stream, GET).await.ends_with("....."));
    }
}

#[tokio::test]
async fn address_keeps_its_connection_through_a_flood_of_another() {
    let server = Server::start(limits(), false);
    let mut kept = server.connect(OTHER).await;
    ask(&mut kept, GET).await;
    for _ in 0..10 {
        drop(server.flood(GET).await);
    }
    assert!(ask(&mut kept, GET).await.ends_with("....."));
}

#[tokio::test]
async fn slow_client_is_closed_in_time() {
    let second = Duration::from_secs(1);
    let limits = Limits {
        handshake: second,
        head: second,
        request: second,
        write: second,
        idle: second,
        ..limits()
    };
    let server = Server::start(limits.clone(), false);
    let mut all = Vec::new();
    for sent in [
        &b""[..],
        b"GET / HTTP/1.1\r\nhost: ",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nx",
        &GET_LARGE.repeat(20),
    ] {
        let mut stream = server.connect(ATTACKER).await;
        stream.write_all(sent).await.unwrap();
        all.push(stream);
    }
    server.closed(Closed::Timeout, 4).await;
    let encrypted = Server::start(limits, true);
    let _half = encrypted.connect(ATTACKER).await;
    encrypted.closed(Closed::Timeout, 1).await;
}

#[tokio::test]
async fn bytes_that_trickle_in_are_no_progress() {
    let server = Server::start(
        Limits {
            head: Duration::from_secs(1),
            ..limits()
        },
        false,
    );
    let mut stream = server.connect(ATTACKER).await;
    let begun = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on for ever");
    }
    assert_eq!(server.counts.closed(Closed::Timeout), 1);
}

#[tokio::test]
async fn requests_without_end_end_with_the_age_of_the_connection() {
    let server = Server::start(
        Limits {
            keep_alive: KeepAlive::For(Duration::from_millis(500)),
            ..limits()
        },
        false,
    );
    let stream = server.connect(ATTACKER).await;
    let (mut reads, mut writes) = stream.into_split();
    let asks = tokio::spawn(async move { while writes.write_all(GET).await.is_ok() {} });
    let mut answers = Vec::new();
    // A reset ends it as well: requests that were sent ahead are not answered.
    let ended = tokio::time::timeout(Duration::from_secs(20), reads.read_to_end(&mut answers)).await;
    assert!(ended.is_ok(), "it goes on for ever");
    asks.abort();
    assert!(answers.windows(5).filter(|window| window == b".....").count() > 1);

    let once = Server::start(
        Limits {
            keep_alive: KeepAlive::Off,
            ..limits()
        },
        false,
    );
    let mut stream = once.connect(ATTACKER).await;
    stream.write_all(&GET.repeat(2)).await.unwrap();
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers).await;
    assert_eq!(answers.windows(5).filter(|window| window == b".....").count(), 1);
}

#[tokio::test]
async fn address_that_connects_too_often_is_reset() {
    let rate = Rate {
        burst: 4,
        per_second: 1,
    };
    let server = Server::start(Limits { rate, ..limits() }, false);
    for _ in 0..20 {
        if let Ok(mut stream) = server.try_connect(ATTACKER).await {
            let _ = stream.write_all(GET).await;
        }
    }
    server.closed(Closed::TooMany, 10).await;
    server.serves_others().await;
}

#[tokio::test]
async fn shutdown_serves_on_then_drains_then_aborts() {
    let server = Server::start(limits(), false);
    let (mut known, mut idle, mut stuck) = (
        server.connect(OTHER).await,
        server.connect(OTHER).await,
        server.connect(OTHER).await,
    );
    ask(&mut known, GET).await;
    stuck
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nx")
        .await
        .unwrap();
    server.begin.cancel();
    assert!(ask(&mut known, GET).await.to_lowercase().contains("connection: close"));
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "closed when the linger is over");
    tokio::time::timeout(Duration::from_secs(10), server.task)
        .await
        .expect("what does not drain is aborted")
        .unwrap();
    assert_eq!(server.counts.open(), 0);
}
