//! Both ports over real sockets: 127.0.0.2 floods, 127.0.0.1 is the kubelet.

use std::net::Ipv4Addr;

use hyper::Request;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::health::Health;
use super::metrics::Exposition;
use super::*;

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn connect(from: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into())?;
    socket.connect(to).await
}

async fn ask(to: SocketAddr, path: &str) -> String {
    let asked = async {
        let mut stream = connect(1, to).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    tokio::time::timeout(Duration::from_secs(20), asked)
        .await
        .expect("no answer")
}

fn health() -> Health {
    Health {
        ready: Box::new(|| Err("no mirrors yet".to_owned())),
        live: Box::new(|| Ok(())),
    }
}

fn large_registry() -> Registry {
    let mut registry = Registry::default();
    for number in 0..20_000 {
        registry.register(
            format!("a_counter_with_a_long_name_{number}"),
            "Help",
            Counter::<u64>::default(),
        );
    }
    registry
}

#[tokio::test]
async fn kubelet_is_answered_while_others_hold_every_port() {
    let (live, measured) = (
        Port::bind(LOCAL.into(), health::limits()).unwrap(),
        Port::bind(LOCAL.into(), metrics::limits()).unwrap(),
    );
    let ports = [&live, &measured].map(|port| port.listener.local_addr().unwrap());
    let end = CancellationToken::new();
    tokio::spawn(health::serve(live, health(), end.clone()));
    tokio::spawn(metrics::serve(measured, large_registry(), end.clone()));
    let mut held = Vec::new();
    for (to, sent) in [(ports[0], ""), (ports[1], "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")] {
        for _ in 0..150 {
            if let Ok(mut stream) = connect(2, to).await {
                // Never read, and sent ahead more often than the buffers take.
                let _ = stream.write_all(sent.repeat(100).as_bytes()).await;
                held.push(stream);
            }
        }
    }
    assert!(ask(ports[0], "/livez").await.ends_with("\r\n\r\nok\n"));
    let ready = ask(ports[0], "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.ends_with("no mirrors yet\n"),
        "{ready}"
    );
    assert!(ask(ports[1], "/metrics").await.ends_with("# EOF\n"));
    assert!(
        ask(ports[0], "/metrics").await.starts_with("HTTP/1.1 404"),
        "each port has its own"
    );
    assert!(ask(ports[1], "/livez").await.starts_with("HTTP/1.1 404"));
    drop(held);
    end.cancel();
}

#[tokio::test]
async fn metrics_are_written_once_a_second_at_most() {
    let mut registry = Registry::default();
    let counter = Counter::<u64>::default();
    registry.register("seen", "Help", counter.clone());
    let exposition = Exposition::new(registry);
    let start = std::time::Instant::now();
    let read = async |after: u64| {
        let request = Request::get("/metrics").body(()).unwrap();
        let response = exposition.respond(&request, start + Duration::from_millis(after));
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    };
    assert!(read(0).await.contains("seen_total 0"));
    counter.inc();
    assert!(read(999).await.contains("seen_total 0"));
    assert!(read(1000).await.contains("seen_total 1"));
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let exposition = Exposition::new(Registry::default());
    let request = Request::post("/metrics").body(()).unwrap();
    let refused = exposition.respond(&request, std::time::Instant::now());
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &HeaderValue::from_static("GET, HEAD"))
    );
}
