//! Ways to hold a port. Each connection that ends is followed by another one, so that as many are always there, or on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Done, tls};

/// Connections to each port that do nothing.
const IDLE: usize = 500;
/// Connections of each other kind to each port.
const MANY: usize = 50;
/// Between a connection's end and the next: the attacker shares the machine with what it attacks.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two bytes.
const SLOWLY: Duration = Duration::from_millis(500);
/// Nobody waits longer for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ways to hold a connection.
#[derive(Debug, Clone)]
enum Way {
    /// Sends this, which may be nothing, and then does nothing.
    Silent(Arc<[u8]>),
    /// Sends this, and then a byte from time to time.
    Slow(Arc<[u8]>),
    /// Sends this again and again, and reads nothing.
    Deaf(Arc<[u8]>),
    /// Sends this again and again, and reads a byte from time to time.
    Sipping(Arc<[u8]>),
}

/// Holds a port in every way.
pub fn port(address: &str, encrypted: bool, done: &mut Done) -> anyhow::Result<()> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(50);
    let post = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-length: 7000000\r\n\r\n{";
    let path = if address.ends_with(":8082") {
        "/readyz"
    } else {
        "/metrics"
    };
    let connector = encrypted.then(tls::connector).transpose()?;
    let plain = [
        ("idle connections", IDLE, Way::Silent(Arc::default())),
        ("half-done handshakes", MANY, Way::Silent(tls::hello()?.into())),
    ];
    for (what, count, way) in plain {
        // A port without TLS takes the first message of a handshake for a bad request.
        hold(address, None, count, &way, &done.of(what));
    }
    let ways = [
        ("slow heads", Way::Slow(b"GET / HTTP/1.1\r\nx: "[..].into())),
        ("slow bodies", Way::Slow(post.as_bytes().into())),
        ("answers never read", Way::Deaf(get(path).into_bytes().into())),
        ("answers read slowly", Way::Sipping(get(path).into_bytes().into())),
    ];
    for (what, way) in ways {
        hold(address, connector.as_ref(), MANY, &way, &done.of(what));
    }
    Ok(())
}

fn hold(address: &str, connector: Option<&TlsConnector>, count: usize, way: &Way, done: &Arc<AtomicU64>) {
    for number in 0..count {
        let (address, way, done) = (address.to_owned(), way.clone(), Arc::clone(done));
        let connector = connector.cloned();
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE * u32::try_from(number % 16).unwrap_or_default() / 16).await;
            loop {
                let held = one(&address, connector.as_ref(), &way, &done);
                // Whatever ends it, another one follows.
                let _ = held.await;
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

async fn one(address: &str, connector: Option<&TlsConnector>, way: &Way, done: &AtomicU64) -> std::io::Result<()> {
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
    let count = || done.fetch_add(1, Ordering::Relaxed);
    let Some(connector) = connector else {
        count();
        return follow(stream, way).await;
    };
    let stream = tokio::time::timeout(PATIENCE, connector.connect(tls::name(), stream)).await??;
    count();
    follow(stream, way).await
}

async fn follow(mut stream: impl AsyncRead + AsyncWrite + Unpin, way: &Way) -> std::io::Result<()> {
    match way {
        Way::Silent(bytes) => {
            stream.write_all(bytes).await?;
            stream.flush().await?;
            // Until the other side has had enough.
            while stream.read(&mut [0; 512]).await? > 0 {}
        }
        Way::Slow(bytes) => {
            stream.write_all(bytes).await?;
            loop {
                stream.write_all(b"x").await?;
                stream.flush().await?;
                tokio::time::sleep(SLOWLY).await;
            }
        }
        Way::Deaf(bytes) => loop {
            stream.write_all(bytes).await?;
        },
        Way::Sipping(bytes) => {
            let (mut reads, mut writes) = tokio::io::split(stream);
            let sends = async { while writes.write_all(bytes).await.is_ok() {} };
            let sips = async {
                while matches!(reads.read(&mut [0]).await, Ok(1)) {
                    tokio::time::sleep(SLOWLY).await;
                }
            };
            tokio::select! { () = sends => {}, () = sips => {} }
        }
    }
    Ok(())
}
