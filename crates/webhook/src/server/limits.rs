//! What the server bears.

use std::time::Duration;

use catamaran_listener::{KeepAlive, Rate};

/// Bounds of everything that a peer can make grow. The defaults are the production values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Who may hold a connection, and for how long.
    pub connections: catamaran_listener::Limits,
    /// Bytes of one request's body; more is 413. A review holds an object twice, and etcd takes 1.5 MiB.
    pub body: usize,
    /// Bytes that the large bodies of all requests may take together, from the end of their heads to their answers; one address
    /// gets half of that. At least `body`, at most 4 TiB.
    pub bodies: usize,
    /// Time for a request's body.
    pub body_read: Duration,
    /// Large reviews that are worked on at a time.
    pub reviews: usize,
    /// How long a large review may wait for room, and again for its turn. After that its object is admitted as it is: the API
    /// server waits for two seconds, and nothing good comes of an answer that it does not wait for.
    pub patience: Duration,
    /// How long to go on serving once shutdown begins, while endpoints are being updated; answers then close their
    /// connections.
    pub linger: Duration,
    /// How long the requests that are left at the end of `linger` may take.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: connection_limits(),
            body: 7 << 20,
            bodies: 24 << 20,
            body_read: Duration::from_secs(5),
            reviews: 2,
            patience: Duration::from_millis(750),
            linger: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}

/// Bounds of the webhook's connections. An API server has one for each review that it waits for, some two hundred at most by its own
/// default, and all of them may come from one address. It keeps 25 of them (client-go's `idleConnsPerHost`), so that in a burst most
/// reviews come on a new one.
pub fn connection_limits() -> catamaran_listener::Limits {
    catamaran_listener::Limits {
        connections: 384,
        per_address: 256,
        rate: Rate {
            burst: 4096,
            per_second: 500,
        },
        handshake: Duration::from_secs(5),
        head: Duration::from_secs(5),
        // The body, its wait, and the review.
        request: Duration::from_secs(10),
        write: Duration::from_secs(5),
        // Longer than the 90 s after which the API server closes an idle connection itself: who closes first decides whether a
        // request can be lost in between.
        idle: Duration::from_mins(2),
        keep_alive: KeepAlive::For(Duration::from_mins(10)),
        head_size: 16 << 10,
        kernel_buffers: 32 << 10,
    }
}
