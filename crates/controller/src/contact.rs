//! When the API server was last heard on each watch.
//!
//! A watch that is cut without a word leaves a replica in the past. Every watch therefore ends within
//! [`WATCH_SECONDS`] and begins anew, and this layer notes when one was answered: a view is as old as the oldest answer
//! of the watches it is built from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tower::{Layer, Service};

/// How long the API server serves one watch, in seconds.
pub const WATCH_SECONDS: u32 = 25;

/// When each watched path was last answered.
#[derive(Clone, Debug, Default)]
pub struct Contact {
    answered: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Contact {
    /// The age of the least recently answered watch or list among the paths that contain one of `resources`, or `None`
    /// when one of them was never answered.
    pub fn age(&self, resources: &[&str]) -> Option<Duration> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        resources
            .iter()
            .map(|resource| {
                let newest = answered
                    .iter()
                    .filter(|(path, _)| path.ends_with(resource))
                    .map(|(_, at)| *at)
                    .max();
                newest.map(|at| at.elapsed())
            })
            .try_fold(Duration::ZERO, |oldest, age| age.map(|age| oldest.max(age)))
    }

    fn note(&self, path: String) {
        self.answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path, Instant::now());
    }
}

/// Adds a [`Contact`] to a client.
#[derive(Clone, Debug)]
pub struct ContactLayer(pub Contact);

impl<S> Layer<S> for ContactLayer {
    type Service = ContactService<S>;

    fn layer(&self, inner: S) -> ContactService<S> {
        ContactService {
            inner,
            contact: self.0.clone(),
        }
    }
}

/// The service that notes answered watches.
#[derive(Clone, Debug)]
pub struct ContactService<S> {
    inner: S,
    contact: Contact,
}

impl<S, A, B> Service<Request<A>> for ContactService<S>
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
        // A watch, or the list that precedes it: both show the present state of the whole collection.
        let path = (request.method() == http::Method::GET).then(|| request.uri().path().to_owned());
        let contact = self.contact.clone();
        let answer = self.inner.call(request);
        async move {
            let response = answer.await?;
            if let Some(path) = path.filter(|_| response.status().is_success()) {
                contact.note(path);
            }
            Ok(response)
        }
        .boxed()
    }
}
