//! When the API server last answered each watch that the snapshot rests on.
//!
//! A connection that dies silently leaves a replica in the past. Every watch therefore ends within [`WATCH_SECONDS`] and is
//! requested again, and a layer around the client notes when one was answered: a snapshot is as old as the oldest answer of
//! its four watches. Lists and reads of single objects are not noted: they say nothing about what a watch delivers.
//!
//! The layer also sees when a watch is refused, or requested again long before its end: the API server may have been restarted, and
//! with it the store that the watches are about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response, Uri};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::{Layer, Service};

/// How long the API server serves one watch, in seconds.
pub const WATCH_SECONDS: u32 = 25;
/// A watch that is requested again so soon after it was answered did not end by its time.
const INTERRUPTED_WITHIN: Duration = Duration::from_secs(20);

/// What the query of the watch of flips has, and of no other one.
const FLIPS: &str = "catamaran.dev%2Fflips";

/// A collection that the snapshot is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchedKind {
    /// `RegistryMirror`s.
    Mirrors,
    /// `ConfigMap`s with evidence.
    Evidence,
    /// Namespaces.
    Namespaces,
    /// The `ConfigMap` with flips that are stored together.
    Flips,
}

impl WatchedKind {
    /// All of them.
    pub const ALL: [WatchedKind; 4] = [
        WatchedKind::Mirrors,
        WatchedKind::Evidence,
        WatchedKind::Namespaces,
        WatchedKind::Flips,
    ];

    /// The collection that a request begins to watch, if it is one of them.
    fn of_watch(method: &Method, uri: &Uri) -> Option<WatchedKind> {
        let mut query = uri.query().unwrap_or_default().split('&');
        if method != Method::GET || !query.any(|pair| matches!(pair, "watch=true" | "watch=1")) {
            return None;
        }
        let path = uri.path().trim_end_matches('/');
        match path.rsplit('/').next()? {
            "registrymirrors" => Some(WatchedKind::Mirrors),
            // Two watches of one collection, by the label that each selects.
            "configmaps" if uri.query().unwrap_or_default().contains(FLIPS) => Some(WatchedKind::Flips),
            "configmaps" => Some(WatchedKind::Evidence),
            "namespaces" => Some(WatchedKind::Namespaces),
            _ => None,
        }
    }
}

/// When each watched collection was last answered. Clones share what they note.
#[derive(Clone, Debug)]
pub struct WatchFreshness {
    origin: Instant,
    /// Milliseconds since `origin`, plus one; zero while a watch was not answered.
    answered: Arc<[AtomicU64; 4]>,
    interrupted: Arc<Notify>,
}

impl Default for WatchFreshness {
    fn default() -> Self {
        WatchFreshness {
            origin: Instant::now(),
            answered: Arc::default(),
            interrupted: Arc::default(),
        }
    }
}

impl WatchFreshness {
    /// When a collection's watch was last answered; none while it was not.
    pub fn answered(&self, kind: WatchedKind) -> Option<Instant> {
        let millis = self.answered[kind as usize].load(Ordering::Acquire).checked_sub(1)?;
        Some(self.origin + Duration::from_millis(millis))
    }

    /// How long ago a collection's watch was last answered; none while it was not.
    pub fn age(&self, kind: WatchedKind) -> Option<Duration> {
        self.answered(kind).map(|at| at.elapsed())
    }

    /// The age of the watch that was answered least recently; none while one of them was not.
    pub fn oldest(&self) -> Option<Duration> {
        WatchedKind::ALL
            .into_iter()
            .try_fold(Duration::ZERO, |oldest, kind| Some(oldest.max(self.age(kind)?)))
    }

    /// Forgets all answers, because the watches did not deliver what there is.
    pub(crate) fn reset(&self) {
        for answered in self.answered.iter() {
            answered.store(0, Ordering::Release);
        }
    }

    /// Until a watch was refused, failed, or ended before its time.
    pub(crate) async fn interrupted(&self) {
        self.interrupted.notified().await;
    }

    fn note_request(&self, kind: WatchedKind) {
        if self.age(kind).is_some_and(|age| age < INTERRUPTED_WITHIN) {
            self.interrupted.notify_one();
        }
    }

    fn note(&self, kind: WatchedKind) {
        let millis = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.answered[kind as usize].store(millis + 1, Ordering::Release);
    }
}

/// Adds a [`WatchFreshness`] to a client.
#[derive(Clone, Debug)]
pub struct FreshnessLayer(pub WatchFreshness);

impl<S> Layer<S> for FreshnessLayer {
    type Service = FreshnessService<S>;

