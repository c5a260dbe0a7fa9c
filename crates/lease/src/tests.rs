use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::client::Body;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{Leadership, LeaseSettings, channel, lost, run};

/// An API server that knows one Lease, checks `resourceVersion` and does what the test tells it.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    mode: Mode,
    requests: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mode {
    #[default]
    Answers,
    /// Answers nothing, stores nothing.
    Hangs,
    /// Answers every request with this status.
    Refuses(u16),
    /// Stores writes, but the answer never comes.
    LosesAnswers,
}

type Shared = Arc<Mutex<Server>>;

fn failure(code: u16) -> http::Response<Body> {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        403 => "Forbidden",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason});
    http::Response::builder()
        .status(code)
        .body(Body::from(serde_json::to_vec(&status).unwrap()))
        .unwrap()
}

fn found(lease: &Lease) -> http::Response<Body> {
    http::Response::new(Body::from(serde_json::to_vec(lease).unwrap()))
}

impl Server {
    fn answer(&mut self, method: &http::Method, body: &[u8]) -> http::Response<Body> {
        if method == http::Method::GET {
            return self.lease.as_ref().map_or_else(|| failure(404), found);
        }
        let mut sent: Lease = serde_json::from_slice(body).unwrap();
        let current = self
            .lease
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.clone());
        if sent.metadata.resource_version != current {
            return failure(409);
        }
        self.version += 1;
        sent.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(sent.clone());
        found(&sent)
    }

    fn holder(&self) -> String {
        let spec = self
            .lease
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        spec.holder_identity.unwrap_or_default()
    }
}

async fn serve(server: Shared, request: http::Request<Body>) -> Result<http::Response<Body>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.unwrap();
    let (mode, answer) = {
        let mut server = server.lock().unwrap();
        server.requests.push(format!("{} {}", parts.method, parts.uri.path()));
        match server.mode {
            Mode::Hangs => (Mode::Hangs, failure(500)),
            Mode::Refuses(code) => (Mode::Answers, failure(code)),
            mode => (mode, server.answer(&parts.method, &body)),
        }
    };
    match mode {
        Mode::Answers | Mode::Refuses(_) => Ok(answer),
        Mode::Hangs | Mode::LosesAnswers => std::future::pending().await,
    }
}

