//! How a registry wants to be authenticated with.

use url::Url;

/// How requests are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// The registry has not been asked yet.
    Unknown,
    /// Not at all.
    Open,
    /// With the credential itself.
    Basic,
    /// With a token from an admitted endpoint.
    Bearer { realm: Url, service: Option<String> },
}