    fn layer(&self, inner: S) -> FreshnessService<S> {
        FreshnessService {
            inner,
            freshness: self.0.clone(),
        }
    }
}

/// The service that notes answered watches.
#[derive(Clone, Debug)]
pub struct FreshnessService<S> {
    inner: S,
    freshness: WatchFreshness,
}

impl<S, A, B> Service<Request<A>> for FreshnessService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let kind = WatchedKind::of_watch(request.method(), request.uri());
        let freshness = self.freshness.clone();
        if let Some(kind) = kind {
            freshness.note_request(kind);
        }
        let answer = self.inner.call(request);
        async move {
            let response = answer.await;
            if let Some(kind) = kind {
                match &response {
                    Ok(response) if response.status().is_success() => freshness.note(kind),
                    _ => freshness.interrupted.notify_one(),
                }
            }
            response
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRRORS: &str = "/apis/catamaran.dev/v1alpha1/registrymirrors?&watch=true&timeoutSeconds=25";
    const EVIDENCE: &str = "/api/v1/namespaces/catamaran-system/configmaps?&watch=true";
    const FLIPS: &str =
        "/api/v1/namespaces/catamaran-system/configmaps?&labelSelector=catamaran.dev%2Fflips&watch=true";
    const NAMESPACES: &str = "/api/v1/namespaces?watch=1";

    async fn ask(freshness: &WatchFreshness, uri: &str, status: u16) {
        let answer = move |_: Request<()>| async move {
            Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(()).unwrap())
        };
        let mut service = FreshnessLayer(freshness.clone()).layer(tower::service_fn(answer));
        let request = Request::builder().uri(uri).body(()).unwrap();
        service.call(request).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn freshness_is_that_of_the_oldest_watch() {
        let freshness = WatchFreshness::default();
        ask(&freshness, MIRRORS, 200).await;
        ask(&freshness, EVIDENCE, 200).await;
        assert_eq!(freshness.oldest(), None, "namespaces were not answered yet");
        tokio::time::advance(Duration::from_secs(5)).await;
        ask(&freshness, NAMESPACES, 200).await;
        assert_eq!(freshness.oldest(), None, "nor were flips");
        ask(&freshness, FLIPS, 200).await;
        ask(&freshness, MIRRORS, 200).await;
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(freshness.oldest(), Some(Duration::from_secs(7)));
        assert_eq!(freshness.age(WatchedKind::Mirrors), Some(Duration::from_secs(2)));
        freshness.reset();
        assert_eq!(freshness.oldest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn watch_that_is_refused_or_ends_early_was_interrupted() {
        let freshness = WatchFreshness::default();
        let interrupted = async || {
            tokio::time::timeout(Duration::from_millis(1), freshness.interrupted())
                .await
                .is_ok()
        };
        ask(&freshness, MIRRORS, 200).await;
        ask(&freshness, EVIDENCE, 200).await;
        assert!(!interrupted().await, "begun");
        tokio::time::advance(Duration::from_secs(u64::from(WATCH_SECONDS))).await;
        ask(&freshness, MIRRORS, 200).await;
        assert!(!interrupted().await, "ended in time");
        tokio::time::advance(Duration::from_secs(10)).await;
        ask(&freshness, EVIDENCE, 200).await;
        assert!(!interrupted().await, "ended late");
        ask(&freshness, MIRRORS, 200).await;
        assert!(interrupted().await, "ended early");
        tokio::time::advance(Duration::from_secs(u64::from(WATCH_SECONDS))).await;
        ask(&freshness, MIRRORS, 503).await;
        assert!(interrupted().await, "refused");
        ask(&freshness, MIRRORS, 200).await;
        freshness.reset();
        ask(&freshness, MIRRORS, 200).await;
        assert!(!interrupted().await, "restarted");
    }

    #[tokio::test]
    async fn freshness_ignores_lists_named_reads_and_refusals() {
        let freshness = WatchFreshness::default();
        for (uri, status) in [
            ("/apis/catamaran.dev/v1alpha1/registrymirrors?limit=500", 200),
            ("/apis/catamaran.dev/v1alpha1/registrymirrors/apps?watch=true", 200),
            ("/api/v1/namespaces/registrymirrors", 200),
            ("/api/v1/namespaces/apps/pods/web-1", 200),
            (MIRRORS, 403),
        ] {
            ask(&freshness, uri, status).await;
            for kind in WatchedKind::ALL {
                assert_eq!(freshness.age(kind), None, "{uri} {kind:?}");
            }
        }
    }
}
