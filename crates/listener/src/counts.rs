//! What a listener counts: plain atomics, for the binary to register with its exporter.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Why a connection was closed before its peer closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The TLS handshake failed.
    HandshakeFailed,
    /// The handshake, a head, an answer or the next request took too long.
    Timeout,
    /// What came was not HTTP, or the connection broke.
    Broken,
    /// It had waited longest when another one needed its place.
    Evicted,
    /// There was no place, and nobody waited.
    Full,
    /// Its address opened too many in too little time.
    TooMany,
}

impl Closed {
    /// Every reason, in order.
    pub const ALL: [Closed; 6] = [
        Closed::HandshakeFailed,
        Closed::Timeout,
        Closed::Broken,
        Closed::Evicted,
        Closed::Full,
        Closed::TooMany,
    ];

    /// The label that it is exported under.
    pub fn as_str(self) -> &'static str {
        match self {
            Closed::HandshakeFailed => "handshake_failed",
            Closed::Timeout => "timeout",
            Closed::Broken => "broken",
            Closed::Evicted => "evicted",
            Closed::Full => "full",
            Closed::TooMany => "too_many",
        }
    }
}

/// Everything that one listener counts.
#[derive(Debug, Default)]
pub struct Counts {
    open: AtomicI64,
    accepted: AtomicU64,
    closed: [AtomicU64; Closed::ALL.len()],
}

impl Counts {
    /// Connections that are open now.
    pub fn open(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that ever got a place.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were closed for this reason.
    pub fn closed(&self, reason: Closed) -> u64 {
        self.closed[reason as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self, reason: Closed) {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection as open for as long as what is returned lives, however its task ends.
    pub(crate) fn opened(self: &std::sync::Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Open(std::sync::Arc::clone(self))
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Open(std::sync::Arc<Counts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
