//! What the server bears.

use std::time::Duration;

/// Bounds of everything that a peer can make grow. The defaults are the production values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request's body; more is 413. A review holds an object twice, and etcd takes 1.5 MiB.
    pub body: usize,
    /// Bytes that the bodies of all requests that are being read may take together; further large ones wait. At least
    /// `body`, at most 4 TiB.
    pub bodies: usize,
    /// Bytes of one request's line and headers; more is 431.
    pub head: usize,
    /// Open connections; further ones wait in the listener's backlog.
    pub connections: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time from a request's first byte to the end of its headers, to the second.
    pub head_read: Duration,
    /// Time for a request's body, its wait for room included.
    pub body_read: Duration,
    /// Time for the peer to take an answer, to the second.
    pub write: Duration,
    /// Time between two requests of a connection, to the second. Longer than the 90 s after which the API server closes an
    /// idle connection itself: who closes first decides whether a request can be lost in between.
    pub idle: Duration,
    /// How long to go on serving once shutdown begins, while endpoints are being updated; answers then close their
    /// connections.
    pub linger: Duration,
    /// How long the requests that are left at the end of `linger` may take.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 7 << 20,
            bodies: 32 << 20,
            head: 16 << 10,
            connections: 256,
            handshake: Duration::from_secs(5),
            head_read: Duration::from_secs(10),
            body_read: Duration::from_secs(10),
            write: Duration::from_secs(10),
            idle: Duration::from_mins(2),
            linger: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}
