//! What a listener bears.

use std::time::Duration;

/// Bounds of everything that a peer can hold. There is no default: each port has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. When there are as many, the address with the most of them loses the one that has waited longest.
    pub connections: usize,
    /// Open connections of one address. When it has as many, it loses the one that has waited longest.
    pub per_address: usize,
    /// New connections of one address.
    pub rate: Rate,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time from a request's first byte to the end of its head.
    pub head: Duration,
    /// Time from the end of a request's head to its answer, its body included.
    pub request: Duration,
    /// Time for the peer to take an answer.
    pub write: Duration,
    /// Time without a request.
    pub idle: Duration,
    /// How many requests one connection may bring, and for how long.
    pub keep_alive: KeepAlive,
    /// Bytes of a request's line and headers; more is 431.
    pub head_size: usize,
    /// Bytes that the kernel keeps of what a peer has sent, and of what it has not taken yet: both count as this process's memory.
    pub kernel_buffers: u32,
}

/// Whether a connection is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// One request, and the connection is closed.
    Off,
    /// From this age on, the next answer closes the connection.
    For(Duration),
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a while without.
    pub burst: u32,
    /// In the long run.
    pub per_second: u32,
}

/// When to go on, and when to end.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// The listener is to end: from here on answers close their connections.
    pub begin: tokio_util::sync::CancellationToken,
    /// How long it still takes connections after that.
    pub linger: Duration,
    /// How long the requests that are left then may take.
    pub drain: Duration,
}
