//! Why there is no client.

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The registry or one of its token hosts is not `host[:port]`.
    #[error("failed to read the registry {registry:?} or one of its token hosts: not host[:port]")]
    BadRegistry {
        /// The registry as given.
        registry: String,
    },
    /// The extra certificates can't be used, or no certificate is trusted at all.
    #[error("failed to load the trusted certificates: {0}")]
    BadCa(String),
    /// The client certificate or its key can't be used.
    #[error("failed to load the client certificate: {0}")]
    BadIdentity(String),
    /// An identity is for registries of the cloud that vouches for it only.
    #[error("failed to use an identity for {registry:?}: it is for {wanted}")]
    ForeignIdentity {
        /// The registry.
        registry: String,
        /// What the identity is for.
        wanted: &'static str,
    },
    /// The HTTP client can't be built.
    #[error("failed to build the HTTP client: {0}")]
    Http(String),
}
