//! What must hold whatever a registry, a proxy or a mistake does: secrets stay where they belong, memory is bounded, a client
//! certificate is shown to its registry only.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod canary;
mod child;
mod client_certificate;
mod memory;
mod products;
mod proxies;

use std::time::Duration;

use catamaran_registry::{Credentials, Limits, Secret};

/// Time limits that a busy machine keeps.
pub(crate) fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(10),
        read: Duration::from_secs(10),
        total: Duration::from_secs(20),
        ..Limits::default()
    }
}

pub(crate) fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    }
}
