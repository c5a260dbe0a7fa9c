//! A client that costs little: prepared bytes out, answers counted in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How requests are made.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    /// Requests a second over all connections; without it each follows upon the answer to the one before.
    pub rate: Option<u32>,
}

impl Load {
    pub fn closed(connections: usize) -> Self {
        Load {
            connections,
            rate: None,
        }
    }

    pub fn paced(connections: usize, rate: u32) -> Self {
        Load {
            connections,
            rate: Some(rate),
        }
    }
}

/// What one turn showed.
#[derive(Clone, Debug)]
pub struct Measured {
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Processor time of the server for each review.
    pub cpu: Duration,
}

impl Measured {
    /// The median of each figure.
    pub fn median(turns: &[&Measured]) -> Measured {
        let duration = |figure: fn(&Measured) -> Duration| {
            Duration::from_secs_f64(median(turns.iter().map(|turn| figure(turn).as_secs_f64())))
        };
        Measured {
            rate: median(turns.iter().map(|turn| turn.rate)),
            p50: duration(|turn| turn.p50),
            p99: duration(|turn| turn.p99),
            cpu: duration(|turn| turn.cpu),
        }
    }
}

/// The one in the middle.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Makes requests for `duration`; the times that they took, sorted.
pub async fn run(
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    body: &str,
    load: Load,
    duration: Duration,
) -> Vec<Duration> {
    let request: Arc<[u8]> = format!(
        "POST /mutate?timeout=2s HTTP/1.1\r\nhost: catamaran.catamaran.svc:443\r\nuser-agent: kube-apiserver-admission\r\n\
         accept: application/json, */*\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into();
    let connector = connector(certificate);
    let mut tasks = tokio::task::JoinSet::new();
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(address, &connector).await);
    }
    let begin = Instant::now();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let request = Arc::clone(&request);
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(1 << 16);
            let gap = load
                .rate
                .map(|rate| Duration::from_secs(1) * u32::try_from(load.connections).unwrap() / rate);
            let mut due =
                gap.map(|gap| begin + gap * u32::try_from(number).unwrap() / u32::try_from(load.connections).unwrap());
            while begin.elapsed() < duration {
                if let (Some(due), Some(gap)) = (&mut due, gap) {
                    tokio::time::sleep_until((*due).into()).await;
                    *due += gap;
                }
                let sent = Instant::now();
                connection.ask(&request).await;
                times.push(sent.elapsed());
            }
            times
        });
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    times
}

fn connector(certificate: CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr, connector: &TlsConnector) -> Connection {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = connector
            .connect(ServerName::try_from("webhook").unwrap(), stream)
            .await
            .unwrap();
        Connection {
            stream,
            buffer: Vec::with_capacity(64 << 10),
        }
    }

    async fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.unwrap();
        self.stream.flush().await.unwrap();
        self.buffer.clear();
        loop {
            assert!(
                self.stream.read_buf(&mut self.buffer).await.unwrap() > 0,
                "the server closed the connection"
            );
            if expected(&self.buffer).is_some_and(|length| self.buffer.len() >= length) {
                assert!(
                    self.buffer.starts_with(b"HTTP/1.1 200 "),
                    "{}",
                    String::from_utf8_lossy(&self.buffer)
                );
                return;
            }
        }
    }
}

/// The length of a whole response, once its head is there.
fn expected(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text.split("content-length: ").nth(1)?.split("\r\n").next()?;
    Some(head + length.parse::<usize>().ok()?)
}
