//! Finds the leader by its Lease and its Pod, and passes a notification on to it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Marks what was passed on, so that two replicas never pass it to and fro.
pub const FORWARDED: &str = "x-catamaran-forwarded";

/// How long a leader's address is believed: a flood costs the API server nothing.
const BELIEVED: Duration = Duration::from_secs(5);
/// How long passing on may take, the search for the leader not counted.
const WITHIN: Duration = Duration::from_secs(5);
/// What the leader needs of a sender's headers.
const PASSED_ON: [&str; 6] = [
    "authorization",
    "x-catamaran-secret",
    "x-hub-signature-256",
    "x-github-event",
    "ce-type",
    "content-type",
];

/// An address on its way.
pub type Finding = Pin<Box<dyn Future<Output = Option<SocketAddr>> + Send>>;

/// Finds the leader's address, if it is another replica.
pub type Find = Box<dyn Fn() -> Finding + Send + Sync>;

/// Where the Lease is, and who we are.
pub struct Whereabouts {
    /// Access to the API server.
    pub client: kube::Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The Lease.
    pub lease: String,
    /// This replica's name.
    pub own: String,
    /// The port that every replica takes notifications on.
    pub port: u16,
}

/// Finds the leader through the API server.
pub fn find(whereabouts: Whereabouts) -> Find {
    let whereabouts = Arc::new(whereabouts);
    let known = Arc::new(Mutex::new(None));
    Box::new(move || {
        let (whereabouts, known) = (Arc::clone(&whereabouts), Arc::clone(&known));
        Box::pin(async move { whereabouts.known(&known).await })
    })
}

impl Whereabouts {
    /// Of many who ask at once one looks.
    async fn known(&self, known: &Mutex<Option<(Instant, Option<SocketAddr>)>>) -> Option<SocketAddr> {
        let mut known = known.lock().await;
        if let Some((at, leader)) = *known
            && at.elapsed() < BELIEVED
        {
            return leader;
        }
        let leader = self.look().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the leader was not found");
            None
        });
        *known = Some((Instant::now(), leader));
        leader
    }

    async fn look(&self) -> Result<Option<SocketAddr>, kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec = leases.get(&self.lease).await?.spec;
        let holder = spec.and_then(|spec| spec.holder_identity);
        let Some(holder) = holder.filter(|holder| !holder.is_empty() && *holder != self.own) else {
            return Ok(None);
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let status = pods.get(&holder).await?.status;
        let address = status.and_then(|status| status.pod_ip?.parse::<IpAddr>().ok());
        Ok(address.map(|address| SocketAddr::new(address, self.port)))
    }
}

/// Passes a notification on, and gives the leader's answer.
pub async fn pass_on(leader: SocketAddr, path: &str, headers: &HeaderMap, body: Bytes) -> anyhow::Result<StatusCode> {
    let sent = send(leader, path, headers, body);
    tokio::time::timeout(WITHIN, sent).await.context("no answer in time")?
}

async fn send(leader: SocketAddr, path: &str, headers: &HeaderMap, body: Bytes) -> anyhow::Result<StatusCode> {
    let stream = TcpStream::connect(leader).await.context("no connection")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, leader.to_string())
        .header(FORWARDED, "1");
    for name in PASSED_ON {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Full::new(body))?;
    let mut answered = std::pin::pin!(sender.send_request(request));
    // The connection is driven from here, so nothing of it outlives this call. It may end in the moment that it brings the
    // answer, and an error of its own is the answer's as well.
    let answer = tokio::select! {
        answer = &mut answered => answer,
        _ = connection => answered.await,
    };
    Ok(answer?.status())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// An API server with one Lease, held by `holder`, and one Pod, `catamaran-1`; and how often it was asked.
    async fn api_server(holder: Value) -> (kube::Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let (code, body) = match head.split(' ').nth(1).unwrap() {
                    "/apis/coordination.k8s.io/v1/namespaces/ns/leases/catamaran" => {
                        (200, json!({"metadata": {}, "spec": {"holderIdentity": holder}}))
                    }
                    "/api/v1/namespaces/ns/pods/catamaran-1" => {
                        (200, json!({"metadata": {}, "status": {"podIP": "10.0.0.7"}}))
                    }
                    _ => (
                        404,
                        json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "x"}),
                    ),
                };
                let body = body.to_string();
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {code} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let config = kube::Config::new(server.parse().unwrap());
        (kube::Client::try_from(config).unwrap(), asked)
    }

    async fn found(holder: Value) -> (Option<SocketAddr>, usize) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (client, asked) = api_server(holder).await;
        let find = find(Whereabouts {
            client,
            namespace: "ns".to_owned(),
            lease: "catamaran".to_owned(),
            own: "catamaran-0".to_owned(),
            port: 8081,
        });
        let first = find().await;
        // A flood asks the API server no more often than one notification does.
        for _ in 0..100 {
            assert_eq!(find().await, first);
        }
        (first, asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_leader_is_the_pod_that_holds_the_lease_unless_that_is_us_or_nobody() {
        let leader = Some("10.0.0.7:8081".parse().unwrap());
        let cases = [
            (json!("catamaran-1"), leader, 2),
            (json!("catamaran-0"), None, 1),
            (json!("catamaran-2"), None, 2),
            (json!(""), None, 1),
            (Value::Null, None, 1),
        ];
        for (holder, expected, asked) in cases {
            assert_eq!(found(holder.clone()).await, (expected, asked), "{holder}");
        }
    }
}
