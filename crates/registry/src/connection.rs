//! What one side of a mirror is, to a client: where it is, how to authenticate, and what it may cost.

use std::net::SocketAddr;
use std::time::Duration;

use catamaran_core::policy::Provider;

use crate::credentials::Credentials;
use crate::secret::Secret;

/// The parsed settings of one registry.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// `host[:port]` as written in references. Docker Hub is `docker.io`.
    pub registry: String,
    /// Whose protocol extensions apply.
    pub provider: Provider,
    /// What to authenticate with.
    pub credentials: Credentials,
    /// Certificates (PEM) that are trusted besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// The certificate that the registry and its token hosts are shown; nobody else is.
    pub client_identity: Option<ClientIdentity>,
    /// Whether the registry only ever holds what was pulled through it. Then nothing is asked for by tag in a way that would
    /// have it imported, except by [`crate::Client::prewarm`].
    pub pull_through: bool,
    /// Hosts (`host[:port]`) besides the registry's own that may issue its tokens. Credentials are sent to them.
    pub token_hosts: Vec<String>,
    /// Whether blob redirects and token hosts may have private addresses. They always may when the registry's own address is
    /// private.
    pub allow_private: bool,
    /// Whether the registry, its blob redirects and its token hosts may be on this machine.
    pub allow_loopback: bool,
    /// Fixed addresses, by host name without port, instead of DNS: names that the administrator pinned. They are exempt from
    /// the checks on addresses, and with any of them no proxy is used.
    pub resolve: Vec<(String, SocketAddr)>,
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate and those between it and an authority (PEM).
    pub certificates: Vec<u8>,
    /// The private key (PEM: PKCS #8, PKCS #1 or SEC 1).
    pub key: Secret<Vec<u8>>,
}

/// What one request may cost. The defaults are those of the threat model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until TCP and TLS are established. Default 5 s.
    pub connect: Duration,
    /// Between two reads of a body. Default 10 s.
    pub read: Duration,
    /// One request with its body. Default 30 s.
    pub total: Duration,
    /// One complete listing, with its waits for the budget. Default 10 min.
    pub listing: Duration,
    /// Bytes of a manifest. Default 4 MiB, as in the distribution project.
    pub manifest_bytes: u64,
    /// Bytes of a token answer. Default 1 MiB.
    pub token_bytes: u64,
    /// Bytes of an error answer that are read. Default 64 KiB.
    pub error_bytes: u64,
    /// Bytes of a page of tags. Default 4 MiB.
    pub page_bytes: u64,
    /// Bytes of all headers of an answer. Default 64 KiB.
    pub header_bytes: usize,
    /// Pages of one listing. Default 10,000.
    pub pages: usize,
    /// Tags of one repository. Default 200,000: more would not fit the memory that the operator is given.
    pub tags: usize,
    /// Bytes of the names of all tags of one repository. Default 13 MiB: a hundred thousand of the longest names.
    pub name_bytes: usize,
    /// Redirects of one blob. Default 3.
    pub redirects: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            total: Duration::from_secs(30),
            listing: Duration::from_mins(10),
            manifest_bytes: 4 << 20,
            token_bytes: 1 << 20,
            error_bytes: 64 << 10,
            page_bytes: 4 << 20,
            header_bytes: 64 << 10,
            pages: 10_000,
            tags: 200_000,
            name_bytes: 13 << 20,
            redirects: 3,
        }
    }
}
