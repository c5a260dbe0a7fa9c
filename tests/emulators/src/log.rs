//! What was asked: for tests that count requests and look for credentials where they must not be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;

use crate::message::{Answer, Request};

/// Requests that are kept whole; counters go on beyond.
const KEPT: usize = 20_000;
/// Bytes of a body that are kept.
const KEPT_BODY: usize = 16 * 1024;

/// One request and how it was answered.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What kind of request the emulator took it for.
    pub kind: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The host that was asked, as the client called it.
    pub host: String,
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The query.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The first 16 KiB of the body, as text.
    pub body: String,
}

/// A log that its clones share.
#[derive(Clone, Debug, Default)]
pub struct Log {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<&'static str, usize>,
    requests: Vec<Recorded>,
    connections: usize,
}

impl Log {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self) {
        self.state().connections += 1;
    }

    pub(crate) fn record(&self, request: &Request, answer: &Answer) {
        let mut state = self.state();
        *state.counts.entry(answer.kind).or_default() += 1;
        if state.requests.len() == KEPT {
            return;
        }
        let body = &request.body[..request.body.len().min(KEPT_BODY)];
        state.requests.push(Recorded {
            kind: answer.kind,
            status: answer.status,
            host: request.host.clone(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            authorization: request.header("authorization").map(str::to_owned),
            body: String::from_utf8_lossy(body).into_owned(),
        });
    }

    /// How many requests of a kind were answered.
    pub fn count(&self, kind: &str) -> usize {
        self.state().counts.get(kind).copied().unwrap_or_default()
    }

    /// The number of requests of each kind.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.state().counts.clone()
    }

    /// How many requests were answered.
    pub fn total(&self) -> usize {
        self.state().counts.values().sum()
    }

    /// How many connections came in.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// The first 20,000 requests, in their order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state().requests.clone()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.state() = State::default();
    }
}
