//! What one side of a mirror is, to a client: where it is, and how to authenticate.

use std::net::SocketAddr;

use catamaran_core::policy::Provider;

use crate::auth::credentials::Credentials;
use crate::wire::dns::Addresses;
use crate::wire::tls::ClientIdentity;

/// The parsed settings of one registry.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// `host[:port]` as written in references. Docker Hub is `docker.io`.
    pub registry: String,
    /// Whose protocol extensions apply.
    pub provider: Provider,
    /// What to authenticate with.
    pub credentials: Credentials,
    /// The same for the repositories that begin with a path; the first that fits counts.
    pub below: Vec<(String, Credentials)>,
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

impl Connection {
    /// What of it decides about addresses.
    pub(crate) fn addresses(&self) -> Addresses<'_> {
        Addresses {
            token_hosts: &self.token_hosts,
            allow_private: self.allow_private,
            allow_loopback: self.allow_loopback,
            pinned: &self.resolve,
        }
    }
}
