//! The client against emulators of the clouds' registries, over TLS on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod aws;
mod aws_identity;
mod github;
mod google;
mod uploads;
mod versions;

use std::time::Duration;

use catamaran_registry::{Connection, Credentials, Limits, Secret};

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

/// A connection whose names all lead to one server.
pub(crate) fn connection(server: &catamaran_emulators::Server, registry: &str, hosts: &[&str]) -> Connection {
    let pinned = hosts.iter().map(|host| ((*host).to_owned(), server.address()));
    Connection {
        registry: registry.to_owned(),
        extra_ca: server.ca_pem().map(|pem| pem.as_bytes().to_vec()),
        resolve: pinned.collect(),
        ..Connection::default()
    }
}
