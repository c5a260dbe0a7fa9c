//! Where the leader is, and what it answers to a notification that is forwarded to it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keys::{GITHUB_SIGNATURE, SECRET_HEADER};

/// Marks what was forwarded, so that two replicas never send it to and fro.
pub(super) const FORWARDED: &str = "x-catamaran-forwarded";

/// How long an address is used before it is looked up again: a flood costs the API server no more than this.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);
/// How long forwarding may take, the lookup of the leader not counted.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
/// What the leader needs of a sender's headers.
const FORWARDED_HEADERS: [&str; 6] = [
    "authorization",
    SECRET_HEADER,
    GITHUB_SIGNATURE,
    "x-github-event",
    "ce-type",
    "content-type",
];

/// Why a notification was not forwarded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The leader did not answer in time.
    #[error("failed to forward a notification: no answer within 5 s")]
    Timeout,
    /// The leader's address refuses connections.
    #[error("failed to connect to the leader")]
    Connect(#[from] std::io::Error),
    /// The connection broke.
    #[error("failed to forward a notification")]
    Http(#[from] hyper::Error),
    /// The request can't be built.
    #[error("failed to build the request to the leader")]
    Request(#[from] http::Error),
}

/// Where the Lease is, and which replica asks.
pub struct LeaderLookup {
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

/// The address of the replica that leads: the pod that holds the Lease.
pub struct LeaderAddress {
    lookup: LeaderLookup,
    last: Mutex<Option<(Instant, Option<SocketAddr>)>>,
}

impl LeaderAddress {
    /// Finds the leader through the API server.
    pub fn new(lookup: LeaderLookup) -> LeaderAddress {
        LeaderAddress {
            lookup,
            last: Mutex::default(),
        }
    }

    /// The leader's address, if it is another replica; looked up at most every 5 s, however many ask.
    pub(super) async fn get(&self) -> Option<SocketAddr> {
        let mut last = self.last.lock().await;
        if let Some((at, address)) = *last
            && at.elapsed() < LOOKUP_INTERVAL
        {
            return address;
        }
        let address = self.lookup.read().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "failed to find the leader");
            None
        });
        *last = Some((Instant::now(), address));
        address
    }
}

impl LeaderLookup {
    async fn read(&self) -> Result<Option<SocketAddr>, kube::Error> {
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

/// Forwards a notification, and gives the leader's answer.
pub(super) async fn forward(
    leader: SocketAddr,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ForwardError> {
    let sent = send(leader, path, headers, body);
    let answer = tokio::time::timeout(FORWARD_TIMEOUT, sent).await;
    answer.unwrap_or(Err(ForwardError::Timeout))
}

async fn send(leader: SocketAddr, path: &str, headers: &HeaderMap, body: Bytes) -> Result<StatusCode, ForwardError> {
    let stream = TcpStream::connect(leader).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, leader.to_string())
        .header(FORWARDED, "1");
    for name in FORWARDED_HEADERS {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Full::new(body))?;
    let mut answered = std::pin::pin!(sender.send_request(request));
    // The connection is driven from here, so nothing of it outlives this call. It may end at the moment when it brings the
    // answer, and an error of its own is the answer's as well.
    let answer = tokio::select! {
        answer = &mut answered => answer,
        _ = connection => answered.await,
    };
    Ok(answer?.status())
}

#[cfg(test)]
pub(super) mod tests;