struct Candidate {
    leadership: watch::Receiver<Leadership>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn candidate(server: &Shared, identity: &str) -> Candidate {
    let shared = server.clone();
    let service = tower::service_fn(move |request| serve(shared.clone(), request));
    let client = kube::Client::new(service, "catamaran-system");
    let (publish, leadership) = channel();
    let shutdown = CancellationToken::new();
    let settings = LeaseSettings::new("catamaran-system", "catamaran", identity);
    // A wall clock that stands still: it must not matter.
    let clock = || jiff::Timestamp::UNIX_EPOCH;
    let task = tokio::spawn(run(client, settings, publish, clock, shutdown.clone()));
    Candidate {
        leadership,
        shutdown,
        task,
    }
}

/// Like [`crate::gained`], but a test that waits in vain fails instead of hanging.
async fn gained(leadership: &mut watch::Receiver<Leadership>) {
    tokio::time::timeout(Duration::from_hours(1), crate::gained(leadership))
        .await
        .expect("leads within the hour");
}

fn seconds(start: Instant) -> u64 {
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn first_candidate_leads_at_once_and_renews_by_one_request() {
    let server = Shared::default();
    let mut a = candidate(&server, "a");
    gained(&mut a.leadership).await;
    server.lock().unwrap().requests.clear();
    sleep(Duration::from_mins(1)).await;
    assert!(a.leadership.borrow().is_leading_now());
    let requests = std::mem::take(&mut server.lock().unwrap().requests);
    assert!(
        (29..=30).contains(&requests.len()),
        "one every two seconds: {}",
        requests.len()
    );
    let path = "PUT /apis/coordination.k8s.io/v1/namespaces/catamaran-system/leases/catamaran";
    assert!(requests.iter().all(|request| request == path), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn leader_that_shuts_down_is_replaced_within_one_retry() {
    let server = Shared::default();
    let mut a = candidate(&server, "a");
    gained(&mut a.leadership).await;
    let mut b = candidate(&server, "b");
    sleep(Duration::from_secs(30)).await;
    assert!(!b.leadership.borrow().is_leading_now());
    let start = Instant::now();
    a.shutdown.cancel();
    a.task.await.unwrap();
    assert!(!a.leadership.borrow().is_leading_now());
    gained(&mut b.leadership).await;
    assert!(seconds(start) <= 2);
    assert_eq!(server.lock().unwrap().holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn leader_that_dies_is_replaced_when_its_lease_expires() {
    let server = Shared::default();
    let mut a = candidate(&server, "a");
    gained(&mut a.leadership).await;
    let mut b = candidate(&server, "b");
    sleep(Duration::from_secs(30)).await;
    a.task.abort();
    let start = Instant::now();
    gained(&mut b.leadership).await;
    assert!((10..=14).contains(&seconds(start)), "after {} s", seconds(start));
}

#[tokio::test(start_paused = true)]
async fn leader_without_api_server_stops_before_lease_expires() {
    for mode in [Mode::Hangs, Mode::Refuses(500), Mode::Refuses(403), Mode::LosesAnswers] {
        let server = Shared::default();
        let mut a = candidate(&server, "a");
        gained(&mut a.leadership).await;
        server.lock().unwrap().mode = mode;
        let start = Instant::now();
        lost(&mut a.leadership).await;
        assert!((6..=8).contains(&seconds(start)), "after {} s", seconds(start));
        server.lock().unwrap().mode = Mode::Answers;
        gained(&mut a.leadership).await;
        assert!(seconds(start) <= 20);
    }
}

#[tokio::test(start_paused = true)]
async fn lost_returns_when_lease_expires_without_a_publication() {
    let (publish, mut leadership) = channel();
    publish.send_replace(Leadership::until(Instant::now() + Duration::from_secs(10)));
    drop(publish);
    let start = Instant::now();
    lost(&mut leadership).await;
    assert_eq!(seconds(start), 10);
}

#[tokio::test(start_paused = true)]
async fn leader_after_foreign_edit_reads_once_and_still_leads() {
    let server = Shared::default();
    let mut a = candidate(&server, "a");
    gained(&mut a.leadership).await;
    {
        let mut server = server.lock().unwrap();
        server.version += 1;
        let version = server.version.to_string();
        server.lease.as_mut().unwrap().metadata.resource_version = Some(version);
    }
    for _ in 0..20 {
        sleep(Duration::from_secs(1)).await;
        assert!(a.leadership.borrow().is_leading_now());
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_right_after_foreign_edit_releases_the_lease() {
    let server = Shared::default();
    let mut a = candidate(&server, "a");
    gained(&mut a.leadership).await;
    {
        let mut server = server.lock().unwrap();
        server.version += 1;
        let version = server.version.to_string();
        server.lease.as_mut().unwrap().metadata.resource_version = Some(version);
    }
    a.shutdown.cancel();
    a.task.await.unwrap();
    assert_eq!(server.lock().unwrap().holder(), "");
}

#[tokio::test(start_paused = true)]
async fn shutdown_without_api_server_ends_in_time() {
    let server = Shared::default();
    let mut a = candidate(&server, "a");
    gained(&mut a.leadership).await;
    server.lock().unwrap().mode = Mode::Hangs;
    let start = Instant::now();
    a.shutdown.cancel();
    a.task.await.unwrap();
    assert!(seconds(start) <= 4, "after {} s", seconds(start));
    assert!(!a.leadership.borrow().is_leading_now());
}

#[tokio::test(start_paused = true)]
async fn follower_at_shutdown_leaves_the_lease_alone() {
    let server = Shared::default();
    let mut a = candidate(&server, "a");
    gained(&mut a.leadership).await;
    let b = candidate(&server, "b");
    sleep(Duration::from_secs(5)).await;
    b.shutdown.cancel();
    b.task.await.unwrap();
    assert_eq!(server.lock().unwrap().holder(), "a");
}
