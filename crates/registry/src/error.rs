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
    /// Only Amazon's private registries take an identity at Amazon.
    #[error(
        "failed to use an identity at Amazon for {registry:?}: not {{account}}.dkr.ecr.{{region}}.amazonaws.com, or one of its forms"
    )]
    NotAmazons {
        /// The registry.
        registry: String,
    },
    /// Only Azure's registries take an identity at Azure.
    #[error(
        "failed to use an identity at Azure for {registry:?}: not NAME.azurecr.io, or a name of another of its clouds"
    )]
    NotAzures {
        /// The registry.
        registry: String,
    },
    /// The HTTP client can't be built.
    #[error("failed to build the HTTP client: {0}")]
    Http(String),
}
