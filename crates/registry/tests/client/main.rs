//! The client against the scripted registry, over TLS on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod attachments;
mod conversations;
mod copying;
mod credentials;
mod cross_check;
mod hostile;
mod inspecting;
mod listing;
mod probing;
mod pull;
mod refused;
mod resolving;
mod scopes;
mod steps;
mod tokens;
mod tolerance;
mod uploads;

use std::time::Duration;

use catamaran_core::policy::Provider;
use catamaran_registry::{Class, Client, Connection, Credentials, Limits, Secret};
use catamaran_scripted_registry::{Registry, What};

pub(crate) const AZURE: &str = "kracr.azurecr.io";
pub(crate) const GITHUB: &str = "ghcr.io";
pub(crate) const GENERIC: &str = "registry.test";

/// Time limits that a busy machine keeps.
pub(crate) fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(10),
        read: Duration::from_secs(10),
        total: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// Time limits that a test can wait for.
pub(crate) fn brief() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        read: Duration::from_millis(500),
        total: Duration::from_millis(1500),
        ..Limits::default()
    }
}

pub(crate) fn client(connection: Connection) -> Client {
    Client::new(connection, limits()).unwrap()
}

pub(crate) fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    }
}

/// A registry with one image, `krateo/web:1.0`, and a client of it under each provider's kind of name.
pub(crate) async fn registry_with_image() -> Registry {
    let registry = Registry::start().await.unwrap();
    registry.push("krateo/web", "1.0", "first");
    registry
}

pub(crate) fn generic(registry: &Registry) -> Client {
    client(registry.connection(GENERIC, Provider::Generic))
}

pub(crate) fn unavailable(why: catamaran_core::endpoint::Unavailable) -> Class {
    Class::Unavailable(why)
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> What {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    What::Answer {
        status,
        headers,
        body: body.to_owned(),
    }
}
